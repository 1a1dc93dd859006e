//! The real runtime against the real kernel: one module per feature, names are claims.
//!
//! `make integration` builds the static process that runs in the containers and starts this as root.
//! `BRIG=/path` tests another binary, also another runtime: what only brig has is skipped then.
//! `BRIG_TEST_INIT=/path` is that static process, where cargo's own build of it is not static.
//! `BRIG_TEST_DIR=/path` is where bundles and states are made, instead of in cargo's target.
//! `BRIG_TEST_EXPENDABLE=1`: the machine is the tests' own, which may set sysctls for all of it.
//! `BRIG_TEST_DISK=/dev/x` is a disk that a test may read from (the guest of `make test-vm` has one).

#![allow(unsafe_code, reason = "ptrace before exec, and the work that comes before main")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "not brig: threads and writes are what tests are made of"
)]

mod agent;
mod annotations;
mod apparmor;
mod binds;
mod bus;
mod cgroup_v2;
mod cgroups;
mod cli;
mod command;
mod config_keys;
mod console;
mod controllers;
mod crash;
mod cve_binary;
mod cve_exec;
mod cve_mounts;
mod delegate;
mod devices;
mod ends;
mod engine_words;
mod engines;
mod exec;
mod exec_cgroup;
mod facts;
mod faults;
mod freeze;
mod guard;
mod hangs;
mod hooks;
mod host;
mod ia32;
mod idmap;
mod images;
mod images_commit;
mod images_diff;
mod images_flags;
mod images_hostile;
mod images_limits;
mod images_peers;
mod images_shapes;
mod images_store;
mod inherited;
mod invalid;
mod kill;
mod layout;
mod lifecycle;
mod live_mounts;
mod manager;
mod mounts;
mod namespaces;
mod netdev;
mod old_kernel;
mod overlay;
mod pid_file;
mod process;
mod ps;
mod records;
mod robust;
mod rootless;
mod rootless_nested;
mod rootless_refused;
mod run;
mod sandbox;
mod sched;
mod screen;
mod seccomp;
mod seccomp_hostile;
mod selinux;
mod service;
mod session;
mod soak;
mod spec;
mod stats;
mod stuck;
mod systemd;
mod terminal;
mod trace;
mod tracer;
mod tree;
mod update;
mod update_refused;
mod userns;

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
