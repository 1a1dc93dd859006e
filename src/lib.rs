//! brig: an OCI container runtime in one small static binary, without a daemon.
//!
//! A map of the house, in the order in which `create` walks through it:
//!
//! * [`cli`]: arguments become values. [`cmd`]: one verb a file.
//! * [`spec`]: `config.json` as written, and where in its text each value stands.
//! * [`seccomp`]: the filter of a process, which `crates/oci-seccomp` compiles.
//! * [`plan`]: decides. Validated, resolved, plain data; reads the host at most, changes nothing.
//! * [`launch`]: the story: parent → clone3 → child → execve, and the protocol between the two.
//! * [`rootfs`], [`cgroup`], [`rdt`], [`process`]: what parent and child call on the way.
//! * [`seal`]: brig goes on from a file that no container can write to.
//! * `image`: containers of images; the images, and the store of their layers, are `brig_layers`'s. A brig without the
//!   feature `images` has none, and `without_images.rs` in the place of whatever knows of them.
//! * [`systemd`]: who makes the cgroup, where it is asked to.
//! * [`criu`]: checkpoint and restore; the main sequence does not use it.
//! * [`state`]: what is known of a container between two runs of brig.
//! * [`sys`]: every raw system call and every `unsafe`, and nothing else.
//!
//! Imports point downward only: cli → cmd → launch → {rootfs, cgroup, process, state} → plan → sys.

/// The newest runtime-spec that brig follows.
pub const SPEC_VERSION: &str = "1.3.0";

/// The commit that brig was built from, where the build says it.
pub const COMMIT: &str = match option_env!("BRIG_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

pub mod cgroup;
pub mod cli;
pub mod cmd;
pub mod criu;
pub mod deadline;
pub mod fault;
pub mod hooks;
#[cfg(feature = "images")]
pub mod image;
pub mod launch;
pub mod log;
pub mod plan;
pub mod process;
pub mod rdt;
pub mod rootfs;
pub mod seal;
pub mod seccomp;
pub mod spec;
pub mod state;
pub mod suggest;
pub mod systemd;
