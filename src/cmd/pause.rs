//! pause and resume: freeze a container, and let it go on.

use crate::deadline;
use crate::state::{Dir, State, Status};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::Instant;

/// Freezes all processes of a container, also of one that waits for start.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    change_freezer(root, id, |state, status| {
        // runc's words, also for one that is paused, and why they hold.
        ensure!(status != Status::Paused, "container not running: it is paused already");
        ensure!([Status::Running, Status::Created].contains(&status), "container not running");
        let frozen = state.cgroup.freeze(Instant::now() + deadline::FREEZE)?;
        ensure!(frozen, "container not running");
        Ok(())
    })
    .with_context(|| format!("pause {id}"))
}

/// Lets a paused container go on: one that was not started yet to wait for start.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    change_freezer(root, id, |state, status| {
        ensure!(status == Status::Paused, "container not paused");
        state.cgroup.thaw()
    })
    .with_context(|| format!("resume {id}"))
}

/// Without the lock: who holds it, start say, can be waiting for a container that is frozen.
fn change_freezer(
    root: &Path,
    id: &str,
    act: impl FnOnce(&State, Status) -> Result<()>,
) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let state = dir.existing()?;
    if state.cgroup.dirs().is_empty() {
        bail!("the container has no cgroup of its own, and nothing else can be frozen");
    }
    act(&state, dir.status(&state)?)
}
