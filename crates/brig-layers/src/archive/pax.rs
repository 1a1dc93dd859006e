//! Extended headers of tar archives: `length key=value` records (pax(1), "pax Extended Header").

use crate::archive::tar_reader::Sparse;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The contents of the extended headers before an entry.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pax {
    /// Replaces the header's.
    pub path: Option<Vec<u8>>,
    /// Replaces the header's.
    pub link: Option<Vec<u8>>,
    /// The size of the content in the archive.
    pub size: Option<u64>,
    /// Replaces the header's.
    pub uid: Option<u64>,
    /// Replaces the header's.
    pub gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub mtime: Option<(i64, i64)>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    xattr_bytes: usize,
    /// GNU sparse file.
    pub sparse: PaxSparse,
}

/// A sparse file in GNU tar's extended headers: formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default, Clone)]
pub(crate) struct PaxSparse {
    /// 1.0: the map precedes the content.
    pub map_in_content: bool,
    /// 0.0 and 0.1: the map.
    pub map: Vec<Sparse>,
    /// Whether there is a map, possibly an empty one.
    pub has_map: bool,
    /// The file's size.
    pub size: Option<u64>,
    offset: Option<u64>,
}

/// The maximum number of parts in a map.
pub(crate) const MAX_PARTS: usize = 1 << 18;

/// xattr(7): the maximum length of the names of a file's attributes together, in bytes.
const MAX_XATTRS: usize = 64 << 10;

impl Pax {
    /// Reads one extended header.
    ///
    /// # Errors
    ///
    /// If a record is malformed, or the header exceeds a limit.
    pub fn read(&mut self, mut text: &[u8]) -> Result<()> {
        while !text.is_empty() {
            // The length includes itself and the newline; a value may contain any byte.
            let space =
                text.iter().position(|&byte| byte == b' ').context("a record without length")?;
            let length: usize = number(&text[..space]).context("a record's length")?;
            ensure!(length > space + 1 && length <= text.len(), "a record of {length} bytes");
            let (record, rest) = text.split_at(length);
            let record = record[space + 1..].strip_suffix(b"\n").context("a record without end")?;
            let equals =
                record.iter().position(|&byte| byte == b'=').context("a record without =")?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            self.set(key, value).with_context(|| key.escape_ascii().to_string())?;
            text = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"path" => self.path = some(value),
            b"linkpath" => self.link = some(value),
            b"size" => self.size = optional(value)?,
            b"uid" => self.uid = optional(value)?,
            b"gid" => self.gid = optional(value)?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(time(value)?) },
            b"GNU.sparse.name" => self.path = some(value),
            b"GNU.sparse.major" => self.sparse.map_in_content = value == b"1",
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = optional(value)?,
            b"GNU.sparse.offset" => self.sparse.offset = optional(value)?,
            b"GNU.sparse.numbytes" => {
                let offset = self.sparse.offset.take().context("without an offset")?;
                self.sparse.push(offset, number(value)?)?;
            }
            b"GNU.sparse.map" => {
                self.sparse.has_map = true;
                let mut numbers = value.split(|&byte| byte == b',').filter(|part| !part.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().context("an offset without a length")?;
                    self.sparse.push(number(offset)?, number(length)?)?;
                }
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr_bytes += name.len() + 1;
                    ensure!(
                        self.xattr_bytes <= MAX_XATTRS,
                        "more extended attributes than a file can have"
                    );
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                }
            }
        }
        Ok(())
    }
}

impl PaxSparse {
    fn push(&mut self, offset: u64, length: u64) -> Result<()> {
        ensure!(self.map.len() < MAX_PARTS, "more than {MAX_PARTS} parts");
        self.has_map = true;
        self.map.push(Sparse { offset, length });
        Ok(())
    }
}

/// An empty value reverts an earlier record.
fn some(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

fn optional(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() { Ok(None) } else { number(value).map(Some) }
}

/// A decimal number.
///
/// # Errors
///
/// If the text is not a decimal number, or is out of range.
pub fn number<T: FromStr>(digits: &[u8]) -> Result<T> {
    let text = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
    text.with_context(|| format!("{:?} is not a number", digits.escape_ascii().to_string()))
}

/// Parses seconds and nanoseconds, the latter never negative: `-1.25` is -2 and 0.75.
fn time(value: &[u8]) -> Result<(i64, i64)> {
    let text = std::str::from_utf8(value).context("no number")?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        bail!("{text:?} is not a time");
    }
    let nanoseconds: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) =
        (number(seconds.as_bytes())?, number(nanoseconds.as_bytes())?);
    if text.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds.saturating_sub(1), 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length.to_string().len() + body.len() != length {
            length += 1;
        }
        [length.to_string().into_bytes(), body].concat()
    }

    #[test]
    fn a_value_may_hold_the_end_of_a_line() {
        let mut pax = Pax::default();
        let capability = b"\x01\n\0\x02=\n\n9 path=x\n";
        let text =
            [record("SCHILY.xattr.security.capability", capability), record("path", b"a\nb")];
        pax.read(&text.concat()).unwrap();
        assert_eq!(pax.xattrs[&b"security.capability"[..]], capability);
        assert_eq!(pax.path.unwrap(), b"a\nb");
    }

    #[test]
    fn times_have_fractions_and_may_be_before_1970() {
        for (text, expected) in [
            ("1", (1, 0)),
            ("1.5", (1, 500_000_000)),
            ("1.0000000019", (1, 1)),
            ("-1.25", (-2, 750_000_000)),
            ("-0.5", (-1, 500_000_000)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in ["", "x", "1.x", "1.-5", "."] {
            assert!(time(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn records_of_a_wrong_length_are_errors() {
        for text in
            [&b"x"[..], b"5", b"3 a", b"99 path=x\n", b"10 path=xy", b"8 path\n", b"0 a=b\n"]
        {
            assert!(Pax::default().read(text).is_err(), "{}", text.escape_ascii());
        }
        assert!(Pax::default().read(&record("size", b"-1")).is_err());
    }

    #[test]
    fn maps_of_sparse_files_are_read() {
        let mut pax = Pax::default();
        pax.read(&record("GNU.sparse.map", b"0,1,10,5")).unwrap();
        pax.read(
            &[record("GNU.sparse.offset", b"20"), record("GNU.sparse.numbytes", b"2")].concat(),
        )
        .unwrap();
        let map: Vec<_> = pax.sparse.map.iter().map(|part| (part.offset, part.length)).collect();
        assert_eq!(map, [(0, 1), (10, 5), (20, 2)]);
    }
}
