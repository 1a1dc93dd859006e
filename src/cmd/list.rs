//! list: all containers below this root.

use super::command::ListFormat;
use super::state::user_name;
use super::table;
use crate::log::{self, Log};
use crate::state::{self, Summary};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use sys::describe;

/// Prints all containers as a table, as JSON, or their ids only.
pub fn list(root: &Path, format: ListFormat, quiet: bool, log: &mut Log) -> Result<()> {
    if quiet {
        return list_ids(root).context("list");
    }
    let mut shown = Vec::new();
    let mut owners: BTreeMap<u32, String> = BTreeMap::new();
    for state::Listed { mut summary, trouble } in Summary::all(root).context("list")? {
        if let Some(trouble) = trouble {
            log.warn(&describe(&trouble));
        }
        let uid = summary.uid;
        summary.owner.clone_from(owners.entry(uid).or_insert_with(|| user_name(uid)));
        shown.push(summary);
    }
    match format {
        ListFormat::Json => {
            // As in runc, an empty list is Go's nil.
            let shown = Some(shown).filter(|shown| !shown.is_empty());
            let text = serde_json::to_string(&shown)?;
            log::out(format!("{}\n", log::printable_json(&text)).as_bytes())
        }
        ListFormat::Table => log::out(table(&shown).as_bytes()),
    }
}

/// Prints the ids of all containers with a record, readable or not.
fn list_ids(root: &Path) -> Result<()> {
    let mut ids = state::ids(root)?;
    ids.retain(|id| root.join(id).join("state.json").symlink_metadata().is_ok());
    let text: String = ids.iter().flat_map(|id| [id, "\n"]).collect();
    log::out(text.as_bytes())
}

/// runc's columns: at least 12 wide, separated by three spaces.
fn table(rows: &[Summary]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let cells = rows.iter().map(|row| {
        let bundle = row.bundle.display().to_string();
        let (pid, status) = (row.pid.to_string(), row.status.to_string());
        [&*row.id, &pid, &status, &bundle, &row.created, &row.owner].map(log::one_line)
    });
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(cells).map(Vec::from).collect();
    table::table(&rows, 3, 12)
}
