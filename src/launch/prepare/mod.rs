//! What the parent makes for the child, or reads, before it clones and while it serves: cgroups, id maps,
//! network devices, and hints for unprivileged users.

pub mod cgroup;
pub mod claims;
pub mod first_state;
pub mod hints;
pub mod id_maps;
pub mod net_devices;
pub mod upper;
