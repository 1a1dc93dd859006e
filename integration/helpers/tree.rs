//! Removes a directory tree without leaving its mount: a bind mount left in it must fail the test, not empty
//! its source.

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Removes `path` and everything in it; fails with EXDEV at a mount point.
pub fn remove(path: &Path) -> nix::Result<()> {
    let parent = path.parent().ok_or(Errno::EINVAL)?;
    let name = Path::new(path.file_name().ok_or(Errno::EINVAL)?);
    let parent = nix::fcntl::open(
        parent,
        OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    )?;
    remove_below(&parent, name)
}

fn remove_below(parent: impl AsFd, name: &Path) -> nix::Result<()> {
    let how =
        OpenHow::new().flags(OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_BENEATH,
        );
    let mut dir = Dir::from_fd(openat2(parent.as_fd(), name, how)?)?;
    let entries: Vec<_> = dir.iter().collect::<nix::Result<_>>()?;
    for entry in entries {
        let name = Path::new(OsStr::from_bytes(entry.file_name().to_bytes()));
        match entry.file_type() {
            _ if name == Path::new(".") || name == Path::new("..") => {}
            Some(Type::Directory) => remove_below(&dir, name)?,
            // A file that is a mount point returns EBUSY.
            _ => unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)?,
        }
    }
    unlinkat(parent.as_fd(), name, UnlinkatFlags::RemoveDir)
}
