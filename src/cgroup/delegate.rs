//! The container's user owns the container's cgroup: config-linux.md, Cgroup ownership. Or, with crun's
//! annotation, a cgroup below it: then the limits stay on the one above.

use super::create::put;
use super::{Cgroup, Version, open_at};
use anyhow::{Context, Result, ensure};
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::{Uid, fchown, fchownat};
use std::os::fd::AsFd;
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, SysError};

/// The kernel's list of files that a user may own without being able to raise limits.
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// The specification's list for kernels without it (before 4.15).
const BEFORE: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Changes the owner of the container's cgroup v2 directory, and of the files that the kernel permits, to
    /// `owner`, a uid of the host. Only if cgroup v2 has all controllers: on v1 it is not safe. An existing
    /// cgroup keeps its owner.
    pub fn delegate(&self, owner: u32) -> Result<()> {
        let own = self.unified().filter(|dir| self.version == Version::V2 && self.is_new(dir));
        own.map_or(Ok(()), |dir| give(&dir.path, owner))
    }

    /// Moves a process of the container into the cgroup `below` the container's, which is created for it and
    /// belongs to `owner`.
    pub fn move_below(&self, below: &str, pid: i32, owner: Option<u32>) -> Result<()> {
        ensure!(self.version == Version::V2, "on cgroup v1 delegation is not safe");
        let dir = self.unified().context("the container has no cgroup of its own")?;
        let path = dir.path.join(below);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        owner.map_or(Ok(()), |owner| give(&path, owner))?;
        Ok(put(&path.join("cgroup.procs"), pid.to_string().as_bytes())?)
    }
}

/// Changes the owner of a cgroup v2 directory to a uid of the host.
fn give(path: &Path, owner: u32) -> Result<()> {
    let list = read(Path::new(LIST)).unwrap_or_else(|_| BEFORE.into());
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let directory = open_at(path, flags)?;
    let path = path.display();
    let owner = Some(Uid::from_raw(owner));
    let given = |result: nix::Result<()>, what: String| match result {
        // Not every cgroup has every file of the list.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(SysError::new(what, errno)).context("change the owner of the cgroup"),
    };
    given(fchown(directory.as_fd(), owner, None), format!("fchown({path})"))?;
    let names = String::from_utf8_lossy(&list);
    for name in names.lines().filter(|name| !name.is_empty() && !name.contains('/')) {
        let result = fchownat(directory.as_fd(), name, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW);
        given(result, format!("fchownat({path}/{name})"))?;
    }
    Ok(())
}
