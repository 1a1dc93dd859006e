//! How a container's init has ended: known while it is a zombie, and after brig itself has waited for it.

use super::State;
use super::init::{is_same, pidfs_inode, read_stat};
use anyhow::{Result, anyhow};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use sys::{Errno, signal};

/// How an init has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or 128 + the signal; None if it cannot be determined.
    pub exit_status: Option<i32>,
    /// The signal that killed it, if any.
    pub signal: Option<i32>,
    /// exited, signaled, oom-killed, seccomp-killed or unknown.
    pub reason: &'static str,
}

impl Ended {
    /// Interprets `status`, a wait(2) status.
    pub fn new(state: &State, status: Option<i32>) -> Ended {
        let signal = status.map(|status| status & 0x7f).filter(|signal| *signal != 0);
        let exit_status =
            status.map(|status| signal.map_or(status >> 8 & 0xff, |signal| 128 + signal));
        let reason = match (exit_status, signal) {
            (None, _) => "unknown",
            (Some(_), Some(libc::SIGKILL)) if state.cgroup.oom_killed() => "oom-killed",
            (Some(_), Some(libc::SIGSYS)) => "seccomp-killed",
            (Some(_), Some(_)) => "signaled",
            (Some(_), None) => "exited",
        };
        Ended { exit_status, signal, reason }
    }
}

/// The wait(2) status of an init that has ended, as far as it is known without waiting for it.
pub fn known(state: &State) -> Option<i32> {
    state.ended.or_else(|| of_zombie(state))
}

/// A pidfd of an init that is a zombie.
///
/// # Errors
///
/// If pidfd_open(2) fails for another reason than a missing process.
pub fn open_zombie(state: &State) -> Result<Option<OwnedFd>> {
    match signal::pidfd_open(state.pid) {
        Ok(pidfd) => {
            let own =
                state.pidfs_inode.is_none() || pidfs_inode(pidfd.as_fd())? == state.pidfs_inode;
            Ok((own && is_same(state)).then_some(pidfd))
        }
        Err(error) if [Errno::ESRCH, Errno::EINVAL, Errno::ENOENT].contains(&error.errno) => {
            Ok(None)
        }
        Err(error) => Err(anyhow!(error)),
    }
}

/// The wait(2) status of a zombie: the last field of proc_pid_stat(5). The kernel shows 0 without ptrace
/// access to the process, so that is checked first: reading its namespaces needs the same access.
pub fn of_zombie(state: &State) -> Option<i32> {
    std::fs::read_link(format!("/proc/{}/ns/user", state.pid)).ok()?;
    let stat = read_stat(File::open(format!("/proc/{}/stat", state.pid)).ok()?).ok()?;
    let zombie = stat.starttime == state.start_time && stat.state == 'Z';
    stat.exit_code.filter(|_| zombie)
}
