//! Finds the mount that mount(2) has just made. mount(2) returns no descriptor, and a process that shares a
//! volume can change every name on the path. So the mount is looked up in mountinfo and opened, and that is
//! repeated until the opened file has its mount id.

use anyhow::{Context, Result, bail};
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::mount::mount_id;
use sys::mountinfo::{Mount, mounts};
use sys::path::{Links, open_in};
use sys::{Errno, SysError};

/// The number of attempts, in case another process keeps renaming directories.
const TRIES: usize = 1000;

/// brig's own directory in the host's /proc, which is trusted.
pub struct HostProc {
    dir: OwnedFd,
    /// The container's root and its mount point: the container's root may not be permitted to search the path
    /// to it.
    root: Option<(PathBuf, OwnedFd)>,
}

/// The mounts before a call of mount(2).
pub struct Before<'a> {
    own: &'a HostProc,
    /// The mount that contains the target.
    parent: u64,
    known: BTreeSet<u64>,
}

impl HostProc {
    /// Called while the host's /proc is accessible.
    pub fn open() -> Result<HostProc> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open("/proc/self", flags, Mode::empty()).context("open /proc/self")?;
        Ok(HostProc { dir, root: None })
    }

    /// Sets the mount point of the container's root.
    pub fn set_root(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        let name = format!("fd/{}", root.as_raw_fd());
        let path = readlinkat(&self.dir, name.as_str()).context("readlink /proc/self/fd")?;
        self.root = Some((path.into(), root.try_clone_to_owned()?));
        Ok(())
    }

    /// The directory of brig's descriptors.
    pub fn descriptors(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.dir, "fd", flags, Mode::empty()).context("open /proc/self/fd")
    }

    /// All current mounts below brig's root directory.
    fn mountinfo(&self) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file =
            openat(&self.dir, "mountinfo", flags, Mode::empty()).context("open mountinfo")?;
        let mut text = Vec::new();
        File::from(file).read_to_end(&mut text).context("read mountinfo")?;
        Ok(text)
    }

    /// Call this before mount(2) on `target`.
    pub fn before(&self, target: BorrowedFd<'_>) -> Result<Before<'_>> {
        let parent = mount_id(target, self.dir.as_fd())?;
        let known = mounts(&self.mountinfo()?).filter_map(|mount| mount.id()).collect();
        Ok(Before { own: self, parent, known })
    }

    /// Opens every mount below one. Those that may not be looked up are skipped: what root in the container
    /// cannot access, no process in it can.
    pub fn below(&self, top: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
        let text = self.mountinfo()?;
        let all: Vec<Mount<'_>> = mounts(&text).collect();
        let mut ids = vec![mount_id(top, self.dir.as_fd())?];
        let mut found = Vec::new();
        let mut next = 0;
        while let Some(&parent) = ids.get(next) {
            next += 1;
            for mount in all.iter().filter(|mount| mount.parent() == Some(parent)) {
                let Some(id) = mount.id().filter(|id| !ids.contains(id)) else { continue };
                ids.push(id);
                let covered = |other: &&Mount<'_>| {
                    other.parent() == Some(id) && other.point() == mount.point()
                };
                match all.iter().find(covered) {
                    // An automount point has no contents itself.
                    Some(_) if mount.is_type("autofs") => {}
                    Some(_) => bail!("{}: another mount covers it", mount.point().display()),
                    None => found.extend(self.open_mount(id)?),
                }
            }
        }
        Ok(found)
    }

    /// Opens the root of a mount; None if it may not be looked up.
    fn open_mount(&self, id: u64) -> Result<Option<OwnedFd>> {
        let mut seen = None;
        for _ in 0..TRIES {
            let text = self.mountinfo()?;
            let Some(mount) = mounts(&text).find(|mount| mount.id() == Some(id)) else { break };
            match self.open_if(&mount, id) {
                Err(error) if error.errno == Errno::EACCES => return Ok(None),
                opened => {
                    if let Some(opened) = opened.ok().flatten() {
                        return Ok(Some(opened));
                    }
                }
            }
            seen = Some(mount.point());
        }
        let point = seen.unwrap_or_default();
        bail!("{}: the mount cannot be reached", point.display())
    }

    /// Opens the given path; None if another mount is there.
    fn open_if(&self, mount: &Mount<'_>, id: u64) -> Result<Option<OwnedFd>, SysError> {
        let point = mount.point();
        if let Some((path, root)) = &self.root
            && let Ok(below) = point.strip_prefix(path)
            && let Ok(Some(opened)) = self.open_below(root.as_fd(), below, id)
        {
            return Ok(Some(opened));
        }
        let failed = |errno| SysError::new("open /", errno);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open("/", flags, Mode::empty()).map_err(failed)?;
        self.open_below(root.as_fd(), &point, id)
    }

    fn open_below(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        id: u64,
    ) -> Result<Option<OwnedFd>, SysError> {
        // mountinfo contains no NUL bytes.
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        // Links are not followed: mountinfo has resolved paths.
        let opened = open_in(root, &path, OFlag::O_PATH, Links::Refuse)?;
        let same = mount_id(opened.as_fd(), self.dir.as_fd())? == id;
        Ok(same.then_some(opened))
    }
}

impl Before<'_> {
    /// Opens the mount that was made since, identified by its root.
    pub fn made(&self, is_it: impl Fn(&FileStat) -> bool) -> Result<OwnedFd> {
        for _ in 0..TRIES {
            let text = self.own.mountinfo()?;
            let all: Vec<Mount<'_>> = mounts(&text).collect();
            for mount in all.iter().filter(|mount| self.is_on_target(mount, &all)) {
                let Some(id) = mount.id().filter(|id| !self.known.contains(id)) else { continue };
                let opened = self.own.open_if(mount, id).ok().flatten();
                if let Some(opened) = opened
                    && is_it(&fstat(&opened).context("fstat")?)
                {
                    return Ok(opened);
                }
            }
        }
        bail!("the mount cannot be found again: directories on its path are being renamed")
    }

    /// Whether it is mounted on the target, or on a mount on the target.
    fn is_on_target(&self, mount: &Mount<'_>, all: &[Mount<'_>]) -> bool {
        let below = |at: &Mount<'_>| all.iter().find(|below| below.id() == at.parent()).copied();
        let mut at = *mount;
        // Bounded by the number of mounts, in case they change while they are listed.
        for _ in all {
            match below(&at) {
                _ if at.parent() == Some(self.parent) => return true,
                Some(below) if below.point() == mount.point() => at = below,
                _ => return false,
            }
        }
        false
    }
}
