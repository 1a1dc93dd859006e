//! Paths that nobody may read or write. By now the root is the container's, so an absolute path
//! means what it means to the container; each is looked up once (GHSA-3q8j-pf29-vwv8).

use crate::spec::Place;
use crate::sys::Errno;
use crate::sys::mount::{Attr, Filesystem, clone_tree, move_mount, set_attr};
use crate::sys::path::{Links, open_in};
use anyhow::{Context, Result, ensure};
use libc::MOUNT_ATTR_RDONLY;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes each path read-only, not what is mounted below it.
pub fn make_readonly(paths: &[CString]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let root = open_root()?;
    for (index, path) in paths.iter().enumerate() {
        make_one_readonly(root.as_fd(), path)
            .with_context(|| path.to_string_lossy().into_owned())
            .at(format!("linux.readonlyPaths[{index}]"))?;
    }
    Ok(())
}

fn make_one_readonly(root: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    let Some(target) = find(root, path)? else { return Ok(()) };
    let tree = clone_tree(target.as_fd(), c"", true)?;
    let read_only = Attr { set: MOUNT_ATTR_RDONLY, ..Attr::default() };
    set_attr(tree.as_fd(), false, read_only)?;
    Ok(move_mount(tree.as_fd(), target.as_fd())?)
}

/// Hides each path: a file beneath /dev/null, a directory beneath an empty read-only one.
pub fn mask(paths: &[CString]) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut masks = Masks { null: None, empty: None };
    let root = open_root()?;
    for (index, path) in paths.iter().enumerate() {
        masks
            .hide(root.as_fd(), path)
            .with_context(|| path.to_string_lossy().into_owned())
            .at(format!("linux.maskedPaths[{index}]"))?;
    }
    Ok(())
}

/// What gets mounted over masked paths: opened when first needed.
struct Masks {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Masks {
    fn hide(&mut self, root: BorrowedFd<'_>, path: &CStr) -> Result<()> {
        let Some(target) = find(root, path)? else { return Ok(()) };
        let mode = fstat(&target).context("fstat")?.st_mode;
        let directory = mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let cover = match directory {
            true => self.empty()?,
            false => self.null(root)?,
        };
        Ok(move_mount(clone_tree(cover, c"", false)?.as_fd(), target.as_fd())?)
    }

    fn null(&mut self, root: BorrowedFd<'_>) -> Result<BorrowedFd<'_>> {
        if self.null.is_none() {
            let null = open_in(root, c"/dev/null", OFlag::O_PATH, Links::Follow);
            let null = null.context("the container's /dev/null, which is to hide it")?;
            let stat = fstat(&null).context("fstat")?;
            // CVE-2025-31133: an image's own /dev/null would uncover instead of hide.
            let device = (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
            let real = device && stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
            ensure!(real, "the container's /dev/null, which is to hide it, is not the null device");
            self.null = Some(null);
        }
        self.null.as_ref().map(AsFd::as_fd).context("no /dev/null")
    }

    /// One for all of them, which nobody can put anything into.
    fn empty(&mut self) -> Result<BorrowedFd<'_>> {
        if self.empty.is_none() {
            let filesystem = Filesystem::open(c"tmpfs")?;
            filesystem.set(c"source", Some(c"tmpfs"))?;
            filesystem.set(c"nr_blocks", Some(c"1"))?;
            // Some kernels refuse 1, which the root directory needs: the fs is read-only anyway.
            filesystem.set(c"nr_inodes", Some(c"2"))?;
            filesystem.set(c"ro", None)?;
            self.empty = Some(filesystem.mount(MOUNT_ATTR_RDONLY)?);
        }
        self.empty.as_ref().map(AsFd::as_fd).context("no empty directory")
    }
}

fn open_root() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the root")
}

/// What is not there needs no hiding.
fn find(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<OwnedFd>> {
    match open_in(root, path, OFlag::O_PATH, Links::Follow) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
