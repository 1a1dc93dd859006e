//! Stages a root filesystem for CRIU, which mounts everything in it itself: the root without any mounts, and
//! beside it the sources of the bind mounts.

use super::hosts::Hosts;
use super::kernel::Kernel;
use super::source::{Source, Sources, clone_inside};
use super::target::{self, is_directory};
use super::{READ_ONLY, Root, attach, attach_root, no_mount, overlay};
use crate::plan::mounts::Mount;
use crate::plan::rootfs::Rootfs;
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, ensure};
use libc::{MS_NODEV, MS_NOSUID, MS_REC, MS_SLAVE};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use sys::mount::{self, clone_tree, is_complete, move_mount_to};
use sys::path::{Links, open_in};

/// From here on, mounts in this mount namespace do not propagate to the host.
pub fn leave_host() -> Result<()> {
    mount::mount(None, c"/", None, MS_SLAVE | MS_REC, None).map_err(no_mount)
}

/// Where the source of the mount with this index in the config is staged.
pub fn place(beside: &Path, index: usize) -> PathBuf {
    beside.join(index.to_string())
}

/// Where this host mount below one of the sources is staged.
pub fn place_below(beside: &Path, number: usize) -> PathBuf {
    beside.join(format!("below-{number}"))
}

/// Mounts the root filesystem at `root.path`, creates missing mount targets in it, and stages on a new
/// filesystem mounted over the directory `beside`: the source of each bind mount, with the options of the
/// config, at [`place`], and the host's mounts `below` a source, each with the index of its bind mount, at
/// [`place_below`]. Called in a new mount namespace, after [`leave_host`].
pub fn stage(
    plan: &Rootfs,
    sources: Sources,
    beside: &Path,
    below: &[(usize, PathBuf)],
) -> Result<()> {
    ensure!(is_complete(), "needs mount_setattr(2), which requires Linux 5.12");
    let path = CString::new(beside.as_os_str().as_bytes())?;
    let before = umask(Mode::empty());
    let flags = MS_NOSUID | MS_NODEV;
    mount::mount(Some(c"brig"), &path, Some(c"tmpfs"), flags, Some(c"mode=0711"))?;
    let Sources { root, layers, mounts, .. } = sources;
    let kernel = Kernel::New;
    let (fd, parked) = match (&plan.overlay, root) {
        (Some(overlay), _) => {
            overlay::mount(&kernel, overlay, layers.as_ref(), &plan.path, plan.label.as_ref())?
        }
        (None, Some(fd)) => (attach_root(&kernel, plan, fd).at("root.path")?, None),
        (None, None) => anyhow::bail!("no root filesystem"),
    };
    let hosts = Hosts::of(fd.as_fd())?;
    let root = Root { kernel, fd, parked, late: Vec::new(), warnings: Vec::new(), hosts };
    for (index, (mount, source)) in plan.mounts.iter().zip(&mounts).enumerate() {
        let above = &plan.mounts[..index];
        let staged = stage_one(&root, mount, above, source, &place(beside, mount.index));
        staged.map_err(|error| attach::with_origin(error, mount, None))?;
    }
    for (number, (index, rest)) in below.iter().enumerate() {
        stage_below(&place(beside, *index), rest, &place_below(beside, number))
            .with_context(|| format!("{} below a bind mount's source", rest.display()))
            .at(format!("mounts[{index}].source"))?;
    }
    if plan.readonly {
        // CRIU needs a directory to put the old root on, and cannot create one in a read-only root.
        root.make_directory(Path::new("/tmp")).at("root.readonly")?;
    }
    umask(before);
    nix::unistd::chdir("/").context("chdir(/)")
}

/// Makes the mount of the root directory read-only.
pub fn make_root_readonly() -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).context("open /")?;
    Kernel::New.set(root.as_fd(), false, READ_ONLY).at("root.readonly")
}

fn stage_one(
    root: &Root,
    mount: &Mount,
    above: &[Mount],
    source: &Source,
    place: &Path,
) -> Result<()> {
    let inside: Option<OwnedFd> = match (&mount.kind, source) {
        (crate::plan::mounts::Kind::Bind { inside: Some(path), .. }, Source::Inside(user)) => {
            Some(clone_inside(root.fd.as_fd(), mount, path, user.as_ref().map(AsFd::as_fd))?)
        }
        _ => None,
    };
    let tree = match source {
        Source::Detached(tree) => Some(tree.as_fd()),
        Source::Link(to) => return attach::make_link(root, mount, to),
        Source::Open(_) => return Err(anyhow!("its source is not a mount of its own")),
        Source::Inside(_) | Source::None | Source::Cgroup(_) => inside.as_ref().map(AsFd::as_fd),
    };
    // Targets on another mount exist already: in a filesystem that CRIU restores, or in a volume.
    if !above.iter().any(|other| is_below(mount, other)) {
        target::find(root, mount, tree)?;
    }
    tree.map_or(Ok(()), |tree| show(tree, place))
}

fn show(tree: BorrowedFd<'_>, place: &Path) -> Result<()> {
    match is_directory(tree)? {
        true => DirBuilder::new().mode(0o755).create(place)?,
        false => drop(File::create_new(place)?),
    }
    Ok(move_mount_to(tree, &CString::new(place.as_os_str().as_bytes())?)?)
}

/// Containers can write to the volume at `source`, so links in it are not followed, as CRIU would.
fn stage_below(source: &Path, rest: &Path, place: &Path) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let source = open(source, flags, Mode::empty()).context("open")?;
    let rest = CString::new(rest.as_os_str().as_bytes())?;
    let found = open_in(source.as_fd(), &rest, OFlag::O_PATH, Links::Refuse)?;
    ensure!(mount::identity(found.as_fd())?.is_some(), "nothing is mounted there any more");
    show(clone_tree(found.as_fd(), c"", false)?.as_fd(), place)
}

fn is_below(mount: &Mount, other: &Mount) -> bool {
    let rest = mount.target.to_bytes().strip_prefix(other.target.to_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}
