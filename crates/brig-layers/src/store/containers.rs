//! Directories of the store that are a container's bundle each, and go with it.

use crate::store::{STORE_PATIENCE, Store, wait_for_lock};
use crate::tree;
use crate::worker;
use anyhow::{Context, Result, bail};
use nix::fcntl::open;
use nix::sys::stat::Mode;
use nix::unistd::symlinkat;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::idmap::UserNamespace;
use sys::path::DIRECTORY;
use sys::{Errno, IfExists, fd};

/// A container's own bundle, which nobody takes for left over while this is held.
#[derive(Debug)]
pub struct Reserved {
    /// The bundle.
    pub bundle: PathBuf,
    lock: OwnedFd,
}

/// A link in a container's directory to its state directory.
pub(crate) const STATE: &str = "state";

/// A link in the directory of a container that was checkpointed, to the checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// Keeps the bundle of a container that does not exist any more, for as long as `checkpoint` does: a restore needs it.
///
/// # Errors
///
/// If the link to `checkpoint` cannot be made.
pub fn keep(bundle: &Path, checkpoint: &Path) -> Result<()> {
    let link = bundle.join(CHECKPOINT);
    std::fs::remove_file(&link).if_exists().with_context(|| link.display().to_string())?;
    std::os::unix::fs::symlink(checkpoint, &link).with_context(|| link.display().to_string())
}

impl Reserved {
    /// Makes an empty directory for a container: no two have the same, whatever their state roots.
    pub fn new(store: &Store, root: &Path, id: &str) -> Result<Reserved> {
        // Until it is locked `gc` would take it for left over.
        let _lock = store.lock_shared()?;
        let containers = store.path.join("containers");
        for number in 0..u32::MAX {
            let bundle = containers.join(format!("{id}-{number}"));
            match nix::unistd::mkdir(&bundle, Mode::from_bits_truncate(0o711)) {
                Ok(()) => {}
                Err(Errno::EEXIST) => continue,
                Err(errno) => return Err(errno).with_context(|| bundle.display().to_string()),
            }
            return match Self::lock(&bundle, &root.join(id)) {
                Ok(lock) => Ok(Reserved { bundle, lock }),
                Err(error) => {
                    // The error that matters is the first one. There is nothing in it but the link.
                    let _ = std::fs::remove_file(bundle.join(STATE));
                    let _ = std::fs::remove_dir(&bundle);
                    Err(error.context(bundle.display().to_string()))
                }
            };
        }
        bail!("{} is full", containers.display())
    }

    /// Locks the new directory, and links it to the container's state.
    fn lock(bundle: &Path, state: &Path) -> Result<OwnedFd> {
        let lock = open(bundle, DIRECTORY, Mode::empty())?;
        // Who lists what there is tries the lock for a moment.
        wait_for_lock(&lock, true, STORE_PATIENCE, || "is locked".into())?;
        // use.json says it as well; a link is there whole or not at all.
        symlinkat(state, &lock, STATE).context("symlink")?;
        Ok(lock)
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Removes a container's bundle, with all that the container has changed, with the rights that making
/// it took.
pub fn remove(bundle: &Path, user: Option<&UserNamespace>) -> Result<()> {
    let lock = match open(bundle, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        lock => lock.with_context(|| bundle.display().to_string())?,
    };
    // While it is locked `gc` does not take it for left over. If it is locked already, then by the brig
    // that has made it, which is this one, or by `gc`, which removes it as well.
    fd::try_flock(lock.as_fd(), true)?;
    match user {
        None => tree::remove_path(bundle),
        Some(user) => {
            let remove = |_: &worker::Reporter| tree::remove_path(bundle).map(|()| Vec::new());
            worker::spawn(Some(user), remove)?.wait(|_| ()).map(drop)
        }
    }
}
