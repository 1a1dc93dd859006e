//! restore: brings a container back that was written down.

use crate::criu::options::RestoreOptions;
use crate::criu::restore;
use crate::launch::create::Options;
use crate::log::Log;
use anyhow::{Context, Result};

/// Restores it; in the foreground, waits for it and deletes it. The result is what brig exits with.
pub fn restore(options: &Options, how: &RestoreOptions, log: &mut Log) -> Result<i32> {
    restore::restore(options, how, log).with_context(|| format!("restore {}", options.id))
}
