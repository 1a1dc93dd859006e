//! `linux.seccomp` in force.

pub mod agent;
mod explain;
pub mod ia32;
pub mod kept;
mod record;
pub mod seccomp;
pub mod seccomp_hostile;
