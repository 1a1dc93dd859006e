//! The parent's side of create: acquire, clone, serve the child, save. On failure, everything acquired is
//! undone in reverse order.

use super::agent::Agent;
use super::child::{self, Child, Init, Role};
use super::foreground::notify::{self, Manager};
use super::gate::Gate;
pub use super::options::Options;
use super::peer::{Peer, reap};
use super::prepare::cgroup::{self, ChosenCgroup};
use super::prepare::first_state::{Belonging, first_state};
use super::prepare::net_devices::{self, MovedDevices};
use super::prepare::{hints, id_maps, upper};
use super::protocol::{self, Channel, Message};
use super::spawn::Joined;
use super::{account, execute, own_bundle, spawn};
use crate::cgroup::{Cgroup, Entry, Scope};
use crate::deadline;
use crate::hooks::{self, Environment, Output, Surroundings};
use crate::log::Log;
use crate::plan::hooks::{Hooks, allowance};
use crate::plan::namespaces::Strategy;
use crate::plan::{Host, Plan};
use crate::process::console::{self, MasterRoute};
use crate::process::proc::Proc;
use crate::process::socket::{self, Socket};
use crate::process::{limits, sched};
use crate::rdt::Rdt;
use crate::rootfs::Sources;
use crate::spec::{Owned, Place, Spec};
use crate::state::{self, Dir, Lock, State, Status};
use anyhow::{Result, anyhow};
use nix::sys::signalfd::SignalFd;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;
use sys::clone::{Birth, Side};
use sys::{Errno, describe, errno_of, signal};

/// A created container, as seen by the brig that created it.
pub struct Created {
    /// Its state directory.
    pub dir: Dir,
    /// The lock on it.
    pub lock: Option<Lock>,
    /// The saved state.
    pub state: State,
    /// Its init, a child of brig.
    pub init: OwnedFd,
    /// The terminal's master, if brig forwards its data.
    pub master: Option<OwnedFd>,
    /// The service manager to notify of readiness.
    pub manager: Option<Manager>,
}

/// Everything known before anything has been changed.
pub struct Decision {
    /// The config as written.
    pub spec: Spec,
    /// The text of config.json to store, if it differs from the bundle's.
    pub rewritten: Option<Vec<u8>>,
    /// Facts about the host.
    pub host: Host,
    /// What to create.
    pub plan: Plan,
    /// The service manager to notify of readiness.
    pub manager: Option<Manager>,
}

/// Creates a container, which then waits for start.
///
/// # Errors
///
/// If it cannot be created; everything created until then has been removed again.
pub fn create(
    options: &Options,
    bundle: &Path,
    owned: &mut Owned,
    decision: Decision,
    log: &mut Log,
) -> Result<Created> {
    let Decision { spec, rewritten, host, mut plan, manager } = decision;

    // Only reads. Still nothing has been changed.
    let terminal = plan.process.terminal.is_some();
    let console =
        console::master_route(terminal, options.console_socket.as_deref(), options.detach)?;
    let pidfd_sockets = options.pidfd_sockets(&spec.annotations, bundle)?;
    let output = match plan.hooks.before_program() {
        true => Output::open(&spec.annotations, bundle)?,
        false => Output::default(),
    };
    let joined = spawn::open(&plan.namespaces)?;
    id_maps::check_joined(&plan, &joined)?;
    let network = net_devices::destination(&plan, &joined)?;
    let found = cgroup::locate(&options.id, &spec, &plan, host);
    // If the id is in use, so is its cgroup: report the id.
    let ChosenCgroup { cgroup, view, scope } =
        found.map_err(|error| state::in_use(&options.root, &options.id).unwrap_or(error))?;
    let rdt = plan.rdt.as_ref().map(|plan| Rdt::locate(plan, &options.id));
    let rdt = rdt.transpose().at("linux.intelRdt")?;
    let state = first_state(options, &spec, &plan, bundle, Belonging { cgroup, rdt })?;
    // The child is a copy of this process that others may look into (`Child::open_to_its_user`).
    drop(spec);

    account::decided(&plan, &state, log);
    // From here on there is something to undo; if brig is killed, state.json says what. Other signals are
    // blocked until it can be undone.
    let signals = super::foreground::block_signals()?;
    let (dir, lock) = Dir::create(&options.root, &options.id)?;
    let notifies = manager.is_some();
    let mut attempt = Attempt {
        dir,
        lock: Some(lock),
        state,
        cgroups: Cgroups { view, scope },
        outside: Outside { pidfd_sockets, output, network, notifies },
        made: Made::default(),
    };
    let opened = Opened { joined, console, signals, rewritten };
    match attempt.launch(options, owned, &mut plan, opened, log) {
        Ok((init, master)) => {
            let Attempt { dir, lock, state, .. } = attempt;
            Ok(Created { dir, lock, state, init, master, manager })
        }
        Err(error) => Err(attempt.undo(hints::explained(error, plan.rights.privileged), log)),
    }
}

/// A container being created.
struct Attempt {
    dir: Dir,
    lock: Option<Lock>,
    state: State,
    cgroups: Cgroups,
    outside: Outside,
    made: Made,
}

/// The parts of its cgroups that are not in the state.
struct Cgroups {
    /// The cgroups shown in its mounts, if not its own.
    view: Option<Cgroup>,
    scope: Option<Scope>,
}

/// Its connections to the outside.
struct Outside {
    pidfd_sockets: Vec<Socket>,
    /// Files for hooks' output.
    output: Output,
    /// The namespace to join that host devices are moved to.
    network: Option<File>,
    /// The service manager to notify of readiness.
    notifies: bool,
}

/// What has to be undone in addition to the state.
#[derive(Default)]
struct Made {
    init: Option<OwnedFd>,
    moved: Option<MovedDevices>,
}

/// What was opened before anything was created.
struct Opened {
    /// Namespaces to join.
    joined: Vec<Joined>,
    console: MasterRoute,
    signals: SignalFd,
    /// The text of config.json to store, if it differs from the bundle's.
    rewritten: Option<Vec<u8>>,
}

/// What the child inherits. The parent closes it in this order.
struct Inherited {
    channel: Channel,
    gate: Gate,
    entry: Entry,
    class: Vec<OwnedFd>,
    proc: Option<Proc>,
    network: Option<Socket>,
    sources: Option<Sources>,
    joined: Vec<Joined>,
    console: Option<Socket>,
}

impl Attempt {
    /// Acquires what the child inherits, clones it, serves it until it is ready, and saves the state. Returns
    /// init's pidfd, and the terminal's master if brig forwards its data.
    fn launch(
        &mut self,
        options: &Options,
        config: &mut Owned,
        plan: &mut Plan,
        opened: Opened,
        log: &mut Log,
    ) -> Result<(OwnedFd, Option<OwnedFd>)> {
        let Opened { joined, console: MasterRoute { child: console, own: own_console }, .. } =
            opened;
        let text = opened.rewritten.as_ref().unwrap_or(&config.text);
        let sources = self.make(options, text, plan, &joined, log)?;
        drop(opened.rewritten);
        let entry = self.state.cgroup.entry()?;
        let class = self.make_class(plan)?;
        let relayed = plan.namespaces.strategy == Strategy::Relay;
        let proc = (relayed || plan.writes_proc()).then(Proc::open).transpose()?;
        let moves_devices = !plan.net_devices.is_empty() && self.outside.network.is_none();
        let (network, own_network) = moves_devices.then(Socket::pair).transpose()?.unzip();
        let gate = Gate::make(&self.dir)?;
        let (own_channel, channel) = protocol::pair()?;
        let mut inherited =
            Inherited { channel, gate, entry, class, proc, network, sources, joined, console };

        log.phase("preparation");
        inherited.channel.phases = log.phases_of_child();
        let into = inherited.entry.into.as_ref().map(AsFd::as_fd);
        let score = plan.process.oom_score_adj;
        let (pid, pidfd) = match spawn::spawn(&plan.namespaces, &inherited.joined, into, score)? {
            Side::Parent(pid, pidfd) => (pid, pidfd),
            Side::Child(birth) => {
                drop((own_channel, opened.signals));
                self.become_child(plan, config, birth, inherited)
            }
        };
        // The child must be the only holder of these: end of file means that it has died.
        drop(inherited);
        let signals = opened.signals;
        let init = self.adopt(pid, pidfd, plan, &signals)?;

        log.cloned(pid);
        let end = Instant::now() + deadline::SETUP + allowance(&plan.hooks.create_container);
        let filtered = plan.process.filter.is_some();
        let peer = Peer { channel: &own_channel, init: &init, signals: &signals, end, filtered };
        self.serve(&peer, plan, own_network, log)?;
        log.phase("set-up of the process");
        let master = own_console.as_ref().map(socket::receive).transpose()?;
        self.save(options, &peer)?;
        Ok((init, master))
    }

    /// Creates everything needed before the clone, and opens the host's files to be mounted.
    fn make(
        &mut self,
        options: &Options,
        text: &[u8],
        plan: &Plan,
        joined: &[Joined],
        log: &mut Log,
    ) -> Result<Option<Sources>> {
        self.dir.begin(&self.state)?;
        self.dir.write("config.json", text)?;
        own_bundle::hold_layers(&self.state, &self.dir.path)?;
        if self.outside.notifies {
            notify::make_directory(&self.dir)?;
        }
        if self.cgroups.view.is_none() {
            cgroup::make(&self.dir, &mut self.state, plan, log)?;
        }
        account::made(&options.root, &self.state, log);
        let sources = self.open_sources(plan, joined)?;
        upper::ensure_unused(&options.root, &self.state, plan)?;
        Ok(sources)
    }

    /// In the child: continues in [`child`].
    fn become_child(
        &mut self,
        plan: &mut Plan,
        config: &mut Owned,
        birth: Birth,
        inherited: Inherited,
    ) -> ! {
        self.lock = None;
        self.cgroups.scope.iter_mut().for_each(Scope::disconnect);
        let Inherited { channel, gate, entry, class, proc, network, sources, joined, console } =
            inherited;
        let (view, scope) = (self.cgroups.view.as_ref(), self.cgroups.scope.as_ref());
        let keyring = child::keyring_of(&self.state);
        let role = Role::Init(Init {
            plan,
            config,
            state: &mut self.state,
            joined: &joined,
            network: network.as_ref(),
            view,
            scope,
            output: &self.outside.output,
            gate: &gate,
        });
        let by_systemd = scope.is_some();
        let groups = child::Groups { birth, entry: &entry, class: &class, by_systemd };
        child::run(Child { role, groups, proc, keyring, sources, console, channel })
    }

    /// The child exists: it is the first to be undone on failure, and systemd is asked to move it.
    fn adopt(
        &mut self,
        pid: i32,
        pidfd: OwnedFd,
        plan: &Plan,
        signals: &SignalFd,
    ) -> Result<OwnedFd> {
        let init = self.made.init.insert(pidfd).try_clone()?;
        self.state.pid = pid;
        self.state.pidfs_inode = state::pidfs_inode(init.as_fd())?;
        self.state.boot = self.state.pidfs_inode.and_then(|_| state::boot()).map(str::to_owned);
        if let Some(scope) = &mut self.cgroups.scope {
            scope.interrupted_by(signals.as_fd().try_clone_to_owned()?);
            scope.ask(&self.state.cgroup, &self.state.id, pid, &plan.resources)?;
        }
        Ok(init)
    }

    /// Called after the cgroup is created: without a cgroup namespace, the container's own are among the
    /// sources.
    fn open_sources(&self, plan: &Plan, joined: &[Joined]) -> Result<Option<Sources>> {
        if !plan.opens_sources() {
            return Ok(None);
        }
        let users = id_maps::of_plan(plan, joined)?;
        let cgroup = self.cgroups.view.as_ref().unwrap_or(&self.state.cgroup);
        Sources::open(&plan.rootfs, cgroup, &users, false).map(Some)
    }

    /// Sends the pidfd, and writes the pid file, which is not taken back. Only then may the child outlive the
    /// parent.
    fn save(&mut self, options: &Options, peer: &Peer<'_>) -> Result<()> {
        self.state.creating = false;
        self.dir.save(&self.state)?;
        for socket in &self.outside.pidfd_sockets {
            socket.send(peer.init.as_fd(), "standard")?;
        }
        if let Some(path) = &options.pid_file {
            state::write_pid_file(path, self.state.pid)?;
        }
        peer.send(&Message::Saved)?;
        // Until then, other commands of an unprivileged user cannot access the child.
        if self.state.uid == 0 { Ok(()) } else { peer.wait_for_close() }
    }

    /// The files for the child to enter its class of service.
    fn make_class(&mut self, plan: &Plan) -> Result<Vec<OwnedFd>> {
        let (Some(rdt), Some(plan)) = (&mut self.state.rdt, &plan.rdt) else {
            return Ok(Vec::new());
        };
        rdt.create(plan)?;
        rdt.entry()
    }

    /// Does what only the parent can do, and serves the child until it is ready.
    fn serve(
        &mut self,
        peer: &Peer<'_>,
        plan: &Plan,
        network: Option<OwnedFd>,
        log: &mut Log,
    ) -> Result<()> {
        if let Some(score) = plan.process.oom_score_adj {
            // Before the child changes its ids: afterwards an unprivileged user could not access it.
            match execute::set_oom_score(&Proc::open()?, &self.state.pid.to_string(), score) {
                Err(error) if !plan.rights.root_of_host => log.warn(&describe(&error)),
                written => written?,
            }
        }
        if plan.namespaces.new & libc::CLONE_NEWUSER != 0 {
            id_maps::write(self.state.pid, &plan.id_maps, "linux")?;
        }
        if let Some(socket) = network {
            peer.wait_at(socket.as_fd())?;
            self.outside.network = Some(socket::receive(&socket)?.into());
        }
        net_devices::give_all(&mut self.made.moved, plan, self.outside.network.take())?;
        if plan.needs_parent() {
            peer.send(&Message::Provided)?;
        }
        let started = peer.recv_start(&self.state.cgroup, log)?;
        // In another time namespace, the child's clock has an offset.
        self.state.start_time = match spawn::born_in_time_namespace(&plan.namespaces) {
            true => state::start_time(self.state.pid)?,
            false => started,
        };
        if let Some(scope) = &mut self.cgroups.scope {
            cgroup::settle(scope, &mut self.state, plan, peer.channel)?;
        }
        if plan.hooks.during_create() {
            peer.recv(&Message::Mounted, &self.state.cgroup, log)?;
            log.phase("set-up of the process up to the mounts");
            self.run_hooks(&plan.hooks, peer.signals.as_fd())?;
            log.phase("prestart and createRuntime hooks");
            peer.send(&Message::Pivot)?;
        }
        let creating = self.state.for_hooks(Status::Creating, self.state.pid);
        if let Some(agent) = Agent::of(&plan.process, creating) {
            peer.deliver_listener(&agent, &self.state, log)?;
        }
        peer.recv(&Message::Ready, &self.state.cgroup, log)?;
        log.child_is_ready();
        if plan.only_parent_is_root() {
            // Not earlier: the limits must not apply to set-up, and a real-time process cannot be moved into
            // every cgroup.
            sched::schedule(self.state.pid, &plan.process.scheduling)?;
            limits::set(self.state.pid, &plan.process)?;
        }
        // Not earlier: the root of its cgroup namespace, if any, is the cgroup above.
        cgroup::delegate(&self.state, plan)
    }

    /// Runs hooks in the runtime's namespaces. They may query the container's state, or kill it.
    fn run_hooks(&self, hooks: &Hooks, interrupt: BorrowedFd<'_>) -> Result<()> {
        self.dir.save(&self.state)?;
        let state = self.state.for_hooks(Status::Created, self.state.pid);
        let surroundings = Surroundings {
            output: &self.outside.output,
            directory: Some(&self.state.bundle),
            environment: Environment::Runtime,
            interrupt: Some(interrupt),
            filter: None,
        };
        hooks::run(&hooks.prestart, &state, &surroundings)?;
        hooks::run(&hooks.create_runtime, &state, &surroundings)
    }

    /// Undoes everything. What cannot be removed is appended to the original error.
    fn undo(mut self, error: anyhow::Error, log: &mut Log) -> anyhow::Error {
        let mut left = Vec::new();
        if let Some(init) = self.made.init {
            // If it is dead already, that is fine.
            let _ = signal::pidfd_send_signal(init.as_fd(), libc::SIGKILL);
            // Nothing to reap: its status has been read already.
            let reaped = reap(&init).err();
            left.extend(reaped.filter(|error| errno_of(error) != Some(Errno::ECHILD)));
        }
        left.extend(self.made.moved.map(MovedDevices::take_back).unwrap_or_default());
        if let Some(scope) = self.cgroups.scope {
            left.extend(scope.abandon(&mut self.state.cgroup).err());
        }
        left.extend(self.state.cgroup.remove(Instant::now() + deadline::CGROUP).err());
        left.extend(self.state.rdt.as_ref().and_then(|rdt| rdt.remove().err()));
        own_bundle::release_layers(&self.state, &self.dir.path);
        left.extend(self.dir.remove().err());
        // runtime.md, Lifecycle, 3 to 5: a failing hook leads to 12 and 13. As in runc, so does any other
        // error.
        super::destroy::poststop(&self.state, log);
        let left: Vec<String> = left.iter().map(describe).collect();
        if left.is_empty() {
            account::removed(&self.state, log);
            error
        } else {
            let (error, left) = (describe(&error), left.join("; "));
            anyhow!("{error}; and cleaning up failed: {left}")
        }
    }
}
