//! Files that are written atomically: brig's own, and that of `--pid-file`.

use anyhow::{Context, Result, anyhow};
use std::fs::{File, symlink_metadata};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use sys::file::beside;
use sys::{Errno, signal};

/// `--pid-file`, opened before the process exists, so that errors occur before anything is executed. A
/// regular file is replaced atomically, so that no reader sees a partial number. Other files are written to:
/// a device node, a fifo, or the target of a symbolic link.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// None: the target of a symbolic link does not exist yet, and is created when the pid is known.
    file: Option<File>,
    /// The temporary file that will replace `path`.
    temp: Option<PathBuf>,
}

impl PidFile {
    /// Opens it without changing an existing file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written to.
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

    /// Writes the pid.
    pub fn write(mut self, pid: i32) -> Result<()> {
        let mut write = || -> Result<()> {
            let mut file = match self.file.take() {
                Some(file) => file,
                None => open_into(&self.path, true)?,
            };
            if self.temp.is_none() && file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            signal::without_sigpipe(|| write!(file, "{pid}"))?;
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
            // No process was started: the error that caused it is the one to report.
            let _ = std::fs::remove_file(temp);
        }
    }
}

/// Does not block, e.g. until a fifo has a reader, and does not make a terminal brig's controlling terminal.
fn open_into(path: &Path, create: bool) -> Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let open =
        File::options().write(true).create(create).truncate(false).custom_flags(flags).open(path);
    open.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => anyhow!(Errno::ENXIO).context("a fifo without a reader, or a socket"),
        _ => error.into(),
    })
}

/// Writes a pid to the file of `--pid-file`.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    PidFile::open(path)?.write(pid)
}
