//! exec's plan: the container's own process, with what the command line changes of it, or the process
//! of a file.

mod user;

pub use user::parse_user;

use super::process::Process;
use super::{Host, delegate};
use crate::seccomp::Filter;
use crate::spec::{self, At};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// What exec's command line says about the process.
#[derive(Debug, Default)]
pub struct ProcessOptions {
    /// Program and arguments.
    pub args: Vec<String>,
    /// A file with all of `process` as JSON, instead of arguments.
    pub file: Option<PathBuf>,
    /// It gets a terminal.
    pub tty: bool,
    /// Instead of the container's AppArmor profile.
    pub apparmor: Option<String>,
    /// Instead of the container's SELinux label.
    pub process_label: Option<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// `NAME=value`, after the container's.
    pub env: Vec<String>,
    /// `UID[:GID]`.
    pub user: Option<String>,
    /// Supplementary groups beside the container's.
    pub additional_gids: Vec<u32>,
    /// Capabilities beside the container's.
    pub capabilities: Vec<String>,
    /// execve grants nothing.
    pub no_new_privileges: bool,
    /// brig does not wait for the process, and so does not carry its terminal's bytes.
    pub detach: bool,
    /// How many descriptors after stderr the process inherits.
    pub preserve_fds: u32,
}

/// The container that the process joins, as its create has left it.
pub struct Container<'a> {
    /// The text of the config.json that it was created from.
    pub config: &'a [u8],
    /// Its annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Gives the compiled filter that an exec before has kept. Asked only if there is to be one.
    pub filter: &'a dyn Fn() -> Option<Vec<u8>>,
    /// It has a user namespace that is not brig's.
    pub has_user_namespace: bool,
}

/// All that exec will do, in plain data.
#[derive(Debug)]
pub struct ExecPlan {
    /// What the process is.
    pub process: Process,
    /// A relay joins the namespaces: only root may join a pid namespace from outside the user namespace
    /// that it belongs to.
    pub relayed: bool,
    /// The process belongs in the cgroup in which init is now, which need not be the container's own:
    /// the container's may have been delegated, and the relay is not asked twice.
    pub beside_init: bool,
    /// The compiled filter, to keep for the next exec.
    pub filter: Option<Vec<u8>>,
    /// What the config or the file asks for that the spec wants a warning about, not an error.
    pub warnings: Vec<String>,
}

impl ExecPlan {
    /// Validates what the process is to be.
    ///
    /// # Errors
    ///
    /// Where the flags, the file, or what is kept of the config cannot be had in this container.
    pub fn new(
        options: &ProcessOptions,
        container: &Container<'_>,
        host: &Host,
    ) -> Result<ExecPlan> {
        let user = container.has_user_namespace;
        let mut warnings = Vec::new();
        let Snapshot { process: own, linux } = serde_json::from_slice(container.config)?;
        let mut process = match &options.file {
            Some(path) => from_file(path, own, user, host, &mut warnings)?,
            None => Process::new(&changed(own, options)?, user, host, &mut warnings)?,
        };
        let seccomp = linux.and_then(|linux| linux.seccomp).map(RawValue::get);
        let filter;
        (process.filter, filter) =
            Filter::of_text(seccomp, container.annotations, container.filter)?;
        if let (Some(terminal), false) = (&mut process.terminal, options.detach) {
            // Now, because the process runs before brig has its other side.
            terminal.size = terminal.size.or_else(|| host.terminal_size());
            terminal.carried = true;
        }
        process.keeps_original_groups(container.annotations);
        process.preserved_fds = options.preserve_fds;
        let relayed = process.in_user_namespace && !host.is_privileged()?;
        let delegated = container.annotations.contains_key(delegate::ANNOTATION);
        Ok(ExecPlan { process, relayed, beside_init: delegated || relayed, filter, warnings })
    }
}

/// The part of config.json that exec needs: the process, and what holds for all of the container's.
#[derive(Deserialize)]
struct Snapshot<'a> {
    process: spec::Process,
    #[serde(borrow)]
    linux: Option<Filtered<'a>>,
}

#[derive(Deserialize)]
struct Filtered<'a> {
    /// As it is written: mostly it is compiled already.
    #[serde(borrow)]
    seccomp: Option<&'a RawValue>,
}

/// The process of `--process FILE`. Errors tell their place in that file.
fn from_file(
    path: &Path,
    own: spec::Process,
    user: bool,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    let read = || spec::read(File::open(path)?);
    let text = read().with_context(|| path.display().to_string())?;
    let name = path.display().to_string();
    let document = spec::Document { name: &name, shape: spec::shape::PROCESS, text: &text };
    let locate = |at: &mut At| at.locate_in_part(name.clone(), "process.", &text);
    let mut found = Vec::new();
    let process = document
        .parse(warnings)
        .and_then(|(spec, _)| Process::new(&confined(spec, own), user, host, &mut found));
    warnings.extend(found.iter().map(|warning| spec::located_warning(warning, locate)));
    process.map_err(|mut error| {
        error.downcast_mut::<At>().map(locate);
        error
    })
}

/// What bounds the container's own process bounds this one too, where the file does not say otherwise:
/// with no label of its own it would run under brig's.
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

/// The flags, over what the config says.
fn changed(mut process: spec::Process, options: &ProcessOptions) -> Result<spec::Process> {
    ensure!(!options.args.is_empty(), "nothing to execute: give a program, or --process FILE");
    process.args.clone_from(&options.args);
    process.terminal = options.tty;
    process.env.extend_from_slice(&options.env);
    process.no_new_privileges |= options.no_new_privileges;
    process.user.additional_gids.extend_from_slice(&options.additional_gids);
    let own = |flag: &Option<String>| flag.clone().filter(|text| !text.is_empty());
    process.apparmor_profile = own(&options.apparmor).or(process.apparmor_profile);
    process.selinux_label = own(&options.process_label).or(process.selinux_label);
    if let Some(cwd) = options.cwd.as_ref().filter(|cwd| !cwd.is_empty()) {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &options.user {
        let (uid, gid) = parse_user(user).with_context(|| format!("--user {user:?}"))?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    if !options.capabilities.is_empty() {
        // Never inheritable unless the config has it so (CVE-2022-29162), and ambient only what is.
        let sets = process.capabilities.get_or_insert_default();
        if !sets.inheritable.is_empty() {
            sets.ambient.extend_from_slice(&options.capabilities);
        }
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend_from_slice(&options.capabilities);
        }
    }
    Ok(process)
}
