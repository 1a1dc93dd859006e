//! Writes files of a container into an archive, with the container's ids; and all of them: export.

use crate::archive::tar_writer::{File, Holes, Writer};
use crate::commit::Ids;
use crate::tree::changes::{Upper, attributes};
use crate::tree::live::settled;
use crate::tree::walk::{self, Merged};
use crate::tree::whiteout::is_whiteout;
use anyhow::{Context, Result};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstatat};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// An archive of a container's files.
pub(super) struct Packer<'a, W: Write> {
    /// The archive.
    pub writer: Writer<W>,
    /// The container's ids.
    pub ids: &'a Ids,
    /// Whether files of owners that are not mapped in the container are those of nobody, as in the container.
    pub nobody: bool,
    /// Receives warnings.
    pub warn: &'a mut dyn FnMut(&str),
}

/// What has become of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is in the archive, or is a socket.
    Written,
    /// The container has deleted it in the meantime: here is a whiteout now.
    Whiteout,
    /// The container has deleted it, and nothing is here.
    Gone,
}

impl<W: Write> Packer<'_, W> {
    /// Writes a file. `stat` is what was found before; the container may have replaced it since.
    pub(super) fn put(
        &mut self,
        at: (BorrowedFd<'_>, &[u8]),
        path: &[u8],
        stat: FileStat,
    ) -> Result<Put> {
        let mut before = Some(stat);
        let done = settled(at.0, at.1, || {
            let stat = match before.take() {
                Some(stat) => stat,
                None => fstatat(at.0, at.1, AtFlags::AT_SYMLINK_NOFOLLOW)?,
            };
            if is_whiteout(&stat) {
                return Ok(Put::Whiteout);
            }
            self.write(at, path, stat).map(|()| Put::Written)
        })?;
        Ok(done.unwrap_or(Put::Gone))
    }

    fn write(
        &mut self,
        at: (BorrowedFd<'_>, &[u8]),
        path: &[u8],
        mut stat: FileStat,
    ) -> Result<()> {
        let shown = || path.escape_ascii();
        let mut attributes = attributes(at.0, at.1)?;
        if self.ids.convert(&mut attributes) {
            let what = "capabilities or ACL entries of ids that are not mapped in the container are not included";
            (self.warn)(&format!("{}: {what}", shown()));
        }
        (stat.st_uid, stat.st_gid) = match self.ids.of_owner(stat.st_uid, stat.st_gid) {
            Err(_) if self.nobody => {
                (self.warn)(
                    "files whose owners are not mapped in the container belong to nobody, as in the container",
                );
                self.ids.of_owner_or_nobody(stat.st_uid, stat.st_gid)
            }
            owner => owner?,
        };
        if !self.writer.file(&File { path, at, stat, attributes })? {
            (self.warn)(&format!("{}: socket not included", shown()));
        }
        Ok(())
    }
}

/// Writes the merged tree of a container as an archive.
///
/// # Errors
///
/// If the container's files cannot be read, or the archive cannot be written.
pub fn export<W: Write>(upper: &Upper, ids: &Ids, out: W, warn: &mut dyn FnMut(&str)) -> Result<W> {
    let mut packer = Packer { writer: Writer::new(out, Holes::Map), ids, nobody: true, warn };
    let mut path = Vec::new();
    let root = Merged::root(&upper.below)?;
    // Each directory with its remaining names, and the length of its path.
    let mut levels = vec![(root.names()?.into_iter(), root, 0)];
    while let Some((names, dir, length)) = levels.last_mut() {
        path.truncate(*length);
        let Some(name) = names.next() else {
            levels.pop();
            continue;
        };
        walk::push(&mut path, &name)?;
        let what = || path.escape_ascii().to_string();
        let Some(found) = dir.find(&name)? else { continue };
        let at = (found.dir.as_fd(), found.name.as_slice());
        let put = packer.put(at, &path, found.stat).with_context(what)?;
        if put == Put::Written && walk::is_directory(&found) {
            let inside = dir.enter(&name).with_context(what)?;
            levels.push((inside.names().with_context(what)?.into_iter(), inside, path.len()));
        }
    }
    packer.writer.finish()
}
