//! The default settings of an image's container, as in docker and podman. docs/layers.md lists them.

use crate::plan::resources::Optional;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

/// The paths masked by docker or podman; see also [`thermal`].
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

/// The paths that are read-only in docker or podman.
const READ_ONLY: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Maximum number of tasks, as in podman.
pub const PIDS: i64 = 2048;
/// Maximum number of open files, as in podman; or the caller's hard limit.
const FILES: u64 = 1 << 20;

/// Writes the defaults to the config. Capabilities and the seccomp filter depend on flags, and are not
/// included.
pub fn write(config: &mut Value) {
    config["process"]["noNewPrivileges"] = false.into();
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES, |(_, hard)| hard.min(FILES));
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": hard, "soft": hard }]);
    // The mount options of docker and podman; the config of `runc spec`, and so brig's, has none here.
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

/// The number of thermal throttling events of each CPU reveals the load of the machine.
fn thermal() -> Vec<String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let paths = cpus.map(|cpu| cpu.path().join("thermal_throttle")).filter(|path| path.is_dir());
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}
