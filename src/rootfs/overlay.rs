//! A root filesystem made of layers.
//!
//! Uses mount(2) with the layers as descriptor numbers, relative to /proc/self/fd: hundreds of them fit into
//! its single page of options, whatever their names, on every kernel.

use super::kernel::{Kernel, NewFilesystem, option};
use super::mapped::Mapped;
use crate::plan::lsm::MountLabel;
use crate::plan::overlay::{Overlay, Upper};
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, chdir, fchownat, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use sys::mount;
use sys::{Errno, SysError};

/// In the parent: creates missing directories, and checks that the others exist. After an error, none is left.
pub fn prepare(overlay: &Overlay, root: &Path) -> Result<()> {
    let missing = |layer: &CString| directory(layer).err();
    if let Some(error) = overlay.layers.iter().find_map(missing) {
        return overlay.layers_from.with_origin(Err(error));
    }
    let made = prepare_root(root).with_context(|| root.display().to_string()).at("root.path")?;
    let prepared = match &overlay.upper {
        Upper::Directory { upper, work } => {
            overlay.upper_from.with_origin(prepare_upper(overlay, upper, work))
        }
        _ => Ok(()),
    };
    prepared.inspect_err(|_| {
        if made {
            // The first error is the one to report.
            let _ = std::fs::remove_dir(root);
        }
    })
}

/// Creates the mount point, unless it exists. If it is not empty, the root filesystem was prepared by someone
/// else, and an annotation must not replace it.
fn prepare_root(root: &Path) -> Result<bool> {
    match std::fs::DirBuilder::new().mode(0o755).create(root) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context("mkdir"),
    }
    let empty = std::fs::read_dir(root)?.next().is_none();
    ensure!(empty, "is not empty: with layers it is the mount point for them");
    Ok(false)
}

fn prepare_upper(overlay: &Overlay, upper: &CStr, work: &CStr) -> Result<()> {
    let made = make_upper(upper, overlay)?;
    let worked = make_work(work, upper).with_context(|| work.to_string_lossy().into_owned());
    worked.inspect_err(|_| {
        if made {
            let _ = unlinkat(AT_FDCWD, upper, UnlinkatFlags::RemoveDir);
        }
    })
}

/// Creates the work directory, with the owner of the upper: the process that mounts the overlay writes to it,
/// possibly as root of a user namespace.
fn make_work(work: &CStr, upper: &CStr) -> Result<()> {
    match nix::unistd::mkdir(work, Mode::from_bits_truncate(0o700)) {
        Ok(()) => give(AT_FDCWD, work, &fstat(directory(upper)?).context("fstat")?),
        Err(Errno::EEXIST) => directory(work).map(drop),
        Err(errno) => Err(errno).context("mkdir"),
    }
}

/// Changes the owner to that of another file, unless that is root or nobody: those ids are not mapped in the
/// user namespace, so root in the container could not change the file.
fn give(dir: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<()> {
    const NOBODY: u32 = 65534;
    let id = |id: u32| Some(id).filter(|id| ![0, NOBODY].contains(id));
    let (uid, gid) = (id(stat.st_uid).map(Uid::from_raw), id(stat.st_gid).map(Gid::from_raw));
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    fchownat(dir, name, uid, gid, AtFlags::empty()).context("chown")
}

/// The upper's own directory becomes the container's root directory, with the attributes of the layers'.
/// Returns whether it was created.
fn make_upper(upper: &CStr, overlay: &Overlay) -> Result<bool> {
    let what = || upper.to_string_lossy().into_owned();
    match nix::unistd::mkdir(upper, Mode::from_bits_truncate(0o700)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => return directory(upper).map(|_| false),
        Err(errno) => return Err(errno).context("mkdir").with_context(what),
    }
    like_layers(AT_FDCWD, upper, top(overlay)?.as_fd()).with_context(what).map(|()| true)
}

fn like_layers(dir: BorrowedFd<'_>, name: &CStr, layer: BorrowedFd<'_>) -> Result<()> {
    let stat = fstat(layer).context("fstat")?;
    give(dir, name, &stat)?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    nix::sys::stat::fchmodat(dir, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
        .context("chmod")
}

fn top(overlay: &Overlay) -> Result<OwnedFd> {
    directory(overlay.layers.last().context("no layers")?)
}

/// Opens a directory of the host.
pub fn directory(path: &CStr) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .with_context(|| path.to_string_lossy().into_owned())
}

/// In the child: mounts the overlay at `root`. Returns the upper too if it is in memory.
pub fn mount(
    kernel: &Kernel,
    overlay: &Overlay,
    mapped: Option<&Mapped>,
    root: &Path,
    label: Option<&MountLabel>,
) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let path = CString::new(root.as_os_str().as_bytes())?;
    let layers = match mapped {
        Some(mapped) => {
            mapped.attach(&path)?;
            mapped.layers()
        }
        None => overlay.layers.iter().rev().map(|layer| directory(layer)).collect(),
    };
    let layers = overlay.layers_from.with_origin(layers)?;
    let Some(top) = layers.first() else { bail!("no layers") };
    let names: Vec<String> = layers.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
    let lower = format!("lowerdir={}", names.join(":"));
    let mapped_upper = mapped.and_then(Mapped::upper);
    let (held, upper, parked) = match &overlay.upper {
        _ if mapped_upper.is_some() => (None, mapped_upper.unwrap_or_default(), None),
        Upper::Directory { upper, work } => {
            let (upper, work) = (directory(upper)?, directory(work)?);
            let names = format!("upperdir={},workdir={}", upper.as_raw_fd(), work.as_raw_fd());
            (Some((upper, work)), names, None)
        }
        Upper::Tmpfs { size } => {
            let upper =
                overlay.upper_from.with_origin(in_memory(kernel, size.as_deref(), top.as_fd()))?;
            let names = format!("upperdir={0}/upper,workdir={0}/work", upper.as_raw_fd());
            (None, names, Some(upper))
        }
    };
    let attributes = if overlay.user_attributes { ",userxattr" } else { "" };
    let mut data = format!("{lower},{upper}{attributes}").into_bytes();
    if let Some(label) = label {
        data.extend_from_slice(b",");
        data.extend_from_slice(&label.quoted());
    }
    let data = CString::new(data)?;
    chdir("/proc/self/fd").context("chdir(/proc/self/fd)")?;
    let mounted = mount::mount(Some(c"overlay"), &path, Some(c"overlay"), 0, Some(&data));
    mounted.map_err(|error| why_no_overlay(error, overlay)).at("root.path")?;
    drop(held);
    let root = directory(&path)?;
    if overlay.user_attributes {
        let flags = fstatvfs(&root).context("fstatvfs")?.flags();
        let why =
            "the overlay is read-only: root in the container may not write to its upper directory";
        let writable = if flags.contains(FsFlags::ST_RDONLY) { Err(anyhow!(why)) } else { Ok(()) };
        overlay.upper_from.with_origin(writable)?;
    }
    Ok((root, parked))
}

/// Explains EINVAL, the one errno that overlayfs returns for most errors.
fn why_no_overlay(error: SysError, overlay: &Overlay) -> anyhow::Error {
    let hint = match (error.errno, &overlay.upper) {
        (Errno::ELOOP, _) => ": two of them are the same directory, or one is inside another",
        (Errno::EBUSY, _) => ": the upper is in use by another container",
        (Errno::EINVAL, _) if overlay.id_mapped => {
            ": id-mapped layers need Linux 5.19, and an upper and work directory on a filesystem other than overlayfs"
        }
        (Errno::EINVAL, Upper::Directory { .. }) => {
            ": the upper and work directories must be on the same filesystem, and not on overlayfs (--upper tmpfs keeps changes in memory)"
        }
        _ => "",
    };
    anyhow::Error::from(error).context(format!("mount {} layers{hint}", overlay.layers.len()))
}

/// A tmpfs with the directories of an upper. overlayfs needs it attached in this mount namespace: until it is
/// moved to its final place it covers the directory of the top layer, which is open already.
fn in_memory(kernel: &Kernel, size: Option<&CStr>, top: BorrowedFd<'_>) -> Result<OwnedFd> {
    let mut options = vec![option("mode=0700")?];
    options.extend(size.map(|size| (c"size".to_owned(), Some(size.to_owned()))));
    let new = NewFilesystem { fstype: c"tmpfs", source: c"upper", options: &options, attr: 0 };
    let upper = kernel.mount(&new, top)?;
    mkdirat(&upper, c"work", Mode::from_bits_truncate(0o700)).context("mkdir")?;
    mkdirat(&upper, c"upper", Mode::from_bits_truncate(0o700)).context("mkdir")?;
    like_layers(upper.as_fd(), c"upper", top)?;
    Ok(upper)
}
