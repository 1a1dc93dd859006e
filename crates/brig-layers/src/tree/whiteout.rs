//! Whiteouts in overlayfs's format: a character device 0:0 hides the entry of the same name below, an opaque
//! directory hides everything below it.

use anyhow::{Context, Result};
use nix::sys::stat::{FileStat, Mode, SFlag, mknodat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use sys::{Errno, xattr};

/// The prefix of whiteouts in an archive.
pub const PREFIX: &[u8] = b".wh.";
/// A directory that contains this name is opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix reserved for aufs, which includes the name above.
pub(crate) const AUFS: &[u8] = b".wh..wh.";

/// For overlays mounted with `userxattr`.
const USER: &CStr = c"user.overlay.opaque";
/// For all others.
const TRUSTED: &CStr = c"trusted.overlay.opaque";

/// Whether a file is a whiteout.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    let kind = sys::file::kind(stat.st_mode);
    kind == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Creates a whiteout. Since Linux 5.8, write permission for the directory is sufficient.
///
/// # Errors
///
/// The errno of mknodat(2).
pub fn make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0)
}

/// Explains why no whiteout can be created here.
pub(crate) fn why_not(dir: BorrowedFd<'_>) -> &'static str {
    match is_overlay(dir) {
        true => {
            "the store is on overlayfs, which does not support whiteouts: use another filesystem (--store DIR)"
        }
        false => "mknod of a whiteout (without root privileges this needs Linux 5.8)",
    }
}

/// Whether this is on overlayfs, e.g. in a container of most engines.
pub fn is_overlay(dir: BorrowedFd<'_>) -> bool {
    fstatfs(dir).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}

/// Removes a whiteout.
///
/// # Errors
///
/// The errno of unlinkat(2).
pub fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).context("unlink")
}

/// Makes a directory opaque for both kinds of overlays, as far as brig is permitted to.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let path = path_in(dir, name);
    xattr::set_here(&path, USER, b"y").with_context(|| no_attributes(dir, "user"))?;
    match xattr::set_here(&path, TRUSTED, b"y") {
        Err(error) if error.errno == Errno::EPERM => Ok(()),
        done => Ok(done.with_context(|| no_attributes(dir, "trusted"))?),
    }
}

fn no_attributes(dir: BorrowedFd<'_>, space: &str) -> String {
    // Before Linux 6.7, overlayfs does not pass on overlay attributes of nested overlays.
    let hint = if is_overlay(dir) { ": use another filesystem (--store DIR)" } else { "" };
    let kind = if is_overlay(dir) { ", overlayfs," } else { "" };
    format!(
        "the store's filesystem{kind} does not support {space}.* attributes, which overlayfs needs for whiteouts{hint}"
    )
}

/// Whether a directory is opaque. All that brig makes opaque have the first attribute; the kernel sets one of
/// them, depending on how the overlay is mounted.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let path = path_in(dir, name);
    Ok(xattr::is_marked(&path, USER)? || xattr::is_marked(&path, TRUSTED)?)
}

/// A path for calls that do not take a directory descriptor; only the last component is looked up.
pub(crate) fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(OsStr::from_bytes(name))
}
