//! What a layer store needs to know about the runtime whose containers and bundles use it.

use crate::source::document::Kind;
use crate::source::manifest::{Descriptor, Entries, ImageConfig, Manifest, Saved};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// A runtime.
#[derive(Debug)]
pub struct Runtime {
    /// The names of its annotations.
    pub annotations: Annotations,
    /// Whether the container with this id exists, in this state root.
    pub has_container: fn(&Path, &str) -> bool,
    /// The layers of an existing container; None if they are unknown.
    pub layers: fn(&Path, &str) -> Option<Vec<PathBuf>>,
    /// How it reads JSON.
    pub documents: Documents,
}

/// Reads a text with this name in errors; also returns the text that it stands for, if that is another one.
pub type Reader<T> = fn(&str, &[u8]) -> Result<(T, Option<Vec<u8>>)>;

/// Readers of the documents of images. Like decoders in Go, which other tools are written in, they accept keys
/// in any letter case, of duplicate keys the last, and `null` for any value.
#[derive(Debug)]
#[expect(missing_docs)]
pub struct Documents {
    pub kind: Reader<Kind>,
    pub entries: Reader<Entries>,
    pub descriptor: Reader<Descriptor>,
    pub manifest: Reader<Manifest>,
    pub config: Reader<ImageConfig>,
    pub saved: Reader<Vec<Saved>>,
}

/// Names of the annotations with which a bundle describes its root.
#[derive(Debug)]
pub struct Annotations {
    /// Directories separated by `:` (`\:` is a colon in a name), lowest first.
    pub layers: &'static str,
    /// overlayfs's upper directory.
    pub upper: &'static str,
    /// overlayfs's work directory.
    pub work: &'static str,
    /// `container`: the ids on disk are those of the container.
    pub idmap: &'static str,
    /// The digest of the image's config.
    pub image: &'static str,
}
