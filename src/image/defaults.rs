//! What a container of an image has unless it is asked for something else: as docker and podman have
//! it. docs/layers.md lists it.

use super::capabilities::Sets;
use crate::plan::resources::Optional;
use crate::seccomp::arch::Arch;
use crate::seccomp::default;
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

/// Writes them, where the config does not say something else already.
pub fn write(config: &mut Value, sets: &Sets) {
    let root = config["process"]["user"]["uid"] == 0;
    config["process"]["capabilities"] = capabilities(sets, root);
    config["process"]["noNewPrivileges"] = false.into();
    let hard = getrlimit(Resource::RLIMIT_NOFILE).map_or(FILES, |(_, hard)| hard.min(FILES));
    config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": hard, "soft": hard }]);
    let linux = &mut config["linux"];
    let mut masked: Vec<String> = MASKED.iter().map(|&path| path.to_owned()).collect();
    masked.extend(thermal());
    linux["maskedPaths"] = json!(masked);
    linux["readonlyPaths"] = json!(READ_ONLY);
    linux["seccomp"] = default::profile(&sets.bounding, Arch::NATIVE);
    linux["resources"]["pids"] = json!({ "limit": PIDS });
    config["annotations"][Optional::ANNOTATION] = "pids".into();
}

/// Root has what the container can have at most; another user what was added by name, which then
/// also stays over execve.
fn capabilities(sets: &Sets, root: bool) -> Value {
    if root {
        let all = &sets.bounding;
        return json!({ "bounding": all, "effective": all, "permitted": all });
    }
    let mut value = json!({ "bounding": sets.bounding });
    if !sets.added.is_empty() {
        for set in ["effective", "permitted", "inheritable", "ambient"] {
            value[set] = json!(sets.added);
        }
    }
    value
}

/// How hot each CPU has been tells what runs on the machine.
fn thermal() -> Vec<String> {
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let paths = cpus.map(|cpu| cpu.path().join("thermal_throttle")).filter(|path| path.is_dir());
    let mut paths: Vec<String> = paths.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}
