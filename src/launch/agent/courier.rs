//! Who brings the listener of a filter to brig.
//!
//! The process that has installed the filter can hardly do it: what it calls, the agent may have to decide about,
//! which has no listener yet. And brig cannot take it (pidfd_getfd(2)) unless it may trace the process: root may, an
//! ordinary user may not, for nobody is to look into that process (CVE-2016-9962). So before the filter there is one
//! more process, which shares the descriptors, not the filter. It is told by the one call that no filter may notify
//! of, write(2), sends the listener, and is gone before the child goes on: brig sees to that by its pidfd.

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

/// In the child: the courier, waiting.
pub struct Courier {
    orders: OwnedFd,
    process: OwnedFd,
    /// The courier's, and so not to be closed here either: the table of descriptors is one.
    _inbox: OwnedFd,
    /// Nobody waits for it any more.
    left: bool,
}

impl Courier {
    /// Makes it. The kernel takes it away when it has ended: until the next execve, children of this process cannot be
    /// waited for ([`signal::leave_no_zombies`]), for the filter may not allow that.
    pub fn start(channel: &Channel) -> Result<Courier> {
        let (inbox, orders) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        signal::leave_no_zombies()?;
        let parent = getpid();
        match clone3(libc::CLONE_FILES, None).context("a process that sends the listener")? {
            Side::Parent(_, process) => Ok(Courier { orders, process, _inbox: inbox, left: false }),
            // Nothing that it has may be dropped: its descriptors are the other's.
            Side::Child(_) => {
                let ready = cred::parent_death_signal(libc::SIGKILL).is_ok() && getppid() == parent;
                if ready && let Err(error) = carry(&inbox, channel) {
                    // If this fails, brig is gone.
                    let _ = channel.send(&Message::Failed(crate::fault::pack(&error)));
                }
                exit(0)
            }
        }
    }

    /// Gets the listener to the agent, and has no more to do with it.
    pub fn deliver(mut self, listener: OwnedFd, channel: &Channel) -> Result<()> {
        self.left = true;
        self.order([listener.as_raw_fd(), self.process.as_raw_fd()])?;
        ensure!(channel.expect(&Message::Delivered), "brig is gone");
        // As long as this process held it, an agent that has died would still be waited for.
        drop(listener);
        Ok(())
    }

    fn order(&self, numbers: [RawFd; 2]) -> Result<()> {
        let [listener, process] = numbers.map(RawFd::to_ne_bytes);
        let order = [listener, process].concat();
        write(&self.orders, &order).context("say which descriptor the listener is").map(drop)
    }
}

impl Drop for Courier {
    /// Without a filter there is nothing to bring: it goes first, as it would be left to the container's init.
    fn drop(&mut self) {
        if !self.left && self.order([-1, -1]).is_ok() {
            // ECHILD: it is gone, and its status, which nobody wants to know.
            let _ = waitid(Id::PIDFd(self.process.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}

/// The courier's work.
fn carry(inbox: &OwnedFd, channel: &Channel) -> Result<()> {
    let mut order = [0; 8];
    read(inbox, &mut order).context("read which descriptor the listener is")?;
    let [a, b, c, d, e, f, g, h] = order;
    let fds = [[a, b, c, d], [e, f, g, h]].map(RawFd::from_ne_bytes);
    if fds[0] < 0 {
        return Ok(());
    }
    channel.send(&Message::Listener).context("tell brig of the filter's listener")?;
    let (rights, text) = ([ControlMessage::ScmRights(&fds)], [IoSlice::new(b"L")]);
    sendmsg::<()>(channel.as_fd().as_raw_fd(), &text, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .context("send the filter's listener")
        .map(drop)
}

/// In the parent, which has heard [`Message::Listener`]: takes the listener, and waits for the courier's end.
pub fn receive(channel: &Channel) -> Result<OwnedFd> {
    let fds = socket::receive_fds(channel.as_fd())?;
    let [listener, process] =
        <[OwnedFd; 2]>::try_from(fds).map_err(|_| anyhow!("the listener did not come"))?;
    let ended = readable(process.as_fd(), Instant::now() + deadline::COURIER)?;
    ensure!(ended, "waited in vain for the end of the process that has sent the listener");
    Ok(listener)
}
