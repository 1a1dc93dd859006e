//! The container's stdin, stdout and stderr.

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use std::os::fd::{AsFd, BorrowedFd};

/// Makes the container's user the owner of descriptors 0 to 2, so that it can reopen them through
/// /proc/self/fd, as runc does. Devices and terminals have other owners and are left alone.
pub fn give_to(uid: u32) -> Result<()> {
    sys::fd::STANDARD_FDS.into_iter().try_for_each(|fd| give(fd, uid))
}

fn give(fd: BorrowedFd<'_>, uid: u32) -> Result<()> {
    use sys::Errno;
    let stat = fstat(fd).context("fstat of a standard descriptor")?;
    let kind = sys::file::kind(stat.st_mode);
    if stat.st_uid == uid || kind == SFlag::S_IFCHR || kind == SFlag::S_IFBLK {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        // Not mapped, not ours, or on a read-only file system: leave it as it is.
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        Err(errno) => Err(errno).context("fchown of a standard descriptor"),
    }
}

/// Marks every descriptor of the caller close-on-exec, so that programs executed by brig, hooks above all, do
/// not inherit them until [`Program::execute`](crate::launch::execute::Program::execute). The first
/// `listening` of them and `preserved` more must be open. Descriptors opened by brig itself are close-on-exec
/// already.
pub fn set_cloexec_from(listening: u32, preserved: u32) -> Result<()> {
    let inherited = sys::fd::is_inherited;
    let first = 3 + listening;
    for fd in 3..first {
        ensure!(inherited(fd), "LISTEN_FDS={listening}: descriptor {fd} is not open");
    }
    for fd in first..first.saturating_add(preserved) {
        ensure!(inherited(fd), "--preserve-fds {preserved}: descriptor {fd} is not open");
    }
    Ok(sys::clone::close_from_at_exec(3)?)
}

/// Replaces standard descriptors that are the null device with the container's own, open for reading and
/// writing, as runc does: engines pass a /dev/null that is open for reading only, and on another mount. For
/// the init of a container with its own /dev, after the pivot.
pub fn reopen_dev_null() -> Result<()> {
    for (number, fd) in sys::fd::STANDARD_FDS.into_iter().enumerate() {
        if !is_null(fd)? {
            continue;
        }
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        // The device rules may forbid it: then the original is kept.
        let Ok(own) = nix::fcntl::open("/dev/null", flags, Mode::empty()) else { continue };
        if !is_null(own.as_fd())? {
            continue;
        }
        let duplicate = match number {
            0 => dup2_stdin(own),
            1 => dup2_stdout(own),
            _ => dup2_stderr(own),
        };
        duplicate.context("dup2 of the container's /dev/null")?;
    }
    Ok(())
}

fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(fd).context("fstat of a standard descriptor")?;
    let kind = sys::file::kind(stat.st_mode);
    Ok(kind == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3))
}
