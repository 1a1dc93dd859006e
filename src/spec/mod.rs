//! `config.json` as written: parsed, with the positions of its values, nothing decided.
//!
//! The types are oci-spec's, except where those cannot represent runtime-spec 1.3: [`Spec`] and [`Linux`] (a
//! field that this brig does not implement must be recognised to be refused by name), [`Process`] (unknown
//! capabilities, exact required fields, and `regex`: 1 MB of binary) and [`Resources`] (exact required
//! fields, and `"pids": {}` is not a limit of 0).

mod place;
mod process;
mod resources;
mod rewrite;
pub mod shape;
#[cfg(test)]
mod tests;
mod text;

pub use place::{
    At, Place, Step, leading_place, located_warning, parse_error, parse_place, render,
};
pub use process::{Capabilities, ExecAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::*;
pub use text::{Document, KeyFault, Owned, read};

use oci_spec::runtime as oci;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole of `config.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of runtime-spec that the bundle complies with.
    pub oci_version: String,
    /// The container's root filesystem.
    pub root: Option<Root>,
    /// Mounts in addition to the root, in order.
    #[serde(default, deserialize_with = "null_is_default")]
    pub mounts: Vec<Mount>,
    /// The container's process.
    pub process: Option<Process>,
    /// Hostname in the container's UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name in the container's UTS namespace.
    pub domainname: Option<String>,
    /// Programs to run at certain points of the lifecycle.
    pub hooks: Option<oci::Hooks>,
    /// Arbitrary metadata; brig acts on `run.brig.*`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub annotations: BTreeMap<String, String>,
    /// Linux-specific settings.
    #[serde(default, deserialize_with = "null_is_default")]
    pub linux: Linux,
}

/// `root`.
#[derive(Debug, Deserialize)]
pub struct Root {
    /// Path of the root filesystem, relative to the bundle or absolute.
    pub path: PathBuf,
    /// Whether the container's root is read-only.
    #[serde(default, deserialize_with = "null_is_default")]
    pub readonly: bool,
}

/// One of `mounts`. Not oci-spec's type, which loses a missing `destination`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The path in the container.
    pub destination: PathBuf,
    /// The filesystem type; "bind" is only a hint, the option decides.
    #[serde(rename = "type")]
    pub typ: Option<String>,
    /// A device, or the file or directory of a bind mount (relative to the bundle).
    pub source: Option<PathBuf>,
    /// Options in the style of fstab(5).
    #[serde(default, deserialize_with = "null_is_default")]
    pub options: Vec<String>,
    /// User id mappings of an id-mapped mount.
    pub uid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// Group id mappings of an id-mapped mount.
    pub gid_mappings: Option<Vec<oci::LinuxIdMapping>>,
}

/// `linux`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Namespaces to create or to join.
    #[serde(default, deserialize_with = "null_is_default")]
    pub namespaces: Vec<oci::LinuxNamespace>,
    /// User id mappings of a new user namespace.
    pub uid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// Group id mappings of a new user namespace.
    pub gid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// Offsets of a new time namespace.
    #[serde(default, deserialize_with = "null_is_default")]
    pub time_offsets: BTreeMap<String, oci::LinuxTimeOffset>,
    /// Device nodes to create.
    pub devices: Option<Vec<oci::LinuxDevice>>,
    /// Network devices of the host to move into the container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub net_devices: BTreeMap<String, Option<NetDevice>>,
    /// The path in the cgroup hierarchies.
    pub cgroups_path: Option<String>,
    /// Limits.
    #[serde(default, deserialize_with = "null_is_default")]
    pub resources: Resources,
    /// Kernel parameters of the container's namespaces.
    #[serde(default, deserialize_with = "null_is_default")]
    pub sysctl: BTreeMap<String, String>,
    /// System call filter.
    pub seccomp: Option<oci_seccomp::LinuxSeccomp>,
    /// Propagation of the root mount.
    pub rootfs_propagation: Option<String>,
    /// Paths that cannot be read in the container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written in the container.
    #[serde(default, deserialize_with = "null_is_default")]
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label of mounts.
    pub mount_label: Option<String>,
    /// Intel Resource Director Technology.
    pub intel_rdt: Option<IntelRdt>,
    /// NUMA memory policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// Execution domain.
    pub personality: Option<Personality>,
}

/// One of `linux.netDevices`.
#[derive(Debug, Deserialize)]
pub struct NetDevice {
    /// The name in the container, if it differs.
    pub name: Option<String>,
}

/// `linux.intelRdt`. oci-spec's type lacks some fields of runtime-spec 1.3.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// The class of service.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// The share of the L3 cache.
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache: Option<String>,
    /// The share of the memory bandwidth.
    #[serde(rename = "memBwSchema")]
    pub mem_bw: Option<String>,
    /// Any lines of the schemata file.
    #[serde(default, deserialize_with = "null_is_default")]
    pub schemata: Vec<String>,
    /// Whether to create a monitoring group.
    #[serde(default, deserialize_with = "null_is_default")]
    pub enable_monitoring: bool,
}

/// `linux.memoryPolicy`.
#[derive(Debug, Deserialize)]
pub struct MemoryPolicy {
    /// E.g. `MPOL_BIND`.
    pub mode: String,
    /// Memory nodes, e.g. `0-3,7`.
    pub nodes: Option<String>,
    /// E.g. `MPOL_F_STATIC_NODES`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
}

/// `linux.personality`.
#[derive(Debug, Deserialize)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// The specification defines none so far.
    #[serde(default, deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
}

/// Reads JSON's `null` as the field's default: Go's encoders write it for every empty list.
fn null_is_default<'de, D, T>(de: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(de)?.unwrap_or_default())
}
