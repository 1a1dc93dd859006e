//! delete: removes a container and all that create made for it.

use crate::launch::destroy;
use crate::log::Log;
use crate::state::{Dir, NotFound};
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
    let _lock = dir.lock()?;
    match dir.load()? {
        Some(state) if state.creating && !force => {
            bail!("its creation was interrupted: add --force to remove what is left of it")
        }
        Some(state) => destroy::destroy(dir, &state, force, log),
        None if force => destroy::discard(dir),
        None => Err(NotFound.into()),
    }
}
