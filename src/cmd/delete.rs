//! delete: removes a container and all that create made for it.

use crate::launch::destroy;
use crate::log::Log;
use crate::state::{Dir, Lock, NotBrigs, NotFound, Record};
use anyhow::{Context, Result, bail};
use std::path::Path;
use sys::{Errno, describe, errno_of};

/// Deletes a stopped or created container; with `force` any, and none is no error.
pub fn delete(root: &Path, id: &str, force: bool, log: &mut Log) -> Result<()> {
    match delete_existing(root, id, force, log) {
        Err(error) if force && error.is::<NotFound>() => Ok(()),
        done => done.with_context(|| format!("delete {id}")),
    }
}

fn delete_existing(root: &Path, id: &str, force: bool, log: &mut Log) -> Result<()> {
    let dir = Dir::open(root, id)?;
    dir.ensure_own()?;
    let _lock = lock(&dir, force)?;
    match dir.record()? {
        Some(Record::Whole(state)) if state.creating && !force => {
            bail!("its creation was interrupted: add --force to remove what is left of it")
        }
        Some(Record::Whole(state)) => destroy::destroy(dir, &state, force, log),
        Some(Record::Partial(_, error)) if error.is::<NotBrigs>() => Err(error),
        // Without its record the rest of it could not be found again: a later attempt may read it.
        Some(Record::Partial(_, error)) if could_not_be_read(&error) => Err(error),
        // What it tells of goes; there may be more.
        Some(Record::Partial(state, error)) if force => {
            log.warn(&format!("{}: only what this tells of is removed", describe(&error)));
            destroy::destroy(dir, &state, force, log)
        }
        Some(Record::Partial(_, error)) => {
            Err(error.context("add --force to remove what is left of it"))
        }
        None if force => destroy::discard(dir),
        None => Err(NotFound.into()),
    }
}

/// The system refused to read the record, which may be sound, as opposed to a record that is damaged or not a regular
/// file (ELOOP: a link; ENXIO: a socket).
fn could_not_be_read(error: &anyhow::Error) -> bool {
    errno_of(error).is_some_and(|errno| ![Errno::ELOOP, Errno::ENXIO].contains(&errno))
}

/// A child that was frozen at its birth, in its cgroup, holds a copy of the lock of its parent, which may be dead.
/// After the usual wait, force ends it, as it ends what runs.
fn lock(dir: &Dir, force: bool) -> Result<Lock> {
    let refused = match dir.lock() {
        Err(error) if force && !error.is::<NotFound>() => error,
        lock => return lock,
    };
    match dir.record()? {
        Some(Record::Whole(state)) if state.creating && state.cgroup.is_own() => {
            state.cgroup.kill()?;
            dir.lock()
        }
        // Somebody waits for its execve, and it is paused, say.
        Some(Record::Whole(state)) if !state.creating => {
            destroy::kill_init(&state)?;
            dir.lock()
        }
        _ => Err(refused),
    }
}
