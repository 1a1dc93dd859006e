//! list: all containers of this root.

use super::command::ListFormat;
use super::state::{ContainerSummary, show, user_name};
use super::table;
use crate::log::{self, Log};
use crate::state::{self, ListedContainer, check_id};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use sys::{IfExists, describe};

/// Prints all containers as a table, as JSON, or their ids only.
pub fn list(root: &Path, format: ListFormat, quiet: bool, log: &mut Log) -> Result<()> {
    let found = state::all(root).context("list")?;
    for trouble in found.iter().filter_map(|one| one.trouble.as_ref()) {
        log.warn(&describe(trouble));
    }
    if quiet {
        let ids: String = found.iter().map(|one| format!("{}\n", one.state.id)).collect();
        return log::out(ids.as_bytes());
    }
    let mut owners: BTreeMap<u32, String> = BTreeMap::new();
    for ListedContainer { state, .. } in &found {
        owners.entry(state.uid).or_insert_with(|| user_name(state.uid));
    }
    let shown: Vec<ContainerSummary<'_>> =
        found.iter().map(|one| show(&one.state, one.status, &owners[&one.state.uid])).collect();
    match format {
        ListFormat::Json => {
            // As runc has it: its empty list is Go's nil.
            let shown = Some(shown).filter(|shown| !shown.is_empty());
            let text = log::printable_json(&serde_json::to_string(&shown)?);
            log::out(format!("{text}\n").as_bytes())
        }
        ListFormat::Table => log::out(table(&shown).as_bytes()),
    }
}

/// What may be containers, by name.
pub(super) fn ids(root: &Path) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let entries = std::fs::read_dir(root).if_exists();
    let entries = entries.with_context(|| root.display().to_string())?;
    for entry in entries.into_iter().flatten() {
        ids.extend(entry?.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
    }
    ids.sort();
    Ok(ids)
}

/// runc's columns: 12 wide at least, three spaces between.
fn table(rows: &[ContainerSummary<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let cells = rows.iter().map(|row| {
        let bundle = row.bundle.display().to_string();
        let (pid, status) = (row.pid.to_string(), row.status.to_string());
        [row.id, &pid, &status, &bundle, row.created, row.owner].map(log::one_line)
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(cells).map(Vec::from).collect();
    table::table(&rows, 3, 12)
}
