//! Enables controllers of cgroup2 for the container: in `cgroup.subtree_control` of the cgroups above its own.

use super::create::put;
use super::write::Write;
use super::{Dir, missing};
use crate::spec::Place;
use anyhow::{Result, bail};
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, IfExists};

/// The controllers of Linux 5.13 and later, but for those that few kernels are built with.
const USUAL: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

impl Dir {
    /// Enables every controller there is, as far as that is possible, from the mount point down to the
    /// container, or only below the unit that systemd has made: without them nothing is counted, so
    /// that neither `stats` nor an engine sees what the container uses. No error: whatever
    /// a limit needs is for [`Dir::enable_controllers`].
    pub(super) fn offer_all_controllers(&self, below_unit: bool) {
        let levels = match below_unit {
            true => self.made,
            false => self.path.components().count() - self.mountpoint.components().count(),
        };
        let above: Vec<&Path> = self.path.ancestors().skip(1).take(levels).collect();
        // One look is enough where everything is enabled already, as it is for most containers.
        let Some(Ok(enabled)) = above.first().map(|dir| names(dir, "cgroup.subtree_control"))
        else {
            return;
        };
        if USUAL.iter().all(|usual| enabled.iter().any(|name| name == usual)) {
            return;
        }
        for dir in above.iter().rev() {
            if !matches!(enable_all(dir), Ok(true)) {
                return;
            }
        }
    }

    /// Enables the controllers that are needed in every cgroup above the container's. Where they
    /// are enabled already, one look at what the container's has is enough.
    pub(super) fn enable_controllers(&self, writes: &[Write]) -> Result<()> {
        let mut missing: Vec<&Write> = Vec::new();
        if writes.iter().any(|write| !write.controller.is_empty()) {
            let there = names(&self.path, "cgroup.controllers")?;
            missing.extend(writes.iter().filter(|write| {
                !write.controller.is_empty() && !there.iter().any(|name| *name == write.controller)
            }));
            missing.dedup_by_key(|write| &write.controller);
        }
        let below = |dir: &&Path| dir.starts_with(&self.mountpoint);
        let above: Vec<&Path> = self.path.ancestors().skip(1).take_while(below).collect();
        // One after the other: an error is about one of them, and most containers need none.
        for write in missing {
            for dir in above.iter().rev() {
                enable(dir, &write.controller).at(&write.place)?;
            }
        }
        Ok(())
    }
}

/// The words of a file that lists controllers.
fn names(dir: &Path, file: &str) -> Result<Vec<String>> {
    let text = read(&dir.join(file))?;
    Ok(String::from_utf8_lossy(&text).split_ascii_whitespace().map(str::to_owned).collect())
}

/// Enables for the children of `dir` every controller that it has; false if it can have no children
/// with controllers.
fn enable_all(dir: &Path) -> Result<bool> {
    let enabled = names(dir, "cgroup.subtree_control")?;
    let mut missing = names(dir, "cgroup.controllers")?;
    missing.retain(|name| !enabled.contains(name));
    if missing.is_empty() {
        return Ok(true);
    }
    if obstacle(dir)?.is_some() {
        return Ok(false);
    }
    let file = dir.join("cgroup.subtree_control");
    let add = |name: &String| format!("+{name}");
    let all: Vec<String> = missing.iter().map(add).collect();
    match put(&file, all.join(" ").as_bytes()) {
        Ok(()) => {}
        // Those below may have what somebody else has enabled.
        Err(error) if matches!(error.errno, Errno::EACCES | Errno::EPERM | Errno::EROFS) => {}
        // The kernel takes all of a write or nothing of it, and there can be one that it refuses.
        Err(_) => all.iter().for_each(|name| drop(put(&file, name.as_bytes()))),
    }
    Ok(true)
}

/// Why the children of this cgroup can have no controllers, if that is so. The kernel would enable those
/// that can divide threads (cpu, cpuset, pids) for a cgroup with processes all the same, and from then on
/// refuse processes in every cgroup below ("domain invalid"). The root of the hierarchy may have both.
fn obstacle(dir: &Path) -> Result<Option<&'static str>> {
    let Some(kind) = read(&dir.join("cgroup.type")).if_exists()? else { return Ok(None) };
    if kind.trim_ascii() != b"domain" {
        return Ok(Some("is threaded"));
    }
    let has_processes = !read(&dir.join("cgroup.procs"))?.is_empty();
    Ok(has_processes.then_some("has processes"))
}

/// Lets the children of a cgroup have a controller. brig moves nobody's processes for that.
fn enable(dir: &Path, controller: &str) -> Result<()> {
    if names(dir, "cgroup.subtree_control")?.iter().any(|name| name == controller) {
        return Ok(());
    }
    if let Some(obstacle) = obstacle(dir)? {
        bail!("{} {obstacle}, so its children can have no controllers", dir.display());
    }
    let error = match put(&dir.join("cgroup.subtree_control"), format!("+{controller}").as_bytes())
    {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let hint = match error.errno {
        Errno::ENOENT | Errno::EINVAL if missing(&dir.join("cgroup.type")) => {
            format!("this host has no cgroup controller {controller}")
        }
        Errno::ENOENT | Errno::EINVAL => {
            format!("{} does not have controller {controller}", dir.display())
        }
        Errno::EBUSY => {
            format!("{} has processes, so its children can have no controllers", dir.display())
        }
        Errno::EACCES | Errno::EPERM => {
            format!("controller {controller} in {} is not delegated to this user", dir.display())
        }
        _ => format!("enable controller {controller}"),
    };
    Err(anyhow::Error::from(error).context(hint))
}
