//! Enables controllers of cgroup2 for the container: in `cgroup.subtree_control` of the cgroups above its own.

use super::create::put;
use super::write::Write;
use super::{Dir, missing};
use crate::spec::Place;
use anyhow::{Result, bail};
use std::path::Path;
use sys::hierarchy::read;
use sys::{Errno, IfExists};

/// The controllers of Linux 5.13 and later, except those that few kernels are built with.
const USUAL: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

impl Dir {
    /// Enables every available controller as far as possible, from the mount point down to the container, or
    /// only below the unit created by systemd: without controllers nothing is accounted, and neither `stats`
    /// nor an engine sees the container's usage. Not an error: controllers needed by limits are enabled by
    /// [`Dir::enable_controllers`].
    pub(super) fn offer_all_controllers(&self, below_unit: bool) {
        let levels = match below_unit {
            true => self.made,
            false => self.path.components().count() - self.mountpoint.components().count(),
        };
        let above: Vec<&Path> = self.path.ancestors().skip(1).take(levels).collect();
        // One check is enough if everything is enabled already, as for most containers.
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

    /// Enables the controllers that are needed in every cgroup above the container's. If they are enabled
    /// already, checking the container's cgroup is enough.
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
        // Only the first error is reported.
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

/// Enables every available controller for the children of `dir`; false if its children cannot have
/// controllers.
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
        // The cgroups below may have controllers enabled by others.
        Err(error) if matches!(error.errno, Errno::EACCES | Errno::EPERM | Errno::EROFS) => {}
        // The kernel applies a write completely or not at all, and may refuse one of the controllers.
        Err(_) => all.iter().for_each(|name| drop(put(&file, name.as_bytes()))),
    }
    Ok(true)
}

/// Why the children of this cgroup cannot have controllers, if so. The kernel would still enable those that
/// can divide threads (cpu, cpuset, pids) for a cgroup with processes, and then refuse processes in every
/// cgroup below ("domain invalid"). The root of the hierarchy may have both.
fn obstacle(dir: &Path) -> Result<Option<&'static str>> {
    let Some(kind) = read(&dir.join("cgroup.type")).if_exists()? else { return Ok(None) };
    if kind.trim_ascii() != b"domain" {
        return Ok(Some("is threaded"));
    }
    let has_processes = !read(&dir.join("cgroup.procs"))?.is_empty();
    Ok(has_processes.then_some("has processes"))
}

/// Enables a controller for the children of a cgroup. brig does not move other processes for that.
fn enable(dir: &Path, controller: &str) -> Result<()> {
    if names(dir, "cgroup.subtree_control")?.iter().any(|name| name == controller) {
        return Ok(());
    }
    if let Some(obstacle) = obstacle(dir)? {
        bail!("{} {obstacle}, so no controllers can be enabled for its children", dir.display());
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
            format!(
                "{} has processes, so no controllers can be enabled for its children",
                dir.display()
            )
        }
        Errno::EACCES | Errno::EPERM => {
            format!("controller {controller} of {} is not delegated to this user", dir.display())
        }
        _ => format!("enable controller {controller}"),
    };
    Err(anyhow::Error::from(error).context(hint))
}
