//! Resolves the name of an image to its manifest, config and layers.

use crate::runtime::Documents;
use crate::source::digest::{Digest, Prefix};
use crate::source::document::{Reading, check_size};
use crate::source::manifest::{
    Descriptor, ImageConfig, Index, Platform, REF_NAME, Saved, Unusable, is_foreign,
};
use crate::source::reference::{Kind, Reference, Selector};
use crate::source::{Blob, Source};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeSet;

/// The maximum depth of nested indexes.
const MAX_DEPTH: usize = 3;
/// The maximum number of indexes: a few that refer to each other repeatedly would take forever.
const MAX_INDEXES: usize = 1000;

/// An image that was found.
#[derive(Debug)]
pub struct Image {
    /// The source that contains it.
    pub source: Source,
    /// The name it was found by, if any.
    pub name: Option<String>,
    /// The digest of its manifest; archives of `docker save` before version 25 have none.
    pub manifest: Option<Digest>,
    /// The digest of its config: the image's id.
    pub id: Digest,
    /// The text of the config, with its keys in the letter case that is defined.
    pub config_text: Vec<u8>,
    /// The config.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// A layer in the source.
#[derive(Debug)]
pub struct Layer {
    /// Its digest without compression.
    pub diff_id: Digest,
    /// The digest and size of its blob, if known.
    pub descriptor: Option<Descriptor>,
    /// Its file in the source.
    pub file: String,
}

impl Layer {
    /// Its name in errors.
    pub fn name(&self) -> String {
        match &self.descriptor {
            Some(descriptor) if is_foreign(&descriptor.media_type) => {
                format!("blob {} of media type {}", descriptor.digest, descriptor.media_type)
            }
            Some(descriptor) => format!("blob {}", descriptor.digest),
            None => format!("blob {}", self.file),
        }
    }

    /// Opens its blob, and checks its size.
    ///
    /// # Errors
    ///
    /// If the blob does not exist, or has another size.
    pub fn open(&self, source: &Source) -> Result<Blob> {
        let foreign = self.descriptor.as_ref().is_some_and(|known| is_foreign(&known.media_type));
        let blob = source.file(&self.file);
        let blob = match foreign {
            true => blob.context(
                "a foreign layer, which is not stored with the image: copy the image with a tool that fetches such layers, e.g. to docker-archive:",
            )?,
            false => blob?,
        };
        if let Some(descriptor) = &self.descriptor {
            check_size(&blob, descriptor)?;
        }
        Ok(blob)
    }
}

/// Finds the image.
///
/// # Errors
///
/// If the source does not contain exactly one such image for the platform, or one of its documents is not
/// valid.
pub fn resolve(reference: &Reference, platform: Option<&str>, json: &Documents) -> Result<Image> {
    let asked = platform.map(Platform::parse).transpose()?;
    let path = std::path::absolute(&reference.path)?;
    let source = Source::open(&path, reference.kind)?;
    let what = source.path().display().to_string();
    let docker = match reference.kind {
        Kind::DockerArchive => true,
        Kind::Layout | Kind::LayoutArchive => false,
        Kind::Any => !source.is_layout(),
    };
    if docker {
        ensure!(
            source.is_docker(),
            "{what} is neither an OCI image layout nor an archive of docker save"
        );
        let found = of_docker(source, &reference.which, json);
        return found
            .and_then(|image| {
                check_asked(&image.config, asked.as_ref())?;
                Ok(image)
            })
            .with_context(|| what);
    }
    ensure!(source.is_layout(), "{what} is not an OCI image layout");
    of_layout(source, &reference.which, asked.as_ref(), json).with_context(|| what)
}

/// A search in the indexes of a layout.
struct Search<'a> {
    reading: Reading<'a>,
    platform: &'a Platform,
    /// The number of indexes read so far, except index.json.
    read: usize,
    /// The platforms of the images that it has seen.
    platforms: BTreeSet<String>,
    /// Why the first of the entries that were skipped cannot be used.
    skipped: Option<String>,
}

impl Search<'_> {
    /// To append to the error that no image was found.
    fn and_skipped(&self) -> String {
        self.skipped.as_ref().map_or(String::new(), |why| format!("; skipped: {why}"))
    }
}

fn of_layout(
    source: Source,
    which: &Selector,
    asked: Option<&Platform>,
    json: &Documents,
) -> Result<Image> {
    let platform = &asked.cloned().unwrap_or_else(Platform::host);
    let reading = Reading { source: &source, json };
    let index = reading.whole_index()?;
    let mut search =
        Search { reading, platform, read: 0, skipped: None, platforms: BTreeSet::new() };
    let candidates = candidates(&mut search, &index, which)?;
    let name = match (which, &candidates[..]) {
        (Selector::Tag(tag), _) => Some(tag.clone()),
        (_, [only]) => only.annotations.get(REF_NAME).cloned(),
        _ => None,
    };
    let mut chosen = choose(&mut search, &candidates, MAX_DEPTH)?;
    if chosen.len() > 1 {
        chosen = best_suited(&search, chosen)?;
    }
    let [descriptor] = &chosen[..] else {
        ensure!(
            !chosen.is_empty(),
            "no image for platform {platform}{} (choose one with --platform){}",
            list(&search.platforms.iter().map(String::as_str).collect::<Vec<_>>()),
            search.and_skipped()
        );
        bail!(
            "has {} images: choose one with PATH:TAG or PATH@DIGEST{}",
            chosen.len(),
            names(&index)
        );
    };
    let manifest = reading.manifest(descriptor)?;
    manifest.check_types()?;
    let (config, config_text) = reading.config(&manifest.config)?;
    let (layers, diff_ids) = (manifest.layers, &config.rootfs.diff_ids);
    check_count(layers.len(), diff_ids.len())?;
    let layer = |(descriptor, diff_id): (Descriptor, &Digest)| {
        let digest = &descriptor.digest;
        let file = format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        Layer { diff_id: diff_id.clone(), file, descriptor: Some(descriptor) }
    };
    let layers = layers.into_iter().zip(diff_ids).map(layer).collect();
    let (id, manifest) = (manifest.config.digest, Some(descriptor.digest.clone()));
    if descriptor.platform.is_none() {
        check_asked(&config, asked)?;
    }
    check_platform(&config)?;
    Ok(Image { source, name, manifest, id, config_text, config, layers })
}

fn check_count(layers: usize, diff_ids: usize) -> Result<()> {
    ensure!(layers == diff_ids, "the manifest has {layers} layers, the config {diff_ids} of them");
    ensure!(layers > 0, "the image has no layers");
    // overlayfs supports 500; a patch and the bundle's own layer are two of them.
    ensure!(layers <= 498, "{layers} layers: the maximum is 498");
    Ok(())
}

/// The entries of index.json that the selector can mean.
fn candidates(search: &mut Search<'_>, index: &Index, which: &Selector) -> Result<Vec<Descriptor>> {
    Ok(match which {
        Selector::Digest(digest) => {
            let mut found = Vec::new();
            by_digest(search, index, digest, MAX_DEPTH, &mut found)?;
            let found = digest.only(found, |known| &known.digest)?;
            let skipped = search.and_skipped();
            vec![found.with_context(|| format!("no image with digest {digest}{skipped}"))?]
        }
        Selector::Tag(tag) => tagged(index, tag)?,
        Selector::Only => {
            search.skipped = index.unusable.first().map(|entry| entry.why.clone());
            ensure!(!index.manifests.is_empty(), "has no images{}", search.and_skipped());
            index.manifests.clone()
        }
    })
}

/// Checks that an image is for the platform that was asked for, if its index does not tell.
fn check_asked(config: &ImageConfig, asked: Option<&Platform>) -> Result<()> {
    let own = Platform::of(config);
    let unknown = own.os.is_empty() && own.architecture.is_empty();
    match asked.filter(|asked| !unknown && own.suits(asked).is_none()) {
        Some(asked) => bail!("the image is for {own}, not {asked} (--platform)"),
        None => Ok(()),
    }
}

fn check_platform(config: &ImageConfig) -> Result<()> {
    let os = config.os.as_str();
    ensure!(os.is_empty() || os == "linux", "the image is for {os}, not linux");
    Ok(())
}

/// Reads an index in an index.
fn inner_index(search: &mut Search<'_>, descriptor: &Descriptor, depth: usize) -> Result<Index> {
    ensure!(depth > 0, "indexes are nested too deeply");
    search.read += 1;
    ensure!(search.read <= MAX_INDEXES, "more than {MAX_INDEXES} indexes in its index");
    search.reading.index(descriptor)
}

/// The images that a digest can refer to: for a complete digest, the first is enough. An index that cannot be
/// read hides only what is in it.
fn by_digest(
    search: &mut Search<'_>,
    index: &Index,
    digest: &Prefix,
    depth: usize,
    found: &mut Vec<Descriptor>,
) -> Result<()> {
    found.extend(index.manifests.iter().filter(|known| digest.matches(&known.digest)).cloned());
    let matches = |known: &&Unusable| known.digest.as_ref().is_some_and(|d| digest.matches(d));
    if found.is_empty()
        && let Some(unusable) = index.unusable.iter().find(matches)
    {
        bail!("{}", unusable.why);
    }
    for nested in index.manifests.iter().filter(|known| known.is_index()) {
        if digest.is_whole() && !found.is_empty() {
            break;
        }
        match inner_index(search, nested, depth) {
            Ok(inner) => by_digest(search, &inner, digest, depth - 1, found)?,
            Err(error) => drop(search.skipped.get_or_insert(format!("{error:#}"))),
        }
    }
    Ok(())
}

/// The entries with a name: exactly this one, or one that is shortened to it.
fn tagged(index: &Index, tag: &str) -> Result<Vec<Descriptor>> {
    let unusable = |same: fn(&str, &str) -> bool| {
        let named = |entry: &&Unusable| entry.name.as_ref().is_some_and(|name| same(name, tag));
        index.unusable.iter().find(named)
    };
    for same in [|name: &str, tag: &str| name == tag, same_name] {
        let named = index.manifests.iter().filter(|known| is_named(known, tag, same));
        let found: Vec<Descriptor> = named.cloned().collect();
        match unusable(same) {
            Some(entry) if found.is_empty() => bail!("{tag}: {}", entry.why),
            _ if found.is_empty() => {}
            _ => return Ok(found),
        }
    }
    bail!("no image with tag {tag:?}{}", names(index))
}

/// Whether it has this name.
fn is_named(descriptor: &Descriptor, tag: &str, same: fn(&str, &str) -> bool) -> bool {
    let names = [REF_NAME, "io.containerd.image.name"];
    let names = names.iter().filter_map(|key| descriptor.annotations.get(*key));
    names.into_iter().any(|name| same(name, tag))
}

/// Whether a name is the one asked for, or ends with it: `docker.io/library/busybox:latest` matches
/// `busybox:latest` and `latest`.
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
    const MOST: usize = 20;
    let shown = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => String::new(),
        1..=MOST => format!("; available: {shown}"),
        all => format!("; available: {shown} and {} more", all - MOST),
    }
}

/// The candidates that suit the platform, including those in nested indexes, without duplicates.
fn choose(
    search: &mut Search<'_>,
    candidates: &[Descriptor],
    depth: usize,
) -> Result<Vec<Descriptor>> {
    let mut chosen: Vec<Descriptor> = Vec::new();
    search
        .platforms
        .extend(candidates.iter().filter_map(|known| Some(known.platform.as_ref()?.to_string())));
    for candidate in candidates {
        if candidate.is_index() {
            let index = inner_index(search, candidate, depth)?;
            if let Some(entry) = index.unusable.first() {
                search.skipped.get_or_insert_with(|| entry.why.clone());
            }
            let inner = choose(search, &index.manifests, depth - 1)?;
            chosen.extend(best(search, inner)?);
        } else if candidate.platform.as_ref().is_none_or(|own| own.suits(search.platform).is_some())
        {
            chosen.push(candidate.clone());
        }
    }
    let mut seen = BTreeSet::new();
    chosen.retain(|known| seen.insert(known.digest.clone()));
    Ok(chosen)
}

/// The best image of a multi-platform index: the first one that suits best, preferring those with a platform,
/// and never an attestation.
fn best(search: &Search<'_>, mut chosen: Vec<Descriptor>) -> Result<Option<Descriptor>> {
    const KIND: &str = "vnd.docker.reference.type";
    chosen.retain(|known| {
        known.annotations.get(KIND).is_none_or(|kind| kind != "attestation-manifest")
    });
    if let [_, _, ..] = chosen[..] {
        chosen = best_suited(search, chosen)?;
    }
    Ok(chosen.into_iter().next())
}

/// Those that suit the platform best. If an index does not give the platform, the image's config does.
fn best_suited(search: &Search<'_>, chosen: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
    let mut suiting = Vec::new();
    for known in chosen {
        let named = known.platform.is_some();
        let own = match known.platform.clone() {
            Some(own) => own,
            None => platform_of(&search.reading, &known)?,
        };
        suiting.extend(own.suits(search.platform).map(|worse| ((worse, !named), known)));
    }
    let best = suiting.iter().map(|(worse, _)| *worse).min();
    suiting.retain(|(worse, _)| Some(*worse) == best);
    Ok(suiting.into_iter().map(|(_, known)| known).collect())
}

fn platform_of(reading: &Reading<'_>, descriptor: &Descriptor) -> Result<Platform> {
    let manifest = reading.manifest(descriptor)?;
    if manifest.check_types().is_err() {
        // Not an image: it suits no platform.
        return Ok(Platform { architecture: String::new(), os: String::new(), variant: None });
    }
    let (config, _) = reading.config(&manifest.config)?;
    Ok(Platform::of(&config))
}

fn of_docker(source: Source, which: &Selector, json: &Documents) -> Result<Image> {
    let reading = Reading { source: &source, json };
    let saved = reading.saved()?;
    let all = || {
        let tags = saved.iter().flat_map(|image| &image.repo_tags);
        list(&tags.map(String::as_str).collect::<Vec<_>>())
    };
    let id = |image: &Saved| -> Option<Digest> {
        let name = image.config.rsplit('/').next()?.trim_end_matches(".json");
        Digest::parse(&format!("sha256:{name}")).ok()
    };
    let wanted = |image: &&Saved| match which {
        Selector::Only => true,
        Selector::Tag(tag) => image.repo_tags.iter().any(|name| same_name(name, tag)),
        Selector::Digest(digest) => id(image).is_some_and(|id| digest.matches(&id)),
    };
    let found: Vec<&Saved> = saved.iter().filter(wanted).collect();
    if let Selector::Digest(digest) = which {
        digest.only(found.iter().filter_map(|image| id(image)), |id| id)?;
    }
    let image = match (&found[..], which) {
        ([image], _) => image,
        ([], Selector::Tag(tag)) => bail!("no image with tag {tag:?}{}", all()),
        ([], _) => bail!("no such image{}", all()),
        (many, _) => bail!("has {} images: choose one with PATH:TAG{}", many.len(), all()),
    };
    // The name of the file is the digest.
    let (config, config_text, id) = reading.saved_config(&image.config, id(image).as_ref())?;
    check_count(image.layers.len(), config.rootfs.diff_ids.len())?;
    check_platform(&config)?;
    let layer = |(file, diff_id): (&String, &Digest)| Layer {
        diff_id: diff_id.clone(),
        descriptor: None,
        file: file.clone(),
    };
    let layers = image.layers.iter().zip(&config.rootfs.diff_ids).map(layer).collect();
    let name = match which {
        Selector::Tag(tag) => Some(tag.clone()),
        _ => image.repo_tags.first().cloned(),
    };
    Ok(Image { source, name, manifest: None, id, config_text, config, layers })
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
}
