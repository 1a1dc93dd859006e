//! Directories of a tree being created, by descriptors: the names come from an untrusted archive, and must
//! not lead outside the tree.

use crate::tree::view::View;
use crate::tree::whiteout;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{AtFlags, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use sys::Errno;
use sys::path::DIRECTORY_HANDLE;

/// A tree, and the current position in it.
#[derive(Debug)]
pub(crate) struct Dirs<'a> {
    root: OwnedFd,
    /// The layers below, whose links are followed, too; None: not considered.
    below: Option<&'a View>,
    /// The directories from below the root down to the last one that was looked up: the next is often the
    /// same.
    stack: Vec<Level>,
    /// Directories created without an entry so far.
    pub implied: BTreeSet<Vec<u8>>,
    /// New directories, which hide everything below.
    pub opaque: Vec<Vec<u8>>,
    /// Directories that exist in the layers below, but whose contents there are hidden.
    pub emptied: Vec<Vec<u8>>,
    /// The total size of the names in these three.
    bytes: usize,
    /// The path of the last directory that was missing, with the links before it followed.
    pub missing: Vec<u8>,
}

/// A directory on the path.
#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    /// Whether everything below is hidden.
    opaque: bool,
}

/// How to treat a missing directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Create it.
    Make,
    /// Fail with ENOENT.
    Fail,
}

/// The error that something other than a directory exists at a path.
#[derive(Debug)]
pub(crate) struct NoDirectory(Vec<u8>);

impl std::fmt::Display for NoDirectory {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} in its path is not a directory", self.0.escape_ascii())
    }
}

impl std::error::Error for NoDirectory {}

/// The maximum depth: each level is a descriptor, see [`crate::worker::raise_open_files`]. No name of 4096
/// bytes leads deeper, and no usable path.
const MAX_DEPTH: usize = 2048;
/// The kernel's own limit.
const MAX_LINKS: usize = 40;
/// The maximum total size of names of directories without an entry.
const MAX_IMPLIED: usize = 8 << 20;

impl<'a> Dirs<'a> {
    /// The tree below this directory.
    pub fn new(root: OwnedFd, below: Option<&'a View>) -> Self {
        Dirs {
            root,
            below,
            stack: Vec::new(),
            implied: BTreeSet::new(),
            opaque: Vec::new(),
            emptied: Vec::new(),
            bytes: 0,
            missing: Vec::new(),
        }
    }

    /// Its root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The last directory that was looked up.
    pub(crate) fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root.as_fd(), |level| level.fd.as_fd())
    }

    /// The path of the last directory that was looked up, without links.
    pub fn path(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.stack.iter().map(|level| level.name.as_slice()).collect();
        names.join(&b'/')
    }

    /// The path of an entry of that directory.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.path();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Opens the directory of this path. Symbolic links in the path are followed as in a process whose root
    /// directory is the tree: absolute ones start at the root, and `..` does not lead above it.
    ///
    /// # Errors
    ///
    /// If something other than a directory exists on the path, it has too many links or levels, or it is
    /// missing and not to be created.
    pub fn enter(&mut self, parts: &[&[u8]], missing: Missing) -> Result<BorrowedFd<'_>> {
        let same = self.stack.iter().zip(parts).take_while(|(level, part)| level.name == **part);
        let same = same.count();
        self.stack.truncate(same);
        let mut rest: VecDeque<Vec<u8>> = parts[same..].iter().map(|part| part.to_vec()).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == b".." {
                self.stack.pop();
                continue;
            }
            let link = match self.step(&name, missing) {
                Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => {
                    self.missing = self.path_of(&name);
                    for part in &rest {
                        self.missing.push(b'/');
                        self.missing.extend_from_slice(part);
                    }
                    return Err(error);
                }
                link => link?,
            };
            let Some(link) = link else { continue };
            links += 1;
            ensure!(links <= MAX_LINKS, "too many symbolic links in its path");
            if link.starts_with(b"/") {
                self.stack.clear();
            }
            for part in link.split(|&byte| byte == b'/').rev() {
                if !part.is_empty() && part != b"." {
                    rest.push_front(part.to_vec());
                }
            }
        }
        Ok(self.here())
    }

    /// Opens the next component; if it is a link, returns its target.
    fn step(&mut self, name: &[u8], missing: Missing) -> Result<Option<Vec<u8>>> {
        ensure!(self.stack.len() < MAX_DEPTH, "more than {MAX_DEPTH} directories deep");
        match openat(self.here(), name, DIRECTORY_HANDLE, Mode::empty()) {
            Ok(fd) => self.push(name, fd)?,
            Err(Errno::ENOENT) => {
                if let Some(link) = self.link_below(name)? {
                    return Ok(Some(link));
                }
                ensure!(missing == Missing::Make, Errno::ENOENT);
                self.make(name)?;
            }
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                match readlinkat(self.here(), name) {
                    Ok(link) => return Ok(Some(link.as_bytes().to_vec())),
                    Err(Errno::EINVAL) => {}
                    Err(errno) => return Err(errno).context("readlink"),
                }
                let stat = fstatat(self.here(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                if missing == Missing::Fail || !whiteout::is_whiteout(&stat) {
                    bail!(NoDirectory(name.to_vec()));
                }
                // A whiteout followed by an entry in the same directory: it is a new one.
                whiteout::remove(self.here(), name)?;
                self.make(name)?;
                self.set_opaque()?;
                self.add_opaque(self.path())?;
            }
            Err(errno) => return Err(errno).with_context(|| name.escape_ascii().to_string()),
        }
        Ok(None)
    }

    fn push(&mut self, name: &[u8], fd: OwnedFd) -> Result<()> {
        let above = self.stack.last().is_some_and(|level| level.opaque);
        let opaque = self.below.is_some() && (above || whiteout::is_opaque(fd.as_fd(), b".")?);
        self.stack.push(Level { name: name.to_vec(), fd, opaque });
        Ok(())
    }

    /// Hides the contents of the last directory in the layers below. Its existence and attributes there are
    /// unaffected.
    ///
    /// # Errors
    ///
    /// If the directory cannot be made opaque, or there are too many names.
    pub fn empty(&mut self) -> Result<()> {
        self.set_opaque()?;
        let path = self.path();
        self.count(&path)?;
        self.emptied.push(path);
        Ok(())
    }

    fn set_opaque(&mut self) -> Result<()> {
        if let Some(level) = self.stack.last_mut() {
            whiteout::make_opaque(level.fd.as_fd(), b".")?;
            level.opaque = true;
        }
        Ok(())
    }

    /// Records a new, opaque directory.
    pub(crate) fn add_opaque(&mut self, path: Vec<u8>) -> Result<()> {
        self.count(&path)?;
        self.opaque.push(path);
        Ok(())
    }

    fn count(&mut self, path: &[u8]) -> Result<()> {
        self.bytes += path.len();
        ensure!(self.bytes < MAX_IMPLIED, "too many directories without an entry, or opaque ones");
        Ok(())
    }

    /// The target of `name`, which does not exist here, if it is a link in the layers below.
    fn link_below(&self, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(below) = self.below else { return Ok(None) };
        if self.stack.last().is_some_and(|level| level.opaque) {
            return Ok(None);
        }
        let above = self.stack.iter().map(|level| level.name.as_slice());
        let parts: Vec<&[u8]> = above.chain([name]).collect();
        match below.find(&parts, below.len())? {
            Some(found) if found.is(SFlag::S_IFLNK) => {
                Ok(Some(readlinkat(&found.dir, found.name.as_slice())?.as_bytes().to_vec()))
            }
            Some(found) if !found.is(SFlag::S_IFDIR) => bail!(NoDirectory(name.to_vec())),
            _ => Ok(None),
        }
    }

    fn make(&mut self, name: &[u8]) -> Result<()> {
        mkdirat(self.here(), name, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("mkdir {}", name.escape_ascii()))?;
        let fd = openat(self.here(), name, DIRECTORY_HANDLE, Mode::empty())?;
        self.push(name, fd)?;
        let path = self.path();
        self.count(&path)?;
        self.implied.insert(path);
        Ok(())
    }

    /// The entry `name` of the last directory is about to be removed: it must not be found on the stack any
    /// more.
    pub fn forget(&mut self) {
        self.stack.clear();
    }
}

/// The components of a path in an archive, relative to its root, with or without a leading slash. The error
/// describes the problem.
///
/// # Errors
///
/// If the path is too long, contains a NUL byte, or leads above the root.
pub fn parts(path: &[u8]) -> Result<Vec<&[u8]>> {
    ensure!(path.len() <= 4096, "its name has {} bytes, the maximum is 4096", path.len());
    ensure!(!path.contains(&0), "its name contains a NUL byte");
    let mut parts: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => ensure!(parts.pop().is_some(), "its name leads out of the image with .."),
            name => parts.push(name),
        }
    }
    Ok(parts)
}

/// Whether this directory exists.
pub fn is_directory(dir: BorrowedFd<'_>, name: &[u8]) -> bool {
    let kind = |mode| sys::file::kind(mode);
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| kind(stat.st_mode) == SFlag::S_IFDIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Scratch, Dirs<'static>) {
            let path =
                std::env::temp_dir().join(format!("brig-dirs-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let fd = nix::fcntl::open(&path, DIRECTORY_HANDLE, Mode::empty()).unwrap();
            (Scratch(path), Dirs::new(fd, None))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            crate::tree::remove_path(&self.0).unwrap();
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_errors() {
        assert_eq!(parts(b"./a//b/").unwrap(), [b"a", b"b"]);
        assert!(parts(b"./").unwrap().is_empty() && parts(b"/").unwrap().is_empty());
        assert_eq!(parts(b"//a/../b").unwrap(), [b"b"]);
        for path in [&b".."[..], b"/..", b"a/../../b", b"a\0b", &[b'x'; 4097]] {
            assert!(parts(path).is_err(), "{}", path.escape_ascii());
        }
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let (scratch, mut dirs) = Scratch::new("links");
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, scratch.0.join(name)).unwrap();
        };
        dirs.enter(&[b"usr", b"lib"], Missing::Make).unwrap();
        link("usr/lib", "lib");
        link("../usr/lib", "usr/up");
        link("/usr", "absolute");
        link("../..", "usr/out");
        link("loop", "loop");
        dirs.enter(&[b"lib", b"x"], Missing::Make).unwrap();
        assert_eq!(dirs.path(), b"usr/lib/x");
        dirs.enter(&[b"usr", b"up", b"x"], Missing::Fail).unwrap();
        assert_eq!(dirs.path(), b"usr/lib/x");
        for (way, path) in [
            (vec![&b"absolute"[..], b"lib"], &b"usr/lib"[..]),
            (vec![b"usr", b"out", b"usr"], b"usr"),
        ] {
            dirs.enter(&way, Missing::Fail).unwrap();
            assert_eq!(dirs.path(), path);
        }
        assert!(dirs.enter(&[b"loop", b"x"], Missing::Make).is_err());
        assert!(dirs.enter(&[b"missing"], Missing::Fail).is_err());
        std::fs::File::create(scratch.0.join("file")).unwrap();
        assert!(dirs.enter(&[b"file", b"x"], Missing::Make).is_err());
        let implied: Vec<_> = ["usr", "usr/lib", "usr/lib/x"].map(|p| p.as_bytes().to_vec()).into();
        assert_eq!(dirs.implied, implied.into_iter().collect());
    }
}
