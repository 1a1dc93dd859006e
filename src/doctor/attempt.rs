//! Tries an operation in a short-lived process.

use crate::deadline;
use crate::launch::prepare::hints;
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{pipe2, read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use sys::clone::{Birth, Side, clone3};
use sys::idmap::{self, IdMaps, NotWritten};
use sys::{Errno, describe, errno_of, poll, signal};

/// Why it failed.
#[derive(Debug)]
pub(super) struct Refused {
    /// The errno, if a system call failed.
    pub(super) errno: Option<Errno>,
    /// The reason as text.
    pub(super) why: String,
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Refused {
        Refused { errno: errno_of(&error), why: describe(&error) }
    }
}

impl Refused {
    pub(super) fn is(&self, errnos: &[Errno]) -> bool {
        self.errno.is_some_and(|errno| errnos.contains(&errno))
    }
}

/// The maximum length of a result.
const MAX_RESULT: usize = 32 << 10;

/// Runs `work` in a process with new namespaces, by `CLONE_NEW*` bits, and with these id maps if one of them
/// is a user namespace; cloned into the cgroup2 directory `into`, if given. Returns the result of `work`.
pub(super) fn attempt(
    flags: libc::c_int,
    maps: Option<&IdMaps>,
    into: Option<BorrowedFd<'_>>,
    work: impl FnOnce(Birth) -> Result<String>,
) -> Result<String, Refused> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).context("pipe2");
    let ((wait, go), (told, tells)) = (pipe()?, pipe()?);
    let (pid, process) = match clone3(flags, into).map_err(anyhow::Error::from)? {
        Side::Parent(pid, process) => (pid, process),
        Side::Child(birth) => {
            drop((go, told));
            // End of file: the maps could not be written, or brig has exited.
            if read(&wait, &mut [0]) == Ok(1) {
                tell(&tells, work(birth));
            }
            sys::exit(0)
        }
    };
    drop((wait, tells));
    let mapped = match maps {
        Some(maps) => idmap::write(pid, maps, hints::refused_ids),
        None => Ok(()),
    };
    let answer = match mapped {
        Ok(()) => {
            // If it has exited already, there will be no result.
            let _ = write(&go, &[1]);
            hear(&told)
        }
        Err(NotWritten { error, .. }) => Err(error.into()),
    };
    drop(go);
    end(&process, answer)
}

/// Sends an errno, 0 on success, and a text.
fn tell(to: &OwnedFd, result: Result<String>) {
    let (errno, text) = match result {
        Ok(text) => (-1, text),
        Err(error) => (errno_of(&error).map_or(0, |errno| errno as i32), describe(&error)),
    };
    let mut packet = errno.to_ne_bytes().to_vec();
    packet.extend(text.bytes().take(MAX_RESULT - 4));
    // Smaller than a pipe's buffer; if brig has exited, there is nobody to report to.
    let _ = write(to, &packet);
}

fn hear(from: &OwnedFd) -> Result<String, Refused> {
    let end = Instant::now() + deadline::PROBE;
    let mut packet = Vec::new();
    let mut part = [0; 4096];
    loop {
        if !poll::readable(from.as_fd(), end)? {
            let seconds = deadline::PROBE.as_secs();
            return Err(Refused { errno: None, why: format!("no answer within {seconds} s") });
        }
        match read(from, &mut part) {
            Ok(0) => break,
            Ok(length) => packet.extend_from_slice(&part[..length]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(anyhow::Error::from(errno).into()),
        }
    }
    let Some((errno, text)) = packet.split_first_chunk() else {
        return Err(Refused { errno: None, why: "the process that tried it died".into() });
    };
    let text = String::from_utf8_lossy(text).into_owned();
    match i32::from_ne_bytes(*errno) {
        -1 => Ok(text),
        0 => Err(Refused { errno: None, why: text }),
        errno => Err(Refused { errno: Some(Errno::from_raw(errno)), why: text }),
    }
}

/// Reaps the process; if it was killed, that is why there was no result.
fn end(process: &OwnedFd, answer: Result<String, Refused>) -> Result<String, Refused> {
    // It exits by itself, unless it hangs.
    let soon = Instant::now() + deadline::KILL_AGAIN;
    if answer.is_err() && !poll::readable(process.as_fd(), soon)? {
        let _ = signal::pidfd_send_signal(process.as_fd(), libc::SIGKILL);
    }
    if !poll::readable(process.as_fd(), Instant::now() + deadline::KILL)? {
        return Err(Refused { errno: None, why: "the process that tried it hangs".into() });
    }
    // There is none to reap if the caller ignores SIGCHLD.
    match waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED) {
        Ok(WaitStatus::Signaled(_, signal, _)) if answer.is_err() => {
            let why = format!("the process that tried it was killed by {signal}");
            Err(Refused { errno: None, why })
        }
        _ => answer,
    }
}

/// In the child, in a new mount namespace: its mounts must not propagate to the host.
pub(super) fn keep_mounts() -> Result<()> {
    let flags = libc::MS_REC | libc::MS_SLAVE;
    Ok(sys::mount::mount(None, c"/", None, flags, None)?)
}

/// For work that must be done in the given cgroup.
pub(super) fn ensure_as_requested(birth: Birth) -> Result<()> {
    match birth {
        Birth::AsAsked => Ok(()),
        Birth::InParentsCgroup => bail!("the kernel does not support clone3(2)"),
    }
}
