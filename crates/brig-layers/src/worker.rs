//! Work in separate processes: one for each layer being unpacked, and without root privileges one in a user
//! namespace for all work on the store. No threads, because brig must be single-threaded for its later clone.

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::clone::{Side, clone3};
use sys::idmap::{self, NotWritten, UserNamespace};
use sys::poll::readable;
use sys::signal::ABORT;
use sys::{Errno, cred, describe, exit, signal};

/// A message of a worker.
#[derive(Debug)]
pub enum Reply {
    /// This number of further bytes was processed.
    Progress(u64),
    /// A warning.
    Warning(String),
    /// It has finished, with this result.
    Done(Vec<u8>),
}

/// A worker, as seen by its parent.
#[derive(Debug)]
pub struct Worker {
    pidfd: OwnedFd,
    socket: OwnedFd,
}

/// The worker's side.
pub struct Reporter {
    socket: OwnedFd,
}

/// The interval at which a waiting parent checks for signals.
pub(crate) const LISTEN: Duration = Duration::from_millis(100);
/// The maximum length: longer messages are truncated, longer results are errors.
const MAX_MESSAGE: usize = 64 << 10;

/// Raises the limit of open files to the hard limit: for trees of which every level is held open. Never in a
/// process that becomes a container's.
///
/// # Errors
///
/// If getrlimit(2) or setrlimit(2) fails.
pub fn raise_open_files() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    }
    Ok(())
}

/// Runs work in a new process, in a new user namespace if given. The process dies with its parent.
///
/// # Errors
///
/// If the process cannot be created, or the ids cannot be mapped.
pub fn spawn(
    user: Option<&UserNamespace>,
    work: impl FnOnce(&Reporter) -> Result<Vec<u8>>,
) -> Result<Worker> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .context("socketpair")?;
    let flags = if user.is_some() { libc::CLONE_NEWUSER } else { 0 };
    let (pid, pidfd) = match clone3(flags, None)? {
        Side::Parent(pid, pidfd) => (pid, pidfd),
        Side::Child(_) => {
            drop(ours);
            let reporter = Reporter { socket: theirs };
            exit(i32::from(!reporter.live(user.is_some(), work)))
        }
    };
    drop(theirs);
    let worker = Worker { pidfd, socket: ours };
    if let Some(user) = user {
        write_maps(pid, user)
            .and_then(|()| send_to(worker.socket.as_fd(), b"G"))
            .inspect_err(|_| worker.kill())?;
    }
    Ok(worker)
}

fn write_maps(pid: i32, user: &UserNamespace) -> Result<()> {
    let written = idmap::write(pid, &user.maps, user.explain);
    let place = |field| format!("the ids of your user namespace.{field}");
    written.or_else(|NotWritten { field, error }| Err(error).context(place(field)))
}

impl Reporter {
    /// Runs the worker; false if it failed.
    fn live(&self, mapped: bool, work: impl FnOnce(&Reporter) -> Result<Vec<u8>>) -> bool {
        let go = || -> Result<Vec<u8>> {
            cred::parent_death_signal(libc::SIGKILL)?;
            if mapped {
                // Wait until the ids are mapped.
                let mut byte = [0];
                let length = recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::empty())?;
                anyhow::ensure!(length == 1, "brig has exited");
            }
            let result = work(self)?;
            anyhow::ensure!(result.len() < MAX_MESSAGE, "a result of {} bytes", result.len());
            Ok(result)
        };
        let (tag, text) = match go() {
            Ok(result) => (b'D', result),
            Err(error) => (b'F', describe(&error).into_bytes()),
        };
        self.send(tag, &text).is_ok() && tag == b'D'
    }

    fn send(&self, tag: u8, text: &[u8]) -> Result<()> {
        let text = &text[..text.len().min(MAX_MESSAGE - 1)];
        send_to(self.socket.as_fd(), &[&[tag], text].concat())
    }

    /// Reports further processed bytes.
    pub(crate) fn progress(&self, bytes: u64) -> Result<()> {
        self.send(b'P', &bytes.to_ne_bytes())
    }

    /// Reports a warning.
    ///
    /// # Errors
    ///
    /// If the parent has exited.
    pub fn warn(&self, text: &str) -> Result<()> {
        self.send(b'W', text.as_bytes())
    }
}

fn send_to(socket: BorrowedFd<'_>, packet: &[u8]) -> Result<()> {
    let sent = send(socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL);
    sent.map(drop).context("write to another process of brig")
}

impl Worker {
    /// Becomes readable when there is a message.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for a message. A failure or the death of the worker is an error.
    ///
    /// # Errors
    ///
    /// If the worker has failed or died, or a signal to end brig is pending.
    pub fn recv(&self) -> Result<Reply> {
        // A parent that has blocked signals, to undo incomplete work, still reacts to them here.
        while !readable(self.socket.as_fd(), Instant::now() + LISTEN)? {
            if let Some(signal) = signal::pending(&ABORT)? {
                bail!("interrupted by signal {signal}");
            }
        }
        let mut packet = vec![0_u8; MAX_MESSAGE];
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => break 0,
                length => break length.context("read from another process of brig")?,
            }
        };
        match packet[..length].split_first() {
            Some((b'P', bytes)) => {
                let bytes = bytes.try_into().context("read from another process of brig")?;
                Ok(Reply::Progress(u64::from_ne_bytes(bytes)))
            }
            Some((b'W', text)) => Ok(Reply::Warning(String::from_utf8_lossy(text).into())),
            Some((b'D', result)) => Ok(Reply::Done(result.to_vec())),
            Some((b'F', text)) => Err(anyhow!(String::from_utf8_lossy(text).into_owned())),
            _ => bail!("another process of brig died ({})", self.end()),
        }
    }

    /// Waits until it has finished; warnings are passed on.
    ///
    /// # Errors
    ///
    /// If the worker has failed or died, or a signal to end brig is pending.
    pub fn wait(self, mut warn: impl FnMut(&str)) -> Result<Vec<u8>> {
        loop {
            match self.recv()? {
                Reply::Progress(_) => {}
                Reply::Warning(text) => warn(&text),
                Reply::Done(result) => return Ok(result),
            }
        }
    }

    fn end(&self) -> String {
        match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
            Ok(other) => format!("{other:?}"),
            Err(errno) => errno.to_string(),
        }
    }

    /// Kills it.
    pub fn kill(&self) {
        // If it is dead already, that is fine.
        drop(signal::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL));
    }
}

impl Drop for Worker {
    /// A worker that has sent its result is about to exit; any other is not needed any more.
    fn drop(&mut self) {
        self.kill();
        let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_warnings_and_errors_come_back() {
        let worker = spawn(None, |reporter| {
            reporter.warn("careful")?;
            reporter.progress(7)?;
            Ok(b"result".to_vec())
        });
        let mut warned = Vec::new();
        let result = worker.unwrap().wait(|text| warned.push(text.to_owned())).unwrap();
        assert_eq!((result.as_slice(), warned), (&b"result"[..], vec!["careful".to_owned()]));
        let worker = spawn(None, |_| bail!("no luck")).unwrap();
        assert_eq!(worker.wait(|_| ()).unwrap_err().to_string(), "no luck");
        let worker = spawn(None, |_| exit(3)).unwrap();
        assert!(worker.wait(|_| ()).unwrap_err().to_string().contains("died"));
    }
}
