//! delete: removes a container and all that create made for it.

use crate::launch::destroy;
use crate::log::Log;
use crate::state::{Dir, Lock, NotFound};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Deletes a stopped or created container; with `force` any, and none is no error.
pub fn delete(root: &Path, id: &str, force: bool, log: &mut Log) -> Result<()> {
    match go(root, id, force, log) {
        Err(error) if force && error.is::<NotFound>() => Ok(()),
        done => done.with_context(|| format!("delete {id}")),
    }
}

fn go(root: &Path, id: &str, force: bool, log: &mut Log) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let _lock = lock(&dir, force)?;
    match dir.load()? {
        Some(state) if state.creating && !force => {
            bail!("its creation was interrupted: add --force to remove what is left of it")
        }
        Some(state) => destroy::destroy(dir, &state, force, log),
        None if force => destroy::discard(dir),
        None => Err(NotFound.into()),
    }
}

/// A child that was frozen at its birth, in its cgroup, holds a copy of the lock of its parent, which may be dead.
/// After the usual wait, force ends it, as it ends what runs.
fn lock(dir: &Dir, force: bool) -> Result<Lock> {
    let refused = match dir.lock() {
        Err(error) if force && !error.is::<NotFound>() => error,
        lock => return lock,
    };
    match dir.load()? {
        Some(state) if state.creating && state.cgroup.is_own() => {
            state.cgroup.kill()?;
            dir.lock()
        }
        _ => Err(refused),
    }
}
