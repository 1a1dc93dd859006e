//! /dev: the devices and links that every container has.

use super::Root;
use crate::sys::Errno;
use crate::sys::path::make_dir_in;
use anyhow::{Context, Result, ensure};
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mknodat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

/// config-linux.md, Default Devices.
const DEFAULT: [(&CStr, u64, u64); 6] = [
    (c"null", 1, 3),
    (c"zero", 1, 5),
    (c"full", 1, 7),
    (c"random", 1, 8),
    (c"urandom", 1, 9),
    (c"tty", 5, 0),
];

/// Not to thread-self: programs compare them.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

/// Makes them. By a descriptor of the directory: an image's /dev can be a link to anywhere
/// (CVE-2026-41579).
pub fn make_default(root: &mut Root, kcore: bool) -> Result<()> {
    let dev = make_dir_in(root.fd.as_fd(), c"/dev")?;
    let dev = dev.as_fd();
    for (name, major, minor) in DEFAULT {
        make_one(dev, name, SFlag::S_IFCHR, makedev(major, minor), 0o666)
            .with_context(|| format!("/dev/{}", name.to_string_lossy()))?;
    }
    let core = kcore.then_some((c"core", c"/proc/kcore"));
    for (name, target) in LINKS.into_iter().chain(core) {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(errno).context(format!("symlink /dev/{}", name.to_string_lossy()));
            }
        }
    }
    // The image's may be the host's multiplexer: only the container's own will do.
    match unlinkat(dev, c"ptmx", UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno).context("replace /dev/ptmx"),
    }
    symlinkat(c"pts/ptmx", dev, c"ptmx").context("symlink /dev/ptmx")
}

/// Makes a device node, or finds that it exists already.
fn make_one(dir: BorrowedFd<'_>, name: &CStr, kind: SFlag, device: u64, mode: u32) -> Result<()> {
    match mknodat(dir, name, kind, Mode::from_bits_truncate(mode), device) {
        Err(Errno::EEXIST) => {}
        made => return made.context("mknod"),
    }
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).context("fstatat")?;
    let same = stat.st_mode & SFlag::S_IFMT.bits() == kind.bits() && stat.st_rdev == device;
    ensure!(same, "exists and is another kind of file");
    Ok(())
}
