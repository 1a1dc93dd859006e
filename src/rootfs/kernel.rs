//! How to mount on this kernel: with descriptors, or before Linux 5.12 with names of descriptors.

use super::made::HostProc;
use crate::plan::mount_options::{Step, legacy};
use anyhow::{Context, Result};
use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MS_BIND, MS_MOVE, MS_REC, MS_RELATIME, MS_REMOUNT,
};
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FileStat, fstat, stat};
use nix::unistd::fchdir;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use sys::Errno;
use sys::mount::{self, Attr, Filesystem, clone_tree, move_mount, set_attr};

/// The mount API that the kernel supports.
pub enum Kernel {
    /// open_tree(2), move_mount(2), fsopen(2), mount_setattr(2).
    New,
    /// mount(2) only, which needs names: those of descriptors in the host's /proc/self/fd, which is held open
    /// and becomes the working directory.
    Old(Old),
}

/// The host's /proc, as far as it is needed.
pub struct Old {
    own: HostProc,
    descriptors: OwnedFd,
}

/// The source of a bind mount.
pub enum Shown<'a> {
    /// A path of the host.
    Path(&'a CStr),
    /// A file or directory.
    Fd(BorrowedFd<'a>),
}

/// A filesystem that brig chooses itself.
pub struct NewFilesystem<'a> {
    /// Its type.
    pub fstype: &'a CStr,
    /// An arbitrary string that is only shown in mountinfo.
    pub source: &'a CStr,
    /// Its options.
    pub options: &'a [(CString, Option<CString>)],
    /// Attributes of the mount: `MOUNT_ATTR_*` bits.
    pub attr: u64,
}

/// Splits e.g. `size=1k` into key and value.
pub fn option(text: &str) -> Result<(CString, Option<CString>)> {
    Ok(match text.split_once('=') {
        Some((key, value)) => (CString::new(key)?, Some(CString::new(value)?)),
        None => (CString::new(text)?, None),
    })
}

impl Kernel {
    /// Called while the host's /proc is accessible.
    pub fn new(modern: bool) -> Result<Self> {
        if modern {
            return Ok(Kernel::New);
        }
        let own = HostProc::open()?;
        let descriptors = own.descriptors()?;
        Ok(Kernel::Old(Old { own, descriptors }))
    }

    /// Sets the mount point of the container's root.
    pub fn set_root(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        match self {
            Kernel::New => Ok(()),
            Kernel::Old(old) => old.own.set_root(root),
        }
    }

    /// Bind mounts a file or directory on another one, and with `recursive` the mounts below it.
    pub fn bind(&self, from: &Shown<'_>, to: BorrowedFd<'_>, recursive: bool) -> Result<()> {
        let Kernel::Old(old) = self else {
            let tree = match from {
                Shown::Path(path) => clone_tree(AT_FDCWD, path, recursive)?,
                Shown::Fd(fd) => clone_tree(*fd, c"", recursive)?,
            };
            return Ok(move_mount(tree.as_fd(), to)?);
        };
        let from = match from {
            Shown::Path(path) => CString::from(*path),
            Shown::Fd(fd) => name(old, *fd)?,
        };
        let flags = if recursive { MS_BIND | MS_REC } else { MS_BIND };
        Ok(mount::mount(Some(&from), &name(old, to)?, None, flags, None)?)
    }

    /// Bind mounts a file or directory and changes its mount. The container never sees it unchanged: the
    /// mount is changed before it is attached, or else identified and changed afterwards; if neither is
    /// possible, the container does not start.
    pub fn bind_with(
        &self,
        from: &Shown<'_>,
        to: BorrowedFd<'_>,
        recursive: bool,
        change: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let Kernel::Old(old) = self else {
            let tree = match from {
                Shown::Path(path) => clone_tree(AT_FDCWD, path, recursive)?,
                Shown::Fd(fd) => clone_tree(*fd, c"", recursive)?,
            };
            change(tree.as_fd())?;
            return Ok(move_mount(tree.as_fd(), to)?);
        };
        let shown = match from {
            Shown::Path(path) => {
                stat(*path).with_context(|| path.to_string_lossy().into_owned())?
            }
            Shown::Fd(fd) => fstat(fd).context("fstat")?,
        };
        let before = old.own.before(to)?;
        self.bind(from, to, recursive)?;
        let same = |made: &FileStat| (made.st_dev, made.st_ino) == (shown.st_dev, shown.st_ino);
        change(before.made(same)?.as_fd())
    }

    /// Mounts a new filesystem and returns the mount.
    pub fn mount(&self, new: &NewFilesystem<'_>, to: BorrowedFd<'_>) -> Result<OwnedFd> {
        let Kernel::Old(old) = self else {
            let filesystem = Filesystem::open(new.fstype)?;
            filesystem.set(c"source", Some(new.source))?;
            for (key, value) in new.options {
                filesystem.set(key, value.as_deref())?;
            }
            let mount = filesystem.mount(new.attr)?;
            move_mount(mount.as_fd(), to)?;
            return Ok(mount);
        };
        let word = |(key, value): &(CString, Option<CString>)| match value {
            // A label, in quotes.
            Some(value) if value.as_bytes().contains(&b',') => {
                [key.as_bytes(), b"=\"", value.as_bytes(), b"\""].concat()
            }
            Some(value) => [key.as_bytes(), b"=", value.as_bytes()].concat(),
            None => key.as_bytes().to_vec(),
        };
        let data = new.options.iter().map(word).collect::<Vec<_>>().join(&b","[..]);
        let before = old.own.before(to)?;
        let (name, data) = (name(old, to)?, CString::new(data)?);
        mount::mount(Some(new.source), &name, Some(new.fstype), legacy(new.attr), Some(&data))?;
        before.made(|_| true)
    }

    /// Moves a mount.
    pub fn relocate(&self, mount: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
        let Kernel::Old(old) = self else { return Ok(move_mount(mount, to)?) };
        Ok(mount::mount(Some(&name(old, mount)?), &name(old, to)?, None, MS_MOVE, None)?)
    }

    /// Changes attributes and propagation of a mount.
    pub fn set(&self, mount: BorrowedFd<'_>, recursive: bool, attr: Attr) -> Result<()> {
        let Kernel::Old(old) = self else { return set_modern(mount, recursive, attr) };
        if attr.set | attr.clear != 0 {
            let below = if recursive { old.own.below(mount)? } else { Vec::new() };
            for mount in std::iter::once(mount).chain(below.iter().map(AsFd::as_fd)) {
                old.remount(mount, attr)?;
            }
        }
        let name = name(old, mount)?;
        if attr.propagation != 0 {
            let recursive = if recursive { MS_REC } else { 0 };
            mount::mount(None, &name, None, attr.propagation | recursive, None)?;
        }
        Ok(())
    }

    /// Makes all changes of a mount.
    pub fn apply(&self, mount: BorrowedFd<'_>, steps: &[Step]) -> Result<()> {
        steps.iter().try_for_each(|step| self.set(mount, step.recursive, step.attr))
    }
}

impl Old {
    /// Changes the attributes of one mount and keeps its other attributes.
    fn remount(&self, mount: BorrowedFd<'_>, attr: Attr) -> Result<()> {
        let name = name(self, mount)?;
        let attr = attributes(mount)? & !attr.clear | attr.set;
        // Without one of the access time modes, MS_REMOUNT keeps the current one.
        let relatime = if attr & MOUNT_ATTR__ATIME == 0 { MS_RELATIME } else { 0 };
        let flags = MS_REMOUNT | MS_BIND | relatime | legacy(attr);
        mount::mount(None, &name, None, flags, None).with_context(|| shown_path(&name))
    }
}

/// The path of a descriptor, for messages.
fn shown_path(name: &CStr) -> String {
    let path = nix::fcntl::readlink(name).unwrap_or_default();
    path.to_string_lossy().into_owned()
}

/// The name of a descriptor, if its directory is the working directory.
fn name(old: &Old, fd: BorrowedFd<'_>) -> Result<CString> {
    fchdir(&old.descriptors).context("fchdir(/proc/self/fd)")?;
    Ok(CString::new(fd.as_raw_fd().to_string())?)
}

fn set_modern(mount: BorrowedFd<'_>, recursive: bool, attr: Attr) -> Result<()> {
    let symlinks = attr.clear & !attr.set & MOUNT_ATTR_NOSYMFOLLOW;
    match set_attr(mount, recursive, attr) {
        // mount_setattr(2) supports this flag since Linux 5.14, two versions later than the others.
        Err(error) if error.errno == Errno::EINVAL && symlinks != 0 => {
            Ok(set_attr(mount, recursive, Attr { clear: attr.clear & !symlinks, ..attr })?)
        }
        set => Ok(set?),
    }
}

/// The attributes of a mount. A read-only filesystem also appears as read-only here.
pub fn attributes(mount: BorrowedFd<'_>) -> Result<u64> {
    /// statfs(2), Linux 5.10.
    const ST_NOSYMFOLLOW: libc::c_ulong = 0x2000;
    /// Not defined for musl.
    const ST_RELATIME: libc::c_ulong = 0x1000;
    const SAME: [(libc::c_ulong, u64); 7] = [
        (libc::ST_RDONLY, MOUNT_ATTR_RDONLY),
        (libc::ST_NOSUID, MOUNT_ATTR_NOSUID),
        (libc::ST_NODEV, MOUNT_ATTR_NODEV),
        (libc::ST_NOEXEC, MOUNT_ATTR_NOEXEC),
        (libc::ST_NOATIME, MOUNT_ATTR_NOATIME),
        (libc::ST_NODIRATIME, MOUNT_ATTR_NODIRATIME),
        (ST_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let flags = mount::flags(mount)?;
    let bit = |(flag, bit): &(libc::c_ulong, u64)| if flags & flag == 0 { 0 } else { *bit };
    let attr = SAME.iter().map(bit).fold(0, |all, bit| all | bit);
    // Neither noatime nor relatime is strictatime.
    let strict = attr & MOUNT_ATTR__ATIME == 0 && flags & ST_RELATIME == 0;
    Ok(if strict { attr | MOUNT_ATTR_STRICTATIME } else { attr })
}
