//! The root filesystem as seen by the container.

pub mod binds;
mod binds_inside;
pub mod devices;
pub mod idmap;
pub mod live_mounts;
pub mod mounts;
pub mod overlay;
