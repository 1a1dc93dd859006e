//! state: what runtime.md calls the state of a container, as JSON.

use crate::log;
use crate::state::{Dir, State, Status};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// runtime.md's state, and what runc adds to it. The order is the one in which it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSummary<'a> {
    oci_version: &'static str,
    pub(super) id: &'a str,
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: &'a Path,
    rootfs: &'a Path,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub(super) owner: &'a str,
}

/// Prints the state of one container.
pub fn state(root: &Path, id: &str) -> Result<()> {
    print_state(root, id).with_context(|| format!("state {id}"))
}

fn print_state(root: &Path, id: &str) -> Result<()> {
    let dir = Dir::open(root, id)?;
    let state = dir.existing()?;
    let owner = user_name(state.uid);
    let text = serde_json::to_string_pretty(&show(&state, dir.status(&state)?, &owner))?;
    log::out(format!("{}\n", log::printable_json(&text)).as_bytes())
}

/// What is saved, and what is so now.
pub fn show<'a>(state: &'a State, status: Status, owner: &'a str) -> ContainerSummary<'a> {
    ContainerSummary {
        oci_version: crate::SPEC_VERSION,
        id: &state.id,
        pid: if [Status::Stopped, Status::Unknown].contains(&status) { 0 } else { state.pid },
        status,
        bundle: &state.bundle,
        rootfs: &state.rootfs,
        created: &state.created,
        annotations: &state.annotations,
        owner,
    }
}

/// The name of a user of the host; the number where it has none.
pub fn user_name(uid: u32) -> String {
    crate::process::passwd::name_of(uid).unwrap_or_else(|| format!("#{uid}"))
}
