//! One file per command: each takes what [`crate::cli`] parsed and returns the exit code.

pub mod checkpoint;
pub mod command;
pub mod create;
pub mod delete;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod features;
#[cfg_attr(not(feature = "images"), path = "without_images.rs")]
pub mod images;
pub mod inspect;
pub mod kill;
pub mod lint;
pub mod list;
pub mod mounts;
mod pattern;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod seccomp;
pub mod spec;
pub mod start;
pub mod state;
pub mod stats;
mod table;
pub mod update;
pub mod wait;

use crate::state::{self as states, NotFound};
use anyhow::{Context, Result, ensure};
use command::Command;
use pattern::Pattern;
use std::path::Path;
use sys::describe;

/// The exit code of a command that fails: a failure of exec itself must not look like one of its process.
pub fn failure_code(command: &Command) -> i32 {
    match command {
        Command::Seccomp(_) => 2,
        Command::Exec(_) => 255,
        Command::Lint(_) | Command::Doctor(_) | Command::Inspect(_) => 2,
        _ => 1,
    }
}

/// Calls a command in a stack frame of its own. Otherwise all of them would share one frame of 78 KB,
/// whose pages every command would touch.
#[inline(never)]
pub fn apart<T>(verb: impl FnOnce() -> T) -> T {
    verb()
}

/// Applies an operation to the container with this id, or to all whose ids match it as a regular expression;
/// continues after a failure.
pub fn each(
    root: &Path,
    id: &str,
    regex: bool,
    mut act: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    if !regex {
        return act(id);
    }
    let pattern = Pattern::parse(id).with_context(|| format!("--regex {id:?}"))?;
    let mut failed = Vec::new();
    for id in states::ids(root)?.iter().filter(|id| pattern.matches(id)) {
        match act(id) {
            // Deleted in the meantime.
            Err(error) if error.is::<NotFound>() => {}
            done => failed.extend(done.err().map(|error| describe(&error))),
        }
    }
    ensure!(failed.is_empty(), failed.join("; "));
    Ok(())
}
