//! Making the child, and leaving it.

use super::{SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of clone3 we are on.
pub enum Side {
    /// The caller, with the child's pid in the caller's pid namespace and a pidfd for it.
    Parent(i32, OwnedFd),
    /// The new process: a copy of the caller's memory and descriptors.
    Child,
}

/// Its libc constant does not fit its libc type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) in the manner of fork(2): new namespaces by `flags` (`CLONE_NEW*`), born in the
/// cgroup2 directory `into` where one is given.
pub fn clone3(flags: libc::c_int, into: Option<BorrowedFd<'_>>) -> Result<Side, SysError> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero is a valid value ("not asked").
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    if let Some(dir) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(dir.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM and with stack 0 the child goes on on a copy of this stack, as after
    // fork. brig is single-threaded (clippy.toml forbids threads), so no lock is held by a thread
    // that the child lacks. args and pidfd outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    match check(|| format!("clone3(flags {:#x})", args.flags), pid)? {
        0 => Ok(Side::Child),
        pid => {
            // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(i32::try_from(pid).unwrap_or(i32::MAX), pidfd))
        }
    }
}

/// clone3(2) of a child that becomes the caller's parent's. None: we are the child. Its pid is as the
/// caller's pid namespace, which must be its parent's, sees it.
pub fn clone_sibling(
    flags: libc::c_int,
    into: Option<BorrowedFd<'_>>,
) -> Result<Option<i32>, SysError> {
    // SAFETY: clone_args is plain integers, for which zero is a valid value ("not asked"). The exit
    // signal must be 0 with CLONE_PARENT: it is the one of the caller.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((flags | libc::CLONE_PARENT).cast_unsigned());
    if let Some(dir) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(dir.as_raw_fd().cast_unsigned());
    }
    // SAFETY: as in clone3 above.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    let pid = check(|| format!("clone3(flags {:#x})", args.flags), pid)?;
    Ok(i32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Ends the process at once: no destructors, no atexit handlers (in the child they would be the
/// parent's), no flushing.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Marks every descriptor from `first` on to be closed by execve.
pub fn close_from_at_exec(first: u32) -> Result<(), SysError> {
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: sets a flag on descriptors; no memory is passed.
    let done = unsafe { libc::close_range(first, u32::MAX, flags) };
    check(|| format!("close_range({first}, -1, CLOEXEC)"), done.into()).map(drop)
}
