//! What a container of an image has unless it is asked for something else: as docker and podman have
//! it. docs/layers.md lists it.

use crate::plan::resources::Optional;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

/// What docker or podman masks; and [`thermal`].
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// What docker or podman has read-only.
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Most tasks, as podman has it.
pub const PIDS: i64 = 2048;
/// Most open files, as podman has it; or the caller's hard limit.
const FILES: u64 = 1 << 20;

/// Writes them. Capabilities and the filter for these depend on flags.
pub fn write(config: &mut Value) {
    config["process"]["noNewPrivileges"] = false.into();
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES, |(_, hard)| hard.min(FILES));
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": hard, "soft": hard }]);
    // As docker and podman mount it; `runc spec`, and so brig's, has no options there.
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "proc" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
    let linux = &mut config["linux"];
    let mut masked: Vec<String> = MASKED.iter().map(|&path| path.to_owned()).collect();
    masked.extend(thermal());
    linux["maskedPaths"] = json!(masked);
    linux["readonlyPaths"] = json!(READ_ONLY);
    linux["resources"]["pids"] = json!({ "limit": PIDS });
    config["annotations"][Optional::ANNOTATION] = "pids".into();
}

/// How hot each CPU has been tells what runs on the machine.
fn thermal() -> Vec<String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let paths = cpus.map(|cpu| cpu.path().join("thermal_throttle")).filter(|path| path.is_dir());
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}
