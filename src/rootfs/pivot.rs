//! The root filesystem becomes the root.

use super::kernel::Kernel;
use crate::plan::rootfs::{Jail, Rootfs};
use crate::sys::Errno;
use crate::sys::mount::mount;
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Enters the root for good.
pub fn enter(kernel: &Kernel, root: BorrowedFd<'_>, plan: &Rootfs) -> Result<()> {
    let enter = || fchdir(root).context("fchdir(root)");
    enter()?;
    match plan.jail {
        Jail::Pivot => pivot()?,
        Jail::Move => {
            hide_proc_and_sys(&plan.path)?;
            let over =
                open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context("open /")?;
            kernel.relocate(root, over.as_fd()).context("move the root over the host's")?;
            enter()?;
            chroot(".").context("chroot")?;
        }
        Jail::Chroot | Jail::Detached => chroot(".").context("chroot")?,
    }
    chdir("/").context("chdir(/)")
}

/// pivot_root(2), Notes: the old root ends up on top of the new one, where "." finds it, and there
/// is no need for a directory to put it in. It is a slave: taking it away does not reach the host.
fn pivot() -> Result<()> {
    pivot_root(".", ".").context("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).context("unmount the host's root")
}

/// chroot(2) leaves the host's mounts in the namespace. The kernel lets a container mount a proc or
/// sysfs of its own, without anything masked, as long as the namespace has one such: so they go.
fn hide_proc_and_sys(rootfs: &Path) -> Result<()> {
    let mountinfo = std::fs::read("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    for line in mountinfo.split(|&byte| byte == b'\n') {
        let Some(path) = full_proc_or_sysfs(line) else { continue };
        if Path::new(OsStr::from_bytes(&path)).starts_with(rootfs) {
            continue;
        }
        let path = CString::new(path)?;
        match umount2(path.as_c_str(), MntFlags::MNT_DETACH) {
            // It was below another, which is gone.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EINVAL | Errno::EPERM) => {
                mount(None, &path, Some(c"tmpfs"), 0, None).context("hide the host's")?;
            }
            Err(errno) => return Err(errno).with_context(|| format!("unmount {path:?}")),
        }
    }
    Ok(())
}

/// The mount point in a line of mountinfo (proc_pid_mountinfo(5)) about the root of a proc or sysfs.
fn full_proc_or_sysfs(line: &[u8]) -> Option<Vec<u8>> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, path) = (fields.nth(3)?, fields.next()?);
    let fstype = fields.skip_while(|field| field != b"-").nth(1)?;
    let full = root == b"/" && (fstype == b"proc" || fstype == b"sysfs");
    full.then(|| unescape(path))
}

/// `\040` is a space.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(octal) => {
                out.push(octal);
                rest = &after[3..];
            }
            None => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_proc_and_sysfs_mounts_are_hidden() {
        let of = |line: &str| full_proc_or_sysfs(line.as_bytes());
        let proc = "22 27 0:21 / /a\\040b\\134 rw,relatime shared:5 - proc proc rw";
        assert_eq!(of(proc), Some(b"a b\\".to_vec()).map(|path| [b"/".to_vec(), path].concat()));
        assert_eq!(of("22 27 0:21 /sys /proc/sys ro - proc proc rw"), None);
        assert_eq!(of("22 27 0:21 / /tmp rw - tmpfs proc rw"), None);
        assert_eq!(of(""), None);
    }
}
