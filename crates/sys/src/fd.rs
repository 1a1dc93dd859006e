//! Descriptors: the standard ones, locks on open files, and what survives execve.

use super::{Errno, SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// flock(2), without waiting: false when somebody else holds the lock. It belongs to the open file,
/// so a cloned child that holds a copy of `fd` holds the lock too.
///
/// # Errors
///
/// flock(2) failed for another reason than a lock of somebody else.
pub fn try_flock(fd: BorrowedFd<'_>, exclusive: bool) -> Result<bool, SysError> {
    let how = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: takes integers only.
    let done = unsafe { libc::flock(fd.as_raw_fd(), how | libc::LOCK_NB) };
    match check(|| "flock".into(), done.into()) {
        Err(error) if error.errno == Errno::EWOULDBLOCK => Ok(false),
        done => done.map(|_| true),
    }
}

/// stdin, stdout and stderr, without std's buffers around them. [`fill_standard_fds`] has made sure
/// that they are open, and brig never closes them.
pub const STANDARD_FDS: [BorrowedFd<'static>; 3] = [standard(0), standard(1), standard(2)];

const fn standard(fd: libc::c_int) -> BorrowedFd<'static> {
    // SAFETY: open for the life of the process, see above.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Whether a descriptor is open and survives execve.
pub fn is_inherited(fd: u32) -> bool {
    // SAFETY: takes integers only; a number that is not open is an error.
    let flags = unsafe { libc::fcntl(fd.cast_signed(), libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Another descriptor, close-on-exec, of what somebody else has open under this number.
///
/// # Errors
///
/// fcntl(2) failed: EBADF for a number that is not open.
pub fn duplicate(fd: u32) -> Result<OwnedFd, SysError> {
    // SAFETY: takes integers only; a number that is not open is an error.
    let new = unsafe { libc::fcntl(fd.cast_signed(), libc::F_DUPFD_CLOEXEC, 3) };
    check(|| format!("fcntl({fd}, F_DUPFD_CLOEXEC)"), new.into())?;
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Lets execve leave a descriptor open.
///
/// # Errors
///
/// fcntl(2) failed: EBADF for a number that is not open.
pub fn inherit(fd: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only; a number that is not open is an error.
    let done = unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, 0) };
    check(|| format!("fcntl({fd}, F_SETFD, 0)"), done.into()).map(drop)
}

/// Opens /dev/null until descriptors 0, 1 and 2 exist. Without std's start-up nobody else does, and
/// the first file that brig opens would become the container's stdin.
pub fn fill_standard_fds() {
    loop {
        // SAFETY: the path is a C string literal.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if fd > 2 {
            // SAFETY: the kernel has just made this descriptor, which nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return;
        }
        if fd < 0 {
            return;
        }
    }
}
