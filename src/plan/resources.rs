//! Validates `linux.resources`: the settings of the container's cgroups, independent of the cgroup version.
//!
//! A limit that is not in the config is `None`, and so are values that engines write for "not set": Go's zero
//! value of memory limits, `cpu.shares`, `cpu.quota`, `cpu.period` and block I/O weights, and an empty
//! cpuset. Everywhere else 0 means 0 and -1 means unlimited. What a cgroup version cannot express is refused
//! by the tables of [`crate::cgroup`].

use super::device_rules::{self, DeviceRule};
use crate::spec::{self, Place};
use anyhow::{Result, bail, ensure};

/// The validated limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Device rules: the last match wins, and everything else is denied. Ends with the devices of every
    /// container.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// CPU time and CPU sets.
    pub cpu: Cpu,
    /// Maximum number of tasks, at least 1; -1 is unlimited.
    pub pids: Option<i64>,
    /// Block I/O.
    pub block_io: BlockIo,
    /// Huge pages.
    pub hugepages: Vec<Hugepage>,
    /// Network classes and priorities.
    pub network: Network,
    /// RDMA: device, handles, objects.
    pub rdma: Vec<Rdma>,
    /// cgroup v2 files and the values to write.
    pub unified: Vec<(String, String)>,
    /// Limits that are omitted if they are not possible.
    pub optional: Optional,
}

/// Image defaults that nobody requested explicitly: [`Optional::ANNOTATION`] lists them, separated by commas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Optional {
    /// `pids.limit`.
    pub pids: bool,
    /// `memory.swap`.
    pub swap: bool,
}

impl Optional {
    /// The annotation that lists them.
    pub const ANNOTATION: &str = "run.brig.defaults";

    /// Parses the annotation.
    pub fn of(annotations: &std::collections::BTreeMap<String, String>) -> Optional {
        let listed = annotations.get(Optional::ANNOTATION).map_or("", String::as_str);
        let has = |name| listed.split(',').any(|listed| listed.trim() == name);
        Optional { pids: has("pids"), swap: has("swap") }
    }
}

/// `memory`, in bytes; -1 is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Memory.
    pub limit: Option<i64>,
    /// Memory soft limit.
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// Kernel memory.
    pub kernel: Option<i64>,
    /// TCP buffers.
    pub kernel_tcp: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    /// No OOM killer: processes that run out of memory wait.
    pub disable_oom_killer: Option<bool>,
    /// Hierarchical accounting.
    pub use_hierarchy: Option<bool>,
    /// Refuse a limit below the current usage.
    pub check_before_update: bool,
}

/// `cpu`; times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, in cgroup v1's units.
    pub shares: Option<u64>,
    /// CPU time in a period, -1 is unlimited.
    pub quota: Option<i64>,
    /// Length of a period.
    pub period: Option<u64>,
    /// Unused time that can be saved for bursts.
    pub burst: Option<u64>,
    /// SCHED_IDLE for the whole cgroup.
    pub idle: Option<bool>,
    /// Time of real-time processes per period.
    pub realtime_runtime: Option<i64>,
    /// Length of that period.
    pub realtime_period: Option<u64>,
    /// CPUs, e.g. `0-3,7`.
    pub cpus: Option<String>,
    /// Memory nodes, e.g. `0-3,7`.
    pub mems: Option<String>,
}

/// `blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// Weight, 1 to 1000.
    pub weight: Option<u16>,
    /// Weight relative to the cgroup's own children.
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub devices: Vec<DeviceWeight>,
    /// Rate limits in the order of [`Throttle`]'s variants.
    pub throttles: Vec<Rate>,
}

/// Weights for one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceWeight {
    /// `8:16`.
    pub device: String,
    /// Weight.
    pub weight: Option<u16>,
    /// Weight relative to the cgroup's own children.
    pub leaf_weight: Option<u16>,
}

/// The kind of a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Bytes read in a second.
    ReadBps,
    /// Bytes written in a second.
    WriteBps,
    /// Reads in a second.
    ReadIops,
    /// Writes in a second.
    WriteIops,
}

/// A rate limit for one block device; 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// What it limits.
    pub what: Throttle,
    /// `8:16`.
    pub device: String,
    /// The limit.
    pub rate: u64,
    /// Index in its list in the config.
    pub index: usize,
}

/// One of `hugepageLimits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hugepage {
    /// `2MB`.
    pub size: String,
    /// In bytes.
    pub limit: u64,
}

/// `network`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Class of the packets.
    pub class_id: Option<u32>,
    /// Interface and priority.
    pub priorities: Vec<(String, u32)>,
}

/// One of `rdma`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rdma {
    /// Device.
    pub device: String,
    /// Maximum number of handles.
    pub handles: Option<u32>,
    /// Maximum number of objects.
    pub objects: Option<u32>,
}

impl Resources {
    /// Whether it contains only device rules and optional limits.
    pub fn is_empty(&self) -> bool {
        let devices = self.devices.clone();
        self.required() == Resources { devices, ..Resources::default() }
    }

    /// Whether a container gets nothing else without a cgroup of its own.
    pub fn sets_no_limit(&self) -> bool {
        let mut limits = self.clone();
        // docker writes this for every container.
        if limits.memory.disable_oom_killer == Some(false) {
            limits.memory.disable_oom_killer = None;
        }
        limits.is_empty()
    }

    /// Without the optional limits.
    pub fn required(&self) -> Resources {
        self.without(self.optional)
    }

    /// Without these limits, as far as they are optional.
    pub fn without(&self, dropped: Optional) -> Resources {
        let mut rest = self.clone();
        if self.optional.pids && dropped.pids {
            rest.pids = None;
            rest.optional.pids = false;
        }
        if self.optional.swap && dropped.swap {
            rest.memory.swap = None;
            rest.optional.swap = false;
        }
        rest
    }

    /// Validates `linux.resources`, in the order in which runtime-spec has its fields.
    pub fn new(spec: &spec::Resources, warnings: &mut Vec<String>) -> Result<Resources> {
        if spec.memory.as_ref().and_then(|memory| memory.kernel).is_some_and(|limit| limit != -1) {
            warnings.push(
                "linux.resources.memory.kernel: obsolete, newer kernels accept it without any effect"
                    .to_owned(),
            );
        }
        Ok(Resources {
            devices: device_rules::rules(spec.devices.as_deref().unwrap_or_default())?,
            memory: spec.memory.as_ref().map_or(Ok(Memory::default()), memory)?,
            cpu: spec.cpu.as_ref().map_or(Ok(Cpu::default()), cpu)?,
            pids: spec.pids.as_ref().and_then(|pids| pids.limit).map(pids),
            block_io: spec.block_io.as_ref().map_or(Ok(BlockIo::default()), block_io)?,
            hugepages: hugepages(spec.hugepage_limits.as_deref().unwrap_or_default())?,
            network: spec.network.as_ref().map_or(Ok(Network::default()), network)?,
            rdma: rdma(spec)?,
            unified: unified(spec)?,
            optional: Optional::default(),
        })
    }
}

fn memory(memory: &spec::Memory) -> Result<Memory> {
    let bytes = |value: Option<i64>, name: &str| match value {
        Some(0) => Ok(None),
        Some(value) if value < -1 => {
            Err(anyhow::anyhow!("{value}: neither a number of bytes nor -1 (unlimited)"))
                .at(format_args!("linux.resources.memory.{name}"))
        }
        value => Ok(value),
    };
    // Engines written in Go convert their -1, "not set", to u64.
    let swappiness = memory.swappiness.filter(|&swappiness| swappiness != u64::MAX);
    if let Some(swappiness) = swappiness.filter(|&swappiness| swappiness > 100) {
        Err(anyhow::anyhow!("{swappiness}: must be from 0 to 100"))
            .at("linux.resources.memory.swappiness")?;
    }
    let (limit, swap) = (bytes(memory.limit, "limit")?, bytes(memory.swap, "swap")?);
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap != -1
        && (limit == -1 || swap < limit)
    {
        Err(anyhow::anyhow!(
            "{swap}: counts memory and swap, so it cannot be less than memory.limit ({limit})"
        ))
        .at("linux.resources.memory.swap")?;
    }
    Ok(Memory {
        limit,
        reservation: bytes(memory.reservation, "reservation")?,
        swap,
        kernel: bytes(memory.kernel, "kernel")?,
        kernel_tcp: bytes(memory.kernel_tcp, "kernelTCP")?,
        swappiness,
        disable_oom_killer: memory.disable_oom_killer,
        use_hierarchy: memory.use_hierarchy,
        check_before_update: memory.check_before_update.unwrap_or_default(),
    })
}

fn cpu(cpu: &spec::Cpu) -> Result<Cpu> {
    // As the kernel's cgroup v1 and runc do: any negative value is unlimited.
    let quota = cpu.quota.filter(|&quota| quota != 0).map(|quota| quota.max(-1));
    if let (Some(burst), Some(Ok(quota))) = (cpu.burst, quota.map(u64::try_from))
        && burst > quota
    {
        Err(anyhow::anyhow!("{burst}: larger than cpu.quota ({quota})"))
            .at("linux.resources.cpu.burst")?;
    }
    Ok(Cpu {
        shares: cpu.shares.filter(|&shares| shares != 0),
        quota,
        period: cpu.period.filter(|&period| period != 0),
        burst: cpu.burst,
        idle: cpu.idle.map(idle).transpose()?,
        realtime_runtime: cpu.realtime_runtime.filter(|&runtime| runtime != 0),
        realtime_period: cpu.realtime_period.filter(|&period| period != 0),
        cpus: id_list(cpu.cpus.as_deref(), "cpus")?,
        mems: id_list(cpu.mems.as_deref(), "mems")?,
    })
}

fn idle(idle: i64) -> Result<bool> {
    match idle {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(anyhow::anyhow!("{idle}: neither 0 nor 1")).at("linux.resources.cpu.idle"),
    }
}

/// A list in the kernel's format, which also accepts spaces as separators, `all`, and N for the last one (since
/// Linux 5.11); the kernel checks the numbers.
fn id_list(list: Option<&str>, name: &str) -> Result<Option<String>> {
    let Some(list) = list.filter(|list| !list.trim().is_empty()) else { return Ok(None) };
    let is_known = |byte| {
        matches!(byte, b'0'..=b'9' | b',' | b'-' | b':' | b'/' | b' ' | b'\t' | b'\n' | b'N')
    };
    if list.trim() != "all" && !list.bytes().all(is_known) {
        Err(anyhow::anyhow!("{list:?}: not a list (e.g. 0-3,7)"))
            .at(format_args!("linux.resources.cpu.{name}"))?;
    }
    Ok(Some(list.to_owned()))
}

fn pids(limit: i64) -> i64 {
    // A cgroup with a limit of 0 accepts no process at all, and systemd does not support it: use 1, as runc
    // does since 1.4. As in runc, any negative value is unlimited.
    if limit == 0 { 1 } else { limit.max(-1) }
}

fn block_io(io: &spec::BlockIo) -> Result<BlockIo> {
    let mut devices = Vec::new();
    for (index, device) in io.weight_device.iter().flatten().enumerate() {
        let place = format!("linux.resources.blockIO.weightDevice[{index}]");
        if device.weight.is_none() && device.leaf_weight.is_none() {
            Err(anyhow::anyhow!("neither weight nor leafWeight is given")).at(&place)?;
        }
        devices.push(DeviceWeight {
            device: block_device(device.major, device.minor).at(&place)?,
            weight: weight(device.weight).at(&place)?,
            leaf_weight: weight(device.leaf_weight).at(&place)?,
        });
    }
    Ok(BlockIo {
        weight: weight(io.weight).at("linux.resources.blockIO.weight")?,
        leaf_weight: weight(io.leaf_weight).at("linux.resources.blockIO.leafWeight")?,
        devices,
        throttles: throttles(io)?,
    })
}

fn throttles(io: &spec::BlockIo) -> Result<Vec<Rate>> {
    let mut rates = Vec::new();
    for (what, list) in [
        (Throttle::ReadBps, &io.throttle_read_bps_device),
        (Throttle::WriteBps, &io.throttle_write_bps_device),
        (Throttle::ReadIops, &io.throttle_read_iops_device),
        (Throttle::WriteIops, &io.throttle_write_iops_device),
    ] {
        for (index, rate) in list.iter().flatten().enumerate() {
            let device = block_device(rate.major, rate.minor)
                .at(format_args!("linux.resources.blockIO.{}[{index}]", what.field()))?;
            rates.push(Rate { what, device, rate: rate.rate, index });
        }
    }
    Ok(rates)
}

impl Throttle {
    /// The config's name of the list.
    pub fn field(self) -> &'static str {
        match self {
            Throttle::ReadBps => "throttleReadBpsDevice",
            Throttle::WriteBps => "throttleWriteBpsDevice",
            Throttle::ReadIops => "throttleReadIOPSDevice",
            Throttle::WriteIops => "throttleWriteIOPSDevice",
        }
    }
}

fn weight(weight: Option<u16>) -> Result<Option<u16>> {
    match weight {
        None | Some(0) => Ok(None),
        // The specification allows 10 to 1000, and BFQ accepts less, too: engines with runc may rely on it.
        Some(weight) if weight <= 1000 => Ok(Some(weight)),
        Some(weight) => bail!("weight {weight}: must be from 10 to 1000"),
    }
}

fn block_device(major: i64, minor: i64) -> Result<String> {
    ensure!(
        u32::try_from(major).is_ok() && u32::try_from(minor).is_ok(),
        "{major}:{minor}: not device numbers"
    );
    Ok(format!("{major}:{minor}"))
}

fn hugepages(limits: &[spec::HugepageLimit]) -> Result<Vec<Hugepage>> {
    let mut hugepages = Vec::with_capacity(limits.len());
    for (index, limit) in limits.iter().enumerate() {
        let place = format!("linux.resources.hugepageLimits[{index}]");
        let size = &limit.page_size;
        let digits = size.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || !matches!(&size[digits..], "B" | "KB" | "MB" | "GB" | "TB" | "PB") {
            Err(anyhow::anyhow!("{size:?}: not a page size (e.g. 2MB)"))
                .at(format!("{place}.pageSize"))?;
        }
        hugepages.push(Hugepage { size: size.clone(), limit: limit.limit });
    }
    Ok(hugepages)
}

fn network(network: &spec::Network) -> Result<Network> {
    let mut priorities = Vec::new();
    for (index, priority) in network.priorities.iter().flatten().enumerate() {
        let name = &priority.name;
        if name.is_empty() || name.contains(char::is_whitespace) {
            Err(anyhow::anyhow!("{name:?}: not the name of an interface"))
                .at(format!("linux.resources.network.priorities[{index}].name"))?;
        }
        priorities.push((name.clone(), priority.priority));
    }
    Ok(Network { class_id: network.class_id, priorities })
}

fn rdma(spec: &spec::Resources) -> Result<Vec<Rdma>> {
    let mut devices = Vec::new();
    for (device, limit) in spec.rdma.iter().flatten() {
        let place = format!("linux.resources.rdma[{device:?}]");
        if device.is_empty() || device.contains(char::is_whitespace) {
            Err(anyhow::anyhow!("{device:?}: not the name of a device")).at(&place)?;
        }
        let (handles, objects) = (limit.hca_handles, limit.hca_objects);
        if handles.is_none() && objects.is_none() {
            Err(anyhow::anyhow!("neither hcaHandles nor hcaObjects is given")).at(&place)?;
        }
        devices.push(Rdma { device: device.clone(), handles, objects });
    }
    Ok(devices)
}

fn unified(spec: &spec::Resources) -> Result<Vec<(String, String)>> {
    // They move, stop or kill processes, or change what the cgroup is.
    let commands = ["freeze", "kill", "procs", "threads", "type"];
    let mut files = Vec::new();
    for (file, value) in spec.unified.iter().flatten() {
        if file.contains('/') || !file.contains('.') {
            Err(anyhow::anyhow!("{file:?}: not the name of a file in a cgroup"))
                .at(format_args!("linux.resources.unified[{file:?}]"))?;
        }
        if file.strip_prefix("cgroup.").is_some_and(|name| commands.contains(&name)) {
            Err(anyhow::anyhow!("{file} is not a limit"))
                .at(format_args!("linux.resources.unified[{file:?}]"))?;
        }
        files.push((file.clone(), value.clone()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests;
