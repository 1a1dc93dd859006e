//! Sources of images: the directory of an OCI layout, or a tar archive of a layout or of `docker save`.

pub mod digest;
pub mod document;
pub mod manifest;
pub mod reference;
pub mod resolve;

use crate::archive::decompress::{Decoder, Limit, Limited};
use crate::archive::tar_reader::{self, Reader};
use crate::source::digest::Digest;
use crate::source::reference::Kind;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use sys::Errno;

/// The file oci-layout consists of one short line.
const MAX_LAYOUT: u64 = 1 << 16;

/// A source of images.
#[derive(Debug)]
pub enum Source {
    /// The directory of a layout.
    Directory(PathBuf),
    /// A tar archive.
    Archive(Archive),
}

/// A tar archive, and the position of its files.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    members: BTreeMap<Vec<u8>, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// A sparse file: images do not contain those.
    Sparse,
    /// Old versions of docker save link identical layers.
    Link(Vec<u8>),
}

/// A file of an image.
#[derive(Debug)]
pub struct Blob {
    file: File,
    offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// The maximum number of members: an archive of images has a few files for each layer.
const MAX_MEMBERS: usize = 100_000;
/// The maximum total size of member names and link targets in memory.
const MAX_NAMES: usize = 16 << 20;
/// The maximum length of a name that an image can refer to.
const MAX_NAME_BYTES: usize = 4096;

impl Source {
    /// Opens a source, and detects its kind.
    ///
    /// # Errors
    ///
    /// If the path is not a source of this kind, or is not valid.
    pub fn open(path: &Path, kind: Kind) -> Result<Source> {
        let what = || path.display().to_string();
        let meta = std::fs::metadata(path).with_context(what)?;
        if meta.is_dir() {
            ensure!(
                [Kind::Any, Kind::Layout].contains(&kind),
                "{} is a directory, not an archive",
                path.display()
            );
            let layout = path.join("oci-layout");
            let hint = || {
                format!("{} is not an OCI image layout: it has no file oci-layout", path.display())
            };
            let text = match regular_file(&layout) {
                Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => bail!(hint()),
                file => Blob::of(file?)?.all(MAX_LAYOUT),
            };
            let text = text.with_context(|| layout.display().to_string())?;
            check_layout(&text).with_context(|| layout.display().to_string())?;
            return Ok(Source::Directory(path.to_owned()));
        }
        ensure!(kind != Kind::Layout, "{} is not a directory", path.display());
        ensure!(meta.is_file(), "{} is neither a directory nor a file", path.display());
        let file = regular_file(path)?;
        let archive =
            Archive::read(path, file).with_context(|| format!("archive {}", path.display()))?;
        let source = Source::Archive(archive);
        if source.is_layout() {
            check_layout(&source.small("oci-layout", MAX_LAYOUT)?)?;
        }
        Ok(source)
    }

    /// Whether it is an OCI layout; otherwise it is an archive of `docker save` before version 25.
    pub(crate) fn is_layout(&self) -> bool {
        match self {
            Source::Directory(_) => true,
            Source::Archive(archive) => archive.members.contains_key(&b"oci-layout"[..]),
        }
    }

    /// Whether it contains the list of images of `docker save`.
    pub(crate) fn is_docker(&self) -> bool {
        match self {
            Source::Directory(_) => false,
            Source::Archive(archive) => archive.members.contains_key(&b"manifest.json"[..]),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Source::Directory(path) => path,
            Source::Archive(archive) => &archive.path,
        }
    }

    /// Opens a file of the source.
    ///
    /// # Errors
    ///
    /// If the file does not exist, or is not a regular file.
    pub fn file(&self, name: &str) -> Result<Blob> {
        match self {
            Source::Directory(path) => Blob::of(regular_file(&path.join(name))?),
            Source::Archive(archive) => archive.file(name.as_bytes()),
        }
    }

    /// Opens a blob of a layout.
    ///
    /// # Errors
    ///
    /// If the layout does not contain the blob.
    pub fn blob(&self, digest: &Digest) -> Result<Blob> {
        self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
    }

    /// Reads a small file completely.
    pub(crate) fn small(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        self.file(name)?.all(most).with_context(|| name.to_owned())
    }
}

fn check_layout(text: &[u8]) -> Result<()> {
    let layout: BTreeMap<String, Value> = serde_json::from_slice(text)?;
    // As in Go, in any letter case.
    let version = layout.iter().find(|(key, _)| key.eq_ignore_ascii_case("imageLayoutVersion"));
    let version = version.and_then(|(_, version)| version.as_str());
    let version = version.context("missing field \"imageLayoutVersion\"")?;
    ensure!(version.starts_with("1."), "imageLayoutVersion {version:?}: supported is 1.0.0");
    Ok(())
}

impl Archive {
    /// Finds the positions of its files, without reading them.
    fn read(path: &Path, mut file: File) -> Result<Archive> {
        if !matches!(Decoder::new(&file)?, Decoder::Plain(_)) {
            file = decompressed(file)?;
        }
        file.seek(SeekFrom::Start(0))?;
        let end = file.metadata()?.len();
        let mut reader = Reader::new(file.try_clone()?);
        let mut members = BTreeMap::new();
        let mut names = 0;
        while let Some(entry) = reader.next_entry()? {
            let name = plain(&entry.path);
            let member = match entry.kind {
                tar_reader::Kind::File if entry.sparse.is_some() => Some(Member::Sparse),
                tar_reader::Kind::File => {
                    Some(Member::File { offset: reader.position, size: entry.size })
                }
                tar_reader::Kind::Symlink => {
                    let dir = name.rsplit(|&byte| byte == b'/').next().map_or(0, |n| n.len());
                    let dir = &name[..name.len() - dir];
                    Some(Member::Link(plain(&[dir, &entry.link].concat())))
                }
                tar_reader::Kind::HardLink => Some(Member::Link(plain(&entry.link))),
                _ => None,
            };
            if let Some(member) =
                member.filter(|_| name.len().max(entry.link.len()) <= MAX_NAME_BYTES)
            {
                names += name.len() + entry.link.len();
                members.insert(name, member);
            }
            ensure!(members.len() <= MAX_MEMBERS, "more than {MAX_MEMBERS} files");
            ensure!(names <= MAX_NAMES, "names of more than {} MiB", MAX_NAMES >> 20);
            let next = reader.skip(end)?;
            reader.get_mut().seek(SeekFrom::Start(next))?;
        }
        Ok(Archive { path: path.to_owned(), file, members })
    }

    fn file(&self, name: &[u8]) -> Result<Blob> {
        let what = || format!("{} in {}", name.escape_ascii(), self.path.display());
        let mut found = self.members.get(&plain(name));
        for _ in 0..8 {
            match found {
                Some(Member::Link(to)) => found = self.members.get(to),
                Some(&Member::File { offset, size }) => {
                    return Ok(Blob { file: self.file.try_clone()?, offset, size });
                }
                Some(Member::Sparse) => bail!("{} is a sparse file", what()),
                None => bail!("{} does not exist", what()),
            }
        }
        bail!("{}: too many links", what())
    }
}

/// Opens a regular file for reading. Other files, e.g. fifos or devices, are never opened, because that could
/// block forever or have side effects.
pub(crate) fn regular_file(path: &Path) -> Result<File> {
    let what = || path.display().to_string();
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = open(path, flags, Mode::empty()).with_context(what)?;
    let kind = sys::file::kind(fstat(&found)?.st_mode);
    ensure!(kind == SFlag::S_IFREG, "{} is not a regular file", path.display());
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).with_context(what)
}

/// A temporary file with the decompressed archive, for random access.
fn decompressed(mut file: File) -> Result<File> {
    file.seek(SeekFrom::Start(0))?;
    let size = file.metadata()?.len();
    let mut limited = Limited::new(Decoder::new(file)?, Limit::default(), || size);
    let directory = std::env::temp_dir();
    let mut plain = unnamed_file(&directory).with_context(|| directory.display().to_string())?;
    io::copy(&mut limited, &mut plain).context("decompress")?;
    Ok(plain)
}

fn unnamed_file(directory: &Path) -> Result<File> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    Ok(open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

/// Removes `.`, `..` and empty components: it is only a key to look up in a list.
fn plain(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

impl Blob {
    /// A blob that is the whole file.
    fn of(file: File) -> Result<Blob> {
        let size = file.metadata()?.len();
        Ok(Blob { file, offset: 0, size })
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be duplicated.
    pub fn reader(&self) -> Result<BlobReader> {
        Ok(BlobReader { file: self.file.try_clone()?, at: self.offset, left: self.size })
    }

    /// Copies it to another file, in the kernel if possible: some filesystems then share the blocks.
    pub(crate) fn copy_to(&self, to: &mut File) -> Result<()> {
        (&self.file).seek(SeekFrom::Start(self.offset))?;
        // std uses copy_file_range(2) from file to file, also through `take`.
        let copied = io::copy(&mut (&self.file).take(self.size), to)?;
        ensure!(copied == self.size, "ends after {copied} of {} bytes", self.size);
        Ok(())
    }

    /// Reads it completely, within the limit.
    ///
    /// # Errors
    ///
    /// If it is longer than `most`, or cannot be read.
    pub fn all(&self, most: u64) -> Result<Vec<u8>> {
        ensure!(self.size <= most, "has {} bytes: the maximum is {most}", self.size);
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a blob, independent of other readers of the same file.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    at: u64,
    left: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_an_archive_are_compared_plain() {
        assert_eq!(plain(b"./a//b/../c/."), b"a/c");
        assert_eq!(plain(b"../../x"), b"x");
    }
}
