//! A merged directory, reached from its parent: a walk through a tree costs the same for each entry, however
//! deep it is.

use crate::tree::view::{Found, View};
use crate::tree::whiteout;
use anyhow::{Context, Result, ensure};
use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use sys::Errno;
use sys::path::{DIRECTORY, DIRECTORY_HANDLE};

/// The directories of all layers that have it, highest first.
#[derive(Debug)]
pub struct Merged {
    dirs: Vec<(usize, OwnedFd)>,
}

/// The maximum length of a path.
const MAX_PATH: usize = 4096;

/// Appends a component; fails if the path becomes too long.
///
/// # Errors
///
/// If the path becomes too long.
pub fn push(path: &mut Vec<u8>, name: &[u8]) -> Result<()> {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    ensure!(
        path.len() <= MAX_PATH,
        "a path longer than {MAX_PATH} bytes, the maximum in an image: {}…",
        path[..64].escape_ascii()
    );
    Ok(())
}

impl Merged {
    /// The root directory of these layers.
    ///
    /// # Errors
    ///
    /// If a layer's directory cannot be opened.
    pub fn root(view: &View) -> Result<Merged> {
        Ok(Merged { dirs: view.roots()? })
    }

    /// An empty directory: for one that hides everything below.
    pub fn nothing() -> Merged {
        Merged { dirs: Vec::new() }
    }

    /// The entry of this name.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn find(&self, name: &[u8]) -> Result<Option<Found>> {
        for (layer, dir) in &self.dirs {
            let Some(stat) = stat_in(dir, name)? else { continue };
            if whiteout::is_whiteout(&stat) {
                return Ok(None);
            }
            let (dir, name) = (dir.try_clone()?, name.to_vec());
            return Ok(Some(Found { layer: *layer, dir, name, stat }));
        }
        Ok(None)
    }

    /// The directory of this name, if it is one.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn enter(&self, name: &[u8]) -> Result<Merged> {
        let mut dirs = Vec::new();
        for (layer, dir) in &self.dirs {
            let inside = match openat(dir, name, DIRECTORY_HANDLE, Mode::empty()) {
                Err(Errno::ENOENT) => continue,
                // A whiteout, or another file that hides it.
                Err(Errno::ENOTDIR | Errno::ELOOP) => break,
                inside => inside.with_context(|| name.escape_ascii().to_string())?,
            };
            let ends = whiteout::is_opaque(inside.as_fd(), b".")?;
            dirs.push((*layer, inside));
            if ends {
                break;
            }
        }
        Ok(Merged { dirs })
    }

    /// The names in it, sorted.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let (mut shown, mut hidden) = (BTreeSet::new(), BTreeSet::new());
        for (_, dir) in &self.dirs {
            let mut list = Dir::openat(dir, ".", DIRECTORY, Mode::empty())?;
            for entry in list.iter() {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if [&b"."[..], b".."].contains(&name) || shown.contains(name) {
                    continue;
                }
                let may_hide = matches!(entry.file_type(), None | Some(Type::CharacterDevice));
                let hides = may_hide
                    && stat_in(dir, name)?.is_some_and(|stat| whiteout::is_whiteout(&stat));
                match hides {
                    true => drop(hidden.insert(name.to_vec())),
                    false if hidden.contains(name) => {}
                    false => drop(shown.insert(name.to_vec())),
                }
            }
        }
        Ok(shown.into_iter().collect())
    }
}

fn stat_in(dir: &OwnedFd, name: &[u8]) -> Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(None),
        stat => Ok(Some(stat.with_context(|| name.escape_ascii().to_string())?)),
    }
}

/// Whether something found is a directory.
pub fn is_directory(found: &Found) -> bool {
    found.is(SFlag::S_IFDIR)
}
