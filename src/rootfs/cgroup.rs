//! A mount of type `cgroup`: on v1 a tmpfs with a mount for each hierarchy of the host, on cgroup v2 the
//! hierarchy.

use super::Root;
use super::attach::{new, with_origin};
use super::kernel::{Kernel, NewFilesystem, Shown, option};
use super::target::Target;
use crate::cgroup::{Cgroup, CgroupMount};
use crate::plan::lsm::MountLabel;
use crate::plan::mount_options::Step;
use crate::plan::mounts::{Filesystem, Mount};
use crate::plan::rootfs::Rootfs;
use anyhow::{Context, Result, anyhow};
use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::Errno;
use sys::mount::{Attr, clone_tree, move_mount};

/// The contents of a cgroup mount.
pub enum Cgroups {
    /// v1 hierarchies.
    V1(Vec<Hierarchy>),
    /// cgroup2.
    V2,
    /// The host's mount of cgroup v2. Without a cgroup namespace the container sees the host's paths, and in
    /// a user namespace it may not mount cgroup v2 itself.
    Host(Bind),
}

/// A v1 hierarchy.
pub struct Hierarchy {
    /// Its directory's name.
    name: CString,
    /// Symbolic links to it.
    aliases: Vec<CString>,
    show: Show,
}

/// How a hierarchy is mounted in the container.
enum Show {
    /// As a new mount: the cgroup namespace determines what is visible. These are its options.
    Mount(Vec<(CString, Option<CString>)>),
    /// As a bind mount of the container's own directory in it.
    Own(Bind),
}

/// A bind mount of a host directory.
pub struct Bind {
    /// Detached and complete, except on an old kernel.
    tree: Option<OwnedFd>,
    /// The directory.
    dir: CString,
    /// The attributes to set on the mount.
    steps: Vec<Step>,
}

/// In the parent: resolves what to show, and opens it.
pub fn open(plan: &Rootfs, fs: &Filesystem, cgroup: &Cgroup, modern: bool) -> Result<Cgroups> {
    let of_brig = cgroup.dirs().is_empty().then(Cgroup::of_brig).transpose()?;
    let mounts = of_brig.as_ref().unwrap_or(cgroup).mounts();
    let v1: Vec<&CgroupMount<'_>> = mounts.iter().filter(|m| !m.controllers.is_empty()).collect();
    if let (true, Some(v2)) = (v1.is_empty() && !plan.cgroup_namespace, mounts.first()) {
        return Ok(Cgroups::Host(Bind::open(plan, fs, v2.mountpoint, modern)?));
    }
    if v1.is_empty() {
        return Ok(Cgroups::V2);
    }
    let hierarchies = v1.into_iter().map(|mount| open_one(plan, fs, mount, modern));
    Ok(Cgroups::V1(hierarchies.collect::<Result<Vec<_>>>()?))
}

fn open_one(
    plan: &Rootfs,
    fs: &Filesystem,
    mount: &CgroupMount<'_>,
    modern: bool,
) -> Result<Hierarchy> {
    let show = if plan.cgroup_namespace {
        Show::Mount(mount.controllers.split(',').map(option).collect::<Result<Vec<_>>>()?)
    } else {
        Show::Own(Bind::open(plan, fs, mount.dir, modern)?)
    };
    let aliases = mount.aliases.iter().map(|&alias| CString::new(alias));
    let aliases = aliases.collect::<Result<Vec<_>, _>>()?;
    Ok(Hierarchy { name: CString::new(mount.name)?, aliases, show })
}

impl Bind {
    fn open(plan: &Rootfs, fs: &Filesystem, dir: &Path, modern: bool) -> Result<Bind> {
        let dir = CString::new(dir.as_os_str().as_bytes())?;
        let propagation = plan.propagation.sources.unwrap_or(0);
        let attr = Attr { set: fs.attr, clear: 0, propagation };
        let steps = vec![Step { recursive: false, attr }];
        let tree = if modern { Some(clone_tree(AT_FDCWD, &dir, false)?) } else { None };
        if let Some(tree) = &tree {
            Kernel::New.apply(tree.as_fd(), &steps)?;
        }
        Ok(Bind { tree, dir, steps })
    }

    /// Mounts it on `target`, with these additional changes.
    fn put(&self, kernel: &Kernel, target: BorrowedFd<'_>, more: &[Step]) -> Result<()> {
        if let Some(tree) = &self.tree {
            kernel.apply(tree.as_fd(), more)?;
            return Ok(move_mount(tree.as_fd(), target)?);
        }
        let steps = [self.steps.as_slice(), more].concat();
        kernel.bind_with(&Shown::Path(&self.dir), target, false, |made| kernel.apply(made, &steps))
    }
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
        Cgroups::V1(hierarchies) => mount_v1(root, mount, fs, target, hierarchies),
        Cgroups::V2 => new(root, mount, fs, c"cgroup2", target),
        Cgroups::Host(bind) => {
            refuse_options(mount, fs, "cgroup v2's mount without a cgroup namespace")?;
            bind.put(&root.kernel, target.fd.as_fd(), &mount.steps)
        }
    }
}

fn refuse_options(mount: &Mount, fs: &Filesystem, of: &str) -> Result<()> {
    let Some(param) = fs.params.first() else { return Ok(()) };
    let unknown = anyhow!("{:?} is not an option of {of}", param.key);
    Err(with_origin(unknown, mount, Some(param.option)))
}

fn mount_v1(
    root: &Root,
    mount: &Mount,
    fs: &Filesystem,
    target: &Target,
    hierarchies: &[Hierarchy],
) -> Result<()> {
    refuse_options(mount, fs, "cgroup v1's mounts")?;
    let kernel = &root.kernel;
    let safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let options: Vec<_> = [option("mode=0755")?]
        .into_iter()
        .chain(fs.label.as_ref().map(MountLabel::option))
        .collect();
    let new = NewFilesystem {
        fstype: c"tmpfs",
        source: c"tmpfs",
        options: &options,
        attr: (fs.attr | safe) & !MOUNT_ATTR_RDONLY,
    };
    // Attached while it is still empty: older kernels cannot mount on a detached mount.
    let tmpfs = kernel.mount(&new, target.fd.as_fd())?;
    kernel.apply(tmpfs.as_fd(), &mount.steps)?;
    for hierarchy in hierarchies {
        show(kernel, tmpfs.as_fd(), hierarchy, fs.attr | safe)
            .with_context(|| hierarchy.name.to_string_lossy().into_owned())?;
    }
    if fs.attr & MOUNT_ATTR_RDONLY != 0 {
        let read_only = Attr { set: MOUNT_ATTR_RDONLY, ..Attr::default() };
        kernel.set(tmpfs.as_fd(), false, read_only)?;
    }
    Ok(())
}

fn show(kernel: &Kernel, parent: BorrowedFd<'_>, hierarchy: &Hierarchy, attr: u64) -> Result<()> {
    let name = hierarchy.name.as_c_str();
    mkdirat(parent, name, Mode::from_bits_truncate(0o755)).context("mkdir")?;
    let dir = open_dir(parent, name)?;
    match &hierarchy.show {
        Show::Own(bind) => bind.put(kernel, dir.as_fd(), &[])?,
        Show::Mount(options) => {
            let new = NewFilesystem { fstype: c"cgroup", source: c"cgroup", options, attr };
            kernel.mount(&new, dir.as_fd())?;
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

fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).context("open")
}
