//! start: releases a created container, which then executes its program.

use crate::launch::foreground::notify::{Forwarder, Manager};
use crate::launch::gate::Outcome;
use crate::launch::{destroy, start};
use crate::log::Log;
use crate::state::{self, Dir, Status};
use anyhow::{Context, Result, bail};
use std::os::fd::AsFd;
use std::path::Path;
use sys::describe;

/// Starts a created container. On return its program has been executed.
pub fn start(root: &Path, id: &str, log: &mut Log) -> Result<()> {
    start_created(root, id, log).with_context(|| format!("start {id}"))
}

fn start_created(root: &Path, id: &str, log: &mut Log) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let lock = dir.lock()?;
    let state = dir.existing()?;
    if state.creating {
        bail!(
            "its creation was interrupted: `brig delete --force {id}` removes what is left of it"
        );
    }
    match dir.status(&state)? {
        Status::Created => {}
        Status::Stopped => bail!("cannot start a container that has stopped"),
        Status::Paused => bail!("cannot start a container in the paused state"),
        _ => bail!("cannot start an already running container"),
    }
    let forwarder = Forwarder::open(&dir, Manager::of_environment()?)?;
    let init = forwarder.is_some().then(|| state::open_init(&state)).transpose()?.flatten();
    log.phase("look at the container");
    if let Outcome::HookFailed(error) = start::start(&dir, &state, Some(lock), log)? {
        return Err(destroy::unlocked_because(error, dir, &state, log));
    }
    if let (Some(forwarder), Some(init)) = (forwarder, init)
        && let Err(error) = forwarder.until_ready(init.as_fd(), state.pid)
    {
        log.warn(&describe(&error));
    }
    Ok(())
}
