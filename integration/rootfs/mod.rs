//! What the container sees as its root filesystem.

pub mod binds;
pub mod devices;
pub mod idmap;
pub mod live_mounts;
pub mod mounts;
pub mod overlay;
