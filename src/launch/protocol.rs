//! The messages between parent and child during create.
//!
//! ```text
//!   parent                                    child
//!                                             its cgroup
//!                          ◀─── Started ──── always: its start time
//!   id maps, network devices ─── Provided ─▶  if there are any
//!                                             namespaces, mounts
//!   systemd's answer         ──── Placed ──▶  with systemd, at the first mount that needs it
//!   prestart, createRuntime  ◀─── Mounted ─── if there are such hooks
//!                            ──── Pivot ───▶  createContainer hooks, pivot, …
//!   gives it to the agent    ◀── Listener ─── if the filter notifies: it is in force
//!                            ─ Delivered ──▶  ids, …
//!                            ◀──── Ready ──── set-up complete
//!   save state, pid file
//!                            ──── Saved ───▶
//!   if not root:             ◀───── EOF ────  accessible to its user
//!   exits                                     waits at the gate
//!   at any time:             ◀─ Warning(text) parent logs
//!                            ◀─ Phase(text)   parent records, if it does
//!                            ◀─ Failed(text)  exits;  parent undoes
//!                            ◀──── EOF ─────  died: the parent asks waitid how
//!                            ───── EOF ────▶  the parent died: exits
//! ```
//!
//! So a child outlives its parent only if the state that refers to it has been saved. The channel is a
//! `SOCK_SEQPACKET` pair; a message is one tag byte, followed by text for [`Message::Warning`] and
//! [`Message::Failed`].
//!
//! The listener is not sent by the child but by its [`courier`](super::agent::courier): the child would need
//! a system call that its filter may refer to the agent before the agent can answer. write(2) is the one call
//! that no filter can notify of (as in runc). Everything the child does afterwards can wait for the agent,
//! and so does not have to be known.

use crate::deadline;
use crate::phases::Phases;
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use sys::Errno;

/// One end of the pair.
pub struct Channel {
    fd: OwnedFd,
    /// Uses write(2), because the child's filter may allow no socket calls. SIGPIPE then kills it, as the
    /// death of its parent should.
    by_write: bool,
    /// What the child does, and when.
    pub phases: Phases,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Relay: the pid of the child.
    Cloned(i32),
    /// Child: its start time, in clock ticks after boot.
    Started(u64),
    /// Parent: the id maps of the user namespace are written, the network devices moved.
    Provided,
    /// Parent: the child is in its cgroup.
    Placed,
    /// Child: the root filesystem is complete, and the host's is still accessible.
    Mounted,
    /// Parent: the hooks have run.
    Pivot,
    /// Courier: the filter is in force, and the next message carries its listener.
    Listener,
    /// Parent: the agent has the listener.
    Delivered,
    /// Child: set-up is complete; it waits for start.
    Ready,
    /// Parent: the state is saved.
    Saved,
    /// Child: something differs from the config.
    Warning(String),
    /// Child, if phases are recorded: one has ended ([`crate::phases::Span::pack`]).
    Phase(String),
    /// Child: the error because of which it cannot go on.
    Failed(String),
}

impl Message {
    /// Decodes a packet; None is end of file.
    pub fn decode(packet: &[u8]) -> Result<Option<Message>> {
        Ok(match packet {
            [] => None,
            [b'C', a, b, c, d] => Some(Message::Cloned(i32::from_ne_bytes([*a, *b, *c, *d]))),
            [b'T', ticks @ ..] if ticks.len() == 8 => Some(Message::Started(
                ticks.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            )),
            b"D" => Some(Message::Provided),
            b"G" => Some(Message::Placed),
            b"M" => Some(Message::Mounted),
            b"P" => Some(Message::Pivot),
            b"L" => Some(Message::Listener),
            b"A" => Some(Message::Delivered),
            b"R" => Some(Message::Ready),
            b"S" => Some(Message::Saved),
            [b'W', text @ ..] => Some(Message::Warning(String::from_utf8_lossy(text).into())),
            [b'H', text @ ..] => Some(Message::Phase(String::from_utf8_lossy(text).into())),
            [b'F', text @ ..] => Some(Message::Failed(String::from_utf8_lossy(text).into())),
            other => {
                bail!("internal error: invalid message {:?}", other.escape_ascii().to_string())
            }
        })
    }
}

/// In bytes. Longer texts are truncated: a message is one packet.
const MAX_MESSAGE: usize = 8192;

/// Both ends: the parent's and the child's.
pub fn pair() -> Result<(Channel, Channel)> {
    let kind = SockType::SeqPacket;
    let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
        .context("socketpair")?;
    Ok((
        Channel { fd: a, by_write: false, phases: Phases::default() },
        Channel { fd: b, by_write: true, phases: Phases::default() },
    ))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Channel {
    /// Sends a message. EPIPE: the other side has exited.
    pub fn send(&self, message: &Message) -> Result<(), Errno> {
        let tag = match message {
            Message::Cloned(_) => b'C',
            Message::Started(_) => b'T',
            Message::Provided => b'D',
            Message::Placed => b'G',
            Message::Mounted => b'M',
            Message::Pivot => b'P',
            Message::Listener => b'L',
            Message::Delivered => b'A',
            Message::Ready => b'R',
            Message::Saved => b'S',
            Message::Warning(_) => b'W',
            Message::Phase(_) => b'H',
            Message::Failed(_) => b'F',
        };
        match message {
            Message::Warning(text) | Message::Phase(text) | Message::Failed(text) => {
                let text = text.bytes().take(MAX_MESSAGE - 1);
                self.put(&std::iter::once(tag).chain(text).collect::<Vec<_>>())
            }
            // Allocates nothing for these: an allocation can be a system call that the agent would have to
            // decide about.
            Message::Cloned(number) => {
                let [a, b, c, d] = number.to_ne_bytes();
                self.put(&[tag, a, b, c, d])
            }
            Message::Started(ticks) => {
                let mut packet = [tag; 9];
                packet[1..].copy_from_slice(&ticks.to_le_bytes());
                self.put(&packet)
            }
            _ => self.put(&[tag]),
        }
    }

    /// Reports the end of a phase of the child. Not called after its filter is in force, which may not allow
    /// more than the necessary messages.
    pub fn end_phase(&self, name: &str) {
        if let Some(span) = self.phases.end() {
            // If the parent has exited, the next necessary message detects it.
            let _ = self.send(&Message::Phase(span.pack(name)));
        }
    }

    fn put(&self, packet: &[u8]) -> Result<(), Errno> {
        match self.by_write {
            true => nix::unistd::write(&self.fd, packet).map(drop),
            false => send(self.fd.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL).map(drop),
        }
    }

    /// Waits for a message of the other side; None if it has exited. read(2), not recv(2), because the
    /// child's filter may allow no socket calls.
    pub fn receive(&self) -> Result<Option<Message>> {
        match self.by_write {
            // The child receives no texts, and each page that it writes to is copied for it.
            true => self.receive_into(&mut [0; 16]),
            false => self.receive_text(),
        }
    }

    /// Not inlined, so that the child's stack frame does not contain this buffer.
    #[inline(never)]
    fn receive_text(&self) -> Result<Option<Message>> {
        self.receive_into(&mut [0; MAX_MESSAGE])
    }

    fn receive_into(&self, packet: &mut [u8]) -> Result<Option<Message>> {
        let length = nix::unistd::read(&self.fd, packet).or_else(|errno| match errno {
            Errno::ECONNRESET => Ok(0),
            errno => Err(errno),
        });
        Message::decode(&packet[..length.context("read from the other side")?])
    }

    /// A message that has already arrived, warnings excepted.
    pub fn receive_now(&self) -> Option<Message> {
        loop {
            if !sys::poll::readable(self.fd.as_fd(), Instant::now()).unwrap_or(false) {
                return None;
            }
            match self.receive() {
                Ok(Some(Message::Warning(_) | Message::Phase(_))) => {}
                said => return said.ok().flatten(),
            }
        }
    }

    /// The child's wait for one given message. False: the parent has exited, or sent something else.
    pub fn expect(&self, message: &Message) -> bool {
        matches!(self.receive(), Ok(Some(said)) if said == *message)
    }

    /// Waits for a message, or until the other side exits.
    pub fn wait_for(&self, end: Instant, what: &str) -> Result<()> {
        let ready = sys::poll::readable(self.fd.as_fd(), end)?;
        ensure!(ready, "timed out waiting for {what}");
        Ok(())
    }

    /// The parent's wait: for a message of the child, a signal at `interrupt`, or the deadline.
    ///
    /// # Errors
    ///
    /// If brig is interrupted by a signal, or the deadline has passed.
    pub fn wait(&self, interrupt: BorrowedFd<'_>, end: Instant) -> Result<()> {
        let mut fds = [self.fd.as_fd(), interrupt].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let seconds = deadline::SETUP.as_secs();
        let ready = sys::poll::wait(&mut fds, end)?;
        ensure!(
            ready,
            "timed out after {seconds} s waiting for the container's process to finish its set-up"
        );
        ensure!(fds[0].any().unwrap_or(true), "interrupted by a signal");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_socket_and_eof_is_none() {
        let (parent, child) = pair().unwrap();
        let texts = [Message::Warning("sysfs".into()), Message::Failed("mounts[3]: EPERM".into())];
        let plain = [
            Message::Ready,
            Message::Started(0x0102_0304_0506_0708),
            Message::Cloned(-2),
            Message::Listener,
            Message::Delivered,
        ];
        for message in plain.into_iter().chain(texts) {
            child.send(&message).unwrap();
            assert_eq!(parent.receive().unwrap(), Some(message));
        }
        drop(child);
        assert_eq!(parent.receive().unwrap(), None);
        assert_eq!(parent.send(&Message::Saved), Err(Errno::EPIPE));
    }

    #[test]
    fn a_message_sent_before_the_sender_died_still_arrives() {
        let (parent, child) = pair().unwrap();
        parent.send(&Message::Saved).unwrap();
        drop(parent);
        assert_eq!(child.receive().unwrap(), Some(Message::Saved));
        assert_eq!(child.receive().unwrap(), None);
    }
}
