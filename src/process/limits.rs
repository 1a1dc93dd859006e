//! Resource limits.

use crate::plan::process::Process;
use crate::spec::Place;
use anyhow::{Error, Result};
use sys::{Errno, SysError, cred};

/// Sets the resource limits of a process; pid 0 is this one. Only root on the host may raise a hard limit:
/// root of a user namespace may not.
pub fn set(pid: i32, process: &Process) -> Result<()> {
    for (resource, soft, hard, place) in &process.rlimits {
        cred::prlimit(pid, *resource, *soft, *hard).map_err(explain).at(place)?;
    }
    Ok(())
}

fn explain(error: SysError) -> Error {
    match error.errno {
        Errno::EPERM => Error::from(error).context(
            "above brig's own hard limit, which only a process with CAP_SYS_RESOURCE may raise",
        ),
        _ => error.into(),
    }
}
