//! What `mounts add` has mounted in a container.

use serde::{Deserialize, Serialize};
use sys::mount::Identity;

/// All of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ExtraMounts {
    /// Those that `mounts remove` may take away, the newest last.
    #[serde(default)]
    pub mounts: Vec<Added>,
    /// Where something is or was mounted so, as paths in the root filesystem without a slash in front:
    /// what is there because of that is not a change of the container's.
    #[serde(default)]
    pub points: Vec<Vec<u8>>,
}

/// A mount that was added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Added {
    /// As it was asked for: an absolute, clean path.
    pub destination: String,
    /// Which mount it is, wherever the container has moved it.
    pub mount: Identity,
}

impl ExtraMounts {
    /// Nothing was ever added.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty() && self.points.is_empty()
    }

    /// Remembers one.
    pub fn add(&mut self, destination: &str, mount: Identity, point: &[u8]) {
        self.mounts.push(Added { destination: destination.to_owned(), mount });
        if !self.points.iter().any(|known| known == point) {
            self.points.push(point.to_vec());
        }
    }

    /// Forgets a mount that is gone.
    pub fn forget(&mut self, mount: &Identity) {
        self.mounts.retain(|added| added.mount != *mount);
    }
}
