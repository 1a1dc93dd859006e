//! checkpoint: writes a running container down, so that it can be restored.

use crate::criu::dump;
use crate::criu::options::CheckpointOptions;
use crate::log::Log;
use anyhow::{Context, Result};

/// Writes it down; then it is gone, unless it is to run on.
pub fn checkpoint(options: &CheckpointOptions, log: &mut Log) -> Result<()> {
    dump::checkpoint(options, log).with_context(|| format!("checkpoint {}", options.id))
}
