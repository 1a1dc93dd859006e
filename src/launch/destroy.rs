//! The end of a container: everything that create made, and nothing else, is removed.

use super::foreground::readable;
use crate::cgroup;
use crate::deadline;
use crate::hooks;
use crate::image::container;
use crate::log::Log;
use crate::rdt::Rdt;
use crate::state::{self, Dir, State, Status};
use crate::sys::{Errno, describe, signal};
use anyhow::{Result, anyhow, bail, ensure};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::Instant;

/// Removes what a half-made container has left, of which not even a state was written.
pub fn discard(dir: Dir) -> Result<()> {
    dir.remove()
}

/// Removes a container whose lock the caller holds. `force`: even a running one.
pub fn destroy(dir: Dir, state: &State, force: bool, log: &mut Log) -> Result<()> {
    // With the lock held nobody creates it any more: half-made is dead.
    let status = if state.creating { Status::Stopped } else { dir.status(state)? };
    match status {
        Status::Stopped => {}
        // As runc: what never ran loses nothing.
        Status::Created => kill_init(state)?,
        _ if force => kill_init(state)?,
        status => bail!("cannot delete container {} that is not stopped: {status}", state.id),
    }
    if state.creating {
        kill_init(state)?;
    }
    // Whatever is not in a pid namespace of init's own has outlived it, and so may have an init whose
    // pid was not saved. Half-made, a cgroup that was there before may be full of others' processes.
    let alone = state.creating || !state.own_pids;
    if alone && (!state.creating || state.cgroup.is_own()) {
        state.cgroup.kill()?;
    }
    state.cgroup.remove(Instant::now() + deadline::CGROUP)?;
    state.rdt.as_ref().map_or(Ok(()), Rdt::remove)?;
    if state.own_bundle {
        ensure_in_store(state)?;
        container::discard(&state.bundle)?;
    }
    dir.remove()?;
    poststop(state, log);
    Ok(())
}

/// A bundle that goes with its container has been made for it, in a store.
fn ensure_in_store(state: &State) -> Result<()> {
    let name = state.bundle.file_name().and_then(OsStr::to_str);
    let number = name.and_then(|name| name.strip_prefix(&format!("{}-", state.id)));
    let own = number.is_some_and(|number| number.parse::<u32>().is_ok())
        && state.bundle.parent().is_some_and(|parent| parent.ends_with("containers"));
    ensure!(own, "bundle {} is not in a store: it is not removed", state.bundle.display());
    Ok(())
}

/// Destroys what cannot go on because of `error`, which stays the error to show.
pub fn because(error: anyhow::Error, dir: Dir, state: &State, log: &mut Log) -> anyhow::Error {
    match destroy(dir, state, true, log) {
        Ok(()) => error,
        Err(also) => {
            let (error, also) = (describe(&error), describe(&also));
            anyhow!("{error}; and the container cannot be deleted: {also}")
        }
    }
}

/// Runs the poststop hooks of a container that is no more. runtime.md, Lifecycle, 13: one that fails
/// is a warning, the others still run.
pub fn poststop(state: &State, log: &mut Log) {
    let stopped = state.for_hooks(Status::Stopped, 0);
    for hook in &state.poststop {
        if let Err(error) = hooks::run_later(std::slice::from_ref(hook), &stopped) {
            log.warn(&describe(&error));
        }
    }
}

/// Kills init and waits until it is dead. With it, before it, die all of its pid namespace, each of
/// which somebody can have frozen, in a v1 cgroup.
fn kill_init(state: &State) -> Result<()> {
    let Some(init) = state::open_init(state)? else { return Ok(()) };
    match signal::pidfd_send_signal(init.as_fd(), libc::SIGKILL) {
        Err(error) if error.errno == Errno::ESRCH => return Ok(()),
        sent => sent?,
    }
    let end = Instant::now() + deadline::KILL;
    while !readable(init.as_fd(), end.min(Instant::now() + deadline::KILL_AGAIN))? {
        state.cgroup.thaw_dying()?;
        if Instant::now() >= end {
            return Err(undead(state));
        }
    }
    Ok(())
}

/// What has not died of SIGKILL, and why.
fn undead(state: &State) -> anyhow::Error {
    let (id, seconds) = (&state.id, deadline::KILL.as_secs());
    let frozen = state.cgroup.frozen().ok().flatten();
    let why = match frozen {
        Some(path) => format!(": cgroup {}, or one above it, is frozen", path.display()),
        None => String::new(),
    };
    let mut pids = state.cgroup.pids().unwrap_or_default();
    if pids.is_empty() {
        pids.push(state.pid);
    }
    let processes: Vec<String> = pids.into_iter().map(cgroup::describe).collect();
    let processes = processes.join(", ");
    anyhow!("container {id} has not died {seconds} s after SIGKILL{why}: {processes}")
}
