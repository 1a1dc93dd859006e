//! Host files for the root filesystem, opened before anything is mounted: by the child, so that they are in
//! its mount namespace, or by the parent if the child has no access.

use super::cgroup::{self, Cgroups};
use super::kernel::{Kernel, attributes};
use super::mapped::Mapped;
use super::nodes::Nodes;
use super::overlay;
use crate::cgroup::Cgroup;
use crate::plan::bind::Refused;
use crate::plan::mount_options::Step;
use crate::plan::mounts::{Kind, Mount};
use crate::plan::rootfs::{Jail, Rootfs};
use crate::spec::{At, Place};
use anyhow::{Context, Result, anyhow, ensure};
use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME,
};
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::idmap::IdMaps;
use sys::mount::{Attr, clone_tree, is_complete, open_tree, set_id_map};
use sys::mountinfo::mounts;
use sys::path::{Links, open_in};
use sys::{Errno, SysError, errno_of};

/// All host files for the root filesystem, as descriptors.
pub struct Sources {
    /// Whether the kernel mounts by descriptor. Otherwise a source is only an open file or directory.
    pub(super) modern: bool,
    /// `root.path` as a detached mount, or as a directory if nothing can be mounted.
    pub(super) root: Option<OwnedFd>,
    /// The layers as detached mounts, if they are id-mapped.
    pub(super) layers: Option<Mapped>,
    /// One for each mount of the plan.
    pub(super) mounts: Vec<Source>,
    /// The parts of /dev that depend on the host.
    pub(super) devices: HostDevices,
}

/// The parts of /dev that depend on the host.
pub(super) struct HostDevices {
    /// Devices that the container may not create itself, and the host does not have.
    pub(super) nodes: Option<Nodes>,
    /// Whether the host has /proc/kcore: then the container gets it too.
    pub(super) kcore: bool,
}

/// User namespaces for id-mapped mounts of the root filesystem.
#[derive(Debug, Default)]
pub struct Users {
    /// For each mount of the plan, if it is to be id-mapped.
    pub mounts: Vec<Option<OwnedFd>>,
    /// For the layers, if they are id-mapped.
    pub layers: Option<OwnedFd>,
    /// The id maps for devices, if the parent creates any.
    pub devices: Option<IdMaps>,
}

/// The source of a mount.
pub(super) enum Source {
    /// None: a new filesystem, or a remount.
    None,
    /// A detached mount, complete. Since Linux 6.8 it appears before all others in mountinfo.
    Detached(OwnedFd),
    /// A source to be mounted later, in the order of the config.
    Open(OwnedFd),
    /// A file of the root filesystem, looked up in the order of the config; with the user namespace for its
    /// id map.
    Inside(Option<OwnedFd>),
    /// The host's cgroup hierarchies.
    Cgroup(Cgroups),
    /// A symbolic link to create, with this target.
    Link(CString),
}

impl Sources {
    /// Opens them. The container's cgroup directories must exist already. `here`: they will be mounted in
    /// this mount namespace, so they can be cloned later.
    pub fn open(plan: &Rootfs, cgroup: &Cgroup, users: &Users, here: bool) -> Result<Self> {
        let modern = is_complete();
        if !modern && plan.jail == Jail::Detached {
            Err(anyhow!("mounts without a mount namespace of their own need Linux 6.15"))
                .at("linux.namespaces")?;
        }
        if !modern && plan.propagation.sources.is_none() {
            let old = || anyhow!("needs mount_setattr(2), which requires Linux 5.12");
            Err(old()).at("linux.rootfsPropagation")?;
        }
        let root = match &plan.overlay {
            Some(layers) => {
                overlay::prepare(layers, &plan.path)?;
                None
            }
            None => Some(open_root(plan, modern).at("root.path")?),
        };
        let layers = match &plan.overlay {
            Some(overlay) if overlay.id_mapped => {
                let user = users.layers.as_ref();
                let user = user.context("id-mapped layers need root privileges on the host")?;
                Some(Mapped::open(overlay, user.as_fd(), modern)?)
            }
            _ => None,
        };
        let opening = Opening { plan, cgroup, modern, here };
        let mounts = plan.mounts.iter().map(|mount| opening.open(mount));
        let mut mounts = mounts.collect::<Result<Vec<_>>>()?;
        for ((mount, source), user) in plan.mounts.iter().zip(&mut mounts).zip(&users.mounts) {
            let (Some(map), Some(user)) = (&mount.id_map, user) else { continue };
            match source {
                Source::Detached(tree) | Source::Open(tree) => {
                    map_ids(tree.as_fd(), map.recursive, user.as_fd(), modern).at(&map.place)?;
                }
                Source::Inside(kept) => *kept = Some(user.try_clone()?),
                Source::None | Source::Cgroup(_) | Source::Link(_) => {}
            }
        }
        let nodes = users.devices.as_ref().map(|ids| Nodes::make(plan, ids)).transpose()?.flatten();
        let kcore = plan.own_dev && Path::new("/proc/kcore").exists();
        Ok(Sources { modern, root, layers, mounts, devices: HostDevices { nodes, kcore } })
    }
}

fn open_root(plan: &Rootfs, modern: bool) -> Result<OwnedFd> {
    let path = plan.path.as_os_str().as_bytes();
    let what = || plan.path.display().to_string();
    if plan.jail == Jail::Chroot || !modern {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        return open(path, flags, Mode::empty()).with_context(what);
    }
    // The trailing dot requires it to be a directory.
    let dot = CString::new([path, b"/."].concat())?;
    let root = clone_tree(AT_FDCWD, &dot, true);
    let root =
        root.map_err(|error| SysError::new(format!("open_tree({})", what()), error.errno))?;
    Kernel::New.apply(root.as_fd(), &plan.propagation.steps())?;
    Ok(root)
}

/// How the source of each mount is opened.
struct Opening<'a> {
    plan: &'a Rootfs,
    /// The cgroup directories that a cgroup mount shows.
    cgroup: &'a Cgroup,
    /// Whether the kernel mounts by descriptor.
    modern: bool,
    /// Whether they will be mounted in this mount namespace: then they can be cloned later.
    here: bool,
}

impl Opening<'_> {
    fn open(&self, mount: &Mount) -> Result<Source> {
        match &mount.kind {
            Kind::Bind { inside: Some(_), .. } => Ok(Source::Inside(None)),
            Kind::Bind { source, .. } if mount.links.copy || mount.links.source => {
                self.link(mount, source).at(format!("{}.source", mount.place()))
            }
            Kind::Bind { source, recursive, .. } => {
                // Mounts do not propagate to the host from a slave, which all mounts here will become soon.
                let reaches_host = self.plan.propagation.sources.is_none();
                let opened = match self.modern && (!self.here || reaches_host) {
                    true => clone_bind(AT_FDCWD, source, mount, *recursive).map(Source::Detached),
                    false => open_bind(mount, source, self.modern).map(Source::Open),
                };
                // An error about an option has its own place.
                opened.map_err(|error| match error.is::<At>() {
                    true => error,
                    false => error.context(At::new(format!("{}.source", mount.place()))),
                })
            }
            Kind::Cgroup(fs) => {
                let cgroups = cgroup::open(self.plan, fs, self.cgroup, self.modern);
                cgroups.at(mount.place()).map(Source::Cgroup)
            }
            Kind::Filesystem(_) | Kind::Remount { .. } => Ok(Source::None),
        }
    }

    /// A source that may be a symbolic link, which is not followed.
    fn link(&self, mount: &Mount, source: &CStr) -> Result<Source> {
        let what = || source.to_string_lossy().into_owned();
        if mount.links.copy {
            match nix::fcntl::readlink(source) {
                Ok(target) => return Ok(Source::Link(CString::new(target.into_vec())?)),
                Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno).with_context(what),
            }
        }
        ensure!(
            self.modern,
            "src-nofollow and copy-symlink need mount_setattr(2), which requires Linux 5.12"
        );
        let nofollow = if mount.links.source { OFlag::O_NOFOLLOW } else { OFlag::empty() };
        let file = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC | nofollow, Mode::empty());
        let file = file.with_context(what)?;
        if self.here {
            return Ok(Source::Open(file));
        }
        let recursive = matches!(mount.kind, Kind::Bind { recursive: true, .. });
        clone_bind(file.as_fd(), c"", mount, recursive).map(Source::Detached)
    }
}

/// A complete detached mount of a bind mount's source.
pub(super) fn clone_bind(
    dir: BorrowedFd<'_>,
    path: &CStr,
    mount: &Mount,
    recursive: bool,
) -> Result<OwnedFd> {
    let tree = clone_tree(dir, path, recursive)?;
    if mount.target.as_c_str() == c"/proc" {
        ensure_proc(tree.as_fd())?;
    }
    set_flags(&Kernel::New, tree.as_fd(), mount)?;
    Ok(tree)
}

/// Sets the propagation and flags of a bind mount.
pub(super) fn set_flags(kernel: &Kernel, tree: BorrowedFd<'_>, mount: &Mount) -> Result<()> {
    let changes_flags = mount.steps.iter().any(|step| step.attr.set | step.attr.clear != 0);
    if !changes_flags || !mount.source_flags.locked {
        match kernel.apply(tree, &mount.steps) {
            // brig itself is in a user namespace, in which the kernel has locked the source's flags.
            Err(error) if changes_flags && errno_of(&error) == Some(Errno::EPERM) => {}
            done => return done,
        }
    }
    let mut source = attributes(tree)?;
    if source & MOUNT_ATTR_RDONLY != 0 && !is_mount_read_only(kernel, tree)? {
        source &= !MOUNT_ATTR_RDONLY;
    }
    let flags = &mount.source_flags;
    let explain = |refused: Refused, what: &str| {
        let text = "a user namespace may not clear it";
        let error = anyhow!("{what} is mounted {}: {text}", refused.flag);
        error.context(At::new(format!("{}.options[{}]", mount.place(), refused.option)))
    };
    let steps = flags.keep(&mount.steps, source);
    let steps = steps.map_err(|refused| explain(refused, "the source"))?;
    let recursive = |step: &&Step| step.recursive && step.attr.set | step.attr.clear != 0;
    let below: Vec<Step> = steps.iter().filter(recursive).copied().collect();
    if let (Kind::Bind { source, inside: None, .. }, false) = (&mount.kind, below.is_empty()) {
        for (point, attributes) in mounts_below(source)? {
            let kept = flags.keep_of_mount(&below, attributes);
            kept.map_err(|refused| explain(refused, &point.display().to_string()))?;
        }
    }
    kernel.apply(tree, &steps)
}

/// The mounts below a directory of the host, and their attributes, also of those that are hidden: root in the
/// container might unmount what hides them.
fn mounts_below(source: &CStr) -> Result<Vec<(PathBuf, u64)>> {
    let source = Path::new(OsStr::from_bytes(source.to_bytes()));
    let source = source.canonicalize().with_context(|| source.display().to_string())?;
    let text = sys::hierarchy::read(Path::new("/proc/self/mountinfo"))?;
    let mounts = mounts(&text).map(|mount| (mount.point(), attributes_of(mount.options)));
    Ok(mounts.filter(|(point, _)| *point != source && point.starts_with(&source)).collect())
}

/// The attributes that mountinfo shows.
fn attributes_of(options: &[u8]) -> u64 {
    const NAMES: [(&[u8], u64); 6] = [
        (b"ro", MOUNT_ATTR_RDONLY),
        (b"nosuid", MOUNT_ATTR_NOSUID),
        (b"nodev", MOUNT_ATTR_NODEV),
        (b"noexec", MOUNT_ATTR_NOEXEC),
        (b"noatime", MOUNT_ATTR_NOATIME),
        (b"nodiratime", MOUNT_ATTR_NODIRATIME),
    ];
    let has = |name: &[u8]| options.split(|&byte| byte == b',').any(|option| option == name);
    let named = NAMES.iter().filter(|(name, _)| has(name)).fold(0, |all, (_, flag)| all | flag);
    // Neither noatime nor relatime is strictatime.
    let strict = named & MOUNT_ATTR_NOATIME == 0 && !has(b"relatime");
    if strict { named | MOUNT_ATTR_STRICTATIME } else { named }
}

/// Whether the mount is read-only, not just its filesystem: then making it writable has an effect.
fn is_mount_read_only(kernel: &Kernel, tree: BorrowedFd<'_>) -> Result<bool> {
    let writable = Attr { clear: MOUNT_ATTR_RDONLY, ..Attr::default() };
    if kernel.set(tree, false, writable).is_err() {
        return Ok(true);
    }
    let was = attributes(tree)? & MOUNT_ATTR_RDONLY == 0;
    if was {
        kernel.set(tree, false, Attr { set: MOUNT_ATTR_RDONLY, ..Attr::default() })?;
    }
    Ok(was)
}

/// The detached mount of a source inside the root filesystem; `user` contains its id map.
pub(super) fn clone_inside(
    root: BorrowedFd<'_>,
    mount: &Mount,
    path: &CStr,
    user: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd> {
    let recursive = matches!(mount.kind, Kind::Bind { recursive: true, .. });
    let file = open_inside(root, mount, path)?;
    let tree = clone_bind(file.as_fd(), c"", mount, recursive)?;
    if let (Some(map), Some(user)) = (&mount.id_map, user) {
        map_ids(tree.as_fd(), map.recursive, user, true).at(&map.place)?;
    }
    Ok(tree)
}

/// Opens a source inside the root filesystem as mounted so far; a symbolic link itself if the options say so.
pub(super) fn open_inside(root: BorrowedFd<'_>, mount: &Mount, path: &CStr) -> Result<OwnedFd> {
    let open = || -> Result<OwnedFd> {
        let nofollow = match mount.links.source || mount.links.copy {
            true => OFlag::O_NOFOLLOW,
            false => OFlag::empty(),
        };
        let file = open_in(root, path, OFlag::O_PATH | nofollow, Links::Follow)
            .context("in the root filesystem as mounted so far")?;
        if mount.target.as_c_str() == c"/proc" {
            ensure_proc(file.as_fd())?;
        }
        Ok(file)
    };
    open().at(format!("{}.source", mount.place()))
}

fn open_bind(mount: &Mount, source: &CStr, modern: bool) -> Result<OwnedFd> {
    let file = match modern {
        // Unlike open(2), it triggers automounts.
        true => open_tree(source)?,
        false => open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .with_context(|| source.to_string_lossy().into_owned())?,
    };
    if mount.target.as_c_str() == c"/proc" {
        ensure_proc(file.as_fd())?;
    }
    Ok(file)
}

pub(super) fn map_ids(
    tree: BorrowedFd<'_>,
    recursive: bool,
    user: BorrowedFd<'_>,
    modern: bool,
) -> Result<()> {
    ensure!(modern, "needs mount_setattr(2), which requires Linux 5.12");
    set_id_map(tree, recursive, user).map_err(|error| match error.errno {
        Errno::EINVAL => anyhow!(error).context("its filesystem does not support id-mapped mounts"),
        _ => error.into(),
    })
}

/// See [`crate::plan::mounts::check_proc`].
pub(super) fn ensure_proc(tree: BorrowedFd<'_>) -> Result<()> {
    let kind = fstatfs(tree).context("fstatfs")?.filesystem_type();
    ensure!(kind == PROC_SUPER_MAGIC, "only a proc filesystem can be mounted on /proc");
    Ok(())
}
