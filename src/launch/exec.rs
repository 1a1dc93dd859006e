//! exec: another process in a running container. No process stands between brig and it: the parent joins the
//! pid namespace for its children, and the child joins everything else itself.

use super::agent::Agent;
use super::child::{self, Child, Exec, Groups, Role};
use super::foreground;
use super::foreground::terminal::Carrier;
use super::protocol::{self, Channel, Message};
use super::spawn::Running;
use crate::cgroup::Entry;
use crate::deadline;
use crate::fault;
use crate::log::Log;
use crate::plan::Host;
use crate::plan::exec::{Container, ExecPlan, ProcessOptions};
use crate::process::console;
use crate::process::proc::Proc;
use crate::process::socket::{self, Socket};
use crate::process::{affinity, stdio};
use crate::rdt::Rdt;
use crate::seccomp::kept;
use crate::state::{self, Dir, PidFile, State, Status};
use anyhow::{Context, Result, bail};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;
use sys::clone::Side;
use sys::{Errno, errno_of, signal};

/// The options of exec.
#[derive(Debug, Default)]
pub struct Options {
    /// The state directory.
    pub root: PathBuf,
    /// The container's id.
    pub id: String,
    /// The process to run.
    pub process: ProcessOptions,
    /// The socket for the terminal's master.
    pub console_socket: Option<PathBuf>,
    /// The file for its pid.
    pub pid_file: Option<PathBuf>,
    /// `[CONTROLLERS:]PATH` below the container's cgroup.
    pub cgroups: Vec<String>,
    /// The socket for a pidfd of the process.
    pub pidfd_socket: Option<PathBuf>,
    /// Run even if the container is paused.
    pub ignore_paused: bool,
}

/// Runs a process in a container. Returns the exit code: that of the process, or 0 if it is detached.
///
/// # Errors
///
/// If the container is not running, or paused, or the process cannot be created; it has been killed then.
pub fn exec(options: &Options, log: &mut Log) -> Result<i32> {
    let dir = Dir::open(&options.root, &options.id)?;
    let (state, status) = dir.look()?;
    let init = ensure_running(options, &state, status)?;
    let plan = plan(options, &dir, &state, log)?;
    let process = &plan.process;
    stdio::set_cloexec_from(0, process.preserved_fds)?;
    plan.warnings.iter().for_each(|warning| log.warn(warning));
    process.notes().for_each(|note| log.debug(format_args!("{note}")));
    // Nothing in a container may inherit it.
    drop(dir);
    let by_systemd = options.cgroups.is_empty() && state.cgroup.only_systemd_moves_in()?;
    let entry = match by_systemd {
        true => Entry::default(),
        false => entry(options, &state, &plan)?,
    };
    // Before the clone: no program must be executed if its pid cannot be written.
    let pid_file = options.pid_file.as_deref().map(PidFile::open).transpose()?;
    let pidfd_socket = Socket::of_flag("--pidfd-socket", options.pidfd_socket.as_deref())?;
    let terminal = process.terminal.is_some();
    let mut console =
        console::master_route(terminal, options.console_socket.as_deref(), options.process.detach)
            .map_err(|error| plan.source.named(error))?;
    let target = Target { state: &state, init: &init, plan: &plan, by_systemd };
    let child = match target.spawn(&entry, &mut console.child, log) {
        Err(error) if options.cgroups.is_empty() && errno_of(&error) == Some(Errno::EBUSY) => {
            let entry = state.cgroup.entry_beside(state.pid)?;
            target.spawn(&entry, &mut console.child, log)?
        }
        child => child?,
    };
    let placed = if by_systemd { child.place(&state) } else { Ok(()) };
    let told = placed.and_then(|()| {
        pidfd_socket.map_or(Ok(()), |socket| socket.send(child.pidfd.as_fd(), "setns"))
    });
    log.cloned(child.pid);
    let agent = Agent::of(process, state.for_hooks(status, state.pid));
    let own = console.own.as_ref();
    let served = told.and_then(|()| child.serve(pid_file, own, agent.as_ref(), log));
    log.phase("set-up of the process");
    match served {
        Ok(_) if options.process.detach => Ok(0),
        Ok(mut carrier) => {
            let end = foreground::wait(&child.pidfd, carrier.as_mut(), None)?;
            foreground::reap(&child.pidfd)?;
            log.phase("the process runs");
            Ok(end.code)
        }
        Err(error) => {
            child.end();
            Err(error)
        }
    }
}

/// Opens the container's init, unless the container's status forbids exec.
fn ensure_running(options: &Options, state: &State, status: Status) -> Result<OwnedFd> {
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            bail!("cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped | Status::Unknown => bail!("cannot exec in a stopped container"),
        Status::Creating => bail!("cannot exec in a container that is being created"),
    }
    let init = state::open_init(state)?.context("cannot exec in a stopped container")?;
    let named = match options.cgroups.is_empty() {
        true => None,
        false => Some(state.cgroup.below(&options.cgroups)?),
    };
    let cgroup = named.as_ref().unwrap_or(&state.cgroup);
    if options.ignore_paused {
        cgroup.wait_for_thaw()?;
    }
    if !options.ignore_paused
        && let Some(path) = cgroup.frozen()?
    {
        bail!(
            "cannot exec in a frozen container: cgroup {} or one above it is frozen (use \
             --ignore-paused to override)",
            path.display()
        );
    }
    Ok(init)
}

/// The cgroups that the process enters itself.
fn entry(options: &Options, state: &State, plan: &ExecPlan) -> Result<Entry> {
    let beside = options.cgroups.is_empty() && plan.beside_init;
    match beside.then(|| state.cgroup.entry_beside(state.pid)) {
        Some(Ok(entry)) => Ok(entry),
        _ => state.cgroup.entry_below(&options.cgroups, state.pid),
    }
}

fn plan(options: &Options, dir: &Dir, state: &State, log: &mut Log) -> Result<ExecPlan> {
    // An unreadable cached filter is not an error: it can be compiled again.
    let kept = || dir.read(kept::FILE).ok();
    let container = Container {
        config: &dir.read("config.json")?,
        annotations: &state.annotations.for_runtimes()?,
        filter: &kept,
        has_user_namespace: state.has_namespace(libc::CLONE_NEWUSER),
    };
    let mut notes = Vec::new();
    let plan = ExecPlan::new(&options.process, &container, &Host::default(), &mut notes);
    notes.iter().for_each(|note| log.debug(format_args!("{note}")));
    let mut plan = plan?;
    if let Some(bytes) = plan.filter.take() {
        // If there is no space, the next exec compiles the filter again.
        let _ = dir.keep(kept::FILE, &bytes);
    }
    Ok(plan)
}

/// The process, and its destination.
struct Target<'a> {
    state: &'a State,
    /// The container's init.
    init: &'a OwnedFd,
    plan: &'a ExecPlan,
    /// The parent asks systemd to move it into the container's cgroup.
    by_systemd: bool,
}

impl Target<'_> {
    /// `console` is only consumed in the child, because the clone may be retried.
    fn spawn(&self, entry: &Entry, console: &mut Option<Socket>, log: &mut Log) -> Result<Spawned> {
        let Target { state, init, plan, by_systemd } = *self;
        let process = &plan.process;
        let root = match state.has_namespace(libc::CLONE_NEWNS) {
            true => None,
            // Without a mount namespace of its own, the container is only chrooted.
            false => Some(
                File::open(format!("/proc/{}/root", state.pid))
                    .context("open the container's root")?,
            ),
        };
        let class = state.rdt.as_ref().map_or_else(|| Ok(Vec::new()), Rdt::entry)?;
        let writes = process.oom_score_adj.is_some() || !process.labels.is_empty();
        let proc = writes.then(Proc::open).transpose()?;
        let (channel, mut childs) = protocol::pair()?;
        foreground::forwarded().thread_block().context("block signals")?;
        affinity::before_cgroup(process).map_err(|error| plan.source.named(error))?;
        let into = entry.into.as_ref().map(AsFd::as_fd);
        let running = Running { init, namespaces: state.namespaces, relayed: plan.relayed };
        log.phase("preparation");
        childs.phases = log.phases_of_child();
        let side = running.spawn(into, process.oom_score_adj)?;
        let birth = match side {
            Side::Parent(pid, pidfd) => return Ok(Spawned { pid, pidfd, channel }),
            Side::Child(birth) => birth,
        };
        drop(channel);
        let role = Role::Exec(Exec {
            process,
            source: &plan.source,
            execution: &state.execution,
            container: running,
            root: root.as_ref(),
        });
        child::run(Child {
            role,
            groups: Groups { birth, entry, class: &class, by_systemd },
            proc,
            keyring: child::keyring_of(state),
            sources: None,
            console: console.take(),
            channel: childs,
        })
    }
}

/// The process, a child of brig.
struct Spawned {
    pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
}

impl Spawned {
    /// Waits until the program is executed, and brig has the terminal if it is to forward its data.
    fn serve(
        &self,
        pid_file: Option<PidFile>,
        console: Option<&OwnedFd>,
        agent: Option<&Agent<'_>>,
        log: &mut Log,
    ) -> Result<Option<Carrier>> {
        self.wait_until_executed(agent, log)?;
        // Not earlier: to conmon this file means that the program was executed.
        pid_file.map_or(Ok(()), |file| file.write(self.pid))?;
        console.map(|own| Carrier::new(socket::receive(own)?)).transpose()
    }

    /// Asks systemd to move it into the container's cgroup.
    fn place(&self, state: &State) -> Result<()> {
        let unit = state.cgroup.unit().context("the container has no systemd unit")?;
        unit.attach(u32::try_from(self.pid)?)?;
        // If the child has died, its error is read next.
        let _ = self.channel.send(&Message::Placed);
        Ok(())
    }

    /// Waits until execve has closed the child's end of the channel.
    fn wait_until_executed(&self, agent: Option<&Agent<'_>>, log: &mut Log) -> Result<()> {
        let end = Instant::now() + deadline::EXEC;
        let mut announced = false;
        loop {
            self.channel.wait_for(end, "the process to be executed")?;
            match (self.channel.receive()?, agent) {
                (Some(Message::Listener), Some(agent)) => {
                    agent.deliver(&self.channel, self.pid)?;
                    let told = self.channel.send(&Message::Delivered);
                    told.context("tell the process that the agent has its listener")?;
                }
                (Some(Message::Phase(text)), _) => log.phase_of_child(&text),
                (Some(Message::Ready), _) => {
                    announced = true;
                    log.child_is_ready();
                }
                (Some(Message::Failed(text)), _) => return Err(fault::unpack(&text)),
                (None, _) if announced => return Ok(()),
                (None, _) => bail!("the process died before it could execute its program"),
                (Some(said), _) => {
                    bail!("internal error: unexpected message from the process: {said:?}")
                }
            }
        }
    }

    /// Kills a process that must not continue and reaps it; nothing in the container would.
    fn end(&self) {
        // It may be dead already; its status does not matter next to the error that led here.
        let _ = signal::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let end = Instant::now() + deadline::KILL;
        if sys::poll::readable(self.pidfd.as_fd(), end).unwrap_or(false) {
            let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}
