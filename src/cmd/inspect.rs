//! inspect: the actual settings of a container, beside those of its config.

use super::command::ListFormat;
use super::table::table;
use crate::inspect::{self, Report, Row};
use crate::log;
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// The options of inspect.
#[derive(Debug)]
pub struct InspectOptions {
    /// The container.
    pub id: String,
    /// A system call to explain the filter's decision about.
    pub syscall: Option<String>,
    /// The output format.
    pub format: ListFormat,
}

/// Prints the report. Returns 0 if everything is as configured, 1 if something differs.
///
/// # Errors
///
/// If the container is not running, or may not be inspected.
pub fn inspect(root: &Path, options: &InspectOptions) -> Result<i32> {
    let id = &options.id;
    let report = inspect::inspect(root, id, options.syscall.as_deref());
    let report = report.with_context(|| format!("inspect {id}"))?;
    let text = match options.format {
        ListFormat::Json => {
            let text = serde_json::to_string_pretty(&report)?;
            format!("{}\n", log::printable_json(&text))
        }
        ListFormat::Table => lines(&report),
    };
    log::out(text.as_bytes())?;
    Ok(i32::from(report.drift > 0))
}

fn lines(report: &Report) -> String {
    let Report { id, pid, status, summary, drift, trouble, .. } = report;
    let mut text = format!("{id}: {status}, init is process {pid}\n{summary}\n");
    text += &match drift {
        0 => "all is as the config asked\n".to_owned(),
        drift => format!("{drift} marked with ! differ from what the config asked\n"),
    };
    text.extend(trouble.iter().map(|trouble| log::one_line(trouble) + "\n"));
    let sections = [
        ("NAMESPACES", &report.namespaces),
        ("PROCESS", &report.process),
        ("MOUNTS", &report.mounts),
        ("CGROUP", &report.cgroup),
        ("LIMITS", &report.rlimits),
    ];
    for (title, rows) in sections {
        let heading = ["", title, "HAS", "ASKED", ""].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
        text.push('\n');
        text += &table(&rows, 2, 0);
    }
    // Remove the padding at the ends of lines.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn cells(row: &Row) -> Vec<String> {
    let asked = match &row.asked {
        None => "-".to_owned(),
        Some(asked) if *asked == row.has => "=".to_owned(),
        Some(asked) => shown(asked),
    };
    let mark = if row.drift { "!" } else { "" };
    let note = row.note.as_deref().unwrap_or_default();
    [mark, &row.name, &shown(&row.has), &asked, note].map(log::one_line).to_vec()
}

/// Formats a value for people.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".into(),
        Value::Array(list) => {
            let words = list.iter().map(shown);
            let words = words.map(|word| word.strip_prefix("CAP_").unwrap_or(&word).to_owned());
            words.collect::<Vec<_>>().join(" ")
        }
        // Resource limits.
        Value::Object(limit) => {
            let of = |name| match limit.get(name) {
                None | Some(Value::Null) => "unlimited".to_owned(),
                Some(value) => shown(value),
            };
            format!("{}/{}", of("soft"), of("hard"))
        }
        Value::Number(number) => number.to_string(),
    }
}
