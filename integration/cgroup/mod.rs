//! Cgroups: location, limits, freezer, statistics.

pub mod cgroup_v2;
pub mod cgroups;
mod claims;
pub mod controllers;
pub mod delegate;
pub mod exec_cgroup;
pub mod freeze;
mod hierarchies;
pub mod manager;
pub mod stats;
pub mod update;
pub mod update_refused;
