//! Writes a layer's entries as files, in overlayfs's format. The archive is untrusted input: every path is
//! resolved by descriptors below the layer's own directory ([`crate::unpack::dirs`]).

pub mod dirs;
pub mod layers;
#[cfg(test)]
mod mutations;
pub(crate) mod progress;
pub mod warnings;

use crate::archive::decompress::Limit;
use crate::archive::holes;
use crate::archive::tar_reader::{Entry, Kind, Reader};
use crate::tree;
use crate::tree::view::View;
use crate::tree::whiteout;
use crate::unpack::dirs::{Dirs, Missing, NoDirectory, is_directory, parts};
use crate::unpack::warnings::Warnings;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mkdirat, mknodat, utimensat,
};
use nix::unistd::{fchown, linkat, symlinkat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use sys::path::DIRECTORY;
use sys::{Errno, cred};

mod attributes;

use attributes::{explained, mode, owner, time};

/// What this process is permitted to do.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    /// Change owners of files.
    pub chown: bool,
    /// Create device nodes.
    pub devices: bool,
}

impl Rights {
    /// The rights of this process. `own_id_alone`: its user namespace maps only its own id.
    ///
    /// # Errors
    ///
    /// If capget(2) fails.
    pub fn of_process(own_id_alone: bool) -> Result<Rights> {
        // linux/capability.h
        const CHOWN: u64 = 1;
        const MKNOD: u64 = 1 << 27;
        let has = cred::capget()?.effective;
        let first = cred::in_first_user_namespace();
        Ok(Rights { chown: has & CHOWN != 0 && !own_id_alone, devices: first && has & MKNOD != 0 })
    }
}

/// The result of unpacking an archive.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// The total size of files.
    pub bytes: u64,
    /// The number of entries.
    pub entries: u64,
    /// Whether the root is opaque.
    pub opaque: bool,
    /// Whether the root has an entry.
    pub names_root: bool,
    /// Directories without an entry, sorted.
    pub implied: Vec<Vec<u8>>,
    /// Hard links to files that are not in this layer: name and target.
    pub links: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Directories that contain whiteouts, sorted.
    pub whiteouts: BTreeSet<Vec<u8>>,
}

/// The maximum number of entries.
const MAX_ENTRIES: u64 = 16 << 20;
/// The maximum total size of names of hard links to other layers, and of directories with whiteouts.
const MAX_LISTED: usize = 8 << 20;
const CHUNK: usize = 64 << 10;

/// A layer being unpacked.
struct Unpacker<'a> {
    dirs: Dirs<'a>,
    rights: Rights,
    /// The times of directories, to be set after their contents were written: `seconds nanoseconds length`
    /// and the path.
    times: BufWriter<&'a File>,
    warnings: &'a mut Warnings,
    done: Unpacked,
    /// The size of the names in `done`.
    listed: usize,
    buffer: Vec<u8>,
}

/// Unpacks an archive into the empty directory `root`. `below`: layers whose links are followed. `times`: an
/// empty file, for times that are set at the end.
///
/// # Errors
///
/// If the archive is damaged, exceeds a limit, leads outside `root`, or files cannot be created.
pub fn unpack<R: Read>(
    archive: R,
    root: OwnedFd,
    below: Option<&View>,
    times: &File,
    rights: Rights,
    warnings: &mut Warnings,
) -> Result<Unpacked> {
    let mut reader = Reader::new(archive);
    let mut unpacker = Unpacker {
        dirs: Dirs::new(root, below),
        rights,
        times: BufWriter::new(times),
        warnings,
        done: Unpacked::default(),
        listed: 0,
        buffer: vec![0; CHUNK],
    };
    while let Some(entry) = reader.next_entry()? {
        unpacker.done.entries += 1;
        ensure!(unpacker.done.entries <= MAX_ENTRIES, "more than {MAX_ENTRIES} entries");
        unpacker.add(&entry, &mut reader).with_context(|| shown(&entry))?;
    }
    // What follows the end of the archive is part of the blob's digest.
    std::io::copy(reader.get_mut(), &mut std::io::sink())?;
    unpacker.finish()
}

fn shown(entry: &Entry) -> String {
    let path = entry.path.escape_ascii();
    match entry.kind {
        Kind::HardLink => format!("entry {path} (hard link to {})", entry.link.escape_ascii()),
        _ => format!("entry {path}"),
    }
}

impl Unpacker<'_> {
    fn add<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let parts = parts(&entry.path)?;
        let Some((&name, above)) = parts.split_last() else {
            ensure!(entry.kind == Kind::Directory, "the root can only be a directory");
            self.remember_times(b"", entry)?;
            self.done.names_root = true;
            let root = self.dirs.root().try_clone_to_owned()?;
            return self.attributes(entry, root.as_fd(), b".");
        };
        if above.iter().any(|part| part.starts_with(whiteout::AUFS)) {
            return Ok(());
        }
        let hidden = above.iter().any(|part| part.starts_with(whiteout::PREFIX));
        ensure!(!hidden, "its path goes through a whiteout");
        if let Some(target) = name.strip_prefix(whiteout::PREFIX) {
            return self.whiteout(above, name, target);
        }
        match entry.kind {
            Kind::Directory => self.directory(above, name, entry),
            Kind::HardLink => self.hard_link(above, name, entry),
            Kind::File => self.file(above, name, entry, reader),
            Kind::Symlink => {
                ensure!(!entry.link.is_empty(), "an empty symbolic link");
                let link = CString::new(entry.link.as_slice())
                    .context("its target contains a NUL byte")?;
                let make = |dir: BorrowedFd<'_>| symlinkat(link.as_c_str(), dir, name);
                self.special(above, name, entry, make)
            }
            Kind::Fifo => {
                let make = |dir: BorrowedFd<'_>| mknodat(dir, name, SFlag::S_IFIFO, PRIVATE, 0);
                self.special(above, name, entry, make)
            }
            Kind::CharDevice | Kind::BlockDevice => self.device(above, name, entry),
        }
    }

    fn whiteout(&mut self, above: &[&[u8]], name: &[u8], target: &[u8]) -> Result<()> {
        if name == whiteout::OPAQUE {
            if above.is_empty() {
                self.done.opaque = true;
                return Ok(());
            }
            return match self.dirs.enter(above, Missing::Make) {
                Err(error) if error.is::<NoDirectory>() => Ok(()),
                dir => dir.map(drop).and_then(|()| self.dirs.empty()),
            };
        }
        if name.starts_with(whiteout::AUFS) {
            return Ok(());
        }
        ensure!(![&b""[..], b".", b".."].contains(&target), "a whiteout of nothing");
        match self.dirs.enter(above, Missing::Make) {
            // umoci writes whiteouts for the contents of a directory that was replaced with a file: nothing
            // below is visible there anyway.
            Err(error) if error.is::<NoDirectory>() => return Ok(()),
            dir => drop(dir?),
        }
        // A whiteout removes a directory that was only created for whiteouts.
        if self.is_for_whiteouts(target)? {
            self.replace(above, target)?;
        }
        let dir = self.dirs.enter(above, Missing::Make)?;
        match fstatat(dir, target, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => {
                whiteout::make(dir, target).with_context(|| whiteout::why_not(dir))?;
                let path = self.dirs.path();
                if !path.is_empty() && !self.done.whiteouts.contains(&path) {
                    self.list(path.len())?;
                    self.done.whiteouts.insert(path);
                }
                Ok(())
            }
            // It hides what is below this layer, not this layer's own entries.
            Ok(_) if is_directory(dir, target) => {
                whiteout::make_opaque(dir, target)?;
                let path = self.dirs.path_of(target);
                // It may be the next directory to be looked up.
                self.dirs.forget();
                self.dirs.add_opaque(path)
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether `name` in the last directory is a directory without an entry in the archive that contains only
    /// whiteouts.
    fn is_for_whiteouts(&self, name: &[u8]) -> Result<bool> {
        if !self.dirs.implied.contains(&self.dirs.path_of(name)) {
            return Ok(false);
        }
        let dir = openat(self.dirs.here(), name, DIRECTORY, Mode::empty())?;
        for name in tree::changes::names(dir.as_fd())? {
            let stat = fstatat(&dir, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if !whiteout::is_whiteout(&stat) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates an entry, replacing an earlier one of the archive. True: there was one, possibly a whiteout, which
    /// hides what is below.
    fn make<T>(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<(T, bool)> {
        let dir = self.dirs.enter(above, Missing::Make)?;
        match make(dir) {
            Err(Errno::EEXIST) => {
                self.replace(above, name)?;
                let dir = self.dirs.enter(above, Missing::Make)?;
                Ok((make(dir)?, true))
            }
            made => {
                let made = made?;
                if self.done.links.is_empty() {
                    return Ok((made, false));
                }
                let path = self.dirs.path_of(name);
                Ok((made, self.done.links.remove(&path).is_some()))
            }
        }
    }

    /// Removes an earlier entry of the archive.
    fn replace(&mut self, above: &[&[u8]], name: &[u8]) -> Result<()> {
        let dir = self.dirs.enter(above, Missing::Make)?.try_clone_to_owned()?;
        let stat = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        tree::remove(dir.as_fd(), name).context("replace an earlier entry of the archive")?;
        if sys::file::kind(stat.st_mode) == SFlag::S_IFDIR {
            let path = self.dirs.path_of(name);
            remove_tree(&mut self.dirs.implied, &path);
            remove_tree(&mut self.done.whiteouts, &path);
            let end = [path.as_slice(), b"0"].concat();
            let below: Vec<_> =
                self.done.links.range(path..end).map(|(key, _)| key.clone()).collect();
            for key in below {
                self.done.links.remove(&key);
            }
        }
        self.dirs.forget();
        Ok(())
    }

    fn list(&mut self, bytes: usize) -> Result<()> {
        self.listed += bytes;
        ensure!(
            self.listed < MAX_LISTED,
            "too many hard links to other layers, or directories with whiteouts"
        );
        Ok(())
    }

    fn directory(&mut self, above: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let dir = self.dirs.enter(above, Missing::Make)?.try_clone_to_owned()?;
        let path = self.dirs.path_of(name);
        if is_directory(dir.as_fd(), name) {
            // The later entry replaces all attributes of the earlier one.
            if !self.dirs.implied.remove(&path) {
                attributes::remove_all(dir.as_fd(), name)?;
            }
        } else {
            let (_, replaces) = self.make(above, name, |dir| mkdirat(dir, name, PRIVATE))?;
            // As if the replaced entry had been in a separate layer.
            if replaces {
                whiteout::make_opaque(dir.as_fd(), name)?;
                self.dirs.add_opaque(path.clone())?;
            }
        }
        self.remember_times(&path, entry)?;
        self.attributes(entry, dir.as_fd(), name)
    }

    fn file<R: Read>(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let (file, _) = self.make(above, name, |dir| openat(dir, name, flags, PRIVATE))?;
        let file = File::from(file);
        self.content(entry, &file, reader)?;
        if self.gives_away(entry) {
            let (uid, gid) = owner(entry)?;
            fchown(&file, Some(uid), Some(gid)).map_err(|errno| explained(errno, entry))?;
        }
        fchmod(&file, mode(entry)).context("chmod")?;
        if !entry.xattrs.is_empty() {
            let dir = self.dirs.enter(above, Missing::Fail)?.try_clone_to_owned()?;
            self.xattrs(entry, dir.as_fd(), name)?;
        }
        let time = time(entry);
        futimens(&file, &time, &time).context("utimens")
    }

    /// Writes the content without blocks of zeros.
    fn content<R: Read>(
        &mut self,
        entry: &Entry,
        file: &File,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let whole = [crate::archive::tar_reader::Sparse { offset: 0, length: entry.size }];
        let (size, parts) = match &entry.sparse {
            Some((size, parts)) => (*size, parts.as_slice()),
            None => (entry.size, &whole[..]),
        };
        self.done.bytes = self.done.bytes.saturating_add(size);
        let most = Limit::default().most;
        // Holes are not in the archive, which has a limit of its own.
        ensure!(self.done.bytes <= most, "the layer's files have more than {} GiB", most >> 30);
        let mut end = 0;
        for part in parts {
            let (mut at, mut left) = (part.offset, part.length);
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let chunk = &mut self.buffer[..wanted];
                reader.read_exact(chunk)?;
                // Data shorter than a block cannot become a hole.
                let written = match wanted {
                    ..=64 => file.write_all_at(chunk, at).map(|()| wanted)?,
                    _ => holes::write_data(file, chunk, at)?,
                };
                if written > 0 {
                    end = at + written as u64;
                }
                at += wanted as u64;
                left -= wanted as u64;
            }
        }
        if end < size {
            file.set_len(size)?;
        }
        Ok(())
    }

    /// Creates a special file, with one call that neither opens it nor follows links.
    fn special(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<()> {
        self.make(above, name, make)?;
        let dir = self.dirs.enter(above, Missing::Fail)?.try_clone_to_owned()?;
        self.attributes(entry, dir.as_fd(), name)?;
        let time = time(entry);
        utimensat(&dir, name, &time, &time, UtimensatFlags::NoFollowSymlink).context("utimens")
    }

    fn device(&mut self, above: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let path = entry.path.escape_ascii().to_string();
        let (major, minor) = entry.device;
        if !self.rights.devices {
            self.warnings.add("ignored device nodes, which only root may create", &path);
            return Ok(());
        }
        if entry.kind == Kind::CharDevice && (major, minor) == (0, 0) {
            self.warnings.add("ignored devices 0:0, which are whiteouts for overlayfs", &path);
            return Ok(());
        }
        let kind = match entry.kind {
            Kind::CharDevice => SFlag::S_IFCHR,
            _ => SFlag::S_IFBLK,
        };
        let number = makedev(major.into(), minor.into());
        self.special(above, name, entry, |dir| mknodat(dir, name, kind, PRIVATE, number))
    }

    fn hard_link(&mut self, above: &[&[u8]], name: &[u8], entry: &Entry) -> Result<()> {
        let target = parts(&entry.link).context("the link's target")?;
        let Some((&last, rest)) = target.split_last() else { bail!("a hard link to the root") };
        let from = match self.dirs.enter(rest, Missing::Fail) {
            Ok(dir) => dir.try_clone_to_owned()?,
            Err(error) if error.downcast_ref::<Errno>() == Some(&Errno::ENOENT) => {
                let target = [self.dirs.missing.as_slice(), last].join(&b'/');
                return self.link_below(above, name, target);
            }
            Err(error) => return Err(error.context("the link's target")),
        };
        match fstatat(&from, last, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if !whiteout::is_whiteout(&stat) => {}
            Ok(_) | Err(Errno::ENOENT) => {
                // The target may also be a hard link to a layer below.
                let target = self.dirs.path_of(last);
                let target = self.done.links.get(&target).cloned().unwrap_or(target);
                return self.link_below(above, name, target);
            }
            Err(errno) => return Err(errno.into()),
        }
        if rest == above && last == name {
            bail!("a hard link to itself");
        }
        ensure!(!is_directory(from.as_fd(), last), "a hard link to a directory");
        self.make(above, name, |dir| linkat(&from, last, dir, name, AtFlags::empty()))?;
        Ok(())
    }

    /// Records a hard link whose target may be in a layer below: see [`crate::bundle::patch`].
    fn link_below(&mut self, above: &[&[u8]], name: &[u8], target: Vec<u8>) -> Result<()> {
        let dir = self.dirs.enter(above, Missing::Make)?;
        if fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
            self.replace(above, name)?;
            self.dirs.enter(above, Missing::Make)?;
        }
        let path = self.dirs.path_of(name);
        self.list(path.len() + target.len())?;
        self.done.links.insert(path, target);
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked> {
        self.set_all_times()?;
        // Nothing is below these, so their attributes are known.
        for path in &self.dirs.opaque {
            remove_tree(&mut self.dirs.implied, path);
        }
        for path in &self.dirs.emptied {
            remove_below(&mut self.dirs.implied, path);
        }
        let implied = self.dirs.implied.into_iter().collect();
        Ok(Unpacked { implied, ..self.done })
    }
}

/// Removes a path and everything below it from a list.
fn remove_tree(list: &mut BTreeSet<Vec<u8>>, path: &[u8]) {
    list.remove(path);
    remove_below(list, path);
}

fn remove_below(list: &mut BTreeSet<Vec<u8>>, path: &[u8]) {
    // '0' is the character after '/'.
    let (begin, end) = ([path, b"/"].concat(), [path, b"0"].concat());
    let below: Vec<_> = list.range(begin..end).cloned().collect();
    for path in below {
        list.remove(&path);
    }
}

/// The mode until the owner is set.
const PRIVATE: Mode = Mode::S_IRWXU;
