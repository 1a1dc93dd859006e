//! Where a created container waits for `start`: two fifos in its state directory.
//!
//! * `go`: the child reads one byte. While this name exists, the container is created and not running.
//! * `result`: the child holds the only write end, close-on-exec. It writes `EXECUTING` just before execve:
//!   after that, end of file means success, and anything more is the text of an error. End of file without
//!   that byte: the child died before.
//!
//! The parent opens both and the child inherits them, because a fifo opened by the child itself is refused in
//! some user namespaces, and its filter may not allow open later. `go` is opened for reading *and* writing,
//! so it always has a writer and the child's read blocks.

use super::peer::FILTER_HINT;
use crate::deadline;
use crate::fault;
use crate::spec::Spec;
use crate::state::{self, Dir, State};
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{UnlinkatFlags, read, unlinkat, write};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::Errno;

const EXECUTING: u8 = b'X';

/// The child's side.
pub struct Gate {
    go: OwnedFd,
    result: OwnedFd,
}

impl Gate {
    /// Creates and opens both fifos.
    pub fn make(dir: &Dir) -> Result<Gate> {
        let open = |name: &str| -> Result<OwnedFd> {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            let make = || {
                mknodat(dir.fd(), name, SFlag::S_IFIFO, mode, 0)?;
                openat(dir.fd(), name, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            };
            make().with_context(|| format!("fifo {}/{name}", dir.path.display()))
        };
        Ok(Gate { go: open("go")?, result: open("result")? })
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.go.as_fd(), self.result.as_fd()]
    }

    /// Waits for start without a time limit: a container can stay created forever.
    pub fn wait(&self) -> Result<()> {
        let mut byte = [0];
        loop {
            match read(&self.go, &mut byte) {
                Err(Errno::EINTR) => {}
                done => return done.map(drop).context("read from the fifo go"),
            }
        }
    }

    /// The next call is execve.
    pub fn executing(&self) -> Result<()> {
        write(&self.result, &[EXECUTING]).map(drop).context("write to the fifo result")
    }

    /// Reports to start why there will be no execve.
    pub fn fail(&self, error: &anyhow::Error) {
        // If this fails, there is nobody to report to.
        let _ = write(&self.result, fault::pack(error).as_bytes());
    }
}

/// The outcome for a released child.
pub enum Outcome {
    /// execve succeeded: it is the user's program now.
    Executed,
    /// A hook failed: startContainer before execve, or poststart after it.
    HookFailed(anyhow::Error),
}

/// Releases a created container and waits until its execve has succeeded.
///
/// # Errors
///
/// If the child has died, or its execve has failed, which both leave a stopped container; or if its execve
/// does not happen before the deadline.
pub fn release(dir: &Dir, state: &State) -> Result<Outcome> {
    let open = |name: &str, flags: OFlag| {
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(dir.fd(), name, flags, Mode::empty())
            .with_context(|| format!("fifo {}/{name}", dir.path.display()))
    };
    let result = open("result", OFlag::O_RDONLY)?;
    // Also for reading: otherwise a child that dies now would make the write raise SIGPIPE.
    let go = open("go", OFlag::O_RDWR)?;
    // Without a writer: end of file.
    if read(&result, &mut [0]) != Err(Errno::EAGAIN) {
        let died = "the container's process has exited: it died while waiting for start";
        return Err(exited(anyhow!(died), state));
    }
    write(&go, &[1]).context("write to the fifo go")?;
    unlinkat(dir.fd(), "go", UnlinkatFlags::NoRemoveDir).context("remove the fifo go")?;
    drop(go);
    let hooks = Duration::from_secs(state.start_seconds).min(deadline::FOREVER);
    let patience = deadline::EXEC + hooks;
    let answer = read_to_end(result, patience).map_err(|error| match state.cgroup.frozen() {
        Ok(Some(path)) => error.context(format!("cgroup {} is frozen", path.display())),
        _ => error,
    })?;
    let error = |text: &[u8]| fault::unpack(&String::from_utf8_lossy(text));
    match answer.as_slice() {
        [EXECUTING] => Ok(Outcome::Executed),
        [] => {
            let config = dir.read("config.json").ok();
            let config = config.and_then(|text| serde_json::from_slice::<Spec>(&text).ok());
            let filtered = config.is_some_and(|config| config.linux.seccomp.is_some());
            let hint = if filtered { FILTER_HINT } else { "" };
            let error =
                anyhow!("the container's process died before it could execute its program{hint}");
            Err(exited(error, state))
        }
        [EXECUTING, text @ ..] => Err(exited(error(text), state)),
        text => Ok(Outcome::HookFailed(error(text))),
    }
}

/// Waits until the child that ends because of `error` has exited: its descriptors are closed before that, and
/// whoever sees start fail must not find a running container.
fn exited(error: anyhow::Error, state: &State) -> anyhow::Error {
    let seconds = deadline::KILL.as_secs();
    let wait = || match state::open_init(state)? {
        Some(init) => sys::poll::readable(init.as_fd(), Instant::now() + deadline::KILL),
        None => Ok(true),
    };
    match wait() {
        Ok(true) => error,
        Ok(false) => error.context(format!("its process has not exited after {seconds} s")),
        Err(also) => error.context(format!("wait for its exit: {}", sys::describe(&also))),
    }
}

/// Waits for end of file only: data written before it is no reason to wake up.
fn read_to_end(fifo: OwnedFd, patience: Duration) -> Result<Vec<u8>> {
    let end = Instant::now() + patience;
    let closed = sys::poll::wait(&mut [PollFd::new(fifo.as_fd(), PollFlags::empty())], end)?;
    ensure!(
        closed,
        "timed out after {} s waiting for the container to execute its program",
        patience.as_secs()
    );
    let mut answer = Vec::new();
    // `take`: without it, the fifo's size would be queried.
    let read = File::from(fifo).take(u64::MAX).read_to_end(&mut answer);
    read.context("read from the fifo result")?;
    Ok(answer)
}
