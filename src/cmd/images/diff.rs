//! diff: the changes of a container relative to its layers.

use crate::cmd::command::ListFormat;
use crate::image::upper::{self, AsCaller};
use crate::launch::own_bundle::user_namespace;
use crate::log;
use crate::state::Dir;
use anyhow::{Context, Result};
use brig_layers::tree::changes::{Change, Difference, Upper};
use brig_layers::worker;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// One line of the output.
#[derive(Debug, Serialize)]
struct Line {
    kind: char,
    path: String,
    what: &'static str,
}

/// Prints the changes: A added, C changed, D deleted, as docker and podman do.
pub fn diff(root: &Path, id: &str, format: ListFormat) -> Result<()> {
    let open = || {
        let dir = Dir::open(root, id)?;
        let state = dir.existing()?;
        Ok::<_, anyhow::Error>((dir, state))
    };
    let (dir, state) = open().with_context(|| format!("diff {id}"))?;
    let go = || {
        let as_caller = AsCaller::new(&state, &dir)?;
        with_rights(|| print(&upper::open_upper(&state, &dir, &as_caller)?, format))
    };
    go().with_context(|| format!("diff {id}"))
}

/// Runs in a user namespace with the caller's ids, if the caller is not root.
pub fn with_rights(go: impl FnOnce() -> Result<()>) -> Result<()> {
    match user_namespace() {
        None => go(),
        Some(user) => {
            worker::spawn(Some(&user), |_| go().map(|()| Vec::new()))?.wait(|_| ()).map(drop)
        }
    }
}

fn print(upper: &Upper, format: ListFormat) -> Result<()> {
    let lines = lines(upper)?;
    let lines = lines.into_iter().map(|(path, (kind, what))| Line {
        kind,
        path: String::from_utf8_lossy(&path).into_owned(),
        what,
    });
    let text = match format {
        ListFormat::Json => {
            let mut text = serde_json::to_string_pretty(&lines.collect::<Vec<_>>())?;
            text.push('\n');
            text
        }
        // A name can contain any character, but a line must stay one line.
        ListFormat::Table => {
            lines.map(|line| format!("{} {}\n", line.kind, log::one_line(&line.path))).collect()
        }
    };
    log::out(text.as_bytes())
}

/// By path, with a leading slash. A directory in which something has changed counts as changed.
fn lines(upper: &Upper) -> Result<BTreeMap<Vec<u8>, (char, &'static str)>> {
    let mut lines = BTreeMap::new();
    let mut add = |path: &[u8], kind, what| {
        lines.insert([b"/", path].concat(), (kind, what));
        let parents = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
        for (at, _) in parents {
            let parent = [b"/", &path[..at]].concat();
            // Its parent directories have been added already.
            if lines.contains_key(&parent) {
                break;
            }
            lines.insert(parent, ('C', "metadata"));
        }
    };
    for node in upper.nodes()? {
        match &node.change {
            Change::Deleted => add(&node.path, 'D', "content"),
            Change::Added(_) => add(&node.path, 'A', "content"),
            Change::Changed { what, opaque, .. } => {
                match what {
                    Difference::Nothing if !opaque => {}
                    Difference::Content => add(&node.path, 'C', "content"),
                    _ => add(&node.path, 'C', "metadata"),
                }
                if *opaque && *what != Difference::Content {
                    for name in upper.hidden_names(&node.path)? {
                        add(&[&node.path, &b"/"[..], &name].concat(), 'D', "content");
                    }
                }
            }
        }
    }
    Ok(lines)
}
