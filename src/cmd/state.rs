//! state: the container's state (runtime.md, State) as JSON.

use crate::log;
use crate::state::Summary;
use anyhow::{Context, Result};
use std::path::Path;

/// Prints the state of one container.
pub fn state(root: &Path, id: &str) -> Result<()> {
    print_state(root, id).with_context(|| format!("state {id}"))
}

fn print_state(root: &Path, id: &str) -> Result<()> {
    let mut summary = Summary::of(root, id)?;
    summary.owner = user_name(summary.uid);
    summary.add_end(root)?;
    let text = serde_json::to_string_pretty(&summary)?;
    log::out(format!("{}\n", log::printable_json(&text)).as_bytes())
}

/// The name of a user on the host, or the number if it has no name.
pub fn user_name(uid: u32) -> String {
    crate::process::passwd::name_of(uid).unwrap_or_else(|| format!("#{uid}"))
}
