//! The container's stdin, stdout and stderr.

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Uid, fchown};
use std::os::fd::BorrowedFd;

/// Gives descriptors 0 to 2 to the container's user, so that it can reopen them through
/// /proc/self/fd, as runc does. Devices and terminals are somebody else's: they stay as they are.
pub fn give_to(uid: u32) -> Result<()> {
    crate::sys::misc::STANDARD_FDS.into_iter().try_for_each(|fd| give(fd, uid))
}

fn give(fd: BorrowedFd<'_>, uid: u32) -> Result<()> {
    use crate::sys::Errno;
    let stat = fstat(fd).context("fstat of a standard descriptor")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if stat.st_uid == uid || kind == SFlag::S_IFCHR || kind == SFlag::S_IFBLK {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        // Not mapped, not ours, or on a read-only file system: usable as it is, if at all.
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        Err(errno) => Err(errno).context("fchown of a standard descriptor"),
    }
}

/// Keeps every descriptor of the caller from what brig executes, hooks above all, until
/// [`Program::execute`](crate::launch::program::Program::execute). The first `listening` of them and
/// `preserved` more have to be open. What brig has opened itself is close-on-exec.
pub fn seclude(listening: u32, preserved: u32) -> Result<()> {
    let inherited = crate::sys::misc::is_inherited;
    let first = 3 + listening;
    for fd in 3..first {
        ensure!(inherited(fd), "LISTEN_FDS={listening}: descriptor {fd} is not open");
    }
    for fd in first..first.saturating_add(preserved) {
        ensure!(inherited(fd), "--preserve-fds {preserved}: descriptor {fd} is not open");
    }
    Ok(crate::sys::clone::close_from_at_exec(3)?)
}
