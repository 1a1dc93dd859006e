//! pause and resume: freeze and thaw a container.

use crate::deadline;
use crate::state::{Dir, State, Status};
use anyhow::{Context, Result, bail, ensure};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;
use sys::fd;

/// Freezes all processes of a container, also of one that waits for start.
///
/// # Errors
///
/// If the container is neither running nor created, or a process cannot be frozen in time.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    change_freezer(root, id, |state, status| {
        // runc's words, also for a paused container, followed by the reason.
        ensure!(status != Status::Paused, "container not running: it is paused already");
        ensure!([Status::Running, Status::Created].contains(&status), "container not running");
        let frozen = state.cgroup.freeze(Instant::now() + deadline::FREEZE)?;
        ensure!(frozen, "container not running");
        Ok(())
    })
    .with_context(|| format!("pause {id}"))
}

/// Resumes a paused container: one that was not started yet goes on waiting for start.
///
/// # Errors
///
/// If the container is not paused.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    change_freezer(root, id, |state, status| {
        ensure!(status == Status::Paused, "container not paused");
        state.cgroup.thaw()
    })
    .with_context(|| format!("resume {id}"))
}

/// Without the lock: its holder, start for example, may be waiting for the frozen container.
fn change_freezer(
    root: &Path,
    id: &str,
    act: impl FnOnce(&State, Status) -> Result<()>,
) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let (state, _) = dir.look()?;
    // A commit freezes the container, and thaws it in the end whoever has paused it meanwhile. Without this
    // file, there is none.
    let config = dir.open_file("config.json").ok();
    if let Some(config) = &config {
        ensure!(fd::try_flock(config.as_fd(), false)?, "a commit keeps the container paused");
    }
    if state.cgroup.dirs().is_empty() {
        bail!("the container has no cgroup of its own, so it cannot be paused or resumed");
    }
    act(&state, dir.status(&state)?)
}
