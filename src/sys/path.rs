//! Paths inside a directory that must not lead out of it: openat2(2).

use super::{Errno, SysError};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What to do at a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Follow it, with the directory as the root of absolute ones and the limit of `..`.
    Follow,
    /// ELOOP.
    Refuse,
}

/// Opens `path` below `root`. Magic links (`/proc/PID/fd/N`) are never followed: they lead anywhere.
pub fn open_in(
    root: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    links: Links,
) -> Result<OwnedFd, SysError> {
    let links = match links {
        Links::Follow => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::Refuse => ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(links | ResolveFlag::RESOLVE_IN_ROOT);
    loop {
        match openat2(root, path, how) {
            // Somebody renames or mounts on the host while the kernel resolves "..".
            Err(Errno::EAGAIN) => {}
            opened => return opened.map_err(|errno| SysError::new(call(root, path), errno)),
        }
    }
}

/// Opens the directory `path` below `root`, every missing part of it made with mode 0755.
pub fn make_dir_in(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, SysError> {
    match open_in(root, path, DIRECTORY, Links::Follow) {
        Err(error) if error.errno == Errno::ENOENT => {}
        opened => return opened,
    }
    let mut dir = open_in(root, c"/", DIRECTORY, Links::Refuse)?;
    let mut prefix = Vec::new();
    let mut missing = false;
    for component in path.to_bytes().split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        prefix.push(b'/');
        prefix.extend_from_slice(component);
        if !missing {
            let prefix = c_string(&prefix)?;
            match open_in(root, &prefix, DIRECTORY, Links::Follow) {
                Err(error) if error.errno == Errno::ENOENT => missing = true,
                opened => {
                    dir = opened?;
                    continue;
                }
            }
        }
        dir = make_one(dir.as_fd(), component, &prefix)?;
    }
    Ok(dir)
}

/// Makes the file `path` below `root`, which does not exist, and its missing directories.
pub fn make_file_in(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, SysError> {
    let (parent, name) = split(path);
    let dir = make_dir_in(root, &c_string(parent)?)?;
    // O_EXCL: a dangling link is not followed, and what somebody else has just made is not ours.
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(dir, name, flags, Mode::from_bits_truncate(0o644));
    made.map_err(|errno| SysError::new(format!("create {}", path.to_string_lossy()), errno))
}

/// An absolute path's directory and last name.
pub fn split(path: &CStr) -> (&[u8], &[u8]) {
    let path = path.to_bytes();
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    (&path[..slash.max(1).min(path.len())], &path[(slash + 1).min(path.len())..])
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

fn make_one(dir: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<OwnedFd, SysError> {
    let failed = |call: &str, errno| {
        let path = String::from_utf8_lossy(path);
        SysError::new(format!("{call}({path})"), errno)
    };
    match mkdirat(dir, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(failed("mkdir", errno)),
    }
    // EEXIST may also be a dangling link, which O_NOFOLLOW refuses.
    openat(dir, name, DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open", errno))
}

fn c_string(path: &[u8]) -> Result<CString, SysError> {
    CString::new(path).map_err(|_| SysError::new("path with a zero byte", Errno::EINVAL))
}

fn call(root: BorrowedFd<'_>, path: &CStr) -> String {
    format!("openat2(fd {}, {})", root.as_raw_fd(), path.to_string_lossy())
}
