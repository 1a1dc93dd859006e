//! A layer being created above others: overlayfs shows the attributes of the highest layer that has a directory,
//! so the directories on the way to a new file get those that the layers below show.

use crate::tree::view::{Found, View};
use crate::tree::whiteout::path_in;
use anyhow::{Context, Result};
use nix::fcntl::{AtFlags, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::path::DIRECTORY;
use sys::xattr;

/// The layer, and its directories so far.
pub(crate) struct Parents {
    root: OwnedFd,
    made: BTreeSet<Vec<u8>>,
}

impl Parents {
    /// Creates the layer's root. The umask must be empty until [`Self::finish`].
    pub(crate) fn new(path: &Path) -> Result<Parents> {
        nix::unistd::mkdir(path, USUAL)?;
        Ok(Parents { root: open(path, DIRECTORY, Mode::empty())?, made: BTreeSet::new() })
    }

    /// The layer's root.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Creates a directory and its parents.
    pub(crate) fn directory(&mut self, parts: &[&[u8]]) -> Result<OwnedFd> {
        let mut dir = self.root.try_clone()?;
        for length in 1..=parts.len() {
            let (path, name) = (parts[..length].join(&b'/'), parts[length - 1]);
            if self.made.insert(path) {
                mkdirat(&dir, name, USUAL)?;
            }
            dir = openat(&dir, name, DIRECTORY, Mode::empty())?;
        }
        Ok(dir)
    }

    /// Sets the attributes of all directories, the deepest first, because creating files in a directory
    /// changes its times. `own_ids`: everything is owned by brig's caller.
    pub(crate) fn finish(self, view: &View, own_ids: bool) -> Result<()> {
        for path in self.made.iter().rev() {
            let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            let Some((&name, above)) = parts.split_last() else { continue };
            let mut dir = self.root.try_clone()?;
            for part in above {
                dir = openat(&dir, *part, DIRECTORY, Mode::empty())?;
            }
            let found = match view.named_directory(&parts)? {
                Some((found, _)) => Some(found),
                None => view.find(&parts, view.len())?,
            };
            if let Some(found) = found {
                copy_attributes(&found, dir.as_fd(), name, own_ids)
                    .with_context(|| path.escape_ascii().to_string())?;
            }
        }
        // The highest layer's root directory becomes the container's.
        if let Some((found, _)) = view.named_directory(&[])? {
            copy_attributes(&found, self.root(), b".", own_ids)?;
        }
        Ok(())
    }
}

/// The mode of directories that no layer below has.
const USUAL: Mode = Mode::from_bits_truncate(0o755);

/// Copies owner, permissions, attributes and times of `found` to the directory `name`.
fn copy_attributes(found: &Found, dir: BorrowedFd<'_>, name: &[u8], own_ids: bool) -> Result<()> {
    let stat = &found.stat;
    if !own_ids {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
    }
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink).context("chmod")?;
    let from = path_in(found.dir.as_fd(), &found.name);
    xattr::copy(&from, &path_in(dir, name))?;
    let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink).context("utimens")
}
