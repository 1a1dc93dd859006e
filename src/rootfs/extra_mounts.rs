//! Mounts of an existing container. brig has joined its mount namespace and its user namespace, but keeps the
//! host's root and /proc.

use super::Root;
use super::attach::{complete, put, with_origin};
use super::hosts::Hosts;
use super::kernel::Kernel;
use super::source::{Source, clone_bind, clone_inside, map_ids};
use super::target::{self, proc_path};
use crate::plan::mounts::{Kind, Mount};
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{AT_FDCWD, OFlag, readlink};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, umask};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use sys::Errno;
use sys::mount::{Identity, identity, is_complete};
use sys::mountinfo::mounts;
use sys::path::{Links, open_in};

pub use target::path_below;

/// Host files for the container: detached mounts, complete.
pub struct Opened(Vec<Source>);

/// Opens sources before any namespace is joined. `users` has a user namespace for each id-mapped mount.
pub fn open(mounts: &[Mount], users: &[Option<OwnedFd>]) -> Result<Opened> {
    ensure!(is_complete(), "needs mount_setattr(2), which requires Linux 5.12");
    let open = |(mount, user): (&Mount, &Option<OwnedFd>)| -> Result<Source> {
        let Kind::Bind { source, inside, recursive } = &mount.kind else { return Ok(Source::None) };
        if inside.is_some() {
            if mount.links.copy {
                let refused = "copy-symlink is not supported for a source in the root filesystem";
                Err(anyhow!(refused)).at(format!("{}.source", mount.place()))?;
            }
            return Ok(Source::Inside(user.as_ref().map(OwnedFd::try_clone).transpose()?));
        }
        let tree = clone_source(source, mount, *recursive)
            .map_err(|error| match sys::errno_of(&error) {
                Some(Errno::EPERM) => error.context("only root can bind mount files of the host"),
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

/// The mount of a source, which is not followed if it is a symbolic link and the options say so.
fn clone_source(source: &CStr, mount: &Mount, recursive: bool) -> Result<OwnedFd> {
    ensure!(
        !mount.links.copy || readlink(source).is_err(),
        "is a symbolic link, and copy-symlink makes no mount of it that could be removed"
    );
    if !mount.links.source {
        return clone_bind(AT_FDCWD, source, mount, recursive);
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let file = nix::fcntl::open(source, flags, Mode::empty());
    let file = file.with_context(|| source.to_string_lossy().into_owned())?;
    clone_bind(file.as_fd(), c"", mount, recursive)
}

/// Called with a complete mount, its target, and the deepest directory on the way to it that brig has not created.
type Announce<'a> = &'a dyn Fn(BorrowedFd<'_>, BorrowedFd<'_>, BorrowedFd<'_>) -> Result<()>;

/// Mounts them below the container's root: all or none. `announce` is called with each mount before it is
/// attached.
pub fn add(root: OwnedFd, mounts: &[Mount], opened: &Opened, announce: Announce<'_>) -> Result<()> {
    // brig has access to the host's root and /dev.
    let hosts = Hosts::of(root.as_fd())?;
    let mut root = Root {
        kernel: Kernel::New,
        fd: root,
        parked: None,
        late: Vec::new(),
        warnings: Vec::new(),
        hosts,
    };
    let before = umask(Mode::empty());
    let mut added = Vec::new();
    let mut add = || -> Result<()> {
        for (mount, source) in mounts.iter().zip(&opened.0) {
            let added_one = add_one(&mut root, mount, source, announce, &mut added);
            added_one.map_err(|error| with_origin(error, mount, None))?;
        }
        root.protect_late()
    };
    let done = add();
    umask(before);
    if done.is_err() {
        // The first error is the one that matters.
        take_away(&added);
    }
    done
}

fn add_one(
    root: &mut Root,
    mount: &Mount,
    source: &Source,
    announce: Announce<'_>,
    added: &mut Vec<OwnedFd>,
) -> Result<()> {
    let inside = match (&mount.kind, source) {
        (Kind::Bind { inside: Some(path), .. }, Source::Inside(user)) => {
            let user = user.as_ref().map(AsFd::as_fd);
            Some(clone_inside(root.fd.as_fd(), mount, path, user)?)
        }
        _ => None,
    };
    let tree = match source {
        Source::Detached(tree) => Some(tree.as_fd()),
        _ => inside.as_ref().map(AsFd::as_fd),
    };
    let above = existing(root.fd.as_fd(), &mount.target)?;
    let target = target::find(root, mount, tree)?;
    let tree = match (&mount.kind, tree) {
        (Kind::Bind { .. }, Some(tree)) => tree.try_clone_to_owned()?,
        (Kind::Filesystem(fs), _) => complete(root, mount, fs, &fs.fstype, &target, false)?,
        _ => bail!("only bind mounts and tmpfs can be added to a container"),
    };
    if let Kind::Filesystem(fs) = &mount.kind
        && fs.late_read_only
    {
        root.late.push(tree.try_clone()?);
    }
    let above = if target.existed { target.fd.as_fd() } else { above.as_fd() };
    announce(tree.as_fd(), target.fd.as_fd(), above)?;
    put(tree.as_fd(), target.fd.as_fd())?;
    added.push(tree);
    Ok(())
}

/// The deepest existing directory on the way to a target.
fn existing(root: BorrowedFd<'_>, target: &CStr) -> Result<OwnedFd> {
    let mut path = target.to_bytes();
    loop {
        let name = if path.is_empty() { c".".to_owned() } else { CString::new(path)? };
        match open_in(root, &name, OFlag::O_PATH, Links::Follow) {
            Err(error) if error.errno == Errno::ENOENT && !path.is_empty() => {
                let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                path = &path[..slash];
            }
            opened => return Ok(opened?),
        }
    }
}

/// Unmounts these, the last one first, wherever they are by now: no name is looked up.
pub fn take_away(mounts: &[OwnedFd]) {
    for mount in mounts.iter().rev() {
        // EINVAL: the container has unmounted it.
        let _ = unmount(mount.as_fd());
    }
}

fn unmount(mount: BorrowedFd<'_>) -> nix::Result<()> {
    umount2(&*proc_path(mount), MntFlags::MNT_DETACH)
}

/// How often to search for a mount that the container keeps moving.
const TRIES: usize = 16;

/// Unmounts a mount of the container, found in its mountinfo by its identity, because the container can
/// change every name on its path. False: it no longer exists.
pub fn remove(root: &OwnedFd, mountinfo: &Path, wanted: &Identity) -> Result<bool> {
    for _ in 0..TRIES {
        let text = std::fs::read(mountinfo).with_context(|| mountinfo.display().to_string())?;
        let Some(found) = mounts(&text).find(|mount| mount.id() == Some(wanted.id)) else {
            return Ok(false);
        };
        let point = CString::new(found.point().into_os_string().into_vec())?;
        // Links are not followed: mountinfo has resolved paths.
        // The mount itself can be that of a link.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let Ok(mount) = open_in(root.as_fd(), &point, flags, Links::Refuse) else {
            continue;
        };
        match identity(mount.as_fd())? {
            Some(found) if found == *wanted => {}
            // The id belongs to another mount by now.
            Some(found) if found.id == wanted.id => return Ok(false),
            _ => continue,
        }
        return match unmount(mount.as_fd()) {
            // It was moved or unmounted in the meantime; or this is a copy in a new mount namespace, where it
            // is locked.
            Err(Errno::EINVAL) => continue,
            done => done.context("umount2").map(|()| true),
        };
    }
    bail!("cannot be reached: the container has mounted something over it, or keeps renaming it")
}
