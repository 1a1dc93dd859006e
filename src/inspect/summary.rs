//! One line that summarises the isolation: facts, without a score.

use super::{Row, Subject};
use anyhow::Result;
use serde_json::Value;

pub(super) fn of(
    subject: &Subject<'_>,
    namespaces: &[Row],
    process: &[Row],
    mounts: &[Row],
) -> Result<String> {
    let find = |name: &str| process.iter().find(|row| row.name == name);
    let has = |name: &str| find(name).map_or(&Value::Null, |row| &row.has);
    let mut facts = Vec::new();
    let shared: Vec<&str> =
        namespaces.iter().filter(|row| row.has == "host").map(|row| row.name.as_str()).collect();
    facts.push(match shared.is_empty() {
        true => "shares no namespace with the host".to_owned(),
        false => format!("shares with the host: {}", shared.join(", ")),
    });
    facts.push(match has("uid").as_u64() {
        Some(0) => "runs as root of the host".into(),
        Some(uid) => format!("runs as uid {uid} of the host"),
        None => "uid unknown".into(),
    });
    let count = |name: &str| has(name).as_array().map_or(0, Vec::len);
    facts.push(match count("effective") {
        0 => "no capabilities".into(),
        1 => "1 capability".into(),
        held => format!("{held} capabilities"),
    });
    facts.push(match has("no_new_privs").as_bool() {
        Some(true) => "cannot gain privileges".into(),
        _ => "can gain privileges by setuid programs".into(),
    });
    facts.push(match has("seccomp").as_str() {
        Some("filter" | "strict") => "a seccomp filter".into(),
        _ => "no seccomp filter".into(),
    });
    let labels: Vec<&str> = ["apparmor", "selinux"]
        .into_iter()
        .filter(|name| has(name).as_str().is_some_and(|label| !label.contains("unconfined")))
        .collect();
    facts.push(match labels.is_empty() {
        true => "no security module".into(),
        false => labels.join(", "),
    });
    let writable = mounts.iter().filter(|row| is_writable_bind(row)).count();
    facts.push(match writable {
        0 => "nothing of the host mounted writable".into(),
        1 => "1 writable mount of the host's files".into(),
        count => format!("{count} writable mounts of the host's files"),
    });
    if subject.state.cgroup.is_none() {
        facts.push("no cgroup of its own".into());
    }
    Ok(facts.join("; "))
}

/// Whether it is a writable part of a host filesystem: a bind mount whose root is not that of its filesystem,
/// or which is on a device.
fn is_writable_bind(row: &Row) -> bool {
    let text = |key: &str| row.more.get(key).and_then(Value::as_str).unwrap_or_default();
    let from_config = text("from").starts_with("config mounts") || text("from") == "mounts add";
    let options = row.more.get("options").and_then(Value::as_array);
    let writable = options.is_some_and(|options| options.iter().any(|option| option == "rw"));
    let of_kernel =
        ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"].contains(&text("fstype"));
    let bound = text("root") != "/" || text("source").starts_with('/');
    from_config && writable && bound && !of_kernel
}
