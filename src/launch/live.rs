//! mounts add and remove: brig goes into the mount namespace of a container that is there.

use super::idmap;
use crate::plan::idmap::MountMap;
use crate::plan::mounts::Mount;
use crate::spec::Place;
use crate::state::{self, State};
use crate::sys::cred;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::fd::OwnedFd;

/// The user namespaces whose ids mounts are to have, before any is joined.
pub fn users(mounts: &[Mount], state: &State) -> Result<Vec<Option<OwnedFd>>> {
    let user = |map: &MountMap| -> Result<OwnedFd> {
        match &map.maps {
            Some(maps) => idmap::make_namespace(maps, &map.place),
            None if state.has_namespace(libc::CLONE_NEWUSER) => {
                let path = format!("/proc/{}/ns/user", state.pid);
                Ok(File::open(&path).context(path)?.into())
            }
            None => bail!("needs uidMappings and gidMappings, of the mount or of a user namespace"),
        }
    };
    let user = |mount: &Mount| match &mount.id_map {
        Some(map) => user(map).map(Some).at(&map.place),
        None => Ok(None),
    };
    mounts.iter().map(user).collect()
}

/// Joins the container's mount namespace, and its user namespace as root, but keeps the host's root
/// directory, with /proc, in sight: no name is looked up in the container but below what this returns,
/// its root.
pub fn enter(state: &State) -> Result<OwnedFd> {
    ensure!(
        state.has_namespace(libc::CLONE_NEWNS),
        "the container has no mount namespace of its own"
    );
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let hosts = open("/", flags, Mode::empty()).context("open /")?;
    let path = format!("/proc/{}/root", state.pid);
    let root = open(path.as_str(), flags, Mode::empty()).context(path)?;
    // Opened first and checked after: what the pid leads to has been init's.
    let init = state::open_init(state)?.context("container not running")?;
    // What is in the container could look into this process, were it dumpable (CVE-2016-9962).
    cred::dumpable(false)?;
    let kinds = state.namespaces & (libc::CLONE_NEWNS | libc::CLONE_NEWUSER);
    setns(&init, CloneFlags::from_bits_retain(kinds))
        .with_context(|| format!("join the container's namespaces ({kinds:#x})"))?;
    nix::unistd::fchdir(&hosts).and_then(|()| nix::unistd::chroot(".")).context("chroot")?;
    if kinds & libc::CLONE_NEWUSER != 0 {
        let missing = "become root of the user namespace: does it map id 0?";
        cred::setgid(0).context(missing)?;
        cred::setuid(0).context(missing)?;
    }
    Ok(root)
}
