//! The files of the cgroup, and resource limits.

use super::{Row, Subject};
use crate::cgroup::Dir;
use crate::plan::process::RLIMITS;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;
use sys::hierarchy;

/// The files that are always shown: in cgroup2, or in a v1 controller's hierarchy.
const SHOWN: [(&str, &str); 12] = [
    ("", "memory.max"),
    ("", "memory.current"),
    ("", "pids.max"),
    ("", "pids.current"),
    ("", "cpu.max"),
    ("", "cpuset.cpus.effective"),
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.usage_in_bytes"),
    ("pids", "pids.max"),
    ("pids", "pids.current"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpuset", "cpuset.effective_cpus"),
];

/// Those of them that show usage, not limits.
const USAGE: [&str; 4] =
    ["memory.current", "memory.usage_in_bytes", "pids.current", "cpuset.cpus.effective"];

pub(super) fn cgroup(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let cgroup = &subject.state.cgroup;
    let mut rows = vec![place(subject)?];
    let resources = subject.plan().map(|plan| &plan.resources);
    let in_force = resources.map(|resources| cgroup.in_force(resources)).transpose()?;
    let in_force = in_force.unwrap_or_default();
    for limit in &in_force {
        let asked = limit.asked.trim().to_owned();
        let drift = limit.has.as_deref().is_none_or(|has| !is_same(&asked, has));
        let row = of_file(&limit.path, limit.has.clone());
        rows.push(Row { asked: Some(asked.into()), drift, ..row }.note(&*limit.place));
    }
    for dir in cgroup.dirs() {
        let files = SHOWN.iter().filter(|(controller, _)| match dir.controllers.as_str() {
            "" => controller.is_empty(),
            _ => dir.has(controller),
        });
        for (_, file) in files {
            let path = dir.path.join(file);
            if in_force.iter().any(|limit| limit.path == path) {
                continue;
            }
            let Ok(text) = hierarchy::read(&path) else { continue };
            let has = String::from_utf8_lossy(&text).trim().to_owned();
            // A limit that is not in the config: set by `update`, an engine, or systemd.
            let counts = USAGE.contains(file) || file.starts_with("cpuset");
            let drift = subject.asked.is_some() && !counts && !is_unlimited(&has);
            let note = if drift { "a limit that the config does not have" } else { "" };
            let row = of_file(&path, Some(has));
            rows.push(Row { drift, ..row }.note(note));
        }
    }
    Ok(rows)
}

/// Which cgroup init is in: the container's own, or one below it.
fn place(subject: &Subject<'_>) -> Result<Row> {
    let text = subject.task.text("cgroup")?;
    let dirs = subject.state.cgroup.dirs();
    let strays: Vec<String> = dirs.iter().filter(|dir| !is_in(dir, &text)).map(shown).collect();
    let mut relative: Vec<String> = dirs.iter().map(below).collect();
    relative.sort();
    relative.dedup();
    let paths: Vec<String> = dirs.iter().map(shown).collect();
    let row = Row::new("cgroup", relative).more("paths", paths);
    let note = match strays.is_empty() {
        _ if dirs.is_empty() => "it has none of its own".to_owned(),
        true => String::new(),
        false => format!("its init is not in {}", strays.join(", ")),
    };
    Ok(Row { drift: !strays.is_empty(), ..row }.note(note))
}

fn shown(dir: &Dir) -> String {
    dir.path.display().to_string()
}

/// The path in its hierarchy.
fn below(dir: &Dir) -> String {
    let relative = dir.path.strip_prefix(&dir.mountpoint).unwrap_or(&dir.path);
    format!("/{}", relative.display())
}

/// A row for a file of a cgroup.
fn of_file(path: &Path, has: Option<String>) -> Row {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Row::new(name, has).more("path", path.display().to_string())
}

/// Whether init's `cgroup` file contains this path. If brig itself is in a container, the paths in the file
/// are longer.
fn is_in(dir: &Dir, text: &str) -> bool {
    let relative = dir.path.strip_prefix(&dir.mountpoint).unwrap_or(&dir.path);
    let first = dir.controllers.split(',').next().unwrap_or_default();
    text.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next());
        let path = Path::new(path.unwrap_or_default());
        controllers.split(',').any(|name| name == first)
            && path.ancestors().any(|above| above.ends_with(relative))
    })
}

fn is_unlimited(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    // cgroup v1 shows "unlimited" as the largest multiple of a page.
    first == "max" || first == "-1" || first.parse::<u64>().is_ok_and(|most| most >= 1 << 62)
}

/// Whether the current contents correspond to the written value: all of its words on one line; memory rounded
/// to whole pages.
fn is_same(asked: &str, has: &str) -> bool {
    let equal = |asked: &str, has: &str| match (asked.parse::<i128>(), has.parse::<i128>()) {
        (Ok(-1), _) => is_unlimited(has),
        (Ok(asked), Ok(has)) => has == asked || has == asked / 4096 * 4096 || has == asked + 1,
        _ => asked == has || asked == "max" && is_unlimited(has),
    };
    let lines: Vec<Vec<&str>> = has.lines().map(|line| line.split_whitespace().collect()).collect();
    asked.lines().all(|asked| {
        let mut lines = lines.iter();
        asked.is_empty()
            || lines.any(|line| {
                asked.split_whitespace().all(|word| line.iter().any(|has| equal(word, has)))
            })
    })
}

pub(super) fn rlimits(subject: &Subject<'_>) -> Result<Vec<Row>> {
    let text = subject.task.text("limits")?;
    let asked = subject.plan().map(|plan| plan.process.rlimits.as_slice()).unwrap_or_default();
    // The lines are in the order of the numbers; soft and hard follow a name of 26 columns.
    let lines = text.lines().skip(1).enumerate().filter_map(|(number, line)| {
        let mut values = line.get(26..)?.split_whitespace();
        let number = u32::try_from(number).ok()?;
        let (name, _) = RLIMITS.iter().find(|(_, known)| *known == number)?;
        let has = json!({ "soft": value(values.next()?), "hard": value(values.next()?) });
        let row = Row::new(*name, has);
        let asked = asked.iter().rfind(|(resource, ..)| *resource == number);
        Some(match asked.filter(|_| subject.started) {
            Some((_, soft, hard, place)) => {
                row.asked(json!({ "soft": limit(*soft), "hard": limit(*hard) })).note(place)
            }
            None => row,
        })
    });
    Ok(lines.collect())
}

/// null means no limit.
fn value(text: &str) -> Value {
    text.parse::<u64>().map_or(Value::Null, Value::from)
}

fn limit(number: u64) -> Value {
    if number == u64::MAX { Value::Null } else { number.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_rounds_or_words_otherwise_is_the_same() {
        for (asked, has) in [
            ("67108864", "67108864"),
            ("100000", "98304"),
            ("-1", "max"),
            ("-1", "9223372036854771712"),
            ("50000 100000", "50000 100000"),
            ("8:16 rbps=1", "8:0 rbps=7\n8:16 rbps=1 wbps=max"),
            ("max", "max"),
        ] {
            assert!(is_same(asked, has), "{asked:?} {has:?}");
        }
        for (asked, has) in [("1000000", "2000000"), ("max", "5"), ("8:16 rbps=1", "8:16 rbps=2")] {
            assert!(!is_same(asked, has), "{asked:?} {has:?}");
        }
    }
}
