//! Removes whole trees created by brig, by descriptors. Mounts inside are an error, and their contents are
//! left alone.

pub mod changes;
pub(crate) mod live;
pub mod view;
pub mod walk;
pub mod whiteout;

use anyhow::{Context, Result};
use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::Errno;
use sys::path::DIRECTORY;

/// Removes a file or directory; a missing one is not an error.
///
/// # Errors
///
/// If a file cannot be removed, e.g. a mount point.
pub fn remove_path(path: &Path) -> Result<()> {
    let what = || format!("remove {}", path.display());
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(errno).with_context(what),
    }
    // It may be removed concurrently.
    let dir = match openat(AT_FDCWD, path, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        dir => dir.with_context(what)?,
    };
    empty(dir.as_fd()).with_context(what)?;
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        removed => removed.with_context(what),
    }
}

/// Removes the entry `name` of a directory, and everything in it.
///
/// # Errors
///
/// If a file cannot be removed, e.g. a mount point.
pub fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        removed => return Ok(removed?),
    }
    empty(open_below(parent, name)?.as_fd())?;
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

/// Removes everything in a directory. Trees created by [`crate::unpack::dirs`] are limited in depth, but an
/// upper may be deeper than the limit of descriptors: so only one directory is open at a time, and ".." leads
/// back.
///
/// # Errors
///
/// If a file cannot be removed, e.g. a mount point.
pub fn empty(dir: BorrowedFd<'_>) -> Result<()> {
    let mut here = openat(dir, ".", DIRECTORY, Mode::empty())?;
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        match first_directory(&here)? {
            Some(name) => match open_below(here.as_fd(), &name) {
                Ok(below) => {
                    here = below;
                    names.push(name);
                }
                // Another brig removes the same tree.
                Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => {}
                Err(error) => return Err(error.context(name.escape_ascii().to_string())),
            },
            None => {
                let Some(name) = names.pop() else { return Ok(()) };
                here = openat(&here, "..", DIRECTORY, Mode::empty())?;
                match unlinkat(&here, name.as_slice(), UnlinkatFlags::RemoveDir) {
                    Err(Errno::ENOENT) => {}
                    removed => removed.with_context(|| name.escape_ascii().to_string())?,
                }
            }
        }
    }
}

/// Removes everything in a directory except directories, and returns the first of those.
fn first_directory(here: &OwnedFd) -> Result<Option<Vec<u8>>> {
    let again = openat(here, ".", DIRECTORY, Mode::empty())?;
    let mut found = None;
    for entry in Dir::from_fd(again)?.iter() {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        match unlinkat(here, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {
                if unlinkat(here, name, UnlinkatFlags::RemoveDir).is_err() && found.is_none() {
                    found = Some(name.to_bytes().to_vec());
                }
            }
            Err(Errno::ENOENT) => {}
            removed => removed.with_context(|| name.to_string_lossy().into_owned())?,
        }
    }
    Ok(found)
}

/// Opens a directory that is not a mount point. A container may have removed the owner's permissions.
fn open_below(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    match open_here(parent, name, DIRECTORY) {
        Err(Errno::EACCES) => {
            let handle =
                open_here(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW)?;
            let stat = fstat(&handle)?;
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777) | Mode::S_IRWXU;
            nix::sys::stat::fchmodat(
                parent,
                name,
                mode,
                nix::sys::stat::FchmodatFlags::FollowSymlink,
            )?;
            Ok(open_here(parent, name, DIRECTORY)?)
        }
        opened => Ok(opened?),
    }
}

fn open_here(parent: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(parent, name, OpenHow::new().flags(flags).resolve(resolve)) {
        // Before Linux 5.6, compare the filesystems.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let opened = openat(parent, name, flags, Mode::empty())?;
            let same = fstat(&opened)?.st_dev == fstat(parent)?.st_dev;
            if same { Ok(opened) } else { Err(Errno::EXDEV) }
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_tree_is_removed_with_few_descriptors() {
        let path = std::env::temp_dir().join(format!("brig-tree-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let mut here = openat(AT_FDCWD, &path, DIRECTORY, Mode::empty()).unwrap();
        // Deeper than the limit of descriptors, and the maximum length of paths.
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&here, "d", Mode::S_IRWXU).unwrap();
            nix::unistd::symlinkat("/", &here, "link").unwrap();
            here = openat(&here, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        remove_path(&path).unwrap();
        remove_path(&path).unwrap();
        assert!(!path.exists());
    }
}
