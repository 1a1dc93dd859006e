//! What a container has changed: its upper layer, compared with the layers below it. Nothing else is
//! looked at, so it takes as long as there are changes, not as long as there are files.

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

/// An upper, and what it lies on.
#[derive(Debug)]
pub struct Upper {
    /// Its directory.
    pub root: OwnedFd,
    /// The layers below.
    pub below: View,
    /// Destinations of the container's mounts, as paths without a slash in front: what is there because
    /// of them is not a change.
    pub mount_points: BTreeSet<Vec<u8>>,
    /// Which of the layers below is brig's own: a changed file of it is not a change of the image.
    pub own_layer: Option<usize>,
}

/// Something of an upper.
#[derive(Debug)]
pub struct Node {
    /// Without a slash in front.
    pub path: Vec<u8>,
    /// What it means.
    pub change: Change,
}

/// What a name in an upper means.
#[derive(Debug)]
pub enum Change {
    /// There was something below, and it is gone.
    Deleted,
    /// There was nothing of the name below.
    Added(FileStat),
    /// There was.
    Changed {
        /// What it is now.
        stat: FileStat,
        /// How it differs.
        what: Difference,
        /// A directory of which nothing below shows.
        opaque: bool,
    },
}

/// How something differs from what was below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Not at all: a directory that is there for what is in it.
    Nothing,
    /// Owner, mode, times, attributes.
    Metadata,
    /// Its content, or what it is at all.
    Content,
}

/// A directory or file of an upper that overlayfs says lies elsewhere below: with the options
/// redirect_dir and metacopy, which brig does not use.
const ELSEWHERE: [&std::ffi::CStr; 4] = [
    c"trusted.overlay.redirect",
    c"user.overlay.redirect",
    c"trusted.overlay.metacopy",
    c"user.overlay.metacopy",
];

/// A directory of an upper, whose entries are being looked at.
struct Level {
    dir: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    below: Merged,
    /// Nothing below shows in it.
    hidden: bool,
    /// Which node it is, and whether none below is merged with it.
    node: Option<(usize, bool)>,
    /// Of its path.
    length: usize,
}

/// Nodes on their way to whoever asked for them.
struct Nodes<'a> {
    act: &'a mut dyn FnMut(Node) -> Result<()>,
    /// Directories that may turn out to be no change, each in the one before it.
    waiting: Vec<Node>,
    /// How many there have been, with these.
    count: usize,
}

impl Nodes<'_> {
    /// A directory waits for what is in it. Gives its number.
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
    /// Everything in it, in the order of the names, a directory before what is in it.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        self.each(&mut |node| {
            nodes.push(node);
            Ok(())
        })?;
        Ok(nodes)
    }

    /// The same, one after the other: an upper may have more than memory should hold.
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

    /// A directory is done: what is there because of mounts alone is not a change.
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

    /// Opens something of it.
    pub fn open(&self, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
        let path = CString::new(path)?;
        Ok(open_in(self.root.as_fd(), &path, flags | OFlag::O_NOFOLLOW, Links::Refuse)?)
    }

    /// What one entry means, and the directory to go on in if it is one. Nothing if it means nothing.
    fn one(
        &self,
        level: &Level,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<(Change, Option<Level>)>> {
        let dir = level.dir.as_fd();
        let stat = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // The container goes on while it is looked at.
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
            // What a file is bound onto.
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

    /// An empty directory that brig has made for a mount, or for what leads to one, or that has a new
    /// time because of that.
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

    /// The names below of an opaque directory that it does not have any more.
    pub fn hidden_names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let here = self.open(path, DIRECTORY)?;
        let mut gone = self.below.names(&parts)?;
        gone.retain(|name| fstatat(&here, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).is_err());
        Ok(gone)
    }
}

/// The names in a directory, sorted.
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

/// Whether a mode is of this kind.
pub fn is(stat: &FileStat, kind: SFlag) -> bool {
    sys::file::kind(stat.st_mode) == kind
}

fn refuse_elsewhere(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    // One call for all of them: most files have no attributes.
    for attribute in xattr::list(&whiteout::path_in(dir, name))? {
        if ELSEWHERE.iter().any(|other| other.to_bytes() == attribute) {
            bail!("has the attribute {}, set by another overlay", attribute.escape_ascii());
        }
    }
    Ok(())
}

/// Attributes, without those of overlayfs.
pub fn attributes(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = whiteout::path_in(dir, name);
    let mut attributes = Vec::new();
    for name in xattr::list(&path)? {
        let overlays = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
        if overlays {
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
