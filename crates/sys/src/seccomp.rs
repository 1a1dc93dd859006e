//! seccomp(2), as far as a filter goes.

use super::{Errno, SysError, check};
use seccompiler::sock_filter;
use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// All threads of the process get the filter.
pub const TSYNC: u32 = 1 << 0;
/// Everything that is not allowed is logged.
pub const LOG: u32 = 1 << 1;
/// Without mitigation of speculative store bypass.
pub const SPEC_ALLOW: u32 = 1 << 2;
/// There is a listener for what the filter notifies of.
pub const NEW_LISTENER: u32 = 1 << 3;
/// What the agent has received can only be interrupted by a signal that kills.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// A thread that cannot get the filter is an error, not the result, which can be a listener.
const TSYNC_ESRCH: u32 = 1 << 4;

/// Puts a filter on the calling thread, for good. Needs CAP_SYS_ADMIN in the user namespace, or
/// no_new_privs, which this never sets. The result is the listener, with [`NEW_LISTENER`].
pub fn install(program: &[sock_filter], flags: u32) -> Result<Option<OwnedFd>, SysError> {
    let call = || {
        let length = program.len();
        format!("seccomp(SET_MODE_FILTER, {length} instructions, flags {flags:#x})")
    };
    let length = program.len().try_into().map_err(|_| SysError::new(call(), Errno::E2BIG))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    let with_esrch = TSYNC | NEW_LISTENER;
    let extra = if flags & with_esrch == with_esrch { TSYNC_ESRCH } else { 0 };
    // SAFETY: `filter` and the program (of the length that is told) live until the call is over,
    // which copies them; seccompiler's `sock_filter` is laid out as the kernel's.
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
        // Of TSYNC: the thread that could not get it.
        return if result == 0 { Ok(None) } else { Err(SysError::new(call(), Errno::ESRCH)) };
    }
    owned(result).map(Some)
}

/// Has a command install a filter in its own process, as the last that this does before it executes
/// the program.
pub fn install_before_exec(command: &mut Command, program: Vec<sock_filter>, flags: u32) {
    let install = move || match install(&program, flags) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from(error.errno)),
    };
    // SAFETY: brig has one thread, so that in its copy no lock is held by a thread that is not there;
    // the closure owns what it uses.
    unsafe { command.pre_exec(install) };
}

fn owned(fd: c_long) -> Result<OwnedFd, SysError> {
    let fd = c_int::try_from(fd).map_err(|_| SysError::new("seccomp", Errno::EBADF))?;
    // SAFETY: only called with what seccomp(2) has just returned as a new descriptor, which is
    // close-on-exec and which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
