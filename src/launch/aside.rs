//! A short-lived process for what brig cannot do without leaving its own namespaces.

use super::protocol::{self, Message};
use crate::deadline;
use anyhow::{Result, bail};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::os::fd::AsFd;
use std::time::Instant;
use sys::clone::{Side, clone3};

/// Clones a process, with new namespaces by `flags`, that does `act`, and exists until `then`, which gets its
/// pid, has returned in the parent.
///
/// # Errors
///
/// The error of `act` or `then`, or if the process cannot be cloned, dies, or hangs; `what` is its name in
/// errors.
pub fn aside<T>(
    flags: libc::c_int,
    what: &str,
    act: impl FnOnce() -> Result<()>,
    then: impl FnOnce(i32) -> Result<T>,
) -> Result<T> {
    let (channel, its) = protocol::pair()?;
    let (pid, process) = match clone3(flags, None)? {
        Side::Parent(pid, process) => (pid, process),
        Side::Child(_) => {
            drop(channel);
            let said = act().map_or_else(
                |error| Message::Failed(crate::fault::pack(&error)),
                |()| Message::Ready,
            );
            // Waits until the parent is done or has exited; then there is nobody to report to.
            let _ = its.send(&said).map_err(Into::into).and_then(|()| its.receive());
            sys::exit(0)
        }
    };
    drop(its);
    let done = || {
        channel.wait_for(Instant::now() + deadline::SOCKET, what)?;
        match channel.receive()? {
            Some(Message::Ready) => then(pid),
            Some(Message::Failed(text)) => Err(crate::fault::unpack(&text)),
            said => bail!("{what} says {said:?}"),
        }
    };
    let done = done();
    drop(channel);
    // There is none to reap if the caller ignores SIGCHLD.
    let _ = waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED);
    done
}
