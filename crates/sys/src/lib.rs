//! Every raw system call and every `unsafe` of brig. Wrappers are thin: typed arguments in,
//! [`OwnedFd`](std::os::fd::OwnedFd)s out, and an error that names the failed call.

#![expect(unsafe_code)]

// The order of clone(2)'s arguments, the halves of a byte in an eBPF instruction and the argument of
// rt_sigaction(2) are as on these architectures.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"),
    target_pointer_width = "64",
    target_endian = "little",
)))]
compile_error!("brig is written for x86_64, aarch64 and riscv64, 64-bit and little-endian");

pub mod bpf;
pub mod calls;
pub mod clone;
pub mod cred;
mod error;
pub mod exe;
pub mod fd;
pub mod file;
pub mod hierarchy;
pub mod idmap;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod path;
pub mod poll;
pub mod process;
pub mod random;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod time;
pub mod tty;
pub mod xattr;

pub use clone::exit;
pub use error::{Errno, IfExists, Missing, SysError, VerbatimError, describe, errno_of};

/// Checks the result of a raw call: -1 becomes an error that names the call.
fn check(call: impl FnOnce() -> String, result: libc::c_long) -> Result<libc::c_long, SysError> {
    if result >= 0 { Ok(result) } else { Err(SysError::last(call())) }
}
