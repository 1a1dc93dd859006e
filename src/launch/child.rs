//! From the clone to execve: the steps of the container's first process, in their order.
//! No decisions are made here; the plan has made them.

use super::execute::{self, Program};
use super::gate::Gate;
use super::prepare::cgroup;
use super::protocol::{Channel, Message};
use super::spawn::{self, Joined};
use crate::cgroup::{Cgroup, Entry, Scope};
use crate::fault;
use crate::hooks::{self, Environment, Output, Surroundings};
use crate::plan::Plan;
use crate::plan::hooks::{Hook, Hooks};
use crate::plan::sysctl::Sysctl;
use crate::process::console::Pty;
use crate::process::lsm::{self, Opened};
use crate::process::proc::Proc;
use crate::process::socket::Socket;
use crate::process::{ids, limits, sched, stdio};
use crate::rdt;
use crate::rootfs::{self, Sources, Users};
use crate::seccomp::Filter;
use crate::spec::{Document, Owned, Place};
use crate::state::{self, State, Status};
use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use sys::clone::{self, Birth};
use sys::{cred, keyring, memory, namespace, signal};

/// Everything the child inherits from the parent.
pub struct Inherited<'a> {
    /// What to do.
    pub plan: &'a mut Plan,
    /// The text of config.json, to find places in for errors.
    pub config: &'a mut Owned,
    /// What is known of the container.
    pub state: &'a mut State,
    /// Whether it is in its cgroup2 already.
    pub birth: Birth,
    /// The cgroups to enter.
    pub entry: Entry,
    /// What its mounts show of cgroups, where that is not in the state.
    pub view: Option<&'a Cgroup>,
    /// What systemd is to make: the child is not in there yet.
    pub scope: Option<&'a Scope>,
    /// The files of its class of service.
    pub class: Vec<OwnedFd>,
    /// Where hooks' output goes.
    pub output: &'a Output,
    /// The host's /proc, where it is needed after the mount namespace is another one.
    pub proc: Option<Proc>,
    /// Where to send the new network namespace, if it gets devices of the host.
    pub network: Option<Socket>,
    /// Namespaces to join.
    pub joined: Vec<Joined>,
    /// Opened mount sources; none where the child opens them.
    pub sources: Option<Sources>,
    /// Where to send the terminal's master, where there is one.
    pub console: Option<Socket>,
    /// To the parent.
    pub channel: Channel,
    /// Where to wait for start.
    pub gate: Gate,
}

/// Runs the child. It leaves by execve or by `_exit`, never by returning.
pub fn run(inherited: Inherited<'_>) -> ! {
    let Inherited {
        plan,
        config,
        state,
        birth,
        entry,
        view,
        scope,
        class,
        output,
        proc,
        network,
        joined,
        sources,
        console,
        channel,
        gate,
    } = inherited;
    let own = plan.namespaces.new & libc::CLONE_NEWCGROUP != 0;
    let mut cgroup = InCgroup { channel: &channel, awaited: scope.is_some(), namespace: own };
    let ready = enter_groups(&entry, birth, &class)
        .and_then(|()| introduce(&channel, proc.as_ref(), network.as_ref()))
        .and_then(|()| lsm::open_all(proc.as_ref(), &plan.process.labels))
        .and_then(|labels| {
            enter(plan, state, proc.as_ref(), &joined, &mut cgroup)?;
            let sources = match sources {
                Some(sources) => sources,
                None => open_sources(plan, state, (view, scope), &mut cgroup)?,
            };
            build(plan, sources, state, (console, output), (config.document(), &mut cgroup))?;
            become_user(plan, labels, output, &channel, &gate)
        });
    let program = match ready {
        Ok(program) => program,
        Err(error) => {
            // If the parent is gone too, there is nobody to tell.
            let _ = channel.send(&Message::Failed(fault::pack(&config.document().located(error))));
            sys::exit(1)
        }
    };
    if !wait_until_saved(&channel) {
        sys::exit(1)
    }
    drop(channel);
    if state.uid != 0
        && let Err(error) = open_to_its_user(plan, config, state)
    {
        gate.fail(&error);
        sys::exit(1)
    }
    let Err(error) = execute(plan, &program, state, output, &gate);
    gate.fail(&error);
    sys::exit(1)
}

/// From root in the container to the user's program.
fn become_user(
    plan: &Plan,
    labels: Vec<Opened<'_>>,
    output: &Output,
    channel: &Channel,
    gate: &Gate,
) -> Result<Program> {
    // While the parent lives it answers, so its death is seen as end of file: no signal. Now, for
    // the user's filter may not allow it.
    cred::parent_death_signal(0)?;
    if !plan.only_parent_is_root() {
        sched::schedule(0, &plan.process.scheduling)?;
        limits::set(0, &plan.process)?;
    }
    labels.iter().try_for_each(Opened::set)?;
    drop(labels);
    close_the_rest(plan, output, channel, gate)?;
    execute::become_user(&plan.process, &plan.execution, channel)
}

/// While it waits for start, which can be long, the container's process has nothing of the host open
/// that it does not need (CVE-2024-21626): what is still in the parent's variables is closed beneath
/// them, and never used again, for the child does not return there.
fn close_the_rest(plan: &Plan, output: &Output, channel: &Channel, gate: &Gate) -> Result<()> {
    let [go, result] = gate.descriptors();
    let mut needed = vec![channel.as_fd(), go, result];
    if !plan.hooks.start_container.is_empty() {
        needed.extend(output.descriptors());
    }
    Ok(clone::close_all_but(3 + plan.process.preserved_fds, &needed)?)
}

/// An ordinary user has no rights to what is undumpable: `exec`, `ps` and `mounts` of a created container
/// need it to be dumpable. By now it is nothing but the container's: it has the root, the ids and the
/// capabilities of the program that it will execute, and no descriptors of the host but the gate's and
/// those for hooks' output. Who has power over that program may look into it already. Of what is in its
/// memory, they are not to see what the program would not: brig's environment, the config, and hooks
/// that run elsewhere. What is freed is overwritten ([`memory::wipe_what_is_freed`]).
///
/// Root's stays undumpable until execve: root needs no permission.
fn open_to_its_user(plan: &mut Plan, config: &mut Owned, state: &mut State) -> Result<()> {
    config.text = Vec::new();
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

/// First of all, so that whatever is allocated, mounted or copied from here on is charged to them.
fn enter_groups(entry: &Entry, birth: Birth, class: &[OwnedFd]) -> Result<()> {
    entry.enter(birth)?;
    rdt::enter(class)
}

/// Tells the parent what it cannot always see: when this process was started (its /proc may be mounted
/// with hidepid), and its network namespace (it may lack CAP_SYS_PTRACE).
fn introduce(channel: &Channel, proc: Option<&Proc>, network: Option<&Socket>) -> Result<()> {
    let started = Message::Started(state::own_start_time(proc)?);
    channel.send(&started).context("tell the parent when this process was started")?;
    let Some(socket) = network else { return Ok(()) };
    let path = "/proc/self/ns/net";
    socket.send(File::open(path).context(path)?.as_fd(), "network")
}

/// Out of the host: namespaces, and what belongs to them.
fn enter(
    plan: &Plan,
    state: &State,
    proc: Option<&Proc>,
    joined: &[Joined],
    cgroup: &mut InCgroup<'_>,
) -> Result<()> {
    signal::reset_all()?;
    // A created container can be ended as a running one; and the user's filter may not allow this later.
    signal::end_by_signals()?;
    // Out of reach of ctrl-C at the terminal that brig was called from; brig forwards it.
    nix::unistd::setsid().context("setsid")?;
    if plan.needs_parent() {
        ensure!(cgroup.channel.expect(&Message::Provided), "brig is gone");
    }
    if plan.namespaces.new & libc::CLONE_NEWTIME != 0 {
        make_time_namespace(open(proc)?, &plan.time_offsets).at("linux.timeOffsets")?;
    }
    if plan.process.in_user_namespace {
        ids::become_root(&plan.process)?;
    }
    // Until there is a saved state that leads to this process it must not outlive the parent. Not
    // before now: a change of ids clears it.
    cred::parent_death_signal(libc::SIGKILL)?;
    // What is not dumpable, other processes of a shared pid namespace cannot look into (CVE-2016-9962).
    // Root's child has been so from its birth on, but a change of ids resets it to fs.suid_dumpable. An
    // ordinary user's could not be before: its id maps would be root's.
    cred::dumpable(false)?;
    spawn::join(&plan.namespaces, joined)?;
    if !cgroup.awaited {
        cgroup.make_namespace()?;
    }
    if plan.namespaces.new & libc::CLONE_NEWNET != 0 {
        namespace::loopback_up()?;
    }
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name).context("sethostname").at("hostname")?;
    }
    if let Some(name) = &plan.domainname {
        namespace::setdomainname(name.as_bytes()).at("domainname")?;
    }
    if state.keyring {
        keyring::join_session_keyring(&CString::new(format!("_ses.{}", state.id))?)?;
    }
    // What taskset(1) bound brig to is not meant for the container.
    sys::sched::reset_affinity()?;
    plan.sysctl.iter().try_for_each(|sysctl| set_sysctl(open(proc)?, sysctl))
}

fn open(proc: Option<&Proc>) -> Result<&Proc> {
    proc.context("the host's /proc is not open")
}

/// A new time namespace takes its offsets only as long as nobody is in it (time_namespaces(7)).
fn make_time_namespace(proc: &Proc, offsets: &[(&str, i64, u32)]) -> Result<()> {
    unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("unshare(CLONE_NEWTIME)")?;
    for (clock, seconds, nanoseconds) in offsets {
        proc.write("self/timens_offsets", &format!("{clock} {seconds} {nanoseconds}"))?;
    }
    let file = proc.file("self/ns/time_for_children", OFlag::O_RDONLY)?;
    setns(&file, CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("setns(CLONE_NEWTIME)")
}

/// The kernel looks up a parameter in the namespaces of whoever opens it.
fn set_sysctl(proc: &Proc, sysctl: &Sysctl) -> Result<()> {
    proc.write(&format!("sys/{}", sysctl.path), &sysctl.value).at(&sysctl.place)
}

/// The child's being in its cgroup, which systemd may still be about to see to.
struct InCgroup<'a> {
    channel: &'a Channel,
    awaited: bool,
    /// There is to be a cgroup namespace. Its root is where the process is when it is made.
    namespace: bool,
}

impl InCgroup<'_> {
    /// To be called before anything that shows cgroups, or is to be charged to the container's.
    fn be(&mut self) -> Result<()> {
        if self.awaited {
            ensure!(self.channel.expect(&Message::Placed), "brig is gone");
            self.awaited = false;
            self.make_namespace()?;
        }
        Ok(())
    }

    fn make_namespace(&self) -> Result<()> {
        if self.namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare(CLONE_NEWCGROUP)")?;
        }
        Ok(())
    }
}

/// Bind mounts of the container's own cgroups can be opened only when they are there.
fn open_sources(
    plan: &Plan,
    state: &State,
    (view, scope): (Option<&Cgroup>, Option<&Scope>),
    cgroup: &mut InCgroup<'_>,
) -> Result<Sources> {
    let here = match scope {
        Some(scope) if cgroup::shows_directories(plan, &state.cgroup) => {
            cgroup.be()?;
            Some(scope.here(&state.cgroup)?)
        }
        _ => None,
    };
    Sources::open(
        &plan.rootfs,
        here.as_ref().or(view).unwrap_or(&state.cgroup),
        &Users::default(),
        true,
    )
}

/// A root of its own.
fn build(
    plan: &Plan,
    sources: Sources,
    state: &State,
    (console, output): (Option<Socket>, &Output),
    (config, cgroup): (Document<'_>, &mut InCgroup<'_>),
) -> Result<()> {
    let root = rootfs::mount(&plan.rootfs, sources, &mut || cgroup.be())?;
    let channel = cgroup.channel;
    for warning in root.warnings() {
        let warning = Message::Warning(config.located_warning(warning));
        channel.send(&warning).context("tell the parent of a warning")?;
    }
    // Now, because later the root may be read-only.
    root.make_directory(plan.process.cwd.as_ref()).at("process.cwd")?;
    if plan.hooks.during_create() {
        channel.send(&Message::Mounted).context("tell the parent that all is mounted")?;
        ensure!(channel.expect(&Message::Pivot), "brig is gone");
    }
    if !plan.hooks.create_container.is_empty() {
        let (hooks, own) = (&plan.hooks.create_container, (Environment::Empty, None));
        root.while_inside(|| run_hooks(hooks, (state, Status::Created), output, own))?;
    }
    root.pivot(&plan.rootfs)?;
    if plan.rootfs.own_dev {
        stdio::renew_null()?;
    }
    if let (Some(terminal), Some(socket)) = (&plan.process.terminal, console) {
        let pty = Pty::open(terminal, plan.process.uid).at("process.terminal")?;
        root.mount_console(pty.peer()).at("process.terminal")?;
        pty.hand_over(&socket).at("process.terminal")?;
    }
    root.finish(&plan.rootfs)
}

/// Hooks in the container's namespaces: they are told init's pid there.
fn run_hooks(
    hooks: &[Hook],
    (state, status): (&State, Status),
    output: &Output,
    (environment, filter): (Environment<'_>, Option<&Filter>),
) -> Result<()> {
    let state = state.for_hooks(status, std::process::id().cast_signed());
    let surroundings =
        Surroundings { output, directory: None, environment, interrupt: None, filter };
    hooks::run(hooks, &state, &surroundings)
}

/// Whether the parent has saved the state: if it died first, this process must not live on.
fn wait_until_saved(channel: &Channel) -> bool {
    channel.send(&Message::Ready).is_ok() && channel.expect(&Message::Saved)
}

/// Waits for start, then becomes the user's program.
fn execute(
    plan: &Plan,
    program: &Program,
    state: &State,
    output: &Output,
    gate: &Gate,
) -> Result<Infallible> {
    gate.wait()?;
    if !plan.hooks.start_container.is_empty() {
        // A courier of the filter's may have left it so that nobody can be waited for.
        signal::reset(libc::SIGCHLD)?;
    }
    // They are the container's, and what their files do is the image's.
    let own = (Environment::Process(program.environment()), execute::late_filter(&plan.process));
    run_hooks(&plan.hooks.start_container, (state, Status::Created), output, own)?;
    program.execute(&plan.process, || gate.executing())
}
