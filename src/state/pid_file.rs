//! Files that are written whole: what brig keeps, and what `--pid-file` names.

use anyhow::{Context, Result, anyhow};
use std::fs::{File, symlink_metadata};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use sys::Errno;
use sys::file::beside;

/// `--pid-file`, opened before there is a process: what cannot be written is known before anything is executed.
/// A regular file is replaced as a whole, so that nobody reads half a number. Anything else stays what it is
/// and is written into: a device node, a fifo, or what a link leads to.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// None: behind a link that leads to nothing yet, where it is made when there is a pid.
    file: Option<File>,
    /// The name of the file beside `path` that is to replace it, until it does.
    temp: Option<PathBuf>,
}

impl PidFile {
    /// Changes nothing of what is there.
    pub fn open(path: &Path) -> Result<PidFile> {
        let open = || -> Result<PidFile> {
            let (file, temp) = match symlink_metadata(path) {
                Ok(found) if found.is_symlink() && !path.exists() => (None, None),
                Ok(found) if !found.is_file() => (Some(open_into(path, false)?), None),
                _ => {
                    let temp = beside(path)?;
                    let file = File::options().write(true).create_new(true).open(&temp)?;
                    (Some(file), Some(temp))
                }
            };
            Ok(PidFile { path: path.to_owned(), file, temp })
        };
        open().with_context(|| format!("--pid-file: write {}", path.display()))
    }

    /// Writes the pid to where it was asked for.
    pub fn write(mut self, pid: i32) -> Result<()> {
        let mut write = || -> Result<()> {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => open_into(&self.path, true)?,
            };
            if self.temp.is_none() && file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            write!(file, "{pid}")?;
            if let Some(temp) = &self.temp {
                std::fs::rename(temp, &self.path)?;
                self.temp = None;
            }
            Ok(())
        };
        write().with_context(|| format!("--pid-file: write {}", self.path.display()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(temp) = &self.temp {
            // There is no process to tell of: the error that matters is why.
            let _ = std::fs::remove_file(temp);
        }
    }
}

/// Never waits: for the reader of a fifo, say. And a terminal does not become brig's own.
fn open_into(path: &Path, create: bool) -> Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let open =
        File::options().write(true).create(create).truncate(false).custom_flags(flags).open(path);
    open.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => anyhow!(Errno::ENXIO).context("a fifo without a reader, or a socket"),
        _ => error.into(),
    })
}

/// Writes a pid to where `--pid-file` leads.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    PidFile::open(path)?.write(pid)
}
