//! Files named by flags: only regular ones of a limited size, opened without blocking.

use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The maximum size in bytes.
const MAX_BYTES: u64 = 4 << 20;

/// Reads the whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let what = || path.display().to_string();
    // Non-blocking, because it may be a fifo; and it must not become the controlling terminal.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty()).with_context(what)?;
    let kind = sys::file::kind(fstat(&fd)?.st_mode);
    ensure!(kind == SFlag::S_IFREG, "{} is not a regular file", what());
    let mut text = Vec::new();
    File::from(fd).take(MAX_BYTES + 1).read_to_end(&mut text).with_context(what)?;
    ensure!(text.len() as u64 <= MAX_BYTES, "{} is longer than {} MiB", what(), MAX_BYTES >> 20);
    Ok(text)
}
