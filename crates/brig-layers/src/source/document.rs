//! Reads the JSON documents of a layout: their sizes and digests are verified, and that they are of one kind.

use super::digest::Digest;
use super::manifest::{Descriptor, ImageConfig, Index, Manifest, is_index};
use super::{Blob, Source};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// The maximum size of manifests and indexes in bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// The maximum size of configs in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// Reads the manifest of an image.
pub(super) fn manifest(source: &Source, descriptor: &Descriptor) -> Result<Manifest> {
    let read = |text: &[u8]| {
        check_kind(text, false)?;
        Ok(serde_json::from_slice(text)?)
    };
    Ok(document(source, descriptor, MAX_MANIFEST, &read)?.0)
}

/// Reads an index in an index.
pub(super) fn index(source: &Source, descriptor: &Descriptor) -> Result<Index> {
    Ok(document(source, descriptor, MAX_MANIFEST, &read_index)?.0)
}

/// Reads index.json.
pub(super) fn whole_index(source: &Source) -> Result<Index> {
    read_index(&source.small("index.json", MAX_MANIFEST)?).context("index.json")
}

/// Reads an image's config; also returns its text.
pub(super) fn config(source: &Source, descriptor: &Descriptor) -> Result<(ImageConfig, Vec<u8>)> {
    document(source, descriptor, MAX_CONFIG, &|text| Ok(serde_json::from_slice(text)?))
}

/// Reads the list of images of `docker save`.
pub(super) fn saved<T: DeserializeOwned>(source: &Source) -> Result<T> {
    let text = source.small("manifest.json", MAX_MANIFEST)?;
    serde_json::from_slice(&text).context("manifest.json")
}

/// Reads the config of an image of `docker save`, and verifies its digest if it is known; also returns its
/// text.
pub(super) fn saved_config(
    source: &Source,
    file: &str,
    digest: Option<&Digest>,
) -> Result<(ImageConfig, Vec<u8>)> {
    let text = source.small(file, MAX_CONFIG)?;
    let read = || -> Result<ImageConfig> {
        digest.map_or(Ok(()), |digest| digest.check(&text))?;
        Ok(serde_json::from_slice(&text)?)
    };
    Ok((read().with_context(|| file.to_owned())?, text))
}

fn read_index(text: &[u8]) -> Result<Index> {
    check_kind(text, true)?;
    Ok(serde_json::from_slice(text)?)
}

/// The fields that tell the kinds of documents apart. What is null does not exist, as in Go.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
}

/// Refuses a document that other tools could read as another kind: its digest would then stand for two images
/// (CVE-2021-41190).
fn check_kind(text: &[u8], index: bool) -> Result<()> {
    let kind: Kind = serde_json::from_slice(text)?;
    let what = if index { "an index" } else { "a manifest" };
    let fields = [
        ("manifests", &kind.manifests, index),
        ("config", &kind.config, !index),
        ("layers", &kind.layers, !index),
        ("fsLayers", &kind.fs_layers, false),
        ("history", &kind.history, false),
    ];
    if let Some((name, ..)) = fields.iter().find(|(_, value, own)| value.is_some() && !own) {
        bail!("ambiguous: {what} with the field {name:?} of another kind of document");
    }
    let media_type = kind.media_type.unwrap_or_default();
    let same = media_type.is_empty() || is_index(&media_type) == index;
    ensure!(same, "ambiguous: {what} of media type {media_type:?}");
    Ok(())
}

/// Reads a JSON blob, and verifies its digest; also returns its text.
fn document<T>(
    source: &Source,
    descriptor: &Descriptor,
    most: u64,
    parse: &dyn Fn(&[u8]) -> Result<T>,
) -> Result<(T, Vec<u8>)> {
    let read = || -> Result<_> {
        let blob = source.blob(&descriptor.digest)?;
        check_size(&blob, descriptor)?;
        let text = blob.all(most)?;
        descriptor.digest.check(&text)?;
        Ok((parse(&text)?, text))
    };
    read().with_context(|| format!("blob {}", descriptor.digest))
}

/// Checks that a blob has the size that its descriptor says.
pub(super) fn check_size(blob: &Blob, descriptor: &Descriptor) -> Result<()> {
    let (size, said) = (blob.size, descriptor.size);
    ensure!(size == said, "has {size} bytes instead of {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_of_one_kind() {
        let manifest = r#""config": {}, "layers": []"#;
        for (text, kinds) in [
            (manifest.to_owned(), (true, false)),
            (format!(r#"{manifest}, "manifests": null, "mediaType": null"#), (true, false)),
            (format!(r#"{manifest}, "manifests": []"#), (false, false)),
            (format!(r#"{manifest}, "fsLayers": []"#), (false, false)),
            (format!(r#"{manifest}, "history": {{}}"#), (false, false)),
            (
                format!(r#"{manifest}, "mediaType": "application/vnd.oci.image.index.v1+json""#),
                (false, false),
            ),
            (
                format!(r#"{manifest}, "mediaType": "application/vnd.oci.image.manifest.v1+json""#),
                (true, false),
            ),
            (r#""manifests": [], "config": null"#.to_owned(), (false, true)),
            (r#""manifests": [], "layers": []"#.to_owned(), (false, false)),
            (
                r#""manifests": [], "mediaType": "application/vnd.oci.image.manifest.v1+json""#
                    .to_owned(),
                (false, false),
            ),
        ] {
            let is = |index| check_kind(format!("{{{text}}}").as_bytes(), index).is_ok();
            assert_eq!((is(false), is(true)), kinds, "{text}");
        }
    }
}
