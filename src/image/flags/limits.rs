//! Flags about limits and devices.

use super::{Change, pair};
use crate::plan::update::bytes;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{SFlag, major, minor, stat};
use serde_json::{Value, json};

/// `--memory`; memory and swap together are twice that, where the kernel counts swap.
pub fn memory(change: &mut Change<'_>, text: &str) -> Result<()> {
    let limit = limit(text)?;
    let memory = &mut change.config["linux"]["resources"]["memory"];
    memory["limit"] = limit.into();
    if let Some(both) = limit.checked_mul(2).filter(|_| limit > 0) {
        memory["swap"] = both.into();
        change.is_default("swap");
    }
    Ok(())
}

/// `--memory-swap`.
pub fn memory_swap(change: &mut Change<'_>, text: &str) -> Result<()> {
    ensure!(change.flags.last("memory").is_some(), "needs --memory");
    change.config["linux"]["resources"]["memory"]["swap"] = limit(text)?.into();
    change.is_asked_for("swap");
    Ok(())
}

fn limit(text: &str) -> Result<i64> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `--cpus`.
pub fn cpus(change: &mut Change<'_>, text: &str) -> Result<()> {
    const PERIOD: u32 = 100_000;
    let cpus: f64 = text.parse().ok().context("not a number of CPUs")?;
    ensure!(cpus.is_finite() && (0.01..=10_000.0).contains(&cpus), "not 0.01 to 10000 CPUs");
    let micros = format!("{:.0}", cpus * f64::from(PERIOD));
    let quota: i64 = micros.parse()?;
    let cpu = &mut change.config["linux"]["resources"]["cpu"];
    cpu["quota"] = quota.into();
    cpu["period"] = PERIOD.into();
    Ok(())
}

/// `--pids-limit`.
pub fn pids(change: &mut Change<'_>, text: &str) -> Result<()> {
    let limit: i64 =
        text.parse().ok().filter(|&limit| limit >= -1).context("not a number of tasks")?;
    change.is_asked_for("pids");
    if limit > 0 {
        change.config["linux"]["resources"]["pids"] = json!({ "limit": limit });
    } else if let Some(resources) = change.config["linux"]["resources"].as_object_mut() {
        resources.remove("pids");
    }
    Ok(())
}

/// `--ulimit NAME=SOFT[:HARD]`.
pub fn ulimit(change: &mut Change<'_>, text: &str) -> Result<()> {
    let (name, value) = pair(text)?;
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let number = |text: &str| -> Result<u64> {
        match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            _ => text.parse().ok().context("not NAME=SOFT[:HARD]"),
        }
    };
    let name = name.to_ascii_uppercase();
    let kind = format!("RLIMIT_{}", name.strip_prefix("RLIMIT_").unwrap_or(&name));
    let new = json!({ "type": kind, "soft": number(soft)?, "hard": number(hard)? });
    let limits = change.config["process"]["rlimits"].as_array_mut().context("no rlimits")?;
    limits.retain(|old| old["type"] != new["type"]);
    limits.push(new);
    Ok(())
}

/// `--sysctl`.
pub fn sysctl(change: &mut Change<'_>, text: &str) -> Result<()> {
    super::process::member(&mut change.config["linux"]["sysctl"], text)
}

/// `--device HOST[:CONTAINER][:rwm]`.
pub fn device(change: &mut Change<'_>, text: &str) -> Result<()> {
    ensure!(text.starts_with('/'), "not the path of a device; brig does not look names of CDI up");
    let parts: Vec<&str> = text.split(':').collect();
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let (path, inside, access) = match parts[..] {
        [path] => (path, path, "rwm"),
        [path, access] if is_access(access) => (path, path, access),
        [path, inside] => (path, inside, "rwm"),
        [path, inside, access] if is_access(access) => (path, inside, access),
        _ => bail!("not HOST[:CONTAINER][:rwm]"),
    };
    ensure!(inside.starts_with('/'), "{inside:?} is not an absolute path");
    let host = std::fs::canonicalize(path).with_context(|| path.to_owned())?;
    let found = stat(&host).with_context(|| path.to_owned())?;
    let kind = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => bail!("{} is no device", host.display()),
    };
    if change.in_user_namespace {
        // Nobody there can make a node.
        let source = host.to_str().context("config.json is UTF-8, and the path is not")?;
        change.mounts.push(json!({
            "destination": inside, "type": "bind", "source": source,
            "options": ["bind", "rprivate", "nosuid", "noexec"]
        }));
        return Ok(());
    }
    let (major, minor) = (major(found.st_rdev), minor(found.st_rdev));
    let linux = &mut change.config["linux"];
    push(
        &mut linux["devices"],
        json!({
            "path": inside, "type": kind, "major": major, "minor": minor,
            "fileMode": found.st_mode & 0o777, "uid": found.st_uid, "gid": found.st_gid
        }),
    );
    push(
        &mut linux["resources"]["devices"],
        json!({
            "allow": true, "type": kind, "major": major, "minor": minor, "access": access
        }),
    );
    Ok(())
}

fn push(list: &mut Value, value: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(value),
        None => *list = json!([value]),
    }
}
