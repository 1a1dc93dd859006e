//! From the clone to execve: the one story of a process on its way into a container, in the order of its steps
//! (docs/design.md, The last steps before the program). create's child, the container's init, makes namespaces and the
//! root filesystem, and waits at the gate; exec's joins what is there ([`Role`]).
//! No decisions are made here; the plan has made them.

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
use crate::state::{self, State, Status};
use anyhow::{Context, Result, ensure};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::clone::{self, Birth};
use sys::{cred, keyring, memory, signal};

/// A process on its way into a container, with all that it inherits from its parent.
pub struct Child<'a> {
    /// Whose child it is.
    pub role: Role<'a>,
    /// The cgroups to enter.
    pub groups: Groups<'a>,
    /// The host's /proc, where it is needed after the mount namespace is another one.
    pub proc: Option<Proc>,
    /// The session keyring to join.
    pub keyring: Option<String>,
    /// Opened mount sources; none where the child opens them, or mounts nothing.
    pub sources: Option<Sources>,
    /// Where to send the terminal's master, where there is one.
    pub console: Option<Socket>,
    /// To the parent.
    pub channel: Channel,
}

/// Whose child it is.
pub enum Role<'a> {
    /// create's: the container's init.
    Init(Init<'a>),
    /// exec's: one more process.
    Exec(Exec<'a>),
}

/// What only the container's init has.
pub struct Init<'a> {
    /// What to do.
    pub plan: &'a mut Plan,
    /// The text of config.json, to find places in for errors.
    pub config: &'a mut Owned,
    /// What is known of the container.
    pub state: &'a mut State,
    /// Namespaces to join.
    pub joined: &'a [Joined],
    /// Where to send the new network namespace, if it gets devices of the host.
    pub network: Option<&'a Socket>,
    /// What its mounts show of cgroups, where that is not in the state.
    pub view: Option<&'a Cgroup>,
    /// What systemd is to make: the child is not in there yet.
    pub scope: Option<&'a Scope>,
    /// Where hooks' output goes.
    pub output: &'a Output,
    /// Where to wait for start.
    pub gate: &'a Gate,
}

/// What only exec's process has.
pub struct Exec<'a> {
    /// What to become.
    pub process: &'a Process,
    /// What holds for all of the container's processes.
    pub execution: &'a Execution,
    /// Where it goes.
    pub container: Running<'a>,
    /// To be chrooted to, where there is no mount namespace to join.
    pub root: Option<&'a File>,
}

/// The cgroups to enter, and the class of service.
pub struct Groups<'a> {
    /// Whether it is in its cgroup2 already.
    pub birth: Birth,
    /// The files to enter by.
    pub entry: &'a Entry,
    /// The files of its class of service.
    pub class: &'a [OwnedFd],
    /// systemd moves it there; the parent says when that is done.
    pub by_systemd: bool,
}

/// The name of the session keyring of a container's processes, unless they stay in the caller's.
pub fn keyring_of(state: &State) -> Option<String> {
    state.keyring.then(|| format!("_ses.{}", state.id))
}

/// Runs the child. It leaves by execve or by `_exit`, never by returning.
pub fn run(mut child: Child<'_>) -> ! {
    match child.set_up() {
        Ok(program) => child.execute(&program),
        Err(error) => child.fail(error),
    }
}

impl Child<'_> {
    /// Every step up to the ids and the filter of the program.
    fn set_up(&mut self) -> Result<Program> {
        let (sources, console) = (self.sources.take(), self.console.take());
        let Child { role, groups, proc, channel, .. } = &*self;
        let (process, proc) = (self.process(), proc.as_ref());
        let mut cgroup = CgroupMembership::new(channel, groups.by_systemd, self.plan());
        groups.entry.enter(groups.birth)?;
        if let Role::Exec(_) = role {
            cgroup.wait_until_in_cgroup()?;
        }
        rdt::enter(groups.class)?;
        if let Role::Init(init) = role {
            init.introduce(channel, proc)?;
        }
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
        self.set_limits()?;
        labels.iter().try_for_each(Opened::set)?;
        drop(labels);
        if let Role::Init(_) = role {
            self.close_the_hosts(&[], None)?;
        }
        execute::drop_privileges(process, self.execution(), channel)
    }

    /// From here on nothing but start is awaited.
    fn execute(self, program: &Program) -> ! {
        if let Role::Exec(exec) = &self.role {
            let Err(error) = program.execute(exec.process, || {
                self.channel.send(&Message::Ready).context("tell brig that the process starts")
            });
            self.fail(error)
        }
        match self.role {
            Role::Init(init) => init.wait_and_execute(program, self.channel),
            Role::Exec(_) => sys::exit(255),
        }
    }

    /// Tells the parent why it cannot go on, and ends.
    fn fail(&self, error: anyhow::Error) -> ! {
        let (error, code) = match &self.role {
            Role::Init(init) => (init.config.document().located(error), 1),
            Role::Exec(_) => (error, 255),
        };
        // If the parent is gone too, there is nobody to tell.
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

    /// Signals as they are by default, and out of reach of ctrl-C at the terminal that brig was called from: brig
    /// forwards it.
    fn leave_callers_session(&self) -> Result<()> {
        signal::reset_all()?;
        if let Role::Init(_) = self.role {
            // A created container can be ended as a running one; and the user's filter may not allow this later.
            signal::end_by_signals()?;
        }
        nix::unistd::setsid().context("setsid").map(drop)
    }

    /// What taskset(1) bound brig to is not meant for the container.
    fn set_affinity(&self) -> Result<()> {
        match &self.role {
            Role::Init(_) => Ok(sys::sched::reset_affinity()?),
            Role::Exec(exec) => affinity::in_cgroup(exec.process),
        }
    }

    /// A terminal of the container's own; init's is mounted in the root as well.
    fn open_terminal(&self, console: Option<Socket>, root: Option<&Root>) -> Result<()> {
        let process = self.process();
        let (Some(terminal), Some(socket)) = (&process.terminal, console) else { return Ok(()) };
        let pty = Pty::open(terminal, process.uid).at("process.terminal")?;
        let mount = |root: &Root| root.mount_console(pty.peer()).at("process.terminal");
        root.map_or(Ok(()), mount)?;
        pty.hand_over(&socket).at("process.terminal")
    }

    /// After brig's own work, which is not the container's, and before the change of ids: raising limits needs rights.
    fn set_limits(&self) -> Result<()> {
        let process = self.process();
        match &self.role {
            Role::Init(init) => {
                // While the parent lives it answers, so its death is seen as end of file: no signal. Now, for
                // the user's filter may not allow it.
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

    /// Closes what the process has of the host and does not need (CVE-2024-21626): exec's before it is in the
    /// container, create's before it waits for start, which can be long. What is still in the parent's variables is
    /// closed beneath them, and never used again, for the child does not return there.
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
    /// Tells the parent what it cannot always see: when this process was started (its /proc may be mounted
    /// with hidepid), and its network namespace (it may lack CAP_SYS_PTRACE).
    fn introduce(&self, channel: &Channel, proc: Option<&Proc>) -> Result<()> {
        let started = Message::Started(state::own_stat(proc)?.starttime);
        channel.send(&started).context("tell the parent when this process was started")?;
        let Some(socket) = self.network else { return Ok(()) };
        let path = "/proc/self/ns/net";
        socket.send(File::open(path).context(path)?.as_fd(), "network")
    }

    /// A root of its own, with all its mounts, which is this process's root when this returns.
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
            channel.send(&warning).context("tell the parent of a warning")?;
        }
        // Now, because later the root may be read-only.
        root.make_directory(plan.process.cwd.as_ref()).at("process.cwd")?;
        if plan.hooks.during_create() {
            channel.send(&Message::Mounted).context("tell the parent that all is mounted")?;
            ensure!(channel.expect(&Message::Pivot), "brig is gone");
        }
        if !plan.hooks.create_container.is_empty() {
            let state = self.state.for_hooks(Status::Created, own_pid());
            let surroundings = self.surroundings(Environment::Empty);
            root.while_inside(|| hooks::run(&plan.hooks.create_container, &state, &surroundings))?;
        }
        root.pivot(&plan.rootfs)?;
        if plan.rootfs.own_dev {
            stdio::reopen_dev_null()?;
        }
        Ok(root)
    }

    /// Bind mounts of the container's own cgroups can be opened only when they are there.
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

    /// Of hooks in the container's namespaces.
    fn surroundings<'a>(&'a self, environment: Environment<'a>) -> Surroundings<'a> {
        let output = self.output;
        Surroundings { output, directory: None, environment, interrupt: None, filter: None }
    }

    /// Lets the parent save the state, waits for start, and becomes the program.
    fn wait_and_execute(mut self, program: &Program, channel: Channel) -> ! {
        // If the parent died before the state was saved, this process must not live on.
        if channel.send(&Message::Ready).is_err() || !channel.expect(&Message::Saved) {
            sys::exit(1)
        }
        drop(channel);
        if self.state.uid != 0
            && let Err(error) = self.open_to_its_user()
        {
            self.gate.fail(&error);
            sys::exit(1)
        }
        let Err(error) = self.execute(program);
        self.gate.fail(&error);
        sys::exit(1)
    }

    /// An ordinary user has no rights to what is undumpable: `exec`, `ps` and `mounts` of a created container
    /// need it to be dumpable. By now it is nothing but the container's: it has the root, the ids and the
    /// capabilities of the program that it will execute, and no descriptors of the host but the gate's and
    /// those for hooks' output. Who has power over that program may look into it already. Of what is in its
    /// memory, they are not to see what the program would not: brig's environment, the config, and hooks
    /// that run elsewhere. What is freed is overwritten ([`memory::wipe_what_is_freed`]).
    ///
    /// Root's stays undumpable until execve: root needs no permission.
    fn open_to_its_user(&mut self) -> Result<()> {
        let (plan, state) = (&mut *self.plan, &mut *self.state);
        self.config.text = Vec::new();
        plan.hooks = Hooks {
            start_container: std::mem::take(&mut plan.hooks.start_container),
            ..Hooks::default()
        };
        (state.poststart, state.poststop) = (Vec::new(), Vec::new());
        if plan.hooks.start_container.is_empty() {
            state.annotations.clear();
        }
        memory::wipe_environment();
        Ok(cred::dumpable(true)?)
    }

    /// Waits for start, then becomes the user's program.
    fn execute(&self, program: &Program) -> Result<Infallible> {
        let (process, hooks) = (&self.plan.process, &self.plan.hooks.start_container);
        self.gate.wait()?;
        if !hooks.is_empty() {
            // A courier of the filter's may have left it so that nobody can be waited for.
            signal::reset(libc::SIGCHLD)?;
        }
        let state = self.state.for_hooks(Status::Created, own_pid());
        // They are the container's, and what their files do is the image's.
        let filter = execute::late_filter(process);
        let environment = Environment::Process(program.environment());
        let surroundings = Surroundings { filter, ..self.surroundings(environment) };
        hooks::run(hooks, &state, &surroundings)?;
        program.execute(process, || self.gate.executing())
    }
}

/// Init's pid in the container, which hooks in its namespaces are told.
fn own_pid() -> i32 {
    std::process::id().cast_signed()
}
