//! Files: their kind, and writing them whole or not at all.

use anyhow::{Context, Result};
use nix::sys::stat::SFlag;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The kind of a file, `S_IFREG` and the like, out of its `st_mode` (inode(7)).
pub fn kind(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

/// A name for the file that is to replace `path`.
///
/// # Errors
///
/// `path` does not end with a name.
pub fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().context("is not a file name")?;
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(temp))
}

/// Writes a file that appears whole or not at all, in the place of one that may be there.
///
/// # Errors
///
/// It cannot be written; then what was there before is unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let temp = beside(path)?;
        let mut file = File::options().write(true).create_new(true).open(&temp)?;
        let done = file.write_all(bytes).and_then(|()| std::fs::rename(&temp, path));
        if done.is_err() {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(&temp);
        }
        Ok(done?)
    };
    write().with_context(|| format!("write {}", path.display()))
}
