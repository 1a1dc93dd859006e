//! Arguments become values; no logic.
//!
//! Only the command that is called is described to clap: describing all of them costs every call
//! twice the page faults. All are described for help and for errors.

mod describe;
mod read;
#[cfg(test)]
mod tests;

use crate::cmd::create::How;
use crate::cmd::{bundle, commit, events, stats, update};
use crate::launch::exec;
use crate::launch::parent::{Driver, Options};
use crate::log::{Format, Level};
use clap::Arg;
use describe::{COMMANDS, GLOBAL_VALUES, brig, subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// What stands before the command.
#[derive(Debug)]
pub struct Globals {
    /// Where states are kept.
    pub root: PathBuf,
    /// The log.
    pub log: Option<PathBuf>,
    /// How it is written.
    pub log_format: Format,
    /// How much is said.
    pub log_level: Level,
    /// Who makes the cgroups of a new container; of one that is there its state says it.
    pub driver: Driver,
    /// Where layers are kept, if it is said.
    pub store: Option<PathBuf>,
}

/// What to do.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Command {
    Create(Options),
    Run(Options, How),
    Start { id: String },
    State { id: String },
    Exec(exec::Options),
    Kill { id: String, signal: String, all: bool },
    Pause { id: String },
    Resume { id: String },
    Ps { id: String, format: ListFormat, options: Vec<String> },
    Delete { id: String, force: bool },
    List { format: ListFormat, quiet: bool },
    Spec { bundle: PathBuf, rootless: bool },
    Events(events::Options),
    Stats(stats::Options),
    Bundle(bundle::Options),
    Update(update::Options),
    Features,
    Diff { id: String, format: ListFormat },
    Commit(commit::Options),
    Export { id: String, output: Option<PathBuf> },
    Images { format: ListFormat },
    Layers { format: ListFormat },
    Gc { all: bool, dry_run: bool },
}

/// How `list` and `ps` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Either something to do, or text to print and an exit code.
#[derive(Debug)]
pub enum Parsed {
    /// Do this.
    Run(Globals, Box<Command>),
    /// Help or version: to stdout.
    Say(String),
    /// The arguments are wrong. The globals, as far as they are known, say where the log is.
    Wrong(Option<Globals>, String),
}

/// Reads the arguments, the program's name first.
pub fn parse(args: Vec<OsString>) -> Parsed {
    let called = called(&args);
    let asks_version = |arg: &OsString| arg == "--version" || arg == "-v";
    if called.is_none() && args.iter().any(asks_version) {
        return Parsed::Say(version());
    }
    let mut brig = brig();
    for &name in COMMANDS {
        if called.as_deref().is_none_or(|called| called == name) {
            brig = brig.subcommand(subcommand(name));
        }
    }
    if let Some(unknown) = called.filter(|called| !COMMANDS.contains(&called.as_str())) {
        return Parsed::Wrong(None, format!("unknown command {unknown:?}: see brig --help"));
    }
    let args = double_dashes(args, &brig);
    match brig.try_get_matches_from(args) {
        Ok(matches) => read::read(&matches),
        Err(error) if error.use_stderr() => Parsed::Wrong(None, message(&error)),
        Err(error) => Parsed::Say(error.to_string()),
    }
}

/// clap's first paragraph, without its "error: ".
fn message(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or(&text);
    text.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The first argument that is neither a flag nor the value of one.
fn called(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        let arg = arg.to_string_lossy();
        if GLOBAL_VALUES.contains(&arg.as_ref()) {
            args.next();
        } else if !arg.starts_with('-') {
            return (arg != "help").then(|| arg.into_owned());
        }
    }
    None
}

/// Go's flags may have one dash (containerd's `-no-subreaper`): `-word` becomes `--word` where that
/// is a flag. What exec is to execute and what ps is told are left alone.
fn double_dashes(mut args: Vec<OsString>, brig: &clap::Command) -> Vec<OsString> {
    let mut command = brig;
    let mut i = 1;
    while let Some(arg) = args.get(i).map(|arg| arg.to_string_lossy().into_owned()) {
        i += 1;
        if arg == "--" {
            break;
        }
        let name = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        if !arg.starts_with('-') {
            match command.find_subcommand(&arg) {
                Some(called) => command = called,
                None if ["exec", "ps"].contains(&command.get_name()) => break,
                None => {}
            }
            continue;
        }
        let by_name = |known: &&Arg| {
            known.get_long() == Some(name)
                || known.get_short().is_some_and(|c| name == c.to_string())
        };
        let Some(known) = command.get_arguments().find(by_name) else { continue };
        if name.len() > 1 && !arg.starts_with("--") {
            args[i - 1] = format!("-{arg}").into();
        }
        i += usize::from(known.get_action().takes_values() && !arg.contains('='));
    }
    args
}

/// go-runc and docker read these lines.
fn version() -> String {
    format!(
        "brig version {}\ncommit: {}\nspec: {}\n",
        env!("CARGO_PKG_VERSION"),
        crate::COMMIT,
        crate::SPEC_VERSION
    )
}
