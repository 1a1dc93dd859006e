//! A command line as values: [`crate::cli`] parses it, and the commands take it.

use super::create::RunOptions;
use super::images::{FromImage, ImageCommand};
use super::{doctor, events, inspect, lint, mounts, stats, update, wait};
use crate::criu::options::{CheckpointOptions, RestoreOptions};
use crate::launch::create::Options;
use crate::launch::exec;
use crate::log::{Format, Level};
use crate::plan::CgroupManager;
use std::path::PathBuf;

/// The global options.
#[derive(Debug)]
pub struct Globals {
    /// The state directory.
    pub root: PathBuf,
    /// The log file.
    pub log: Option<PathBuf>,
    /// The log format.
    pub log_format: Format,
    /// The log level.
    pub log_level: Level,
    /// The file of `--trace`, if given.
    pub trace: Option<PathBuf>,
    /// Whether the phases are shown on stderr.
    pub timings: bool,
    /// The cgroup manager of new containers; for an existing container it is in its state.
    pub cgroup_manager: CgroupManager,
    /// `--rootless`, if given: whether a container may run without a cgroup of its own.
    pub rootless: Option<bool>,
    /// The layer store, if given.
    pub store: Option<PathBuf>,
    /// The CRIU program, if given.
    pub criu: Option<PathBuf>,
}

/// The command to run.
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
    Doctor(doctor::DoctorOptions),
    Inspect(inspect::InspectOptions),
    Lint(lint::LintOptions),
    List { format: ListFormat, quiet: bool },
    Seccomp(super::seccomp::SeccompOptions),
    Spec { bundle: PathBuf, file: Option<PathBuf>, rootless: bool },
    Events(events::EventsOptions),
    Stats(stats::StatsOptions),
    Update(update::UpdateOptions),
    Wait(wait::WaitOptions),
    Features,
    Image(ImageCommand),
}

impl Command {
    /// Its name on the command line.
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
            Command::Doctor(_) => "doctor",
            Command::Inspect(_) => "inspect",
            Command::Lint(_) => "lint",
            Command::List { .. } => "list",
            Command::Seccomp(_) => "seccomp",
            Command::Spec { .. } => "spec",
            Command::Events(_) => "events",
            Command::Stats(_) => "stats",
            Command::Update(_) => "update",
            Command::Wait(_) => "wait",
            Command::Features => "features",
            Command::Image(command) => command.name(),
        }
    }

    /// The id of the container, if it concerns exactly one.
    pub fn container(&self) -> Option<&str> {
        match self {
            Command::Create(options, _) | Command::Run(options, ..) => Some(&options.id),
            Command::Checkpoint(options) => Some(&options.id),
            Command::Restore(options, _) => Some(&options.id),
            Command::Exec(options) => Some(&options.id),
            Command::Mounts(options) => Some(&options.id),
            Command::Events(options) => Some(&options.id),
            Command::Inspect(options) => Some(&options.id),
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

/// The output format of `list` and `ps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// A table for people.
    Table,
    /// JSON for programs.
    Json,
}
