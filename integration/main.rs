//! The real runtime against the real kernel: one folder for each room of `src/`, one module for
//! each feature, names are claims.
//! docs/ and `TESTS=` name tests without the room: module names are unique.
//!
//! `make integration` builds the static process that runs in the containers and starts this as root.
//! `BRIG=/path` tests another binary, also another runtime: what only brig has is skipped then.
//! `BRIG_TEST_INIT=/path` is that static process, where cargo's own build of it is not static.
//! `BRIG_TEST_DIR=/path` is where bundles and states are made, instead of in cargo's target.
//! `BRIG_TEST_CRIU=/path` is a directory with `criu`, which `scripts/criu.sh` makes where the host has none that works.
//! `BRIG_TEST_EXPENDABLE=1`: the machine is the tests' own, which may set sysctls for all of it.
//! `BRIG_TEST_SLOWNESS=n`: deadlines are n times as long, on a processor that is emulated.
//! `BRIG_TEST_DISK=/dev/x` is a disk that a test may read from (the guest of `make test-vm` has one).

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

// What tests of several rooms use is named without its room: `crate::sandbox`, `crate::freeze`.
use {cgroup::*, cmd::*, helpers::*, image::*, launch::*};

/// Runs before `main`, while there is one thread: every test thread inherits a mount namespace that
/// dies with this process, so no mount of a test, whatever goes wrong, ever reaches the host.
#[used]
#[unsafe(link_section = ".init_array")]
// SAFETY: the linker calls what stands in this section as a C function before `main`; this one has
// C's calling convention and needs nothing that only `main` sets up.
static BEFORE_MAIN: extern "C" fn() = {
    extern "C" fn before_main() {
        // Not root: Sandbox says it where it can be read, and `--list` works for everybody.
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

/// The last lines of a run: skipped tests pass in libtest's eyes, so they are counted here; and what
/// [`guard`] has found fails the run.
extern "C" fn tell_skipped() {
    let skipped = sandbox::SKIPPED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !skipped.is_empty() {
        eprintln!("{} skipped:\n{}", skipped.len(), skipped.join("\n"));
    }
    let found = guard::end();
    if !found.is_empty() {
        eprintln!("after all tests:\n{}", found.join("\n"));
        // SAFETY: ends the process, which is ending, with another code.
        unsafe { libc::_exit(101) };
    }
}
