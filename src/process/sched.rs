//! Scheduling policy, memory policy and personality of a process.

use crate::plan::sched::{Execution, MemoryPolicy, Scheduling, is_real_time};
use crate::spec::Place;
use anyhow::{Error, Result, anyhow};
use sys::sched::{self, Attr};
use sys::{Errno, SysError, cred};

/// Sets the scheduler and I/O priority of a process; pid 0 is this one. Needs privileges on the host: those
/// in a user namespace do not count.
pub fn schedule(pid: i32, scheduling: &Scheduling) -> Result<()> {
    if let Some(attr) = &scheduling.scheduler {
        let done = sched::set_scheduler(pid, attr);
        done.map_err(|error| explain_scheduler(error, attr)).at("process.scheduler")?;
    }
    if let Some(priority) = scheduling.io_priority {
        let done = sched::set_io_priority(pid, priority);
        done.map_err(explain_io_priority).at("process.ioPriority")?;
    }
    Ok(())
}

/// Sets what all processes of the container share: memory policy and personality.
pub fn adopt(execution: &Execution) -> Result<()> {
    if let Some(persona) = execution.personality {
        sched::set_personality(persona).at("linux.personality")?;
    }
    if let Some(MemoryPolicy { mode, nodes }) = &execution.memory_policy {
        let done = sched::set_memory_policy(*mode, nodes);
        done.map_err(explain_memory_policy).at("linux.memoryPolicy")?;
    }
    Ok(())
}

/// Explains an errno of the kernel (sched_setattr(2), kernel/sched/syscalls.c).
fn explain_scheduler(error: SysError, attr: &Attr) -> Error {
    // linux/capability.h
    const SYS_NICE: u64 = 1 << 23;
    let deadline = attr.policy == libc::SCHED_DEADLINE.cast_unsigned();
    let able = cred::capget().is_ok_and(|sets| sets.effective & SYS_NICE != 0);
    let may = able && cred::in_first_user_namespace();
    let why = match error.errno {
        Errno::EPERM if !may => "needs CAP_SYS_NICE on the host",
        Errno::EPERM if is_real_time(attr.policy) => {
            "the container's cgroup has no real-time budget: set linux.resources.cpu.realtimeRuntime"
        }
        Errno::EPERM if deadline => {
            "SCHED_DEADLINE needs a process that may run on all CPUs: is it restricted by a cpuset?"
        }
        Errno::EBUSY if deadline => "the CPUs do not have enough time left",
        Errno::EINVAL => "the kernel rejects these values",
        Errno::EOPNOTSUPP => "the kernel is built without support for these flags",
        _ => return error.into(),
    };
    Error::from(error).context(why)
}

fn explain_io_priority(error: SysError) -> Error {
    match error.errno {
        Errno::EPERM => Error::from(error).context("needs CAP_SYS_NICE on the host"),
        _ => error.into(),
    }
}

fn explain_memory_policy(error: SysError) -> Error {
    match error.errno {
        Errno::ENOSYS => anyhow!("the kernel is built without NUMA"),
        Errno::EINVAL => {
            let why = "the kernel rejects these values: \
                       are all nodes there, and in the container's cpuset?";
            Error::from(error).context(why)
        }
        _ => error.into(),
    }
}
