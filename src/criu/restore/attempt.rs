//! A container being restored: what is created for it, CRIU's notifications, and undoing everything.

use super::super::image::Record;
use super::super::options::RestoreOptions;
use super::super::rpc::{Criu, Notice, RESTORE, Start};
use super::super::stage::Stage;
use super::super::wire::Message;
use super::super::{check, log as criu_log};
use super::inside;
use super::request::{Asked, Binds, Given};
use crate::cgroup::Scope;
use crate::deadline;
use crate::hooks::{self, Environment, Output, Surroundings};
use crate::launch::child::keyring_of;
use crate::launch::create::Options;
use crate::launch::prepare::net_devices::{self, MovedDevices};
use crate::launch::prepare::{cgroup, id_maps, upper};
use crate::launch::spawn::Joined;
use crate::log::Log;
use crate::plan::Plan;
use crate::process::console::MasterRoute;
use crate::process::socket::Socket;
use crate::spec::Place;
use crate::state::{self, Dir, Lock, State, Status};
use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use sys::{Errno, cred, describe, signal, tty};

/// The name used by runc and crun.
pub(super) const LOG: &str = "restore.log";

/// The first CRIU that restores no_new_privs.
const KEEPS_NO_NEW_PRIVILEGES: u32 = 31_900;

/// A restored container.
pub(super) struct Restored {
    pub(super) dir: Dir,
    pub(super) lock: Option<Lock>,
    pub(super) state: State,
    pub(super) init: OwnedFd,
    /// The terminal's master, if brig forwards its data.
    pub(super) master: Option<OwnedFd>,
}

/// What was opened before anything was created.
pub(super) struct Opened {
    pub(super) record: Record,
    pub(super) binds: Binds,
    pub(super) joined: Vec<Joined>,
    pub(super) console: MasterRoute,
    pub(super) pidfd_sockets: Vec<Socket>,
    pub(super) output: Output,
    pub(super) network: Option<File>,
}

/// See the module documentation.
pub(super) struct Attempt {
    dir: Dir,
    lock: Option<Lock>,
    state: State,
    makes_cgroup: bool,
    scope: Option<Scope>,
    /// CRIU's pid.
    criu: i32,
    init: Option<OwnedFd>,
    master: Option<OwnedFd>,
    moved: Option<MovedDevices>,
    reached_hooks: bool,
}

impl Attempt {
    pub(super) fn new(
        dir: Dir,
        lock: Lock,
        state: State,
        makes_cgroup: bool,
        scope: Option<Scope>,
    ) -> Self {
        Attempt {
            dir,
            lock: Some(lock),
            state,
            makes_cgroup,
            scope,
            criu: 0,
            init: None,
            master: None,
            moved: None,
            reached_hooks: false,
        }
    }

    /// Restores the container, or leaves nothing behind.
    #[expect(clippy::too_many_arguments, reason = "what was looked at, and nothing is used twice")]
    pub(super) fn launch(
        mut self,
        options: &Options,
        how: &RestoreOptions,
        plan: &Plan,
        mut opened: Opened,
        config: &[u8],
        signals: &SignalFd,
        log: &mut Log,
    ) -> Result<Restored> {
        let done = self
            .make(options, plan, config, log)
            .and_then(|()| self.restore(options, how, plan, &mut opened, signals));
        match done {
            Ok(()) => {
                let Attempt { dir, lock, state, init, master, .. } = self;
                let init = init.context("criu has not restored a process")?;
                Ok(Restored { dir, lock, state, init, master })
            }
            Err(error) => Err(self.undo(error, log)),
        }
    }

    /// Creates state and cgroups.
    fn make(&mut self, options: &Options, plan: &Plan, config: &[u8], log: &mut Log) -> Result<()> {
        self.dir.begin(&self.state)?;
        self.dir.write("config.json", config)?;
        if self.makes_cgroup {
            cgroup::make(&self.dir, &mut self.state, plan, log)?;
        }
        if let (Some(rdt), Some(plan)) = (&mut self.state.rdt, &plan.rdt) {
            rdt.create(plan)?;
        }
        upper::ensure_unused(&options.root, &self.state, plan)
    }

    fn restore(
        &mut self,
        options: &Options,
        how: &RestoreOptions,
        plan: &Plan,
        opened: &mut Opened,
        signals: &SignalFd,
    ) -> Result<()> {
        let record = &opened.record;
        let images = &how.common.images;
        let given = Given::new(images, record, plan, &opened.joined, options.preserve_fds)?;
        let class =
            self.state.rdt.as_ref().map_or_else(|| Ok(Vec::new()), crate::rdt::Rdt::entry)?;
        let users = id_maps::of_plan(plan, &opened.joined)?;
        let beside = self.dir.path.clone();
        let stage = Stage {
            plan,
            cgroup: &self.state.cgroup,
            enters: self.makes_cgroup && how.common.manage_cgroups.as_deref() == Some("ignore"),
            users: &users,
            class: &class,
            keyring: keyring_of(&self.state),
            beside: &beside,
            below: &opened.binds.below,
        };
        let start = Start {
            program: how.common.program(),
            namespaces: libc::CLONE_NEWNS,
            inherits: given.descriptors(),
            same_job: how.common.has("shell-job"),
            signals,
        };
        let bound = plan.process.no_new_privileges && !how.trust_image;
        let (mut criu, version) = start_criu(&start, &stage, bound)?;
        self.criu = criu.pid;
        criu.check_features(false, how.common.has("lazy-pages"))?;
        self.enter_scope(plan, criu.pid, signals)?;
        let (state, binds) = (&self.state, &opened.binds);
        let asked = Asked { how, plan, state, record, given: &given, beside: &beside, binds };
        // In CRIU's mount namespace, not brig's: CRIU mounts in its working directory.
        let open = |dir: &Path| -> Result<File> {
            // Resolved first: an absolute symbolic link would lead back into brig's mount namespace.
            let dir = std::fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
            let path = format!("/proc/{}/root{}", criu.pid, dir.display());
            File::open(path).with_context(|| dir.display().to_string())
        };
        let (images, work) = (open(images)?, open(how.common.work())?);
        let request = asked.options(version, &images, &work)?;
        let request = Message::default().number(1, RESTORE).message(2, &request);
        let answer = criu.ask(&request, "post-restore", &mut |notice| {
            self.answer(notice, options, how, plan, opened, signals)
        })?;
        if let Some(error) = criu.refused.take() {
            return Err(error);
        }
        let failed = || criu_log::explain(&how.common.work().join(LOG), &answer.text);
        ensure!(answer.success, self.with_cause(failed()));
        criu.finish();
        Ok(())
    }

    /// systemd needs a process for a scope: CRIU is the first one.
    fn enter_scope(&mut self, plan: &Plan, criu: i32, signals: &SignalFd) -> Result<()> {
        let Some(scope) = &mut self.scope else { return Ok(()) };
        scope.interrupted_by(signals.as_fd().try_clone_to_owned()?);
        scope.ask(&self.state.cgroup, &self.state.id, criu, &plan.resources)?;
        scope.settle(&mut self.state.cgroup, criu, &plan.resources)?;
        self.dir.save(&self.state)
    }

    /// Adds a possible reason for CRIU's failure to its message.
    fn with_cause(&self, error: anyhow::Error) -> anyhow::Error {
        match self.state.cgroup.oom_killed() {
            true => error
                .context("the container's memory limit does not suffice")
                .context("linux.resources.memory"),
            false => error,
        }
    }

    /// Handles CRIU's notifications.
    fn answer(
        &mut self,
        notice: Notice,
        options: &Options,
        how: &RestoreOptions,
        plan: &Plan,
        opened: &mut Opened,
        signals: &SignalFd,
    ) -> Result<()> {
        match notice.script.as_str() {
            "setup-namespaces" => {
                self.adopt(notice.pid)?;
                if plan.namespaces.new & libc::CLONE_NEWNET != 0 {
                    inside::set_loopback_up(notice.pid)?;
                }
                inside::set_sysctls(notice.pid, plan)?;
                let network = match (opened.network.take(), plan.net_devices.is_empty()) {
                    (None, false) => Some(File::open(format!("/proc/{}/ns/net", notice.pid))?),
                    (network, _) => network,
                };
                net_devices::give_all(&mut self.moved, plan, network)?;
                self.run_hooks(plan, &opened.output, signals)
            }
            "orphan-pts-master" => {
                let master = notice.descriptor.context("criu has sent no terminal")?;
                self.hand_over(master, &opened.console)
            }
            "post-restore" => {
                self.adopt(notice.pid)?;
                if let Some(name) = &how.hostname {
                    inside::set_hostname(notice.pid, name)?;
                }
                if let Some(master) = &self.master {
                    // As in run: brig's own terminal already converts newlines to `\r\n`.
                    tty::keep_newlines(master.as_fd())?;
                }
                if plan.rootfs.readonly {
                    inside::make_root_readonly(notice.pid)?;
                }
                self.save(opened)
            }
            // CRIU ignores a negative response at this point.
            "pre-resume" => self.approve(options, how, plan).inspect_err(|_| self.kill()),
            _ => Ok(()),
        }
    }

    /// It is brig's child, so its pid cannot be reused.
    fn adopt(&mut self, pid: i32) -> Result<()> {
        if self.init.is_some() {
            return Ok(());
        }
        let init = signal::pidfd_open(pid)?;
        self.state.pid = pid;
        self.state.pidfs_inode = state::pidfs_inode(init.as_fd())?;
        self.state.boot = self.state.pidfs_inode.and_then(|_| state::boot()).map(str::to_owned);
        self.state.start_time = state::start_time(pid)?;
        self.init = Some(init);
        Ok(())
    }

    /// Sends the master to the console socket, or keeps it for brig.
    fn hand_over(&mut self, master: OwnedFd, route: &MasterRoute) -> Result<()> {
        match &route.child {
            Some(socket) if route.own.is_none() => {
                let name = format!("/dev/pts/{}", tty::number(master.as_fd())?);
                socket.send(master.as_fd(), &name).at("process.terminal")
            }
            _ => {
                self.master = Some(master);
                Ok(())
            }
        }
    }

    /// As in runc: only those that prepare the container's surroundings, in the runtime's namespaces.
    fn run_hooks(&mut self, plan: &Plan, output: &Output, signals: &SignalFd) -> Result<()> {
        if plan.hooks.prestart.is_empty() && plan.hooks.create_runtime.is_empty() {
            return Ok(());
        }
        self.reached_hooks = true;
        self.dir.save(&self.state)?;
        let state = self.state.for_hooks(Status::Created, self.state.pid);
        let surroundings = Surroundings {
            output,
            directory: Some(&self.state.bundle),
            environment: Environment::Runtime,
            interrupt: Some(signals.as_fd()),
            filter: None,
        };
        hooks::run(&plan.hooks.prestart, &state, &surroundings)?;
        hooks::run(&plan.hooks.create_runtime, &state, &surroundings)
    }

    /// From here on, other commands see a running container.
    fn save(&mut self, opened: &Opened) -> Result<()> {
        check::belongs(&self.state)?;
        let time = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/time")).ok();
        // CRIU always creates a time namespace, so that clocks continue from their old values.
        if time(&self.state.pid.to_string()) != time("self") {
            self.state.namespaces |= libc::CLONE_NEWTIME;
        }
        self.state.creating = false;
        self.dir.save(&self.state)?;
        let init = self.init.as_ref().context("no process")?;
        opened.pidfd_sockets.iter().try_for_each(|socket| socket.send(init.as_fd(), "standard"))
    }

    /// The last step before it runs. The pid file is written only here, because undo does not remove it.
    fn approve(&self, options: &Options, how: &RestoreOptions, plan: &Plan) -> Result<()> {
        if !how.trust_image {
            check::rights(&self.state, plan, self.criu)?;
        }
        let file = options.pid_file.as_ref();
        file.map_or(Ok(()), |path| state::write_pid_file(path, self.state.pid))
    }

    /// Kills everything restored so far.
    fn kill(&self) {
        if let Some(init) = &self.init {
            // If it is dead already, that is fine.
            let _ = signal::pidfd_send_signal(init.as_fd(), libc::SIGKILL);
        }
        if self.state.cgroup.is_own() && !self.state.cgroup.is_none() {
            let _ = self.state.cgroup.kill();
        }
    }

    /// Undoes everything. What cannot be undone is appended to the original error.
    fn undo(mut self, error: anyhow::Error, log: &mut Log) -> anyhow::Error {
        self.kill();
        let mut left: Vec<anyhow::Error> = end_children().err().into_iter().collect();
        left.extend(self.moved.map(MovedDevices::take_back).unwrap_or_default());
        if let Some(scope) = self.scope {
            left.extend(scope.abandon(&mut self.state.cgroup).err());
        }
        left.extend(self.state.cgroup.remove(Instant::now() + deadline::CGROUP).err());
        left.extend(self.state.rdt.as_ref().and_then(|rdt| rdt.remove().err()));
        left.extend(self.dir.remove().err());
        if self.reached_hooks {
            crate::launch::destroy::poststop(&self.state, log);
        }
        if left.is_empty() {
            return error;
        }
        let left = left.iter().map(describe).collect::<Vec<_>>().join("; ");
        anyhow!("{}; and what was made is not all removed: {left}", describe(&error))
    }
}

/// Starts CRIU; also returns its version. `bound`: set no_new_privs first, which CRIU and everything it
/// restores keep.
fn start_criu<'a>(start: &Start<'a>, stage: &Stage<'_>, bound: bool) -> Result<(Criu<'a>, u32)> {
    let mut criu = Criu::start(start, || stage.prepare())?;
    let version = criu.version()?;
    if !bound || version >= KEEPS_NO_NEW_PRIVILEGES {
        return Ok((criu, version));
    }
    // CRIU does not restore it, so it is set for CRIU itself, and inherited.
    criu.finish();
    let prepare = || stage.prepare().and_then(|()| Ok(cred::no_new_privileges()?));
    Ok((Criu::start(start, prepare)?, version))
}

/// Kills and reaps every child of brig: those left by a killed CRIU are not all known, and may not be in
/// their cgroup yet.
fn end_children() -> Result<()> {
    let end = Instant::now() + deadline::KILL;
    loop {
        let own = format!("/proc/self/task/{}/children", std::process::id());
        let children = std::fs::read_to_string(own).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            if let Ok(child) = signal::pidfd_open(pid) {
                let _ = signal::pidfd_send_signal(child.as_fd(), libc::SIGKILL);
            }
        }
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) => {
                let seconds = deadline::KILL.as_secs();
                ensure!(
                    Instant::now() < end,
                    "a restored process still exists {seconds} s after SIGKILL"
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            reaped => drop(reaped.context("waitid")?),
        }
    }
}
