//! Forwards readiness notifications, sd_notify(3): if brig has `NOTIFY_SOCKET` in its environment, the
//! container's init gets a socket too, and brig forwards its messages.
//!
//! ```text
//!   service manager  ◀── NOTIFY_SOCKET ──  brig  ◀── <state>/notify/notify.sock ──  container
//!                                                    seen there as /run/notify/notify.sock
//! ```
//!
//! create makes the directory, which the container mounts; run and start make the socket before the
//! container's program runs. brig in the foreground forwards until that program exits; otherwise it forwards
//! until the program is ready, and then names it to the service manager as the main process.

use super::forwarded;
use crate::plan::readiness::{DIRECTORY, SOCKET};
use crate::state::Dir;
use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, openat};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, recv, sendto, setsockopt, socket,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat, umask};
use nix::sys::time::TimeVal;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use sys::Errno;
use sys::socket::address_in;

/// The service manager's socket.
pub struct Manager(UnixAddr);

impl Manager {
    /// The socket named in brig's environment, if any.
    ///
    /// # Errors
    ///
    /// If `NOTIFY_SOCKET` is neither an absolute path nor an abstract name, or is too long.
    pub fn of_environment() -> Result<Option<Manager>> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        let read = |name: &std::ffi::OsString| match name.as_bytes() {
            [b'@', name @ ..] => Ok(UnixAddr::new_abstract(name)?),
            [b'/', ..] => Ok(UnixAddr::new(name.as_os_str())?),
            _ => bail!("neither a path nor an abstract name"),
        };
        let address = |name: std::ffi::OsString| {
            read(&name).with_context(|| format!("NOTIFY_SOCKET={}", name.display()))
        };
        Ok(name.map(address).transpose()?.map(Manager))
    }
}

/// Creates the directory that the plan mounts in the container.
pub fn make_directory(dir: &Dir) -> Result<()> {
    // The container's user must be able to enter it, whatever umask brig was called with.
    let mode = Mode::from_bits_truncate(0o755);
    mkdirat(dir.fd(), DIRECTORY, mode)
        .and_then(|()| fchmodat(dir.fd(), DIRECTORY, mode, FchmodatFlags::FollowSymlink))
        .with_context(|| format!("create {}/{DIRECTORY}", dir.path.display()))
}

/// Messages of the container, on their way to the service manager.
pub struct Forwarder {
    container: OwnedFd,
    out: OwnedFd,
    manager: Manager,
}

impl Forwarder {
    /// Creates the container's socket; None if create has made no directory for it.
    pub fn open(dir: &Dir, manager: Option<Manager>) -> Result<Option<Forwarder>> {
        let Some(manager) = manager else { return Ok(None) };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = match openat(dir.fd(), DIRECTORY, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            directory => directory.context(DIRECTORY)?,
        };
        let container = listen(&directory);
        let container =
            container.with_context(|| format!("{}/{DIRECTORY}/{SOCKET}", dir.path.display()))?;
        let out = datagrams()?;
        let seconds = i64::try_from(crate::deadline::SOCKET.as_secs())?;
        setsockopt(&out, SendTimeout, &TimeVal::new(seconds, 0)).context("setsockopt")?;
        Ok(Some(Forwarder { container, out, manager }))
    }

    /// Becomes readable when the container has sent a message.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }

    /// Forwards all pending messages as those of process `main`; true: the container is ready.
    pub fn pass_on(&self, main: i32) -> Result<bool> {
        let mut ready = false;
        let mut packet = [0; 4096];
        loop {
            let length = match recv(self.container.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT)
            {
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(ready),
                length => length.context("receive from the container's notify socket")?,
            };
            let (text, says_ready) = translated(&packet[..length], main);
            ready |= says_ready;
            if !text.is_empty() {
                let (out, flags) = (self.out.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
                sendto(out, &text, &self.manager.0, flags).context("send to NOTIFY_SOCKET")?;
            }
        }
    }

    /// Forwards messages of init, process `pid`, until it is ready or has exited. A signal to brig stops
    /// this, and brig.
    pub fn until_ready(&self, init: BorrowedFd<'_>, pid: i32) -> Result<()> {
        // They were blocked while there was something to undo.
        forwarded().thread_unblock().context("unblock signals")?;
        loop {
            let mut fds = [self.fd(), init].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            sys::poll::wait(&mut fds, None)?;
            let dead = fds[1].any().unwrap_or(true);
            if self.pass_on(pid)? || dead {
                return Ok(());
            }
        }
    }
}

fn datagrams() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Datagram, flags, None).context("socket")
}

/// Binds a socket in the directory with mode 0666. The mode is set by umask, because a chmod afterwards could
/// hit a file that has replaced the socket.
fn listen(directory: &OwnedFd) -> Result<OwnedFd> {
    match unlinkat(directory, SOCKET, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).context("unlink"),
    }
    let socket = datagrams()?;
    let address = address_in(directory.as_fd(), SOCKET)?;
    let before = umask(Mode::empty());
    let bound = bind(socket.as_raw_fd(), &address);
    umask(before);
    bound.context("bind")?;
    Ok(socket)
}

/// The lines that are safe to forward: none that name processes (their pids are the container's), pass
/// descriptors, or change who may send messages.
const PASSED: [&[u8]; 10] = [
    b"READY=",
    b"STATUS=",
    b"RELOADING=",
    b"STOPPING=",
    b"MONOTONIC_USEC=",
    b"WATCHDOG=",
    b"EXTEND_TIMEOUT_USEC=",
    b"ERRNO=",
    b"BUSERROR=",
    b"EXIT_STATUS=",
];

/// A message for the service manager, and whether it announces readiness.
fn translated(packet: &[u8], main: i32) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let mut ready = false;
    for line in packet.split(|&byte| byte == b'\n') {
        if PASSED.iter().any(|name| line.starts_with(name)) {
            text.extend_from_slice(line);
            text.push(b'\n');
            ready |= line == b"READY=1";
        }
    }
    if ready {
        text.extend_from_slice(format!("MAINPID={main}\n").as_bytes());
    }
    (text, ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_is_passed_on() {
        let of = |packet: &[u8]| {
            let (text, ready) = translated(packet, 7);
            (String::from_utf8(text).unwrap(), ready)
        };
        let all = b"STATUS=up\nMAINPID=1\nFDSTORE=1\nREADY=1\nNOTIFYACCESS=all";
        assert_eq!(of(all), ("STATUS=up\nREADY=1\nMAINPID=7\n".into(), true));
        assert_eq!(of(b"WATCHDOG=1"), ("WATCHDOG=1\n".into(), false));
        assert_eq!(of(b"READY=0\n\n"), ("READY=0\n".into(), false));
        assert_eq!(of(b"MAINPID=1\n\xff"), (String::new(), false));
    }
}
