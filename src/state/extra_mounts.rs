//! The mounts that `mounts add` has made in a container.

use serde::{Deserialize, Serialize};
use sys::mount::Identity;

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ExtraMounts {
    /// Those that `mounts remove` can remove, the newest last.
    #[serde(default)]
    pub mounts: Vec<Added>,
    /// Where such mounts are or were, as paths in the root filesystem without a leading slash: mount targets
    /// created there are not changes made by the container.
    #[serde(default)]
    pub points: Vec<Vec<u8>>,
}

/// A mount that was added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Added {
    /// The requested destination: an absolute, normalised path.
    pub destination: String,
    /// The identity of the mount, wherever the container has moved it.
    pub mount: Identity,
}

impl ExtraMounts {
    /// Whether nothing was ever added.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && self.points.is_empty()
    }

    /// Records a mount.
    pub fn add(&mut self, destination: &str, mount: Identity, point: &[u8]) {
        self.mounts.push(Added { destination: destination.to_owned(), mount });
        if !self.points.iter().any(|known| known == point) {
            self.points.push(point.to_vec());
        }
    }

    /// Removes a mount from the record.
    pub fn forget(&mut self, mount: &Identity) {
        self.mounts.retain(|added| added.mount != *mount);
    }
}
