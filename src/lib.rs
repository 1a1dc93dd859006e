//! brig: an OCI container runtime in one small static binary, without a daemon.
//!
//! A map of the source, in the order in which `create` uses it:
//!
//! * [`cli`]: turns arguments into values. [`cmd`]: one file per command.
//! * [`spec`]: `config.json` as written, and the position of each value in its text.
//! * [`seccomp`]: the seccomp filter of a process, compiled by `crates/oci-seccomp`.
//! * [`plan`]: decides. Its result is validated, resolved, plain data; it may read the host but changes
//!   nothing.
//! * [`lint`]: reports every mistake in a config.json without running it.
//! * [`doctor`]: probes what this host and user can do, and what a bundle lacks of it.
//! * [`inspect`]: what a container really has, beside what its config asked for.
//! * [`launch`]: the whole sequence: parent → clone3 → child → execve, and the protocol between the two.
//! * [`rootfs`], [`cgroup`], [`rdt`], [`process`]: the steps that parent and child perform.
//! * [`seal`]: lets brig continue from a file that no container can write to.
//! * `image`: containers created from images; images and the layer store are in `brig_layers`. Without the
//!   feature `images`, `without_images.rs` takes the place of everything that uses them.
//! * [`systemd`]: creates the cgroup through systemd, if configured.
//! * [`criu`]: checkpoint and restore; the main sequence does not use it.
//! * [`state`]: what is stored about a container between two invocations of brig.
//! * [`sys`]: every raw system call and every `unsafe`, and nothing else.
//!
//! Imports point downward only: cli → cmd → launch → {rootfs, cgroup, process, state} → plan → sys.

// These pages are for developers of brig: `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

/// The newest version of the runtime-spec that brig implements.
pub const SPEC_VERSION: &str = "1.3.0";

/// The commit that brig was built from, if the build sets it.
pub const COMMIT: &str = match option_env!("BRIG_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The C library that brig is linked with.
pub const LIBC: &str = if cfg!(target_env = "musl") { "musl" } else { "glibc" };

mod cgroup;
pub mod cli;
pub mod cmd;
mod criu;
mod deadline;
pub mod doctor;
mod fault;
mod hooks;
#[cfg(feature = "images")]
mod image;
pub mod inspect;
pub mod launch;
pub mod lint;
pub mod log;
pub mod phases;
pub mod plan;
pub mod process;
mod rdt;
mod rootfs;
pub mod seal;
mod seccomp;
pub mod spec;
pub mod state;
mod suggest;
pub mod systemd;
mod trace;
