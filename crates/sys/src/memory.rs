//! What brig has in its memory and others are not to read there: see [`wipe_what_is_freed`].

#[cfg(target_env = "musl")]
use dlmalloc::GlobalDlmalloc as System;
#[cfg(not(target_env = "musl"))]
use std::alloc::System;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, Ordering};

static WIPES: AtomicBool = AtomicBool::new(false);

/// From now on, memory is overwritten when it is freed. An unprivileged user's container is a copy of brig
/// until it is started, and others who share its namespaces may look into it.
pub fn wipe_what_is_freed() {
    WIPES.store(true, Ordering::Relaxed);
}

/// The C library's allocator, which wipes if it is told to. musl's asks the kernel again and again for little, which costs
/// more than its start saves: there it is dlmalloc, behind a lock. A clone has no thread but the one that made it, which
/// does not allocate meanwhile, so that nobody holds the lock there.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: every call is passed on to System, with the arguments that the caller vouches for; what is
// done before is within the bounds of the block, which nobody else uses any more.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout has a size.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: the block is the caller's to free and has this size. Unlike a plain memset, this
            // one is not optimised away for being followed by free.
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
        // SAFETY: the caller vouches that the size, rounded up to the alignment, is no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as in alloc.
        let new = unsafe { System.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: both blocks have at least that many bytes, and a new block overlaps no other.
            unsafe { block.copy_to_nonoverlapping(new, layout.size().min(size)) };
            // SAFETY: the block is the caller's, who gives it up for the new one.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Overwrites the values of all environment variables, as /proc/PID/environ shows them.
///
/// For a process that does not read its environment any more.
pub fn wipe_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: the C library's variable; brig has one thread, so that nobody changes it.
    let mut variable = unsafe { environ };
    if variable.is_null() {
        return;
    }
    loop {
        // SAFETY: the array ends with a null pointer, and that has not been passed.
        let text = unsafe { *variable };
        if text.is_null() {
            return;
        }
        // SAFETY: every entry is a C string.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: the string is on the stack or the heap, where it may be written to.
        unsafe { libc::explicit_bzero(text.cast(), length) };
        // SAFETY: the end has not been reached.
        variable = unsafe { variable.add(1) };
    }
}
