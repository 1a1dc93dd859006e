//! Flags for the process: environment, user, directory, annotations.

use super::{Change, file, pair};
use crate::plan::process::KEEP_GROUPS;
use crate::process::signals;
use anyhow::{Context, Result, bail, ensure};
use brig_layers::bundle::user;
use serde_json::{Value, json};
use std::path::Path;

/// `--env NAME=VALUE`, `--env NAME`, `--env PREFIX*`.
pub fn env(change: &mut Change<'_>, text: &str) -> Result<()> {
    set_or_take(change.config, text)
}

/// `--env-file`: the same, one per line; lines that begin with # are comments.
pub fn env_file(change: &mut Change<'_>, path: &str) -> Result<()> {
    let text = file::read(Path::new(path))?;
    let text = String::from_utf8(text).ok().context("is not UTF-8")?;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if !line.is_empty() && !line.starts_with('#') {
            set_or_take(change.config, line).with_context(|| format!("line {}", index + 1))?;
        }
    }
    Ok(())
}

fn set_or_take(config: &mut Value, text: &str) -> Result<()> {
    ensure!(!text.contains('\0'), "has a NUL byte");
    if let Some((name, value)) = text.split_once('=') {
        ensure!(!name.is_empty(), "{text:?} has no name");
        set(config, name, value);
        return Ok(());
    }
    ensure!(!text.is_empty(), "no name");
    let prefix = text.strip_suffix('*');
    for (name, value) in std::env::vars_os() {
        // config.json cannot contain values that are not UTF-8.
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        if prefix.map_or(name == text, |prefix| name.starts_with(prefix)) {
            set(config, name, value);
        }
    }
    Ok(())
}

fn set(config: &mut Value, name: &str, value: &str) {
    let Some(env) = config["process"]["env"].as_array_mut() else { return };
    let new = Value::from(format!("{name}={value}"));
    let is_it = |entry: &&mut Value| {
        let known = entry.as_str().and_then(|entry| entry.split_once('='));
        known.is_some_and(|(known, _)| known == name)
    };
    match env.iter_mut().find(is_it) {
        Some(entry) => *entry = new,
        None => env.push(new),
    }
}

/// `--group-add`.
pub fn group_add(change: &mut Change<'_>, text: &str) -> Result<()> {
    if text == "keep-groups" {
        change.config["annotations"][KEEP_GROUPS] = "1".into();
        return Ok(());
    }
    let gid = user::group(text, change.view)?;
    let groups = &mut change.config["process"]["user"]["additionalGids"];
    match groups.as_array_mut() {
        Some(groups) if groups.contains(&json!(gid)) => {}
        Some(groups) => groups.push(gid.into()),
        None => *groups = json!([gid]),
    }
    Ok(())
}

/// `--workdir`.
pub fn workdir(change: &mut Change<'_>, path: &str) -> Result<()> {
    ensure!(path.starts_with('/'), "is not an absolute path");
    change.config["process"]["cwd"] = path.into();
    Ok(())
}

/// `--tty`.
pub fn tty(change: &mut Change<'_>, _: &str) -> Result<()> {
    change.config["process"]["terminal"] = true.into();
    Ok(())
}

/// `--label`, `--annotation`.
pub fn annotation(change: &mut Change<'_>, text: &str) -> Result<()> {
    // As in podman: a label without value has an empty value.
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    ensure!(!name.is_empty(), "not NAME=VALUE");
    ensure!(!name.starts_with("run.brig."), "run.brig.* is reserved for brig and bundles");
    change.config["annotations"][name] = value.into();
    Ok(())
}

/// `--stop-signal`.
pub fn stop_signal(change: &mut Change<'_>, text: &str) -> Result<()> {
    signals::parse(text)?;
    change.config["annotations"]["org.opencontainers.image.stopSignal"] = text.into();
    Ok(())
}

/// `--pull`.
pub fn pull(_: &mut Change<'_>, when: &str) -> Result<()> {
    match when {
        "never" | "missing" => Ok(()),
        "always" | "newer" => {
            bail!("brig does not pull images: get one with `skopeo copy docker://NAME oci:DIR:TAG`")
        }
        _ => bail!("must be never or missing"),
    }
}

/// `--entrypoint`: a program, or a JSON array; empty: no entrypoint.
pub fn split_entrypoint(text: &str) -> Result<Vec<String>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).with_context(|| format!("--entrypoint {text}"));
    }
    Ok(if text.is_empty() { Vec::new() } else { vec![text.to_owned()] })
}

/// Adds `NAME=VALUE` to an object.
pub fn member(object: &mut Value, text: &str) -> Result<()> {
    let (name, value) = pair(text)?;
    object[name] = value.into();
    Ok(())
}

/// Inits that need no files of the image: those installed by podman and docker.
const INITS: [&str; 4] = [
    "/usr/libexec/podman/catatonit",
    "/usr/bin/catatonit",
    "/usr/bin/docker-init",
    "/usr/bin/tini-static",
];
/// The path of the init in the container.
const INIT: &str = "/run/brig-init";

/// `--init`: bind mounts an init of the host, which starts the program.
pub fn init(change: &mut Change<'_>, _: &str) -> Result<()> {
    let found = INITS.iter().find(|path| Path::new(path).is_file());
    let found = found.with_context(|| {
        format!("the host has no init for containers: install catatonit, or one of {INITS:?}")
    })?;
    change.mounts.push(json!({
        "destination": INIT, "type": "bind", "source": found,
        "options": ["bind", "rprivate", "ro", "nosuid", "nodev"]
    }));
    let args = change.config["process"]["args"].as_array_mut().context("the config has no args")?;
    args.splice(0..0, [json!(INIT), json!("--")]);
    Ok(())
}
