//! A tar archive as a stream of entries: v7, ustar, PAX and GNU headers, sparse files of all formats.
//!
//! Headers are parsed with the crate tar. Its own iterator over entries is not used: it reads extended
//! headers of any length into memory, truncates their values at newlines, which e.g. security.capability may
//! contain, and does not support PAX sparse files.

#[cfg(test)]
mod tests;

use crate::archive::pax::{MAX_PARTS, Pax, number};
use anyhow::{Context, Result, bail, ensure};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, Header};

/// One entry.
#[derive(Debug)]
pub struct Entry {
    /// Its name as written.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: Kind,
    /// The target of a link.
    pub link: Vec<u8>,
    /// Permissions, including setuid, setgid and sticky bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// The size of the content that follows in the archive.
    pub size: u64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of a sparse file, and the position of its content.
    pub sparse: Option<(u64, Vec<Sparse>)>,
}

/// A part of a sparse file with content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sparse {
    /// The position in the file.
    pub offset: u64,
    /// The length.
    pub length: u64,
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// The maximum size of long names and extended headers in bytes.
const MAX_EXTENDED_HEADER: u64 = 1 << 20;

const BLOCK: u64 = 512;
const BLOCK_BYTES: usize = 512;

/// A stream of entries.
pub struct Reader<R> {
    inner: R,
    /// The remaining bytes of the current entry's content.
    left: u64,
    /// The padding after it, up to the end of a block.
    padding: u64,
    /// The number of bytes read from the archive.
    pub position: u64,
}

impl<R: Read> Reader<R> {
    /// Starts at the beginning of an archive.
    pub fn new(inner: R) -> Self {
        Reader { inner, left: 0, padding: 0, position: 0 }
    }

    /// The next entry; skips the rest of the current one. None at the end of the archive.
    ///
    /// # Errors
    ///
    /// If a header is malformed, or the archive ends inside an entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut pax = Pax::default();
        let (mut long_name, mut long_link) = (None, None);
        loop {
            self.pass_over()?;
            let Some(header) = self.header()? else { return Ok(None) };
            match header.entry_type() {
                EntryType::XHeader => pax.read(&self.text(&header)?).context("extended header")?,
                // Like Go's reader, and so every engine, ignore it for the entries that follow.
                EntryType::XGlobalHeader => {
                    self.begin_content(unsigned(&header.as_old().size).context("size")?)?;
                }
                EntryType::GNULongName => long_name = Some(to_nul(self.text(&header)?)),
                EntryType::GNULongLink => long_link = Some(to_nul(self.text(&header)?)),
                _ => return self.entry(&header, pax, long_name, long_link).map(Some),
            }
        }
    }

    /// Skips the rest of the current entry. An archive may end right after its last entry's data, without
    /// padding and end blocks: `umoci insert` writes such archives, and Go accepts them.
    fn pass_over(&mut self) -> Result<()> {
        let (left, length) = (self.left, self.left + self.padding);
        (self.left, self.padding) = (0, 0);
        let passed = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
        self.position += passed;
        ensure!(passed >= left, "{}", truncated(self.position, "an entry"));
        Ok(())
    }

    /// The position of the next header, for a caller that seeks to it in an archive of `end` bytes.
    ///
    /// # Errors
    ///
    /// If the content extends beyond the end of the archive.
    pub fn skip(&mut self, end: u64) -> Result<u64> {
        let data = self.position.checked_add(self.left).filter(|&data| data <= end);
        let data = data.with_context(|| truncated(end, "an entry"))?;
        self.position = data.saturating_add(self.padding).min(end);
        (self.left, self.padding) = (0, 0);
        Ok(self.position)
    }

    /// The underlying reader.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The next header; None at the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        let is_end = |header: &Header| header.as_bytes().iter().all(|&byte| byte == 0);
        if is_end(&header) {
            // Two zeroed blocks are the end; as in Go, a single one only if nothing follows.
            let more = self.block(header.as_mut_bytes())? && !is_end(&header);
            ensure!(!more, "damaged: entries follow a block of zeros");
            return Ok(None);
        }
        let bytes = header.as_bytes();
        // The checksum field itself counts as spaces. Old versions of tar summed signed bytes.
        let sum = |value: fn(u8) -> i64| -> i64 {
            let byte = |(at, &byte): (usize, &u8)| {
                if (148..156).contains(&at) { i64::from(b' ') } else { value(byte) }
            };
            bytes.iter().enumerate().map(byte).sum()
        };
        let said = field(&header.as_old().cksum).ok();
        let signed = |byte: u8| i64::from(byte.cast_signed());
        let sound = said.is_some_and(|said| said == sum(i64::from) || said == sum(signed));
        ensure!(sound, "not a tar archive, or damaged: wrong header checksum");
        Ok(Some(header))
    }

    /// Reads a whole block; false at the end.
    fn block(&mut self, block: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => bail!(truncated(self.position + filled as u64, "a header")),
                length => filled += length,
            }
        }
        self.position += block.len() as u64;
        Ok(true)
    }

    fn begin_content(&mut self, size: u64) -> Result<()> {
        // Ensures that sums of sizes and offsets cannot overflow.
        ensure!(i64::try_from(size).is_ok(), "a size of {size} bytes");
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
        Ok(())
    }

    /// The content of an entry that describes the next one.
    fn text(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = unsigned(&header.as_old().size).context("size")?;
        ensure!(
            size <= MAX_EXTENDED_HEADER,
            "an extended header of {size} bytes: more than {MAX_EXTENDED_HEADER} are not read"
        );
        self.begin_content(size)?;
        let mut text = Vec::new();
        (&mut *self).take(size).read_to_end(&mut text)?;
        Ok(text)
    }

    fn entry(
        &mut self,
        header: &Header,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let old = header.as_old();
        let path = pax.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let named = || format!("entry {:?}", path.escape_ascii().to_string());
        let kind = kind(header, &path).with_context(named)?;
        let numbers = || -> Result<_> {
            let size = pax.size.map_or_else(|| unsigned(&old.size), Ok).context("size")?;
            Ok(Entry {
                path: Vec::new(),
                kind,
                link: Vec::new(),
                mode: u32::try_from(unsigned(&old.mode).context("mode")? & 0o7777)?,
                uid: pax.uid.map_or_else(|| unsigned(&old.uid), Ok).context("uid")?,
                gid: pax.gid.map_or_else(|| unsigned(&old.gid), Ok).context("gid")?,
                mtime: match pax.mtime {
                    Some(time) => time,
                    None => (field(&old.mtime).context("mtime")?, 0),
                },
                // As in Go, only files have content, whatever the header says.
                size: if kind == Kind::File { size } else { 0 },
                device: device(header, kind)?,
                xattrs: pax.xattrs.into_iter().collect(),
                sparse: None,
            })
        };
        let mut entry = numbers().with_context(named)?;
        self.begin_content(entry.size).with_context(named)?;
        let sparse = match (pax.sparse.size, header.entry_type()) {
            (Some(size), _) if pax.sparse.map_in_content => {
                self.map_in_content().map(|map| Some((size, map)))
            }
            (Some(size), _) if pax.sparse.has_map => Ok(Some((size, pax.sparse.map))),
            (_, EntryType::GNUSparse) => self.gnu_map(header, entry.size).map(Some),
            _ => Ok(None),
        };
        entry.sparse = sparse.context("sparse map").with_context(named)?;
        entry.size = self.left;
        if let Some((size, map)) = &entry.sparse {
            check_map(*size, map, entry.size).context("sparse map").with_context(named)?;
        }
        let link = pax.link.or(long_link);
        entry.link = match kind {
            Kind::HardLink | Kind::Symlink => {
                link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        entry.path = path;
        Ok(entry)
    }

    /// GNU's older sparse format: the map is in the header and in blocks after it.
    fn gnu_map(&mut self, header: &Header, size: u64) -> Result<(u64, Vec<Sparse>)> {
        let gnu = header.as_gnu().context("without a GNU header")?;
        let mut map = Vec::new();
        let mut push = |part: &tar::GnuSparseHeader| -> Result<()> {
            if part.offset[0] != 0 && part.numbytes[0] != 0 {
                ensure!(map.len() < MAX_PARTS, "more than {MAX_PARTS} parts");
                map.push(Sparse { offset: part.offset()?, length: part.length()? });
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut push)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            ensure!(self.block(block.as_mut_bytes())?, "the archive ends in a map");
            block.sparse().iter().try_for_each(&mut push)?;
            more = block.is_extended();
        }
        self.begin_content(size)?;
        Ok((gnu.real_size()?, map))
    }

    /// PAX format 1.0: one decimal number per line, first the number of parts, in whole blocks before the
    /// content.
    fn map_in_content(&mut self) -> Result<Vec<Sparse>> {
        let mut block = [0_u8; BLOCK_BYTES];
        let mut at = block.len();
        let mut line = Vec::new();
        let mut next = |reader: &mut Self| -> Result<u64> {
            line.clear();
            loop {
                if at == block.len() {
                    reader.read_exact(&mut block).context("the map does not end")?;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' => return number(&line),
                    byte => line.push(byte),
                }
                ensure!(line.len() <= 20, "a line that is not a number");
            }
        };
        let count = usize::try_from(next(self)?)?;
        ensure!(count <= MAX_PARTS, "{count} parts: more than {MAX_PARTS}");
        let part = |_| Ok(Sparse { offset: next(self)?, length: next(self)? });
        (0..count).map(part).collect()
    }
}

/// Reads the content of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..wanted])?;
        if length == 0 && wanted > 0 {
            let text = truncated(self.position, "an entry");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= length as u64;
        self.position += length as u64;
        Ok(length)
    }
}

fn truncated(offset: u64, what: &str) -> String {
    format!("the archive is truncated: it ends at offset {offset}, in the middle of {what}")
}

/// The device numbers; 0 for other types.
fn device(header: &Header, kind: Kind) -> Result<(u32, u32)> {
    let number = |field: &[u8]| -> Result<u32> { Ok(u32::try_from(unsigned(field)?)?) };
    match (header.as_ustar(), header.as_gnu()) {
        _ if ![Kind::CharDevice, Kind::BlockDevice].contains(&kind) => Ok((0, 0)),
        (Some(header), _) => Ok((number(&header.dev_major)?, number(&header.dev_minor)?)),
        (_, Some(header)) => Ok((number(&header.dev_major)?, number(&header.dev_minor)?)),
        _ => bail!("a device without numbers"),
    }
}

fn kind(header: &Header, path: &[u8]) -> Result<Kind> {
    Ok(match header.entry_type() {
        // v7 has no type for directories: a trailing slash marks them. Its type of files is NUL: of type '0', a
        // name with a slash is a file for Go's reader, and its content must not be read as headers.
        EntryType::Regular if header.as_old().linkflag == [0] && path.ends_with(b"/") => {
            Kind::Directory
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => Kind::CharDevice,
        EntryType::Block => Kind::BlockDevice,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        other => bail!("of unknown type {:?}", char::from(other.as_byte())),
    })
}

/// Checks that parts are in ascending order, do not overlap, are within the file, and have the length of the
/// content.
fn check_map(size: u64, map: &[Sparse], content: u64) -> Result<()> {
    let (mut end, mut sum) = (0, 0_u64);
    for part in map {
        let next = part.offset.checked_add(part.length).context("a part ends beyond all files")?;
        ensure!(part.offset >= end && next <= size, "parts overlap, or lie beyond the end");
        end = next;
        sum += part.length;
    }
    ensure!(sum == content, "its parts have {sum} bytes, its content {content}");
    Ok(())
}

fn to_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn unsigned(bytes: &[u8]) -> Result<u64> {
    u64::try_from(field(bytes)?).context("negative")
}

/// Parses a number: octal digits between spaces and NULs, or GNU's big-endian format, which has the first bit
/// set.
fn field(bytes: &[u8]) -> Result<i64> {
    if let Some(first) = bytes.first().filter(|&&first| first & 0x80 != 0) {
        // The second bit is the sign.
        let sign: i128 = if first & 0x40 != 0 { -1 } else { 0 };
        let first = (sign << 6) | i128::from(first & 0x3f);
        let number = bytes[1..].iter().try_fold(first, |number, &byte| {
            number.checked_mul(256).map(|number| number | i128::from(byte))
        });
        return number.and_then(|number| i64::try_from(number).ok()).context("too large");
    }
    let end = |byte: &u8| [0, b' '].contains(byte);
    let start = bytes.iter().position(|byte| !end(byte)).unwrap_or(bytes.len());
    let digits = bytes[start..].split(end).next().unwrap_or_default();
    digits.iter().try_fold(0_i64, |number, digit| {
        ensure!(
            (b'0'..=b'7').contains(digit),
            "{:?} is not octal",
            bytes.escape_ascii().to_string()
        );
        number.checked_mul(8).map(|number| number + i64::from(digit - b'0')).context("too large")
    })
}
