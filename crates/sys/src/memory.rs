//! Wipes memory that other processes must not read, see [`wipe_what_is_freed`].

#[cfg(target_env = "musl")]
use dlmalloc::GlobalDlmalloc as System;
#[cfg(not(target_env = "musl"))]
use std::alloc::System;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, Ordering};

static WIPES: AtomicBool = AtomicBool::new(false);

/// From now on, memory is overwritten when it is freed. An unprivileged user's container is a copy of brig
/// until it is started, and others that share its namespaces may inspect it.
pub fn wipe_what_is_freed() {
    WIPES.store(true, Ordering::Relaxed);
}

/// The C library's allocator, with optional wiping. musl's makes many system calls for small blocks, which
/// costs more than musl's faster start saves, so with musl it is dlmalloc, behind a lock. A clone only has
/// the thread that made it, which does not allocate meanwhile, so the lock is free in the child.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: every call is forwarded to System, with the arguments that the caller vouches for; accesses before
// that are within the bounds of the block, which is not in use any more.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout has a non-zero size.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: the block is the caller's to free and has this size. Unlike a plain memset, this call
            // is not optimised away because a free follows.
            unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        }
        // SAFETY: the block came from System, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !WIPES.load(Ordering::Relaxed) {
            // SAFETY: the block came from System, with this layout; the caller vouches for the size.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller guarantees that the size, rounded up to the alignment, does not overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as in alloc.
        let new = unsafe { System.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both blocks have at least that many bytes, and a new block does not overlap any other.
            unsafe { block.copy_to_nonoverlapping(new, layout.size().min(size)) };
            // SAFETY: the block is the caller's, who gives it up for the new one.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Overwrites the values of all environment variables, which /proc/PID/environ shows.
///
/// For a process that does not read its environment any more.
pub fn wipe_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: the C library's variable; brig has one thread, so it is not changed concurrently.
    let mut variable = unsafe { environ };
    if variable.is_null() {
        return;
    }
    loop {
        // SAFETY: the array ends with a null pointer, which has not been passed.
        let text = unsafe { *variable };
        if text.is_null() {
            return;
        }
        // SAFETY: every entry is a C string.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: the string is on the stack or the heap, where it is writable.
        unsafe { libc::explicit_bzero(text.cast(), length) };
        // SAFETY: the end has not been reached.
        variable = unsafe { variable.add(1) };
    }
}
