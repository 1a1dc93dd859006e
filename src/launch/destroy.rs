//! The end of a container: removes everything that create made, and nothing else.

use super::prepare::claims;
use super::{account, own_bundle};
use crate::cgroup;
use crate::deadline;
use crate::hooks;
use crate::log::Log;
use crate::rdt::Rdt;
use crate::state::{self, Dir, NotFound, State, Status};
use anyhow::{Result, anyhow, bail, ensure};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use sys::poll::readable;
use sys::{Errno, describe, signal};

/// Removes what is left of a container whose creation was interrupted before its state was written.
pub fn discard(dir: Dir) -> Result<()> {
    dir.remove()
}

/// Removes a container whose lock the caller holds. `force`: even a running one.
///
/// # Errors
///
/// If the container is running and `force` is not set, or a process or cgroup cannot be removed.
pub fn destroy(dir: Dir, state: &State, force: bool, log: &mut Log) -> Result<()> {
    claims::ensure_none_below(&dir, state)?;
    let companions = companions(state)?;
    // No process creates it any more, because this one holds the lock: an unfinished container is dead.
    let status = if state.creating { Status::Stopped } else { dir.status(state)? };
    match status {
        Status::Stopped => {}
        // As in runc: a container that never ran has nothing to lose.
        Status::Created => kill_init(state)?,
        _ if force => kill_init(state)?,
        status => bail!("cannot delete container {} that is not stopped: {status}", state.id),
    }
    if state.creating {
        kill_init(state)?;
    }
    kill_rest(state, &companions)?;
    log.phase("end of the processes");
    state.cgroup.remove(Instant::now() + deadline::CGROUP)?;
    state.rdt.as_ref().map_or(Ok(()), Rdt::remove)?;
    if state.own_bundle {
        ensure_in_store(state)?;
        own_bundle::remove(&state.bundle)?;
    }
    own_bundle::release_layers(state, &dir.path);
    dir.remove()?;
    account::removed(state, log);
    poststop(state, log);
    Ok(())
}

/// A bundle that is deleted with its container was made for it, in a store.
fn ensure_in_store(state: &State) -> Result<()> {
    let name = state.bundle.file_name().and_then(OsStr::to_str);
    let number = name.and_then(|name| name.strip_prefix(&format!("{}-", state.id)));
    let own = number.is_some_and(|number| number.parse::<u32>().is_ok())
        && state.bundle.parent().is_some_and(|parent| parent.ends_with("containers"));
    ensure!(own, "bundle {} is not in a layer store: not removed", state.bundle.display());
    Ok(())
}

/// Destroys a container that cannot go on because of `error`, which remains the error to show.
pub fn because(error: anyhow::Error, dir: Dir, state: &State, log: &mut Log) -> anyhow::Error {
    match destroy(dir, state, true, log) {
        Ok(()) => error,
        Err(also) => both(&error, &also),
    }
}

/// The same, for a container whose lock the caller has released.
pub fn unlocked_because(
    error: anyhow::Error,
    dir: Dir,
    state: &State,
    log: &mut Log,
) -> anyhow::Error {
    match dir.lock() {
        Ok(_lock) => because(error, dir, state, log),
        // Another brig has deleted it.
        Err(also) if also.is::<NotFound>() => error,
        Err(also) => both(&error, &also),
    }
}

/// Removes a container whose init brig has waited for. Its exit code is not lost if that fails because another
/// brig holds the lock.
pub fn at_the_end(dir: Dir, state: &State, log: &mut Log) -> Result<()> {
    match dir.lock_if_exists() {
        Ok(Some(_lock)) => destroy(dir, state, true, log),
        Ok(None) => Ok(()),
        Err(error) => {
            log.warn(&format!("the stopped container is not deleted: {}", describe(&error)));
            Ok(())
        }
    }
}

fn both(error: &anyhow::Error, also: &anyhow::Error) -> anyhow::Error {
    let (error, also) = (describe(error), describe(also));
    anyhow!("{error}; and the container cannot be deleted: {also}")
}

/// Runs the poststop hooks of a deleted container. runtime.md, Lifecycle, 13: a failing one is a warning, and
/// the others still run.
pub fn poststop(state: &State, log: &mut Log) {
    let stopped = state.for_hooks(Status::Stopped, 0);
    for hook in &state.poststop {
        if let Err(error) = hooks::run_later(std::slice::from_ref(hook), &stopped) {
            log.warn(&describe(&error));
        }
        log.phase("poststop hook");
    }
}

/// Kills the processes that have outlived init: those outside init's pid namespace, or all if init's pid was
/// not saved or cannot be trusted. A cgroup that was made for the container contains only its processes.
fn kill_rest(state: &State, companions: &[i32]) -> Result<()> {
    match state.cgroup.is_own() {
        true if state.cgroup.is_none() || state.cgroup.removed_if_empty() => Ok(()),
        true if state.cgroup.pids()?.is_empty() => Ok(()),
        true => state.cgroup.kill(),
        false => {
            let still = || state.cgroup.pids();
            cgroup::signal_each(companions, libc::SIGKILL, &still)?;
            state.cgroup.thaw_dying()?;
            wait_for(companions, state)
        }
    }
}

/// Waits until killed processes have left the cgroup, which the next container may use.
fn wait_for(killed: &[i32], state: &State) -> Result<()> {
    let end = Instant::now() + deadline::KILL;
    let left = || -> Result<Vec<i32>> {
        let mut pids = state.cgroup.pids()?;
        pids.retain(|pid| killed.contains(pid) && !cgroup::is_zombie(*pid));
        Ok(pids)
    };
    while !killed.is_empty() && !left()?.is_empty() {
        if Instant::now() >= end {
            return Err(describe_survivors(state));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// For a cgroup that existed before and may contain other processes: only processes known to be the
/// container's are killed, i.e. those in its mount namespace. While init lives that is init's namespace;
/// after its death, any except brig's own.
fn companions(state: &State) -> Result<Vec<i32>> {
    let half_made = state.creating || state.pid == 0;
    if state.cgroup.is_own() || half_made || !state.has_namespace(libc::CLONE_NEWNS) {
        return Ok(Vec::new());
    }
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = match state::open_init(state)? {
        Some(_) => namespace(&state.pid.to_string()),
        None => None,
    };
    let brigs = namespace("self");
    let mut pids = state.cgroup.pids()?;
    pids.retain(|pid| match (namespace(&pid.to_string()), &own) {
        (None, _) => false,
        (theirs, Some(_)) => theirs == own,
        (theirs, None) => theirs != brigs,
    });
    Ok(pids)
}

/// Kills init and waits until it has exited. The processes of its pid namespace die before it, and each of
/// them may have been frozen in a v1 cgroup.
///
/// # Errors
///
/// If a process survives SIGKILL until the deadline; the error says where it is blocked.
pub fn kill_init(state: &State) -> Result<()> {
    let Some(init) = state::open_init(state)? else { return Ok(()) };
    match signal::pidfd_send_signal(init.as_fd(), libc::SIGKILL) {
        Err(error) if error.errno == Errno::ESRCH => return Ok(()),
        sent => sent?,
    }
    let end = Instant::now() + deadline::KILL;
    while !readable(init.as_fd(), end.min(Instant::now() + deadline::KILL_AGAIN))? {
        state.cgroup.thaw_dying()?;
        // Including those that were moved out of all of its cgroups.
        let theirs = if state.own_pids { state.in_pid_namespace()? } else { vec![state.pid] };
        theirs.into_iter().try_for_each(|pid| state.cgroup.move_to_own_cgroup(pid))?;
        if Instant::now() >= end {
            return Err(describe_survivors(state));
        }
    }
    Ok(())
}

/// The processes that survived SIGKILL, and why.
fn describe_survivors(state: &State) -> anyhow::Error {
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
