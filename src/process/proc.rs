//! The host's /proc, opened before any namespace is joined: so no write can go to another mount at that place
//! in the container (CVE-2025-52881).

use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use sys::SysError;
use sys::path::open_on_same_mount;

/// See the module documentation.
pub struct Proc(OwnedFd);

impl Proc {
    /// Opens the one of the current mount namespace.
    pub fn open() -> Result<Proc> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let proc = open("/proc", flags, Mode::empty()).context("open /proc")?;
        let kind = fstatfs(&proc).context("fstatfs(/proc)")?.filesystem_type();
        // linux/proc_fs.h, PROC_ROOT_INO: not a subdirectory.
        let root = fstat(&proc).context("fstat(/proc)")?.st_ino == 1;
        ensure!(kind == PROC_SUPER_MAGIC && root, "/proc is not a proc filesystem");
        Ok(Proc(proc))
    }

    /// Opens a file in it; fails if something is mounted on the file.
    pub fn verified(&self, path: &str, flags: OFlag) -> Result<OwnedFd, SysError> {
        open_on_same_mount(self.0.as_fd(), path, flags)
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
