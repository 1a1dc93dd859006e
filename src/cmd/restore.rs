//! restore: continues a container from a checkpoint.

use crate::criu::options::RestoreOptions;
use crate::criu::restore;
use crate::launch::create::Options;
use crate::log::Log;
use anyhow::{Context, Result};

/// Restores it; in the foreground, also waits for it and deletes it. Returns the exit code.
pub fn restore(options: &Options, how: &RestoreOptions, log: &mut Log) -> Result<i32> {
    restore::restore(options, how, log).with_context(|| format!("restore {}", options.id))
}
