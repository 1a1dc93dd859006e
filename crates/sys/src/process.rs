//! This process: its name, its arguments and its environment.

use super::{SysError, check};
use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static VALUES: AtomicPtr<*const c_char> = AtomicPtr::new(ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Stores the arguments of `main` for [`args`]. std only has them if its own `main` is called, or with glibc.
///
/// # Safety
///
/// `values` points to `count` C strings that exist as long as the process and are never changed.
pub unsafe fn keep_args(count: c_int, values: *const *const c_char) {
    VALUES.store(values.cast_mut(), Ordering::Relaxed);
    COUNT.store(usize::try_from(count).unwrap_or(0), Ordering::Relaxed);
}

/// brig's arguments, starting with its name.
pub fn args() -> Vec<OsString> {
    let values = VALUES.load(Ordering::Relaxed);
    if values.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller of keep_args has guaranteed that there are this many, for as long as the process
    // exists.
    let values = unsafe { slice::from_raw_parts(values, COUNT.load(Ordering::Relaxed)) };
    let copy = |value: &*const c_char| {
        // SAFETY: a C string that is never changed, as guaranteed by the caller of keep_args.
        let text = unsafe { CStr::from_ptr(*value) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    values.iter().map(copy).collect()
}

/// Sets the name of this process in process lists, at most 15 bytes: prctl(2), PR_SET_NAME.
///
/// # Errors
///
/// If prctl(PR_SET_NAME) fails.
pub fn set_process_name(name: &CStr) -> Result<(), SysError> {
    // SAFETY: name is a C string that outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    check(|| "prctl(PR_SET_NAME)".into(), done.into()).map(drop)
}

/// Prevents anyhow from capturing a backtrace for every error if the caller has set RUST_BACKTRACE. brig
/// prints none, and in a static binary the first one costs 8 million instructions.
pub fn take_no_backtraces() {
    // Only if necessary, because changing the environment reallocates it.
    let asked = |name| std::env::var_os(name).is_some();
    if !asked("RUST_BACKTRACE") && !asked("RUST_LIB_BACKTRACE") {
        return;
    }
    // SAFETY: brig has one thread, and calls this before anything reads the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}
