//! Signals and pidfds.

use super::{SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// What the kernel's rt_sigaction takes, which is not what libc's sigaction takes.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Gives every signal its default action and unblocks all: an ignored signal would survive execve
/// (std's own start-up leaves SIGPIPE ignored, nohup SIGHUP).
pub fn reset_all() -> Result<(), SysError> {
    (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)).try_for_each(reset)?;
    let empty = 0_u64;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: a mask of 64 bits is what the kernel takes; it outlives the call.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, none, 8_usize)
    };
    check(|| "rt_sigprocmask(SETMASK, none)".into(), done).map(drop)
}

/// Gives one signal its default action.
pub fn reset(signal: i32) -> Result<(), SysError> {
    act(signal, 0)
}

fn act(signal: i32, flags: i32) -> Result<(), SysError> {
    let default = KernelAction { flags: flags.unsigned_abs().into(), ..KernelAction::default() };
    let none = std::ptr::null_mut::<KernelAction>();
    // SAFETY: the struct has the kernel's layout and outlives the call; SIG_DFL is handler 0.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, size_of::<u64>())
    };
    check(|| format!("rt_sigaction({signal}, SIG_DFL, flags {flags:#x})"), done).map(drop)
}

/// Until execve has children be gone when they end: nobody can wait for them, nor has to.
pub fn leave_no_zombies() -> Result<(), SysError> {
    act(libc::SIGCHLD, libc::SA_NOCLDWAIT)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, SysError> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(|| format!("pidfd_open({pid})"), fd)?;
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), SysError> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for what kill(2) would send.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    check(|| format!("pidfd_send_signal({signal})"), done).map(drop)
}
