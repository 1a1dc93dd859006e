//! A mount of type `cgroup`: on v1 a tmpfs with a mount for each hierarchy that the host has, on
//! cgroup2 that.

use super::Root;
use super::attach::{blame, new};
use super::source::apply;
use super::target::Target;
use crate::cgroup::{Cgroup, CgroupMount};
use crate::plan::mounts::{Filesystem, Mount};
use crate::plan::rootfs::Rootfs;
use crate::sys::Errno;
use crate::sys::mount::{self, Attr, clone_tree, move_mount, set_attr};
use anyhow::{Context, Result, anyhow};
use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// What a cgroup mount shows.
pub enum Cgroups {
    /// v1 hierarchies.
    V1(Vec<Hierarchy>),
    /// cgroup2.
    V2,
}

/// A v1 hierarchy.
pub struct Hierarchy {
    /// Its directory's name.
    name: CString,
    /// Names that lead there.
    aliases: Vec<CString>,
    show: Show,
}

/// How a hierarchy gets into the container.
enum Show {
    /// By mounting it: the cgroup namespace takes care of what is seen. These are its options.
    Mount(Vec<(CString, Option<CString>)>),
    /// By the container's own directory in it, a detached bind mount.
    Own(OwnedFd),
}

/// In the parent: finds out what to show, and opens it.
pub fn open(plan: &Rootfs, fs: &Filesystem, cgroup: &Cgroup) -> Result<Cgroups> {
    let mounts = cgroup.mounts();
    let v1: Vec<&CgroupMount<'_>> = mounts.iter().filter(|m| !m.controllers.is_empty()).collect();
    if v1.is_empty() {
        return Ok(Cgroups::V2);
    }
    let hierarchies = v1.into_iter().map(|mount| open_one(plan, fs, mount));
    Ok(Cgroups::V1(hierarchies.collect::<Result<Vec<_>>>()?))
}

fn open_one(plan: &Rootfs, fs: &Filesystem, mount: &CgroupMount<'_>) -> Result<Hierarchy> {
    let show = if plan.cgroup_namespace {
        let option = |word: &str| -> Result<(CString, Option<CString>)> {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(CString::new(value)?)),
                None => (word, None),
            };
            Ok((CString::new(key)?, value))
        };
        Show::Mount(mount.controllers.split(',').map(option).collect::<Result<Vec<_>>>()?)
    } else {
        let dir = CString::new(mount.dir.as_os_str().as_bytes())?;
        let tree = clone_tree(AT_FDCWD, &dir, false)?;
        let propagation = plan.propagation.sources.unwrap_or(0);
        set_attr(tree.as_fd(), false, Attr { set: fs.attr, clear: 0, propagation })?;
        Show::Own(tree)
    };
    let aliases = mount.aliases.iter().map(|&alias| CString::new(alias));
    let aliases = aliases.collect::<Result<Vec<_>, _>>()?;
    Ok(Hierarchy { name: CString::new(mount.name)?, aliases, show })
}

/// In the child: mounts it.
pub fn mount(
    root: &mut Root,
    mount: &Mount,
    fs: &Filesystem,
    target: &Target,
    cgroups: &Cgroups,
) -> Result<()> {
    match cgroups {
        Cgroups::V1(hierarchies) => mount_v1(mount, fs, target, hierarchies),
        Cgroups::V2 => new(root, mount, fs, c"cgroup2", target),
    }
}

fn mount_v1(
    mount: &Mount,
    fs: &Filesystem,
    target: &Target,
    hierarchies: &[Hierarchy],
) -> Result<()> {
    if let Some(param) = fs.params.first() {
        let unknown = anyhow!("{:?} is no option of cgroup v1's mounts", param.key);
        return Err(blame(unknown, mount, Some(param.option)));
    }
    let tmpfs = mount::Filesystem::open(c"tmpfs")?;
    tmpfs.set(c"source", Some(c"tmpfs"))?;
    tmpfs.set(c"mode", Some(c"0755"))?;
    let safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let tmpfs = tmpfs.mount((fs.attr | safe) & !MOUNT_ATTR_RDONLY)?;
    apply(tmpfs.as_fd(), &mount.steps)?;
    // Attached first: older kernels mount nothing on what is detached.
    move_mount(tmpfs.as_fd(), target.fd.as_fd())?;
    for hierarchy in hierarchies {
        show(tmpfs.as_fd(), hierarchy, fs.attr | safe)
            .with_context(|| hierarchy.name.to_string_lossy().into_owned())?;
    }
    if fs.attr & MOUNT_ATTR_RDONLY != 0 {
        let read_only = Attr { set: MOUNT_ATTR_RDONLY, ..Attr::default() };
        set_attr(tmpfs.as_fd(), false, read_only)?;
    }
    Ok(())
}

fn show(parent: BorrowedFd<'_>, hierarchy: &Hierarchy, attr: u64) -> Result<()> {
    let dir = make_dir(parent, &hierarchy.name)?;
    match &hierarchy.show {
        Show::Own(tree) => move_mount(tree.as_fd(), dir.as_fd())?,
        Show::Mount(options) => {
            let cgroup = mount::Filesystem::open(c"cgroup")?;
            cgroup.set(c"source", Some(c"cgroup"))?;
            for (key, value) in options {
                cgroup.set(key, value.as_deref())?;
            }
            move_mount(cgroup.mount(attr)?.as_fd(), dir.as_fd())?;
        }
    }
    for alias in &hierarchy.aliases {
        match symlinkat(hierarchy.name.as_c_str(), parent, alias.as_c_str()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).context("symlink"),
        }
    }
    Ok(())
}

fn make_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_bits_truncate(0o755)).context("mkdir")?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).context("open")
}
