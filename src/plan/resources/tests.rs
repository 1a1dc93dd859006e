//! Tests: resources as engines write them, and invalid ones.

use super::*;

fn plan(json: &str) -> Result<Resources> {
    Resources::new(&serde_json::from_str(json)?, &mut Vec::new())
}

fn refused(json: &str) -> String {
    format!("{:#}", plan(json).unwrap_err())
}

#[test]
fn without_limits_there_are_device_rules_alone() {
    let resources = plan("{}").unwrap();
    assert!(!resources.devices.is_empty());
    assert_eq!(Resources { devices: vec![], ..resources }, Resources::default());
}

#[test]
fn zero_is_unset_only_where_it_cannot_be_meant() {
    let zeros = r#"{"cpu":{"shares":0,"quota":0,"period":0,"burst":0,"idle":0,"cpus":""},
        "memory":{"limit":0,"swap":0},"pids":{"limit":0},"blockIO":{"weight":0}}"#;
    let Resources { cpu, memory, pids, block_io, .. } = plan(zeros).unwrap();
    assert_eq!((cpu.shares, cpu.quota, cpu.period, cpu.cpus), (None, None, None, None));
    assert_eq!((cpu.burst, cpu.idle), (Some(0), Some(false)));
    assert_eq!((memory.limit, memory.swap, pids), (None, None, Some(1)));
    assert_eq!(block_io, BlockIo::default());
}

#[test]
fn a_swappiness_of_gos_minus_one_is_unset() {
    let memory = plan(r#"{"memory":{"swappiness":18446744073709551615}}"#).unwrap().memory;
    assert_eq!(memory, Memory::default());
}

#[test]
fn an_oom_killer_that_is_not_disabled_is_no_limit() {
    assert!(plan(r#"{"memory":{"disableOOMKiller":false}}"#).unwrap().sets_no_limit());
    assert!(!plan(r#"{"memory":{"disableOOMKiller":true}}"#).unwrap().sets_no_limit());
}

#[test]
fn all_processors_and_the_last_one_have_names() {
    for (list, expected) in [("all", Some("all")), ("0-N", Some("0-N")), ("\\n", None)] {
        let cpu = plan(&format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#)).unwrap().cpu;
        assert_eq!(cpu.cpus.as_deref(), expected);
    }
}

#[test]
fn required_fields_are_required() {
    for (json, field) in [
        (r#"{"devices":[{"access":"r"}]}"#, "allow"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB"}]}"#, "limit"),
        (r#"{"hugepageLimits":[{"limit":1}]}"#, "pageSize"),
        (r#"{"network":{"priorities":[{"name":"lo"}]}}"#, "priority"),
        (r#"{"blockIO":{"weightDevice":[{"minor":0,"weight":10}]}}"#, "major"),
        (r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0}]}}"#, "rate"),
    ] {
        let error = refused(json);
        assert!(error.starts_with(&format!("missing field `{field}`")), "{error}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_their_place() {
    for (json, message) in [
        (
            r#"{"devices":[{"allow":true,"major":-2,"access":"r"}]}"#,
            "devices[0]: major -2: not a device number",
        ),
        (
            r#"{"devices":[{"allow":true,"type":"c","minor":4294967295,"access":"r"}]}"#,
            "devices[0]: minor 4294967295: not a device number",
        ),
        (
            r#"{"devices":[{"allow":true,"access":"rx"}]}"#,
            "devices[0]: access \"rx\": unknown letter 'x' (valid are r, w and m)",
        ),
        (
            r#"{"devices":[{"allow":true}]}"#,
            "devices[0]: access is missing: give one or more of r, w and m",
        ),
        (
            r#"{"memory":{"limit":-2}}"#,
            "memory.limit: -2: neither a number of bytes nor -1 (unlimited)",
        ),
        (r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: 101: must be from 0 to 100"),
        (
            r#"{"unified":{"cgroup.procs":"1"}}"#,
            "unified[\"cgroup.procs\"]: cgroup.procs is not a limit",
        ),
        (
            r#"{"unified":{"cgroup.freeze":"1"}}"#,
            "unified[\"cgroup.freeze\"]: cgroup.freeze is not a limit",
        ),
        (
            r#"{"memory":{"limit":9,"swap":8}}"#,
            "memory.swap: 8: counts memory and swap, so it cannot be less than memory.limit (9)",
        ),
        (
            r#"{"memory":{"limit":-1,"swap":8}}"#,
            "memory.swap: 8: counts memory and swap, so it cannot be less than memory.limit (-1)",
        ),
        (r#"{"cpu":{"quota":1,"burst":2}}"#, "cpu.burst: 2: larger than cpu.quota (1)"),
        (r#"{"cpu":{"idle":2}}"#, "cpu.idle: 2: neither 0 nor 1"),
        (r#"{"cpu":{"cpus":"a\n"}}"#, "cpu.cpus: \"a\\n\": not a list (e.g. 0-3,7)"),
        (r#"{"blockIO":{"weight":1001}}"#, "blockIO.weight: weight 1001: must be from 10 to 1000"),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0}]}}"#,
            "blockIO.weightDevice[0]: neither weight nor leafWeight is given",
        ),
        (
            r#"{"blockIO":{"throttleWriteIOPSDevice":[{"major":8,"minor":-1,"rate":1}]}}"#,
            "blockIO.throttleWriteIOPSDevice[0]: 8:-1: not device numbers",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}"#,
            "hugepageLimits[0].pageSize: \"../2MB\": not a page size (e.g. 2MB)",
        ),
        (
            r#"{"network":{"priorities":[{"name":"a b","priority":1}]}}"#,
            "network.priorities[0].name: \"a b\": not the name of an interface",
        ),
        (
            r#"{"rdma":{"mlx5_1":{}}}"#,
            "rdma[\"mlx5_1\"]: neither hcaHandles nor hcaObjects is given",
        ),
        (
            r#"{"unified":{"../memory.max":"1"}}"#,
            "unified[\"../memory.max\"]: \"../memory.max\": not the name of a file in a cgroup",
        ),
    ] {
        assert_eq!(refused(json), format!("linux.resources.{message}"));
    }
}

#[test]
fn obsolete_kernel_memory_is_warned_of_unless_unlimited() {
    let mut warnings = Vec::new();
    let spec = r#"{"memory":{"kernel":1,"kernelTCP":1}}"#;
    Resources::new(&serde_json::from_str(spec).unwrap(), &mut warnings).unwrap();
    let expected =
        "linux.resources.memory.kernel: obsolete, newer kernels accept it without any effect";
    assert_eq!(warnings, [expected]);
}
