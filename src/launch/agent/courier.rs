//! The process that sends a filter's listener to brig.
//!
//! The process that has installed the filter cannot do it: the agent may have to decide about its system
//! calls, and has no listener yet. brig cannot take the descriptor itself (pidfd_getfd(2)) unless it may
//! trace the process: root may, but an unprivileged user may not, because the process must not be traceable
//! (CVE-2016-9962). So before the filter is installed the child clones one more process, the courier, which
//! shares its descriptors but not the filter. The child signals it with write(2), the one call that no filter
//! can notify of. The courier sends the listener and exits before the child goes on; brig waits for that with
//! the courier's pidfd.

use crate::deadline;

use crate::launch::protocol::{Channel, Message};
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{getpid, getppid, pipe2, read, write};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;
use sys::clone::{Side, clone3, exit};
use sys::poll::readable;
use sys::{cred, signal, socket};

/// The child's handle on the waiting courier.
pub struct Courier {
    orders: OwnedFd,
    process: OwnedFd,
    /// The courier uses it too, so it must not be closed here: both share one descriptor table.
    _inbox: OwnedFd,
    /// The courier has finished; nothing waits for it any more.
    left: bool,
}

impl Courier {
    /// Clones the courier. The kernel reaps it: until the next execve, children of this process cannot be
    /// waited for ([`signal::leave_no_zombies`]), because the filter may not allow waitid.
    pub fn start(channel: &Channel) -> Result<Courier> {
        let (inbox, orders) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        signal::leave_no_zombies()?;
        let parent = getpid();
        match clone3(libc::CLONE_FILES, None)
            .context("clone a process that sends the seccomp listener")?
        {
            Side::Parent(_, process) => Ok(Courier { orders, process, _inbox: inbox, left: false }),
            // Nothing may be dropped here: the descriptors are shared with the child.
            Side::Child(_) => {
                let ready = cred::parent_death_signal(libc::SIGKILL).is_ok() && getppid() == parent;
                if ready && let Err(error) = carry(&inbox, channel) {
                    // If this fails, the parent has exited.
                    let _ = channel.send(&Message::Failed(crate::fault::pack(&error)));
                }
                exit(0)
            }
        }
    }

    /// Hands the listener to the agent and closes this process's copy.
    pub fn deliver(mut self, listener: OwnedFd, channel: &Channel) -> Result<()> {
        self.left = true;
        self.order([listener.as_raw_fd(), self.process.as_raw_fd()])?;
        ensure!(channel.expect(&Message::Delivered), "brig has exited");
        // While this process held it, the death of the agent would go unnoticed.
        drop(listener);
        Ok(())
    }

    fn order(&self, numbers: [RawFd; 2]) -> Result<()> {
        let [listener, process] = numbers.map(RawFd::to_ne_bytes);
        let order = [listener, process].concat();
        write(&self.orders, &order)
            .context("send the listener's descriptor number to the courier")
            .map(drop)
    }
}

impl Drop for Courier {
    /// Without a filter there is nothing to send: stop the courier, which would otherwise be left to the
    /// container's init.
    fn drop(&mut self) {
        if !self.left && self.order([-1, -1]).is_ok() {
            // ECHILD: it has exited and was reaped by the kernel.
            let _ = waitid(Id::PIDFd(self.process.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}

/// The courier's work.
fn carry(inbox: &OwnedFd, channel: &Channel) -> Result<()> {
    let mut order = [0; 8];
    read(inbox, &mut order).context("read the listener's descriptor number")?;
    let [a, b, c, d, e, f, g, h] = order;
    let fds = [[a, b, c, d], [e, f, g, h]].map(RawFd::from_ne_bytes);
    if fds[0] < 0 {
        return Ok(());
    }
    channel.send(&Message::Listener).context("announce the seccomp listener to brig")?;
    let (rights, text) = ([ControlMessage::ScmRights(&fds)], [IoSlice::new(b"L")]);
    sendmsg::<()>(channel.as_fd().as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .context("send the seccomp listener to brig")
        .map(drop)
}

/// In the parent, after [`Message::Listener`]: receives the listener and waits until the courier has exited.
pub fn receive(channel: &Channel) -> Result<OwnedFd> {
    let fds = socket::receive_fds(channel.as_fd())?;
    let [listener, process] = <[OwnedFd; 2]>::try_from(fds)
        .map_err(|_| anyhow!("the message has no seccomp listener"))?;
    let ended = readable(process.as_fd(), Instant::now() + deadline::COURIER)?;
    ensure!(ended, "timed out waiting for the process that sent the seccomp listener to exit");
    Ok(listener)
}
