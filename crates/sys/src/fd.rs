//! Descriptors: the standard ones, locks on open files, and inheritance over execve.

use super::{Errno, SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// flock(2) without waiting: false if another process holds the lock. It belongs to the open file
/// description, so a cloned child with a copy of `fd` holds the lock too.
///
/// # Errors
///
/// If flock(2) fails for another reason than a held lock.
pub fn try_flock(fd: BorrowedFd<'_>, exclusive: bool) -> Result<bool, SysError> {
    let how = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: takes integers only.
    let done = unsafe { libc::flock(fd.as_raw_fd(), how | libc::LOCK_NB) };
    match check(|| "flock".into(), done.into()) {
        Err(error) if error.errno == Errno::EWOULDBLOCK => Ok(false),
        done => done.map(|_| true),
    }
}

/// stdin, stdout and stderr, without std's buffers. [`fill_standard_fds`] has ensured that they are open, and
/// brig never closes them.
pub const STANDARD_FDS: [BorrowedFd<'static>; 3] = [standard(0), standard(1), standard(2)];

const fn standard(fd: libc::c_int) -> BorrowedFd<'static> {
    // SAFETY: open for the lifetime of the process, see above.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Whether a descriptor is open and survives execve.
pub fn is_inherited(fd: u32) -> bool {
    // SAFETY: takes integers only; a number that is not open is an error.
    let flags = unsafe { libc::fcntl(fd.cast_signed(), libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Duplicates, as close-on-exec, a descriptor that brig has inherited under this number.
///
/// # Errors
///
/// If fcntl(2) fails: EBADF for a number that is not open.
pub fn duplicate(fd: u32) -> Result<OwnedFd, SysError> {
    // SAFETY: takes integers only; a number that is not open is an error.
    let new = unsafe { libc::fcntl(fd.cast_signed(), libc::F_DUPFD_CLOEXEC, 3) };
    check(|| format!("fcntl({fd}, F_DUPFD_CLOEXEC)"), new.into())?;
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Makes execve keep a descriptor open.
///
/// # Errors
///
/// If fcntl(2) fails: EBADF for a number that is not open.
pub fn inherit(fd: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only; a number that is not open is an error.
    let done = unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, 0) };
    check(|| format!("fcntl({fd}, F_SETFD, 0)"), done.into()).map(drop)
}

/// Opens /dev/null until descriptors 0, 1 and 2 exist. brig does not run std's start-up code, which would do
/// that, and otherwise the first file that brig opens could become the container's stdin.
pub fn fill_standard_fds() {
    loop {
        // SAFETY: the path is a C string literal.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if fd > 2 {
            // SAFETY: the kernel has just created this descriptor, which has no other owner.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return;
        }
        if fd < 0 {
            return;
        }
    }
}
