//! The changes of a container: its upper layer, compared with the layers below. Only changed files are read,
//! so the cost depends on their number, not on that of all files.

use crate::tree::view::{Found, View};
use crate::tree::walk::{self, Merged};
use crate::tree::whiteout;
use anyhow::{Context, Result, bail};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::path::DIRECTORY;
use sys::path::{Links, open_in};
use sys::{Errno, xattr};

/// An upper, and the layers below it.
#[derive(Debug)]
pub struct Upper {
    /// Its directory.
    pub root: OwnedFd,
    /// The layers below.
    pub below: View,
    /// Destinations of the container's mounts, as paths without a leading slash: files created for them are
    /// not changes.
    pub mount_points: BTreeSet<Vec<u8>>,
    /// Which of the layers below is brig's own: its files are not part of the image.
    pub own_layer: Option<usize>,
}

/// An entry of an upper.
#[derive(Debug)]
pub struct Node {
    /// Without a leading slash.
    pub path: Vec<u8>,
    /// The kind of change.
    pub change: Change,
}

/// A kind of change.
#[derive(Debug)]
pub enum Change {
    /// It existed below, and was deleted.
    Deleted,
    /// It did not exist below.
    Added(FileStat),
    /// It existed below.
    Changed {
        /// The current metadata.
        stat: FileStat,
        /// How it differs.
        what: Difference,
        /// A directory that hides everything below it.
        opaque: bool,
    },
}

/// How a file differs from that below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Not at all: a directory that only exists as the parent of changes.
    Nothing,
    /// Owner, mode, times, attributes.
    Metadata,
    /// Its content, or its type.
    Content,
}

/// Attributes of files of an upper whose data is elsewhere below: with the options redirect_dir and metacopy,
/// which brig does not use.
const ELSEWHERE: [&std::ffi::CStr; 4] = [
    c"trusted.overlay.redirect",
    c"user.overlay.redirect",
    c"trusted.overlay.metacopy",
    c"user.overlay.metacopy",
];

/// A directory of an upper that is being walked.
struct Level {
    dir: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    below: Merged,
    /// Whether everything below it is hidden.
    hidden: bool,
    /// The index of its node, and whether it is not merged with one below.
    node: Option<(usize, bool)>,
    /// The length of its path.
    length: usize,
}

/// Nodes to be passed to the caller.
struct Nodes<'a> {
    act: &'a mut dyn FnMut(Node) -> Result<()>,
    /// Directories that may turn out to be unchanged, each inside the previous one.
    waiting: Vec<Node>,
    /// The number of nodes so far, including these.
    count: usize,
}

impl Nodes<'_> {
    /// Delays a directory until its contents are known. Returns its index.
    fn hold(&mut self, node: Node) -> usize {
        self.waiting.push(node);
        self.count += 1;
        self.count - 1
    }

    fn give(&mut self, node: Node) -> Result<()> {
        self.give_waiting()?;
        self.count += 1;
        (self.act)(node)
    }

    fn give_waiting(&mut self) -> Result<()> {
        self.waiting.drain(..).try_for_each(&mut *self.act)
    }
}

impl Upper {
    /// All changes, sorted by name, directories before their contents.
    ///
    /// # Errors
    ///
    /// If the upper or a layer cannot be read.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        self.each(&mut |node| {
            nodes.push(node);
            Ok(())
        })?;
        Ok(nodes)
    }

    /// Like [`Self::nodes`], one by one: an upper may have more changes than fit into memory.
    ///
    /// # Errors
    ///
    /// If the upper or a layer cannot be read, or `act` fails.
    pub fn each(&self, act: &mut dyn FnMut(Node) -> Result<()>) -> Result<()> {
        let (mut nodes, mut path) = (Nodes { act, waiting: Vec::new(), count: 0 }, Vec::new());
        let top = self.root.try_clone()?;
        let root = Level {
            names: names(top.as_fd())?.into_iter(),
            dir: top,
            below: Merged::root(&self.below)?,
            hidden: false,
            node: None,
            length: 0,
        };
        let mut levels = vec![root];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.length);
            let Some(name) = level.names.next() else {
                self.leave(levels.pop(), &path, &mut nodes)?;
                continue;
            };
            walk::push(&mut path, &name)?;
            let found =
                self.one(level, &name, &path).with_context(|| path.escape_ascii().to_string())?;
            let Some((change, inside)) = found else { continue };
            let node = Node { path: path.clone(), change };
            match inside {
                Some(mut inside) => {
                    inside.node = inside.node.map(|(_, is_new)| (nodes.hold(node), is_new));
                    levels.push(inside);
                }
                None => nodes.give(node)?,
            }
        }
        nodes.give_waiting()
    }

    /// After all entries of a directory: if it only exists because of mounts, it is not a change.
    fn leave(&self, level: Option<Level>, path: &[u8], nodes: &mut Nodes<'_>) -> Result<()> {
        let Some((at, is_new)) = level.and_then(|level| level.node) else { return Ok(()) };
        if nodes.count != at + 1 {
            return Ok(());
        }
        let own = nodes.waiting.last();
        if own.is_some_and(|own| self.is_for_mounts(path, is_new, &own.change)) {
            nodes.waiting.pop();
            nodes.count -= 1;
            return Ok(());
        }
        nodes.give_waiting()
    }

    /// Opens a file of the upper.
    ///
    /// # Errors
    ///
    /// If the file does not exist, or its path contains a link.
    pub fn open(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
        let path = CString::new(path)?;
        Ok(open_in(self.root.as_fd(), &path, flags | OFlag::O_NOFOLLOW, Links::Refuse)?)
    }

    /// The change that an entry represents, and the directory to walk if it is one. None if it is not a
    /// change.
    fn one(
        &self,
        level: &Level,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<(Change, Option<Level>)>> {
        let dir = level.dir.as_fd();
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The container may change it concurrently.
            Err(Errno::ENOENT) => return Ok(None),
            stat => stat?,
        };
        let below = level.below.find(name)?;
        if whiteout::is_whiteout(&stat) {
            return Ok(below.map(|_| (Change::Deleted, None)));
        }
        if below.as_ref().is_some_and(|found| self.is_own(found)) {
            return Ok(None);
        }
        refuse_elsewhere(dir, name)?;
        if !is(&stat, SFlag::S_IFDIR) {
            let change = self.file(dir, name, path, stat, below)?;
            return Ok(change.map(|change| (change, None)));
        }
        let was_other = below.as_ref().is_some_and(|found| !walk::is_directory(found));
        let merged = below.filter(walk::is_directory);
        let opaque = level.hidden || merged.is_none() || whiteout::is_opaque(dir, name)?;
        let change = match &merged {
            Some(found) => {
                let what = compare_metadata(dir, name, &stat, found)?;
                Change::Changed { stat, what, opaque }
            }
            None if was_other => Change::Changed { stat, what: Difference::Content, opaque: true },
            None => Change::Added(stat),
        };
        let inside = match openat(dir, name, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(Some((change, None))),
            inside => inside?,
        };
        let below = if opaque { Merged::nothing() } else { level.below.enter(name)? };
        let names = names(inside.as_fd())?.into_iter();
        let node = Some((0, merged.is_none()));
        let length = path.len();
        Ok(Some((change, Some(Level { dir: inside, names, below, hidden: opaque, node, length }))))
    }

    fn file(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: FileStat,
        below: Option<Found>,
    ) -> Result<Option<Change>> {
        Ok(match below {
            // The target of a bind mounted file.
            None if stat.st_size == 0 && self.mount_points.contains(path) => None,
            None => Some(Change::Added(stat)),
            Some(found) => {
                let what = match same_content(dir, name, &stat, &found)? {
                    true => Difference::Metadata,
                    false => Difference::Content,
                };
                Some(Change::Changed { stat, what, opaque: false })
            }
        })
    }

    /// Whether it is an empty directory that brig has created for a mount, or a parent of one, or one whose
    /// time has changed because of that.
    fn is_for_mounts(&self, path: &[u8], is_new: bool, change: &Change) -> bool {
        let leads = |point: &Vec<u8>| {
            point.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let only_times =
            matches!(change, Change::Changed { what, .. } if *what != Difference::Content);
        (is_new || only_times) && self.mount_points.iter().any(leads)
    }

    fn is_own(&self, found: &Found) -> bool {
        self.own_layer == Some(found.layer) && !found.is(SFlag::S_IFDIR)
    }

    /// The names below an opaque directory that do not exist in it.
    ///
    /// # Errors
    ///
    /// If the directory or a layer cannot be read.
    pub fn hidden_names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let here = self.open(path, DIRECTORY)?;
        let mut gone = self.below.names(&parts)?;
        gone.retain(|name| fstatat(&here, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).is_err());
        Ok(gone)
    }
}

/// The names in a directory, sorted.
///
/// # Errors
///
/// If the directory cannot be read.
pub fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>> {
    let mut list = Dir::openat(dir, ".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in list.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a file is of this type.
pub fn is(stat: &FileStat, kind: SFlag) -> bool {
    sys::file::kind(stat.st_mode) == kind
}

fn refuse_elsewhere(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    // A single call to list all: most files have no attributes.
    for attribute in xattr::list(&whiteout::path_in(dir, name))? {
        if ELSEWHERE.iter().any(|other| other.to_bytes() == attribute) {
            bail!("has the attribute {}, set by another overlay", attribute.escape_ascii());
        }
    }
    Ok(())
}

/// Attributes except those of overlayfs.
///
/// # Errors
///
/// If the attributes cannot be read.
pub fn attributes(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = whiteout::path_in(dir, name);
    let mut attributes = Vec::new();
    for name in xattr::list(&path)? {
        if xattr::OVERLAYS.iter().any(|own| name.starts_with(own)) {
            continue;
        }
        let value = xattr::get(&path, &CString::new(name.clone())?)?;
        attributes.extend(value.map(|value| (name, value)));
    }
    attributes.sort_unstable();
    Ok(attributes)
}

fn compare_metadata(
    dir: BorrowedFd<'_>,
    name: &[u8],
    stat: &FileStat,
    below: &Found,
) -> Result<Difference> {
    let of = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid, s.st_mtime, s.st_mtime_nsec);
    let same = of(stat) == of(&below.stat)
        && attributes(dir, name)? == attributes(below.dir.as_fd(), &below.name)?;
    Ok(if same { Difference::Nothing } else { Difference::Metadata })
}

fn same_content(dir: BorrowedFd<'_>, name: &[u8], stat: &FileStat, below: &Found) -> Result<bool> {
    let kind = sys::file::kind(stat.st_mode);
    if !below.is(kind) {
        return Ok(false);
    }
    Ok(match kind {
        SFlag::S_IFREG if stat.st_size != below.stat.st_size => false,
        SFlag::S_IFREG => {
            same_bytes(open_file(dir, name)?, open_file(below.dir.as_fd(), &below.name)?)?
        }
        SFlag::S_IFLNK => readlinkat(dir, name)? == readlinkat(&below.dir, below.name.as_slice())?,
        SFlag::S_IFCHR | SFlag::S_IFBLK => stat.st_rdev == below.stat.st_rdev,
        _ => true,
    })
}

/// Opens a file that is known to be a regular one.
pub(crate) fn open_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(openat(dir, name, flags, Mode::empty())?.into())
}

fn same_bytes(mut a: File, mut b: File) -> Result<bool> {
    let (mut left, mut right) = (vec![0_u8; 1 << 16], vec![0_u8; 1 << 16]);
    loop {
        let length = a.read(&mut left)?;
        if length == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..length]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
}
