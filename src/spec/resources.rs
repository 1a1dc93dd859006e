//! `linux.resources`: not oci-spec's type, which reads an absent REQUIRED field as 0, false or an empty
//! string (a rule without `allow` as a denying one, `"pids": {}` as a limit of 0).

use serde::Deserialize;
use std::collections::BTreeMap;

/// `linux.resources`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Rules of the device controller, in order; the last match wins.
    pub devices: Option<Vec<DeviceRule>>,
    /// Memory limits.
    pub memory: Option<Memory>,
    /// CPU limits and CPU sets.
    pub cpu: Option<Cpu>,
    /// Process count.
    pub pids: Option<Pids>,
    /// Block I/O.
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    pub hugepage_limits: Option<Vec<HugepageLimit>>,
    /// Network classes and priorities (v1).
    pub network: Option<Network>,
    /// RDMA handles and objects, by device.
    pub rdma: Option<BTreeMap<String, Rdma>>,
    /// cgroup v2 files and the values to write to them.
    pub unified: Option<BTreeMap<String, String>>,
}

/// One of `linux.resources.devices`.
#[derive(Debug, Deserialize)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// The type of device; all if absent.
    #[serde(rename = "type")]
    pub typ: Option<DeviceType>,
    /// Major number; all if absent.
    pub major: Option<i64>,
    /// Minor number; all if absent.
    pub minor: Option<i64>,
    /// A combination of r, w and m.
    pub access: Option<String>,
}

/// The type of device in a device rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    /// All.
    A,
    /// Block.
    B,
    /// Character.
    C,
}

/// `linux.resources.memory`, in bytes; -1 is unlimited.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Memory.
    pub limit: Option<i64>,
    /// Soft limit of memory.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory.
    pub kernel: Option<i64>,
    /// TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// Disable the OOM killer.
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting.
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below the current usage.
    pub check_before_update: Option<bool>,
}

/// `linux.resources.cpu`, in microseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Relative share.
    pub shares: Option<u64>,
    /// CPU time in a period.
    pub quota: Option<i64>,
    /// Unused time that can be accumulated for bursts.
    pub burst: Option<u64>,
    /// Length of a period.
    pub period: Option<u64>,
    /// Time of real-time processes per period.
    pub realtime_runtime: Option<i64>,
    /// Length of that period.
    pub realtime_period: Option<u64>,
    /// CPUs, e.g. `0-3,7`.
    pub cpus: Option<String>,
    /// Memory nodes, e.g. `0-3,7`.
    pub mems: Option<String>,
    /// 1: SCHED_IDLE.
    pub idle: Option<i64>,
}

/// `linux.resources.pids`.
#[derive(Debug, Default, Deserialize)]
pub struct Pids {
    /// Maximum number of tasks; -1 is unlimited.
    pub limit: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Weight.
    pub weight: Option<u16>,
    /// Weight relative to the cgroup's children.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Option<Vec<WeightDevice>>,
    /// Bytes read per second, by device.
    pub throttle_read_bps_device: Option<Vec<ThrottleDevice>>,
    /// Bytes written per second, by device.
    pub throttle_write_bps_device: Option<Vec<ThrottleDevice>>,
    /// Reads per second, by device.
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: Option<Vec<ThrottleDevice>>,
    /// Writes per second, by device.
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: Option<Vec<ThrottleDevice>>,
}

/// One of `linux.resources.blockIO.weightDevice`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Weight.
    pub weight: Option<u16>,
    /// Weight relative to the cgroup's children.
    pub leaf_weight: Option<u16>,
}

/// One of the throttles of `linux.resources.blockIO`.
#[derive(Debug, Deserialize)]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// One of `linux.resources.hugepageLimits`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// E.g. `2MB`.
    pub page_size: String,
    /// In bytes.
    pub limit: u64,
}

/// `linux.resources.network`.
#[derive(Debug, Default, Deserialize)]
pub struct Network {
    /// The class of the container's packets.
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    pub priorities: Option<Vec<InterfacePriority>>,
}

/// One of `linux.resources.network.priorities`.
#[derive(Debug, Deserialize)]
pub struct InterfacePriority {
    /// Interface.
    pub name: String,
    /// Priority.
    pub priority: u32,
}

/// One of `linux.resources.rdma`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// Maximum number of handles.
    pub hca_handles: Option<u32>,
    /// Maximum number of objects.
    pub hca_objects: Option<u32>,
}
