//! Changes the root to the root filesystem.

use super::kernel::Kernel;
use crate::plan::rootfs::{Jail, Rootfs};
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::Errno;
use sys::mount::mount;
use sys::mountinfo::mounts;

/// Enters the root permanently.
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

/// pivot_root(2), Notes: the old root ends up on top of the new one, where "." refers to it, so no directory
/// is needed for it. It is a slave: unmounting it does not propagate to the host.
fn pivot() -> Result<()> {
    pivot_root(".", ".").map_err(explained)?;
    umount2(".", MntFlags::MNT_DETACH).context("unmount the host's root")
}

/// Explains an errno of the kernel. brig has ensured that the new root is a mount, and not a shared one.
fn explained(errno: Errno) -> anyhow::Error {
    let error = anyhow::Error::from(errno).context("pivot_root");
    match errno {
        Errno::EINVAL => error.context(
            "pivot_root(2) is not possible from the host's root, e.g. an initramfs: use --no-pivot",
        ),
        _ => error,
    }
}

/// chroot(2) leaves the host's mounts in the namespace. The kernel lets a container mount a new, unmasked
/// proc or sysfs as long as the namespace contains one: so they are unmounted.
fn hide_proc_and_sys(rootfs: &Path) -> Result<()> {
    let mountinfo = std::fs::read("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
    for host in mounts(&mountinfo) {
        let full = host.root() == Path::new("/");
        if !full || !["proc", "sysfs"].iter().any(|name| host.is_type(name)) {
            continue;
        }
        let path = host.point();
        if path.starts_with(rootfs) {
            continue;
        }
        let path = CString::new(path.as_os_str().as_bytes())?;
        match umount2(path.as_c_str(), MntFlags::MNT_DETACH) {
            // It was below a mount that has been unmounted.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EINVAL | Errno::EPERM) => {
                mount(None, &path, Some(c"tmpfs"), 0, None).context("hide the host's")?;
            }
            Err(errno) => return Err(errno).with_context(|| format!("unmount {path:?}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_cannot_be_left_names_the_option() {
        let text = |errno| sys::describe(&explained(errno));
        assert!(text(Errno::EINVAL).contains("--no-pivot"), "{}", text(Errno::EINVAL));
        assert!(
            text(Errno::EINVAL).contains("pivot_root: Invalid argument"),
            "{}",
            text(Errno::EINVAL)
        );
        assert_eq!(text(Errno::EPERM), "pivot_root: Operation not permitted");
    }
}
