//! `process`: not oci-spec's type, because that fails on an unknown capability (the specification demands a
//! warning), has defaults for required fields, and links the regex crate.

use super::null_is_default;
use serde::Deserialize;
use serde_json::Value;

/// `process`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether to allocate a terminal.
    #[serde(default, deserialize_with = "null_is_default")]
    pub terminal: bool,
    /// Size of the terminal, as written: whatever it is must be ignored without a terminal (config.md, Process).
    pub console_size: Option<Value>,
    /// User and groups.
    #[serde(default, deserialize_with = "null_is_default")]
    pub user: User,
    /// Program and arguments.
    #[serde(default, deserialize_with = "null_is_default")]
    pub args: Vec<String>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// The five capability sets.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rlimits: Vec<Rlimit>,
    /// Set no_new_privs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// Out-of-memory score adjustment, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// Scheduling policy.
    pub scheduler: Option<Scheduler>,
    /// I/O priority.
    pub io_priority: Option<IoPriority>,
    /// CPU affinity of exec.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecAffinity>,
}

/// `process.scheduler`. oci-spec's flag names differ from those of the specification.
#[derive(Debug, Deserialize)]
pub struct Scheduler {
    /// E.g. `SCHED_FIFO`.
    pub policy: String,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// The priority for real-time policies, 1 to 99.
    pub priority: Option<i32>,
    /// E.g. `SCHED_FLAG_RESET_ON_FORK`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
    /// CPU time per period in nanoseconds.
    pub runtime: Option<u64>,
    /// The deadline in nanoseconds from the start of the period.
    pub deadline: Option<u64>,
    /// The period in nanoseconds.
    pub period: Option<u64>,
}

/// `process.ioPriority`.
#[derive(Debug, Deserialize)]
pub struct IoPriority {
    /// E.g. `IOPRIO_CLASS_BE`.
    pub class: String,
    /// 0 (highest) to 7; 0 if absent, as in runc.
    #[serde(default, deserialize_with = "null_is_default")]
    pub priority: i64,
}

/// `process.execCPUAffinity`: lists of CPUs, e.g. `0-3,7`.
#[derive(Debug, Deserialize)]
pub struct ExecAffinity {
    /// Before the process is moved into the container's cgroup.
    pub initial: Option<String>,
    /// After it was moved.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// `process.user`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// User id in the container.
    #[serde(default)]
    pub uid: u32,
    /// Group id in the container.
    #[serde(default)]
    pub gid: u32,
    /// File mode mask.
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(default, deserialize_with = "null_is_default")]
    pub additional_gids: Vec<u32>,
}

/// `process.capabilities`: the names as written; the plan checks whether they exist.
#[derive(Debug, Default, Deserialize)]
pub struct Capabilities {
    /// The bounding set: an upper bound for any executed program.
    #[serde(default, deserialize_with = "null_is_default")]
    pub bounding: Vec<String>,
    /// Effective.
    #[serde(default, deserialize_with = "null_is_default")]
    pub effective: Vec<String>,
    /// Inheritable: preserved over execve of a file with the same inheritable capability.
    #[serde(default, deserialize_with = "null_is_default")]
    pub inheritable: Vec<String>,
    /// Permitted: can be made effective.
    #[serde(default, deserialize_with = "null_is_default")]
    pub permitted: Vec<String>,
    /// Ambient: preserved over execve of any file.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ambient: Vec<String>,
}

/// One of `process.rlimits`.
#[derive(Debug, Deserialize)]
pub struct Rlimit {
    /// E.g. `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub typ: String,
    /// The maximum for the soft limit.
    pub hard: u64,
    /// The limit in force.
    pub soft: u64,
}
