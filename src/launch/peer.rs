//! The parent's view of create's child: its messages, or how it died.

use super::agent::Agent;
use super::protocol::{Channel, Message};
use crate::cgroup::Cgroup;
use crate::deadline;
use crate::log::Log;
use crate::spec::At;
use crate::state::State;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use sys::describe;

/// The child, as seen by the parent.
pub struct Peer<'a> {
    /// The channel to it.
    pub channel: &'a Channel,
    /// Its pidfd.
    pub init: &'a OwnedFd,
    /// Becomes readable when brig is interrupted.
    pub signals: &'a SignalFd,
    /// The deadline.
    pub end: Instant,
    /// It installs a seccomp filter.
    pub filtered: bool,
}

/// A possible reason why a child died that has a seccomp filter.
pub const FILTER_HINT: &str =
    "; its seccomp filter (linux.seccomp) may forbid a system call that brig needs";

impl Peer<'_> {
    /// Sends a message that the child waits for.
    pub fn send(&self, message: &Message) -> Result<()> {
        let sent = self.channel.send(message);
        sent.with_context(|| format!("say {message:?} to the container's process"))
    }

    /// Waits for the given message of the child.
    ///
    /// # Errors
    ///
    /// The child's own error, how it died, or that brig was interrupted or the deadline has passed.
    pub fn recv(&self, expected: &Message, cgroup: &Cgroup, log: &mut Log) -> Result<()> {
        match self.recv_next(cgroup, log)? {
            said if said == *expected => Ok(()),
            said => bail!("the container's process says {said:?} instead of {expected:?}"),
        }
    }

    /// Receives the child's start time, its first message.
    pub fn recv_start(&self, cgroup: &Cgroup, log: &mut Log) -> Result<u64> {
        match self.recv_next(cgroup, log)? {
            Message::Started(ticks) => Ok(ticks),
            said => bail!("the container's process says {said:?} instead of when it was started"),
        }
    }

    /// Waits until a socket of the child's has something to receive, or the child dies.
    pub fn wait_at(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let sent = sys::poll::readable(socket, self.end)?;
        ensure!(sent, "timed out waiting for the container's process");
        Ok(())
    }

    /// Waits until the child closes its end of the channel.
    ///
    /// # Errors
    ///
    /// The child's own error, or that the deadline has passed.
    pub fn wait_for_close(&self) -> Result<()> {
        self.channel.wait_for(self.end, "the container's process to finish its set-up")?;
        match self.channel.receive()? {
            Some(Message::Failed(text)) => Err(crate::fault::unpack(&text)),
            _ => Ok(()),
        }
    }

    /// Waits for a message of the child other than a warning.
    fn recv_next(&self, cgroup: &Cgroup, log: &mut Log) -> Result<Message> {
        loop {
            self.channel.wait(self.signals.as_fd(), self.end)?;
            match self.channel.receive()? {
                Some(Message::Warning(text)) => log.warn(&text),
                Some(Message::Phase(text)) => log.phase_of_child(&text),
                Some(Message::Failed(text)) => return Err(crate::fault::unpack(&text)),
                Some(said) => return Ok(said),
                None => return Err(self.post_mortem(cgroup)),
            }
        }
    }

    /// Passes the listener to the agent as soon as the child has it.
    pub fn deliver_listener(&self, agent: &Agent<'_>, state: &State, log: &mut Log) -> Result<()> {
        match self.recv_next(&state.cgroup, log)? {
            Message::Listener => agent.deliver(self.channel, state.pid)?,
            said => bail!("the container's process says {said:?} instead of its listener"),
        }
        self.send(&Message::Delivered)
    }

    /// Why the child died without an error message.
    fn post_mortem(&self, cgroup: &Cgroup) -> anyhow::Error {
        let reaped = reap(self.init);
        let killed = matches!(reaped, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _)));
        let hint = if self.filtered && !killed { FILTER_HINT } else { "" };
        let how = match reaped {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by {signal}"),
            Ok(WaitStatus::Exited(_, code)) => format!("exit status {code}"),
            Ok(other) => format!("{other:?}"),
            Err(error) => describe(&error),
        };
        let died = anyhow!("the container's process died during its set-up ({how}){hint}");
        match cgroup.oom_killed() {
            true => died
                .context("too small to start the container")
                .context(At::new("linux.resources.memory.limit")),
            false => died,
        }
    }
}

/// Waits until a child of brig has exited, and reaps it.
pub fn reap(init: &OwnedFd) -> Result<WaitStatus> {
    let end = Instant::now() + deadline::KILL;
    ensure!(
        sys::poll::readable(init.as_fd(), end)?,
        "the container's process still exists {} s after it was killed",
        deadline::KILL.as_secs()
    );
    Ok(waitid(Id::PIDFd(init.as_fd()), WaitPidFlag::WEXITED)?)
}
