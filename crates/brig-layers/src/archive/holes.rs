//! Sparse files: finds their data, so that holes are not read, and not written if the reader of the archive
//! supports sparse files.

use crate::archive::pax::MAX_PARTS;
use anyhow::{Context, Result};
use nix::sys::stat::FileStat;
use nix::unistd::{Whence, lseek};
use std::fs::File;
use std::os::unix::fs::FileExt;
use sys::Errno;

/// A block of zeros this long becomes a hole.
static HOLE: [u8; 4096] = [0; 4096];

/// The begin and end of a part that is not a hole.
pub type Part = (u64, u64);

/// Smaller holes are written as zeros: readers without support for sparse files, and engines that cannot push
/// images with them, matter more.
const WORTH: u64 = 1 << 20;

/// Whether a file may have holes: for most files no further query is needed.
pub(crate) fn may_have(stat: &FileStat) -> bool {
    // st_blocks is in units of 512 bytes, whatever the filesystem's block size.
    stat.st_blocks.saturating_mul(512) < stat.st_size
}

/// The first part at or after `from`; None if only a hole follows.
pub(crate) fn next_part(file: &File, from: u64, size: u64) -> Result<Option<Part>> {
    if from >= size {
        return Ok(None);
    }
    let begin = match lseek(file, i64::try_from(from)?, Whence::SeekData) {
        Err(Errno::ENXIO) => return Ok(None),
        begin => begin.context("lseek")?,
    };
    let end = u64::try_from(lseek(file, begin, Whence::SeekHole).context("lseek")?)?.min(size);
    let begin = u64::try_from(begin)?;
    Ok((begin < end).then_some((begin, end)))
}

/// All parts, if omitting the holes is worth it.
///
/// # Errors
///
/// If the filesystem cannot report the holes.
pub fn parts(file: &File, size: u64) -> Result<Option<Vec<Part>>> {
    let (mut parts, mut at, mut data) = (Vec::new(), 0, 0);
    while let Some((begin, end)) = next_part(file, at, size)? {
        if parts.len() + 1 == MAX_PARTS {
            return Ok(None);
        }
        parts.push((begin, end));
        data += end - begin;
        at = end;
    }
    Ok((size - data >= WORTH).then_some(parts))
}

/// The map that precedes the data in format 1.0 of GNU tar's sparse files: one number per line, first the
/// number of parts. An empty part at the end gives the file's size.
pub fn map(parts: &[Part], size: u64) -> Vec<u8> {
    let ends_in_hole = parts.last().is_none_or(|&(_, end)| end < size);
    let last = ends_in_hole.then_some((size, size));
    let count = parts.len() + usize::from(ends_in_hole);
    let lines = parts.iter().copied().chain(last);
    let lines = lines.map(|(begin, end)| format!("{begin}\n{}\n", end - begin));
    let mut map = format!("{count}\n{}", lines.collect::<String>()).into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    map
}

/// Writes the blocks that are not all zero, adjacent ones with one call. Returns the end of the last one.
pub(crate) fn write_data(file: &File, chunk: &[u8], at: u64) -> std::io::Result<usize> {
    let block = |at: usize| &chunk[at..chunk.len().min(at + HOLE.len())];
    let is_hole = |block: &[u8]| *block == HOLE[..block.len()];
    let (mut here, mut end) = (0, 0);
    while here < chunk.len() {
        let begin = here;
        while here < chunk.len() && !is_hole(block(here)) {
            here += block(here).len();
        }
        if here > begin {
            file.write_all_at(&chunk[begin..here], at + begin as u64)?;
            end = here;
        } else {
            here += block(here).len();
        }
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_says_where_data_is_and_how_long_the_file_is() {
        let path = std::env::temp_dir().join(format!("brig-holes-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        assert_eq!(parts(&file, 8 << 20).unwrap(), Some(Vec::new()));
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        let all = parts(&file, 8 << 20).unwrap().unwrap();
        // How much a filesystem allocates at once can differ.
        let [(begin, end)] = all[..] else { panic!("{all:?}") };
        assert!(begin <= 1 << 20 && end >= (1 << 20) + 4096, "{all:?}");
        file.write_all_at(&[1; 4096], (8 << 20) - 4096).unwrap();
        assert_eq!(parts(&file, 8 << 20).unwrap().unwrap().len(), 2);
        assert_eq!(parts(&file, 4096).unwrap(), None);
    }

    #[test]
    fn a_map_fills_whole_blocks() {
        for (parts, size, text) in [
            (vec![], 7, "1\n7\n0\n"),
            (vec![(0, 7)], 7, "1\n0\n7\n"),
            (vec![(5, 7), (9, 10)], 12, "3\n5\n2\n9\n1\n12\n0\n"),
        ] {
            let map = map(&parts, size);
            assert_eq!(map.len(), 512);
            assert_eq!(&map[..text.len()], text.as_bytes());
            assert!(map[text.len()..].iter().all(|&byte| byte == 0));
        }
    }
}
