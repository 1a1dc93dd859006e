//! Unix sockets: descriptors in messages, and addresses of paths that are too long for one.

use super::SysError;
use anyhow::Result;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The address of a socket in the filesystem, whose path may be longer than the 107 bytes that `sockaddr_un` holds
/// (unix(7)): it is reached through a descriptor, which has to be open as long as the address is used.
#[derive(Debug)]
pub struct SocketAddress {
    address: UnixAddr,
    _file: Option<OwnedFd>,
}

impl SocketAddress {
    /// Of the socket at `path`, to connect to.
    ///
    /// # Errors
    ///
    /// There is nothing at `path`, or nothing that may be looked up.
    pub fn of(path: &Path) -> Result<SocketAddress> {
        let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str())?;
        Ok(SocketAddress { address, _file: Some(file) })
    }

    /// Of the socket with this name in the network namespace's own name space, which is no path (unix(7), abstract).
    ///
    /// # Errors
    ///
    /// It is too long.
    pub fn of_abstract(name: &[u8]) -> Result<SocketAddress> {
        Ok(SocketAddress { address: UnixAddr::new_abstract(name)?, _file: None })
    }

    /// What connect(2) takes.
    pub fn get(&self) -> &UnixAddr {
        &self.address
    }
}

/// The address of `name` in an open directory, to bind a socket to: also where the directory's path is too long.
///
/// # Errors
///
/// `name` alone is too long.
pub fn address_in(directory: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    Ok(UnixAddr::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).as_str())?)
}

/// Takes a message from a socket, and the descriptors that came with it, two at most.
///
/// # Errors
///
/// recvmsg(2) failed, or not all descriptors have come.
pub fn receive_fds(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, SysError> {
    receive_message(socket, &mut [0_u8; 4096]).map(|(_, fds)| fds)
}

/// The same, with the message's text and its length; 0 is the end of file.
pub fn receive_message(
    socket: BorrowedFd<'_>,
    text: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), SysError> {
    // The kernel passes no more than there is room for.
    let mut room = nix::cmsg_space!([RawFd; 2]);
    let failed = |errno| SysError::new("recvmsg", errno);
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
    let mut text = [std::io::IoSliceMut::new(text)];
    let message = recvmsg::<()>(fd, &mut text, Some(&mut room), flags).map_err(failed)?;
    for part in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made this descriptor, which nobody else owns.
            let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
            return Ok((message.bytes, fds.into_iter().map(owned).collect()));
        }
    }
    Ok((message.bytes, Vec::new()))
}
