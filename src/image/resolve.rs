//! From the name of an image to its manifest, its config and its layers.

use super::digest::Digest;
use super::manifest::{Descriptor, ImageConfig, Index, Manifest, Platform, REF_NAME};
use super::reference::{Kind, Reference, Which};
use super::source::{Blob, Source};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Manifests and indexes of more bytes are no honest ones.
const MOST_MANIFEST: u64 = 4 << 20;
/// The same for configs.
const MOST_CONFIG: u64 = 8 << 20;
/// An index may hold indexes, not deeper than this.
const DEEPEST: usize = 3;
/// So many at most: a few that name each other over and over would be read for years.
const MOST_INDEXES: usize = 1000;

/// An image that was found.
#[derive(Debug)]
pub struct Image {
    /// Where it lies.
    pub source: Source,
    /// The name it was found by, if it has one.
    pub name: Option<String>,
    /// The digest of its manifest; `docker save` had none before version 25.
    pub manifest: Option<Digest>,
    /// The digest of its config: the image's id.
    pub id: Digest,
    /// The config as it is written.
    pub config_text: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer as it lies in the source.
#[derive(Debug)]
pub struct Layer {
    /// Its digest without compression.
    pub diff_id: Digest,
    /// Its blob's digest and size, if the source says them.
    pub descriptor: Option<Descriptor>,
    /// Its file in the source.
    pub file: String,
}

impl Layer {
    /// What to call it in an error.
    pub fn name(&self) -> String {
        match &self.descriptor {
            Some(descriptor) => format!("blob {}", descriptor.digest),
            None => format!("blob {}", self.file),
        }
    }

    /// Its blob, which has the size that it should have.
    pub fn open(&self, source: &Source) -> Result<Blob> {
        let blob = source.file(&self.file)?;
        if let Some(descriptor) = &self.descriptor {
            check_size(&blob, descriptor)?;
        }
        Ok(blob)
    }
}

fn check_size(blob: &Blob, descriptor: &Descriptor) -> Result<()> {
    let (size, said) = (blob.size, descriptor.size);
    ensure!(size == said, "has {size} bytes, and should have {said}");
    Ok(())
}

/// Finds the image.
pub fn resolve(reference: &Reference) -> Result<Image> {
    let path = std::path::absolute(&reference.path)?;
    let source = Source::open(&path, reference.kind)?;
    let what = source.path().display().to_string();
    let docker = match reference.kind {
        Kind::DockerArchive => true,
        Kind::Layout | Kind::LayoutArchive => false,
        Kind::Any => !source.is_layout(),
    };
    if docker {
        ensure!(source.is_docker(), "{what} is neither an OCI image layout nor from docker save");
        return of_docker(source, &reference.which).with_context(|| what);
    }
    ensure!(source.is_layout(), "{what} is no OCI image layout");
    of_layout(source, &reference.which).with_context(|| what)
}

fn of_layout(source: Source, which: &Which) -> Result<Image> {
    let text = source.small("index.json", MOST_MANIFEST)?;
    let index: Index = serde_json::from_slice(&text).context("index.json")?;
    let mut candidates = Vec::new();
    match which {
        Which::Digest(digest) => {
            let found = by_digest(&source, &index, digest, DEEPEST, &mut 0)?;
            candidates.push(found.with_context(|| format!("no image has the digest {digest}"))?);
        }
        Which::Tag(tag) => {
            let tagged = index.manifests.iter().filter(|manifest| is_named(manifest, tag));
            candidates.extend(tagged.cloned());
            ensure!(!candidates.is_empty(), "no image is named {tag:?}{}", names(&index));
        }
        Which::Only => candidates.clone_from(&index.manifests),
    }
    let name = match (which, &candidates[..]) {
        (Which::Tag(tag), _) => Some(tag.clone()),
        (_, [only]) => only.annotations.get(REF_NAME).cloned(),
        _ => None,
    };
    let chosen = choose(&source, &candidates, DEEPEST, &mut 0)?;
    let [descriptor] = &chosen[..] else {
        ensure!(!chosen.is_empty(), "no image is for {}", platform_name(&host()));
        bail!("has {} images: say which by PATH:TAG or PATH@DIGEST{}", chosen.len(), names(&index));
    };
    let (manifest, _): (Manifest, _) = document(&source, descriptor, MOST_MANIFEST)?;
    let (config, config_text): (ImageConfig, _) = document(&source, &manifest.config, MOST_CONFIG)?;
    let (layers, diff_ids) = (manifest.layers, &config.rootfs.diff_ids);
    check_count(layers.len(), diff_ids.len())?;
    let layer = |(descriptor, diff_id): (Descriptor, &Digest)| {
        let digest = &descriptor.digest;
        let file = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        Layer { diff_id: diff_id.clone(), file, descriptor: Some(descriptor) }
    };
    let layers = layers.into_iter().zip(diff_ids).map(layer).collect();
    let (id, manifest) = (manifest.config.digest, Some(descriptor.digest.clone()));
    check_platform(&config)?;
    Ok(Image { source, name, manifest, id, config_text, config, layers })
}

fn check_count(layers: usize, diff_ids: usize) -> Result<()> {
    ensure!(layers == diff_ids, "the manifest has {layers} layers, the config {diff_ids} of them");
    ensure!(layers > 0, "the image has no layers");
    // overlayfs takes 500; a patch and the bundle's own are two of them.
    ensure!(layers <= 498, "{layers} layers: brig takes 498");
    Ok(())
}

fn check_platform(config: &ImageConfig) -> Result<()> {
    let os = config.os.as_str();
    ensure!(os.is_empty() || os == "linux", "the image is for {os}, not for linux");
    Ok(())
}

/// A blob that is JSON, verified; with its text.
fn document<T: DeserializeOwned>(
    source: &Source,
    descriptor: &Descriptor,
    most: u64,
) -> Result<(T, Vec<u8>)> {
    let read = || -> Result<_> {
        let blob = source.blob(&descriptor.digest)?;
        check_size(&blob, descriptor)?;
        let text = blob.all(most)?;
        descriptor.digest.check(&text)?;
        Ok((serde_json::from_slice(&text)?, text))
    };
    read().with_context(|| format!("blob {}", descriptor.digest))
}

fn is_index(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type.as_str();
    kind.contains("image.index") || kind.contains("manifest.list")
}

/// An index in an index. `read`: how many there were before.
fn inner_index(
    source: &Source,
    descriptor: &Descriptor,
    depth: usize,
    read: &mut usize,
) -> Result<Index> {
    ensure!(depth > 0, "indexes in indexes, too deep");
    *read += 1;
    ensure!(*read <= MOST_INDEXES, "more than {MOST_INDEXES} indexes in its index");
    Ok(document(source, descriptor, MOST_MANIFEST)?.0)
}

fn by_digest(
    source: &Source,
    index: &Index,
    digest: &Digest,
    depth: usize,
    read: &mut usize,
) -> Result<Option<Descriptor>> {
    if let Some(found) = index.manifests.iter().find(|known| known.digest == *digest) {
        return Ok(Some(found.clone()));
    }
    for nested in index.manifests.iter().filter(|known| is_index(known)) {
        let inner = inner_index(source, nested, depth, read)?;
        if let Some(found) = by_digest(source, &inner, digest, depth - 1, read)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The name, or one that ends in it: `docker.io/library/busybox:latest` is `busybox:latest`, and
/// `latest`.
fn is_named(descriptor: &Descriptor, tag: &str) -> bool {
    let names = [REF_NAME, "io.containerd.image.name"];
    let names = names.iter().filter_map(|key| descriptor.annotations.get(*key));
    names.into_iter().any(|name| same_name(name, tag))
}

fn same_name(name: &str, asked: &str) -> bool {
    let short = |name: &str| -> String {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        let name = name.strip_prefix("library/").unwrap_or(name);
        name.to_owned()
    };
    let (name, asked) = (short(name), short(asked));
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    name == asked || tag == Some(&asked) || name == format!("{asked}:latest")
}

fn names(index: &Index) -> String {
    let names = index.manifests.iter().filter_map(|known| known.annotations.get(REF_NAME));
    list(&names.map(String::as_str).collect::<Vec<_>>())
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("; there are: {}", names.join(", ")) }
}

/// The candidates that are for this machine, those in indexes among them; what is the same is one.
fn choose(
    source: &Source,
    candidates: &[Descriptor],
    depth: usize,
    read: &mut usize,
) -> Result<Vec<Descriptor>> {
    let mut chosen: Vec<Descriptor> = Vec::new();
    for candidate in candidates {
        if is_index(candidate) {
            let index = inner_index(source, candidate, depth, read)?;
            chosen.extend(best(choose(source, &index.manifests, depth - 1, read)?));
        } else if candidate.platform.as_ref().is_none_or(|platform| fits(platform, &host())) {
            chosen.push(candidate.clone());
        }
    }
    let mut seen = BTreeSet::new();
    chosen.retain(|known| seen.insert(known.digest.clone()));
    Ok(chosen)
}

/// Of an index made for many platforms the first that fits best: with a platform before without, an
/// attestation never.
fn best(mut chosen: Vec<Descriptor>) -> Option<Descriptor> {
    chosen.retain(|known| {
        known
            .annotations
            .get("vnd.docker.reference.type")
            .is_none_or(|kind| kind != "attestation-manifest")
    });
    let with = chosen.iter().position(|known| known.platform.is_some()).unwrap_or(0);
    (!chosen.is_empty()).then(|| chosen.swap_remove(with))
}

fn fits(platform: &Platform, host: &Platform) -> bool {
    let variant = |variant: &Option<String>| variant.clone().filter(|variant| !variant.is_empty());
    let variants = variant(&platform.variant).zip(variant(&host.variant));
    platform.os == host.os
        && platform.architecture == host.architecture
        && variants.is_none_or(|(wanted, own)| wanted == own)
}

/// In Go's words.
fn host() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    Platform {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        variant: variant.map(str::to_owned),
    }
}

fn platform_name(platform: &Platform) -> String {
    format!("{}/{}", platform.os, platform.architecture)
}

/// One image of `docker save`'s manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

fn of_docker(source: Source, which: &Which) -> Result<Image> {
    let text = source.small("manifest.json", MOST_MANIFEST)?;
    let saved: Vec<Saved> = serde_json::from_slice(&text).context("manifest.json")?;
    let tags = |image: &Saved| image.repo_tags.clone().unwrap_or_default();
    let all: Vec<String> = saved.iter().flat_map(tags).collect();
    let all = || list(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let id = |image: &Saved| -> Option<Digest> {
        let name = image.config.rsplit('/').next()?.trim_end_matches(".json");
        Digest::parse(&format!("sha256:{name}")).ok()
    };
    let wanted = |image: &&Saved| match which {
        Which::Only => true,
        Which::Tag(tag) => tags(image).iter().any(|name| same_name(name, tag)),
        Which::Digest(digest) => id(image).as_ref() == Some(digest),
    };
    let found: Vec<&Saved> = saved.iter().filter(wanted).collect();
    let image = match (&found[..], which) {
        ([image], _) => image,
        ([], Which::Tag(tag)) => bail!("no image is named {tag:?}{}", all()),
        ([], _) => bail!("no such image{}", all()),
        (many, _) => bail!("has {} images: say which by PATH:TAG{}", many.len(), all()),
    };
    let config_text = source.small(&image.config, MOST_CONFIG)?;
    let found = Digest::of(&config_text);
    // The name of the file is the digest.
    if let Some(said) = id(image) {
        said.is(&found).with_context(|| image.config.clone())?;
    }
    let config: ImageConfig =
        serde_json::from_slice(&config_text).with_context(|| image.config.clone())?;
    check_count(image.layers.len(), config.rootfs.diff_ids.len())?;
    check_platform(&config)?;
    let layer = |(file, diff_id): (&String, &Digest)| Layer {
        diff_id: diff_id.clone(),
        descriptor: None,
        file: file.clone(),
    };
    let layers = image.layers.iter().zip(&config.rootfs.diff_ids).map(layer).collect();
    let name = match which {
        Which::Tag(tag) => Some(tag.clone()),
        _ => tags(image).first().cloned(),
    };
    Ok(Image { source, name, manifest: None, id: found, config_text, config, layers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shortens_them() {
        for (name, asked, same) in [
            ("latest", "latest", true),
            ("docker.io/library/busybox:latest", "busybox:latest", true),
            ("docker.io/library/busybox:latest", "busybox", true),
            ("docker.io/library/busybox:1.36", "1.36", true),
            ("busybox:1.36", "busybox", false),
            ("localhost:5000/busybox", "5000/busybox", false),
            ("v1", "v", false),
        ] {
            assert_eq!(same_name(name, asked), same, "{name} {asked}");
        }
    }

    #[test]
    fn a_platform_without_variant_fits_every_variant() {
        let platform = |architecture: &str, variant: Option<&str>| Platform {
            architecture: architecture.into(),
            os: "linux".into(),
            variant: variant.map(str::to_owned),
        };
        let host = platform("arm", Some("v7"));
        assert!(fits(&platform("arm", None), &host));
        assert!(fits(&platform("arm", Some("v7")), &host));
        assert!(!fits(&platform("arm", Some("v6")), &host));
        assert!(!fits(&platform("amd64", None), &host));
    }
}
