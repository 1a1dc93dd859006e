//! Cgroups managed by systemd.

pub mod bus;
pub mod session;
pub mod systemd;
