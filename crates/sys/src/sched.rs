//! How the kernel schedules a process, where it takes its memory, and what it pretends to be.

use super::{SysError, check};

/// sched_setattr(2)'s argument as Linux 5.3 has it, but for its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// -20 to 19, the most urgent first.
    pub nice: i32,
    /// 1 to 99 with a real-time policy, the most urgent last; 0 with any other.
    pub priority: u32,
    /// Nanoseconds of CPU time in a period.
    pub runtime: u64,
    /// Nanoseconds after the start of a period until which it has to have had them.
    pub deadline: u64,
    /// Nanoseconds; 0: as long as the deadline.
    pub period: u64,
}

/// `struct sched_attr` of linux/sched/types.h, with the bounds of utilization, which are 0: the spec
/// has flags for them, and no values.
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
    // SAFETY: args has the kernel's layout, says its own size, and outlives the call.
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

/// set_mempolicy(2): `mode` with its flags, and memory nodes, a bit for each, the lowest first.
///
/// # Errors
///
/// set_mempolicy(2) failed.
pub fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<(), SysError> {
    // The kernel takes whole words, and one bit less than it is told.
    let mut mask = nodes.to_vec();
    mask.resize(nodes.len().next_multiple_of(size_of::<libc::c_ulong>()), 0);
    let (pointer, bits) = match mask.is_empty() {
        true => (std::ptr::null(), 0),
        false => (mask.as_ptr(), mask.len() * 8 + 1),
    };
    // SAFETY: null with 0 bits is no node; otherwise the vector has them all and outlives the call.
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

/// Lets the process run on these CPUs only, a bit for each, the lowest first.
///
/// # Errors
///
/// sched_setaffinity(2) failed: EINVAL where none of the processors may be used.
pub fn set_affinity(cpus: &[u8]) -> Result<(), SysError> {
    // The kernel takes whole words.
    let mut mask = cpus.to_vec();
    mask.resize(cpus.len().next_multiple_of(size_of::<libc::c_ulong>()), 0);
    // SAFETY: pointer and length are of one vector, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) };
    check(|| "sched_setaffinity".into(), done).map(drop)
}

/// Lets the process run on every CPU that its cpuset allows, whatever brig's caller was bound to.
///
/// # Errors
///
/// sched_setaffinity(2) failed.
pub fn reset_affinity() -> Result<(), SysError> {
    // 8192 CPUs: the most that Linux can be built for; the kernel cuts it to the cpuset.
    let all = [u8::MAX; 1024];
    // SAFETY: pointer and length are of one array, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    check(|| "sched_setaffinity(all)".into(), done).map(drop)
}
