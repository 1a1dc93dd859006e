//! kill: sends a signal to a container's init.

use crate::cgroup;
use crate::process::signals;
use crate::state::{self, Dir, State};
use anyhow::{Context, Result, bail, ensure};
use std::os::fd::AsFd;
use std::path::Path;
use sys::{Errno, signal};

/// Sends `name` (TERM, SIGTERM, 15, RTMIN+3, …) to init, or to every process of the container.
///
/// # Errors
///
/// If the signal is unknown, or the container is not running, unless `all` is set.
pub fn kill(root: &Path, id: &str, name: &str, all: bool) -> Result<()> {
    send_signal(root, id, name, all).with_context(|| format!("kill {id}"))
}

fn send_signal(root: &Path, id: &str, name: &str, all: bool) -> Result<()> {
    let signal = signals::parse(name)?;
    let dir = Dir::open(root, id)?;
    let state = dir.existing()?;
    let sent = match signal {
        libc::SIGKILL => end(&state, all)?,
        _ if all => every_process(&state, signal)?,
        _ => init(&state, signal)?,
    };
    // containerd sends `kill --all` again after init has exited, and expects success.
    ensure!(sent || all && !state.creating, "container not running");
    Ok(())
}

/// Sends SIGKILL to init if the whole container ends with it, otherwise to each process, including those that
/// have outlived init. False if there is no process to send it to.
fn end(state: &State, all: bool) -> Result<bool> {
    let has_cgroup = !state.cgroup.dirs().is_empty();
    let sent = match has_cgroup && !state.creating && (all || !state.own_pids) {
        true => {
            let any = !state.cgroup.pids()?.is_empty();
            state.cgroup.kill()?;
            any
        }
        false => init(state, libc::SIGKILL)?,
    };
    if all && sent && !has_cgroup && !state.own_pids {
        bail!("{}: only its init is killed", state.unknown_processes());
    }
    // On cgroup v1 even killed processes stay frozen.
    state.cgroup.thaw_dying()?;
    Ok(sent)
}

/// Sends a signal to init; false if it has exited.
fn init(state: &State, signal: i32) -> Result<bool> {
    let Some(init) = state::open_init(state)? else { return Ok(false) };
    match signal::pidfd_send_signal(init.as_fd(), signal) {
        Err(error) if error.errno == Errno::ESRCH => Ok(false),
        sent => Ok(sent.map(|()| true)?),
    }
}

fn every_process(state: &State, signal: i32) -> Result<bool> {
    let pids = state.pids()?;
    cgroup::signal_each(&pids, signal, &|| state.pids())?;
    Ok(!pids.is_empty())
}
