//! The child of a create, as its parent hears it: what it says, or how it ended.

use super::agent::Agent;
use super::protocol::{Channel, Message};
use crate::cgroup::Cgroup;
use crate::deadline;
use crate::log::Log;
use crate::spec::At;
use crate::state::State;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use sys::describe;

/// The child, seen from the parent.
pub struct Peer<'a> {
    /// To it.
    pub channel: &'a Channel,
    /// Its pidfd.
    pub init: &'a OwnedFd,
    /// What ends the waiting.
    pub signals: &'a SignalFd,
    /// When the waiting ends.
    pub end: Instant,
}

impl Peer<'_> {
    /// Says what it waits for.
    pub fn send(&self, message: &Message) -> Result<()> {
        let sent = self.channel.send(message);
        sent.with_context(|| format!("say {message:?} to the container's process"))
    }

    /// Listens to the child until it says what is expected now.
    pub fn recv(&self, expected: &Message, cgroup: &Cgroup, log: &mut Log) -> Result<()> {
        match self.recv_next(cgroup, log)? {
            said if said == *expected => Ok(()),
            said => bail!("the container's process says {said:?} instead of {expected:?}"),
        }
    }

    /// When the child was started, which is the first that it says.
    pub fn recv_start(&self, cgroup: &Cgroup, log: &mut Log) -> Result<u64> {
        match self.recv_next(cgroup, log)? {
            Message::Started(ticks) => Ok(ticks),
            said => bail!("the container's process says {said:?} instead of when it was started"),
        }
    }

    /// Until there is something to receive at a socket of the child's. Its end is the socket's too.
    pub fn wait_at(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let sent = sys::poll::readable(socket, self.end)?;
        ensure!(sent, "waited in vain for the container's process");
        Ok(())
    }

    /// Listens to the child until it says something that is neither a warning nor its end.
    fn recv_next(&self, cgroup: &Cgroup, log: &mut Log) -> Result<Message> {
        loop {
            self.channel.wait(self.signals.as_fd(), self.end)?;
            match self.channel.receive()? {
                Some(Message::Warning(text)) => log.warn(&text),
                Some(Message::Failed(text)) => return Err(crate::fault::unpack(&text)),
                Some(said) => return Ok(said),
                None => return Err(post_mortem(self.init, cgroup)),
            }
        }
    }

    /// Gives the agent what it decides by, as soon as the child has it.
    pub fn deliver_listener(&self, agent: &Agent<'_>, state: &State, log: &mut Log) -> Result<()> {
        match self.recv_next(&state.cgroup, log)? {
            Message::Listener => agent.deliver(self.channel, state.pid)?,
            said => bail!("the container's process says {said:?} instead of its listener"),
        }
        self.send(&Message::Delivered)
    }
}

/// Why the child died without a word.
fn post_mortem(init: &OwnedFd, cgroup: &Cgroup) -> anyhow::Error {
    let how = match reap(init) {
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
        Ok(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
        Ok(other) => format!("{other:?}"),
        Err(error) => describe(&error),
    };
    let died = anyhow!("the container's process died during its set-up ({how})");
    match cgroup.oom_killed() {
        true => died.context("does not suffice").context(At::new("linux.resources.memory.limit")),
        false => died,
    }
}

/// Waits until a child of brig is dead, and takes its status.
pub fn reap(init: &OwnedFd) -> Result<WaitStatus> {
    let end = Instant::now() + deadline::KILL;
    ensure!(
        sys::poll::readable(init.as_fd(), end)?,
        "the container's process is still there {} s after it was killed",
        deadline::KILL.as_secs()
    );
    Ok(waitid(Id::PIDFd(init.as_fd()), WaitPidFlag::WEXITED)?)
}
