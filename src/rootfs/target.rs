//! Mount targets: looked up beneath the root, created if missing.

use super::Root;
use super::source::ensure_proc;
use crate::plan::mounts::{Kind, Mount, check_proc};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, readlink};
use nix::sys::stat::{SFlag, fstat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use sys::path::{Links, make_dir_in, make_file_in, open_in};
use sys::{Errno, file};

/// A target.
pub struct Target {
    /// The file or directory.
    pub fd: OwnedFd,
    /// Whether it existed before.
    pub existed: bool,
}

/// Finds the target of a mount, or creates it: a file if the source is a file, otherwise a directory.
///
/// # Errors
///
/// If it cannot be created, belongs to the host, or links of the image lead to a place that the plan forbids.
pub fn find(root: &Root, mount: &Mount, source: Option<BorrowedFd<'_>>) -> Result<Target> {
    let beneath = root.fd.as_fd();
    if mount.links.target
        && let Some(fd) = find_link(beneath, &mount.target)?
    {
        return Ok(Target { fd, existed: true });
    }
    // Usually the path contains no links: then the checks of the plan are sufficient.
    match open_in(beneath, &mount.target, OFlag::O_PATH, Links::Refuse) {
        Ok(fd) => return Ok(Target { fd, existed: true }),
        Err(error) if error.errno == Errno::ENOENT => return make(root, mount, source),
        Err(error) if error.errno == Errno::ELOOP => {}
        Err(error) => return Err(error.into()),
    }
    if let Kind::Filesystem(filesystem) = &mount.kind {
        // The image must not choose where these are mounted (CVE-2019-19921, CVE-2023-27561).
        let fstype = filesystem.fstype.as_c_str();
        if fstype == c"proc" || fstype == c"sysfs" {
            let fstype = fstype.to_string_lossy();
            bail!(
                "{fstype} must be mounted on a directory, and the destination is a symbolic link"
            );
        }
    }
    let target = match open_in(beneath, &mount.target, OFlag::O_PATH, Links::Follow) {
        Err(error) if error.errno == Errno::ENOENT => make(root, mount, source)?,
        opened => Target { fd: opened?, existed: true },
    };
    check_where_it_led(beneath, &target, mount, source)?;
    Ok(target)
}

/// Opens a target that is itself a symbolic link, which is not followed; links in the path to it are.
fn find_link(root: BorrowedFd<'_>, target: &CStr) -> Result<Option<OwnedFd>> {
    match open_in(root, target, OFlag::O_PATH | OFlag::O_NOFOLLOW, Links::Follow) {
        Err(error) if error.errno == Errno::ENOENT => Ok(None),
        Err(error) => Err(error.into()),
        Ok(fd) => {
            let is_link = file::kind(fstat(&fd).context("fstat")?.st_mode) == SFlag::S_IFLNK;
            Ok(is_link.then_some(fd))
        }
    }
}

fn make(root: &Root, mount: &Mount, source: Option<BorrowedFd<'_>>) -> Result<Target> {
    let directory = source.map_or(Ok(true), is_directory)?;
    root.hosts.may_make(root.fd.as_fd(), &mount.target)?;
    let root = root.fd.as_fd();
    let fd = match directory {
        true => make_dir_in(root, &mount.target)?,
        false => make_file_in(root, &mount.target)?,
    };
    Ok(Target { fd, existed: false })
}

/// Whether this is a directory.
pub fn is_directory(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(file::kind(fstat(fd).context("fstat")?.st_mode) == SFlag::S_IFDIR)
}

/// The path contained links of the image: repeat the checks of the plan on the resolved path.
fn check_where_it_led(
    root: BorrowedFd<'_>,
    target: &Target,
    mount: &Mount,
    source: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let inside = path_below(root, target.fd.as_fd())?;
    ensure!(!inside.as_os_str().is_empty(), "leads to the container's root");
    let path = CString::new([b"/", inside.as_os_str().as_bytes()].concat())?;
    check_proc(&path, &mount.kind)?;
    match source {
        Some(source) if path.as_c_str() == c"/proc" => ensure_proc(source),
        _ => Ok(()),
    }
}

/// The path of a file or directory below the root, without a leading slash.
pub fn path_below(root: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<PathBuf> {
    let (root, path) = (real_path(root)?, real_path(fd)?);
    let inside = path.strip_prefix(&root);
    Ok(inside.with_context(|| format!("{} is outside the root", path.display()))?.to_owned())
}

fn real_path(fd: BorrowedFd<'_>) -> Result<PathBuf> {
    let link = proc_path(fd);
    let path = readlink(link.as_c_str()).with_context(|| format!("readlink({link:?})"))?;
    Ok(path.into())
}

/// A path for a descriptor, for mount(2). Only valid while the host's /proc is accessible.
pub fn proc_path(fd: BorrowedFd<'_>) -> CString {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    // A number contains no NUL byte.
    CString::new(path).unwrap_or_default()
}
