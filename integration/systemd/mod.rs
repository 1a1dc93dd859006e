//! Cgroups that systemd manages.

pub mod bus;
pub mod session;
pub mod systemd;
