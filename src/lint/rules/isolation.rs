//! `linux`: namespaces, id maps, devices, limits.

use super::Rules;
use crate::plan::devices;
use crate::spec::{Cpu, DeviceRule, DeviceType, Memory, Resources, Spec};
use oci_spec::runtime::LinuxNamespaceType as Type;

/// Below this, no program starts: the kernel charges some 100 KiB of page tables and stacks alone.
const TINY_MEMORY: i64 = 512 << 10;

pub(super) fn check(spec: &Spec, rules: &mut Rules) {
    namespaces(spec, rules);
    for (index, device) in spec.linux.devices.iter().flatten().enumerate() {
        let path = device.path();
        if devices::is_default(path) || path.as_os_str() == "/dev/ptmx" {
            let text = "is made in every container (config-linux.md, Default Devices)";
            rules.note("default-device", format_args!("linux.devices[{index}].path"), text);
        }
    }
    let resources = &spec.linux.resources;
    device_rules(resources.devices.as_deref().unwrap_or_default(), rules);
    if let Some(memory) = &resources.memory {
        check_memory(memory, rules);
    }
    if let Some(cpu) = &resources.cpu {
        check_cpu(cpu, rules);
    }
    one_version(resources, rules);
}

fn namespaces(spec: &Spec, rules: &mut Rules) {
    let has = |kind: Type| spec.linux.namespaces.iter().any(|namespace| namespace.typ() == kind);
    for (kind, name, shared) in [
        (Type::Mount, "mount", "its mounts are the host's"),
        (Type::Pid, "pid", "it sees the host's processes, and orphans do not end with it"),
        (Type::Ipc, "ipc", "it shares System V IPC and POSIX message queues with the host"),
    ] {
        if !has(kind) {
            let text = format!("lists no {name} namespace: {shared}");
            rules.note("shared-namespace", "linux.namespaces", text);
        }
    }
    let maps =
        [("uidMappings", &spec.linux.uid_mappings), ("gidMappings", &spec.linux.gid_mappings)];
    for (name, maps) in maps {
        if !has(Type::User) && maps.as_ref().is_some_and(|maps| !maps.is_empty()) {
            let text = "has no effect without a user namespace in linux.namespaces";
            rules.warn("no-effect", format_args!("linux.{name}"), text);
        }
    }
}

fn device_rules(list: &[DeviceRule], rules: &mut Rules) {
    let all = |rule: &DeviceRule| {
        let kind = matches!(rule.typ, None | Some(DeviceType::A));
        let numbers =
            [rule.major, rule.minor].iter().all(|number| number.is_none_or(|number| number < 0));
        let access = rule
            .access
            .as_deref()
            .is_none_or(|access| ["r", "w", "m"].iter().all(|one| access.contains(one)));
        kind && numbers && access
    };
    for (index, rule) in list.iter().enumerate() {
        let place = format!("linux.resources.devices[{index}]");
        if let Some(by) = list.iter().skip(index + 1).position(&all) {
            let text = format!(
                "is undone by linux.resources.devices[{}], which is about all devices",
                index + 1 + by
            );
            rules.warn("hidden-rule", place, text);
        } else if rule.allow && all(rule) {
            let text = "allows every device of the host to be made and used, disks included";
            rules.warn("all-devices", place, text);
        }
    }
}

fn check_memory(memory: &Memory, rules: &mut Rules) {
    let place = |name: &str| format!("linux.resources.memory.{name}");
    let limit = memory.limit.filter(|limit| *limit > 0);
    if limit.is_some_and(|limit| limit < TINY_MEMORY) {
        let text = "is less than 512 KiB: the program is likely to be killed before it starts; the unit is bytes";
        rules.warn("tiny-limit", place("limit"), text);
    }
    if memory.reservation.zip(limit).is_some_and(|(reservation, limit)| reservation > limit) {
        rules.warn(
            "no-effect",
            place("reservation"),
            "is more than the limit, and so has no effect",
        );
    }
    for (name, given) in
        [("kernel", memory.kernel.is_some()), ("kernelTCP", memory.kernel_tcp.is_some())]
    {
        if given {
            rules.note(
                "deprecated",
                place(name),
                "is deprecated: the kernel counts this memory as part of the limit",
            );
        }
    }
}

fn check_cpu(cpu: &Cpu, rules: &mut Rules) {
    let place = |name: &str| format!("linux.resources.cpu.{name}");
    let quota = cpu.quota.filter(|quota| *quota > 0);
    if let (None, Some(_)) = (quota, cpu.period) {
        rules.note("no-effect", place("period"), "has no effect without quota");
    }
    if let (None, Some(1..)) = (quota, cpu.burst) {
        rules.warn("no-effect", place("burst"), "has no effect without quota");
    }
    if cpu.idle == Some(1) && cpu.shares.is_some_and(|shares| shares > 0) {
        rules.warn("no-effect", place("shares"), "has no effect with idle");
    }
}

/// Limits that only one cgroup version supports.
fn one_version(resources: &Resources, rules: &mut Rules) {
    let memory = resources.memory.as_ref();
    let cpu = resources.cpu.as_ref();
    let io = resources.block_io.as_ref();
    let of_v1 = [
        ("memory.swappiness", memory.is_some_and(|memory| memory.swappiness.is_some())),
        (
            "memory.disableOOMKiller",
            memory.is_some_and(|memory| memory.disable_oom_killer == Some(true)),
        ),
        (
            "cpu.realtimeRuntime",
            cpu.is_some_and(|cpu| cpu.realtime_runtime.is_some_and(|runtime| runtime != 0)),
        ),
        (
            "cpu.realtimePeriod",
            cpu.is_some_and(|cpu| cpu.realtime_period.is_some_and(|period| period != 0)),
        ),
        ("blockIO.leafWeight", io.is_some_and(|io| io.leaf_weight.is_some())),
        ("network", resources.network.is_some()),
    ];
    for (name, _) in of_v1.into_iter().filter(|(_, given)| *given) {
        let text = "exists in cgroup v1 only: most hosts have cgroup v2 alone";
        rules.note("cgroup-v1-only", format_args!("linux.resources.{name}"), text);
    }
    if resources.unified.as_ref().is_some_and(|unified| !unified.is_empty()) {
        let text = "exists in cgroup v2 only: a host with v1 refuses it";
        rules.note("cgroup-v2-only", "linux.resources.unified", text);
    }
}
