//! The directory of a process in the host's /proc.

use crate::process::proc::Proc;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use sys::signal;

/// The maximum size of a file: 100,000 mounts (fs.mount-max) with long names.
const MAX_BYTES: u64 = 64 << 20;

/// A live process.
pub(super) struct Task {
    directory: OwnedFd,
    process: OwnedFd,
    status: String,
}

impl Task {
    /// `process`: its pidfd. The pid may have been reused before the directory was opened; but a directory
    /// whose process is alive while that of the pidfd is, too, refers to the same process.
    pub(super) fn open(pid: i32, process: OwnedFd) -> Result<Task> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let directory = Proc::open()?.verified(&pid.to_string(), flags)?;
        let mut task = Task { directory, process, status: String::new() };
        ensure!(task.lives()?, "container is not running");
        task.status = task.text("status")?;
        Ok(task)
    }

    pub(super) fn lives(&self) -> Result<bool> {
        Ok(!signal::has_ended(self.process.as_fd())?)
    }

    /// Reads a file as bytes.
    pub(super) fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let read = || -> Result<Vec<u8>> {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = File::from(openat(&self.directory, name, flags, Mode::empty())?);
            let mut bytes = Vec::new();
            file.take(MAX_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().with_context(|| format!("read /proc/PID/{name} of its init"))
    }

    pub(super) fn text(&self, name: &str) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    /// Reads a symbolic link. None if that is not permitted, or it does not exist.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let to = readlinkat(&self.directory, name).ok()?;
        Some(to.to_string_lossy().into_owned())
    }

    /// A field of `status`.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| Some(line.strip_prefix(name)?.strip_prefix(':')?.len());
        let line = self.status.lines().find(|line| value(line).is_some())?;
        Some(line[name.len() + 1..].trim())
    }
}
