//! Unix sockets: passing descriptors, and addresses with paths that are too long.

use super::SysError;
use anyhow::Result;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The address of a socket in the filesystem, whose path may be longer than the 107 bytes of `sockaddr_un`
/// (unix(7)): it is accessed through a descriptor, which must be open as long as the address is used.
#[derive(Debug)]
pub struct SocketAddress {
    address: UnixAddr,
    _file: Option<OwnedFd>,
}

impl SocketAddress {
    /// The address of the existing socket at `path`, to connect to.
    ///
    /// # Errors
    ///
    /// If `path` does not exist or may not be accessed.
    pub fn of(path: &Path) -> Result<SocketAddress> {
        let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let address = UnixAddr::new(format!("/proc/self/fd/{}", file.as_raw_fd()).as_str())?;
        Ok(SocketAddress { address, _file: Some(file) })
    }

    /// The address of an abstract socket (unix(7)), whose name belongs to the network namespace and is not a
    /// path.
    ///
    /// # Errors
    ///
    /// If the name is too long.
    pub fn of_abstract(name: &[u8]) -> Result<SocketAddress> {
        Ok(SocketAddress { address: UnixAddr::new_abstract(name)?, _file: None })
    }

    /// The address for connect(2).
    pub fn get(&self) -> &UnixAddr {
        &self.address
    }
}

/// The address of `name` in an open directory, to bind a socket to: not limited by the length of the
/// directory's path.
///
/// # Errors
///
/// If `name` alone is too long.
pub fn address_in(directory: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    Ok(UnixAddr::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).as_str())?)
}

/// Receives a message and the descriptors attached to it, at most two.
///
/// # Errors
///
/// If recvmsg(2) fails, or not all descriptors were received.
pub fn receive_fds(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, SysError> {
    receive_message(socket, &mut [0_u8; 4096]).map(|(_, fds)| fds)
}

/// Like [`receive_fds`], with the message's text and its length; 0 is end of file.
///
/// # Errors
///
/// If recvmsg(2) fails, or not all descriptors were received.
pub fn receive_message(
    socket: BorrowedFd<'_>,
    text: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), SysError> {
    // The kernel passes at most as many as there is room for.
    let mut room = nix::cmsg_space!([RawFd; 2]);
    let failed = |errno| SysError::new("recvmsg", errno);
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
    let mut text = [std::io::IoSliceMut::new(text)];
    let message = recvmsg::<()>(fd, &mut text, Some(&mut room), flags).map_err(failed)?;
    for part in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just created this descriptor, which has no other owner.
            let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
            return Ok((message.bytes, fds.into_iter().map(owned).collect()));
        }
    }
    Ok((message.bytes, Vec::new()))
}
