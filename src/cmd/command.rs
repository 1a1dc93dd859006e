//! What a command line says, as values: [`crate::cli`] reads them, and the commands take them.

use super::create::RunOptions;
use super::{bundle, commit, events, mounts, stats, update};
use crate::image::container::FromImage;
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
}

/// What to do.
#[derive(Debug)]
#[expect(missing_docs)]
pub enum Command {
    Create(Options, Option<FromImage>),
    Run(Options, Option<FromImage>, RunOptions),
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
    Bundle(bundle::BundleOptions),
    Update(update::UpdateOptions),
    Features,
    Diff { id: String, format: ListFormat },
    Commit(commit::CommitOptions),
    Export { id: String, output: Option<PathBuf> },
    Images(Listing),
    Inspect { image: String },
    Rmi { images: Vec<String> },
    Tag { image: String, name: String },
    Layers(Listing),
    Gc { all: bool, dry_run: bool },
}

impl Command {
    /// As it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Create(..) => "create",
            Command::Run(..) => "run",
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
            Command::Bundle(_) => "bundle",
            Command::Update(_) => "update",
            Command::Features => "features",
            Command::Diff { .. } => "diff",
            Command::Commit(_) => "commit",
            Command::Export { .. } => "export",
            Command::Images(_) | Command::Inspect { .. } => "images",
            Command::Rmi { .. } => "rmi",
            Command::Tag { .. } => "tag",
            Command::Layers(_) => "layers",
            Command::Gc { .. } => "gc",
        }
    }

    /// The id of the one container that it is about.
    pub fn container(&self) -> Option<&str> {
        match self {
            Command::Create(options, _) | Command::Run(options, ..) => Some(&options.id),
            Command::Exec(options) => Some(&options.id),
            Command::Mounts(options) => Some(&options.id),
            Command::Events(options) => Some(&options.id),
            Command::Update(options) => Some(&options.id),
            Command::Commit(options) => Some(&options.id),
            Command::Start { id }
            | Command::State { id }
            | Command::Pause { id }
            | Command::Resume { id }
            | Command::Ps { id, .. }
            | Command::Diff { id, .. }
            | Command::Export { id, .. }
            | Command::Kill { id, regex: false, .. }
            | Command::Delete { id, regex: false, .. } => Some(id),
            _ => None,
        }
    }
}

/// How `images` and `layers` print.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// As a table or as JSON.
    pub format: ListFormat,
    /// The ids only.
    pub quiet: bool,
    /// Whole digests in the table, too.
    pub no_trunc: bool,
}

/// How `list` and `ps` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}
