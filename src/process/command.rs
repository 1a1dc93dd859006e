//! Finds the program named by the first argument. The error messages are those of runc: docker and podman
//! derive exit codes 126 and 127 from them.

use anyhow::Result;
use nix::sys::stat::SFlag;
use std::ffi::{CStr, CString};
use sys::file::{may_execute, stat};
use sys::{Errno, VerbatimError};

/// The path of the program: `name` itself if it contains a slash, else the first executable file of that name
/// in the directories of `search`. Must be called as the user who executes it.
///
/// # Errors
///
/// If no such program exists, or the user may not execute it; engines match on the messages.
pub fn find(name: &CStr, search: &str) -> Result<CString> {
    let shown = name.to_string_lossy();
    if name.to_bytes().contains(&b'/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(errno) => {
                let why = match errno {
                    Errno::ENOENT => format!("stat {shown}: no such file or directory"),
                    // docker 20.10 only matches the second part, later versions match both.
                    Errno::EISDIR => "is a directory: permission denied".to_owned(),
                    errno => errno.desc().to_lowercase(),
                };
                Err(VerbatimError { text: format!("exec: {shown:?}: {why}"), errno }.into())
            }
        };
    }
    let mut unusable = None;
    for directory in search.split(':') {
        // execvp(3): an empty entry is the working directory.
        let directory = if directory.is_empty() { "." } else { directory };
        let mut path = directory.as_bytes().to_vec();
        path.push(b'/');
        path.extend(name.to_bytes());
        let path = CString::new(path)?;
        match executable(&path) {
            Ok(()) => return Ok(path),
            // In a directory that may not be searched, the file may not even exist.
            Err(Errno::EACCES) if stat(&path).is_ok() => unusable = unusable.or(Some(path)),
            Err(_) => {}
        }
    }
    let hint = unusable.map_or_else(String::new, |path| {
        format!(" ({} exists, but is not executable)", path.to_string_lossy())
    });
    let text = format!("exec: {shown:?}: executable file not found in $PATH{hint}");
    Err(VerbatimError { text, errno: Errno::ENOENT }.into())
}

fn executable(path: &CStr) -> Result<(), Errno> {
    let mode = stat(path)?.st_mode;
    if sys::file::kind(mode) == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    match may_execute(path) {
        // An old kernel, or a seccomp filter that does not know the call: fall back to the mode, as in runc.
        Err(Errno::EPERM | Errno::ENOSYS) if mode & 0o111 != 0 => Ok(()),
        answer => answer,
    }
}
