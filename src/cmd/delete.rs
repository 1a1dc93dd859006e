//! delete: removes a container and everything that create made for it.

use crate::launch::destroy;
use crate::log::Log;
use crate::state::{Dir, HeldByAncestor, Lock, NotBrigs, NotFound, Record};
use anyhow::{Context, Result, bail};
use std::path::Path;
use sys::{Errno, describe, errno_of};

/// Deletes a stopped or created container; with `force` also a running one, and a missing one is not an
/// error.
///
/// # Errors
///
/// If the container is running and `force` is not set, its record cannot be read, or a process or cgroup
/// cannot be removed.
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
            bail!("its creation was interrupted: use --force to remove what is left of it")
        }
        Some(Record::Whole(state)) => destroy::destroy(dir, &state, force, log),
        Some(Record::Partial(_, error)) if error.is::<NotBrigs>() => Err(error),
        // Without its record, the rest of the container could not be found again; a later attempt may be able
        // to read it.
        Some(Record::Partial(_, error)) if could_not_be_read(&error) => Err(error),
        // What the record names is removed; there may be more.
        Some(Record::Partial(state, error)) if force => {
            log.warn(&format!(
                "{}: only what the readable part of its record names is removed",
                describe(&error)
            ));
            destroy::destroy(dir, &state, force, log)
        }
        Some(Record::Partial(_, error)) => {
            Err(error.context("use --force to remove what is left of it"))
        }
        None if force => destroy::discard(dir),
        None => Err(NotFound.into()),
    }
}

/// Whether the record could not be read although it may be intact, as opposed to one that is damaged or not a
/// regular file (ELOOP: a symbolic link; ENXIO: a socket).
fn could_not_be_read(error: &anyhow::Error) -> bool {
    errno_of(error).is_some_and(|errno| ![Errno::ELOOP, Errno::ENXIO].contains(&errno))
}

/// A child that was frozen in its cgroup right after its clone holds a copy of the lock of its parent, which
/// may be dead. After the usual wait, force kills it like any running process.
fn lock(dir: &Dir, force: bool) -> Result<Lock> {
    let refused = match dir.lock() {
        Err(error) if force && !error.is::<NotFound>() && !error.is::<HeldByAncestor>() => error,
        lock => return lock,
    };
    match dir.record()? {
        Some(Record::Whole(state)) if state.creating && state.cgroup.is_own() => {
            state.cgroup.kill()?;
            dir.lock()
        }
        // Another brig waits for its execve, and it is paused, for example.
        Some(Record::Whole(state)) if !state.creating => {
            destroy::kill_init(&state)?;
            dir.lock()
        }
        _ => Err(refused),
    }
}
