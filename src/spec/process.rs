//! `process`: brig's own, because oci-spec's fails on an unknown capability (the spec wants a
//! warning), defaults required fields, and links the regex crate.

use super::null_is_default;
use serde::Deserialize;

/// `process`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// A terminal is attached.
    #[serde(default, deserialize_with = "null_is_default")]
    pub terminal: bool,
    /// Size of the terminal.
    pub console_size: Option<ConsoleSize>,
    /// Who runs.
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
    /// execve(2) grants nothing.
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

/// `process.scheduler`. oci-spec's has other names for the flags than the spec.
#[derive(Debug, Deserialize)]
pub struct Scheduler {
    /// `SCHED_FIFO` and the like.
    pub policy: String,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// Of real-time policies, 1 to 99.
    pub priority: Option<i32>,
    /// `SCHED_FLAG_RESET_ON_FORK` and the like.
    #[serde(default, deserialize_with = "null_is_default")]
    pub flags: Vec<String>,
    /// Nanoseconds of CPU time in a period.
    pub runtime: Option<u64>,
    /// Nanoseconds until it has to have had them.
    pub deadline: Option<u64>,
    /// Nanoseconds.
    pub period: Option<u64>,
}

/// `process.ioPriority`.
#[derive(Debug, Deserialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_BE` and the like.
    pub class: String,
    /// 0 to 7, the most urgent first; as good as 0 where it is absent, as in runc.
    #[serde(default, deserialize_with = "null_is_default")]
    pub priority: i64,
}

/// `process.execCPUAffinity`: lists of CPUs as `0-3,7`.
#[derive(Debug, Deserialize)]
pub struct ExecAffinity {
    /// Before the process is moved into the container's cgroup.
    pub initial: Option<String>,
    /// After that.
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// `process.consoleSize`, in characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u64,
    /// Columns.
    pub width: u64,
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

/// `process.capabilities`: names as written; which of them exist is the plan's business.
#[derive(Debug, Default, Deserialize)]
pub struct Capabilities {
    /// Most that any program can ever get.
    #[serde(default, deserialize_with = "null_is_default")]
    pub bounding: Vec<String>,
    /// In force.
    #[serde(default, deserialize_with = "null_is_default")]
    pub effective: Vec<String>,
    /// Kept over execve of a file that has them inheritable.
    #[serde(default, deserialize_with = "null_is_default")]
    pub inheritable: Vec<String>,
    /// Can be made effective.
    #[serde(default, deserialize_with = "null_is_default")]
    pub permitted: Vec<String>,
    /// Kept over execve of any file.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ambient: Vec<String>,
}

/// One of `process.rlimits`.
#[derive(Debug, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and the like.
    #[serde(rename = "type")]
    pub typ: String,
    /// The most the soft limit can be raised to.
    pub hard: u64,
    /// In force.
    pub soft: u64,
}
