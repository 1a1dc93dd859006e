//! What is asked of CRIU when there is nothing to checkpoint.

use super::rpc::{Criu, Start};
use crate::launch::foreground;
use anyhow::Result;
use std::path::Path;

/// The version of the CRIU that this is, as one number: 3.17.1 is 31701.
///
/// # Errors
///
/// It is not installed, does not start, or is older than brig needs.
pub fn version(program: &Path) -> Result<u32> {
    let signals = foreground::block_signals()?;
    let start =
        Start { program, namespaces: 0, inherits: Vec::new(), same_job: false, signals: &signals };
    let mut criu = Criu::start(&start, || Ok(()))?;
    let version = criu.version();
    criu.finish();
    version
}
