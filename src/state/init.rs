//! Which process is a container's init: a pid alone may be somebody else's by now.

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

/// When a process started, in clock ticks after boot, or an error if /proc does not show it.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let read = || Ok(read_stat(File::open(&path)?)?.starttime);
    read().map_err(|error: anyhow::Error| error.context(path))
}

/// The same for this process, and more. No mount option hides it from itself. `proc`: the host's, where
/// this process may already be in another mount namespace.
pub fn own_stat(proc: Option<&Proc>) -> Result<Stat> {
    let file = match proc {
        Some(proc) => proc.file("self/stat", OFlag::O_RDONLY)?,
        None => File::open("/proc/self/stat").context("/proc/self/stat")?,
    };
    read_stat(file).context("/proc/self/stat")
}

pub(super) fn read_stat(mut file: File) -> Result<Stat> {
    // One read gives all of it.
    let mut text = [0; 1024];
    let length = file.read(&mut text)?;
    Ok(Stat::from_read(&text[..length])?)
}

/// The number that the kernel gives no other process until the next boot, where it has one (pidfs,
/// Linux 6.9; before, all pidfds have the same inode).
pub fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Result<Option<u64>> {
    // linux/magic.h, PID_FS_MAGIC.
    const PIDFS: u64 = 0x5049_4446;
    let kind = fstatfs(pidfd).context("fstatfs(pidfd)")?.filesystem_type().0;
    match u64::try_from(kind) {
        Ok(PIDFS) => Ok(Some(fstat(pidfd).context("fstat(pidfd)")?.st_ino)),
        _ => Ok(None),
    }
}

/// What the kernel calls the time since the machine was booted, where it tells.
pub fn boot() -> Option<&'static str> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let read = || std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    BOOT.get_or_init(read).as_deref().map(str::trim_ascii_end)
}

/// Which process is a container's init, as its record has it.
#[derive(Debug, Clone, Copy)]
pub struct Init<'a> {
    /// Of [`State`], as are the others.
    pub pid: i32,
    pub start_time: u64,
    pub pidfs_inode: Option<u64>,
    pub boot: Option<&'a str>,
}

impl State {
    /// Which process its init is.
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
    /// A pidfd, if the process is alive: opened first and checked after, so that it is never somebody else's.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        if self.pid == 0 {
            return Ok(None);
        }
        match signal::pidfd_open(self.pid) {
            Ok(pidfd) => Ok(self.is(pidfd.as_fd())?.then_some(pidfd)),
            // ENOENT, before Linux 6.16 EINVAL: the number is a thread's by now.
            Err(error) if [Errno::ESRCH, Errno::EINVAL, Errno::ENOENT].contains(&error.errno) => {
                Ok(None)
            }
            Err(error) => Err(anyhow!(error)),
        }
    }

    fn is(&self, pidfd: BorrowedFd<'_>) -> Result<bool> {
        // Of this boot, in which no other process gets that inode. A zombie keeps it.
        if let Some(inode) = self.pidfs_inode
            && self.boot.is_some()
            && self.boot == boot()
        {
            let same = fstat(pidfd).context("fstat(pidfd)")?.st_ino == inode;
            return Ok(same && !signal::has_ended(pidfd)?);
        }
        self.is_by_start_time(pidfd)
    }

    /// /proc may hide the process (hidepid). Then only the inode tells; without pidfs such a process counts
    /// as gone.
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

/// The process that has init's pid is init, alive or a zombie.
pub(super) fn is_same(state: &State) -> bool {
    let stat = File::open(format!("/proc/{}/stat", state.pid)).map_err(anyhow::Error::from);
    stat.and_then(read_stat).is_ok_and(|stat| stat.starttime == state.start_time)
}

/// Not there as far as brig may see, or gone between open and read.
fn hidden(error: &anyhow::Error) -> bool {
    let hidden = [Errno::ENOENT, Errno::EPERM, Errno::EACCES, Errno::ESRCH].map(Some);
    hidden.contains(&sys::errno_of(error))
}
