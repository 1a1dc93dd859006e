//! What the parent makes for the child, or looks at, before it clones and while it serves: cgroups, id maps, network
//! devices, and hints for what an ordinary user may not make.

pub mod cgroup;
pub mod first_state;
pub mod hints;
pub mod id_maps;
pub mod net_devices;
pub mod upper;
