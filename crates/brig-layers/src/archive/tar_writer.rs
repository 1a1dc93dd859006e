//! A tar archive as an image's layer is: what tar(5) calls ustar, with a pax header for what that
//! cannot say. The same files give the same bytes.

use crate::archive::holes::{self, Part};
use crate::tree::changes::{is, open_file};
use anyhow::{Result, bail, ensure};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, major, minor};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use tar::{EntryType, Header};

/// Writes an archive.
pub struct Writer<W: Write> {
    out: W,
    /// Files with more than one name, by device and inode: the name that has the content.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    holes: Holes,
}

/// How holes of files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// As zeros. In layers: containers/storage makes another archive of sparse files than it has read,
    /// and podman can neither push nor save the image, for the digest is wrong then.
    Zeros,
    /// Not at all, in format 1.0 of GNU tar's sparse files.
    Map,
}

/// Something to be written.
pub struct File<'a> {
    /// Without a slash in front.
    pub path: &'a [u8],
    /// Its directory and its name there.
    pub at: (BorrowedFd<'a>, &'a [u8]),
    /// What it is, with the ids that the archive shall have.
    pub stat: FileStat,
    /// Its extended attributes.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

const BLOCK: usize = 512;
const SHORTER: &str = "was truncated while being read";
/// A name of more bytes does not fit.
const NAME: usize = 100;
/// Numbers that have seven octal digits.
const MAX_ID: u32 = 0o777_7777;
/// Those that have eleven.
const MAX_SIZE: u64 = 0o777_7777_7777;

impl<W: Write> Writer<W> {
    /// A new archive.
    pub fn new(out: W, holes: Holes) -> Self {
        Writer { out, linked: BTreeMap::new(), buffer: vec![0; 1 << 16], holes }
    }

    /// An empty file: a whiteout.
    pub fn empty(&mut self, path: &[u8]) -> Result<()> {
        self.header(plain(EntryType::Regular), path, b"", Vec::new())
    }

    /// Anything; false for a socket, which no archive has.
    pub fn file(&mut self, file: &File<'_>) -> Result<bool> {
        let stat = &file.stat;
        let mut header = Header::new_ustar();
        let (mut path, mut link, mut size) = (file.path.to_vec(), Vec::new(), 0);
        match sys::file::kind(stat.st_mode) {
            SFlag::S_IFDIR => {
                header.set_entry_type(EntryType::Directory);
                path.push(b'/');
            }
            SFlag::S_IFLNK => {
                header.set_entry_type(EntryType::Symlink);
                link = readlinkat(file.at.0, file.at.1)?.as_bytes().to_vec();
            }
            SFlag::S_IFREG => {
                header.set_entry_type(EntryType::Regular);
                size = u64::try_from(stat.st_size)?;
            }
            SFlag::S_IFCHR => header.set_entry_type(EntryType::Char),
            SFlag::S_IFBLK => header.set_entry_type(EntryType::Block),
            SFlag::S_IFIFO => header.set_entry_type(EntryType::Fifo),
            _ => return Ok(false),
        }
        if is(stat, SFlag::S_IFCHR) || is(stat, SFlag::S_IFBLK) {
            header.set_device_major(u32::try_from(major(stat.st_rdev))?)?;
            header.set_device_minor(u32::try_from(minor(stat.st_rdev))?)?;
        }
        if !is(stat, SFlag::S_IFDIR) && stat.st_nlink > 1 {
            let inode = (stat.st_dev, stat.st_ino);
            match self.linked.get(&inode) {
                Some(first) => {
                    header.set_entry_type(EntryType::Link);
                    (link, size) = (first.clone(), 0);
                }
                None => drop(self.linked.insert(inode, file.path.to_vec())),
            }
        }
        if size > 0 {
            let content = open_file(file.at.0, file.at.1)?;
            if let Some(parts) = self.parts(&content, stat, size)? {
                return self.sparse(file, header, &content, &parts, size).map(|()| true);
            }
            let pax = attributes(&mut header, stat, size, &file.attributes)?;
            self.header(header, &path, &link, pax)?;
            self.content(&content, stat, size)?;
            return Ok(true);
        }
        let pax = attributes(&mut header, stat, size, &file.attributes)?;
        self.header(header, &path, &link, pax)?;
        Ok(true)
    }

    /// The end of the archive.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    /// Where it has data, if its holes are to be left out.
    fn parts(&self, content: &fs::File, stat: &FileStat, size: u64) -> Result<Option<Vec<Part>>> {
        match self.holes == Holes::Map && holes::may_have(stat) {
            true => holes::parts(content, size),
            false => Ok(None),
        }
    }

    /// A sparse file, with the names that GNU tar gives it.
    fn sparse(
        &mut self,
        file: &File<'_>,
        mut header: Header,
        content: &fs::File,
        parts: &[Part],
        size: u64,
    ) -> Result<()> {
        let map = holes::map(parts, size);
        let data: u64 = parts.iter().map(|(begin, end)| end - begin).sum();
        let length = map.len() as u64 + data;
        let mut pax = attributes(&mut header, &file.stat, length, &file.attributes)?;
        for (name, value) in [
            ("major", b"1".to_vec()),
            ("minor", b"0".to_vec()),
            ("name", file.path.to_vec()),
            ("realsize", size.to_string().into_bytes()),
        ] {
            pax.push((format!("GNU.sparse.{name}").into_bytes(), value));
        }
        // What a reader shows that does not know such files.
        let at = file.path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let mut shown = [&file.path[..at], b"GNUSparseFile.0/", &file.path[at..]].concat();
        shown.truncate(NAME);
        self.header(header, &shown, b"", pax)?;
        self.out.write_all(&map)?;
        for &(begin, end) in parts {
            self.copy(content, begin, end)?;
        }
        self.pad(length)
    }

    /// All of a file. Holes are not read.
    fn content(&mut self, content: &fs::File, stat: &FileStat, size: u64) -> Result<()> {
        let mut at = 0;
        if holes::may_have(stat) {
            while let Some((begin, end)) = holes::next_part(content, at, size)? {
                self.zeros(begin - at)?;
                self.copy(content, begin, end)?;
                at = end;
            }
            self.zeros(size - at)?;
            ensure!(content.metadata()?.len() >= size, SHORTER);
        } else {
            self.copy(content, 0, size)?;
        }
        self.pad(size)
    }

    fn copy(&mut self, content: &fs::File, mut at: u64, end: u64) -> Result<()> {
        while at < end {
            let most = usize::try_from(end - at)?.min(self.buffer.len());
            let length = content.read_at(&mut self.buffer[..most], at)?;
            ensure!(length > 0, SHORTER);
            self.out.write_all(&self.buffer[..length])?;
            at += length as u64;
        }
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<()> {
        if count > 0 {
            self.buffer.fill(0);
        }
        while count > 0 {
            let length = usize::try_from(count)?.min(self.buffer.len());
            self.out.write_all(&self.buffer[..length])?;
            count -= length as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let over = usize::try_from(size % BLOCK as u64)?;
        Ok(self.out.write_all(&[0; BLOCK][..(BLOCK - over) % BLOCK])?)
    }

    fn header(
        &mut self,
        mut header: Header,
        path: &[u8],
        link: &[u8],
        mut pax: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<()> {
        let old = header.as_old_mut();
        for (name, value, field) in
            [("path", path, &mut old.name), ("linkpath", link, &mut old.linkname)]
        {
            if value.len() > NAME {
                pax.push((name.into(), value.to_vec()));
            }
            let length = value.len().min(NAME);
            field[..length].copy_from_slice(&value[..length]);
        }
        if !pax.is_empty() {
            self.extended(&pax)?;
        }
        header.set_cksum();
        Ok(self.out.write_all(header.as_bytes())?)
    }

    /// Records of what the next header cannot say: `LENGTH NAME=VALUE\n`, the length's own digits
    /// included.
    fn extended(&mut self, pax: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut text = Vec::new();
        for (name, value) in pax {
            let rest = name.len() + value.len() + 3;
            let mut length = rest;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} ").as_bytes());
            text.extend([name.as_slice(), b"=", value, b"\n"].concat());
        }
        let mut header = plain(EntryType::XHeader);
        header.as_old_mut().name[..7].copy_from_slice(b"PaxHead");
        let size = text.len() as u64;
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(&text)?;
        self.pad(size)
    }
}

/// A header of nobody's: a number that is left empty is none to a strict reader.
fn plain(kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// Puts what fits into the header, and gives what does not.
fn attributes(
    header: &mut Header,
    stat: &FileStat,
    size: u64,
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut pax = Vec::new();
    let mut say = |name: &str, value: String| pax.push((name.into(), value.into_bytes()));
    header.set_mode(stat.st_mode & 0o7777);
    for (name, id) in [("uid", stat.st_uid), ("gid", stat.st_gid)] {
        if id > MAX_ID {
            say(name, id.to_string());
        }
    }
    header.set_uid(stat.st_uid.min(MAX_ID).into());
    header.set_gid(stat.st_gid.min(MAX_ID).into());
    if size > MAX_SIZE {
        say("size", size.to_string());
    }
    header.set_size(size.min(MAX_SIZE));
    let seconds = u64::try_from(stat.st_mtime);
    if stat.st_mtime_nsec != 0 || seconds.is_err() {
        // A time before 1970 counts down to the second, its fraction up: -1.5 is -2 and 0.5.
        let (seconds, nanoseconds) = (stat.st_mtime, stat.st_mtime_nsec);
        let text = match seconds {
            0.. => format!("{seconds}.{nanoseconds:09}"),
            _ if nanoseconds == 0 => seconds.to_string(),
            _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
        };
        say("mtime", text.trim_end_matches('0').trim_end_matches('.').to_owned());
    }
    header.set_mtime(seconds.unwrap_or(0).min(MAX_SIZE));
    for (name, value) in xattrs {
        if name.contains(&b'=') {
            bail!("the name of the attribute {} contains a =", name.escape_ascii());
        }
        pax.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    Ok(pax)
}

/// What names of an image may not begin with: they would be whiteouts.
pub(crate) fn ensure_no_whiteout(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    ensure!(
        !name.starts_with(crate::tree::whiteout::PREFIX),
        "{}: names in an image layer cannot start with .wh.",
        path.escape_ascii()
    );
    Ok(())
}
