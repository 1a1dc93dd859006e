//! This process: its name and its environment.

use super::{SysError, check};
use std::ffi::CStr;

/// Changes what lists of processes call this one, to at most 15 bytes: prctl(2), PR_SET_NAME.
///
/// # Errors
///
/// prctl(PR_SET_NAME) failed.
pub fn set_process_name(name: &CStr) -> Result<(), SysError> {
    // SAFETY: name is a C string that outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    check(|| "prctl(PR_SET_NAME)".into(), done.into()).map(drop)
}

/// Keeps anyhow from taking a backtrace of every error where the caller has set RUST_BACKTRACE. brig
/// shows none, and in a static binary the first one costs 8 million instructions.
pub fn take_no_backtraces() {
    // SAFETY: brig has one thread, and calls this before anything reads the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}
