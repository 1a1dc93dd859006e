//! Signals and pidfds.

use super::{SysError, check};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Signals that end a waiting brig, after it has undone everything.
pub const ABORT: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// The argument of the kernel's rt_sigaction, which differs from libc's sigaction. On riscv64 it has no
/// restorer: that field is the mask there, and both are 0.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Resets every signal to its default action and unblocks all: ignored signals stay ignored over execve
/// (std's own start-up ignores SIGPIPE, nohup SIGHUP).
///
/// # Errors
///
/// If sigaction(2) or sigprocmask(2) fails.
pub fn reset_all() -> Result<(), SysError> {
    (1..=64).filter(|s| ![libc::SIGKILL, libc::SIGSTOP].contains(s)).try_for_each(reset)?;
    unblock_all()
}

/// Makes a command unblock all signals in its own process, as the last step before execve: std leaves those
/// blocked that brig has blocked.
pub fn unblock_before_exec(command: &mut Command) {
    let unblock = || unblock_all().map_err(|error| io::Error::from(error.errno));
    // SAFETY: brig has one thread, so no lock is held in the child by a thread that does not exist there; the
    // closure makes one system call.
    unsafe { command.pre_exec(unblock) };
}

fn unblock_all() -> Result<(), SysError> {
    let empty = 0_u64;
    let none = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads a mask of 64 bits, which outlives the call.
    let done = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, none, 8_usize)
    };
    check(|| "rt_sigprocmask(SETMASK, none)".into(), done).map(drop)
}

/// Resets one signal to its default action.
///
/// # Errors
///
/// If sigaction(2) fails.
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

/// Makes the kernel reap children until the next execve: they cannot be waited for.
///
/// # Errors
///
/// If sigaction(2) fails.
pub fn leave_no_zombies() -> Result<(), SysError> {
    act(libc::SIGCHLD, libc::SA_NOCLDWAIT)
}

/// Signals with which people and engines end a process.
const END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Makes the signals of `END` end this process with exit code 128 + signal, until it executes a program.
/// Without a handler the kernel does not deliver them to the first process of a pid namespace
/// (pid_namespaces(7)).
///
/// # Errors
///
/// If sigaction(2) fails.
pub fn end_by_signals() -> Result<(), SysError> {
    extern "C" fn end(signal: i32) {
        super::exit(128 + signal)
    }
    END.into_iter().try_for_each(|signal| {
        // SAFETY: an all-zero sigaction is valid: no flags, nothing blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = end as *const () as usize;
        // SAFETY: the struct outlives the call, and the handler only calls _exit(2).
        let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        check(|| format!("sigaction({signal})"), done.into()).map(drop)
    })
}

/// Writes to a file whose reader may be gone: SIGPIPE must not end brig in the midst of its work.
pub fn without_sigpipe<T>(write: impl FnOnce() -> T) -> T {
    let signal = SigSet::from(Signal::SIGPIPE);
    let before = signal.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let written = write();
    let Some(before) = before.ok().filter(|before| !before.contains(Signal::SIGPIPE)) else {
        return written;
    };
    if let Ok(Some(_)) = pending(&[libc::SIGPIPE]) {
        let _ = signal.wait();
    }
    let _ = before.thread_set_mask();
    written
}

/// One of these signals that is blocked and pending, if any.
///
/// # Errors
///
/// If sigpending(2) fails.
pub fn pending(signals: &[i32]) -> Result<Option<i32>, SysError> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the kernel writes to a set that outlives the call.
    let done = unsafe { libc::sigpending(set.as_mut_ptr()) };
    check(|| "sigpending".into(), done.into())?;
    // SAFETY: the call has succeeded, and filled the set.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads an initialised set; an invalid signal number is not a member.
    Ok(signals
        .iter()
        .copied()
        .find(|&signal| unsafe { libc::sigismember(&raw const set, signal) } == 1))
}

/// pidfd_open(2).
///
/// # Errors
///
/// If pidfd_open(2) fails: ESRCH for a process that does not exist.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, SysError> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(|| format!("pidfd_open({pid})"), fd)?;
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap_or(-1)) })
}

/// Whether the process of a pidfd has exited, possibly as a zombie.
///
/// # Errors
///
/// If poll(2) fails.
pub fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, SysError> {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd is passed, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    check(|| "poll(pidfd)".into(), ready.into()).map(|ready| ready > 0)
}

/// pidfd_send_signal(2).
///
/// # Errors
///
/// pidfd_send_signal(2) failed: ESRCH for a process that has ended.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), SysError> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: with a null siginfo the kernel sends what kill(2) would send.
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    check(|| format!("pidfd_send_signal({signal})"), done).map(drop)
}

/// The structure of PIDFD_GET_INFO (linux/pidfd.h, the first published version).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// Process, thread group and parent; real, effective, saved and filesystem ids of user and group.
    ids: [u32; 11],
    exit_code: i32,
}

/// The wait(2) status of a pidfd's process, which the kernel reports after the process was reaped
/// (PIDFD_INFO_EXIT, Linux 6.15). None before that, and with an older kernel.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11) as libc::Ioctl;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the struct has the layout and the size encoded in the request's number, and outlives the call.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}
