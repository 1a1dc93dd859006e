//! Mounts of a container that is there already. brig is in its mount namespace, and in its user namespace,
//! but has the host's root and /proc in sight.

use super::Root;
use super::attach::{attach, blame, reopen};
use super::kernel::Kernel;
use super::source::{Source, clone_bind, map_ids};
use super::target::proc_path;
use crate::plan::mounts::{Kind, Mount};
use crate::spec::Place;
use crate::sys::Errno;
use crate::sys::mount::is_complete;
use crate::sys::path::{Links, open_in};
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, umask};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

/// What of the host is to be seen in the container: detached mounts, complete.
pub struct Opened(Vec<Source>);

/// Opens sources, before any namespace is joined. `users` has a user namespace for each mount that is to
/// be id-mapped.
pub fn open(mounts: &[Mount], users: &[Option<OwnedFd>]) -> Result<Opened> {
    ensure!(is_complete(), "needs mount_setattr(2), which Linux has since 5.12");
    let open = |(mount, user): (&Mount, &Option<OwnedFd>)| -> Result<Source> {
        let Kind::Bind { source, recursive } = &mount.kind else { return Ok(Source::None) };
        let tree = clone_bind(AT_FDCWD, source, mount, *recursive)
            .map_err(|error| match crate::sys::errno_of(&error) {
                Some(Errno::EPERM) => error.context("only root can bind what is the host's"),
                _ => error,
            })
            .at(format!("{}.source", mount.place()))?;
        if let (Some(map), Some(user)) = (&mount.id_map, user) {
            map_ids(tree.as_fd(), map.recursive, user.as_fd(), true).at(&map.place)?;
        }
        Ok(Source::Detached(tree))
    };
    mounts.iter().zip(users).map(open).collect::<Result<_>>().map(Opened)
}

/// Mounts them below the container's root: all, or none.
pub fn add(root: OwnedFd, mounts: &[Mount], opened: &Opened) -> Result<()> {
    let late = Vec::new();
    let mut root = Root { kernel: Kernel::New, fd: root, parked: None, late, warnings: Vec::new() };
    let before = umask(Mode::empty());
    let mut added = Vec::new();
    let mut add = || -> Result<()> {
        for (mount, source) in mounts.iter().zip(&opened.0) {
            let mounted = attach(&mut root, mount, source).and_then(|()| reopen(&root, mount));
            added.push(mounted.map_err(|error| blame(error, mount, None))?);
        }
        root.protect_late()
    };
    let done = add();
    umask(before);
    if done.is_err() {
        // The error that matters is the first one.
        for mount in added.iter().rev() {
            let _ = umount2(&*proc_path(mount.as_fd()), MntFlags::MNT_DETACH);
        }
    }
    done
}

/// Unmounts what is mounted at these paths below the container's root: the last one first.
pub fn remove(root: &OwnedFd, targets: &[CString]) -> Result<()> {
    for (index, path) in targets.iter().enumerate().rev() {
        let remove = || -> Result<()> {
            let target = open_in(root.as_fd(), path, OFlag::O_PATH, Links::Follow)?;
            let leads_to_root = {
                let link = |fd| nix::fcntl::readlink(&*proc_path(fd)).context("readlink");
                link(target.as_fd())? == link(root.as_fd())?
            };
            ensure!(!leads_to_root, "leads to the container's root");
            match umount2(&*proc_path(target.as_fd()), MntFlags::MNT_DETACH) {
                Err(Errno::EINVAL) => Err(anyhow!("EINVAL")
                    .context("nothing is mounted there, or together with others that hold it")),
                done => Ok(done.context("umount2")?),
            }
        };
        let path = || path.to_string_lossy().into_owned();
        remove().with_context(path).at(format!("mounts[{index}].destination"))?;
    }
    Ok(())
}
