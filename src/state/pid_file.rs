//! Files that are written whole: what brig keeps, and what `--pid-file` names.

use crate::sys::Errno;
use anyhow::{Context, Result, anyhow};
use std::fs::{File, symlink_metadata};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a pid to where `--pid-file` leads. A regular file is replaced as a whole, so that nobody reads half a
/// number. Anything else stays what it is and is written into: a device node, a fifo, or what a link leads to.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let pid = pid.to_string();
    let written = match symlink_metadata(path) {
        Ok(found) if !found.is_file() => write_into(path, pid.as_bytes()),
        _ => write_atomically(path, pid.as_bytes()),
    };
    written.context("--pid-file")
}

/// Never waits: for the reader of a fifo, say. And a terminal does not become brig's own.
fn write_into(path: &Path, bytes: &[u8]) -> Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let open =
        File::options().write(true).create(true).truncate(true).custom_flags(flags).open(path);
    let write = || -> Result<()> {
        let mut file = open.map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) => {
                anyhow!(Errno::ENXIO).context("a fifo without a reader, or a socket")
            }
            _ => error.into(),
        })?;
        Ok(file.write_all(bytes)?)
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// Writes a file that appears whole or not at all, in the place of one that may be there.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let name = path.file_name().ok_or_else(|| anyhow!("is not the name of a file"))?;
        let mut temp = std::ffi::OsString::from(".");
        temp.push(name);
        temp.push(format!(".{}", std::process::id()));
        let temp = path.with_file_name(temp);
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
