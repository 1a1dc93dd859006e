//! seccomp(2): installing a filter, and serving as its agent.

use super::{Errno, SysError, check};
use libc::sock_filter;
use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process get the filter.
const TSYNC: u32 = 1 << 0;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the call returns the filter's listener.
const NEW_LISTENER: u32 = 1 << 3;
/// A thread that cannot get the filter is reported as an error instead of by the return value, which can be a
/// listener.
const TSYNC_ESRCH: u32 = 1 << 4;

/// Installs a filter for the calling thread, permanently. Requires CAP_SYS_ADMIN in the user namespace, or
/// no_new_privs, which is never set here. The flags are `SECCOMP_FILTER_FLAG_*`; with `NEW_LISTENER` returns
/// the listener.
///
/// # Errors
///
/// If seccomp(2) fails: EACCES with neither no_new_privs nor CAP_SYS_ADMIN, EINVAL for an invalid program.
pub fn install(program: &[sock_filter], flags: u32) -> Result<Option<OwnedFd>, SysError> {
    let call = || {
        let length = program.len();
        format!("seccomp(SET_MODE_FILTER, {length} instructions, flags {flags:#x})")
    };
    let length = program.len().try_into().map_err(|_| SysError::new(call(), Errno::E2BIG))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let with_esrch = TSYNC | NEW_LISTENER;
    let extra = if flags & with_esrch == with_esrch { TSYNC_ESRCH } else { 0 };
    // SAFETY: `filter` and the program (of the given length) outlive the call, which copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags | extra,
            std::ptr::from_ref(&filter),
        )
    };
    let result = check(call, result)?;
    if flags & NEW_LISTENER == 0 {
        // With TSYNC: the id of the thread that could not get the filter.
        return if result == 0 { Ok(None) } else { Err(SysError::new(call(), Errno::ESRCH)) };
    }
    owned(result).map(Some)
}

/// Makes a command install a filter in its own process, as the last step before execve.
pub fn install_before_exec(command: &mut Command, program: Vec<sock_filter>, flags: u32) {
    let install = move || match install(&program, flags) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from(error.errno)),
    };
    // SAFETY: brig has one thread, so no lock is held in the child by a thread that does not exist there; the
    // closure owns what it uses.
    unsafe { command.pre_exec(install) };
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`: the call is executed as if there were no filter.
const CONTINUE: u32 = 1 << 0;

/// A system call that waits for its agent's response.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The id of the notification.
    pub id: u64,
    /// The number of the system call.
    pub number: u32,
    /// Its architecture, `AUDIT_ARCH_*`.
    pub arch: u32,
}

/// As an agent, receives the next notification from a listener. None: the calling process was killed in the
/// meantime, or a signal has arrived.
///
/// # Errors
///
/// If ioctl(2) fails.
pub fn next_call(listener: BorrowedFd<'_>) -> Result<Option<Call>, SysError> {
    // SAFETY: plain data, for which zero is valid, and required by the kernel (seccomp_unotify(2)).
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let fd = listener.as_raw_fd();
    // SAFETY: the request writes a seccomp_notif, which outlives the call.
    let done = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) };
    match check(|| "ioctl(SECCOMP_IOCTL_NOTIF_RECV)".into(), done.into()) {
        Err(error) if [Errno::ENOENT, Errno::EINTR].contains(&error.errno) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => {
            let (number, arch) = (asked.data.nr.cast_unsigned(), asked.data.arch);
            Ok(Some(Call { id: asked.id, number, arch }))
        }
    }
}

/// As an agent, lets a system call continue.
///
/// # Errors
///
/// If ioctl(2) fails for another reason than that the calling process was killed in the meantime.
pub fn go_on(listener: BorrowedFd<'_>, call: &Call) -> Result<(), SysError> {
    let answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags: CONTINUE };
    let fd = listener.as_raw_fd();
    // SAFETY: the request reads a seccomp_notif_resp, which outlives the call.
    let done = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    match check(|| "ioctl(SECCOMP_IOCTL_NOTIF_SEND)".into(), done.into()) {
        Err(error) if error.errno == Errno::ENOENT => Ok(()),
        done => done.map(drop),
    }
}

fn owned(fd: c_long) -> Result<OwnedFd, SysError> {
    let fd = c_int::try_from(fd).map_err(|_| SysError::new("seccomp", Errno::EBADF))?;
    // SAFETY: only called with a new descriptor just returned by seccomp(2), which is close-on-exec and has
    // no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_filter_is_an_error_that_reads_as_the_call() {
        let error = install(&[], 0).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "seccomp(SET_MODE_FILTER, 0 instructions, flags 0x0): Invalid argument"
            )
        );
    }
}
