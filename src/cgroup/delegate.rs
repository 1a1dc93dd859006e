//! The container's cgroup belongs to the container's user: config-linux.md, Cgroup ownership. Or one
//! below it, where crun's annotation asks for that: the limits then stay with the one above.

use super::create::put;
use super::{Cgroup, Version, open_at};
use anyhow::{Context, Result, ensure};
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::{Uid, fchown, fchownat};
use std::os::fd::AsFd;
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, SysError};

/// The kernel's list of what a user may own without raising limits.
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// What the spec has for kernels without the list (before 4.15).
const BEFORE: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Gives the container's cgroup2 directory, and what of it the kernel allows to give, to `owner`,
    /// a uid of the host. Only where cgroup2 has all controllers: on v1 that is not safe. A cgroup
    /// that was there before keeps its owner.
    pub fn delegate(&self, owner: u32) -> Result<()> {
        let own = self.unified().filter(|dir| self.version == Version::V2 && self.is_new(dir));
        own.map_or(Ok(()), |dir| give(&dir.path, owner))
    }

    /// Moves a process of the container into the cgroup `below` the container's, which is made for it,
    /// and belongs to `owner`.
    pub fn move_below(&self, below: &str, pid: i32, owner: Option<u32>) -> Result<()> {
        ensure!(self.version == Version::V2, "on cgroup v1 delegation is not safe");
        let dir = self.unified().context("the container has no cgroup of its own")?;
        let path = dir.path.join(below);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        owner.map_or(Ok(()), |owner| give(&path, owner))?;
        Ok(put(&path.join("cgroup.procs"), pid.to_string().as_bytes())?)
    }
}

/// Gives a cgroup2 directory to a uid of the host.
fn give(path: &Path, owner: u32) -> Result<()> {
    let list = read(Path::new(LIST)).unwrap_or_else(|_| BEFORE.into());
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let directory = open_at(path, flags)?;
    let path = path.display();
    let owner = Some(Uid::from_raw(owner));
    let given = |result: nix::Result<()>, what: String| match result {
        // Not every cgroup has every file that the list names.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(SysError::new(what, errno)).context("give the cgroup to its user"),
    };
    given(fchown(directory.as_fd(), owner, None), format!("fchown({path})"))?;
    let names = String::from_utf8_lossy(&list);
    for name in names.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        let result = fchownat(directory.as_fd(), name, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW);
        given(result, format!("fchownat({path}/{name})"))?;
    }
    Ok(())
}
