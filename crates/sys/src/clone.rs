//! Creates the child process, and exits from it.

use super::{Errno, SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The side of the clone that the caller is on.
pub enum Side {
    /// The caller, with the child's pid in the caller's pid namespace and a pidfd for it.
    Parent(i32, OwnedFd),
    /// The new process: a copy of the caller's memory and descriptors.
    Child(Birth),
}

/// The cgroup that a child was created in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Birth {
    /// The requested cgroup2 directory, or none was requested.
    AsAsked,
    /// Its parent's cgroup: the kernel does not support CLONE_INTO_CGROUP.
    InParentsCgroup,
}

/// libc's constant does not fit its type for flags.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// clone3(2) in the manner of fork(2): new namespaces by `flags` (`CLONE_NEW*`), in the cgroup2 directory
/// `into`, if given.
///
/// # Errors
///
/// If clone3(2) fails, or clone(2) if the kernel does not support clone3.
pub fn clone3(flags: libc::c_int, into: Option<BorrowedFd<'_>>) -> Result<Side, SysError> {
    let mut pidfd: libc::c_int = -1;
    let (pid, birth) = clone(flags | libc::CLONE_PIDFD, libc::SIGCHLD, &mut pidfd, into)?;
    if pid == 0 {
        return Ok(Side::Child(birth));
    }
    // SAFETY: the kernel has just stored a new descriptor there, which has no other owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Side::Parent(pid, pidfd))
}

/// Like [`clone3`], but the child's parent is the caller's parent, which gets the same exit signal from it as
/// from the caller. The pid is that in the caller's pid namespace; the child gets an error instead.
///
/// # Errors
///
/// If clone3(2) fails, or clone(2) if the kernel does not support clone3.
pub fn clone_sibling(
    flags: libc::c_int,
    into: Option<BorrowedFd<'_>>,
) -> Result<Result<i32, Birth>, SysError> {
    let (pid, birth) = clone(flags | libc::CLONE_PARENT, 0, &mut -1, into)?;
    Ok(if pid == 0 { Err(birth) } else { Ok(pid) })
}

/// Returns 0 in the child.
fn clone(
    flags: libc::c_int,
    signal: libc::c_int,
    pidfd: &mut libc::c_int,
    into: Option<BorrowedFd<'_>>,
) -> Result<(i32, Birth), SysError> {
    // SAFETY: clone_args contains only integers, for which zero is a valid value ("not requested").
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    args.pidfd = (&raw mut *pidfd) as u64;
    args.exit_signal = u64::from(signal.cast_unsigned());
    if let Some(dir) = into {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(dir.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM and with stack 0 the child continues on a copy of this stack, as after fork.
    // brig is single-threaded (clippy.toml forbids threads), so no lock is held by a thread that does not
    // exist in the child. args and pidfd outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) };
    let mut birth = Birth::AsAsked;
    let pid = match check(|| format!("clone3(flags {:#x})", args.flags), pid) {
        // Linux before 5.3, or an engine's seccomp profile from before that.
        Err(error) if error.errno == Errno::ENOSYS => {
            birth = into.map_or(Birth::AsAsked, |_| Birth::InParentsCgroup);
            old_clone(flags | signal, pidfd)?
        }
        pid => pid?,
    };
    Ok((i32::try_from(pid).unwrap_or(i32::MAX), birth))
}

/// clone(2), whose first three arguments are the same on all supported architectures.
fn old_clone(flags: libc::c_int, pidfd: &mut libc::c_int) -> Result<libc::c_long, SysError> {
    let (stack, none) = (0_usize, 0_usize);
    // SAFETY: as above; without CLONE_PIDFD nothing is written to pidfd.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, stack, &raw mut *pidfd, none, none) };
    check(|| format!("clone(flags {flags:#x})"), pid)
}

/// Exits immediately: no destructors, no atexit handlers (in the child they would be the parent's), no
/// flushing.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces musl's, which signals the thread whose id was stored at start: in a clone that is another
/// process, possibly one of the container's with the same number. std aborts when it runs out of memory.
// SAFETY: C has no other function of that name and signature, and this one also ends the process.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    // SAFETY: takes integers only.
    unsafe { libc::kill(std::process::id().cast_signed(), libc::SIGABRT) };
    // The signal is ignored, as by the first process of a pid namespace.
    exit(128 + libc::SIGABRT)
}

/// Closes every descriptor from `first` on except these. If the kernel cannot (before Linux 5.9), execve
/// closes those that are close-on-exec.
///
/// For a process that never returns to the owners of these descriptors: nothing may use or close them again.
///
/// # Errors
///
/// If close_range(2) fails. If it is not supported the descriptors stay open, which is not an error.
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> Result<(), SysError> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    let mut from = first;
    for kept in keep.into_iter().filter(|kept| *kept >= first) {
        if kept > from {
            close_between(from, kept - 1)?;
        }
        from = kept + 1;
    }
    close_between(from, u32::MAX)
}

fn close_between(first: u32, last: u32) -> Result<(), SysError> {
    // SAFETY: the caller of close_all_but guarantees that they are not used again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match check(|| format!("close_range({first}, {last})"), done) {
        Err(error) if [Errno::ENOSYS, Errno::EPERM].contains(&error.errno) => Ok(()),
        done => done.map(drop),
    }
}

/// Marks every descriptor from `first` on as close-on-exec.
///
/// # Errors
///
/// If close_range(2) fails, except if the kernel does not support it.
pub fn close_from_at_exec(first: u32) -> Result<(), SysError> {
    // SAFETY: sets a flag on descriptors; no memory is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    match check(|| format!("close_range({first}, -1, CLOEXEC)"), done) {
        // Linux before 5.9, or (EINVAL) before 5.11, which added the flag.
        Err(error) if [Errno::ENOSYS, Errno::EINVAL].contains(&error.errno) => {
            (first..MAX_DESCRIPTORS).for_each(close_at_exec);
            Ok(())
        }
        done => done.map(drop),
    }
}

/// The kernel's default of fs.nr_open: unless that is raised, no higher descriptor exists.
const MAX_DESCRIPTORS: u32 = 1 << 20;

fn close_at_exec(fd: u32) {
    // SAFETY: sets a flag on a descriptor; one that is not open is an error, which is fine.
    unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, libc::FD_CLOEXEC) };
}
