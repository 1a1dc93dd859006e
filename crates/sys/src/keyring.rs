//! The session keyring (keyrings(7)).

use super::{SysError, check};
use std::ffi::CStr;

/// Joins a new session keyring of this name, in which the container's user may search (keyctl(2),
/// JOIN_SESSION_KEYRING, DESCRIBE and SETPERM).
///
/// # Errors
///
/// If keyctl(2) fails: EDQUOT if the user has reached the quota of keys.
pub fn join_session_keyring(name: &CStr) -> Result<(), SysError> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    const SETPERM: libc::c_int = 5;
    const DESCRIBE: libc::c_int = 6;
    const USER_SEARCH: u32 = 0x0008_0000;
    let what = || format!("keyctl(JOIN_SESSION_KEYRING, {})", name.to_string_lossy());
    // SAFETY: name is a C string that outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    let ring = check(what, ring)?;
    let mut text = [0_u8; 256];
    // SAFETY: the kernel writes at most text.len() bytes, and nothing if that is too small.
    let len =
        unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, ring, text.as_mut_ptr(), text.len()) };
    check(|| format!("keyctl(DESCRIBE, {ring})"), len)?;
    // "type;uid;gid;permissions in hex;name"
    let field = text.split(|&c| c == b';').nth(3).and_then(|hex| std::str::from_utf8(hex).ok());
    let permissions = field.and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let permissions = permissions | USER_SEARCH;
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, ring, permissions) };
    check(|| format!("keyctl(SETPERM, {ring}, {permissions:#x})"), done).map(drop)
}
