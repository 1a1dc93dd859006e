//! Attacks, most of them by their CVE: docs/security.md.

pub mod cve_binary;
pub mod cve_exec;
pub mod cve_mounts;
pub mod seal;
pub mod trace;
