//! checkpoint: writes the state of a running container to files, from which it can be restored.

use crate::criu::dump;
use crate::criu::options::CheckpointOptions;
use crate::log::Log;
use anyhow::{Context, Result};

/// Checkpoints the container, which is then deleted, unless it is left running.
pub fn checkpoint(options: &CheckpointOptions, log: &mut Log) -> Result<()> {
    dump::checkpoint(options, log).with_context(|| format!("checkpoint {}", options.id))
}
