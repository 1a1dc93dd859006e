//! The mounts that `mounts add` has made in a container.

use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::mount::Identity;

/// All of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ExtraMounts {
    /// Those that `mounts remove` can remove, the newest last.
    #[serde(default)]
    pub mounts: Vec<Added>,
    /// The files and directories that were created for such mounts, as paths in the root filesystem without a
    /// leading slash: they are not changes made by the container.
    #[serde(default)]
    pub made: Vec<Vec<u8>>,
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
        self.mounts.is_empty() && self.made.is_empty()
    }

    /// Records a mount on `point`, of which everything below the directory `above` was created for it.
    pub fn add(&mut self, destination: &str, mount: Identity, point: &Path, above: &Path) {
        self.mounts.push(Added { destination: destination.to_owned(), mount });
        let made = point.ancestors().take_while(|path| *path != above);
        for path in made.map(|path| path.as_os_str().as_bytes()).filter(|path| !path.is_empty()) {
            if !self.made.iter().any(|known| known == path) {
                self.made.push(path.to_vec());
            }
        }
    }

    /// Removes a mount from the record.
    pub fn forget(&mut self, mount: &Identity) {
        self.mounts.retain(|added| added.mount != *mount);
    }
}
