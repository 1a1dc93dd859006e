//! start: lets a created container execute its program.

use crate::launch::gate::Outcome;
use crate::launch::{destroy, start};
use crate::log::Log;
use crate::state::{Dir, NotFound, Status};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// Starts a created container. When this returns its program has been executed.
pub fn start(root: &Path, id: &str, log: &mut Log) -> Result<()> {
    go(root, id, log).with_context(|| format!("start {id}"))
}

fn go(root: &Path, id: &str, log: &mut Log) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let _lock = dir.lock()?;
    let state = dir.load()?.ok_or_else(|| anyhow!(NotFound))?;
    if state.creating {
        bail!(
            "its creation was interrupted: `brig delete --force {id}` removes what is left of it"
        );
    }
    match dir.status(&state)? {
        Status::Created => match start::start(&dir, &state)? {
            Outcome::Executed => Ok(()),
            Outcome::HookFailed(error) => Err(destroy::because(error, dir, &state, log)),
        },
        Status::Stopped => bail!("cannot start a container that has stopped"),
        _ => bail!("cannot start an already running container"),
    }
}
