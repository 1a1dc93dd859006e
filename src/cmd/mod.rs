//! One file per command: each takes what [`crate::cli`] parsed and returns the exit code.

mod checkpoint;
pub mod command;
pub mod create;
mod delete;
pub mod events;
mod exec;
mod features;
#[cfg_attr(not(feature = "images"), path = "without_images.rs")]
pub mod images;
pub mod kill;
mod list;
pub mod mounts;
mod pattern;
mod pause;
mod ps;
mod restore;
pub mod spec;
mod start;
mod state;
pub mod stats;
mod table;
pub mod update;

use crate::log::Log;
use crate::state::{self as states, NotFound};
use anyhow::{Context, Result, ensure};
use command::{Command, Globals};
use pattern::Pattern;
use std::path::Path;
use sys::describe;

/// The exit code of a command that fails: a failure of exec itself must not look like one of its process.
pub fn failure_code(command: &Command) -> i32 {
    if let Command::Exec(_) = command { 255 } else { 1 }
}

/// Runs a command.
pub fn run(globals: &Globals, command: Command, log: &mut Log) -> Result<i32> {
    let (root, store) = (&globals.root, globals.store.as_deref());
    match command {
        Command::Create(options, from) => apart(|| create::create(&options, from.as_ref(), log)),
        Command::Run(options, from, run_options) => {
            return apart(|| create::run(&options, from.as_ref(), &run_options, log));
        }
        Command::Checkpoint(options) => apart(|| checkpoint::checkpoint(&options, log)),
        Command::Restore(options, how) => return apart(|| restore::restore(&options, &how, log)),
        Command::Exec(options) => return apart(|| exec::exec(&options, log)),
        Command::Start { id } => apart(|| start::start(root, &id, log)),
        Command::State { id } => apart(|| state::state(root, &id)),
        Command::Kill { id, regex, signal, all } => {
            apart(|| each(root, &id, regex, |id| kill::kill(root, id, &signal, all)))
        }
        Command::Mounts(options) => apart(|| mounts::mounts(root, &options, log)),
        Command::Pause { id } => apart(|| pause::pause(root, &id)),
        Command::Resume { id } => apart(|| pause::resume(root, &id)),
        Command::Ps { id, format, options } => apart(|| ps::ps(root, &id, format, &options)),
        Command::Delete { id, regex, force } => {
            apart(|| each(root, &id, regex, |id| delete::delete(root, id, force, log)))
        }
        Command::List { format, quiet } => apart(|| list::list(root, format, quiet, log)),
        Command::Spec { bundle, file, rootless } => {
            apart(|| spec::spec(&bundle, file.as_deref(), rootless))
        }
        Command::Events(options) => apart(|| events::events(root, &options)),
        Command::Stats(options) => apart(|| stats::stats(root, &options, log)),
        Command::Update(options) => apart(|| update::update(root, &options, log)),
        Command::Image(command) => apart(|| images::run(root, store, &command, log)),
        Command::Features => apart(features::features),
    }
    .map(|()| 0)
}

/// Calls a command in a stack frame of its own. Otherwise all of them would share the frame of [`run`], 78 KB
/// whose pages every command would touch.
#[inline(never)]
fn apart<T>(verb: impl FnOnce() -> T) -> T {
    verb()
}

/// Applies an operation to the container with this id, or to all whose ids match it as a regular expression;
/// continues after a failure.
fn each(root: &Path, id: &str, regex: bool, mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
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
