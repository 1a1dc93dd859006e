//! Hooks: programs of the bundle's author at moments of the life cycle (config.md, POSIX-platform
//! hooks). Parent and child run them with the same function.

mod output;

pub use output::Output;

use crate::plan::hooks::Hook;
use crate::seccomp::Filter;
use crate::spec::Place;
use crate::state::OciState;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::memfd::{MFdFlags, memfd_create};
use output::Sink;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;
use sys::{seccomp, signal};

/// Runs hooks in the runtime's namespaces when create is long over.
pub fn run_later(hooks: &[Hook], state: &OciState<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let output = Output::open(state.annotations, state.bundle)?;
    let surroundings = Surroundings {
        output: &output,
        directory: Some(state.bundle),
        environment: Environment::Runtime,
        interrupt: None,
        filter: None,
    };
    run(hooks, state, &surroundings)
}

/// The environment of a hook for which the config has none.
#[derive(Clone, Copy)]
pub enum Environment<'a> {
    /// That of the brig that runs it: the hook runs in brig's namespaces.
    Runtime,
    /// Empty: the hook runs in the container's namespaces, which get nothing of the host's.
    Empty,
    /// The container process's, also where the config's is empty, as with runc.
    Process(&'a [CString]),
}

/// What hooks have around them, beside the state.
pub struct Surroundings<'a> {
    /// Where their output goes.
    pub output: &'a Output,
    /// Their working directory; none is the caller's own.
    pub directory: Option<&'a Path>,
    /// For a hook that has none of its own.
    pub environment: Environment<'a>,
    /// Something to read here ends the hook that runs, and that is a failure.
    pub interrupt: Option<BorrowedFd<'a>>,
    /// What the hook is executed under, if the caller itself is not under it yet.
    pub filter: Option<&'a Filter>,
}

/// Runs hooks in order; the first failure ends it.
pub fn run(hooks: &[Hook], state: &OciState<'_>, surroundings: &Surroundings<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state)?;
    let run = |hook: &Hook| run_one(hook, &state, surroundings).at(&hook.place);
    hooks.iter().try_for_each(run)
}

fn run_one(hook: &Hook, state: &[u8], surroundings: &Surroundings<'_>) -> Result<()> {
    let files = surroundings.output;
    let path = hook.path.display();
    let (output, theirs) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).context("pipe for the hook's output")?;
    let mut command = Command::new(&hook.path);
    command.env_clear();
    set_environment(&mut command, hook.env.as_deref(), surroundings.environment);
    if let [name, args @ ..] = hook.args.as_slice() {
        command.arg0(name).args(args);
    }
    if let Some(directory) = surroundings.directory {
        command.current_dir(directory);
    }
    command.stdin(Stdio::from(memory_file(state)?));
    let stream = |sink: &Option<Sink>| -> std::io::Result<Stdio> {
        Ok(match sink {
            Some(sink) => sink.file.try_clone()?.into(),
            None => theirs.try_clone()?.into(),
        })
    };
    command.stdout(stream(&files.stdout)?).stderr(stream(&files.stderr)?);
    drop(theirs);
    if let Some(filter) = surroundings.filter {
        seccomp::install_before_exec(&mut command, filter.program.clone(), filter.flags);
    }
    let child = command.spawn().with_context(|| format!("execute hook {path}"))?;
    drop(command);
    let mut tail = Tail::default();
    match attend(hook, child, &output, &mut tail, surroundings.interrupt) {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            bail!("hook {path} {}{}{}", describe(status), tail.quoted(), files.hint())
        }
        Err(error) => Err(error.context(format!("hook {path}{}{}", tail.quoted(), files.hint()))),
    }
}

/// The config's, or without one what the moment has for it.
fn set_environment(command: &mut Command, own: Option<&[String]>, other: Environment<'_>) {
    match (own, other) {
        (None | Some([]), Environment::Process(env)) => {
            let entries = env.iter().filter_map(|entry| {
                let mut parts = entry.as_bytes().splitn(2, |&byte| byte == b'=');
                Some((OsStr::from_bytes(parts.next()?), OsStr::from_bytes(parts.next()?)))
            });
            command.envs(entries);
        }
        (Some(own), _) => {
            command.envs(own.iter().filter_map(|entry| entry.split_once('=')));
        }
        (None, Environment::Runtime) => {
            let is_brigs_own = |name: &OsStr| name.as_bytes().starts_with(b"BRIG_");
            command.envs(std::env::vars_os().filter(|(name, _)| !is_brigs_own(name)));
        }
        (None, Environment::Empty) => {}
    }
}

/// Listens to the hook until it ends, its time is up, or brig is interrupted.
fn attend(
    hook: &Hook,
    mut child: Child,
    output: &OwnedFd,
    tail: &mut Tail,
    interrupt: Option<BorrowedFd<'_>>,
) -> Result<ExitStatus> {
    let pid = i32::try_from(child.id())?;
    let pidfd = signal::pidfd_open(pid)?;
    let end = Instant::now() + hook.allowance();
    fcntl(output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl(O_NONBLOCK)")?;
    loop {
        let mut fds = [
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(
                output.as_fd(),
                if tail.closed { PollFlags::empty() } else { PollFlags::POLLIN },
            ),
            // Without one, a second look at the hook.
            PollFd::new(interrupt.unwrap_or(pidfd.as_fd()), PollFlags::POLLIN),
        ];
        sys::poll::wait(&mut fds, end)?;
        let dead = fds[0].any().unwrap_or(true);
        let interrupted = interrupt.is_some() && fds[2].any().unwrap_or(true);
        // What a daemon that the hook left behind goes on writing is not waited for.
        tail.read(output);
        if dead {
            return Ok(child.wait()?);
        }
        if interrupted || Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            ensure!(!interrupted, "killed: brig was interrupted by a signal");
            bail!("killed: still running after its timeout of {} s", hook.allowance().as_secs());
        }
    }
}

/// The state as a file: unlike with a pipe it does not matter whether the hook reads it.
fn memory_file(state: &[u8]) -> Result<OwnedFd> {
    let fd = memfd_create(c"state", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    let mut file = File::from(fd);
    file.write_all(state).and_then(|()| file.rewind()).context("write the state for the hook")?;
    Ok(file.into())
}

/// The end of what a hook has said.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    closed: bool,
}

impl Tail {
    /// In bytes.
    const MAX_TAIL: usize = 2048;

    fn read(&mut self, output: &OwnedFd) {
        let mut buffer = [0; 4096];
        // Bounded, for what is read may be a daemon's.
        for _ in 0..64 {
            match nix::unistd::read(output, &mut buffer) {
                Ok(0) => {
                    self.closed = true;
                    return;
                }
                Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
                Err(_) => return,
            }
            let excess = self.bytes.len().saturating_sub(Self::MAX_TAIL);
            self.bytes.drain(..excess);
        }
    }

    fn quoted(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.trim().is_empty() { String::new() } else { format!("; it said: {}", text.trim()) }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => format!("ended: {status}"),
    }
}
