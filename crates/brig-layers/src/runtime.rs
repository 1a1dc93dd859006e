//! What a layer store needs to know about the runtime whose containers and bundles use it.

use std::path::Path;

/// A runtime.
#[derive(Debug)]
pub struct Runtime {
    /// The names of its annotations.
    pub annotations: Annotations,
    /// Whether the container with this id exists, in this state root.
    pub has_container: fn(&Path, &str) -> bool,
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
