//! Compiles `linux.seccomp`, the seccomp section of an OCI runtime's `config.json`, into the BPF program that
//! seccomp(2) takes. No C library is needed: system calls, their numbers and the compiler are in this crate.
//!
//! ```
//! use oci_seccomp::{Arch, LinuxSeccomp, compile};
//!
//! let profile: LinuxSeccomp = serde_json::from_str(
//!     r#"{
//!         "defaultAction": "SCMP_ACT_ERRNO",
//!         "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
//!         "syscalls": [
//!             { "names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW" },
//!             { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
//!               "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] }
//!         ]
//!     }"#,
//! )?;
//! let filter = compile(&profile, Arch::X86_64)?;
//! assert!(!filter.notifies && filter.unknown.is_empty());
//! // seccomp(SECCOMP_SET_MODE_FILTER, filter.flags, &sock_fprog { len, filter: filter.program.as_ptr() })
//! assert!(filter.program.len() < 50);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A filter is compiled for one machine, named by its native architecture ([`Arch::NATIVE`] is that of this
//! build), and covers the other architectures that the machine's kernel runs programs of. Installing the filter
//! is left to the caller: it needs a system call, and so `unsafe`.
//!
//! # What runtime-spec leaves open
//!
//! Profiles are written for libseccomp, as runc and crun use it, and mean here what they mean there:
//!
//! * System calls of the machine's architectures that the profile does not list kill the thread.
//! * A system call that is newer than all that the profile names fails with ENOSYS, unless the default action is
//!   to allow, log or trace: programs then fall back to an older one.
//! * Of two rules for a system call without conditions the first takes effect. Rules with conditions are tried in
//!   libseccomp's order; rules that contradict each other are an error.
//! * If a rule has two conditions on one argument, any of its conditions is sufficient.
//! * On 32-bit x86 a rule for a socket or System V IPC call also covers `socketcall` and `ipc`.
//! * Without `flags` the filter has `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
//! * `SCMP_ACT_NOTIFY` is refused as the default action and for write(2), which the installing process needs to
//!   hand the listener over.
//!
//! # Engines' profiles
//!
//! [`docker::read`] resolves a profile in the format of Docker and Podman (`archMap`, `includes`, `excludes`) for
//! a container, and [`default_profile`] makes one with Docker's rules.

mod arch;
mod compile;
mod default;
pub mod docker;
mod errno;
mod error;
pub mod explain;
#[cfg_attr(not(test), allow(dead_code, reason = "all but run is for tests"))]
mod interpreter;
mod program;
mod rules;
mod spec;
pub mod syscalls;

pub use arch::Arch;
pub use compile::{Filter, compile, flags};
pub use default::default_profile;
pub use error::Error;
pub use libc::sock_filter;
pub use spec::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArch, LinuxSeccompArg, LinuxSeccompFlag,
    LinuxSeccompOperator, LinuxSyscall,
};

/// The maximum number of instructions in a program: `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// The example in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
