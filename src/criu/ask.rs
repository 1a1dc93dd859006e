//! Queries of CRIU that are not about a checkpoint.

use super::rpc::{Criu, Start};
use crate::launch::foreground;
use anyhow::Result;
use std::path::Path;

/// The version of the installed CRIU as one number: 3.17.1 is 31701.
///
/// # Errors
///
/// If it is not installed, cannot be started, or is older than brig requires.
pub fn version(program: &Path) -> Result<u32> {
    let signals = foreground::block_signals()?;
    let start =
        Start { program, namespaces: 0, inherits: Vec::new(), same_job: false, signals: &signals };
    let mut criu = Criu::start(&start, || Ok(()))?;
    let version = criu.version();
    criu.finish();
    version
}
