//! Flags for limits and devices.

use super::{Change, pair};
use crate::plan::process::RLIMITS;
use crate::plan::update::bytes;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{SFlag, lstat, major, minor, stat};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `--memory`; the limit of memory and swap together is twice that, if the kernel accounts swap.
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
    change.make_required("swap");
    Ok(())
}

fn limit(text: &str) -> Result<i64> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// `--cpus`; 0 is unlimited.
pub fn cpus(change: &mut Change<'_>, text: &str) -> Result<()> {
    const PERIOD: u32 = 100_000;
    let cpus: f64 = text.parse().ok().context("not a number of CPUs")?;
    if cpus == 0.0 {
        if let Some(resources) = change.config["linux"]["resources"].as_object_mut() {
            resources.remove("cpu");
        }
        return Ok(());
    }
    ensure!(
        cpus.is_finite() && (0.01..=10_000.0).contains(&cpus),
        "must be from 0.01 to 10000 CPUs"
    );
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
    change.make_required("pids");
    if limit > 0 {
        change.config["linux"]["resources"]["pids"] = json!({ "limit": limit });
    } else if let Some(resources) = change.config["linux"]["resources"].as_object_mut() {
        resources.remove("pids");
    }
    Ok(())
}

/// `--ulimit NAME=SOFT[:HARD]`; `--ulimit host`: the caller's limits.
pub fn ulimit(change: &mut Change<'_>, text: &str) -> Result<()> {
    if text == "host" {
        change.config["process"]["rlimits"] = json!([]);
        return Ok(());
    }
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
    ensure!(RLIMITS.iter().any(|(known, _)| *known == kind), "unknown limit {name:?}");
    let (soft, hard) = (number(soft)?, number(hard)?);
    ensure!(soft <= hard, "the soft limit is above the hard limit");
    let new = json!({ "type": kind, "soft": soft, "hard": hard });
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
    ensure!(
        text.starts_with('/'),
        "not the path of a device; brig does not support CDI device names"
    );
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
    if host.is_dir() {
        let mut found = Vec::new();
        devices_below(&host, Path::new(inside), 0, &mut found)?;
        ensure!(!found.is_empty(), "{path} contains no device");
        return found
            .iter()
            .try_for_each(|(host, inside)| one_device(change, host, inside, access));
    }
    one_device(change, &host, Path::new(inside), access)
}

/// What engines leave out of a directory of devices: filesystems, and directories of links.
const NO_DEVICES: [&str; 5] = ["pts", "shm", "fd", "mqueue", ".udev"];
/// The maximum nesting depth and number of devices in /dev.
const MAX_DEPTH: usize = 8;
const MAX_DEVICES: usize = 4096;

/// The devices in a directory and its subdirectories; links are not followed.
fn devices_below(
    host: &Path,
    inside: &Path,
    depth: usize,
    found: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<()> {
    ensure!(depth < MAX_DEPTH, "{}: directories are nested too deeply", host.display());
    let entries = std::fs::read_dir(host).with_context(|| host.display().to_string())?;
    let mut names: Vec<OsString> =
        entries.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    for name in names {
        let (host, inside) = (host.join(&name), inside.join(&name));
        // It was removed in the meantime.
        let Ok(stat) = lstat(&host) else { continue };
        match sys::file::kind(stat.st_mode) {
            SFlag::S_IFDIR if NO_DEVICES.iter().all(|other| name != *other) => {
                devices_below(&host, &inside, depth + 1, found)?;
            }
            // As in engines: the container has its own console.
            SFlag::S_IFCHR | SFlag::S_IFBLK if name != "console" => found.push((host, inside)),
            _ => {}
        }
        ensure!(found.len() <= MAX_DEVICES, "has more than {MAX_DEVICES} devices");
    }
    Ok(())
}

fn one_device(change: &mut Change<'_>, host: &Path, inside: &Path, access: &str) -> Result<()> {
    let utf8 = "the path is not UTF-8, and config.json must be";
    let inside = inside.to_str().context(utf8)?;
    let found = stat(host).with_context(|| host.display().to_string())?;
    let kind = match sys::file::kind(found.st_mode) {
        SFlag::S_IFCHR => "c",
        SFlag::S_IFBLK => "b",
        _ => bail!("{} is not a device", host.display()),
    };
    if change.in_user_namespace {
        // Device nodes cannot be created in a user namespace.
        let source = host.to_str().context(utf8)?;
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
