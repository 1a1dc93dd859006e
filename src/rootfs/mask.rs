//! Masked and read-only paths. The root is already the container's, so absolute paths are those of the
//! container; each is looked up once (GHSA-3q8j-pf29-vwv8).

use super::kernel::{Kernel, NewFilesystem, Shown, option};
use crate::plan::lsm::MountLabel;
use crate::spec::Place;
use anyhow::{Context, Result, ensure};
use libc::MOUNT_ATTR_RDONLY;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::mount::{Attr, identity};
use sys::path::{Links, open_in};
use sys::{Errno, SysError, errno_of};

/// Makes each path read-only, but not the mounts below it.
pub fn make_readonly(kernel: &Kernel, paths: &[CString]) -> Result<()> {
    let read_only = Attr { set: MOUNT_ATTR_RDONLY, ..Attr::default() };
    each(paths, "linux.readonlyPaths", |_, target| {
        let fd = target.fd.as_fd();
        if target.is_root {
            return kernel.set(fd, false, read_only);
        }
        kernel.bind_with(&Shown::Fd(fd), fd, true, |made| kernel.set(made, false, read_only))
    })
}

/// Masks each path: a file with /dev/null, a directory with an empty read-only one.
pub fn mask(kernel: &Kernel, paths: &[CString], label: Option<&MountLabel>) -> Result<()> {
    let mut masks = Masks { label, null: None, empty: None };
    each(paths, "linux.maskedPaths", |root, target| {
        ensure!(!target.is_root, "is the container's root, which cannot be masked");
        match sys::file::kind(target.stat.st_mode) {
            SFlag::S_IFDIR => masks.hide_directory(kernel, target),
            _ => masks.hide_file(kernel, root, target),
        }
    })
}

/// The mounts for masked paths: opened when first needed.
struct Masks<'a> {
    label: Option<&'a MountLabel>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Masks<'_> {
    fn hide_file(&mut self, kernel: &Kernel, root: BorrowedFd<'_>, target: &Target) -> Result<()> {
        let null = match self.null.take() {
            Some(null) => null,
            None => dev_null(root).context("open the container's /dev/null to mask it")?,
        };
        let null = &*self.null.insert(null);
        if is_same(null.as_fd(), target)? {
            return Ok(());
        }
        kernel.bind(&Shown::Fd(null.as_fd()), target.fd.as_fd(), false)
    }

    /// One mount for all directories: there are many if each CPU has some (runc issue 5280).
    fn hide_directory(&mut self, kernel: &Kernel, target: &Target) -> Result<()> {
        let fd = target.fd.as_fd();
        if let Some(empty) = &self.empty {
            if is_same(empty.as_fd(), target)? {
                return Ok(());
            }
            return kernel.bind(&Shown::Fd(empty.as_fd()), fd, false);
        }
        // One inode is for the directory itself; some kernels refuse a limit of 1.
        let options = [option("nr_blocks=1")?, option("nr_inodes=2")?];
        let options: Vec<_> =
            options.into_iter().chain(self.label.map(MountLabel::option)).collect();
        let new = NewFilesystem {
            fstype: c"tmpfs",
            source: c"tmpfs",
            options: &options,
            attr: MOUNT_ATTR_RDONLY,
        };
        self.empty = Some(kernel.mount(&new, fd)?);
        Ok(())
    }
}

/// Whether a path is masked already, because it is given twice or leads to a masked one.
fn is_same(mask: BorrowedFd<'_>, target: &Target) -> Result<bool> {
    Ok(inode(&fstat(mask).context("fstat")?) == inode(&target.stat))
}

fn inode(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Opens /dev/null and checks it. CVE-2025-31133: an image's own /dev/null would expose data instead of
/// masking it.
fn dev_null(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let null = open(root, c"/dev/null")?;
    let stat = fstat(&null).context("fstat")?;
    let device = (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
    let real = device && sys::file::kind(stat.st_mode) == SFlag::S_IFCHR;
    ensure!(real, "is not the null device");
    Ok(null)
}

/// What a path leads to.
struct Target {
    fd: OwnedFd,
    stat: FileStat,
    /// A mount over the root would not be visible in it. An image can have a link to it.
    is_root: bool,
}

impl Target {
    fn open(root: BorrowedFd<'_>, of_root: &FileStat, path: &CStr) -> Result<Target> {
        let fd = open(root, path)?;
        let stat = fstat(&fd).context("fstat")?;
        // The same directory can be mounted elsewhere, too.
        let is_root = inode(&stat) == inode(of_root)
            && (path == c"/" || identity(fd.as_fd())? == identity(root)?);
        Ok(Target { fd, stat, is_root })
    }
}

/// Applies an operation to each existing path: a missing one needs no protection.
fn each(
    paths: &[CString],
    place: &str,
    mut act: impl FnMut(BorrowedFd<'_>, &Target) -> Result<()>,
) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, Mode::empty()).context("open the root")?;
    let of_root = fstat(&root).context("fstat")?;
    let mut seen = BTreeSet::new();
    for (index, path) in paths.iter().enumerate() {
        if !seen.insert(path) {
            continue;
        }
        let done = match Target::open(root.as_fd(), &of_root, path) {
            Err(error) if matches!(errno_of(&error), Some(Errno::ENOENT | Errno::ENOTDIR)) => {
                Ok(())
            }
            Err(error) => Err(error),
            Ok(target) => act(root.as_fd(), &target),
        };
        done.with_context(|| path.to_string_lossy().into_owned())
            .at(format_args!("{place}[{index}]"))?;
    }
    Ok(())
}

fn open(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, SysError> {
    open_in(root, path, OFlag::O_PATH, Links::Follow)
}
