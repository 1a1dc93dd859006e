//! Directories of the store that contain the bundle of one container, and are removed with it.

use crate::source::digest::Digest;
use crate::store::{STORE_PATIENCE, Store, wait_for_lock};
use crate::tree;
use crate::worker;
use anyhow::{Context, Result, bail};
use nix::fcntl::open;
use nix::sys::stat::Mode;
use nix::unistd::symlinkat;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::idmap::UserNamespace;
use sys::path::DIRECTORY;
use sys::{Errno, IfExists, fd};

/// A container's own bundle, which is not treated as unused while this is held.
#[derive(Debug)]
pub struct Reserved {
    /// The bundle.
    pub bundle: PathBuf,
    lock: OwnedFd,
}

/// The link in a container's directory to its state directory.
pub(crate) const STATE: &str = "state";

/// The link in the directory of a checkpointed container to the checkpoint.
pub(crate) const CHECKPOINT: &str = "checkpoint";

/// The extension of the link to a bundle outside the store, beside its record.
pub(crate) const BUNDLE: &str = "bundle";

/// The extension of the link to the state directory of a container of such a bundle.
pub(crate) const CONTAINER: &str = "container";

/// Marks these directories of a store as used by the container with this state directory. Its bundle does not:
/// it may be moved, or its config.json edited, while the container lives.
///
/// # Errors
///
/// If the link to the state directory cannot be created, except on a read-only filesystem, where nothing can
/// be removed either.
pub fn hold(layers: &[PathBuf], state: &Path) -> Result<()> {
    for link in links(layers, state) {
        match std::os::unix::fs::symlink(state, &link).map_err(|error| error.kind()) {
            Err(ErrorKind::AlreadyExists | ErrorKind::ReadOnlyFilesystem) => {}
            Err(kind) => {
                return Err(io::Error::from(kind)).with_context(|| link.display().to_string());
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Takes the mark back. `gc` removes what is left of it.
pub fn release(layers: &[PathBuf], state: &Path) {
    for link in links(layers, state) {
        let _ = std::fs::remove_file(link);
    }
}

/// The links to a state directory in the stores that contain the layers, `STORE/layers/DIGEST/fs`.
fn links(layers: &[PathBuf], state: &Path) -> BTreeSet<PathBuf> {
    let name = Digest::of(state.as_os_str().as_bytes());
    let name = Path::new(name.hex()).with_extension(CONTAINER);
    let link = |layer: &PathBuf| {
        let mut above = layer.ancestors().skip(1);
        Digest::of_file_name(above.next()?.file_name()?.to_str()?)?;
        let kind = above.next()?.file_name()?.to_str()?;
        let bundles = above.next()?.join("bundles");
        // Another program may use such names.
        let is_store = ["layers", "joined", "patches"].contains(&kind) && bundles.is_dir();
        is_store.then(|| bundles.join(&name))
    };
    layers.iter().filter_map(link).collect()
}

/// Keeps the bundle of a deleted container for as long as `checkpoint` exists, because a restore needs it.
///
/// # Errors
///
/// If the link to `checkpoint` cannot be created.
pub fn keep(bundle: &Path, checkpoint: &Path) -> Result<()> {
    let link = bundle.join(CHECKPOINT);
    std::fs::remove_file(&link).if_exists().with_context(|| link.display().to_string())?;
    std::os::unix::fs::symlink(checkpoint, &link).with_context(|| link.display().to_string())
}

impl Reserved {
    /// Creates an empty directory for a container: unique, whatever its state root.
    ///
    /// # Errors
    ///
    /// If the directory cannot be created, or another brig holds the store's lock for too long.
    pub fn new(store: &Store, root: &Path, id: &str) -> Result<Reserved> {
        // Until it is locked, `gc` would treat it as unused.
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
                    // The first error is the one to report. The directory contains only the link.
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
        // Commands that list the store hold the lock for a moment.
        wait_for_lock(&lock, true, STORE_PATIENCE, || "is locked".into())?;
        // use.json contains it as well, but a link is created atomically.
        symlinkat(state, &lock, STATE).context("symlink")?;
        Ok(lock)
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Removes a container's bundle and all changes of the container, with the privileges that created it.
///
/// # Errors
///
/// If a file cannot be removed.
pub fn remove(bundle: &Path, user: Option<&UserNamespace>) -> Result<()> {
    let lock = match open(bundle, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        lock => lock.with_context(|| bundle.display().to_string())?,
    };
    // While it is locked, `gc` does not treat it as unused. If it is locked already, the owner is the brig
    // that has created it, which is this one, or `gc`, which removes it as well.
    fd::try_flock(lock.as_fd(), true)?;
    match user {
        None => tree::remove_path(bundle),
        Some(user) => {
            let remove = |_: &worker::Reporter| tree::remove_path(bundle).map(|()| Vec::new());
            worker::spawn(Some(user), remove)?.wait(|_| ()).map(drop)
        }
    }
}
