//! exec: runs another process in a running container.

use crate::launch::exec::{self, Options};
use crate::log::Log;
use anyhow::{Context, Result};

/// Runs the process and returns the exit code.
pub fn exec(options: &Options, log: &mut Log) -> Result<i32> {
    exec::exec(options, log).with_context(|| format!("exec {}", options.id))
}
