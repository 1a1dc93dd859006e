//! The labels of security modules, written to the process's own directory in a /proc that no process of the
//! container can have replaced (CVE-2019-16884, CVE-2025-52881).
//!
//! The child opens its files in the parent's /proc first, and writes them last, because a label takes effect
//! with the next execve, and hooks are executed before.

use crate::plan::lsm::Label;
use crate::process::proc::Proc;
use crate::spec::Place;
use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::{Errno, SysError};

/// A label, and the file to write it to.
pub struct Opened<'a> {
    file: OwnedFd,
    name: String,
    label: &'a Label,
}

/// Opens the files of the calling process: the kernel lets no other process write them.
pub fn open_all<'a>(proc: Option<&Proc>, labels: &'a [Label]) -> Result<Vec<Opened<'a>>> {
    let Some(proc) = proc else { return Ok(Vec::new()) };
    labels.iter().map(|label| open_one(proc, label).at(label.place)).collect()
}

fn open_one<'a>(proc: &Proc, label: &'a Label) -> Result<Opened<'a>> {
    let mut missing = anyhow!("no file in /proc/thread-self/attr to write it to");
    for file in label.files {
        let path = format!("thread-self/{file}");
        let name = format!("/proc/{path}");
        match proc.verified(&path, OFlag::O_WRONLY) {
            Ok(file) => return Ok(Opened { file, name, label }),
            Err(error) if error.errno == Errno::ENOENT => missing = error.into(),
            Err(error) => return Err(error).with_context(|| format!("open `{name}`")),
        }
    }
    Err(missing)
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Opened<'_> {
    /// Sets the label for the next execve.
    pub fn set(&self) -> Result<()> {
        let text = &self.label.text;
        let Err(errno) = nix::unistd::write(&self.file, text.as_bytes()) else { return Ok(()) };
        // podman matches on the backquotes.
        let call = format!("write {text:?} to `{}`", self.name);
        let error = anyhow::Error::from(SysError::new(call, errno));
        Err(match errno {
            Errno::ENOENT | Errno::EINVAL => error.context(self.label.missing.clone()),
            _ => error,
        })
        .at(self.label.place)
    }
}
