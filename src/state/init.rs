//! Identifies a container's init: a pid alone may have been reused.

use super::State;
use crate::process::proc::Proc;
use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::statfs::fstatfs;
use procfs::FromRead;
use procfs::process::Stat;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use sys::{Errno, signal};

/// The start time of a process in clock ticks after boot, or an error if /proc does not show it.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let read = || Ok(read_stat(File::open(&path)?)?.starttime);
    read().map_err(|error: anyhow::Error| error.context(path))
}

/// The stat file of this process, which no mount option hides from itself. `proc`: the host's, because this
/// process may be in another mount namespace already.
pub fn own_stat(proc: Option<&Proc>) -> Result<Stat> {
    let file = match proc {
        Some(proc) => proc.file("self/stat", OFlag::O_RDONLY)?,
        None => File::open("/proc/self/stat").context("/proc/self/stat")?,
    };
    read_stat(file).context("/proc/self/stat")
}

pub(super) fn read_stat(mut file: File) -> Result<Stat> {
    // A single read returns the whole file.
    let mut text = [0; 1024];
    let length = file.read(&mut text)?;
    Ok(Stat::from_read(&text[..length])?)
}

/// A number that the kernel gives to no other process until the next boot, if it supports that (pidfs, Linux
/// 6.9; before, all pidfds have the same inode).
pub fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    // linux/magic.h, PID_FS_MAGIC.
    const PIDFS: u64 = 0x5049_4446;
    let kind = fstatfs(pidfd).context("fstatfs(pidfd)")?.filesystem_type().0;
    match u64::try_from(kind) {
        Ok(PIDFS) => Ok(Some(fstat(pidfd).context("fstat(pidfd)")?.st_ino)),
        _ => Ok(None),
    }
}

/// The kernel's id of the current boot, if available.
pub fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        // A single read returns the whole file.
        let mut text = [0; 64];
        let mut file = File::open("/proc/sys/kernel/random/boot_id").ok()?;
        let length = file.read(&mut text).ok()?;
        Some(str::from_utf8(&text[..length]).ok()?.trim_ascii_end().to_owned())
    };
    BOOT.get_or_init(read).as_deref()
}

/// The identity of a container's init in its record.
#[derive(Debug, Clone, Copy)]
pub struct Init<'a> {
    /// These fields are those of [`State`].
    pub pid: i32,
    pub start_time: u64,
    pub pidfs_inode: Option<u64>,
    pub boot: Option<&'a str>,
}

impl State {
    /// The identity of its init.
    pub(super) fn init(&self) -> Init<'_> {
        let State { pid, start_time, pidfs_inode, .. } = *self;
        Init { pid, start_time, pidfs_inode, boot: self.boot.as_deref() }
    }
}

/// A pidfd of the container's init, if it is alive.
pub fn open_init(state: &State) -> Result<Option<OwnedFd>> {
    state.init().open()
}

impl Init<'_> {
    /// A pidfd, if the process is alive: opened first and checked afterwards, so it never refers to another
    /// process.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        if self.pid == 0 {
            return Ok(None);
        }
        match signal::pidfd_open(self.pid) {
            Ok(pidfd) => Ok(self.is(pidfd.as_fd())?.then_some(pidfd)),
            // ENOENT, before Linux 6.16 EINVAL: the pid was reused for a thread.
            Err(error) if [Errno::ESRCH, Errno::EINVAL, Errno::ENOENT].contains(&error.errno) => {
                Ok(None)
            }
            Err(error) => Err(anyhow!(error)),
        }
    }

    fn is(&self, pidfd: BorrowedFd<'_>) -> Result<bool> {
        // Recorded in this boot, in which no other process gets that inode. A zombie keeps it.
        if let Some(inode) = self.pidfs_inode
            && self.boot.is_some()
            && self.boot == boot()
        {
            let same = fstat(pidfd).context("fstat(pidfd)")?.st_ino == inode;
            return Ok(same && !signal::has_ended(pidfd)?);
        }
        self.is_by_start_time(pidfd)
    }

    /// /proc may hide the process (hidepid). Then only the inode can identify it; without pidfs such a
    /// process counts as not existing.
    fn is_by_start_time(&self, pidfd: BorrowedFd<'_>) -> Result<bool> {
        let known = self.pidfs_inode;
        if known.is_some() && pidfs_inode(pidfd)? != known {
            return Ok(false);
        }
        let path = format!("/proc/{}/stat", self.pid);
        match File::open(path).map_err(anyhow::Error::from).and_then(read_stat) {
            Ok(stat) => Ok(stat.starttime == self.start_time && !['Z', 'X'].contains(&stat.state)),
            Err(error) if hidden(&error) => Ok(known.is_some() && !signal::has_ended(pidfd)?),
            Err(error) => Err(error.context("check the container's process")),
        }
    }
}

/// Whether the process with init's pid is init, alive or a zombie.
pub(super) fn is_same(state: &State) -> bool {
    let stat = File::open(format!("/proc/{}/stat", state.pid)).map_err(anyhow::Error::from);
    stat.and_then(read_stat).is_ok_and(|stat| stat.starttime == state.start_time)
}

/// Whether the process is hidden from brig, or exited between open and read.
fn hidden(error: &anyhow::Error) -> bool {
    let hidden = [Errno::ENOENT, Errno::EPERM, Errno::EACCES, Errno::ESRCH].map(Some);
    hidden.contains(&sys::errno_of(error))
}
