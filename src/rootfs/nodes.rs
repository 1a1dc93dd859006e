//! Device nodes for a container in a user namespace, which may not create any, if the host has no node to
//! bind mount: the parent creates them on a filesystem of their own, and the child mounts each of them.

use super::device::is;
use crate::plan::devices::Device;
use crate::plan::rootfs::Rootfs;
use crate::spec::Place;
use anyhow::{Context, Result};
use libc::{MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID};
use nix::fcntl::{AtFlags, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknodat, stat};
use nix::unistd::{Gid, Uid, fchdir, fchownat};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::Errno;
use sys::idmap::{IdMap, IdMaps, host_id};
use sys::mount::{Filesystem, clone_tree, is_complete, move_mount};

/// Device nodes on a detached filesystem.
pub struct Nodes {
    filesystem: OwnedFd,
    /// The devices of the plan that it contains, by index.
    devices: Vec<usize>,
}

/// Whether the host's node at the device's path is missing, or a different one.
fn host_lacks(device: &Device) -> bool {
    device.kind != SFlag::S_IFIFO
        && stat(device.path.as_c_str()).map_or(true, |found| !is(&found, device))
}

/// Whether any of the devices has no node on the host.
pub fn host_lacks_any(plan: &Rootfs) -> bool {
    plan.devices.iter().any(host_lacks)
}

impl Nodes {
    /// In the parent, with root privileges: creates the nodes that the host lacks. None if it may not create
    /// any, or cannot mount by descriptor: then the child reports the first missing device.
    pub fn make(plan: &Rootfs, ids: &IdMaps) -> Result<Option<Nodes>> {
        if !is_complete() {
            return Ok(None);
        }
        let filesystem = Filesystem::open(c"tmpfs")?;
        filesystem.set(c"source", Some(c"devices"))?;
        // The child looks up the nodes, and owns nothing here.
        filesystem.set(c"mode", Some(c"0711"))?;
        if let Some(label) = &plan.label {
            let (key, value) = label.option();
            filesystem.set(&key, value.as_deref())?;
        }
        let filesystem = filesystem.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)?;
        let mut devices = Vec::new();
        for (index, device) in
            plan.devices.iter().enumerate().filter(|(_, device)| host_lacks(device))
        {
            match make_one(filesystem.as_fd(), index, device, ids)? {
                true => devices.push(index),
                false => return Ok(None),
            }
        }
        Ok(Some(Nodes { filesystem, devices }))
    }

    /// In the child: returns a detached mount for each device. The filesystem is temporarily attached to
    /// `root`: before Linux 6.15, only mounts attached in this mount namespace can be cloned.
    pub fn mounts(self, root: BorrowedFd<'_>) -> Result<Vec<(usize, OwnedFd)>> {
        move_mount(self.filesystem.as_fd(), root)?;
        let clone = |&index: &usize| {
            Ok((index, clone_tree(self.filesystem.as_fd(), &name(index)?, false)?))
        };
        let mounts = self.devices.iter().map(clone).collect();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let before = open(".", flags, Mode::empty()).context("open the working directory")?;
        fchdir(&self.filesystem).context("fchdir")?;
        umount2(".", MntFlags::MNT_DETACH).context("unmount the filesystem of the devices")?;
        fchdir(&before).context("fchdir")?;
        mounts
    }
}

fn name(index: usize) -> Result<CString> {
    Ok(CString::new(index.to_string())?)
}

/// Creates a node; false if brig is not permitted to.
fn make_one(dir: BorrowedFd<'_>, index: usize, device: &Device, ids: &IdMaps) -> Result<bool> {
    let place = device.place.as_deref().unwrap_or("linux.devices");
    let host = |maps: &[IdMap], id: u32, field: &str| {
        let unmapped = || format!("{id} is not mapped in the user namespace");
        host_id(maps, id).with_context(unmapped).at(format_args!("{place}.{field}"))
    };
    let uid = Uid::from_raw(host(&ids.uids, device.uid, "uid")?);
    let gid = Gid::from_raw(host(&ids.gids, device.gid, "gid")?);
    let make = || -> Result<bool> {
        let name = name(index)?;
        let mode = Mode::from_bits_truncate(device.mode);
        match mknodat(dir, name.as_c_str(), device.kind, mode, device.number) {
            Err(Errno::EPERM) => return Ok(false),
            made => made.context("mknod")?,
        }
        fchownat(dir, name.as_c_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .context("chown")?;
        // mknod applies the umask, chmod does not.
        fchmodat(dir, name.as_c_str(), mode, FchmodatFlags::FollowSymlink).context("chmod")?;
        Ok(true)
    };
    make().with_context(|| device.path.to_string_lossy().into_owned()).at(place)
}
