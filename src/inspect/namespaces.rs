//! The namespaces of a container, and with whom it shares them.

use super::{Row, Subject};
use crate::plan::namespaces::{file, name};
use crate::state::{self, Status, record};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use sys::idmap::{IdMap, from_text};

/// All namespace types, `CLONE_NEW*`.
const KINDS: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWTIME,
];

pub(super) fn rows(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let others = others(subject)?;
    let mut rows: Vec<_> = KINDS.iter().filter_map(|kind| row(*kind, subject, &others)).collect();
    let new = subject.plan().map_or(0, |plan| plan.namespaces.new);
    for (file, gids) in [("uid_map", false), ("gid_map", true)] {
        let row = Row::new(file, shown(&from_text(&subject.task.text(file)?).unwrap_or_default()));
        let maps = subject.plan().map(|plan| &plan.id_maps);
        let asked = maps.filter(|_| new & libc::CLONE_NEWUSER != 0);
        let asked = asked.map(|maps| shown(if gids { &maps.gids } else { &maps.uids }));
        rows.push(match asked {
            Some(asked) => row.asked(asked),
            None => row,
        });
    }
    Ok(rows)
}

/// Formats each as `CONTAINER HOST SIZE`.
fn shown(maps: &[IdMap]) -> Value {
    let line = |map: &IdMap| format!("{} {} {}", map.container, map.host, map.size);
    maps.iter().map(line).collect()
}

/// The namespaces of other running containers: ids by link text in /proc.
type Others = BTreeMap<String, Vec<String>>;

fn others(subject: &Subject<'_>) -> Result<Others> {
    let mut others = Others::new();
    for container in record::all(subject.root)? {
        let state = &container.state;
        let gone = [Status::Stopped, Status::Unknown].contains(&container.status);
        if gone || state.id == subject.state.id || state::open_init(state)?.is_none() {
            continue;
        }
        let link = |kind: &libc::c_int| {
            std::fs::read_link(format!("/proc/{}/ns/{}", state.pid, file(*kind))).ok()
        };
        let links = KINDS.iter().filter_map(link).map(|to| to.display().to_string());
        others.insert(state.id.clone(), links.collect());
    }
    Ok(others)
}

/// None if the kernel does not support this type.
fn row(kind: libc::c_int, subject: &Subject<'_>, others: &Others) -> Option<Row> {
    let path = format!("ns/{}", file(kind));
    let host = std::fs::read_link(format!("/proc/self/{path}")).ok()?.display().to_string();
    let Some(link) = subject.task.link(&path) else {
        return Some(Row::new(name(kind), Value::Null).note("may not be read by this user"));
    };
    let with: Vec<&str> = others
        .iter()
        .filter(|(_, links)| links.contains(&link))
        .map(|(id, _)| id.as_str())
        .collect();
    let has = match link == host {
        true => "host",
        false if with.is_empty() => "own",
        false => "shared",
    };
    let inode = inode(&link);
    let mut row = Row::new(name(kind), has).more("inode", inode).more("with", with.clone());
    if let Some(plan) = subject.plan() {
        let joined = plan.namespaces.joined(kind);
        row.asked = Some(match joined {
            Some(join) => join.path.display().to_string().into(),
            None if plan.namespaces.new & kind != 0 => "own".into(),
            None => "host".into(),
        });
        row.drift = match joined {
            // What the path referred to at creation; the file may have been removed since.
            Some(join) => {
                let there = std::fs::metadata(&join.path).ok().map(|there| there.ino());
                there.is_some_and(|there| inode.is_some_and(|inode| inode != there))
            }
            // Other containers may have joined it.
            None if plan.namespaces.new & kind != 0 => has == "host",
            None => has != "host",
        };
    }
    let also = if with.is_empty() { String::new() } else { format!("with {}", with.join(", ")) };
    Some(row.note(also))
}

/// Parses e.g. `net:[4026531840]`.
fn inode(link: &str) -> Option<u64> {
    link.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}
