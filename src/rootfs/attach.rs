//! One entry of `mounts`.

use super::Root;
use super::cgroup;
use super::source::{Source, apply};
use super::target::{self, Target, is_directory, proc_path};
use crate::plan::mounts::{Filesystem, Kind, Mount};
use crate::spec::Place;
use crate::sys::mount::{self, move_mount};
use crate::sys::path::{Links, open_in};
use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Mounts one entry.
pub fn attach(root: &mut Root, mount: &Mount, source: &Source) -> Result<()> {
    let tree = match source {
        Source::Bind(tree) => Some(tree.as_fd()),
        Source::None | Source::Cgroup(_) => None,
    };
    let target = target::find(root, mount, tree)?;
    if !matches!(mount.kind, Kind::Remount { .. }) {
        root.place_upper(target.fd.as_fd())?;
    }
    match (&mount.kind, source) {
        (Kind::Bind { .. }, Source::Bind(tree)) => Ok(move_mount(tree.as_fd(), target.fd.as_fd())?),
        (Kind::Filesystem(fs), _) => new(root, mount, fs, &fs.fstype, &target),
        (Kind::Cgroup(fs), Source::Cgroup(cgroups)) => {
            cgroup::mount(root, mount, fs, &target, cgroups)
        }
        (Kind::Remount { flags, data }, _) => {
            let target = target.fd.as_fd();
            mount::mount(None, &proc_path(target), None, *flags, Some(data))?;
            apply(target, &mount.steps)
        }
        (Kind::Bind { .. } | Kind::Cgroup(_), _) => bail!("its source is not open"),
    }
}

/// Mounts a new filesystem on a target.
pub fn new(
    root: &mut Root,
    mount: &Mount,
    fs: &Filesystem,
    fstype: &CStr,
    target: &Target,
) -> Result<()> {
    let mode = inherited_mode(fs, target)?;
    let detached = match fs.by_mount_2 {
        true => by_mount_2(root, mount, fs, fstype, mode.as_deref(), target)?,
        false => detached(mount, fs, fstype, mode.as_deref())?,
    };
    apply(detached.as_fd(), &mount.steps)?;
    if !fs.by_mount_2 {
        move_mount(detached.as_fd(), target.fd.as_fd())?;
    }
    if fs.late_read_only {
        root.late.push(detached);
    }
    Ok(())
}

/// A tmpfs has the mode of the directory it covers, unless the config says another, as in runc.
fn inherited_mode(fs: &Filesystem, target: &Target) -> Result<Option<CString>> {
    if fs.fstype.as_c_str() != c"tmpfs" || !target.existed || fs.has(c"mode") {
        return Ok(None);
    }
    let mode = fstat(&target.fd).context("fstat")?.st_mode & 0o7777;
    Ok(Some(CString::new(format!("{mode:04o}"))?))
}

/// A new filesystem's mount, not attached to anything yet.
fn detached(mount: &Mount, fs: &Filesystem, fstype: &CStr, mode: Option<&CStr>) -> Result<OwnedFd> {
    let context = mount::Filesystem::open(fstype).at(format!("{}.type", mount.place()))?;
    if let Some(source) = &fs.source {
        context.set(c"source", Some(source)).at(format!("{}.source", mount.place()))?;
    }
    for word in fs.words() {
        context.set(word, None)?;
    }
    if let Some(mode) = mode {
        context.set(c"mode", Some(mode))?;
    }
    for param in &fs.params {
        context.set(&param.key, param.value.as_deref()).at(format!(
            "{}.options[{}]",
            mount.place(),
            param.option
        ))?;
    }
    Ok(context.mount(fs.attr)?)
}

fn by_mount_2(
    root: &Root,
    mount: &Mount,
    fs: &Filesystem,
    fstype: &CStr,
    mode: Option<&CStr>,
    target: &Target,
) -> Result<OwnedFd> {
    let mut data = fs.data().into_bytes();
    if let Some(mode) = mode {
        data.extend_from_slice(if data.is_empty() { b"mode=" } else { b",mode=" });
        data.extend_from_slice(mode.to_bytes());
    }
    let flags = fs.flags | crate::plan::mount_options::legacy(fs.attr);
    let (path, data) = (proc_path(target.fd.as_fd()), CString::new(data)?);
    mount::mount(fs.source.as_deref(), &path, Some(fstype), flags, Some(&data))?;
    // The target's descriptor is of what is covered now.
    Ok(open_in(root.fd.as_fd(), &mount.target, OFlag::O_PATH, Links::Follow)?)
}

impl Root {
    /// An upper in memory has to stay reachable as long as the container lives, and out of its
    /// sight: it goes beneath the first mount on a directory.
    pub(super) fn place_upper(&mut self, target: BorrowedFd<'_>) -> Result<()> {
        if let Some(upper) = &self.parked
            && is_directory(target)?
        {
            move_mount(upper.as_fd(), target).context("move the upper out of sight")?;
            self.parked = None;
        }
        Ok(())
    }
}
