//! Extended attributes: labels, marks on files, and those of an image's files.

use super::{Errno, SysError, check};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// setxattr(2).
///
/// # Errors
///
/// setxattr(2) failed.
pub fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), SysError> {
    let call = || format!("setxattr({}, {})", path.to_string_lossy(), name.to_string_lossy());
    let (from, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both names are C strings, the value has the given length, and all outlive the call.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), from, length, 0) };
    check(call, done.into()).map(drop)
}

/// lsetxattr(2): a symbolic link as the last component is not followed.
///
/// # Errors
///
/// If lsetxattr(2) fails.
pub fn set_here(path: &Path, name: &CStr, value: &[u8]) -> Result<(), SysError> {
    let call = || format!("lsetxattr({}, {})", path.display(), name.to_string_lossy());
    let file = c_path(path, call)?;
    // SAFETY: path and name are C strings that outlive the call, as does the value, whose length is
    // passed.
    let done = unsafe {
        libc::lsetxattr(file.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    check(call, done.into()).map(drop)
}

/// lremovexattr(2): a symbolic link as the last component is not followed.
///
/// # Errors
///
/// If lremovexattr(2) fails.
pub fn remove_here(path: &Path, name: &CStr) -> Result<(), SysError> {
    let call = || format!("lremovexattr({}, {})", path.display(), name.to_string_lossy());
    let file = c_path(path, call)?;
    // SAFETY: both are C strings that outlive the call.
    let done = unsafe { libc::lremovexattr(file.as_ptr(), name.as_ptr()) };
    check(call, done.into()).map(drop)
}

/// Marks a file: lsetxattr(2) with an empty value.
///
/// # Errors
///
/// If lsetxattr(2) fails.
pub fn mark(path: &Path, name: &CStr) -> Result<(), SysError> {
    set_here(path, name, &[])
}

/// Whether a file has this attribute: lgetxattr(2).
///
/// # Errors
///
/// If lgetxattr(2) fails for another reason than a missing attribute.
pub fn is_marked(path: &Path, name: &CStr) -> Result<bool, SysError> {
    let call = || format!("lgetxattr({}, {})", path.display(), name.to_string_lossy());
    let file = c_path(path, call)?;
    // SAFETY: both are C strings that outlive the call; with a length of 0 nothing is written, the kernel
    // only returns the value's length.
    let done = unsafe { libc::lgetxattr(file.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    match check(call, i64::try_from(done).unwrap_or(-1)) {
        Err(error) if [Errno::ENODATA, Errno::ENOTSUP].contains(&error.errno) => Ok(false),
        done => done.map(|_| true),
    }
}

/// The value of an attribute: lgetxattr(2); None if it does not exist.
///
/// # Errors
///
/// If lgetxattr(2) fails for another reason than a missing attribute.
pub fn get(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>, SysError> {
    get_by(libc::lgetxattr, path, name)
}

type Get = unsafe extern "C" fn(
    *const libc::c_char,
    *const libc::c_char,
    *mut libc::c_void,
    libc::size_t,
) -> libc::ssize_t;

/// By lgetxattr(2) or getxattr(2).
fn get_by(by: Get, path: &Path, name: &CStr) -> Result<Option<Vec<u8>>, SysError> {
    let call = || format!("lgetxattr({}, {})", path.display(), name.to_string_lossy());
    let file = c_path(path, call)?;
    // xattr(7): a value has at most 64 KiB.
    let mut value = vec![0_u8; 1 << 16];
    // SAFETY: both are C strings that outlive the call; the kernel writes at most value.len() bytes.
    let done = unsafe { by(file.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match check(call, i64::try_from(done).unwrap_or(-1)) {
        Err(error) if [Errno::ENODATA, Errno::ENOTSUP].contains(&error.errno) => Ok(None),
        length => {
            value.truncate(usize::try_from(length?).unwrap_or(0));
            Ok(Some(value))
        }
    }
}

/// The names of all attributes, without their NULs: llistxattr(2).
///
/// # Errors
///
/// If llistxattr(2) fails.
pub fn list(path: &Path) -> Result<Vec<Vec<u8>>, SysError> {
    list_by(libc::llistxattr, path)
}

type List =
    unsafe extern "C" fn(*const libc::c_char, *mut libc::c_char, libc::size_t) -> libc::ssize_t;

/// By llistxattr(2) or listxattr(2).
fn list_by(by: List, path: &Path) -> Result<Vec<Vec<u8>>, SysError> {
    let call = || format!("llistxattr({})", path.display());
    let file = c_path(path, call)?;
    // Most files have none or a few: clearing the maximum buffer would take longer than the call.
    let mut few = [0_u8; 512];
    match names_by(by, &file, &mut few, call) {
        Err(error) if error.errno == Errno::ERANGE => {
            // xattr(7): a list has at most 64 KiB.
            let mut names = vec![0_u8; 1 << 16];
            let length = names_by(by, &file, &mut names, call)?;
            Ok(split_names(&names[..length]))
        }
        length => Ok(split_names(&few[..length?])),
    }
}

/// The length of the list; 0 if the filesystem does not support attributes.
fn names_by(
    by: List,
    file: &CStr,
    names: &mut [u8],
    call: impl Fn() -> String,
) -> Result<usize, SysError> {
    // SAFETY: the path is a C string that outlives the call; the kernel writes at most names.len()
    // bytes.
    let done = unsafe { by(file.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    match check(call, i64::try_from(done).unwrap_or(-1)) {
        Err(error) if error.errno == Errno::ENOTSUP => Ok(0),
        length => Ok(usize::try_from(length?).unwrap_or(0).min(names.len())),
    }
}

/// The prefixes of overlayfs's own attributes, which describe a layer and not a file.
pub const OVERLAYS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Copies all attributes except overlayfs's own, labels, which follow from the policy, and those that the kernel does
/// not permit to set, or does not support there. Symbolic links as the last components are not followed.
///
/// # Errors
///
/// If an attribute cannot be read, or set for another reason.
pub fn copy(from: &Path, to: &Path) -> Result<(), SysError> {
    copy_by(libc::llistxattr, libc::lgetxattr, from, to)
}

/// Like [`copy`], from an opened file or directory.
///
/// # Errors
///
/// As [`copy`].
pub fn copy_opened(from: BorrowedFd<'_>, to: &Path) -> Result<(), SysError> {
    // This link is followed: it leads to the file itself, whatever its name is now.
    let from = format!("/proc/self/fd/{}", from.as_raw_fd());
    copy_by(libc::listxattr, libc::getxattr, Path::new(&from), to)
}

fn copy_by(list: List, get: Get, from: &Path, to: &Path) -> Result<(), SysError> {
    for key in list_by(list, from)? {
        if key == b"security.selinux" || OVERLAYS.iter().any(|own| key.starts_with(own)) {
            continue;
        }
        let key = CString::new(key).map_err(|_| SysError::new("llistxattr", Errno::EINVAL))?;
        // It may have been removed in the meantime.
        let Some(value) = get_by(get, from, &key)? else { continue };
        match set_here(to, &key, &value) {
            Err(error) if [Errno::EPERM, Errno::EOPNOTSUPP].contains(&error.errno) => {}
            set => set?,
        }
    }
    Ok(())
}

fn split_names(names: &[u8]) -> Vec<Vec<u8>> {
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    names.map(<[u8]>::to_vec).collect()
}

fn c_path(path: &Path, call: impl Fn() -> String) -> Result<CString, SysError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SysError::new(call(), Errno::EINVAL))
}
