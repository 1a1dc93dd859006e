//! The changes of a container: its upper layer, compared with the layers below. Only changed files are read,
//! so the cost depends on their number, not on that of all files.

use crate::tree::live::{settled, unless_gone};
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
    /// What brig has created for the container's mounts, which is not a change.
    pub for_mounts: ForMounts,
    /// Which of the layers below is brig's own: its files are not part of the image.
    pub own_layer: Option<usize>,
}

/// What brig has created for mounts. Paths are without a leading slash.
#[derive(Debug, Default)]
pub struct ForMounts {
    /// Destinations of mounts that are older than anything in the container: brig has created all that leads to
    /// them and is not in the layers.
    pub points: BTreeSet<Vec<u8>>,
    /// Each file and directory created for a mount that was added later.
    pub made: BTreeSet<Vec<u8>>,
    /// The owner and the group of all that, as ids on disk; None if they are not known.
    pub owner: Option<(u32, u32)>,
}

/// An entry of an upper.
#[derive(Debug)]
pub struct Node {
    /// Without a leading slash.
    pub path: Vec<u8>,
    /// The kind of change.
    pub change: Change,
    /// Whether it is in a directory that hides everything below it.
    pub in_opaque: bool,
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
    /// A directory whose times alone have changed.
    Times,
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
    /// The index of its node.
    node: Option<usize>,
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
            let found = settled(level.dir.as_fd(), &name, || self.one(level, &name, &path))
                .with_context(|| path.escape_ascii().to_string())?;
            let Some((change, inside)) = found.flatten() else { continue };
            let node = Node { path: path.clone(), change, in_opaque: level.hidden };
            match inside {
                Some(mut inside) => {
                    inside.node = Some(nodes.hold(node));
                    levels.push(inside);
                }
                None => nodes.give(node)?,
            }
        }
        nodes.give_waiting()
    }

    /// After all entries of a directory: if it only exists because of mounts, it is not a change.
    fn leave(&self, level: Option<Level>, path: &[u8], nodes: &mut Nodes<'_>) -> Result<()> {
        let Some(level) = level else { return Ok(()) };
        if level.node.is_none_or(|at| nodes.count != at + 1) {
            return Ok(());
        }
        if let Some(own) = nodes.waiting.last()
            && self.for_mounts.explains(path, &level, &own.change)?
        {
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
        let below = match level.below.find(name)? {
            Some(found) if !level.hidden && self.is_own(&found, &stat) => return Ok(None),
            // The image has what is below the init layer.
            Some(found) if self.own_layer == Some(found.layer) && !walk::is_directory(&found) => {
                self.find_in_image(path)?
            }
            found => found,
        };
        if whiteout::is_whiteout(&stat) {
            return Ok(below.map(|_| (Change::Deleted, None)));
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
        let inside = openat(dir, name, DIRECTORY, Mode::empty())?;
        // What an opaque directory hides is compared too: it is what the image has.
        let below = if merged.is_none() { Merged::nothing() } else { level.below.enter(name)? };
        let names = names(inside.as_fd())?.into_iter();
        let length = path.len();
        let level = Level { dir: inside, names, below, hidden: opaque, node: None, length };
        Ok(Some((change, Some(level))))
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
            None if self.for_mounts.has_file(path, (dir, name), &stat)? => None,
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

    /// Whether a file is one of the init layer, with changes or without.
    fn is_own(&self, found: &Found, now: &FileStat) -> bool {
        let same_kind = found.is(sys::file::kind(now.st_mode));
        self.own_layer == Some(found.layer) && !walk::is_directory(found) && same_kind
    }

    /// What the image has at a path, without the init layer.
    fn find_in_image(&self, path: &[u8]) -> Result<Option<Found>> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        self.below.find(&parts, self.own_layer.unwrap_or(self.below.len()))
    }

    /// The names below an opaque directory that do not exist in it.
    ///
    /// # Errors
    ///
    /// If the directory or a layer cannot be read.
    pub fn hidden_names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let Some(here) = unless_gone(self.open(path, DIRECTORY))? else { return Ok(Vec::new()) };
        let mut gone = self.below.names(&parts)?;
        gone.retain(|name| fstatat(&here, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).is_err());
        let mut deleted = Vec::new();
        for name in gone {
            if self.find_in_image(&[path, &b"/"[..], &name].concat())?.is_some() {
                deleted.push(name);
            }
        }
        Ok(deleted)
    }
}

impl ForMounts {
    /// Whether a directory without changes in it is one that brig has created, or one whose times alone have
    /// changed because of that. What the container has changed of it stays a change: an image must not be more
    /// permissive than the container was.
    fn explains(&self, path: &[u8], level: &Level, change: &Change) -> Result<bool> {
        let leads = |point: &Vec<u8>| {
            point.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        let to_config = || self.points.iter().any(leads);
        match change {
            Change::Added(stat) => Ok((self.made.contains(path) || to_config())
                && self.is_as_made((level.dir.as_fd(), b"."), stat, 0o755)?),
            Change::Changed {
                what: Difference::Nothing | Difference::Times,
                opaque: false,
                ..
            } => Ok(to_config() || self.made.iter().any(leads)),
            _ => Ok(false),
        }
    }

    /// Whether a file that does not exist below is one that brig has created for a bind mount.
    fn has_file(&self, path: &[u8], at: (BorrowedFd<'_>, &[u8]), stat: &FileStat) -> Result<bool> {
        let is_empty = is(stat, SFlag::S_IFREG) && stat.st_size == 0;
        let known = || self.points.contains(path) || self.made.contains(path);
        Ok(is_empty && known() && self.is_as_made(at, stat, 0o644)?)
    }

    /// Whether it has the mode and owner that brig gives it, and no attributes.
    fn is_as_made(&self, at: (BorrowedFd<'_>, &[u8]), stat: &FileStat, mode: u32) -> Result<bool> {
        let bits = stat.st_mode & 0o7777;
        // In a directory with this bit, a new one also has it, and both have the group of that directory.
        let inherited = bits & libc::S_ISGID != 0 && is(stat, SFlag::S_IFDIR);
        let owned = self.owner.is_none_or(|(uid, gid)| {
            stat.st_uid == uid && (stat.st_gid == gid || inherited || is(stat, SFlag::S_IFREG))
        });
        let expected = if inherited { mode | libc::S_ISGID } else { mode };
        Ok(owned && bits == expected && unlabelled(at.0, at.1)?.is_empty())
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
    let of = |s: &FileStat| (s.st_mode, s.st_uid, s.st_gid);
    let same = of(stat) == of(&below.stat)
        && unlabelled(dir, name)? == unlabelled(below.dir.as_fd(), &below.name)?;
    let time = |s: &FileStat| (s.st_mtime, s.st_mtime_nsec);
    Ok(match same {
        true if time(stat) == time(&below.stat) => Difference::Nothing,
        true => Difference::Times,
        false => Difference::Metadata,
    })
}

/// Attributes without the label, which follows from the policy: files that the kernel copies up or creates have
/// that of the container.
fn unlabelled(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut attributes = attributes(dir, name)?;
    attributes.retain(|(name, _)| name != b"security.selinux");
    Ok(attributes)
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
