//! Scheduling, memory policy and execution domain of a process.

use super::{SysError, check};

/// The argument of sched_setattr(2) as in Linux 5.3, without its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// -20 (highest priority) to 19.
    pub nice: i32,
    /// 1 to 99 (highest) with a real-time policy; 0 with any other.
    pub priority: u32,
    /// CPU time per period in nanoseconds.
    pub runtime: u64,
    /// The deadline in nanoseconds from the start of the period.
    pub deadline: u64,
    /// The period in nanoseconds; 0: equal to the deadline.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, including the utilization bounds, which are 0: the spec has
/// flags for them, but no values.
#[repr(C)]
struct KernelAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// sched_setattr(2); pid 0 is this process.
///
/// # Errors
///
/// sched_setattr(2) failed.
pub fn set_scheduler(pid: i32, attr: &Attr) -> Result<(), SysError> {
    let Attr { policy, flags, nice, priority, runtime, deadline, period } = *attr;
    let mut args = KernelAttr {
        size: 0,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        util_min: 0,
        util_max: 0,
    };
    args.size = u32::try_from(size_of_val(&args)).unwrap_or(0);
    // SAFETY: args has the kernel's layout, contains its own size, and outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const args, 0) };
    check(|| format!("sched_setattr(policy {policy}, flags {flags:#x})"), done).map(drop)
}

/// ioprio_set(2); pid 0 is this process. `priority`: class and level as linux/ioprio.h packs them.
///
/// # Errors
///
/// ioprio_set(2) failed.
pub fn set_io_priority(pid: i32, priority: u16) -> Result<(), SysError> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = libc::c_int::from(priority);
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, pid, value) };
    check(|| format!("ioprio_set({priority:#x})"), done).map(drop)
}

/// set_mempolicy(2): `mode` with its flags, and memory nodes as a bit mask, lowest first.
///
/// # Errors
///
/// If set_mempolicy(2) fails.
pub fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<(), SysError> {
    // The kernel reads whole words, and one bit less than the given number.
    let mut mask = nodes.to_vec();
    mask.resize(nodes.len().next_multiple_of(size_of::<libc::c_ulong>()), 0);
    let (pointer, bits) = match mask.is_empty() {
        true => (std::ptr::null(), 0),
        false => (mask.as_ptr(), mask.len() * 8 + 1),
    };
    // SAFETY: null with 0 bits means no nodes; otherwise the vector contains all bits and outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) };
    check(|| format!("set_mempolicy({mode:#x})"), done).map(drop)
}

/// personality(2).
///
/// # Errors
///
/// personality(2) failed.
pub fn set_personality(persona: u32) -> Result<(), SysError> {
    // SAFETY: takes an integer only.
    let done = unsafe { libc::personality(persona.into()) };
    check(|| format!("personality({persona:#x})"), done.into()).map(drop)
}

/// Restricts the process to these CPUs, a bit mask, lowest first.
///
/// # Errors
///
/// If sched_setaffinity(2) fails: EINVAL if none of the CPUs may be used.
pub fn set_affinity(cpus: &[u8]) -> Result<(), SysError> {
    // The kernel reads whole words.
    let mut mask = cpus.to_vec();
    mask.resize(cpus.len().next_multiple_of(size_of::<libc::c_ulong>()), 0);
    // SAFETY: pointer and length are those of one vector, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) };
    check(|| "sched_setaffinity".into(), done).map(drop)
}

/// Allows the process to run on every CPU of its cpuset, whatever the affinity of brig's caller was.
///
/// # Errors
///
/// If sched_setaffinity(2) fails.
pub fn reset_affinity() -> Result<(), SysError> {
    // 8192 CPUs: the maximum that Linux can be built for; the kernel intersects it with the cpuset.
    let all = [u8::MAX; 1024];
    // SAFETY: pointer and length are those of one array, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    check(|| "sched_setaffinity(all)".into(), done).map(drop)
}
