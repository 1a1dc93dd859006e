//! The JSON documents of the image-spec, as far as brig reads them. Unknown fields are only lost when brig
//! writes such a document itself.

use crate::runtime::Documents;
use crate::source::digest::Digest;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The annotation of a descriptor in index.json with the name of an image.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The declared media type.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Annotations.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The platform of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// The platform of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The architecture, in Go's naming.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, in Go's naming.
    #[serde(default)]
    pub os: String,
    /// The variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's platform.
    pub fn host() -> Platform {
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

    /// The platform in an image's config.
    pub(crate) fn of(config: &ImageConfig) -> Platform {
        Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        }
    }

    /// Parses `OS/ARCH[/VARIANT]`, or an architecture alone; the kernel's names are also accepted.
    ///
    /// # Errors
    ///
    /// If the text is not in one of these forms.
    pub fn parse(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => bail!("platform {text:?} is not OS/ARCH or OS/ARCH/VARIANT"),
        };
        let sound = parts.iter().all(|part| !part.is_empty());
        ensure!(sound, "platform {text:?} is not OS/ARCH or OS/ARCH/VARIANT");
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            other => other,
        };
        Ok(Platform {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
        })
    }

    /// How well an image of this platform suits `wanted`, 0 is best; None if it does not.
    pub fn suits(&self, wanted: &Platform) -> Option<u32> {
        if (&self.os, &self.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        let variant = |platform: &Platform| -> Option<String> {
            platform.variant.clone().filter(|variant| !variant.is_empty())
        };
        let number = |variant: &str| -> Option<u32> { variant.strip_prefix('v')?.parse().ok() };
        // The default variants: v1 of amd64, v8 of arm64.
        let first = |variant: Option<String>| match (self.architecture.as_str(), variant) {
            ("amd64", None) => Some("v1".to_owned()),
            ("arm64", None) => Some("v8".to_owned()),
            (_, variant) => variant,
        };
        match (first(variant(self)), first(variant(wanted))) {
            (own, wanted) if own == wanted => Some(0),
            // An image without a variant runs anywhere, but an exact match is better.
            (None, _) => Some(100),
            (Some(_), None) => Some(200),
            (Some(own), Some(wanted)) => {
                number(&wanted)?.checked_sub(number(&own)?).filter(|less| *less < 100)
            }
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(out, "/{variant}"))
    }
}

/// A list of images: index.json, or a "fat manifest".
#[derive(Debug, Clone)]
pub(crate) struct Index {
    /// The images, and further indexes.
    pub manifests: Vec<Descriptor>,
    /// The other entries.
    pub unusable: Vec<Unusable>,
}

/// An entry of an index that brig cannot use: other tools may have written it, and the image-spec demands that
/// the images beside it remain usable.
#[derive(Debug, Clone)]
pub(crate) struct Unusable {
    /// Its name.
    pub name: Option<String>,
    /// Its digest, if brig supports the algorithm.
    pub digest: Option<Digest>,
    /// Why it cannot be used.
    pub why: String,
}

/// An index as it is written.
#[derive(Debug, Deserialize)]
pub struct Entries {
    #[serde(deserialize_with = "null_is_empty")]
    manifests: Vec<Value>,
}

impl Index {
    /// Reads each entry on its own.
    pub fn of(written: &Entries, json: &Documents) -> Index {
        let mut index = Index { manifests: Vec::new(), unusable: Vec::new() };
        let read = |value: &Value| Ok((json.descriptor)("", value.to_string().as_bytes())?.0);
        for value in &written.manifests {
            match entry_by(value, &read) {
                Ok(descriptor) => index.manifests.push(descriptor),
                Err(unusable) => index.unusable.push(unusable),
            }
        }
        index
    }
}

/// An entry of an index, if brig can use it.
pub(crate) fn entry(value: &Value) -> Result<Descriptor, Unusable> {
    entry_by(value, &|value| Ok(Descriptor::deserialize(value)?))
}

fn entry_by(
    value: &Value,
    read: &dyn Fn(&Value) -> Result<Descriptor>,
) -> Result<Descriptor, Unusable> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let unusable = |why: String| Unusable {
        name: text(&value["annotations"][REF_NAME]),
        digest: text(&value["digest"]).and_then(|text| Digest::parse(&text).ok()),
        why,
    };
    // Its own text has no lines and columns that anyone could look up.
    let read = read(value).map_err(|error| unusable(error.root_cause().to_string()))?;
    let kind = read.media_type.as_str();
    let known = ["", "application/vnd.docker.distribution.manifest.v2+json"].contains(&kind)
        || kind.starts_with("application/vnd.oci.image.manifest.")
        || read.is_index();
    match known {
        true => Ok(read),
        false => Err(unusable(format!(
            "blob {}: {kind:?} is the media type neither of an image nor of an index",
            read.digest
        ))),
    }
}

impl Descriptor {
    /// Whether it refers to an index.
    pub(crate) fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }
}

/// Whether it is the media type of an index.
pub(crate) fn is_index(kind: &str) -> bool {
    kind.contains("image.index") || kind.contains("manifest.list")
}

/// The manifest of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default)]
    pub(crate) schema_version: u32,
    /// The declared media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    /// The artifact's type, if it is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    /// Its [`ImageConfig`].
    pub(crate) config: Descriptor,
    /// Its layers, lowest first.
    #[serde(deserialize_with = "null_is_empty")]
    pub(crate) layers: Vec<Descriptor>,
    /// Annotations.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Checks that it is an image whose layers are archives: other artifacts are refused by their media type.
    pub(crate) fn check_types(&self) -> Result<()> {
        let what = [&self.artifact_type, &Some(self.config.media_type.clone())];
        let artifact =
            |kind: &&Option<String>| kind.as_deref().is_some_and(|kind| !is_config(kind));
        if let Some(Some(kind)) = what.into_iter().find(artifact) {
            bail!(
                "an artifact of media type {kind}, not an image: give the image that it refers to, by PATH:TAG or PATH@DIGEST"
            );
        }
        self.layers.iter().try_for_each(check_layer)
    }
}

fn is_config(kind: &str) -> bool {
    let known = [
        "",
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        // Written by old registries.
        "application/octet-stream",
    ];
    known.contains(&kind)
}

fn check_layer(layer: &Descriptor) -> Result<()> {
    let kind = layer.media_type.as_str();
    let hint = match kind {
        _ if kind.ends_with("+encrypted") => {
            "encrypted: decrypt the image first (skopeo copy --decryption-key KEY)"
        }
        _ if kind.contains("in-toto") => {
            "an attestation, not a layer: give the image that it refers to, by PATH:TAG or PATH@DIGEST"
        }
        _ if is_archive(kind) => return Ok(()),
        _ => "supported are tar archives, uncompressed or compressed with gzip or zstd",
    };
    bail!("blob {}: a layer of media type {kind}: {hint}", layer.digest)
}

/// Whether it is e.g. `…layer.v1.tar+gzip` or `…rootfs.diff.tar.gzip`, including nondistributable ones.
fn is_archive(kind: &str) -> bool {
    let tar = |part: &str| ["tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd"].contains(&part);
    let image = kind.starts_with("application/vnd.oci.image.layer.")
        || kind.starts_with("application/vnd.docker.image.rootfs.");
    kind.is_empty() || image && kind.match_indices(".tar").any(|(at, _)| tar(&kind[at + 1..]))
}

/// Layers that may be stored outside the registry.
pub(crate) fn is_foreign(kind: &str) -> bool {
    kind.contains(".nondistributable.") || kind.contains(".foreign.")
}

/// The image's config.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// The time of creation.
    pub created: Option<String>,
    /// The author.
    pub author: Option<String>,
    /// The architecture, in Go's naming.
    #[serde(deserialize_with = "null_is_empty")]
    pub architecture: String,
    /// The operating system, in Go's naming.
    #[serde(deserialize_with = "null_is_empty")]
    pub os: String,
    /// The version of the operating system.
    #[serde(rename = "os.version")]
    pub os_version: Option<String>,
    /// The required features of the operating system.
    #[serde(rename = "os.features", deserialize_with = "null_is_empty")]
    pub os_features: Vec<String>,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// Settings to run it with.
    #[serde(deserialize_with = "null_is_empty")]
    pub config: Execution,
    /// Its layers without compression.
    #[serde(deserialize_with = "null_is_empty")]
    pub rootfs: RootFs,
}

/// Settings to run an image with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Execution {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "null_is_empty")]
    pub user: String,
    /// Ports, e.g. `80/tcp`.
    #[serde(deserialize_with = "null_is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_is_empty")]
    pub env: Vec<String>,
    /// The beginning of the command.
    #[serde(deserialize_with = "null_is_empty")]
    pub entrypoint: Vec<String>,
    /// The end of the command, or its default arguments.
    #[serde(deserialize_with = "null_is_empty")]
    pub cmd: Vec<String>,
    /// Directories whose contents are not part of the image.
    #[serde(deserialize_with = "null_is_empty")]
    pub volumes: BTreeMap<String, Value>,
    /// Working directory.
    #[serde(deserialize_with = "null_is_empty")]
    pub working_dir: String,
    /// Labels, which become annotations of the container.
    #[serde(deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    /// The signal to stop it, e.g. `SIGTERM`.
    #[serde(deserialize_with = "null_is_empty")]
    pub stop_signal: String,
}

/// Go writes empty lists and maps as null, and accepts null for any empty value.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// An image in `docker save`'s manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Saved {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) layers: Vec<String>,
}

/// The layers without compression.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Their digests, lowest first.
    #[serde(deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<Digest>,
}

/// The chain ids of the image-spec: of each layer including all below it.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_an_empty_list_as_go_writes_it() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],
            "Labels":null,"User":null,"Healthcheck":{}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.cmd, ["sh"]);
        assert!(config.config.env.is_empty() && config.config.user.is_empty());
        let text =
            r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":{"diff_ids":[]}}"#;
        assert!(serde_json::from_str::<ImageConfig>(text).unwrap().config.cmd.is_empty());
    }

    #[test]
    fn the_platform_that_suits_best_is_the_nearest_variant() {
        let suits = |own: &str, wanted: &str| {
            Platform::parse(own).unwrap().suits(&Platform::parse(wanted).unwrap())
        };
        assert_eq!(suits("linux/amd64", "x86_64"), Some(0));
        assert_eq!(suits("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(suits("linux/amd64/v3", "linux/amd64"), None);
        assert_eq!(suits("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(suits("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(suits("linux/arm", "linux/arm/v7"), Some(100));
        assert_eq!(suits("windows/amd64", "linux/amd64"), None);
        assert_eq!(suits("unknown/unknown", "linux/amd64"), None);
        for bad in ["", "linux/", "a/b/c/d", "/amd64"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_chain_id_of_the_lowest_layer_is_its_diff_id() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let ids = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(ids, [a.clone(), Digest::of(format!("{a} {b}").as_bytes())]);
    }
}
