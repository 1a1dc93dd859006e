//! Creating a container: namespaces, ids, hooks, descriptors, and unprivileged callers.

pub mod hooks;
pub mod hooks_calling_brig;
pub mod inherited;
pub mod namespaces;
pub mod netdev;
pub mod rootless;
pub mod rootless_nested;
pub mod rootless_refused;
pub mod service;
pub mod terminal;
pub mod userns;
