//! Tests the real runtime on the real kernel: one directory for each module of `src/`, one file for each
//! feature; test names are statements. docs/ and `TESTS=` refer to tests without the directory: module names
//! are unique.
//!
//! `make integration` builds the static process that runs in the containers and starts this as root.
//! `BRIG=/path` tests another binary, also another runtime: tests of features that only brig has are then
//! skipped. `BRIG_TEST_INIT=/path` is the static process, if cargo's own build of it is not static.
//! `BRIG_TEST_DIR=/path` is the directory for bundles and states, instead of cargo's target.
//! `BRIG_TEST_CRIU=/path` is a directory with `criu`, created by `scripts/criu.sh` if the host has none that
//! works. `BRIG_TEST_EXPENDABLE=1`: the machine exists for the tests, which may set its sysctls.
//! `BRIG_TEST_SLOWNESS=n`: deadlines are n times as long, for an emulated processor. `BRIG_TEST_DISK=/dev/x`
//! is a disk that a test may read from (the guest of `make test-vm` has one).

#![allow(unsafe_code, reason = "ptrace before exec, and the work that comes before main")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "not brig: threads and writes are what tests are made of"
)]
#![allow(clippy::module_inception, reason = "a room's first feature often has the room's name")]

mod cgroup;
mod cli;
mod cmd;
mod criu;
mod helpers;
mod image;
mod launch;
mod plan;
mod process;
mod resilience;
mod rootfs;
mod seccomp;
mod security;
mod spec;
mod state;
mod sys;
mod systemd;

// Modules used by tests of several directories are named without theirs: `crate::sandbox`, `crate::freeze`.
use {cgroup::*, cmd::*, helpers::*, image::*, launch::*};

/// Runs before `main`, while the process is single-threaded: every test thread inherits a mount namespace
/// that ends with this process, so no mount of a test can reach the host.
#[used]
#[unsafe(link_section = ".init_array")]
// SAFETY: the linker makes functions in this section run as C functions before `main`; this one has C's
// calling convention and needs nothing that only `main` sets up.
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        // Not root: Sandbox reports it visibly, and `--list` works for everyone.
        if nix::unistd::geteuid().is_root() {
            host::enter_private_mount_namespace();
            if !std::env::args().any(|arg| arg == "--list") {
                guard::begin();
            }
        }
        // SAFETY: registers a plain function that outlives the process.
        unsafe { libc::atexit(tell_skipped) };
    }
    before_main
};

/// The last lines of a run: libtest counts skipped tests as passed, so they are counted here; and findings of
/// [`guard`] fail the run.
extern "C" fn tell_skipped() {
    let skipped = sandbox::SKIPPED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !skipped.is_empty() {
        eprintln!("{} skipped:\n{}", skipped.len(), skipped.join("\n"));
    }
    let found = guard::end();
    if !found.is_empty() {
        eprintln!("after all tests:\n{}", found.join("\n"));
        // SAFETY: ends the process, which is exiting, with another code.
        unsafe { libc::_exit(101) };
    }
}
