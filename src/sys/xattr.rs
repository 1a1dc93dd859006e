//! Extended attributes: labels, and such without a value, which are marks on files.

use super::{SysError, check};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// setxattr(2) of an empty value.
pub fn mark(path: &Path, name: &CStr) -> Result<(), SysError> {
    let call = || format!("setxattr({}, {})", path.display(), name.to_string_lossy());
    set(&c_path(path, call)?, name, b"")
}

/// setxattr(2).
pub fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), SysError> {
    let call = || format!("setxattr({}, {})", path.to_string_lossy(), name.to_string_lossy());
    let (from, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: both names are C strings, the value is as long as is told, and all outlive the call.
    let done = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), from, length, 0) };
    check(call, done.into()).map(drop)
}

/// getxattr(2): whether there is such an attribute.
pub fn is_marked(path: &Path, name: &CStr) -> Result<bool, SysError> {
    let call = || format!("getxattr({}, {})", path.display(), name.to_string_lossy());
    let file = c_path(path, call)?;
    // SAFETY: both are C strings that outlive the call; into a buffer of length 0 nothing is
    // written, the kernel only tells the value's length.
    let done = unsafe { libc::getxattr(file.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    match check(call, i64::try_from(done).unwrap_or(-1)) {
        Err(error) if error.errno == super::Errno::ENODATA => Ok(false),
        done => done.map(|_| true),
    }
}

fn c_path(path: &Path, call: impl Fn() -> String) -> Result<CString, SysError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SysError::new(call(), super::Errno::EINVAL))
}
