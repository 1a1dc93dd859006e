//! exec: another process in a running container. No process stands between brig and it: the pid
//! namespace is joined by the parent, for its children, and everything else by the child itself.

mod child;
mod user;

pub use user::parse_user;

use self::child::{Target, become_process, join};
use super::agent::Agent;
use super::foreground::terminal::Carrier;
use super::protocol::{self, Channel, Message};
use super::{foreground, spawn};
use crate::cgroup::{Entry, not_born};
use crate::deadline;
use crate::fault;
use crate::log::Log;
use crate::plan::delegate;
use crate::plan::process::Process;
use crate::process::console;
use crate::process::proc::Proc;
use crate::process::socket::{self, Socket};
use crate::process::{affinity, stdio};
use crate::rdt::Rdt;
use crate::seccomp::Filter;
use crate::spec::{self, At};
use crate::state::{self, Dir, NotFound, PidFile, State, Status};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;
use sys::clone::{Side, clone3};
use sys::misc::STANDARD_FDS;
use sys::tty;
use sys::{Errno, cred, errno_of, signal};

/// What exec is told on the command line.
#[derive(Debug, Default)]
pub struct Options {
    /// Where states are kept.
    pub root: PathBuf,
    /// The container's name.
    pub id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// A file with all of `process` as JSON, instead of arguments.
    pub process: Option<PathBuf>,
    /// It gets a terminal.
    pub tty: bool,
    /// Where to send the terminal's other side.
    pub console_socket: Option<PathBuf>,
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
    /// Do not wait for the process.
    pub detach: bool,
    /// Where to write its pid.
    pub pid_file: Option<PathBuf>,
    /// `[CONTROLLERS:]PATH` below the container's cgroup.
    pub cgroups: Vec<String>,
    /// Who gets a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Even if the container is frozen.
    pub ignore_paused: bool,
    /// How many descriptors after stderr the process inherits.
    pub preserve_fds: u32,
}

/// Runs a process in a container. The result is what brig exits with: the process's own code, or 0
/// when it is detached.
pub fn exec(options: &Options, log: &mut Log) -> Result<i32> {
    let dir = Dir::open(&options.root, &options.id)?;
    let state = dir.load()?.ok_or_else(|| anyhow!(NotFound))?;
    let status = dir.status(&state)?;
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped | Status::Unknown => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("cannot exec in a container that is being created"),
    }
    let init = state::open_init(&state)?.context("cannot exec in a stopped container")?;
    if options.ignore_paused {
        state.cgroup.wait_for_thaw()?;
    }
    if !options.ignore_paused
        && let Some(path) = state.cgroup.frozen()?
    {
        bail!(
            "cannot exec in a container that somebody has frozen: {}, or a cgroup above it (use \
             --ignore-paused to override)",
            path.display()
        );
    }
    let process = plan(options, &dir, &state, log)?;
    // Nothing in a container is to inherit it.
    drop(dir);
    let by_systemd = options.cgroups.is_empty() && state.cgroup.only_systemd_moves_in()?;
    // The relay is not asked twice, as below.
    let delegated = state.annotations.contains_key(delegate::ANNOTATION);
    let beside = options.cgroups.is_empty() && (delegated || is_relayed(&process)?);
    let entry = match by_systemd {
        true => Entry::default(),
        false => match beside.then(|| state.cgroup.beside(state.pid)) {
            Some(Ok(cgroup)) => cgroup.entry()?,
            _ => state.cgroup.entry_below(&options.cgroups, state.pid)?,
        },
    };
    // Before the clone: nothing is executed whose pid could not be told.
    let pid_file = options.pid_file.as_deref().map(PidFile::open).transpose()?;
    let pidfd_socket = Socket::of_flag("--pidfd-socket", options.pidfd_socket.as_deref())?;
    let terminal = process.terminal.is_some();
    let console = console::way(terminal, options.console_socket.as_deref(), options.detach)?;
    let console_end = console.child.as_ref();
    let child = match spawn(&state, &init, &process, &entry, console_end, by_systemd) {
        Err(error) if options.cgroups.is_empty() && errno_of(&error) == Some(Errno::EBUSY) => {
            let entry = state.cgroup.beside(state.pid)?.entry()?;
            spawn(&state, &init, &process, &entry, console_end, by_systemd)?
        }
        child => child?,
    };
    let placed = if by_systemd { child.place(&state) } else { Ok(()) };
    let told = placed.and_then(|()| {
        pidfd_socket.map_or(Ok(()), |socket| socket.send(child.pidfd.as_fd(), "setns"))
    });
    let agent = Agent::of(&process, state.for_hooks(status, state.pid));
    let own = console.own.as_ref();
    let served = told.and_then(|()| child.serve(pid_file, own, agent.as_ref()));
    match served {
        Ok(_) if options.detach => Ok(0),
        Ok(mut carrier) => foreground::wait(&child.pidfd, carrier.as_mut(), None),
        Err(error) => {
            child.end();
            Err(error)
        }
    }
}

/// The part of config.json that exec needs: the process, and what holds for all of the container's.
#[derive(Deserialize)]
struct Snapshot {
    process: spec::Process,
    linux: Option<Filtered>,
}

#[derive(Deserialize)]
struct Filtered {
    seccomp: Option<LinuxSeccomp>,
}

fn snapshot(dir: &Dir) -> Result<Snapshot> {
    Ok(serde_json::from_slice(&dir.read("config.json")?)?)
}

/// The container's own process, with what the command line changes of it, or the file's.
fn plan(options: &Options, dir: &Dir, state: &State, log: &mut Log) -> Result<Process> {
    let user = state.has_namespace(libc::CLONE_NEWUSER);
    let mut warnings = Vec::new();
    let (mut process, linux) = match &options.process {
        Some(path) => {
            let Snapshot { process, linux } = snapshot(dir)?;
            (from_file(path, process, user, &mut warnings)?, linux)
        }
        None => {
            let Snapshot { process, linux } = snapshot(dir)?;
            (Process::new(&changed(process, options)?, user, &mut warnings)?, linux)
        }
    };
    let seccomp = linux.and_then(|linux| linux.seccomp);
    process.filter = Filter::of(seccomp.as_ref(), &state.annotations, &mut Vec::new())?;
    if let (Some(terminal), false) = (&mut process.terminal, options.detach) {
        // Now, for the process runs before brig has its other side.
        let own = STANDARD_FDS.into_iter().find_map(|fd| tty::size(fd).ok());
        terminal.size = terminal.size.or(own);
        terminal.carried = true;
    }
    process.keeps_original_groups(&state.annotations);
    process.preserved_fds = options.preserve_fds;
    stdio::seclude(0, options.preserve_fds)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    process.notes().for_each(|note| log.debug(format_args!("{note}")));
    Ok(process)
}

/// The process of `--process FILE`. Errors tell their place in that file.
fn from_file(
    path: &Path,
    own: spec::Process,
    user: bool,
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
        .and_then(|(spec, _)| Process::new(&confined(spec, own), user, &mut found));
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
fn changed(mut process: spec::Process, options: &Options) -> Result<spec::Process> {
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

/// The process, brig's child.
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
}

fn spawn(
    state: &State,
    init: &OwnedFd,
    process: &Process,
    entry: &Entry,
    console: Option<&Socket>,
    by_systemd: bool,
) -> Result<Child> {
    let root = match state.has_namespace(libc::CLONE_NEWNS) {
        true => None,
        // Without a mount namespace of its own it is only chrooted.
        false => Some(
            File::open(format!("/proc/{}/root", state.pid)).context("open the container's root")?,
        ),
    };
    let class = state.rdt.as_ref().map_or_else(|| Ok(Vec::new()), Rdt::entry)?;
    let writes = process.oom_score_adj.is_some() || !process.labels.is_empty();
    let proc = writes.then(Proc::open).transpose()?;
    let (channel, childs) = protocol::pair()?;
    foreground::forwarded().thread_block().context("block signals")?;
    affinity::before_cgroup(process)?;
    let into = entry.into.as_ref().map(AsFd::as_fd);
    let relayed = is_relayed(process)?;
    let side = match relayed {
        true => spawn::relay(0, into, false, process.oom_score_adj, || {
            // Nobody can be born in a cgroup from a namespace that does not have brig's own.
            join(init, state.namespaces & !libc::CLONE_NEWCGROUP)
        })?,
        false => {
            join(init, state.namespaces & libc::CLONE_NEWPID)?;
            clone3(0, into).map_err(not_born)?
        }
    };
    match side {
        Side::Parent(pid, pidfd) => Ok(Child { pid, pidfd, channel }),
        Side::Child(birth) => {
            drop(channel);
            let late = if relayed { libc::CLONE_NEWCGROUP } else { !libc::CLONE_NEWPID };
            let kinds = state.namespaces & late;
            let target =
                Target { state, init, kinds, root, proc, class: &class, console, by_systemd };
            let Err(error) = become_process(&target, process, entry, birth, &childs);
            // If the parent is gone, there is nobody to tell.
            let _ = childs.send(&Message::Failed(fault::pack(&error)));
            sys::exit(255)
        }
    }
}

/// Only root may join a pid namespace from outside the user namespace that it belongs to.
fn is_relayed(process: &Process) -> Result<bool> {
    Ok(process.in_user_namespace && !cred::is_privileged()?)
}

impl Child {
    /// Until the process is executed, and brig has its terminal if that is brig's to carry.
    fn serve(
        &self,
        pid_file: Option<PidFile>,
        console: Option<&OwnedFd>,
        agent: Option<&Agent<'_>>,
    ) -> Result<Option<Carrier>> {
        self.wait_until_executed(agent)?;
        // Not before: by this file alone conmon knows that the program was executed.
        pid_file.map_or(Ok(()), |file| file.write(self.pid))?;
        console.map(|own| Carrier::new(socket::receive(own)?)).transpose()
    }

    /// Has systemd move it into the container's cgroup.
    fn place(&self, state: &State) -> Result<()> {
        let unit = state.cgroup.unit().context("the container has no unit")?;
        unit.attach(u32::try_from(self.pid)?)?;
        // What the child has to say, if it is gone, is heard next.
        let _ = self.channel.send(&Message::Placed);
        Ok(())
    }

    /// Until execve has closed the child's end of the channel.
    fn wait_until_executed(&self, agent: Option<&Agent<'_>>) -> Result<()> {
        let end = Instant::now() + deadline::EXEC;
        let mut announced = false;
        loop {
            self.channel.wait_for(end, "the process to be executed")?;
            match (self.channel.receive()?, agent) {
                (Some(Message::Listener), Some(agent)) => {
                    agent.deliver(&self.channel, self.pid)?;
                    let told = self.channel.send(&Message::Delivered);
                    told.context("say to the process that the agent has its listener")?;
                }
                (Some(Message::Ready), _) => announced = true,
                (Some(Message::Failed(text)), _) => return Err(fault::unpack(&text)),
                (None, _) if announced => return Ok(()),
                (None, _) => bail!("the process died before it could execute its program"),
                (Some(said), _) => bail!("the process says {said:?} out of turn"),
            }
        }
    }
}

impl Child {
    /// Ends what must not go on and takes its status: nobody else would, in the container.
    fn end(&self) {
        // It may be dead already; its status is of no interest beside the error that led here.
        let _ = signal::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let end = Instant::now() + deadline::KILL;
        if foreground::readable(self.pidfd.as_fd(), end).unwrap_or(false) {
            let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}
