//! The settings of the benchmark's full configuration: `compare` writes them to config.json, `floor` applies
//! them without parsing.

pub const MEMORY: &str = "268435456";
pub const QUOTA: &str = "200000";
pub const PERIOD: &str = "100000";
pub const PIDS: &str = "512";
pub const HOSTNAME: &str = "bench";
pub const NOFILE: u64 = 1024;

/// Capabilities kept, by name and number.
pub const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_KILL", 5), ("CAP_NET_BIND_SERVICE", 10), ("CAP_AUDIT_WRITE", 29)];

pub const MASKED: [&str; 12] = [
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
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

pub const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
