//! Walks a container's cgroup and its descendants by descriptors: the container can nest cgroups until their
//! path is longer than any system call accepts. Only one descriptor is open at a time, however deep the tree
//! is.

use anyhow::{Context, Result, ensure};
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, Statfs, fstatfs, statfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::hierarchy;
use sys::path::DIRECTORY;
use sys::{Errno, SysError, errno_of};

/// Calls `enter` for the cgroup and then for its descendants, parents first. After all children of one were
/// visited, calls `leave` with its parent and its name there; not for the first. Cgroups removed in the
/// meantime are skipped.
pub(super) fn walk(
    path: &Path,
    enter: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<()>,
) -> Result<()> {
    let mut go = || -> Result<()> {
        let Some(mut here) = present(open(path, DIRECTORY, Mode::empty()))? else { return Ok(()) };
        ensure_cgroup(&fstatfs(&here).context("fstatfs")?)?;
        enter(here.as_fd())?;
        let mut above: Vec<(CString, Vec<CString>)> = Vec::new();
        let mut below = children(&here)?;
        loop {
            if let Some(name) = below.pop() {
                let child = openat(&here, name.as_c_str(), DIRECTORY, Mode::empty());
                let Some(child) = present(child)? else { continue };
                enter(child.as_fd())?;
                let of_child = children(&child)?;
                above.push((name, std::mem::replace(&mut below, of_child)));
                here = child;
            } else if let Some((name, siblings)) = above.pop() {
                // Cgroups are never moved, so this is the parent it was opened from.
                here = openat(&here, "..", DIRECTORY, Mode::empty()).context("..")?;
                leave(here.as_fd(), &name)?;
                below = siblings;
            } else {
                return Ok(());
            }
        }
    };
    go().with_context(|| format!("cgroup {}", path.display()))
}

/// The paths come from a stored record: nothing outside a cgroup filesystem is touched.
fn ensure_cgroup(filesystem: &Statfs) -> Result<()> {
    let kinds = [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC];
    ensure!(kinds.contains(&filesystem.filesystem_type()), "is not a cgroup");
    Ok(())
}

/// None if it no longer exists.
fn present<T>(done: nix::Result<T>) -> Result<Option<T>> {
    match done {
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(None),
        done => Ok(Some(done?)),
    }
}

/// The names of the cgroups below. All directories in a cgroup are cgroups, and there are no links.
fn children(dir: &OwnedFd) -> Result<Vec<CString>> {
    let Some(list) = present(openat(dir, ".", DIRECTORY, Mode::empty()))? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(list)?.iter() {
        let Some(entry) = present(entry)? else { break };
        let name = entry.file_name();
        if entry.file_type() == Some(nix::dir::Type::Directory) && ![c".", c".."].contains(&name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The pids or thread ids in a cgroup file, one per line; empty if it no longer exists. Processes outside
/// brig's pid namespace appear as 0, which would be brig's own process group for kill(2): they are omitted.
pub(super) fn numbers(dir: BorrowedFd<'_>, file: &str) -> Result<Vec<i32>> {
    let text = read(dir, file)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(|pid| pid.parse().ok()).filter(|&pid| pid > 0).collect())
}

/// Reads a cgroup file; empty if it no longer exists.
pub(super) fn read(dir: BorrowedFd<'_>, file: &str) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let Some(opened) = present(openat(dir, file, flags, Mode::empty()))? else {
        return Ok(Vec::new());
    };
    let mut text = Vec::new();
    match File::from(opened).read_to_end(&mut text) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(Vec::new()),
        read => read.map(|_| text).with_context(|| format!("read {file}")),
    }
}

/// Writes to a cgroup file; false if it no longer exists.
pub(super) fn write(dir: BorrowedFd<'_>, file: &str, value: &str) -> Result<bool> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let Some(opened) = present(openat(dir, file, flags, Mode::empty()))? else { return Ok(false) };
    match File::from(opened).write_all(value.as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
        written => written.map(|()| true).with_context(|| format!("write {value} to {file}")),
    }
}

/// The processes in one cgroup. A container can make cgroups of its own threaded (cgroups(7), Thread mode): the
/// kernel only lists their threads, whose processes are returned, possibly more than once.
pub(super) fn members(dir: BorrowedFd<'_>) -> Result<Vec<i32>> {
    match numbers(dir, "cgroup.procs") {
        Err(error) if errno_of(&error) == Some(Errno::EOPNOTSUPP) => {
            Ok(numbers(dir, "cgroup.threads")?.into_iter().filter_map(process_of).collect())
        }
        listed => listed,
    }
}

/// The process of a thread; None if it has exited.
fn process_of(thread: i32) -> Option<i32> {
    let status = hierarchy::read(Path::new(&format!("/proc/{thread}/status"))).ok()?;
    let line = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Tgid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

/// The cgroup of a process: this one, or one of its descendants.
pub(super) fn of_process(path: &Path, pid: i32) -> Result<Option<OwnedFd>> {
    let mut found = None;
    let mut enter = |dir: BorrowedFd<'_>| {
        if found.is_none() && members(dir)?.contains(&pid) {
            found = Some(dir.try_clone_to_owned()?);
        }
        Ok(())
    };
    walk(path, &mut enter, &mut |_, _| Ok(()))?;
    Ok(found)
}

/// All processes in a cgroup and its descendants.
pub(super) fn processes(path: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut enter = |dir: BorrowedFd<'_>| {
        pids.append(&mut members(dir)?);
        Ok(())
    };
    walk(path, &mut enter, &mut |_, _| Ok(()))?;
    Ok(pids)
}

/// Removes an empty cgroup. The kernel refuses if it has processes or children.
pub(super) fn remove_empty(path: &Path) -> Result<()> {
    let Some(filesystem) = present(statfs(path))? else { return Ok(()) };
    ensure_cgroup(&filesystem)?;
    present(unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)).map(drop)
}

/// Removes all descendants of a cgroup. Those that cannot be removed are skipped, and the first error is
/// returned.
pub(super) fn remove_below(path: &Path) -> Result<(), SysError> {
    let mut failed = None;
    let mut leave = |above: BorrowedFd<'_>, name: &CStr| {
        match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
            Err(errno) => {
                failed.get_or_insert(errno);
            }
        }
        Ok(())
    };
    let walked = walk(path, &mut |_| Ok(()), &mut leave);
    let call = || format!("rmdir below {}", path.display());
    if let Err(error) = walked {
        let errno = errno_of(&error).unwrap_or(Errno::EINVAL);
        return Err(SysError::new(call(), errno));
    }
    failed.map_or(Ok(()), |errno| Err(SysError::new(call(), errno)))
}
