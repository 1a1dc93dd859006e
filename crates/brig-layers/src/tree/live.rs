//! Entries of a directory that a running container can remove or replace at any time.

use anyhow::Result;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use std::os::fd::BorrowedFd;
use sys::{Errno, errno_of};

/// How often to look at an entry that is being replaced again and again.
const TRIES: usize = 1000;

/// Does something with an entry, again if it was replaced meanwhile; None if it was removed. `act` is repeated if it
/// fails with an errno of [`is_another`], and must not have done anything then.
///
/// # Errors
///
/// That of `act`.
pub(crate) fn settled<T>(
    dir: BorrowedFd<'_>,
    name: &[u8],
    mut act: impl FnMut() -> Result<T>,
) -> Result<Option<T>> {
    let mut tries = TRIES;
    loop {
        match act() {
            Err(error) if tries > 0 && errno_of(&error).is_some_and(is_another) => {}
            done => return done.map(Some),
        }
        if is_gone(dir, name) {
            return Ok(None);
        }
        tries -= 1;
    }
}

/// The errno of a call for a file that has another type by now, or none; ESTALE is brig's own for another inode.
fn is_another(errno: Errno) -> bool {
    use Errno::{EINVAL, ELOOP, ENOENT, ENOTDIR, ENXIO, ESTALE};
    [EINVAL, ELOOP, ENOENT, ENOTDIR, ENXIO, ESTALE].contains(&errno)
}

fn is_gone(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT)
}

/// Ok(None) for a directory that has gone, or another file has replaced.
///
/// # Errors
///
/// Every other error.
pub(crate) fn unless_gone<T>(opened: Result<T>) -> Result<Option<T>> {
    match opened {
        Err(error) if errno_of(&error).is_some_and(is_another) => Ok(None),
        opened => opened.map(Some),
    }
}
