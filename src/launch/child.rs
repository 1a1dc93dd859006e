//! From the clone to execve: the steps of the container's first process, in their order.
//! No decisions are made here; the plan has made them.

use super::gate::Gate;
use super::spawn::{self, Joined};
use super::sync::{Channel, Message};
use crate::cgroup::Entry;
use crate::hooks::{self, Hook};
use crate::plan::Plan;
use crate::plan::sysctl::Sysctl;
use crate::process::{command, ids, passwd, stdio};
use crate::rootfs::{self, Sources};
use crate::spec::{At, Place};
use crate::state::{State, Status};
use crate::sys::{Errno, cred, misc, signal};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::CString;
use std::io::Write;
use std::path::Path;

/// Everything the child inherits from the parent.
pub struct Inherited<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The text of config.json, to find places in for errors.
    pub config: &'a [u8],
    /// What is known of the container.
    pub state: &'a State,
    /// Join a session keyring of the container's own.
    pub keyring: bool,
    /// The cgroups to enter.
    pub entry: Entry,
    /// Namespaces to join.
    pub joined: Vec<Joined<'a>>,
    /// Opened mount sources.
    pub sources: Sources,
    /// To the parent.
    pub channel: Channel,
    /// Where to wait for start.
    pub gate: Gate,
}

/// Runs the child. It leaves by execve or by `_exit`, never by returning.
pub fn run(inherited: Inherited<'_>) -> ! {
    let Inherited { plan, config, state, keyring, entry, joined, sources, channel, gate } =
        inherited;
    let ready = enter(plan, &state.id, keyring, &entry, &joined)
        .and_then(|()| build(plan, sources, state, &channel))
        .and_then(|()| become_user(plan));
    let program = match ready {
        Ok(program) => program,
        Err(error) => {
            // If the parent is gone too, there is nobody to tell.
            let _ = channel.send(&Message::Failed(located(error, config)));
            crate::sys::exit(1)
        }
    };
    if !wait_until_saved(&channel) {
        crate::sys::exit(1)
    }
    drop(channel);
    let Err(error) = execute(plan, &program, state, &gate);
    gate.fail(&format!("{error:#}"));
    crate::sys::exit(1)
}

fn located(mut error: anyhow::Error, config: &[u8]) -> String {
    if let Some(at) = error.downcast_mut::<At>() {
        at.locate(config);
    }
    format!("{error:#}")
}

/// Out of the host: cgroups, namespaces, and what belongs to them.
fn enter(plan: &Plan, id: &str, keyring: bool, entry: &Entry, joined: &[Joined<'_>]) -> Result<()> {
    // First of all, so that whatever is allocated, mounted or copied from here on is charged to it.
    entry.enter()?;
    // Until there is a saved state that leads to this process it must not outlive the parent.
    cred::parent_death_signal(libc::SIGKILL)?;
    signal::reset_all()?;
    // Out of reach of ctrl-C at the terminal that brig was called from; brig forwards it.
    nix::unistd::setsid().context("setsid")?;
    spawn::join(joined)?;
    if plan.namespaces.new & libc::CLONE_NEWCGROUP != 0 {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
            .context("unshare(CLONE_NEWCGROUP)")?;
    }
    if plan.namespaces.new & libc::CLONE_NEWNET != 0 {
        misc::loopback_up()?;
    }
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name).context("sethostname").at("hostname")?;
    }
    if let Some(name) = &plan.domainname {
        misc::setdomainname(name.as_bytes()).at("domainname")?;
    }
    if keyring {
        misc::join_session_keyring(&CString::new(format!("_ses.{id}"))?)?;
    }
    // What taskset(1) bound brig to is not meant for the container.
    misc::reset_affinity()?;
    if let Some(score) = plan.process.oom_score_adj {
        write_proc("self/oom_score_adj", &score.to_string()).at("process.oomScoreAdj")?;
    }
    plan.sysctl.iter().try_for_each(set_sysctl)
}

/// Through the host's own /proc, which nobody in the container can have replaced (CVE-2025-52881):
/// the kernel looks up a parameter in the namespaces of whoever opens it.
fn set_sysctl(sysctl: &Sysctl) -> Result<()> {
    write_proc(&format!("sys/{}", sysctl.path), &sysctl.value).at(&sysctl.place)
}

fn write_proc(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/{path}");
    let write = || -> Result<()> {
        Ok(std::fs::File::options().write(true).open(&path)?.write_all(value.as_bytes())?)
    };
    write().with_context(|| format!("write {value:?} to {path}"))
}

/// A root of its own.
fn build(plan: &Plan, sources: Sources, state: &State, channel: &Channel) -> Result<()> {
    let root = rootfs::mount(&plan.rootfs, sources)?;
    // Now, because later the root may be read-only.
    root.make_directory(plan.process.cwd.as_ref()).at("process.cwd")?;
    if plan.hooks.during_create() {
        channel.send(&Message::Mounted).context("tell the parent that all is mounted")?;
        ensure!(channel.expect(&Message::Pivot), "brig is gone");
    }
    run_hooks(&plan.hooks.create_container, state, Status::Creating, &state.bundle)?;
    root.pivot(&plan.rootfs)?;
    root.finish(&plan.rootfs)
}

/// Hooks in the container's namespaces: they are told init's pid there.
fn run_hooks(hooks: &[Hook], state: &State, status: Status, directory: &Path) -> Result<()> {
    hooks::run(hooks, &state.for_hooks(status, std::process::id().cast_signed()), directory)
}

/// From the host's root to whom the config names, in the only order in which each step still has
/// the rights it needs. Gives the program's path.
fn become_user(plan: &Plan) -> Result<Program> {
    let process = &plan.process;
    stdio::give_to(process.uid)?;
    for (resource, soft, hard, place) in &process.rlimits {
        cred::setrlimit(*resource, *soft, *hard).at(place)?;
    }
    let home = process.needs_home.then(|| home_variable(process.uid));
    // As root first: the user may not be allowed to search a parent directory. As the user
    // again: root may not, on a network file system.
    let entered = nix::unistd::chdir(process.cwd.as_str());
    ids::become_user(process)?;
    if let Some(umask) = process.umask {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
    }
    if entered.is_err() {
        nix::unistd::chdir(process.cwd.as_str())
            .with_context(|| format!("chdir({})", process.cwd))
            .at("process.cwd")?;
    }
    inside_root().at("process.cwd")?;
    // The ids changed: the kernel has forgotten it.
    cred::parent_death_signal(libc::SIGKILL)?;
    let path = command::find(&process.args[0], &process.search)
        .context("unable to start container process")?;
    Ok(Program { path, home })
}

/// HOME from the container's /etc/passwd, else `/`.
fn home_variable(uid: u32) -> CString {
    let mut variable = b"HOME=".to_vec();
    variable.extend(passwd::home_of(uid).unwrap_or_else(|| b"/".to_vec()));
    CString::new(variable).unwrap_or_else(|_| c"HOME=/".to_owned())
}

struct Program {
    path: CString,
    home: Option<CString>,
}

/// The working directory is below the root, not a leaked descriptor's (CVE-2024-21626).
fn inside_root() -> Result<()> {
    let cwd = nix::unistd::getcwd().context("getcwd: the working directory is outside the root")?;
    if !cwd.is_absolute() {
        bail!("the working directory is outside the root: {}", cwd.display());
    }
    Ok(())
}

/// Whether the parent has saved the state: if it died first, this process must not live on.
fn wait_until_saved(channel: &Channel) -> bool {
    // While the parent lives it answers, so a parent's death is seen as end of file: no signal.
    cred::parent_death_signal(0).is_ok()
        && channel.send(&Message::Ready).is_ok()
        && channel.expect(&Message::Saved)
}

/// Waits for start, then becomes the user's program.
fn execute(
    plan: &Plan,
    program: &Program,
    state: &State,
    gate: &Gate,
) -> Result<std::convert::Infallible> {
    let mut env = plan.process.env.clone();
    env.retain(|entry| program.home.is_none() || !entry.as_bytes().starts_with(b"HOME="));
    env.extend(program.home.clone());
    gate.wait()?;
    run_hooks(&plan.hooks.start_container, state, Status::Created, Path::new("/"))?;
    crate::sys::clone::close_from_at_exec(3)?;
    gate.executing()?;
    let Err(errno) = nix::unistd::execve(&program.path, &plan.process.args, &env);
    // runc's words, which engines look for; the file itself was there when create looked for it.
    let why = match errno {
        Errno::ENOENT => "no such file or directory: its interpreter is missing".into(),
        errno => errno.desc().to_lowercase(),
    };
    bail!("exec {}: {why}", program.path.to_string_lossy())
}
