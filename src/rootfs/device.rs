//! Devices, and the links of /dev that every container has.

use super::Root;
use super::kernel::{Kernel, Shown};
use super::source::HostDevices;
use crate::plan::devices::Device;
use crate::plan::rootfs::Rootfs;
use crate::spec::At;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::mount::move_mount;
use sys::path::{Links, make_dir_in, make_file_in, open_in};
use sys::{Errno, IfExists};

/// Not to /proc/thread-self: programs compare these links.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
];

/// Creates the devices of the plan, and the links if the container has its own /dev. Uses descriptors of
/// their directories: an image's /dev can be a link to anywhere (CVE-2026-41579).
pub fn make_all(root: &Root, plan: &Rootfs, of_host: HostDevices) -> Result<()> {
    let HostDevices { nodes, kcore } = of_host;
    let mut parent = None;
    let nodes = nodes.map(|nodes| nodes.mounts(root.fd.as_fd())).transpose()?.unwrap_or_default();
    for (index, device) in plan.devices.iter().enumerate() {
        let node = nodes.iter().find(|(of, _)| *of == index).map(|(_, node)| node.as_fd());
        make(root, device, node, &mut parent).map_err(|error| with_origin(error, device))?;
    }
    if plan.own_dev {
        root.hosts.may_make(root.fd.as_fd(), c"/dev")?;
        let dev = make_dir_in(root.fd.as_fd(), c"/dev")?;
        if !root.hosts.has(dev.as_fd())? {
            link(dev.as_fd(), kcore).context("links in /dev")?;
        }
    }
    Ok(())
}

/// Mounts the terminal on /dev/console. A symbolic link there is an error, because the image would choose
/// what is mounted over.
pub fn mount_console(root: &Root, terminal: BorrowedFd<'_>) -> Result<()> {
    let dev = make_dir_in(root.fd.as_fd(), c"/dev")?;
    let target = match open_in(dev.as_fd(), c"/console", OFlag::O_PATH, Links::Refuse) {
        Err(error) if error.errno == Errno::ENOENT => {
            ensure!(!root.hosts.has(dev.as_fd())?, "does not exist, and /dev belongs to the host");
            make_file_in(dev.as_fd(), c"/console")?
        }
        opened => opened?,
    };
    root.kernel.bind(&Shown::Fd(terminal), target.as_fd(), false)
}

fn with_origin(error: anyhow::Error, device: &Device) -> anyhow::Error {
    let error = error.context(device.path.to_string_lossy().into_owned());
    match &device.place {
        Some(place) => error.context(At::new(place)),
        None => error,
    }
}

/// The directory that a device is created in.
struct Parent<'a> {
    path: &'a [u8],
    fd: OwnedFd,
    /// Whether it belongs to the host.
    hosts: bool,
}

impl<'a> Parent<'a> {
    fn open(root: &Root, path: &'a [u8]) -> Result<Self> {
        let name = CString::new(path)?;
        root.hosts.may_make(root.fd.as_fd(), &name)?;
        let fd = make_dir_in(root.fd.as_fd(), &name)?;
        let hosts = root.hosts.has(fd.as_fd())?;
        Ok(Parent { path, fd, hosts })
    }
}

/// Creates a device. `node` is the mount of one that the parent has created. `parent` is the directory of the
/// previous device, usually the same.
fn make<'a>(
    root: &Root,
    device: &'a Device,
    node: Option<BorrowedFd<'_>>,
    parent: &mut Option<Parent<'a>>,
) -> Result<()> {
    let (path, name) = split(&device.path);
    let parent = match parent {
        Some(parent) if parent.path == path => parent,
        _ => &mut *parent.insert(Parent::open(root, path)?),
    };
    let dir = parent.fd.as_fd();
    if parent.hosts {
        return look_for(dir, name, device);
    }
    let mode = Mode::from_bits_truncate(device.mode);
    match mknodat(dir, name, device.kind, mode, device.number) {
        Ok(()) => give_away(dir, name, device),
        // config-linux.md, Devices: an existing file must be the configured device.
        Err(Errno::EEXIST) => {
            let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            ensure!(is(&found.context("fstatat")?, device), "exists and is not this device");
            Ok(())
        }
        // Not permitted here, in a user namespace or under a stricter device cgroup: use the parent's or the
        // host's.
        Err(Errno::EPERM) => match node {
            Some(node) => Ok(move_mount(node, make_target(dir, name)?.as_fd())?),
            None => bind(&root.kernel, dir, name, device),
        },
        Err(errno) => Err(errno).context("mknod"),
    }
}

/// In a directory of the host no device is created: a configured one must exist.
fn look_for(dir: BorrowedFd<'_>, name: &[u8], device: &Device) -> Result<()> {
    if device.place.is_none() {
        return Ok(());
    }
    let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    let found = found.context("cannot be created in a directory of the host (root.path)")?;
    ensure!(is(&found, device), "exists and is not this device");
    Ok(())
}

/// Splits an absolute path into its directory and last component.
fn split(path: &CStr) -> (&[u8], &[u8]) {
    let path = path.to_bytes();
    let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    (&path[..slash.max(1)], &path[slash + 1..])
}

pub(super) fn is(stat: &FileStat, device: &Device) -> bool {
    let kind = sys::file::kind(stat.st_mode) == device.kind;
    kind && (device.kind == SFlag::S_IFIFO || stat.st_rdev == device.number)
}

/// Sets the owner of the new file, and not of a file that has since replaced it.
fn give_away(dir: BorrowedFd<'_>, name: &[u8], device: &Device) -> Result<()> {
    if device.uid == 0 && device.gid == 0 {
        return Ok(());
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let node = openat(dir, name, flags, Mode::empty()).context("open")?;
    ensure!(is(&fstat(&node).context("fstat")?, device), "was replaced while it was being created");
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    fchownat(&node, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).context("chown")
}

/// Bind mounts the host's device of the same path.
fn bind(kernel: &Kernel, dir: BorrowedFd<'_>, name: &[u8], device: &Device) -> Result<()> {
    let host = open(device.path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    let found = fstat(
        host.context("mknod: Operation not permitted, and the host has no such device node")?,
    )
    .context("fstat")?;
    ensure!(
        is(&found, device),
        "mknod: Operation not permitted, and the host's node is a different device"
    );
    let target = make_target(dir, name)?;
    kernel.bind(&Shown::Path(&device.path), target.as_fd(), false)
}

fn make_target(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).context("create a file to mount it on")
}

fn link(dev: BorrowedFd<'_>, kcore: bool) -> Result<()> {
    let core = kcore.then_some((c"core", c"/proc/kcore"));
    for (name, target) in LINKS.into_iter().chain(core) {
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).with_context(|| name.to_string_lossy().into_owned()),
        }
    }
    // The image's ptmx may be the host's: only the container's own may be used.
    let removed = unlinkat(dev, c"ptmx", UnlinkatFlags::NoRemoveDir);
    removed.if_exists().context("replace ptmx")?;
    symlinkat(c"pts/ptmx", dev, c"ptmx").context("ptmx")
}
