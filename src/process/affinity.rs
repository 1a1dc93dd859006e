//! The CPU affinity of a process.

use crate::plan::process::Process;
use crate::spec::Place;
use anyhow::{Result, anyhow};
use sys::{Errno, SysError, sched};

/// exec: sets the affinity before the process is moved into the container's cpuset.
pub fn before_cgroup(process: &Process) -> Result<()> {
    let Some(cpus) = &process.scheduling.affinity.initial else { return Ok(()) };
    sched::set_affinity(cpus).map_err(explain).at("process.execCPUAffinity.initial")
}

fn explain(error: SysError) -> anyhow::Error {
    match error.errno {
        Errno::EINVAL => anyhow!(error)
            .context("none of these CPUs is both online and in the cpuset of the process"),
        _ => error.into(),
    }
}

/// exec: sets the affinity after it has been moved. One set by brig's caller (taskset(1)) does not apply to
/// it.
pub fn in_cgroup(process: &Process) -> Result<()> {
    let affinity = &process.scheduling.affinity;
    match (&affinity.last, &affinity.initial) {
        (Some(cpus), _) => {
            sched::set_affinity(cpus).map_err(explain).at("process.execCPUAffinity.final")
        }
        (None, Some(_)) => Ok(()),
        (None, None) => Ok(sched::reset_affinity()?),
    }
}
