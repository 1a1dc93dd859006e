//! The parent's side of start: releases the child, then runs the poststart hooks.

use super::gate::{self, Outcome};
use crate::hooks;
use crate::log::Log;
use crate::state::{Dir, Lock, State, Status};
use anyhow::Result;

/// Starts a created container. After [`Outcome::HookFailed`] the caller must stop and delete it (runtime.md,
/// Lifecycle, 7 and 9). An error, e.g. a program that cannot be executed, leaves a stopped container, as in
/// runc.
///
/// Its lock is released once it runs: a poststart hook may update or delete it, as in runc.
pub fn start(dir: &Dir, state: &State, lock: Option<Lock>, log: &mut Log) -> Result<Outcome> {
    let outcome = gate::release(dir, state)?;
    drop(lock);
    log.phase("startContainer hooks and execve");
    if let Outcome::HookFailed(_) = outcome {
        return Ok(outcome);
    }
    let running = state.for_hooks(Status::Running, state.pid);
    let hooks = hooks::run_later(&state.poststart, &running);
    if !state.poststart.is_empty() {
        log.phase("poststart hooks");
    }
    Ok(hooks.map_or_else(Outcome::HookFailed, |()| Outcome::Executed))
}
