//! The plan of exec: the container's own process, modified by the command line, or the process of a file.

mod flags;
mod user;

pub use user::parse_user;

use self::flags::Flags;
use super::process::Process;
use super::{Host, delegate, landlock};
use crate::seccomp::Filter;
use crate::spec::{self, At};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

/// The command line's settings of the process.
#[derive(Debug, Default)]
pub struct ProcessOptions {
    /// Program and arguments.
    pub args: Vec<String>,
    /// A file with the whole `process` as JSON, instead of arguments.
    pub file: Option<PathBuf>,
    /// Allocate a terminal.
    pub tty: bool,
    /// Overrides the container's AppArmor profile.
    pub apparmor: Option<String>,
    /// Overrides the container's SELinux label.
    pub process_label: Option<String>,
    /// Overrides the container's working directory.
    pub cwd: Option<String>,
    /// `NAME=value`, appended to the container's.
    pub env: Vec<String>,
    /// `UID[:GID]`.
    pub user: Option<String>,
    /// Supplementary groups in addition to the container's.
    pub additional_gids: Vec<u32>,
    /// Capabilities in addition to the container's.
    pub capabilities: Vec<String>,
    /// Set no_new_privs.
    pub no_new_privileges: bool,
    /// brig does not wait for the process, and so cannot forward the data of its terminal.
    pub detach: bool,
    /// The number of additional descriptors after stderr to pass on.
    pub preserve_fds: u32,
}

/// The container that the process joins.
pub struct Container<'a> {
    /// The text of the config.json that it was created from.
    pub config: &'a [u8],
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Returns the compiled filter stored by an earlier exec. Only called if the process has a filter.
    pub filter: &'a dyn Fn() -> Option<Vec<u8>>,
    /// It has a user namespace other than brig's.
    pub has_user_namespace: bool,
}

/// Everything that exec will do, as plain data.
#[derive(Debug)]
pub struct ExecPlan {
    /// The process.
    pub process: Process,
    /// What has set its values, for errors.
    pub source: Source,
    /// A relay joins the namespaces: only root may join a pid namespace from outside the user namespace that
    /// owns it.
    pub relayed: bool,
    /// The process belongs in init's current cgroup, which may not be the container's own: that may have been
    /// delegated, and the relay cannot retry.
    pub beside_init: bool,
    /// The compiled filter, to be stored for the next exec.
    pub filter: Option<Vec<u8>>,
    /// Parts of the config or the file for which the specification demands a warning instead of an error.
    pub warnings: Vec<String>,
}

impl ExecPlan {
    /// Validates the process. `notes`: what only `--debug` tells.
    ///
    /// # Errors
    ///
    /// If the flags, the file, or the stored config require something that is not available in this
    /// container.
    pub fn new(
        options: &ProcessOptions,
        container: &Container<'_>,
        host: &Host,
        notes: &mut Vec<String>,
    ) -> Result<ExecPlan> {
        let mut warnings = Vec::new();
        let Snapshot { process: own, linux } = serde_json::from_slice(container.config)
            .context("config.json in the container's state directory")?;
        let (process, source) = process_of(options, own, &mut warnings, notes)?;
        let mut found = Vec::new();
        let planned = Process::new(&process, container.has_user_namespace, host, &mut found);
        let name = |warning: &String| spec::located_warning(warning, |at| source.name(at));
        warnings.extend(found.iter().map(name));
        let mut process = planned.map_err(|error| source.named(error))?;
        let seccomp = linux.and_then(|linux| linux.seccomp).map(RawValue::get);
        let filter;
        (process.filter, filter) =
            Filter::of_text(seccomp, container.annotations, container.filter)?;
        if let (Some(terminal), false) = (&mut process.terminal, options.detach) {
            // Queried now, because the process runs before brig has the terminal's master.
            terminal.size = terminal.size.or_else(|| host.terminal_size());
            terminal.carried = true;
        }
        process.landlock = landlock::of(container.annotations, host)?;
        process.keeps_original_groups(container.annotations);
        process.preserved_fds = options.preserve_fds;
        let relayed = process.in_user_namespace && !host.is_privileged()?;
        let delegated = container.annotations.contains_key(delegate::ANNOTATION);
        let beside_init = delegated || relayed;
        Ok(ExecPlan { process, source, relayed, beside_init, filter, warnings })
    }
}

/// The part of config.json that exec needs: the process, and the settings of all processes of the container.
#[derive(Deserialize)]
struct Snapshot<'a> {
    process: spec::Process,
    #[serde(borrow)]
    linux: Option<Filtered<'a>>,
}

#[derive(Deserialize)]
struct Filtered<'a> {
    /// Not parsed: usually it has been compiled already.
    #[serde(borrow)]
    seccomp: Option<&'a RawValue>,
}

/// The process of `--process FILE`, or that of the container, modified by the flags.
fn process_of(
    options: &ProcessOptions,
    own: spec::Process,
    warnings: &mut Vec<String>,
    notes: &mut Vec<String>,
) -> Result<(spec::Process, Source)> {
    let Some(path) = &options.file else {
        let (process, flags) = flags::changed(own, options)?;
        return Ok((process, Source::Flags(flags)));
    };
    let read = || spec::read(File::open(path)?);
    let name = path.display().to_string();
    let text = read().with_context(|| name.clone())?;
    let document = spec::Document { name: &name, shape: spec::shape::PROCESS, text: &text };
    notes.extend(document.unknown_keys());
    let (process, _) = document.parse(warnings)?;
    Ok((confined(process, own), Source::File { name, text }))
}

/// What has set the values of the process.
#[derive(Debug)]
pub enum Source {
    /// Flags, and the container's config.
    Flags(Flags),
    /// `--process FILE`.
    File {
        /// Its name.
        name: String,
        /// Its contents.
        text: Vec<u8>,
    },
}

impl Source {
    /// Replaces the place of a value in config.json by the flag or the place in the file that has set it.
    fn name(&self, at: &mut At) {
        match self {
            Source::Flags(flags) => {
                if let Some(flag) = flags.of_place(at.place()) {
                    *at = At::new(flag);
                }
            }
            Source::File { name, text } => at.locate_in_part(name.clone(), "process.", text),
        }
    }

    /// The same for the place that an error contains.
    pub fn named(&self, mut error: anyhow::Error) -> anyhow::Error {
        if let Some(at) = error.downcast_mut::<At>() {
            self.name(at);
        }
        error
    }
}

/// Restrictions of the container's own process apply to this one too, unless the file overrides them: without
/// a label of its own it would run under brig's.
fn confined(mut process: spec::Process, own: spec::Process) -> spec::Process {
    let given = |label: Option<String>| label.filter(|label| !label.is_empty());
    process.apparmor_profile = given(process.apparmor_profile).or(own.apparmor_profile);
    process.selinux_label = given(process.selinux_label).or(own.selinux_label);
    process.capabilities = process.capabilities.or(own.capabilities);
    process.user.umask = process.user.umask.or(own.user.umask);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.or(own.scheduler);
    process.io_priority = process.io_priority.or(own.io_priority);
    process.exec_cpu_affinity = process.exec_cpu_affinity.or(own.exec_cpu_affinity);
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
    process
}
