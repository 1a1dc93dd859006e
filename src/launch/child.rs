//! From the clone to execve: every step of a process on its way into a container, in order (docs/design.md,
//! The last steps before the program). The child of create, the container's init, makes namespaces and the
//! root filesystem, and waits at the gate; the child of exec joins existing ones ([`Role`]). Nothing is
//! decided here: the plan has done that.

mod namespaces;

use self::namespaces::CgroupMembership;
use super::execute::{self, Program};
use super::gate::Gate;
use super::prepare::cgroup;
use super::protocol::{Channel, Message};
use super::spawn::{Joined, Running};
use crate::cgroup::{Cgroup, Entry, Scope};
use crate::fault;
use crate::hooks::{self, Environment, Output, Surroundings};
use crate::plan::Plan;
use crate::plan::exec::Source;
use crate::plan::hooks::Hooks;
use crate::plan::process::Process;
use crate::plan::sched::Execution;
use crate::process::console::Pty;
use crate::process::lsm::{self, Opened};
use crate::process::proc::Proc;
use crate::process::socket::Socket;
use crate::process::{affinity, limits, sched, stdio};
use crate::rdt;
use crate::rootfs::{self, Root, Sources, Users};
use crate::spec::{Owned, Place};
use crate::state::{self, Annotations, State, Status};
use anyhow::{Context, Result, ensure};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::clone::{self, Birth};
use sys::{cred, keyring, memory, signal};

/// A process on its way into a container, with everything it inherits from its parent.
pub struct Child<'a> {
    /// Whether it belongs to create or exec.
    pub role: Role<'a>,
    /// The cgroups to enter.
    pub groups: Groups<'a>,
    /// The host's /proc, if it is needed after changing the mount namespace.
    pub proc: Option<Proc>,
    /// The session keyring to join.
    pub keyring: Option<String>,
    /// Opened mount sources; None if the child opens them itself or mounts nothing.
    pub sources: Option<Sources>,
    /// The socket for the terminal's master, if there is a terminal.
    pub console: Option<Socket>,
    /// The channel to the parent.
    pub channel: Channel,
}

/// The command that this process is the child of.
pub enum Role<'a> {
    /// create: the container's init.
    Init(Init<'a>),
    /// exec: an additional process.
    Exec(Exec<'a>),
}

/// Parts that only the container's init has.
pub struct Init<'a> {
    /// The plan.
    pub plan: &'a mut Plan,
    /// The text of config.json, to find the position of errors.
    pub config: &'a mut Owned,
    /// The container's state.
    pub state: &'a mut State,
    /// Namespaces to join.
    pub joined: &'a [Joined],
    /// Where to send the new network namespace, if host devices are moved to it.
    pub network: Option<&'a Socket>,
    /// The cgroups shown in its mounts, if they differ from those in the state.
    pub view: Option<&'a Cgroup>,
    /// The cgroup that systemd creates: the child is not in it yet.
    pub scope: Option<&'a Scope>,
    /// Files for hooks' output.
    pub output: &'a Output,
    /// Where to wait for start.
    pub gate: &'a Gate,
}

/// Parts that only exec's process has.
pub struct Exec<'a> {
    /// The process to become.
    pub process: &'a Process,
    /// What has set its values.
    pub source: &'a Source,
    /// Settings of all processes of the container.
    pub execution: &'a Execution,
    /// The namespaces to join.
    pub container: Running<'a>,
    /// The directory to chroot to, if there is no mount namespace to join.
    pub root: Option<&'a File>,
}

/// The cgroups and the class of service to enter.
pub struct Groups<'a> {
    /// Whether the kernel has already placed it in its v2 cgroup (CLONE_INTO_CGROUP).
    pub birth: Birth,
    /// The files to enter the cgroups with.
    pub entry: &'a Entry,
    /// The files of its class of service.
    pub class: &'a [OwnedFd],
    /// systemd moves it there; the parent reports when that is done.
    pub by_systemd: bool,
}

/// The name of the session keyring of a container's processes, unless they keep the caller's.
pub fn keyring_of(state: &State) -> Option<String> {
    state.keyring.then(|| format!("_ses.{}", state.id))
}

/// Runs the child. It leaves by execve or `_exit` and never returns.
pub fn run(mut child: Child<'_>) -> ! {
    match child.set_up() {
        Ok(program) => child.execute(&program),
        Err(error) => child.fail(error),
    }
}

impl Child<'_> {
    /// Every step up to setting the ids and the filter of the program.
    fn set_up(&mut self) -> Result<Program> {
        let (sources, console) = (self.sources.take(), self.console.take());
        let Child { role, groups, proc, channel, .. } = &*self;
        let (process, proc) = (self.process(), proc.as_ref());
        let mut cgroup = CgroupMembership::new(channel, groups.by_systemd, self.plan());
        channel.phases.restart();
        groups.entry.enter(groups.birth)?;
        if let Role::Exec(_) = role {
            cgroup.wait_until_in_cgroup()?;
        }
        rdt::enter(groups.class)?;
        if let Role::Init(init) = role {
            init.introduce(channel, proc)?;
        }
        channel.end_phase("cgroups");
        let labels = lsm::open_all(proc, &process.labels)?;
        self.leave_callers_session()?;
        match role {
            Role::Init(init) => init.enter_namespaces(proc, &mut cgroup)?,
            Role::Exec(exec) => {
                exec.use_hosts_rights(proc)?;
                self.close_the_hosts(&labels, console.as_ref())?;
                exec.enter_namespaces()?;
            }
        }
        channel.end_phase("namespaces");
        if let Some(name) = &self.keyring {
            keyring::join_session_keyring(&CString::new(name.as_str())?)?;
        }
        self.set_affinity()?;
        match role {
            Role::Init(init) => {
                let root = init.build_root(sources, proc, &mut cgroup)?;
                self.open_terminal(console, Some(&root))?;
                root.finish(&init.plan.rootfs)?;
            }
            Role::Exec(exec) => {
                exec.enter_root()?;
                self.open_terminal(console, None)?;
            }
        }
        channel.end_phase("root filesystem and terminal");
        self.set_limits()?;
        labels.iter().try_for_each(Opened::set)?;
        drop(labels);
        if let Role::Init(_) = role {
            self.close_the_hosts(&[], None)?;
        }
        channel.end_phase("limits and labels");
        execute::drop_privileges(process, self.execution(), channel)
    }

    /// From here on, it only waits for start.
    fn execute(self, program: &Program) -> ! {
        if let Role::Exec(exec) = &self.role {
            let Err(error) = program.execute(exec.process, || {
                self.channel
                    .send(&Message::Ready)
                    .context("announce to brig that set-up is complete")
            });
            self.fail(error)
        }
        match self.role {
            Role::Init(init) => init.wait_and_execute(program, self.channel),
            Role::Exec(_) => sys::exit(255),
        }
    }

    /// Reports to the parent why it cannot go on, and exits.
    fn fail(&self, error: anyhow::Error) -> ! {
        let (error, code) = match &self.role {
            Role::Init(init) => (init.config.document().located(error), 1),
            Role::Exec(exec) => (exec.source.named(error), 255),
        };
        // If the parent has exited too, there is nobody to report to.
        let _ = self.channel.send(&Message::Failed(fault::pack(&error)));
        sys::exit(code)
    }

    fn process(&self) -> &Process {
        match &self.role {
            Role::Init(init) => &init.plan.process,
            Role::Exec(exec) => exec.process,
        }
    }

    fn execution(&self) -> &Execution {
        match &self.role {
            Role::Init(init) => &init.plan.execution,
            Role::Exec(exec) => exec.execution,
        }
    }

    fn plan(&self) -> Option<&Plan> {
        match &self.role {
            Role::Init(init) => Some(init.plan),
            Role::Exec(_) => None,
        }
    }

    /// Resets signals to their defaults, and leaves the process group of the terminal that brig was called
    /// from: a ctrl-C there is forwarded by brig.
    fn leave_callers_session(&self) -> Result<()> {
        signal::reset_all()?;
        if let Role::Init(_) = self.role {
            // A created container must be as killable as a running one, and the user's filter may not allow
            // this later.
            signal::end_by_signals()?;
        }
        nix::unistd::setsid().context("setsid").map(drop)
    }

    /// A CPU affinity of brig's caller (taskset(1)) does not apply to the container.
    fn set_affinity(&self) -> Result<()> {
        match &self.role {
            Role::Init(_) => Ok(sys::sched::reset_affinity()?),
            Role::Exec(exec) => affinity::in_cgroup(exec.process),
        }
    }

    /// Allocates a terminal for the container; init's is also mounted on /dev/console.
    fn open_terminal(&self, console: Option<Socket>, root: Option<&Root>) -> Result<()> {
        let process = self.process();
        let (Some(terminal), Some(socket)) = (&process.terminal, console) else { return Ok(()) };
        let pty = Pty::open(terminal, process.uid).at("process.terminal")?;
        let mount = |root: &Root| root.mount_console(pty.peer()).at("process.terminal");
        root.map_or(Ok(()), mount)?;
        pty.hand_over(&socket).at("process.terminal")
    }

    /// Called after brig's own work, which the limits must not affect, and before the change of ids, because
    /// raising limits needs privileges.
    fn set_limits(&self) -> Result<()> {
        let process = self.process();
        match &self.role {
            Role::Init(init) => {
                // The parent's death shows as end of file on the channel, so no signal is needed. Reset it
                // now, because the user's filter may not allow it later.
                cred::parent_death_signal(0)?;
                if !init.plan.only_parent_is_root() {
                    sched::schedule(0, &process.scheduling)?;
                    limits::set(0, process)?;
                }
                Ok(())
            }
            Role::Exec(_) if process.in_user_namespace => Ok(()),
            Role::Exec(_) => limits::set(0, process),
        }
    }

    /// Closes host descriptors that are no longer needed (CVE-2024-21626): exec's before entering the
    /// container, create's before waiting for start, which can take long. Descriptors still held by the
    /// parent's variables are closed underneath them; the child never uses those, because it does not return
    /// there.
    fn close_the_hosts(&self, labels: &[Opened<'_>], console: Option<&Socket>) -> Result<()> {
        let mut needed: Vec<BorrowedFd<'_>> = vec![self.channel.as_fd()];
        match &self.role {
            Role::Init(init) => {
                needed.extend(init.gate.descriptors());
                if !init.plan.hooks.start_container.is_empty() {
                    needed.extend(init.output.descriptors());
                }
            }
            Role::Exec(exec) => {
                needed.push(exec.container.init.as_fd());
                needed.extend(exec.root.map(AsFd::as_fd));
            }
        }
        needed.extend(labels.iter().map(AsFd::as_fd));
        needed.extend(console.map(AsFd::as_fd));
        Ok(clone::close_all_but(3 + self.process().preserved_fds, &needed)?)
    }
}

impl Init<'_> {
    /// Reports what the parent cannot always read: the start time of this process (its /proc may be mounted
    /// with hidepid), and its network namespace (the parent may lack CAP_SYS_PTRACE).
    fn introduce(&self, channel: &Channel, proc: Option<&Proc>) -> Result<()> {
        let started = Message::Started(state::own_stat(proc)?.starttime);
        channel.send(&started).context("send the start time to brig")?;
        let Some(socket) = self.network else { return Ok(()) };
        let path = "/proc/self/ns/net";
        socket.send(File::open(path).context(path)?.as_fd(), "network")
    }

    /// Sets up the root filesystem with all its mounts, and makes it the root of this process.
    fn build_root(
        &self,
        sources: Option<Sources>,
        proc: Option<&Proc>,
        cgroup: &mut CgroupMembership<'_>,
    ) -> Result<Root> {
        let (plan, channel) = (&*self.plan, cgroup.channel);
        self.set_sysctls(proc)?;
        let sources = sources.map_or_else(|| self.open_sources(cgroup), Ok)?;
        let root = rootfs::mount(&plan.rootfs, sources, &mut || cgroup.wait_until_in_cgroup())?;
        for warning in root.warnings() {
            let warning = Message::Warning(self.config.document().located_warning(warning));
            channel.send(&warning).context("send a warning to brig")?;
        }
        // Now, because the root may be read-only later.
        root.make_directory(plan.process.cwd.as_ref()).at("process.cwd")?;
        channel.end_phase("mounts");
        if plan.hooks.during_create() {
            channel
                .send(&Message::Mounted)
                .context("announce to brig that everything is mounted")?;
            ensure!(channel.expect(&Message::Pivot), "brig has exited");
            channel.end_phase("wait for hooks");
        }
        if !plan.hooks.create_container.is_empty() {
            let state = self.state.for_hooks(Status::Created, own_pid());
            let surroundings = self.surroundings(Environment::Empty);
            root.while_inside(|| hooks::run(&plan.hooks.create_container, &state, &surroundings))?;
            channel.end_phase("createContainer hooks");
        }
        root.pivot(&plan.rootfs)?;
        if plan.rootfs.own_dev {
            stdio::reopen_dev_null()?;
        }
        Ok(root)
    }

    /// Bind mounts of the container's own cgroups can only be opened once those exist.
    fn open_sources(&self, membership: &mut CgroupMembership<'_>) -> Result<Sources> {
        let here = match self.scope {
            Some(scope) if cgroup::shows_directories(self.plan, &self.state.cgroup) => {
                membership.wait_until_in_cgroup()?;
                Some(scope.here(&self.state.cgroup)?)
            }
            _ => None,
        };
        let cgroup = here.as_ref().or(self.view).unwrap_or(&self.state.cgroup);
        Sources::open(&self.plan.rootfs, cgroup, &Users::default(), true)
    }

    /// The context of hooks in the container's namespaces.
    fn surroundings<'a>(&'a self, environment: Environment<'a>) -> Surroundings<'a> {
        let output = self.output;
        Surroundings { output, directory: None, environment, interrupt: None, filter: None }
    }

    /// Lets the parent save the state, waits for start, and executes the program.
    fn wait_and_execute(mut self, program: &Program, channel: Channel) -> ! {
        // If the parent dies before the state is saved, this process must exit too.
        if channel.send(&Message::Ready).is_err() || !channel.expect(&Message::Saved) {
            sys::exit(1)
        }
        if self.state.uid != 0
            && let Err(error) = self.open_to_its_user()
        {
            // If this fails, there is nobody to report to.
            let _ = channel.send(&Message::Failed(fault::pack(&error)));
            sys::exit(1)
        }
        drop(channel);
        let Err(error) = self.execute(program);
        self.gate.fail(&error);
        sys::exit(1)
    }

    /// An unprivileged user cannot access an undumpable process, so `exec`, `ps` and `mounts` of a created
    /// container need it to be dumpable. At this point nothing but the container is left in it: it has the
    /// root, the ids and the capabilities of its program, and no host descriptors except the gate's and those
    /// for hooks' output. Whoever can access the program may look into this process as well, but must not
    /// find in its memory what the program would not see: brig's environment, the config, and hooks that run
    /// elsewhere. Freed memory is overwritten ([`memory::wipe_what_is_freed`]).
    ///
    /// Root's process stays undumpable until execve: root can access it anyway.
    fn open_to_its_user(&mut self) -> Result<()> {
        let (plan, state) = (&mut *self.plan, &mut *self.state);
        self.config.text = Vec::new();
        plan.hooks = Hooks {
            start_container: std::mem::take(&mut plan.hooks.start_container),
            ..Hooks::default()
        };
        (state.poststart, state.poststop) = (Vec::new(), Vec::new());
        if plan.hooks.start_container.is_empty() {
            state.annotations = Annotations::default();
        }
        memory::wipe_environment();
        Ok(cred::dumpable(true)?)
    }

    /// Waits for start, then executes the user's program.
    fn execute(&self, program: &Program) -> Result<Infallible> {
        let (process, hooks) = (&self.plan.process, &self.plan.hooks.start_container);
        self.gate.wait()?;
        if !hooks.is_empty() {
            // The courier may have left SIGCHLD in a state in which children cannot be waited for.
            signal::reset(libc::SIGCHLD)?;
        }
        let state = self.state.for_hooks(Status::Created, own_pid());
        // Hooks of the container run under its labels and filter, because their files come from the image.
        let filter = execute::late_filter(process);
        let environment = Environment::Process(program.environment());
        let surroundings = Surroundings { filter, ..self.surroundings(environment) };
        hooks::run(hooks, &state, &surroundings)?;
        program.execute(process, || self.gate.executing())
    }
}

/// Init's pid in the container, for the state passed to hooks in its namespaces.
fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
