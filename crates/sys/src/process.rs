//! This process: its name, its arguments and its environment.

use super::{SysError, check};
use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static VALUES: AtomicPtr<*const c_char> = AtomicPtr::new(ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Keeps the arguments of `main` for [`args`]. std has them only where its own `main` is called, or by glibc.
///
/// # Safety
///
/// `values` points to `count` C strings, which are there as long as the process and are never changed.
pub unsafe fn keep_args(count: c_int, values: *const *const c_char) {
    VALUES.store(values.cast_mut(), Ordering::Relaxed);
    COUNT.store(usize::try_from(count).unwrap_or(0), Ordering::Relaxed);
}

/// What brig was called with, its own name first.
pub fn args() -> Vec<OsString> {
    let values = VALUES.load(Ordering::Relaxed);
    if values.is_null() {
        return Vec::new();
    }
    // SAFETY: there are as many, for as long as the process, as the caller of keep_args has promised.
    let values = unsafe { slice::from_raw_parts(values, COUNT.load(Ordering::Relaxed)) };
    let copy = |value: &*const c_char| {
        // SAFETY: a C string that nobody changes, as the caller of keep_args has promised.
        let text = unsafe { CStr::from_ptr(*value) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    values.iter().map(copy).collect()
}

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
    // To change the environment is to allocate it anew.
    let asked = |name| std::env::var_os(name).is_some();
    if !asked("RUST_BACKTRACE") && !asked("RUST_LIB_BACKTRACE") {
        return;
    }
    // SAFETY: brig has one thread, and calls this before anything reads the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}
