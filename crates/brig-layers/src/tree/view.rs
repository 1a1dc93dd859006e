//! A merged view of layers as their overlay would show them, without mounting it: finds the layer that has a
//! path, with whiteouts and opaque directories.

use crate::tree::changes;
use crate::tree::whiteout;
use anyhow::{Context, Result, bail};
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sys::Errno;
use sys::path::{DIRECTORY, DIRECTORY_HANDLE};

/// Layers, lowest first.
#[derive(Debug, Default)]
pub struct View {
    layers: Vec<LayerDir>,
}

#[derive(Debug)]
struct LayerDir {
    root: OwnedFd,
    /// Directories without an entry in the archive, which exist only as parents.
    implied: BTreeSet<Vec<u8>>,
}

/// A file that was found.
#[derive(Debug)]
pub struct Found {
    /// The layer that has it.
    pub layer: usize,
    /// Its parent directory in that layer.
    pub dir: OwnedFd,
    /// Its name in that directory.
    pub name: Vec<u8>,
    /// Its metadata.
    pub stat: FileStat,
}

/// What one layer contains at a path.
enum LayerEntry {
    /// Nothing: continue with the layer below.
    Nothing,
    /// A whiteout: it does not exist, whatever is below.
    Hidden,
    /// This file; a directory is merged with those below unless `ends`.
    Here { dir: OwnedFd, name: Vec<u8>, stat: FileStat, ends: bool },
}

/// The kernel's own limit.
const MAX_LINKS: usize = 40;

impl Found {
    /// Whether it is of this type.
    pub fn is(&self, kind: SFlag) -> bool {
        sys::file::kind(self.stat.st_mode) == kind
    }
}

impl View {
    /// Adds a layer on top. `implied`: its directories without an entry in the archive.
    ///
    /// # Errors
    ///
    /// If the directory cannot be opened.
    pub fn add(&mut self, path: &Path, implied: BTreeSet<Vec<u8>>) -> Result<()> {
        let root = open(path, DIRECTORY_HANDLE, Mode::empty())
            .with_context(|| path.display().to_string())?;
        self.layers.push(LayerDir { root, implied });
        Ok(())
    }

    /// Adds a layer on top, whose directory is open.
    pub fn add_open(&mut self, root: OwnedFd) {
        self.layers.push(LayerDir { root, implied: BTreeSet::new() });
    }

    /// Finds a path in the highest layer that has it, without following links. `below`: only considers that
    /// many of the lowest layers.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn find(&self, parts: &[&[u8]], below: usize) -> Result<Option<Found>> {
        for (index, layer) in self.layers[..below].iter().enumerate().rev() {
            match layer.lookup(parts)? {
                LayerEntry::Nothing => {}
                LayerEntry::Hidden => return Ok(None),
                LayerEntry::Here { dir, name, stat, .. } => {
                    return Ok(Some(Found { layer: index, dir, name, stat }));
                }
            }
        }
        Ok(None)
    }

    /// The directory whose attributes apply at this path: that of the highest layer with an entry for it. The
    /// boolean is false if a higher layer has it too, without an entry.
    pub(crate) fn named_directory(&self, parts: &[&[u8]]) -> Result<Option<(Found, bool)>> {
        let path = parts.join(&b'/');
        let mut highest = true;
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let LayerEntry::Here { dir, name, stat, .. } = (match layer.lookup(parts)? {
                LayerEntry::Nothing => continue,
                entry => entry,
            }) else {
                return Ok(None);
            };
            let found = Found { layer: index, dir, name, stat };
            if !found.is(SFlag::S_IFDIR) {
                return Ok(None);
            }
            if !layer.implied.contains(&path) {
                return Ok(Some((found, highest)));
            }
            // A directory that this layer empties is still the one below.
            highest = false;
        }
        Ok(None)
    }

    /// Whether a layer has or hides a path.
    ///
    /// # Errors
    ///
    /// If the layer cannot be read.
    pub(crate) fn has_or_hides(&self, layer: usize, parts: &[&[u8]]) -> Result<bool> {
        Ok(!matches!(self.layers[layer].lookup(parts)?, LayerEntry::Nothing))
    }

    /// Whether a directory of a layer is merged with one of the layers below.
    pub(crate) fn merges(&self, layer: usize, parts: &[&[u8]]) -> Result<bool> {
        let LayerEntry::Here { ends: false, .. } = self.layers[layer].lookup(parts)? else {
            return Ok(false);
        };
        Ok(self.find(parts, layer)?.is_some_and(|found| found.is(SFlag::S_IFDIR)))
    }

    /// The names in a merged directory.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn names(&self, parts: &[&[u8]]) -> Result<Vec<Vec<u8>>> {
        let mut shown = BTreeSet::new();
        let mut hidden = BTreeSet::new();
        for layer in self.layers.iter().rev() {
            let (dir, name, stat, ends) = match layer.lookup(parts)? {
                LayerEntry::Nothing => continue,
                LayerEntry::Hidden => break,
                LayerEntry::Here { dir, name, stat, ends } => (dir, name, stat, ends),
            };
            if sys::file::kind(stat.st_mode) != SFlag::S_IFDIR {
                break;
            }
            let dir = openat(&dir, name.as_slice(), DIRECTORY, Mode::empty())?;
            for name in changes::names(dir.as_fd())? {
                let stat = fstatat(&dir, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                match whiteout::is_whiteout(&stat) {
                    true => drop(hidden.insert(name)),
                    false if hidden.contains(&name) => {}
                    false => drop(shown.insert(name)),
                }
            }
            hidden.extend(shown.iter().cloned());
            if ends {
                break;
            }
        }
        Ok(shown.into_iter().collect())
    }

    /// The layers' root directories and their indexes, highest first.
    pub(crate) fn roots(&self) -> Result<Vec<(usize, OwnedFd)>> {
        let root = |(index, layer): (usize, &LayerDir)| Ok((index, layer.root.try_clone()?));
        self.layers.iter().enumerate().rev().map(root).collect()
    }

    /// The number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// Resolves a path of the image, following links as in the container.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read, or there are too many links.
    pub fn resolve(&self, path: &[u8]) -> Result<Option<Found>> {
        let Some(way) = self.way(path, self.len())? else { return Ok(None) };
        let parts: Vec<&[u8]> = way.iter().map(Vec::as_slice).collect();
        match parts.is_empty() {
            true => Ok(None),
            false => self.find(&parts, self.len()),
        }
    }

    /// The path without links that a path of the image resolves to, if it exists. `below`: only considers
    /// that many of the lowest layers.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read, or there are too many links.
    pub fn way(&self, path: &[u8], below: usize) -> Result<Option<Vec<Vec<u8>>>> {
        let Some((way, exists)) = self.follow(path, below)? else {
            bail!("{}: too many links", path.escape_ascii());
        };
        Ok(exists.then_some(way))
    }

    /// The path without links that a path of the image leads to, whether or not something exists there; None if
    /// there are too many links.
    ///
    /// # Errors
    ///
    /// If a layer cannot be read.
    pub fn place(&self, path: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        Ok(self.follow(path, self.len())?.map(|(way, _)| way))
    }

    fn follow(&self, path: &[u8], below: usize) -> Result<Option<(Vec<Vec<u8>>, bool)>> {
        let split = |path: &[u8]| -> VecDeque<Vec<u8>> {
            let names = path.split(|&byte| byte == b'/');
            names.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
        };
        let mut rest = split(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let (mut links, mut exists) = (0, true);
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                done.pop();
                continue;
            }
            done.push(name);
            let parts: Vec<&[u8]> = done.iter().map(Vec::as_slice).collect();
            let Some(here) = self.find(&parts, below)? else {
                exists = false;
                continue;
            };
            if here.is(SFlag::S_IFLNK) {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(None);
                }
                let link = readlinkat(&here.dir, here.name.as_slice())?;
                match link.as_bytes().starts_with(b"/") {
                    true => done.clear(),
                    false => drop(done.pop()),
                }
                let mut to = split(link.as_bytes());
                to.append(&mut rest);
                rest = to;
            }
        }
        Ok(Some((done, exists)))
    }

    /// Opens a file of the image for reading; None if it does not exist. Only regular files are opened: it
    /// may be a fifo.
    pub(crate) fn open_file(&self, path: &[u8]) -> Result<Option<File>> {
        let Some(found) = self.resolve(path)? else { return Ok(None) };
        if !found.is(SFlag::S_IFREG) {
            return Ok(None);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&found.dir, found.name.as_slice(), flags, Mode::empty())
            .with_context(|| path.escape_ascii().to_string())?;
        Ok(Some(file.into()))
    }
}

impl LayerDir {
    /// Looks up a path in this layer.
    fn lookup(&self, parts: &[&[u8]]) -> Result<LayerEntry> {
        let mut dir = self.root.try_clone()?;
        let mut opaque = false;
        let nothing = |opaque| if opaque { LayerEntry::Hidden } else { LayerEntry::Nothing };
        for (index, name) in parts.iter().enumerate() {
            let stat = match fstatat(&dir, *name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => return Ok(nothing(opaque)),
                Err(errno) => return Err(errno).with_context(|| name.escape_ascii().to_string()),
            };
            if whiteout::is_whiteout(&stat) {
                return Ok(LayerEntry::Hidden);
            }
            let kind = sys::file::kind(stat.st_mode);
            let is_dir = kind == SFlag::S_IFDIR;
            if index + 1 == parts.len() {
                let ends = opaque || !is_dir || is_opaque(dir.as_fd(), name)?;
                return Ok(LayerEntry::Here { dir, name: name.to_vec(), stat, ends });
            }
            if !is_dir {
                return Ok(LayerEntry::Hidden);
            }
            opaque = opaque || is_opaque(dir.as_fd(), name)?;
            dir = openat(&dir, *name, DIRECTORY_HANDLE, Mode::empty())?;
        }
        // The root itself.
        let stat = nix::sys::stat::fstat(&dir)?;
        Ok(LayerEntry::Here { dir, name: b".".to_vec(), stat, ends: false })
    }
}

fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    whiteout::is_opaque(dir, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            tree::remove_path(&self.0).unwrap();
        }
    }

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        let scratch = std::env::temp_dir().join(format!("brig-view-{}", std::process::id()));
        let scratch = Scratch(scratch);
        let layer = |name: &str| scratch.0.join(name);
        for dir in ["low/etc/a", "low/etc/b", "high/etc/b"] {
            std::fs::create_dir_all(layer(dir)).unwrap();
        }
        let write = |path: &str| File::create(layer(path)).map(drop).unwrap();
        ["low/etc/passwd", "low/etc/gone", "low/etc/b/x", "high/etc/b/y"]
            .into_iter()
            .for_each(write);
        symlink("/etc/passwd", layer("low/etc/absolute")).unwrap();
        symlink("../../../etc/absolute", layer("high/etc/up")).unwrap();
        let etc = open(&layer("high/etc"), DIRECTORY_HANDLE, Mode::empty()).unwrap();
        whiteout::make(etc.as_fd(), b"gone").unwrap();
        whiteout::make_opaque(etc.as_fd(), b"b").unwrap();
        let mut view = View::default();
        view.add(&layer("low"), BTreeSet::new()).unwrap();
        view.add(&layer("high"), BTreeSet::from([b"etc".to_vec()])).unwrap();
        let layer_of = |path: &str| view.resolve(path.as_bytes()).unwrap().map(|f| f.layer);
        for (path, expected) in [
            ("/etc/passwd", Some(0)),
            ("/etc/gone", None),
            ("/etc/b/x", None),
            ("/etc/b/y", Some(1)),
            ("/etc/up", Some(0)),
            ("/etc/passwd/x", None),
        ] {
            assert_eq!(layer_of(path), expected, "{path}");
        }
        assert!(view.open_file(b"etc/up").unwrap().is_some());
        assert!(view.open_file(b"etc/a").unwrap().is_none());
        // The higher layer has it, but no entry for it.
        let (found, highest) = view.named_directory(&[b"etc"]).unwrap().unwrap();
        assert_eq!((found.layer, highest), (0, false));
        let (found, highest) = view.named_directory(&[b"etc", b"b"]).unwrap().unwrap();
        assert_eq!((found.layer, highest), (1, true));
    }
}
