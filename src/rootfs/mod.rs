//! The container's root filesystem, by file descriptors: layers, mounts, devices, pivot, masks.
//!
//! No path in the container is trusted: an image can contain any link, and a volume shared by containers can
//! change at any time. So a target is looked up once, beneath the root, and then used as a descriptor; mounts
//! are detached, and complete before they become visible.

mod attach;
mod cgroup;
mod copy_up;
mod device;
pub mod extra_mounts;
mod hosts;
mod kernel;
mod made;
mod mapped;
mod mask;
mod nodes;
mod overlay;
mod pivot;
mod source;
pub mod staged;
mod target;

pub use nodes::host_lacks_any;
pub use source::{Sources, Users};

use crate::plan::mounts::{Kind, clean};
use crate::plan::rootfs::{Jail, Rootfs};
use crate::spec::Place;
use anyhow::{Context, Result};
use hosts::Hosts;
use kernel::Kernel;
use libc::{MOUNT_ATTR_RDONLY, MS_BIND, MS_REC, MS_SLAVE};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::mount::{self, Attr};
use sys::path::make_dir_in;
use sys::{Errno, SysError, errno_of};

const READ_ONLY: Attr = Attr { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };

/// A root filesystem with everything that the config requests.
pub struct Root {
    kernel: Kernel,
    /// Its mount; without a mount namespace for the container, its directory.
    fd: OwnedFd,
    /// The upper in memory, until it is moved to its final place.
    parked: Option<OwnedFd>,
    /// Mounts that become read-only at the end.
    late: Vec<OwnedFd>,
    /// Differences from the config.
    warnings: Vec<String>,
    /// The parts that belong to the host, and are not changed.
    hosts: Hosts,
}

/// Mounts the root filesystem at `root.path` and everything in it: called by the child, in its own mount
/// namespace, while the host's root is still the root. `in_cgroup` is called, possibly more than once, before
/// steps that need the child to be in its cgroup, because they show it or use memory.
pub fn mount(
    plan: &Rootfs,
    sources: Sources,
    in_cgroup: &mut dyn FnMut() -> Result<()>,
) -> Result<Root> {
    let before = umask(Mode::empty());
    let root = mount_all(plan, sources, in_cgroup);
    umask(before);
    root
}

fn mount_all(
    plan: &Rootfs,
    sources: Sources,
    in_cgroup: &mut dyn FnMut() -> Result<()>,
) -> Result<Root> {
    if matches!(plan.jail, Jail::Pivot | Jail::Move) {
        // Not private: the host could not unmount filesystems that this namespace still holds. From here on,
        // mounts and unmounts below the host's root do not propagate to the host.
        mount::mount(None, c"/", None, MS_SLAVE | MS_REC, None).map_err(no_mount)?;
    }
    let Sources { modern, root, layers, mounts, devices } = sources;
    let mut kernel = Kernel::new(modern)?;
    let (fd, parked) = match (&plan.overlay, root) {
        (Some(overlay), _) => {
            let layers = layers.as_ref();
            overlay::mount(&kernel, overlay, layers, &plan.path, plan.label.as_ref())?
        }
        (None, Some(fd)) => (attach_root(&kernel, plan, fd).at("root.path")?, None),
        (None, None) => anyhow::bail!("no root filesystem"),
    };
    kernel.set_root(fd.as_fd())?;
    let hosts = Hosts::of(fd.as_fd())?;
    let mut root = Root { kernel, fd, parked, late: Vec::new(), warnings: Vec::new(), hosts };
    for (mount, source) in plan.mounts.iter().zip(&mounts) {
        match &mount.kind {
            Kind::Cgroup(_) => in_cgroup()?,
            Kind::Filesystem(fs) if fs.copy_up.is_some() => in_cgroup()?,
            Kind::Filesystem(_) | Kind::Bind { .. } | Kind::Remount { .. } => {}
        }
        let attached = attach::attach(&mut root, mount, source);
        let attached = attached.map_err(|error| explain(error, plan.jail));
        attached.map_err(|error| attach::with_origin(error, mount, None))?;
    }
    in_cgroup()?;
    root.place_upper_somewhere().context("move the upper out of sight")?;
    device::make_all(&root, plan, devices)?;
    Ok(root)
}

/// Explains why nothing can be mounted, e.g. after chroot(1) into a directory: mounts below it would be
/// visible on the host, and could not be moved.
fn no_mount(error: SysError) -> anyhow::Error {
    match error.errno {
        Errno::EINVAL => anyhow::Error::from(error).context(
            "the root directory that brig runs in is not a mount point: bind bind bind bind bind bind bind bind bind mount it over itself (mount --bind) before chroot",
        ),
        _ => error.into(),
    }
}

/// Adds that mounting on a detached mount needs Linux 6.15.
fn explain(error: anyhow::Error, jail: Jail) -> anyhow::Error {
    match errno_of(&error) {
        Some(Errno::EINVAL) if jail == Jail::Detached => {
            error.context("mounts without a mount namespace of their own need Linux 6.15")
        }
        _ => error,
    }
}

/// Bind mounts the root filesystem on itself, because the new root must be a mount.
fn attach_root(kernel: &Kernel, plan: &Rootfs, root: OwnedFd) -> Result<OwnedFd> {
    let path = CString::new(plan.path.as_os_str().as_bytes())?;
    match (plan.jail, kernel) {
        (Jail::Chroot | Jail::Detached, _) => Ok(root),
        (_, Kernel::New) => {
            mount::move_mount_to(root.as_fd(), &path)?;
            Ok(root)
        }
        (_, Kernel::Old(_)) => {
            mount::mount(Some(&path), &path, None, MS_BIND | MS_REC, None)?;
            let root = overlay::directory(&path)?;
            kernel.apply(root.as_fd(), &plan.propagation.steps())?;
            Ok(root)
        }
    }
}

impl Root {
    /// Differences from the config.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Creates a directory and its missing parents.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        let path = CString::new(clean(path.as_os_str().as_bytes()))?;
        self.hosts.may_make(self.fd.as_fd(), &path)?;
        make_dir_in(self.fd.as_fd(), &path)?;
        Ok(())
    }

    /// Runs an operation with it as the working directory.
    pub fn while_inside<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let before =
            open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .context("open the working directory")?;
        nix::unistd::fchdir(&self.fd).context("fchdir to the root filesystem")?;
        let done = act();
        nix::unistd::fchdir(&before).context("fchdir")?;
        done
    }

    /// Makes it the root of this process.
    pub fn pivot(&self, plan: &Rootfs) -> Result<()> {
        pivot::enter(&self.kernel, self.fd.as_fd(), plan)
    }

    /// Mounts the process's terminal on /dev/console (config-linux.md, Default Devices).
    pub fn mount_console(&self, terminal: BorrowedFd<'_>) -> Result<()> {
        device::mount_console(self, terminal).context("mount the terminal on /dev/console")
    }

    /// Makes mounts read-only when nothing has to be created in them any more.
    fn protect_late(&self) -> Result<()> {
        for mount in &self.late {
            self.kernel.set(mount.as_fd(), false, READ_ONLY).context("make a mount read-only")?;
        }
        Ok(())
    }

    /// Applies masked and read-only paths: called after [`Root::pivot`], when nothing has to be created or
    /// written in the root any more.
    pub fn finish(self, plan: &Rootfs) -> Result<()> {
        self.protect_late()?;
        if plan.readonly {
            self.kernel.set(self.fd.as_fd(), false, READ_ONLY).at("root.readonly")?;
        }
        mask::make_readonly(&self.kernel, &plan.readonly_paths)?;
        mask::mask(&self.kernel, &plan.masked, plan.label.as_ref())?;
        // Last: mounts made later would propagate, or would not be possible at all.
        if let Some(propagation) = plan.propagation.last {
            let attr = Attr { propagation, ..Attr::default() };
            self.kernel.set(self.fd.as_fd(), false, attr).at("linux.rootfsPropagation")?;
        }
        if let Kernel::Old(_) = self.kernel {
            // Leave the host's /proc.
            nix::unistd::chdir("/").context("chdir(/)")?;
        }
        Ok(())
    }
}
