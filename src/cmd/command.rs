//! What a command line says, as values: [`crate::cli`] reads them, and the commands take them.

use super::create::RunOptions;
use super::images::{FromImage, ImageCommand};
use super::{events, mounts, stats, update};
use crate::criu::options::{CheckpointOptions, RestoreOptions};
use crate::launch::create::Options;
use crate::launch::exec;
use crate::log::{Format, Level};
use crate::plan::CgroupManager;
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
    pub cgroup_manager: CgroupManager,
    /// A container may have to do without a cgroup of its own, if it is said.
    pub rootless: Option<bool>,
    /// Where layers are kept, if it is said.
    pub store: Option<PathBuf>,
    /// The CRIU program, if given.
    pub criu: Option<PathBuf>,
}

/// What to do.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Command {
    Create(Options, Option<FromImage>),
    Run(Options, Option<FromImage>, RunOptions),
    Checkpoint(CheckpointOptions),
    Restore(Options, RestoreOptions),
    Start { id: String },
    State { id: String },
    Exec(exec::Options),
    Kill { id: String, regex: bool, signal: String, all: bool },
    Mounts(mounts::MountsOptions),
    Pause { id: String },
    Resume { id: String },
    Ps { id: String, format: ListFormat, options: Vec<String> },
    Delete { id: String, regex: bool, force: bool },
    List { format: ListFormat, quiet: bool },
    Spec { bundle: PathBuf, file: Option<PathBuf>, rootless: bool },
    Events(events::EventsOptions),
    Stats(stats::StatsOptions),
    Update(update::UpdateOptions),
    Features,
    Image(ImageCommand),
}

impl Command {
    /// As it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Create(..) => "create",
            Command::Run(..) => "run",
            Command::Checkpoint(_) => "checkpoint",
            Command::Restore(..) => "restore",
            Command::Start { .. } => "start",
            Command::State { .. } => "state",
            Command::Exec(_) => "exec",
            Command::Kill { .. } => "kill",
            Command::Mounts(_) => "mounts",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Ps { .. } => "ps",
            Command::Delete { .. } => "delete",
            Command::List { .. } => "list",
            Command::Spec { .. } => "spec",
            Command::Events(_) => "events",
            Command::Stats(_) => "stats",
            Command::Update(_) => "update",
            Command::Features => "features",
            Command::Image(command) => command.name(),
        }
    }

    /// The id of the one container that it is about.
    pub fn container(&self) -> Option<&str> {
        match self {
            Command::Create(options, _) | Command::Run(options, ..) => Some(&options.id),
            Command::Checkpoint(options) => Some(&options.id),
            Command::Restore(options, _) => Some(&options.id),
            Command::Exec(options) => Some(&options.id),
            Command::Mounts(options) => Some(&options.id),
            Command::Events(options) => Some(&options.id),
            Command::Update(options) => Some(&options.id),
            Command::Image(command) => command.container(),
            Command::Start { id }
            | Command::State { id }
            | Command::Pause { id }
            | Command::Resume { id }
            | Command::Ps { id, .. }
            | Command::Kill { id, regex: false, .. }
            | Command::Delete { id, regex: false, .. } => Some(id),
            _ => None,
        }
    }
}

/// How `list` and `ps` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}
