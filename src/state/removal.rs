//! Removes a state directory. Only files listed here are removed: anything else in a directory with the name
//! of a container (`--root` may be wrong) is not brig's, and stays.

use super::Dir;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::Errno;

/// The files that brig creates in a state directory, including the record's temporary names.
const FILES: [&CStr; 8] = [
    c"state.json",
    c"state.json.new",
    c"state.json.tmp",
    c"config.json",
    c"go",
    c"result",
    c"seccomp",
    c"seccomp.new",
];
/// The directory of sockets, see [`crate::launch::foreground::notify`].
const SOCKETS: &CStr = c"notify";
const SOCKET: &CStr = c"notify.sock";

impl Dir {
    /// Checks that brig has created this directory and everything in it.
    ///
    /// # Errors
    ///
    /// If it contains a file that brig does not create, or is accessible to others and has no record.
    pub fn ensure_own(&self) -> Result<()> {
        let names = names(self.fd())?;
        let other = names.iter().find(|name| !is_known(name));
        if let Some(other) = other {
            let (path, other) = (self.path.display(), other.to_string_lossy());
            bail!("{path} is not a state directory of brig: it contains {other:?}");
        }
        let others = Mode::S_IRWXG | Mode::S_IRWXO;
        let mode = Mode::from_bits_truncate(fstat(self.fd()).context("fstat")?.st_mode);
        let has_record = names.iter().any(|name| name.to_bytes().starts_with(b"state.json"));
        ensure!(
            names.is_empty() || has_record || !mode.intersects(others),
            "{} is not a state directory of brig: other users have access to it, and it has no state.json",
            self.path.display()
        );
        Ok(())
    }

    /// Removes the directory and the files that brig creates in it, and nothing else. A caller that has not
    /// created it must call [`Dir::ensure_own`] first.
    pub fn remove(self) -> Result<()> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        match openat(self.fd(), SOCKETS, flags, Mode::empty()) {
            Ok(sockets) => {
                unlink(sockets.as_fd(), SOCKET, &self.path.join("notify"))?;
                rmdir(self.fd(), SOCKETS).with_context(|| self.with_origin("notify"))?;
            }
            Err(Errno::ENOENT) => {}
            Err(_) => unlink(self.fd(), SOCKETS, &self.path)?,
        }
        // The record is removed last: as long as it exists, delete can be repeated.
        for name in FILES.iter().rev() {
            unlink(self.fd(), name, &self.path)?;
        }
        self.remove_itself()
    }

    /// Removes the directory by name, if the name still refers to it and not to a replacement.
    fn remove_itself(&self) -> Result<()> {
        let remove = || -> Result<()> {
            let own = fstat(self.fd())?;
            let named = match fstatat(AT_FDCWD, &self.path, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return Ok(()),
                named => named?,
            };
            ensure!((own.st_dev, own.st_ino) == (named.st_dev, named.st_ino), "has been replaced");
            match unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        };
        remove().with_context(|| format!("remove {}", self.path.display()))
    }

    fn with_origin(&self, name: &str) -> String {
        format!("remove {}/{name}", self.path.display())
    }
}

fn is_known(name: &CStr) -> bool {
    name == SOCKETS || FILES.contains(&name)
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    let mut entries = nix::dir::Dir::openat(directory, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file, or an empty directory in its place; a missing file is not an error.
fn unlink(directory: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<()> {
    let removed = match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => rmdir(directory, name),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => {
            let name = name.to_string_lossy();
            Err(errno).with_context(|| format!("remove {}/{name}", path.display()))
        }
    }
}

fn rmdir(directory: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    unlinkat(directory, name, UnlinkatFlags::RemoveDir)
}
