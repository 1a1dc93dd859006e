//! Namespaces: type and owner, and setting up a new one.

use super::{SysError, check};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// The `CLONE_NEW*` type of the namespace that `fd` refers to (ioctl_ns(2), NS_GET_NSTYPE).
///
/// # Errors
///
/// If ioctl(NS_GET_NSTYPE) fails, because `fd` is not a namespace.
pub fn namespace_type(fd: BorrowedFd<'_>) -> Result<libc::c_int, SysError> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request has no argument; on a descriptor of another kind it returns ENOTTY.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check(|| "ioctl(NS_GET_NSTYPE)".into(), kind.into())?;
    Ok(kind)
}

/// Whether this process's user namespace owns its mount namespace: otherwise not even its root may mount
/// (ioctl_ns(2), NS_GET_USERNS).
///
/// # Errors
///
/// If the files of the process's own namespaces cannot be opened.
pub fn owns_mount_namespace() -> std::io::Result<bool> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let mounts = File::open("/proc/self/ns/mnt")?;
    // SAFETY: NS_GET_USERNS has no argument.
    let owner = unsafe { libc::ioctl(mounts.as_raw_fd(), NS_GET_USERNS) };
    // EPERM if the owner is neither the caller's user namespace nor a descendant of it.
    if owner < 0 {
        return Ok(false);
    }
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    let owner = File::from(unsafe { OwnedFd::from_raw_fd(owner) });
    let identity = |file: Metadata| (file.dev(), file.ino());
    Ok(identity(owner.metadata()?) == identity(std::fs::metadata("/proc/self/ns/user")?))
}

/// setdomainname(2).
///
/// # Errors
///
/// setdomainname(2) failed.
pub fn setdomainname(name: &[u8]) -> Result<(), SysError> {
    // SAFETY: pointer and length are those of one slice, which outlives the call.
    let done = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    check(|| format!("setdomainname({})", name.escape_ascii()), done.into()).map(drop)
}

/// Sets the loopback device of the current network namespace up.
///
/// # Errors
///
/// The device `lo` cannot be set up.
pub fn loopback_up() -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(|| "socket(AF_INET)".into(), fd.into())?;
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[0x6c, 0x6f]); // "lo"
    request.ifr_ifru.ifru_flags = 0x41; // IFF_UP | IFF_RUNNING
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    let done = unsafe {
        libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    check(|| "ioctl(lo, SIOCSIFFLAGS, up)".into(), done).map(drop)
}
