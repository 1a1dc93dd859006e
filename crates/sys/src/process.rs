//! This process: its name and its environment.

use super::{SysError, check};
use std::ffi::{CStr, CString};

/// What lists of processes call this one: prctl(2), PR_GET_NAME.
pub fn process_name() -> Result<CString, SysError> {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes 16 bytes, which is what there is, the last of them zero.
    let done = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    check(|| "prctl(PR_GET_NAME)".into(), done.into())?;
    Ok(CStr::from_bytes_until_nul(&name).unwrap_or_default().to_owned())
}

/// Changes it: prctl(2), PR_SET_NAME.
pub fn set_process_name(name: &CStr) -> Result<(), SysError> {
    // SAFETY: name is a C string that outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    check(|| "prctl(PR_SET_NAME)".into(), done.into()).map(drop)
}

/// Takes a variable out of brig's environment.
pub fn forget_variable(name: &str) {
    // SAFETY: brig has one thread, and nobody holds a pointer into the environment.
    unsafe { std::env::remove_var(name) };
}

/// Keeps anyhow from taking a backtrace of every error where the caller has set RUST_BACKTRACE. brig
/// shows none, and in a static binary the first one costs 8 million instructions.
pub fn take_no_backtraces() {
    // SAFETY: brig has one thread, and calls this before anything reads the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}
