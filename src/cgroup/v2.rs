//! Limits as writes to cgroup v2 files, converted where v2 uses other units.

use super::write::Write;
use crate::plan::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use crate::spec::Place;
use anyhow::{Result, bail, ensure};

/// All writes except the device rules, in an order that a new cgroup accepts, for the controllers that are
/// `here` and not on a v1 hierarchy. What cgroup v2 cannot express is an error.
pub fn writes(resources: &Resources, here: &dyn Fn(&str) -> bool) -> Result<Vec<Write>> {
    let mut writes = Vec::new();
    if here("memory") {
        memory(&resources.memory, &mut writes)?;
    }
    if here("cpu") {
        cpu(&resources.cpu, &mut writes)?;
    }
    if here("cpuset") {
        cpuset(&resources.cpu, &mut writes);
    }
    if let Some(limit) = resources.pids.filter(|_| here("pids")) {
        writes.push(Write::new("pids", "pids.max", &max(limit), "linux.resources.pids.limit"));
    }
    if here("blkio") {
        block_io(&resources.block_io, &mut writes)?;
    }
    if here("hugetlb") {
        writes.extend(hugepages(resources, "max"));
    }
    if here("net_cls") && resources.network.class_id.is_some_and(|class| class != 0) {
        only_v1("net_cls.classid", "BPF for that").at("linux.resources.network.classID")?;
    }
    if here("net_prio") && !resources.network.priorities.is_empty() {
        only_v1("net_prio.ifpriomap", "BPF for that").at("linux.resources.network.priorities")?;
    }
    if here("rdma") {
        writes.extend(rdma(resources));
    }
    for entry in &resources.unified {
        let write = unified(entry);
        ensure_on_v2(&write, here).at(&write.place)?;
        writes.push(write);
    }
    Ok(writes)
}

/// On a hybrid host, each controller is on one cgroup version only.
fn ensure_on_v2(write: &Write, here: &dyn Fn(&str) -> bool) -> Result<()> {
    let Write { controller, file, .. } = write;
    let on_v1 = if controller == "io" { "blkio" } else { controller };
    ensure!(
        controller.is_empty() || here(on_v1),
        "{file} is a file of cgroup v2, and this host has controller {on_v1} on cgroup v1"
    );
    Ok(())
}

/// The limits in terms of cgroup v2's own files.
fn unified((file, value): &(String, String)) -> Write {
    Write {
        controller: controller(file).to_owned().into(),
        ..Write::new("", file.clone(), value, format!("linux.resources.unified[{file:?}]"))
    }
}

/// Reservations, if the kernel counts them: the specification's first choice. And usage in any case, as in
/// runc, because that is the file people read. `end` is the suffix of the files.
pub(super) fn hugepages(resources: &Resources, end: &str) -> impl Iterator<Item = Write> {
    resources.hugepages.iter().enumerate().flat_map(move |(index, page)| {
        let write = |what: &str| {
            let place = format!("linux.resources.hugepageLimits[{index}]");
            let file = format!("hugetlb.{}.{what}{end}", page.size);
            Write::new("hugetlb", file, &page.limit, place)
        };
        [write(""), write("rsvd.").or_fine()]
    })
}

/// Refuses what only cgroup v1 supports.
fn only_v1(file: &str, instead: &str) -> Result<()> {
    bail!(
        "{file} exists only in cgroup v1, and this host does not have that controller on v1 (v2 has {instead})"
    )
}

/// The controller a file belongs to; none for those of the cgroup itself and for its pressure.
fn controller(file: &str) -> &str {
    match file.split_once('.') {
        Some(("cgroup", _) | (_, "pressure")) | None => "",
        Some((controller, _)) => controller,
    }
}

/// The RDMA limits: the same file on both versions.
pub(super) fn rdma(resources: &Resources) -> impl Iterator<Item = Write> {
    resources.rdma.iter().map(|limit| {
        let mut value = limit.device.clone();
        if let Some(handles) = limit.handles {
            value += &format!(" hca_handle={handles}");
        }
        if let Some(objects) = limit.objects {
            value += &format!(" hca_object={objects}");
        }
        Write::new("rdma", "rdma.max", &value, format!("linux.resources.rdma[{:?}]", limit.device))
    })
}

fn max(limit: i64) -> String {
    if limit == -1 { "max".to_owned() } else { limit.to_string() }
}

fn memory(memory: &Memory, writes: &mut Vec<Write>) -> Result<()> {
    if memory.use_hierarchy == Some(false) {
        only_v1("memory.use_hierarchy 0", "hierarchical accounting only")
            .at("linux.resources.memory.useHierarchy")?;
    }
    if let Some(limit) = memory.limit {
        let place = "linux.resources.memory.limit";
        writes.push(Write::new("memory", "memory.max", &max(limit), place));
    }
    if let Some(swap) = memory.swap {
        let place = "linux.resources.memory.swap";
        let value = max(swap_alone(swap, memory.limit).at(place)?);
        let write = Write::new("memory", "memory.swap.max", &value, place);
        // Without swap the file does not exist, and neither "none" nor "all" needs a limit.
        writes.push(if matches!(&*value, "0" | "max") { write.or_fine() } else { write });
    }
    if let Some(reservation) = memory.reservation {
        let place = "linux.resources.memory.reservation";
        writes.push(Write::new("memory", "memory.low", &max(reservation), place));
    }
    // "Unlimited" needs no file.
    if memory.kernel.is_some_and(|limit| limit != -1) {
        only_v1("memory.kmem.limit_in_bytes", "kernel memory counted in memory.limit")
            .at("linux.resources.memory.kernel")?;
    }
    if memory.kernel_tcp.is_some_and(|limit| limit != -1) {
        only_v1("memory.kmem.tcp.limit_in_bytes", "TCP buffers counted in memory.limit")
            .at("linux.resources.memory.kernelTCP")?;
    }
    if memory.swappiness.is_some() {
        only_v1("memory.swappiness", "the machine's vm.swappiness")
            .at("linux.resources.memory.swappiness")?;
    }
    if memory.disable_oom_killer == Some(true) {
        only_v1("memory.oom_control", "memory.high, by linux.resources.unified")
            .at("linux.resources.memory.disableOOMKiller")?;
    }
    Ok(())
}

/// The config counts memory and swap together, cgroup v2 swap alone.
fn swap_alone(swap: i64, limit: Option<i64>) -> Result<i64> {
    match limit {
        _ if swap == -1 => Ok(-1),
        // The plan has checked that it is not larger.
        Some(limit) if limit != -1 => Ok(swap - limit),
        _ => bail!(
            "cgroup v2 limits swap separately, so memory and swap together ({swap}) need memory.limit as well"
        ),
    }
}

fn cpu(cpu: &Cpu, writes: &mut Vec<Write>) -> Result<()> {
    if cpu.realtime_runtime.is_some() {
        only_v1("cpu.rt_runtime_us", "no real-time shares")
            .at("linux.resources.cpu.realtimeRuntime")?;
    }
    if cpu.realtime_period.is_some() {
        only_v1("cpu.rt_period_us", "no real-time shares")
            .at("linux.resources.cpu.realtimePeriod")?;
    }
    let mut write = |controller, file, value: Option<String>, place| {
        writes.extend(value.map(|value| Write::new(controller, file, &value, place)));
    };
    // An idle cgroup accepts no weight: idle is disabled before it is set, enabled after.
    let idle = cpu.idle.map(|idle| u8::from(idle).to_string());
    let (ends, begins) = if cpu.idle == Some(true) { (None, idle) } else { (idle, None) };
    write("cpu", "cpu.idle", ends, "linux.resources.cpu.idle");
    let weight = cpu.shares.map(|shares| weight(shares).to_string());
    write("cpu", "cpu.weight", weight, "linux.resources.cpu.shares");
    write("cpu", "cpu.idle", begins, "linux.resources.cpu.idle");
    // One file for both; a quota alone leaves the period as it is.
    let (quota, place) = match (cpu.quota.map(max), cpu.period) {
        (None, None) => (None, ""),
        (Some(quota), None) => (Some(quota), "linux.resources.cpu.quota"),
        // The kernel accepts periods from a millisecond to a second, and returns one errno for both errors.
        (Some(quota), Some(period)) if (1000..=1_000_000).contains(&period) => {
            (Some(format!("{quota} {period}")), "linux.resources.cpu.quota")
        }
        (Some(quota), Some(period)) => {
            (Some(format!("{quota} {period}")), "linux.resources.cpu.period")
        }
        (None, Some(period)) => (Some(format!("max {period}")), "linux.resources.cpu.period"),
    };
    write("cpu", "cpu.max", quota, place);
    let burst = cpu.burst.map(|burst| burst.to_string());
    write("cpu", "cpu.max.burst", burst, "linux.resources.cpu.burst");
    Ok(())
}

fn cpuset(cpu: &Cpu, writes: &mut Vec<Write>) {
    let mut write = |file, value: Option<&String>, place| {
        writes.extend(value.map(|value| Write::new("cpuset", file, value, place)));
    };
    write("cpuset.cpus", cpu.cpus.as_ref(), "linux.resources.cpu.cpus");
    write("cpuset.mems", cpu.mems.as_ref(), "linux.resources.cpu.mems");
}

/// v1's shares (2 to 262144, 1024 by default) as v2's weight (1 to 10000, 100 by default):
/// ceil(10^((l² + 125 l) / 612 − 7/34)) with l = log2(shares), which keeps both ends and the
/// default, as runc and crun do since 2025 (kubernetes/kubernetes#131216).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "18 bits in, 1 to 10000 out"
)]
pub(crate) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

fn block_io(io: &BlockIo, writes: &mut Vec<Write>) -> Result<()> {
    if let Some(weight) = io.weight {
        let write = Write::new("io", "io.bfq.weight", &weight, "linux.resources.blockIO.weight");
        writes.push(write.or("io.weight", &io_weight(weight)));
    }
    if io.leaf_weight.is_some() {
        only_v1("blkio.leaf_weight", "no leaf weights").at("linux.resources.blockIO.leafWeight")?;
    }
    for (index, device) in io.devices.iter().enumerate() {
        let place = format!("linux.resources.blockIO.weightDevice[{index}]");
        if device.leaf_weight.is_some() {
            only_v1("blkio.leaf_weight_device", "no leaf weights")
                .at(format_args!("{place}.leafWeight"))?;
        }
        if let Some(weight) = device.weight {
            let (name, instead) = (&device.device, io_weight(weight));
            let write = Write::new("io", "io.bfq.weight", &format!("{name} {weight}"), place);
            writes.push(write.or("io.weight", &format!("{name} {instead}")));
        }
    }
    for rate in &io.throttles {
        let key = match rate.what {
            Throttle::ReadBps => "rbps",
            Throttle::WriteBps => "wbps",
            Throttle::ReadIops => "riops",
            Throttle::WriteIops => "wiops",
        };
        // v1's 0 is unlimited.
        let limit = if rate.rate == 0 { "max".to_owned() } else { rate.rate.to_string() };
        let place = format!("linux.resources.blockIO.{}[{}]", rate.what.field(), rate.index);
        writes.push(Write::new("io", "io.max", &format!("{} {key}={limit}", rate.device), place));
    }
    Ok(())
}

/// Converts a weight of the config and BFQ (10 to 1000) to io.weight (1 to 10000).
pub(crate) fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::write::Missing;
    use crate::spec;

    fn try_table(json: &str, here: &dyn Fn(&str) -> bool) -> Result<Vec<Write>> {
        let spec: spec::Resources = serde_json::from_str(json).unwrap();
        writes(&Resources::new(&spec, &mut Vec::new())?, here)
    }

    /// `controller file value` of every write for this `linux.resources`.
    fn table(json: &str) -> Vec<String> {
        let writes = try_table(json, &|_| true).unwrap();
        let line = |write: &Write| format!("{} {} {}", write.controller, write.file, write.value);
        writes.iter().map(line).collect()
    }

    fn refused(json: &str) -> String {
        format!("{:#}", try_table(json, &|_| true).unwrap_err())
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        assert_eq!(table("{}"), [""; 0]);
        assert_eq!(table(r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{},"network":{}}"#), [""; 0]);
    }

    #[test]
    fn shares_become_weights_by_the_formula_that_keeps_ends_and_default() {
        let expected = [
            (1, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (100, 17),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (10_000, 627),
            (100_000, 4340),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ];
        assert_eq!(expected.map(|(shares, _)| (shares, weight(shares))), expected);
    }

    #[test]
    fn swap_is_counted_without_memory() {
        let expected = ["memory memory.max 100", "memory memory.swap.max 50"];
        assert_eq!(table(r#"{"memory":{"limit":100,"swap":150}}"#), expected);
        let expected = ["memory memory.max 100", "memory memory.swap.max 0"];
        assert_eq!(table(r#"{"memory":{"limit":100,"swap":100}}"#), expected);
        let expected =
            ["memory memory.max max", "memory memory.swap.max max", "memory memory.low max"];
        assert_eq!(table(r#"{"memory":{"limit":-1,"swap":-1,"reservation":-1}}"#), expected);
        assert_eq!(table(r#"{"memory":{"swap":-1}}"#), ["memory memory.swap.max max"]);
        assert_eq!(
            table(r#"{"memory":{"limit":0,"swap":0},"pids":{"limit":0}}"#),
            ["pids pids.max 1"]
        );
    }

    #[test]
    fn a_host_without_swap_takes_no_swap_and_all_of_it() {
        let missing = |swap: &str| {
            let json = format!(r#"{{"memory":{{"limit":100,"swap":{swap}}}}}"#);
            try_table(&json, &|_| true).unwrap().remove(1).missing
        };
        assert_eq!(
            ["100", "-1", "101"].map(missing),
            [Missing::Fine, Missing::Fine, Missing::Error]
        );
    }

    #[test]
    fn swap_without_a_memory_limit_is_refused() {
        assert_eq!(
            refused(r#"{"memory":{"swap":150}}"#),
            "linux.resources.memory.swap: cgroup v2 limits swap separately, so memory and swap together \
             (150) need memory.limit as well"
        );
    }

    #[test]
    fn what_only_v1_has_is_refused_by_name_unless_it_asks_for_what_v2_does_anyway() {
        for (json, place) in [
            (r#"{"memory":{"swappiness":0}}"#, "memory.swappiness"),
            (r#"{"memory":{"kernel":1}}"#, "memory.kernel"),
            (r#"{"memory":{"kernelTCP":1}}"#, "memory.kernelTCP"),
            (r#"{"memory":{"disableOOMKiller":true}}"#, "memory.disableOOMKiller"),
            (r#"{"memory":{"useHierarchy":false}}"#, "memory.useHierarchy"),
            (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu.realtimeRuntime"),
            (r#"{"cpu":{"realtimePeriod":1}}"#, "cpu.realtimePeriod"),
            (r#"{"blockIO":{"leafWeight":10}}"#, "blockIO.leafWeight"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}"#,
                "blockIO.weightDevice[0].leafWeight",
            ),
            (r#"{"network":{"classID":1}}"#, "network.classID"),
            (r#"{"network":{"priorities":[{"name":"lo","priority":1}]}}"#, "network.priorities"),
        ] {
            let message = refused(json);
            let expected = format!("linux.resources.{place}: ");
            let only = message.contains(" exists only in cgroup v1, and this host");
            assert!(message.starts_with(&expected) && only, "{message}");
        }
        let satisfied = r#"{"memory":{"kernel":-1,"kernelTCP":-1,"disableOOMKiller":false,
            "useHierarchy":true},"cpu":{"realtimeRuntime":0,"realtimePeriod":0}}"#;
        assert_eq!(table(satisfied), [""; 0]);
    }

    #[test]
    fn a_period_that_no_kernel_takes_is_blamed_and_not_its_quota() {
        let place = |json: &str| try_table(json, &|_| true).unwrap().remove(0).place;
        let good = place(r#"{"cpu":{"quota":20000,"period":1000}}"#);
        assert_eq!(good, "linux.resources.cpu.quota");
        let bad = place(r#"{"cpu":{"quota":20000,"period":999}}"#);
        assert_eq!(bad, "linux.resources.cpu.period");
    }

    #[test]
    fn quota_and_period_share_a_file() {
        assert_eq!(table(r#"{"cpu":{"quota":20000}}"#), ["cpu cpu.max 20000"]);
        assert_eq!(table(r#"{"cpu":{"quota":-1}}"#), ["cpu cpu.max max"]);
        assert_eq!(table(r#"{"cpu":{"period":50000}}"#), ["cpu cpu.max max 50000"]);
        let all =
            table(r#"{"cpu":{"quota":20000,"period":50000,"burst":1,"cpus":"0","mems":"0-1"}}"#);
        let expected = [
            "cpu cpu.max 20000 50000",
            "cpu cpu.max.burst 1",
            "cpuset cpuset.cpus 0",
            "cpuset cpuset.mems 0-1",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn weight_is_set_while_the_cgroup_is_not_idle() {
        let begins = table(r#"{"cpu":{"shares":1024,"idle":1}}"#);
        assert_eq!(begins, ["cpu cpu.weight 100", "cpu cpu.idle 1"]);
        let ends = table(r#"{"cpu":{"shares":1024,"idle":0}}"#);
        assert_eq!(ends, ["cpu cpu.idle 0", "cpu cpu.weight 100"]);
    }

    #[test]
    fn block_io_is_bfqs_or_else_converted() {
        let io = r#"{"blockIO":{"weight":1000,
            "weightDevice":[{"major":8,"minor":0,"weight":10}],
            "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":600}],
            "throttleWriteBpsDevice":[{"major":8,"minor":1,"rate":0}],
            "throttleReadIOPSDevice":[{"major":8,"minor":2,"rate":1}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":300}]}}"#;
        let expected = [
            "io io.bfq.weight 1000",
            "io io.bfq.weight 8:0 10",
            "io io.max 8:0 rbps=600",
            "io io.max 8:1 wbps=max",
            "io io.max 8:2 riops=1",
            "io io.max 8:16 wiops=300",
        ];
        assert_eq!(table(io), expected);
        let writes = try_table(io, &|_| true).unwrap();
        let instead = |value: &str| Missing::Instead("io.weight".into(), value.to_owned());
        assert_eq!(writes[0].missing, instead("10000"));
        assert_eq!(writes[1].missing, instead("8:0 1"));
    }

    #[test]
    fn unified_is_written_last_under_its_own_controllers() {
        let unified = r#"{"pids":{"limit":-1},"unified":{"memory.high":"1","cgroup.max.depth":"2",
            "hugetlb.1GB.max":"0","memory.pressure":"some 1 2"}}"#;
        let expected = [
            "pids pids.max max",
            " cgroup.max.depth 2",
            "hugetlb hugetlb.1GB.max 0",
            "memory memory.high 1",
            " memory.pressure some 1 2",
        ];
        assert_eq!(table(unified), expected);
    }

    #[test]
    fn on_a_hybrid_host_v2_has_what_v1_has_not() {
        let all = r#"{"memory":{"limit":1,"swappiness":1},"cpu":{"shares":2,"cpus":"0"},
            "pids":{"limit":1},"blockIO":{"weight":10,"leafWeight":10},"network":{"classID":1},
            "hugepageLimits":[{"pageSize":"2MB","limit":0}],"rdma":{"a":{"hcaHandles":1}}}"#;
        let files = |here: &dyn Fn(&str) -> bool| -> Vec<String> {
            let writes = try_table(all, here).unwrap();
            writes.iter().map(|write| write.file.to_string()).collect()
        };
        assert_eq!(files(&|_| false), [""; 0]);
        assert_eq!(files(&|name| name == "hugetlb"), ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]);
        assert_eq!(files(&|name| name == "cpuset"), ["cpuset.cpus"]);
        assert_eq!(files(&|name| name == "cpu"), ["cpu.weight"]);
    }
}
