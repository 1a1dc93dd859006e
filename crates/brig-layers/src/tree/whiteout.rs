//! What hides things of the layers below, in overlayfs's form: a character device 0:0 hides what has
//! its name, a directory that is opaque everything that would be in it.

use anyhow::{Context, Result};
use nix::sys::stat::{FileStat, Mode, SFlag, mknodat};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use sys::{Errno, xattr};

/// Names in an archive that begin with this are whiteouts.
pub const PREFIX: &[u8] = b".wh.";
/// The directory that has an entry of this name is opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs keeps for itself; the name above is one of these.
pub(crate) const AUFS: &[u8] = b".wh..wh.";

/// Seen by an overlay that is mounted with `userxattr`.
const USER: &CStr = c"user.overlay.opaque";
/// Seen by others.
const TRUSTED: &CStr = c"trusted.overlay.opaque";

/// Whether this is one.
pub(crate) fn is_whiteout(stat: &FileStat) -> bool {
    let kind = sys::file::kind(stat.st_mode);
    kind == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Makes a whiteout. Whoever may write the directory may do so since Linux 5.8.
pub fn make(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0)
}

/// What it means that none can be made here.
pub(crate) fn why_not(dir: BorrowedFd<'_>) -> &'static str {
    match is_overlay(dir) {
        true => {
            "the store is on overlayfs, which does not support whiteouts: use another filesystem (--store DIR)"
        }
        false => "mknod of a whiteout (without root privileges this needs Linux 5.8)",
    }
}

/// Whether this is on overlayfs, as everything is in a container of most engines.
pub fn is_overlay(dir: BorrowedFd<'_>) -> bool {
    fstatfs(dir).is_ok_and(|found| found.filesystem_type() == OVERLAYFS_SUPER_MAGIC)
}

/// Removes one.
pub fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).context("unlink")
}

/// Makes a directory opaque, for overlays mounted in both ways, as far as brig has the right to.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let path = path_in(dir, name);
    xattr::set_here(&path, USER, b"y").with_context(|| no_attributes(dir, "user"))?;
    match xattr::set_here(&path, TRUSTED, b"y") {
        Err(error) if error.errno == Errno::EPERM => Ok(()),
        done => Ok(done.with_context(|| no_attributes(dir, "trusted"))?),
    }
}

fn no_attributes(dir: BorrowedFd<'_>, space: &str) -> String {
    // Before Linux 6.7 overlayfs keeps those of overlays to itself.
    let hint = if is_overlay(dir) { ": use another filesystem (--store DIR)" } else { "" };
    let kind = if is_overlay(dir) { ", overlayfs," } else { "" };
    format!(
        "the store's filesystem{kind} does not support {space}.* attributes, which overlayfs needs for whiteouts{hint}"
    )
}

/// Whether a directory is opaque: every one that brig makes so has the first attribute; the kernel makes
/// one of them so, as the overlay is mounted.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let path = path_in(dir, name);
    Ok(xattr::is_marked(&path, USER)? || xattr::is_marked(&path, TRUSTED)?)
}

/// A path for calls that take no directory's descriptor; only its last name is looked up.
pub(crate) fn path_in(dir: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(OsStr::from_bytes(name))
}
