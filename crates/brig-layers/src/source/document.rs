//! Reads the JSON documents of a layout: their sizes and digests are verified, and that they are of one kind.

use super::digest::Digest;
use super::manifest::{Descriptor, ImageConfig, Index, Manifest, Saved, is_index};
use super::{Blob, Source};
use crate::runtime::Documents;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The maximum size of manifests and indexes in bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// The maximum size of configs in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// A source, and how its documents are read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub source: &'a Source,
    pub json: &'a Documents,
}

impl Reading<'_> {
    /// Reads the manifest of an image.
    pub(super) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        self.blob(descriptor, MAX_MANIFEST, |text| {
            (self.json.kind)("manifest", text)?.0.check(false)?;
            Ok((self.json.manifest)("manifest", text)?.0)
        })
    }

    /// Reads an index in an index.
    pub(super) fn index(&self, descriptor: &Descriptor) -> Result<Index> {
        self.blob(descriptor, MAX_MANIFEST, |text| self.entries("index", text))
    }

    /// Reads index.json.
    pub(super) fn whole_index(&self) -> Result<Index> {
        self.entries("index.json", &self.source.small("index.json", MAX_MANIFEST)?)
    }

    fn entries(&self, name: &str, text: &[u8]) -> Result<Index> {
        (self.json.kind)(name, text)?.0.check(true).with_context(|| name.to_owned())?;
        Ok(Index::of(&(self.json.entries)(name, text)?.0, self.json))
    }

    /// Reads an image's config; also returns its text.
    pub(super) fn config(&self, descriptor: &Descriptor) -> Result<(ImageConfig, Vec<u8>)> {
        self.blob(descriptor, MAX_CONFIG, |text| self.config_of(text))
    }

    /// A config, and the text that it stands for.
    fn config_of(&self, text: &[u8]) -> Result<(ImageConfig, Vec<u8>)> {
        let (config, other) = (self.json.config)("config", text)?;
        Ok((config, other.unwrap_or_else(|| text.to_owned())))
    }

    /// Reads the list of images of `docker save`.
    pub(super) fn saved(&self) -> Result<Vec<Saved>> {
        let name = "manifest.json";
        Ok((self.json.saved)(name, &self.source.small(name, MAX_MANIFEST)?)?.0)
    }

    /// Reads the config of an image of `docker save`, and verifies its digest if it is known; also returns it,
    /// and the text.
    pub(super) fn saved_config(
        &self,
        file: &str,
        said: Option<&Digest>,
    ) -> Result<(ImageConfig, Vec<u8>, Digest)> {
        let written = self.source.small(file, MAX_CONFIG)?;
        let digest = Digest::of(&written);
        let read = || {
            said.map_or(Ok(()), |said| said.is(&digest))?;
            self.config_of(&written)
        };
        let (config, text) = read().with_context(|| file.to_owned())?;
        Ok((config, text, digest))
    }

    /// Reads a JSON blob, and verifies its digest.
    fn blob<T>(
        &self,
        descriptor: &Descriptor,
        most: u64,
        parse: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let read = || {
            let blob = self.source.blob(&descriptor.digest)?;
            check_size(&blob, descriptor)?;
            let text = blob.all(most)?;
            descriptor.digest.check(&text)?;
            parse(&text)
        };
        read().with_context(|| format!("blob {}", descriptor.digest))
    }
}

/// The fields that tell the kinds of documents apart. What is null does not exist, as in Go.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Kind {
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
    history: Option<IgnoredAny>,
}

impl Kind {
    /// Refuses a document that other tools could read as another kind: its digest would then stand for two
    /// images (CVE-2021-41190).
    fn check(&self, index: bool) -> Result<()> {
        let what = if index { "an index" } else { "a manifest" };
        let fields = [
            ("manifests", &self.manifests, index),
            ("config", &self.config, !index),
            ("layers", &self.layers, !index),
            ("fsLayers", &self.fs_layers, false),
            ("history", &self.history, false),
        ];
        if let Some((name, ..)) = fields.iter().find(|(_, value, own)| value.is_some() && !own) {
            bail!("ambiguous: {what} with the field {name:?} of another kind of document");
        }
        let media_type = self.media_type.as_deref().unwrap_or_default();
        let same = media_type.is_empty() || is_index(media_type) == index;
        ensure!(same, "ambiguous: {what} of media type {media_type:?}");
        Ok(())
    }
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
            let kind: Kind = serde_json::from_str(&format!("{{{text}}}")).unwrap();
            let is = |index| kind.check(index).is_ok();
            assert_eq!((is(false), is(true)), kinds, "{text}");
        }
    }
}
