//! Limits as writes to cgroup v1 files: v1 has a file for everything except `unified`.

use super::write::Write;
use crate::plan::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use anyhow::{Result, bail};

/// All writes except the device rules, in an order that a new cgroup accepts.
pub fn writes(resources: &Resources) -> Vec<Write> {
    let mut writes = Vec::new();
    memory(&resources.memory, &mut writes);
    cpu(&resources.cpu, &mut writes);
    if let Some(limit) = resources.pids {
        let limit = if limit == -1 { "max".to_owned() } else { limit.to_string() };
        writes.push(Write::new("pids", "pids.max", &limit, "linux.resources.pids.limit"));
    }
    block_io(&resources.block_io, &mut writes);
    writes.extend(super::v2::hugepages(resources, "limit_in_bytes"));
    if let Some(class) = resources.network.class_id {
        let place = "linux.resources.network.classID";
        let write = Write::new("net_cls", "net_cls.classid", &class, place);
        // 0 is no class.
        writes.push(if class == 0 { write.or_fine() } else { write });
    }
    for (index, (interface, priority)) in resources.network.priorities.iter().enumerate() {
        let place = format!("linux.resources.network.priorities[{index}]");
        let value = format!("{interface} {priority}");
        writes.push(Write::new("net_prio", "net_prio.ifpriomap", &value, place));
    }
    writes.extend(super::v2::rdma(resources));
    writes
}

/// The kernel accepts other shares, too, and changes them without an error.
pub fn ensure_shares(cpu: &Cpu) -> Result<()> {
    let shares = cpu.shares.filter(|shares| !(2..=262_144).contains(shares));
    shares.map_or(Ok(()), |shares| bail!("{shares}: must be from 2 to 262144"))
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) {
    let mut write = |file, value: Option<i64>, place| {
        writes.extend(value.map(|value| Write::new("memory", file, &value, place)));
    };
    write(
        "memory.use_hierarchy",
        memory.use_hierarchy.map(i64::from),
        "linux.resources.memory.useHierarchy",
    );
    // Memory plus swap can never be less than memory: it is raised first and lowered last.
    let swap = ("memory.memsw.limit_in_bytes", memory.swap, "linux.resources.memory.swap");
    let limit = ("memory.limit_in_bytes", memory.limit, "linux.resources.memory.limit");
    let order = if memory.swap == Some(-1) { [swap, limit] } else { [limit, swap] };
    for (file, value, place) in order {
        write(file, value, place);
    }
    write("memory.soft_limit_in_bytes", memory.reservation, "linux.resources.memory.reservation");
    write("memory.kmem.limit_in_bytes", memory.kernel, "linux.resources.memory.kernel");
    write("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp, "linux.resources.memory.kernelTCP");
    let swappiness = memory.swappiness.and_then(|swappiness| i64::try_from(swappiness).ok());
    write("memory.swappiness", swappiness, "linux.resources.memory.swappiness");
    if let Some(disable) = memory.disable_oom_killer {
        let place = "linux.resources.memory.disableOOMKiller";
        let write = Write::new("memory", "memory.oom_control", &u8::from(disable), place);
        writes.push(if disable { write } else { write.or_fine() });
    }
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) {
    let mut write = |controller, file, value: Option<String>, place| {
        writes.extend(value.map(|value| Write::new(controller, file, &value, place)));
    };
    // An idle cgroup accepts no shares: idle is disabled before they are set, and enabled after.
    let idle = cpu.idle.map(|idle| u8::from(idle).to_string());
    let (ends, begins) = if cpu.idle == Some(true) { (None, idle) } else { (idle, None) };
    write("cpu", "cpu.idle", ends, "linux.resources.cpu.idle");
    let shares = cpu.shares.map(|shares| shares.to_string());
    write("cpu", "cpu.shares", shares, "linux.resources.cpu.shares");
    write("cpu", "cpu.idle", begins, "linux.resources.cpu.idle");
    let period = cpu.period.map(|period| period.to_string());
    write("cpu", "cpu.cfs_period_us", period, "linux.resources.cpu.period");
    let quota = cpu.quota.map(|quota| quota.to_string());
    write("cpu", "cpu.cfs_quota_us", quota, "linux.resources.cpu.quota");
    // It must not exceed the quota, so it is written after it.
    let burst = cpu.burst.map(|burst| burst.to_string());
    write("cpu", "cpu.cfs_burst_us", burst, "linux.resources.cpu.burst");
    // It must not exceed the period, so it is written after it.
    let period = cpu.realtime_period.map(|period| period.to_string());
    write("cpu", "cpu.rt_period_us", period, "linux.resources.cpu.realtimePeriod");
    let runtime = cpu.realtime_runtime.map(|runtime| runtime.to_string());
    write("cpu", "cpu.rt_runtime_us", runtime, "linux.resources.cpu.realtimeRuntime");
    write("cpuset", "cpuset.cpus", cpu.cpus.clone(), "linux.resources.cpu.cpus");
    write("cpuset", "cpuset.mems", cpu.mems.clone(), "linux.resources.cpu.mems");
}

fn block_io(io: &BlockIo, writes: &mut Vec<Write>) {
    // blkio.weight is CFQ's, removed in Linux 5.0; BFQ replaces all but the leaf weights.
    if let Some(weight) = io.weight {
        let place = "linux.resources.blockIO.weight";
        let write = Write::new("blkio", "blkio.bfq.weight", &weight, place);
        writes.push(write.or("blkio.weight", &weight));
    }
    if let Some(weight) = io.leaf_weight {
        let place = "linux.resources.blockIO.leafWeight";
        writes.push(Write::new("blkio", "blkio.leaf_weight", &weight, place));
    }
    for (index, device) in io.devices.iter().enumerate() {
        let place = format!("linux.resources.blockIO.weightDevice[{index}]");
        if let Some(weight) = device.weight {
            let value = format!("{} {weight}", device.device);
            let write =
                Write::new("blkio", "blkio.bfq.weight_device", &value.clone(), place.clone());
            writes.push(write.or("blkio.weight_device", &value));
        }
        if let Some(weight) = device.leaf_weight {
            let value = format!("{} {weight}", device.device);
            writes.push(Write::new("blkio", "blkio.leaf_weight_device", &value, place));
        }
    }
    for rate in &io.throttles {
        let file = match rate.what {
            Throttle::ReadBps => "blkio.throttle.read_bps_device",
            Throttle::WriteBps => "blkio.throttle.write_bps_device",
            Throttle::ReadIops => "blkio.throttle.read_iops_device",
            Throttle::WriteIops => "blkio.throttle.write_iops_device",
        };
        let place = format!("linux.resources.blockIO.{}[{}]", rate.what.field(), rate.index);
        writes.push(Write::new("blkio", file, &format!("{} {}", rate.device, rate.rate), place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    /// `controller file value` of every write for this `linux.resources`.
    fn table(json: &str) -> Vec<String> {
        let spec: spec::Resources = serde_json::from_str(json).unwrap();
        let resources = Resources::new(&spec, &mut Vec::new()).unwrap();
        let line = |write: &Write| format!("{} {} {}", write.controller, write.file, write.value);
        writes(&resources).iter().map(line).collect()
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        assert_eq!(table("{}"), [""; 0]);
        assert_eq!(table(r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{},"network":{}}"#), [""; 0]);
    }

    #[test]
    fn memory_is_limited_before_memory_and_swap() {
        let memory = r#"{"memory":{"limit":100,"swap":200,"reservation":50,"kernel":-1,"kernelTCP":7,
            "swappiness":0,"disableOOMKiller":true,"useHierarchy":true}}"#;
        let expected = [
            "memory memory.use_hierarchy 1",
            "memory memory.limit_in_bytes 100",
            "memory memory.memsw.limit_in_bytes 200",
            "memory memory.soft_limit_in_bytes 50",
            "memory memory.kmem.limit_in_bytes -1",
            "memory memory.kmem.tcp.limit_in_bytes 7",
            "memory memory.swappiness 0",
            "memory memory.oom_control 1",
        ];
        assert_eq!(table(memory), expected);
    }

    #[test]
    fn unlimited_swap_is_written_before_the_memory_limit() {
        let expected = ["memory memory.memsw.limit_in_bytes -1", "memory memory.limit_in_bytes -1"];
        assert_eq!(table(r#"{"memory":{"limit":-1,"swap":-1}}"#), expected);
    }

    #[test]
    fn zero_bytes_are_no_limit_and_zero_tasks_are_one() {
        let zeros = r#"{"memory":{"limit":0,"swap":0,"reservation":0,"kernel":0,"kernelTCP":0},
            "pids":{"limit":0}}"#;
        assert_eq!(table(zeros), ["pids pids.max 1"]);
        assert_eq!(table(r#"{"pids":{"limit":-1}}"#), ["pids pids.max max"]);
    }

    #[test]
    fn period_quota_burst_go_in_this_order() {
        let cpu = r#"{"cpu":{"shares":512,"quota":20000,"period":100000,"burst":10000,
            "realtimeRuntime":950,"realtimePeriod":1000,"cpus":"0-1","mems":"0"}}"#;
        let expected = [
            "cpu cpu.shares 512",
            "cpu cpu.cfs_period_us 100000",
            "cpu cpu.cfs_quota_us 20000",
            "cpu cpu.cfs_burst_us 10000",
            "cpu cpu.rt_period_us 1000",
            "cpu cpu.rt_runtime_us 950",
            "cpuset cpuset.cpus 0-1",
            "cpuset cpuset.mems 0",
        ];
        assert_eq!(table(cpu), expected);
    }

    #[test]
    fn zero_shares_quota_and_period_are_unset() {
        let cpu = r#"{"cpu":{"shares":0,"quota":0,"period":0,"cpus":"","mems":""}}"#;
        assert_eq!(table(cpu), [""; 0]);
    }

    #[test]
    fn shares_are_set_while_the_cgroup_is_not_idle() {
        let begins = table(r#"{"cpu":{"shares":512,"idle":1}}"#);
        assert_eq!(begins, ["cpu cpu.shares 512", "cpu cpu.idle 1"]);
        let ends = table(r#"{"cpu":{"shares":512,"idle":0}}"#);
        assert_eq!(ends, ["cpu cpu.idle 0", "cpu cpu.shares 512"]);
    }

    #[test]
    fn an_oom_killer_can_be_enabled_again_and_a_class_be_left() {
        let enabled = r#"{"memory":{"disableOOMKiller":false},"network":{"classID":0}}"#;
        assert_eq!(table(enabled), ["memory memory.oom_control 0", "net_cls net_cls.classid 0"]);
    }

    #[test]
    fn block_io_goes_by_device() {
        let io = r#"{"blockIO":{"weight":100,"leafWeight":20,
            "weightDevice":[{"major":8,"minor":0,"weight":500,"leafWeight":300}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
            "throttleWriteBpsDevice":[{"major":8,"minor":1,"rate":0}],
            "throttleReadIOPSDevice":[{"major":8,"minor":2,"rate":1}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":300}]}}"#;
        let expected = [
            "blkio blkio.bfq.weight 100",
            "blkio blkio.leaf_weight 20",
            "blkio blkio.bfq.weight_device 8:0 500",
            "blkio blkio.leaf_weight_device 8:0 300",
            "blkio blkio.throttle.read_bps_device 8:0 600",
            "blkio blkio.throttle.write_bps_device 8:1 0",
            "blkio blkio.throttle.read_iops_device 8:2 1",
            "blkio blkio.throttle.write_iops_device 8:16 300",
        ];
        assert_eq!(table(io), expected);
    }

    #[test]
    fn the_rest_has_a_file_each() {
        let rest = r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}],
            "network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]},
            "rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10},"rxe3":{"hcaObjects":1}}}"#;
        let expected = [
            "hugetlb hugetlb.2MB.limit_in_bytes 4194304",
            "hugetlb hugetlb.2MB.rsvd.limit_in_bytes 4194304",
            "net_cls net_cls.classid 1048577",
            "net_prio net_prio.ifpriomap eth0 5",
            "rdma rdma.max mlx5_1 hca_handle=3 hca_object=10",
            "rdma rdma.max rxe3 hca_object=1",
        ];
        assert_eq!(table(rest), expected);
    }
}
