//! What parent and child say to each other while a container is being created.
//!
//! ```text
//!   parent                                    child
//!                                             its cgroup
//!                          ◀─── Started ──── always: when it was started
//!   id maps, network devices ─── Provided ─▶  only if there are such
//!                                             namespaces, mounts
//!   systemd's answer         ──── Placed ──▶  only with systemd; at the first mount that needs it
//!   prestart, createRuntime  ◀─── Mounted ─── only if there are such hooks
//!                            ──── Pivot ───▶  createContainer hooks, pivot, …
//!   gives it to the agent    ◀── Listener ─── only if the filter notifies: it is in force now
//!                            ─ Delivered ──▶  ids, …
//!                            ◀──── Ready ──── all done
//!   save state, pid file
//!                            ──── Saved ───▶  waits at the gate
//!   exits
//!   at any time:             ◀─ Warning(text) parent logs
//!                            ◀─ Failed(text)  exits;  parent undoes
//!                            ◀──── EOF ─────  died: the parent asks waitid how
//!                            ───── EOF ────▶  the parent died: exits
//! ```
//!
//! So a child outlives its parent only when the state that leads to it has been saved. One
//! `SOCK_SEQPACKET` pair; a message is one tag byte and, for
//! [`Message::Warning`] and [`Message::Failed`], text.
//!
//! It is not the child who sends the listener, but its [`courier`](super::agent::courier): the child would need a system call
//! that its filter may have the agent decide about, before the agent can. write(2) is the one call that no
//! filter may notify of (as with runc); whatever the child does after it waits for the agent, and so does not
//! have to be known.

use crate::deadline;
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;
use sys::Errno;

/// One end of the pair.
pub struct Channel {
    fd: OwnedFd,
    /// The child's filter may allow no socket calls. SIGPIPE then ends it, as its parent's death should.
    by_write: bool,
}

/// What is said.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// Relay: this is the pid of the child.
    Cloned(i32),
    /// Child: I was started then, in clock ticks after boot.
    Started(u64),
    /// Parent: the user namespace has its id maps, the network namespace its devices.
    Provided,
    /// Parent: you are in your cgroup.
    Placed,
    /// Child: the root filesystem is as it will be, the host's is still there.
    Mounted,
    /// Parent: the hooks have run, go on.
    Pivot,
    /// Courier: the filter is in force, and the next message brings its listener.
    Listener,
    /// Parent: the agent has the listener.
    Delivered,
    /// Child: everything is set up, I wait for start.
    Ready,
    /// Parent: whoever looks will find you now.
    Saved,
    /// Child: this is not as the config has it.
    Warning(String),
    /// Child: this is why I cannot go on.
    Failed(String),
}

impl Message {
    /// What a packet says; none is the end of file.
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
            [b'F', text @ ..] => Some(Message::Failed(String::from_utf8_lossy(text).into())),
            other => bail!(
                "the other side says {:?}, which is no message",
                other.escape_ascii().to_string()
            ),
        })
    }
}

/// In bytes. Longer texts are cut: a message is one packet.
const MAX_MESSAGE: usize = 8192;

/// Both ends: the parent's and the child's.
pub fn pair() -> Result<(Channel, Channel)> {
    let kind = SockType::SeqPacket;
    let (a, b) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
        .context("socketpair")?;
    Ok((Channel { fd: a, by_write: false }, Channel { fd: b, by_write: true }))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Channel {
    /// Says one thing. EPIPE: the other side is gone.
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
            Message::Failed(_) => b'F',
        };
        match message {
            Message::Warning(text) | Message::Failed(text) => {
                let text = text.bytes().take(MAX_MESSAGE - 1);
                self.put(&std::iter::once(tag).chain(text).collect::<Vec<_>>())
            }
            // Nothing is allocated for these: the kernel may be asked for memory then, and the agent.
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

    fn put(&self, packet: &[u8]) -> Result<(), Errno> {
        match self.by_write {
            true => nix::unistd::write(&self.fd, packet).map(drop),
            false => send(self.fd.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL).map(drop),
        }
    }

    /// Waits for what the other side says; none when it is gone. read(2), not recv(2): the child's
    /// filter may allow no socket calls.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut packet = [0_u8; MAX_MESSAGE];
        let length = nix::unistd::read(&self.fd, &mut packet).or_else(|errno| match errno {
            Errno::ECONNRESET => Ok(0),
            errno => Err(errno),
        });
        Message::decode(&packet[..length.context("read from the other side")?])
    }

    /// What the other side has said, if it has said anything by now that is not a warning.
    pub fn receive_now(&self) -> Option<Message> {
        loop {
            if !sys::poll::readable(self.fd.as_fd(), Instant::now()).unwrap_or(false) {
                return None;
            }
            match self.receive() {
                Ok(Some(Message::Warning(_))) => {}
                said => return said.ok().flatten(),
            }
        }
    }

    /// The child's wait for one certain answer. False: the parent is gone, or out of step.
    pub fn expect(&self, message: &Message) -> bool {
        matches!(self.receive(), Ok(Some(said)) if said == *message)
    }

    /// Until the other side says something or is gone.
    pub fn wait_for(&self, end: Instant, what: &str) -> Result<()> {
        let ready = sys::poll::readable(self.fd.as_fd(), end)?;
        ensure!(ready, "waited in vain for {what}");
        Ok(())
    }

    /// The parent's wait: until the child says something, a signal arrives at `interrupt`, or the
    /// deadline passes.
    pub fn wait(&self, interrupt: BorrowedFd<'_>, end: Instant) -> Result<()> {
        let mut fds = [self.fd.as_fd(), interrupt].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let seconds = deadline::SETUP.as_secs();
        let ready = sys::poll::wait(&mut fds, end)?;
        ensure!(ready, "the container's process has not finished its set-up after {seconds} s");
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
