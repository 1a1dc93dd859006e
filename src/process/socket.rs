//! Sockets for passing a descriptor: `--console-socket` and similar.

use crate::deadline;
use anyhow::{Context, Result, bail};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg,
    setsockopt, socket, socketpair,
};
use nix::sys::time::TimeVal;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::Errno;
use sys::socket::{SocketAddress, receive_fds};

/// One end of a connection, for one message.
pub struct Socket {
    fd: OwnedFd,
    /// Its name in errors.
    name: String,
}

impl Socket {
    /// Connects to the listener at `path`, the value of `flag`.
    ///
    /// # Errors
    ///
    /// If no process listens at `path`, or it does not accept the connection in time.
    pub fn connect(flag: &str, path: &Path) -> Result<Socket> {
        let name = format!("{flag} {}", path.display());
        let fd = connect_to(path).with_context(|| name.clone())?;
        Ok(Socket { fd, name })
    }

    /// The same, if the flag is given.
    pub fn of_flag(flag: &str, path: Option<&Path>) -> Result<Option<Socket>> {
        path.map(|path| Socket::connect(flag, path)).transpose()
    }

    /// A pair: the sending end, and the end for [`receive`].
    pub fn pair() -> Result<(Socket, OwnedFd)> {
        let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let (fd, own) = socketpair(AddressFamily::Unix, kind, None, flags).context("socketpair")?;
        Ok((Socket { fd, name: "socket to brig".into() }, own))
    }

    /// Sends a descriptor with `text`, in one message as runc does, except for the part of a very long text
    /// that the kernel accepts later.
    pub fn send(&self, fd: BorrowedFd<'_>, text: &str) -> Result<()> {
        let (fds, mut text) = ([fd.as_raw_fd()], text.as_bytes());
        let mut rights = &[ControlMessage::ScmRights(&fds)][..];
        loop {
            let (own, part) = (self.fd.as_raw_fd(), [IoSlice::new(text)]);
            match sendmsg::<UnixAddr>(own, &part, rights, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(taken) if taken == text.len() => return Ok(()),
                Ok(taken) => (text, rights) = (&text[taken..], &[]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    bail!("{}: not read within {} s", self.name, deadline::SOCKET.as_secs())
                }
                Err(errno) => return Err(errno).with_context(|| format!("{}: sendmsg", self.name)),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn connect_to(path: &Path) -> Result<OwnedFd> {
    let address = SocketAddress::of(path)?;
    let (kind, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let fd = socket(AddressFamily::Unix, kind, flags, None).context("socket")?;
    // unix(7): the timeout limits how long connect waits for a place in the listener's queue, and sendmsg for
    // space.
    let seconds = deadline::SOCKET.as_secs();
    setsockopt(&fd, SendTimeout, &TimeVal::new(i64::try_from(seconds)?, 0))
        .context("setsockopt(SO_SNDTIMEO)")?;
    match connect(fd.as_raw_fd(), address.get()) {
        Ok(()) => Ok(fd),
        Err(Errno::EAGAIN) => bail!("connect: not accepted within {seconds} s"),
        Err(Errno::ECONNREFUSED) => bail!("connection refused: no process listens on this socket"),
        Err(errno) => Err(errno).context("connect"),
    }
}

/// Receives a descriptor from the other end of a pair, which has announced it.
pub fn receive(own: &OwnedFd) -> Result<OwnedFd> {
    receive_fds(own.as_fd())?.pop().context("the message contains no descriptor")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_text() {
        let (socket, own) = Socket::pair().unwrap();
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        socket.send(file.as_fd(), "/dev/pts/7").unwrap();
        let arrived = nix::sys::stat::fstat(receive(&own).unwrap()).unwrap();
        assert_eq!(arrived.st_ino, nix::sys::stat::fstat(&file).unwrap().st_ino);
        drop(own);
        let error = socket.send(file.as_fd(), "x").unwrap_err();
        assert!(format!("{error:#}").starts_with("socket to brig: sendmsg: EPIPE"), "{error:#}");
    }
}
