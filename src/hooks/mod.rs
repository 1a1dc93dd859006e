//! Hooks: programs that the bundle's author runs at points of the life cycle (config.md, POSIX-platform
//! hooks). Parent and child run them with the same function.

mod output;

pub use output::Output;

use crate::plan::hooks::Hook;
use crate::seccomp::Filter;
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

/// Runs hooks in the runtime's namespaces after create has finished.
pub fn run_later(hooks: &[Hook], state: &OciState<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let output = Output::open(&state.annotations.for_runtimes()?, state.bundle);
    // Engines may remove the bundle before the container: the hooks run in the caller's directory then, as in
    // runc, because what they are to release would leak.
    let directory = Some(state.bundle).filter(|bundle| bundle.is_dir());
    let output = if directory.is_some() { output? } else { output.unwrap_or_default() };
    let surroundings = Surroundings {
        output: &output,
        directory,
        environment: Environment::Runtime,
        interrupt: None,
        filter: None,
    };
    run(hooks, state, &surroundings)
}

/// The environment of a hook whose config sets none.
#[derive(Clone, Copy)]
pub enum Environment<'a> {
    /// That of the calling brig: the hook runs in brig's namespaces.
    Runtime,
    /// Empty: the hook runs in the container's namespaces, which must not see the host's environment.
    Empty,
    /// That of the container's process, even if the config's is an empty array, as in runc.
    Process(&'a [CString]),
}

/// The context of a hook, in addition to the state.
pub struct Surroundings<'a> {
    /// Files for their output.
    pub output: &'a Output,
    /// Their working directory; None is the caller's.
    pub directory: Option<&'a Path>,
    /// The environment if the hook sets none.
    pub environment: Environment<'a>,
    /// When this becomes readable, the running hook is killed, which counts as a failure.
    pub interrupt: Option<BorrowedFd<'a>>,
    /// The filter and labels to execute the hook under, unless they already apply to the caller.
    pub filter: Option<&'a Filter>,
}

/// Runs hooks in order and stops at the first failure.
pub fn run(hooks: &[Hook], state: &OciState<'_>, surroundings: &Surroundings<'_>) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state)?;
    let run =
        |hook: &Hook| run_one(hook, &state, surroundings).map_err(|error| error.context(hook.at()));
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
    signal::unblock_before_exec(&mut command);
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

/// The environment of the config, or the default.
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

/// Reads the output of the hook until it exits, times out, or brig is interrupted.
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
            // Without a pidfd, check the hook again after a while.
            PollFd::new(interrupt.unwrap_or(pidfd.as_fd()), PollFlags::POLLIN),
        ];
        sys::poll::wait(&mut fds, end)?;
        let dead = fds[0].any().unwrap_or(true);
        let interrupted = interrupt.is_some() && fds[2].any().unwrap_or(true);
        // Output that a daemon started by the hook writes later is not waited for.
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

/// The state as a file: unlike with a pipe, a hook does not have to read it.
fn memory_file(state: &[u8]) -> Result<OwnedFd> {
    let fd = memfd_create(c"state", MFdFlags::MFD_CLOEXEC).context("memfd_create")?;
    let mut file = File::from(fd);
    file.write_all(state).and_then(|()| file.rewind()).context("write the state for the hook")?;
    Ok(file.into())
}

/// The tail of a hook's output.
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
        // Bounded, because a daemon may write forever.
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
        if text.trim().is_empty() {
            String::new()
        } else {
            format!("; its output: {}", text.trim())
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => format!("ended: {status}"),
    }
}
