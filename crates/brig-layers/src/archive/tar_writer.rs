//! Writes a tar archive for an image layer: the ustar format of tar(5), with a pax header for what does not
//! fit. Deterministic: the same files result in the same bytes.

use crate::archive::holes::{self, Part};
use crate::tree::changes::{is, open_file};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use sys::Errno;
use tar::{EntryType, Header};

/// Writes an archive.
pub struct Writer<W: Write> {
    out: W,
    /// Files with several names, by device and inode: the name that has the content.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    holes: Holes,
}

/// How to write holes of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// As zeros. For layers: containers/storage changes sparse files when it reassembles an archive, so its
    /// digest differs, and podman can neither push nor save the image.
    Zeros,
    /// Omitted, in format 1.0 of GNU tar's sparse files.
    Map,
}

/// A file to write.
pub struct File<'a> {
    /// Without a leading slash.
    pub path: &'a [u8],
    /// Its directory and its name there.
    pub at: (BorrowedFd<'a>, &'a [u8]),
    /// Its metadata, with the ids for the archive.
    pub stat: FileStat,
    /// Its extended attributes.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

const BLOCK: usize = 512;
const SHORTER: &str = "was truncated while being read";
/// The maximum length of a name in the header.
const NAME: usize = 100;
/// The maximum of fields with seven octal digits.
const MAX_ID: u32 = 0o777_7777;
/// The maximum of fields with eleven octal digits.
const MAX_SIZE: u64 = 0o777_7777_7777;

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W, holes: Holes) -> Self {
        Writer { out, linked: BTreeMap::new(), buffer: vec![0; 1 << 16], holes }
    }

    /// Writes an empty file: a whiteout.
    ///
    /// # Errors
    ///
    /// If the archive cannot be written.
    pub fn empty(&mut self, path: &[u8]) -> Result<()> {
        self.header(plain(EntryType::Regular), path, b"", Vec::new())
    }

    /// Writes a file of any type; false for a socket, which archives cannot contain.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, was replaced (ESTALE or the errno of a lookup, and nothing was written), has
    /// changed its size, or the archive cannot be written.
    pub fn file(&mut self, file: &File<'_>) -> Result<bool> {
        let stat = &file.stat;
        let mut header = Header::new_ustar();
        let (mut path, mut link, mut size, mut first) = (file.path.to_vec(), Vec::new(), 0, None);
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
                None => first = Some(inode),
            }
        }
        let content = if size > 0 { Some(open(file)?) } else { None };
        // From here on nothing depends on what the container does with its name.
        if let Some(inode) = first {
            self.linked.insert(inode, file.path.to_vec());
        }
        if let Some(content) = content {
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

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// If the archive cannot be written.
    pub fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    /// The parts with data, if holes are to be omitted.
    fn parts(&self, content: &fs::File, stat: &FileStat, size: u64) -> Result<Option<Vec<Part>>> {
        match self.holes == Holes::Map && holes::may_have(stat) {
            true => holes::parts(content, size),
            false => Ok(None),
        }
    }

    /// Writes a sparse file, with GNU tar's naming.
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
        // The name that readers without support for sparse files show.
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

    /// Writes the content of a file. Holes are not read.
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

    /// Writes records for the next header: `LENGTH NAME=VALUE\n`, where the length includes its own digits.
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

/// Opens a file for its content.
fn open(file: &File<'_>) -> Result<fs::File> {
    let content = open_file(file.at.0, file.at.1)?;
    let found = fstat(&content)?;
    // No content gets the owner and mode of another file, e.g. of a setuid program.
    match (found.st_dev, found.st_ino) == (file.stat.st_dev, file.stat.st_ino) {
        true => Ok(content),
        false => Err(Errno::ESTALE).context("was replaced while being read"),
    }
}

/// A header with all numbers set to 0: strict readers reject empty fields.
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

/// Fills in the header, and returns what does not fit.
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
    // It has as many digits as the size.
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0).min(MAX_SIZE);
    if stat.st_mtime_nsec != 0 || i64::try_from(seconds) != Ok(stat.st_mtime) {
        say("mtime", time(stat.st_mtime, stat.st_mtime_nsec));
    }
    header.set_mtime(seconds);
    for (name, value) in xattrs {
        if name.contains(&b'=') {
            bail!("the name of the attribute {} contains a =", name.escape_ascii());
        }
        pax.push(([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone()));
    }
    Ok(pax)
}

/// A time in a record. Before 1970, seconds are rounded down and the fraction is positive: -1.5 is -2 and 0.5.
fn time(seconds: i64, nanoseconds: i64) -> String {
    let text = match seconds {
        _ if nanoseconds == 0 => return seconds.to_string(),
        0.. => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    text.trim_end_matches('0').to_owned()
}

/// Refuses names in an image that would be whiteouts.
pub(crate) fn ensure_no_whiteout(path: &[u8]) -> Result<()> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    ensure!(
        !name.starts_with(crate::tree::whiteout::PREFIX),
        "{}: names in an image layer cannot start with .wh.",
        path.escape_ascii()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn times_that_do_not_fit_into_the_header_have_a_record() {
        let here = fs::File::open("/").unwrap();
        for (seconds, nanoseconds, record) in [
            (0, 0, None),
            (8_589_934_591, 0, None),
            (8_589_934_592, 0, Some("8589934592")),
            (9_999_999_990, 0, Some("9999999990")),
            (10, 500_000_000, Some("10.5")),
            (-10, 0, Some("-10")),
            (-2, 500_000_000, Some("-1.5")),
            (-1, 999_999_990, Some("-0.00000001")),
        ] {
            let mut stat = fstat(&here).unwrap();
            (stat.st_mtime, stat.st_mtime_nsec) = (seconds, nanoseconds);
            let at = (here.as_fd(), &b"."[..]);
            let mut writer = Writer::new(Vec::new(), Holes::Map);
            writer.file(&File { path: b"dir", at, stat, attributes: Vec::new() }).unwrap();
            let archive = writer.finish().unwrap();
            let mut archive = tar::Archive::new(&archive[..]);
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            let records = entry.pax_extensions().unwrap().into_iter().flatten();
            let found: Vec<_> = records.map(|record| record.unwrap().value().unwrap()).collect();
            assert_eq!(found, Vec::from_iter(record), "{seconds}.{nanoseconds:09}");
        }
    }
}
