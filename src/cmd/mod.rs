//! One verb a file: each takes what [`crate::cli`] read and gives brig's exit code.

pub mod bundle;
pub mod command;
pub mod commit;
pub mod create;
mod delete;
mod diff;
pub mod events;
mod exec;
mod features;
mod image;
mod images;
pub mod kill;
mod list;
pub mod mounts;
mod pattern;
mod pause;
mod ps;
pub mod spec;
mod start;
mod state;
pub mod stats;
mod table;
pub mod update;

use crate::log::Log;
use crate::state::NotFound;
use anyhow::{Context, Result, ensure};
use command::{Command, Globals};
use pattern::Pattern;
use std::path::Path;
use sys::describe;

/// What brig exits with when a command fails: exec's own failures must not look like its process's.
pub fn failure_code(command: &Command) -> i32 {
    if let Command::Exec(_) = command { 255 } else { 1 }
}

/// Runs a command.
pub fn run(globals: &Globals, command: Command, log: &mut Log) -> Result<i32> {
    let (root, store) = (&globals.root, globals.store.as_deref());
    match command {
        Command::Create(options, from) => create::create(&options, from.as_ref(), log),
        Command::Run(options, from, run_options) => {
            return create::run(&options, from.as_ref(), &run_options, log);
        }
        Command::Exec(options) => return exec::exec(&options, log),
        Command::Start { id } => start::start(root, &id, log),
        Command::State { id } => state::state(root, &id),
        Command::Kill { id, regex, signal, all } => {
            each(root, &id, regex, |id| kill::kill(root, id, &signal, all))
        }
        Command::Mounts(options) => mounts::mounts(root, &options, log),
        Command::Pause { id } => pause::pause(root, &id),
        Command::Resume { id } => pause::resume(root, &id),
        Command::Ps { id, format, options } => ps::ps(root, &id, format, &options),
        Command::Delete { id, regex, force } => {
            each(root, &id, regex, |id| delete::delete(root, id, force, log))
        }
        Command::List { format, quiet } => list::list(root, format, quiet, log),
        Command::Spec { bundle, file, rootless } => spec::spec(&bundle, file.as_deref(), rootless),
        Command::Events(options) => events::events(root, &options),
        Command::Stats(options) => stats::stats(root, &options, log),
        Command::Bundle(options) => bundle::bundle(store, &options, log),
        Command::Update(options) => update::update(root, &options, log),
        Command::Diff { id, format } => diff::diff(root, &id, format),
        Command::Commit(options) => commit::commit(root, store, &options, log),
        Command::Export { id, output } => commit::export(root, &id, output.as_ref(), log),
        Command::Images { format } => images::images(store, format),
        Command::Inspect { image } => image::inspect(store, &image),
        Command::Rmi { images } => image::remove(store, &images),
        Command::Tag { image, name } => image::tag(store, &image, &name),
        Command::Layers { format } => images::layers(store, format),
        Command::Gc { all, dry_run } => images::gc(store, all, dry_run),
        Command::Features => features::features(),
    }
    .map(|()| 0)
}

/// Does something to the container of this id, or to all whose ids it matches as a regular expression:
/// also after one of them has failed.
fn each(root: &Path, id: &str, regex: bool, mut act: impl FnMut(&str) -> Result<()>) -> Result<()> {
    if !regex {
        return act(id);
    }
    let pattern = Pattern::parse(id).with_context(|| format!("--regex {id:?}"))?;
    let mut failed = Vec::new();
    for id in list::ids(root)?.iter().filter(|id| pattern.matches(id)) {
        match act(id) {
            // Gone meanwhile.
            Err(error) if error.is::<NotFound>() => {}
            done => failed.extend(done.err().map(|error| describe(&error))),
        }
    }
    ensure!(failed.is_empty(), failed.join("; "));
    Ok(())
}
