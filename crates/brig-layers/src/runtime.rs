//! What a store of layers has to be told of the runtime whose containers and bundles use it.

use std::path::Path;

/// The runtime.
#[derive(Debug)]
pub struct Runtime {
    /// What it calls its annotations.
    pub annotations: Annotations,
    /// Whether it has a container of this id, by the directory of its states.
    pub has_container: fn(&Path, &str) -> bool,
}

/// Names of the annotations by which a bundle says what its root is made of.
#[derive(Debug)]
pub struct Annotations {
    /// Directories separated by `:` (`\:` is a colon of a name), lowest first.
    pub layers: &'static str,
    /// overlayfs's upper directory.
    pub upper: &'static str,
    /// overlayfs's work directory.
    pub work: &'static str,
    /// `container`: the ids on disk are the container's.
    pub idmap: &'static str,
    /// The digest of the image's config.
    pub image: &'static str,
}
