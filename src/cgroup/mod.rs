//! The container's cgroups: locate, create, limit, enter, remove.
//!
//! One directory in every hierarchy of the host: each v1 hierarchy, named ones too, and cgroup2.
//! Limits are tables of writes ([`v1`], [`v2`]) made from [`crate::plan::resources`]; on a hybrid host each
//! controller is written on the version that has it.
//!
//! With systemd ([`Scope`]), systemd creates the directories that it manages and moves the child into them;
//! the rest is the same. Without a cgroup ([`Cgroup::none`]), the container stays in brig's own.
//!
//! In the order of a container's life: [`Cgroup::locate`] resolves the paths, which are stored;
//! [`Cgroup::create`] creates and limits; [`Cgroup::entry`] and [`Entry::enter`] let the child in;
//! [`Cgroup::kill`] and [`Cgroup::remove`] end it, however far create had got. In between, [`Cgroup::freeze`]
//! and [`Cgroup::thaw`] pause it.
//!
//! Nothing is ever moved by writing a pid into `cgroup.procs`: that takes the kernel's
//! threadgroup lock for writing and waits for a grace period (7 ms after an idle moment). The
//! child's own `0` into a v1 `tasks` file does not, as long as it has a single thread, and on
//! cgroup2 the child is born in its cgroup.
//!
//! Never touched: cgroups with processes of others (which must not be limited, killed or removed with the
//! container), the processes in the cgroups above, and v1 controllers that are not mounted (mounting one
//! would remove it from cgroup v2 on the whole machine).

mod controllers;
mod create;
mod delegate;
pub(crate) mod devices;
mod freeze;
mod in_force;
pub mod oom;
mod properties;
mod remove;
mod scope;
pub mod stat;
mod tree;
mod update;
pub mod v1;
pub mod v2;
mod write;

pub use freeze::Freezer;
pub use remove::{describe, is_zombie, signal_each};
pub use scope::Scope;
pub use sys::hierarchy::Version;

use crate::spec::Place;
use crate::systemd::Unit;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize, Serializer};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::clone::Birth;
use sys::hierarchy::{self, Hierarchies, Hierarchy, ProcessCgroups};
use sys::{Errno, SysError, errno_of};

/// Marks parent cgroups that were created by brig, and not by an engine or an administrator.
const MARK: &CStr = c"user.brig.made";

/// The parent of containers without a cgroup path on cgroup v2.
const PARENT: &str = "brig";

/// The container's cgroups, one directory per hierarchy. Stored before the directories are created, so it
/// records which of them were missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// The hierarchies of the host when the container was created.
    pub version: Version,
    dirs: Vec<Dir>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<Unit>,
}

/// The container's directory in one hierarchy. Stored as a list of its fields, which is parsed faster: there are
/// ten on cgroup v1. brig 0.1 accepts that, too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dir {
    /// `memory`, `cpu,cpuacct`, `name=systemd`; empty for cgroup2.
    pub controllers: String,
    /// Where the hierarchy is mounted.
    pub mountpoint: PathBuf,
    /// The directory, as the host sees it.
    pub path: PathBuf,
    /// How many of the path's last components brig creates, and later removes: 0 if the container joins an
    /// existing cgroup.
    pub made: usize,
}

impl Serialize for Dir {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.controllers, &self.mountpoint, &self.path, self.made).serialize(serializer)
    }
}

/// The descriptors needed to enter the container's cgroups.
#[derive(Debug, Default)]
pub struct Entry {
    /// The `tasks` files of the v1 hierarchies, for [`Entry::enter`].
    pub tasks: Vec<OwnedFd>,
    /// The cgroup2 directory, for `CLONE_INTO_CGROUP`.
    pub into: Option<OwnedFd>,
}

/// What a `cgroup` mount in the container shows of one hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub struct CgroupMount<'a> {
    /// The mount option that selects it for filesystem type cgroup; empty for cgroup2.
    pub controllers: &'a str,
    /// Name of the directory in /sys/fs/cgroup, e.g. `cpu,cpuacct`, `systemd` or `unified`.
    pub name: &'a str,
    /// Names of the symbolic links to that directory, e.g. `cpu` and `cpuacct`.
    pub aliases: Vec<&'a str>,
    /// The container's directory as the host sees it, the source of a bind mount.
    pub dir: &'a Path,
    /// Where the hierarchy is mounted on the host.
    pub mountpoint: &'a Path,
}

impl Default for Cgroup {
    /// No cgroups.
    fn default() -> Cgroup {
        Cgroup::disabled()
    }
}

impl Cgroup {
    /// Resolves the container's cgroups, and which directories have to be created: only reads.
    ///
    /// An absolute path starts at the mount point of each hierarchy. A relative one, or by default the
    /// container's id, starts at brig's own cgroup; on cgroup v2 beside it, because a cgroup with processes
    /// (brig) cannot have children with controllers. A container without a path is one level deeper there:
    /// systemd disables controllers that none of its units needs, and with them the limits, unless a cgroup
    /// below has enabled them.
    ///
    /// # Errors
    ///
    /// If `linux.cgroupsPath` is not valid, or the cgroup existed before and contains processes.
    pub fn locate(found: Hierarchies, cgroups_path: Option<&str>, id: &str) -> Result<Cgroup> {
        let Hierarchies { version, mounted } = found;
        // Go's encoders write an absent path as an empty one.
        let path = cgroups_path.filter(|path| !path.is_empty());
        hierarchy::check(path.unwrap_or_default()).at("linux.cgroupsPath")?;
        let path = match (path, version) {
            (Some(path), _) => PathBuf::from(path),
            (None, Version::V2) => Path::new(PARENT).join(id),
            (None, _) => PathBuf::from(id),
        };
        let own = if path.is_absolute() { None } else { Some(ProcessCgroups::read()?) };
        let relative = hierarchy::clean(&path);
        let mut dirs = Vec::with_capacity(mounted.len());
        for hierarchy in mounted {
            let base =
                own.as_ref().map_or(Ok(PathBuf::new()), |own| base(own, &hierarchy, version))?;
            let dir = Dir::locate(hierarchy, &base.join(&relative));
            // Before anything is stored from which a later delete could kill those processes.
            dir.ensure_unused().at("linux.cgroupsPath")?;
            dirs.push(dir);
        }
        Ok(Cgroup { version, dirs, unit: None })
    }

    /// No cgroup other than brig's own.
    pub fn none(version: Version) -> Cgroup {
        Cgroup { version, dirs: Vec::new(), unit: None }
    }

    /// `--cgroup-manager=disabled`, for hosts on which no cgroup can be created or none is mounted.
    pub fn disabled() -> Cgroup {
        // It has no directories any more.
        Cgroup::none(Version::V2)
    }

    /// Whether the container stays in brig's own cgroup.
    pub fn is_none(&self) -> bool {
        self.dirs.is_empty() && self.unit.is_none()
    }

    /// Its systemd unit.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Whether the directory did not exist before: brig or systemd has created it.
    fn is_new(&self, dir: &Dir) -> bool {
        dir.made > 0 || self.unit.is_some()
    }

    /// brig's own cgroups: what a container without cgroups of its own sees.
    pub fn of_brig() -> Result<Cgroup> {
        let Hierarchies { version, mounted } = hierarchy::detect()?;
        let own = ProcessCgroups::read()?;
        let dirs = mounted.into_iter().map(|hierarchy| {
            let path = hierarchy.mountpoint.join(own.within(&hierarchy)?);
            let Hierarchy { controllers, mountpoint, .. } = hierarchy;
            Ok(Dir { controllers, mountpoint, path, made: 0 })
        });
        Ok(Cgroup { version, dirs: dirs.collect::<Result<Vec<_>>>()?, unit: None })
    }

    /// The container's directories, one per hierarchy.
    pub fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// Opens the files to enter with: every v1 `tasks` file, and the cgroup v2 directory.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry { tasks: Vec::with_capacity(self.dirs.len()), into: None };
        for dir in &self.dirs {
            if dir.controllers.is_empty() {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                entry.into = Some(open_at(&dir.path, flags)?);
            } else {
                entry.tasks.push(dir.open_tasks()?);
            }
        }
        Ok(entry)
    }

    /// The contents of the container's `cgroup` mount.
    pub fn mounts(&self) -> Vec<CgroupMount<'_>> {
        self.dirs.iter().map(Dir::mount).collect()
    }

    /// The cgroups below the container's that `[CONTROLLERS:]PATH`s name: in the hierarchies of these
    /// controllers, or in all. They must exist.
    ///
    /// # Errors
    ///
    /// If a path leads out of the container's cgroup, a controller is unknown or given twice, or a cgroup
    /// does not exist.
    pub fn below(&self, paths: &[String]) -> Result<Cgroup> {
        let mut below = self.clone();
        let mut named: Vec<&str> = Vec::new();
        for given in paths {
            let (controllers, path) = match given.split_once(':') {
                Some((controllers, path)) => (Some(controllers), path),
                None => (None, given.as_str()),
            };
            ensure!(!self.is_none(), "--cgroup {given}: the container has no cgroup of its own");
            ensure!(
                controllers.is_some() || paths.len() == 1,
                "--cgroup {given}: with several --cgroup, each must name its controllers (CONTROLLERS:PATH)"
            );
            ensure!(
                hierarchy::stays_below(Path::new(path)),
                "--cgroup {given}: leads out of the container's cgroup"
            );
            let names: Vec<&str> = controllers.iter().flat_map(|names| names.split(',')).collect();
            for &name in &names {
                let known = self.dirs.iter().any(|dir| dir.has(name) && !name.is_empty());
                ensure!(
                    known,
                    "--cgroup {given}: the container is not in a hierarchy with controller {name:?}"
                );
                ensure!(
                    !named.contains(&name),
                    "--cgroup {given}: a path for {name} was given already"
                );
                named.push(name);
            }
            let relative = hierarchy::clean(Path::new(path));
            let meant = |dir: &Dir| controllers.is_none() || names.iter().any(|name| dir.has(name));
            for (dir, own) in below.dirs.iter_mut().zip(&self.dirs).filter(|(dir, _)| meant(dir)) {
                dir.path = own.path.join(&relative);
            }
        }
        Ok(below)
    }

    /// The files to enter the cgroups that `paths` name below the container's. If its own cgroup v2 directory
    /// no longer exists because init has moved itself elsewhere and removed it, init's current one is used,
    /// as in runc.
    pub fn entry_below(&self, paths: &[String], init: i32) -> Result<Entry> {
        let error = match self.below(paths)?.entry() {
            Err(error) if paths.is_empty() && errno_of(&error) == Some(Errno::ENOENT) => error,
            Err(error) if !paths.is_empty() => {
                return Err(error.context(format!("--cgroup {}", paths.join(" "))));
            }
            entry => return entry,
        };
        let found = hierarchy::detect()?;
        let Some(unified) = found.unified() else { return Err(error) };
        let path = unified.mountpoint.join(ProcessCgroups::of(&init.to_string())?.within(unified)?);
        let mut moved = self.clone();
        for dir in moved.dirs.iter_mut().filter(|dir| dir.controllers.is_empty()) {
            dir.path.clone_from(&path);
        }
        moved.entry().or(Err(error))
    }

    /// The files to enter the same cgroups, but on cgroup v2 the current one of `pid` below: once the container (e.g. systemd)
    /// has enabled controllers for cgroups of its own, no process can be in the one above them.
    pub fn entry_beside(&self, pid: i32) -> Result<Entry> {
        let mut entry = Entry { tasks: Vec::with_capacity(self.dirs.len()), into: None };
        for dir in &self.dirs {
            if dir.controllers.is_empty() {
                let found = tree::of_process(&dir.path, pid)?;
                let left = || format!("process {pid} has left cgroup {}", dir.path.display());
                entry.into = Some(found.with_context(left)?);
            } else {
                entry.tasks.push(dir.open_tasks()?);
            }
        }
        Ok(entry)
    }

    /// Whether the OOM killer has killed in the container. Unreadable counts as no.
    pub fn oom_killed(&self) -> bool {
        let (dir, file) = match (self.version, self.dir("memory")) {
            (_, Some(dir)) => (dir, "memory.oom_control"),
            (_, None) => match self.unified() {
                Some(dir) => (dir, "memory.events"),
                None => return false,
            },
        };
        let Ok(text) = hierarchy::read(&dir.path.join(file)) else { return false };
        String::from_utf8_lossy(&text)
            .lines()
            .filter_map(|line| line.strip_prefix("oom_kill "))
            .any(|count| count != "0")
    }

    /// The directory in the v1 hierarchy that has `controller`.
    fn dir(&self, controller: &str) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.controllers.split(',').any(|name| name == controller))
    }

    /// The directory in cgroup2.
    fn unified(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.controllers.is_empty())
    }
}

impl Entry {
    /// Moves the calling process into the v1 cgroups. This is the child's first step, so that everything it
    /// allocates later is charged there. Allocates nothing unless it fails.
    pub fn enter(&self, birth: Birth) -> Result<()> {
        if let (Some(dir), Birth::InParentsCgroup) = (&self.into, birth) {
            let procs =
                openat(dir, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            procs
                .and_then(|procs| nix::unistd::write(procs, b"0"))
                .context("enter cgroup: cgroup.procs")?;
        }
        for tasks in &self.tasks {
            if let Err(errno) = nix::unistd::write(tasks, b"0") {
                let file = std::fs::read_link(format!("/proc/self/fd/{}", tasks.as_raw_fd()));
                let file = file.unwrap_or_default();
                return Err(SysError::new(format!("write({}, \"0\")", file.display()), errno))
                    .or_else(|error| hint(error.into(), errno));
            }
        }
        Ok(())
    }
}

/// Explains why a process cannot be cloned into a cgroup2 directory ([`Entry::into`]).
pub fn explain_clone_error(error: SysError) -> anyhow::Error {
    let why = match error.errno {
        Errno::EAGAIN => "its pids limit, or another limit on processes, is reached",
        Errno::EBUSY => {
            "controllers are enabled for the cgroups below it, so it cannot contain processes"
        }
        Errno::EOPNOTSUPP => "it or a cgroup above it is threaded",
        Errno::ENODEV => "it has been removed in the meantime",
        Errno::EACCES => {
            "an unprivileged user can only enter it from another cgroup of their own: run brig with \
             `systemd-run --user --scope --property=Delegate=yes`"
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(format!("enter cgroup ({why})"))
}

fn hint(error: anyhow::Error, errno: Errno) -> Result<()> {
    Err(match errno {
        Errno::ENOSPC => error.context("enter cgroup (its cpuset is empty)"),
        Errno::EAGAIN => error.context("enter cgroup (its pids limit, or that of one above, is reached)"),
        Errno::EINVAL => error.context("enter cgroup (brig runs with a real-time policy, and the cgroup has no real-time share)"),
        _ => error.context("enter cgroup"),
    })
}

/// The directory that relative paths start at in `hierarchy`.
fn base(own: &ProcessCgroups, hierarchy: &Hierarchy, version: Version) -> Result<PathBuf> {
    let mut base = own.within(hierarchy)?;
    if version == Version::V2 {
        base.pop();
    }
    Ok(base)
}

impl Dir {
    fn locate(hierarchy: Hierarchy, relative: &Path) -> Dir {
        let Hierarchy { controllers, mountpoint, .. } = hierarchy;
        let path = if relative.as_os_str().is_empty() {
            mountpoint.clone()
        } else {
            mountpoint.join(relative)
        };
        let depth = relative.components().count();
        let made = path.ancestors().take(depth).take_while(|dir| missing(dir)).count();
        Dir { controllers, mountpoint, path, made }
    }
}

impl Dir {
    fn open_tasks(&self) -> Result<OwnedFd, SysError> {
        open_at(&self.path.join("tasks"), OFlag::O_WRONLY | OFlag::O_CLOEXEC)
    }

    fn mount(&self) -> CgroupMount<'_> {
        let name = self.mountpoint.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let controllers = self.controllers.as_str();
        let aliases = match controllers.contains(',') {
            true => controllers.split(',').filter(|&alias| alias != name).collect(),
            false => Vec::new(),
        };
        CgroupMount { controllers, name, aliases, dir: &self.path, mountpoint: &self.mountpoint }
    }
}

/// Whether the path does not exist, with a single access(2). If it may not be searched, mkdir reports it.
fn missing(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::F_OK) == Err(Errno::ENOENT)
}

fn open_at(path: &Path, flags: OFlag) -> Result<OwnedFd, SysError> {
    open(path, flags, Mode::empty())
        .map_err(|errno| SysError::new(format!("open({})", path.display()), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(controllers: &str, mountpoint: &str) -> Dir {
        let path = Path::new(mountpoint).join("brig/x");
        Dir { controllers: controllers.to_owned(), mountpoint: mountpoint.into(), path, made: 2 }
    }

    #[test]
    fn a_mount_is_named_like_the_hosts_with_a_link_for_each_controller() {
        let mounts = |controllers, mountpoint| {
            let dir = dir(controllers, mountpoint);
            let CgroupMount { name, aliases, .. } = dir.mount();
            (name.to_owned(), aliases.join(" "))
        };
        let pair = |name: &str, aliases: &str| (name.to_owned(), aliases.to_owned());
        let combined = mounts("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(combined, pair("cpu,cpuacct", "cpu cpuacct"));
        let odd = mounts("cpu,cpuacct", "/sys/fs/cgroup/cpu");
        assert_eq!(odd, pair("cpu", "cpuacct"));
        assert_eq!(mounts("memory", "/sys/fs/cgroup/memory"), pair("memory", ""));
        assert_eq!(mounts("name=systemd", "/sys/fs/cgroup/systemd"), pair("systemd", ""));
        assert_eq!(mounts("", "/sys/fs/cgroup/unified"), pair("unified", ""));
    }

    #[test]
    fn a_controller_is_found_in_the_hierarchy_it_shares() {
        let dirs = vec![dir("cpu,cpuacct", "/a"), dir("cpuset", "/b"), dir("", "/c")];
        let cgroup = Cgroup { version: Version::Hybrid, dirs, unit: None };
        let found = |controller| cgroup.dir(controller).map(|dir| dir.mountpoint.clone());
        assert_eq!(found("cpuacct"), Some("/a".into()));
        assert_eq!(found("cpuset"), Some("/b".into()));
        assert_eq!(found("memory"), None);
        assert_eq!(cgroup.unified().map(|dir| dir.path.clone()), Some("/c/brig/x".into()));
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let dirs = vec![dir("cpu,cpuacct", "/a"), dir("", "/c")];
        let cgroup = Cgroup { version: Version::Hybrid, dirs, unit: None };
        let text = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&text).unwrap(), cgroup);
        assert!(text.starts_with(r#"{"version":"hybrid","dirs":[["cpu,cpuacct","/a","#), "{text}");
    }
}
