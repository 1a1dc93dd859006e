//! Limits as properties of a systemd unit: one table for both cgroup versions. Limits that systemd has no
//! equivalent property for are only written to the files.

use super::{Version, devices, v2};
use crate::plan::device_rules::{DeviceKind, DeviceRule, MKNOD, READ, WRITE};
use crate::plan::id_list;
use crate::plan::resources::{BlockIo, Memory, Resources, Throttle};
use crate::systemd::{Property, wire::Value};

/// The properties for these limits.
pub fn limits(resources: &Resources, version: Version) -> Vec<Property> {
    let mut list = Vec::new();
    let put = &mut |name: &str, value: Option<Value>| {
        list.extend(value.map(|value| (name.to_owned(), value)));
    };
    match version {
        Version::V2 => {
            memory(&resources.memory, put);
            let weight = resources.cpu.shares.filter(|_| resources.cpu.idle != Some(true));
            put("CPUWeight", weight.map(|shares| Value::U64(v2::weight(shares))));
            put("AllowedCPUs", resources.cpu.cpus.as_deref().and_then(bits));
            put("AllowedMemoryNodes", resources.cpu.mems.as_deref().and_then(bits));
            block_io(&resources.block_io, put);
        }
        // systemd's names of these properties are those of the v1 controllers.
        Version::V1 | Version::Hybrid => {
            put("MemoryLimit", resources.memory.limit.map(limit));
            put("CPUShares", resources.cpu.shares.map(Value::U64));
            put("BlockIOWeight", resources.block_io.weight.map(|weight| Value::U64(weight.into())));
        }
    }
    quota(resources.cpu.quota, resources.cpu.period, put);
    put("TasksMax", resources.pids.map(limit));
    if version == Version::V2 {
        for (file, value) in &resources.unified {
            unified(file, value.trim(), put);
        }
    }
    list
}

/// The device rules, if systemd's DeviceAllow list can express them.
pub fn device_rules(rules: &[DeviceRule]) -> Vec<Property> {
    let (everything, rules) = devices::effective(rules);
    if everything || rules.iter().any(|rule| !rule.allow) {
        return Vec::new();
    }
    let known = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let Some(allowed) = rules.iter().map(|rule| device(rule, &known)).collect::<Option<Vec<_>>>()
    else {
        return Vec::new();
    };
    vec![
        ("DevicePolicy".to_owned(), "strict".into()),
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), allowed)),
    ]
}

fn device(rule: &DeviceRule, known: &str) -> Option<Value> {
    let (kind, heading) = match rule.kind {
        DeviceKind::Char => ("char", "Character devices:"),
        DeviceKind::Block => ("block", "Block devices:"),
        DeviceKind::All => return None,
    };
    let node = match (rule.major, rule.minor) {
        (None, None) => format!("{kind}-*"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => {
            let section = known.split("\n\n").find(|section| section.starts_with(heading))?;
            let name = section.lines().find_map(|line| {
                let (number, name) = line.trim().split_once(' ')?;
                (number.parse() == Ok(major)).then_some(name)
            })?;
            format!("{kind}-{name}")
        }
        (None, Some(_)) => return None,
    };
    let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .into_iter()
        .filter_map(|(bit, letter)| (rule.access & bit != 0).then_some(letter))
        .collect();
    Some(Value::Struct(vec![node.as_str().into(), access.as_str().into()]))
}

/// -1 is systemd's "infinity".
fn limit(limit: i64) -> Value {
    Value::U64(u64::try_from(limit).unwrap_or(u64::MAX))
}

fn memory(memory: &Memory, put: &mut impl FnMut(&str, Option<Value>)) {
    put("MemoryMax", memory.limit.map(limit));
    put("MemoryLow", memory.reservation.map(limit));
    // The config counts memory and swap together, systemd swap alone.
    let swap = match (memory.swap, memory.limit) {
        (Some(-1), _) => Some(-1),
        (Some(swap), Some(limit)) => Some(swap.saturating_sub(limit)),
        _ => None,
    };
    put("MemorySwapMax", swap.map(limit));
}

/// systemd stores a quota per second, and rounds it down to whole percents of a CPU when it writes the file.
/// So it is rounded up here, as in runc; the exact value is written to the file.
fn quota(quota: Option<i64>, period: Option<u64>, put: &mut impl FnMut(&str, Option<Value>)) {
    let percent = 10_000;
    let by_second = match (quota, period) {
        (None, None) => return,
        (Some(quota), period) if quota > 0 => {
            let period = u128::from(period.unwrap_or(100_000));
            let exact = u128::from(quota.unsigned_abs()) * 1_000_000 / period;
            u64::try_from(exact.next_multiple_of(percent)).unwrap_or(u64::MAX)
        }
        _ => u64::MAX,
    };
    put("CPUQuotaPerSecUSec", Some(Value::U64(by_second)));
    put("CPUQuotaPeriodUSec", period.map(Value::U64));
}

/// A list of CPUs or nodes as a bit mask. None if it is not in this form: the kernel accepts more.
fn bits(list: &str) -> Option<Value> {
    let bits = id_list::bits(list, 8192)?;
    Some(Value::Array("y".into(), bits.into_iter().map(Value::Byte).collect()))
}

fn block_io(io: &BlockIo, put: &mut impl FnMut(&str, Option<Value>)) {
    let weight = |weight: u16| Value::U64(v2::io_weight(weight).into());
    let by_device =
        |list: Vec<Value>| (!list.is_empty()).then(|| Value::Array("(st)".into(), list));
    let entry = |device: &str, value: Value| {
        Value::Struct(vec![format!("/dev/block/{device}").as_str().into(), value])
    };
    put("IOWeight", io.weight.map(weight));
    let weights = io.devices.iter();
    let weights = weights.filter_map(|of| Some(entry(&of.device, weight(of.weight?)))).collect();
    put("IODeviceWeight", by_device(weights));
    for (what, name) in [
        (Throttle::ReadBps, "IOReadBandwidthMax"),
        (Throttle::WriteBps, "IOWriteBandwidthMax"),
        (Throttle::ReadIops, "IOReadIOPSMax"),
        (Throttle::WriteIops, "IOWriteIOPSMax"),
    ] {
        let rates = io.throttles.iter().filter(|rate| rate.what == what && rate.rate != 0);
        let rates = rates.map(|rate| entry(&rate.device, Value::U64(rate.rate))).collect();
        put(name, by_device(rates));
    }
}

/// A cgroup v2 file that systemd writes as well: without the property, systemd could overwrite it later.
fn unified(file: &str, value: &str, put: &mut impl FnMut(&str, Option<Value>)) {
    let number = || match value {
        "max" => Some(Value::U64(u64::MAX)),
        value => value.parse().ok().map(Value::U64),
    };
    match file {
        "memory.min" => put("MemoryMin", number()),
        "memory.low" => put("MemoryLow", number()),
        "memory.high" => put("MemoryHigh", number()),
        "memory.max" => put("MemoryMax", number()),
        "memory.swap.max" => put("MemorySwapMax", number()),
        "pids.max" => put("TasksMax", number()),
        "cpu.weight" => put("CPUWeight", number()),
        "cpuset.cpus" => put("AllowedCPUs", bits(value)),
        "cpuset.mems" => put("AllowedMemoryNodes", bits(value)),
        "cpu.max" => {
            let (limit, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let limit = if limit == "max" { Some(-1) } else { limit.parse().ok() };
            if let (Some(limit), Ok(period)) = (limit, period.parse()) {
                quota(Some(limit), Some(period), put);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        Resources::new(&serde_json::from_str(json).unwrap(), &mut Vec::new()).unwrap()
    }

    fn table(json: &str, version: Version) -> Vec<Property> {
        limits(&resources(json), version)
    }

    fn numbers(list: &[(&str, u64)]) -> Vec<Property> {
        list.iter().map(|&(name, value)| (name.to_owned(), Value::U64(value))).collect()
    }

    #[test]
    fn nothing_asked_is_no_property() {
        assert_eq!(table("{}", Version::V2), []);
        assert_eq!(table("{}", Version::Hybrid), []);
    }

    #[test]
    fn limits_have_their_properties() {
        let json = r#"{"memory":{"limit":100,"reservation":50,"swap":150},
            "cpu":{"shares":1024,"quota":20000,"period":50000},"pids":{"limit":7},
            "blockIO":{"weight":1000}}"#;
        let expected = [
            ("MemoryMax", 100),
            ("MemoryLow", 50),
            ("MemorySwapMax", 50),
            ("CPUWeight", 100),
            ("IOWeight", 10_000),
            ("CPUQuotaPerSecUSec", 400_000),
            ("CPUQuotaPeriodUSec", 50_000),
            ("TasksMax", 7),
        ];
        assert_eq!(table(json, Version::V2), numbers(&expected));
        let expected = [
            ("MemoryLimit", 100),
            ("CPUShares", 1024),
            ("BlockIOWeight", 1000),
            ("CPUQuotaPerSecUSec", 400_000),
            ("CPUQuotaPeriodUSec", 50_000),
            ("TasksMax", 7),
        ];
        assert_eq!(table(json, Version::V1), numbers(&expected));
    }

    #[test]
    fn no_limit_is_infinity_and_no_process_is_one() {
        let json = r#"{"memory":{"limit":-1,"swap":-1},"cpu":{"quota":-1},"pids":{"limit":-1}}"#;
        let names = ["MemoryMax", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax"];
        assert_eq!(table(json, Version::V2), numbers(&names.map(|name| (name, u64::MAX))));
        assert_eq!(table(r#"{"pids":{"limit":0}}"#, Version::V2), numbers(&[("TasksMax", 1)]));
    }

    #[test]
    fn a_quota_between_two_percents_is_rounded_up() {
        let json = r#"{"cpu":{"quota":1001,"period":100000}}"#;
        let expected = [("CPUQuotaPerSecUSec", 20_000), ("CPUQuotaPeriodUSec", 100_000)];
        assert_eq!(table(json, Version::V2), numbers(&expected));
    }

    #[test]
    fn sets_are_bits() {
        let bytes = |bytes: &[u8]| {
            Some(Value::Array("y".into(), bytes.iter().map(|&byte| Value::Byte(byte)).collect()))
        };
        assert_eq!(bits("0"), bytes(&[1]));
        assert_eq!(bits("0-2,7,9"), bytes(&[0x87, 2]));
        assert_eq!(bits("0-10:2/4"), None);
        assert_eq!(bits("0-99999999"), None);
    }

    #[test]
    fn throttles_are_by_device() {
        let json = r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":600},
            {"major":8,"minor":0,"rate":0}]}}"#;
        let entry = Value::Struct(vec!["/dev/block/8:16".into(), Value::U64(600)]);
        let list = Value::Array("(st)".into(), vec![entry]);
        assert_eq!(table(json, Version::V2), [("IOReadBandwidthMax".to_owned(), list)]);
    }

    #[test]
    fn what_unified_says_counts_last() {
        let json = r#"{"memory":{"limit":100},"unified":{"memory.max":"200","memory.high":"max",
            "cpu.max":"50000 100000","hugetlb.2MB.max":"0"}}"#;
        let expected = [
            ("MemoryMax", 100),
            ("CPUQuotaPerSecUSec", 500_000),
            ("CPUQuotaPeriodUSec", 100_000),
            ("MemoryHigh", u64::MAX),
            ("MemoryMax", 200),
        ];
        assert_eq!(table(json, Version::V2), numbers(&expected));
    }

    #[test]
    fn device_rules_are_a_list_where_they_are_one() {
        let rules = |json: &str| device_rules(&resources(json).devices);
        let list = rules(
            r#"{"devices":[{"allow":true,"type":"c","major":10,"minor":200,"access":"rw"}]}"#,
        );
        assert_eq!(list[0], ("DevicePolicy".to_owned(), "strict".into()));
        let Value::Array(_, allowed) = &list[1].1 else { panic!() };
        let entry = |node: &str, access: &str| Value::Struct(vec![node.into(), access.into()]);
        for wanted in [
            entry("/dev/char/10:200", "rw"),
            entry("/dev/char/1:3", "rwm"),
            entry("char-*", "m"),
            entry("char-pts", "rwm"),
        ] {
            assert!(allowed.contains(&wanted), "{wanted:?}: {allowed:?}");
        }
        assert_eq!(rules(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#), []);
        let odd = r#"{"devices":[{"allow":true,"type":"c","major":10,"access":"rw"},
            {"allow":false,"type":"c","major":10,"minor":1,"access":"w"}]}"#;
        assert_eq!(rules(odd), []);
    }
}
