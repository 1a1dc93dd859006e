//! Where an image lies: the directory of an OCI layout, or a tar archive of one or of `docker save`.

pub mod digest;
pub mod manifest;
pub mod reference;
pub mod resolve;

use crate::archive::tar_reader::{self, Reader};
use crate::source::digest::Digest;
use crate::source::reference::Kind;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use sys::Errno;

/// The file oci-layout has one short line.
const MAX_LAYOUT: u64 = 1 << 16;

/// A place with images.
#[derive(Debug)]
pub enum Source {
    /// The directory of a layout.
    Directory(PathBuf),
    /// A tar archive.
    Archive(Archive),
}

/// A tar archive, and where in it its files are.
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
    /// Old versions of docker save link equal layers.
    Link(Vec<u8>),
}

/// A file of an image's.
#[derive(Debug)]
pub struct Blob {
    file: File,
    offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// An archive of images has a few files for each layer.
const MAX_MEMBERS: usize = 100_000;
/// The names and link targets of its members take at most so many bytes of memory.
const MAX_NAMES: usize = 16 << 20;
/// Whatever an image refers to has a shorter name.
const MAX_NAME_BYTES: usize = 4096;

impl Source {
    /// Looks what lies there.
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

    /// It is an OCI layout; else what `docker save` wrote before version 25.
    pub(crate) fn is_layout(&self) -> bool {
        match self {
            Source::Directory(_) => true,
            Source::Archive(archive) => archive.members.contains_key(&b"oci-layout"[..]),
        }
    }

    /// It has the list of images of `docker save`.
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

    /// One of its files.
    pub fn file(&self, name: &str) -> Result<Blob> {
        match self {
            Source::Directory(path) => Blob::of(regular_file(&path.join(name))?),
            Source::Archive(archive) => archive.file(name.as_bytes()),
        }
    }

    /// The blob of a layout.
    pub fn blob(&self, digest: &Digest) -> Result<Blob> {
        self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
    }

    /// The whole of a small file.
    pub(crate) fn small(&self, name: &str, most: u64) -> Result<Vec<u8>> {
        self.file(name)?.all(most).with_context(|| name.to_owned())
    }
}

fn check_layout(text: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = serde_json::from_slice(text)?;
    let version = layout.image_layout_version;
    ensure!(version.starts_with("1."), "imageLayoutVersion {version:?}: supported is 1.0.0");
    Ok(())
}

impl Archive {
    /// Looks where its files are, without reading them.
    fn read(path: &Path, mut file: File) -> Result<Archive> {
        let mut start = [0; 4];
        let length = file.read(&mut start)?;
        if matches!(&start[..length], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
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
                tar_reader::Kind::File => {
                    ensure!(entry.sparse.is_none(), "{}: is sparse", name.escape_ascii());
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
        let mut found = self.members.get(name);
        for _ in 0..8 {
            match found {
                Some(Member::Link(to)) => found = self.members.get(to),
                Some(&Member::File { offset, size }) => {
                    return Ok(Blob { file: self.file.try_clone()?, offset, size });
                }
                None => bail!("{} does not exist", what()),
            }
        }
        bail!("{}: too many links", what())
    }
}

/// Opens a regular file for reading. What else may be there, a fifo or a device, is never opened: to
/// do so could wait for ever, or act on the device.
pub(crate) fn regular_file(path: &Path) -> Result<File> {
    let what = || path.display().to_string();
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = open(path, flags, Mode::empty()).with_context(what)?;
    let kind = sys::file::kind(fstat(&found)?.st_mode);
    ensure!(kind == SFlag::S_IFREG, "{} is not a regular file", path.display());
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).with_context(what)
}

/// A temporary file with the archive: what it holds is looked up here and there.
fn decompressed(mut file: File) -> Result<File> {
    use crate::archive::decompress::{Decoder, Limit, Limited};
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

/// Without `.`, `..` and empty parts: only a name to look up, in a list.
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
    /// The whole of a file.
    fn of(file: File) -> Result<Blob> {
        let size = file.metadata()?.len();
        Ok(Blob { file, offset: 0, size })
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> Result<BlobReader> {
        Ok(BlobReader { file: self.file.try_clone()?, at: self.offset, left: self.size })
    }

    /// Copies it to another file, by the kernel where it can: a file system that shares blocks between
    /// files does so.
    pub(crate) fn copy_to(&self, to: &mut File) -> Result<()> {
        (&self.file).seek(SeekFrom::Start(self.offset))?;
        // std's copy is copy_file_range(2) from file to file, also through `take`.
        let copied = io::copy(&mut (&self.file).take(self.size), to)?;
        ensure!(copied == self.size, "ends after {copied} of {} bytes", self.size);
        Ok(())
    }

    /// All of it, if it is not too long.
    pub fn all(&self, most: u64) -> Result<Vec<u8>> {
        ensure!(self.size <= most, "has {} bytes: the maximum is {most}", self.size);
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Reads a blob, whoever else reads from the same file.
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
