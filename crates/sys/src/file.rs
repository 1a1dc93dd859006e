//! Files: their type, and writing them atomically.

use super::Errno;
use anyhow::{Context, Result};
use nix::NixPath;
use nix::sys::stat::SFlag;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The type of a file, e.g. `S_IFREG`, from its `st_mode` (inode(7)).
pub fn kind(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

/// stat(2), with the system call that glibc uses for it and every engine's seccomp profile allows: musl uses
/// another one, and brig searches the container's program under the container's filter.
///
/// # Errors
///
/// The errno of fstatat(2).
pub fn stat(path: &CStr) -> Result<libc::stat, Errno> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: path is a C string, and found has room for the kernel's structure, which on 64-bit
    // architectures is the same as the C library's.
    let done = unsafe {
        libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), found.as_mut_ptr(), 0)
    };
    Errno::result(done)?;
    // SAFETY: the call was successful, so the kernel has written all of it.
    Ok(unsafe { found.assume_init() })
}

/// Checks that the effective user may execute `path`: faccessat2(2), without the fallbacks of C libraries.
///
/// # Errors
///
/// The errno of faccessat2(2): ENOSYS before Linux 5.8.
pub fn may_execute(path: &CStr) -> Result<(), Errno> {
    // SAFETY: path is a C string that outlives the call.
    let done = unsafe {
        let (at, how) = (libc::AT_FDCWD, libc::AT_EACCESS);
        libc::syscall(libc::SYS_faccessat2, at, path.as_ptr(), libc::X_OK, how)
    };
    Errno::result(done).map(drop)
}

/// Renames a file, unless the new name exists.
///
/// # Errors
///
/// The errno of renameat2(2): EEXIST if the name exists.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let done = from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            let (at, how) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
            // SAFETY: both are C strings that outlive the call.
            unsafe { libc::syscall(libc::SYS_renameat2, at, from.as_ptr(), at, to.as_ptr(), how) }
        })
    })??;
    Errno::result(done).map(drop)
}

/// A name for a temporary file that will replace `path`.
///
/// # Errors
///
/// If `path` does not end with a file name.
pub fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().context("is not a file name")?;
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(temp))
}

/// Writes a file atomically, replacing an existing one.
///
/// # Errors
///
/// If it cannot be written; an existing file is then unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> Result<()> {
        let temp = beside(path)?;
        let mut file = File::options().write(true).create_new(true).open(&temp)?;
        let done = file.write_all(bytes).and_then(|()| std::fs::rename(&temp, path));
        if done.is_err() {
            // The first error is the one to report.
            let _ = std::fs::remove_file(&temp);
        }
        Ok(done?)
    };
    write().with_context(|| format!("write {}", path.display()))
}
