//! The host's /proc, held open from before any namespace is joined: what is written there cannot go
//! astray into something that is mounted at that place in the container (CVE-2025-52881).

use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

/// See the module.
pub struct Proc(OwnedFd);

impl Proc {
    /// Opens that of the mount namespace that this process is in.
    pub fn open() -> Result<Proc> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Proc(open("/proc", flags, Mode::empty()).context("open /proc")?))
    }

    /// Opens a file in it.
    pub fn file(&self, path: &str, flags: OFlag) -> Result<File> {
        let opened = openat(&self.0, path, flags | OFlag::O_CLOEXEC, Mode::empty());
        Ok(opened.with_context(|| format!("open /proc/{path}"))?.into())
    }

    /// Writes a file in it.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        let write = || -> Result<()> {
            let opened = openat(&self.0, path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            Ok(File::from(opened?).write_all(value.as_bytes())?)
        };
        write().with_context(|| format!("write {value:?} to /proc/{path}"))
    }
}
