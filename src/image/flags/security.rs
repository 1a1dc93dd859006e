//! `--security-opt`.

use super::{Change, file};
use crate::plan;
use crate::seccomp;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The system calls that the container may make.
pub enum Filter {
    /// brig's default profile.
    Default,
    /// All system calls.
    Unconfined,
    /// The profile in a file.
    File(PathBuf),
}

/// Applies one option; like engines, accepts a colon instead of the equals sign.
pub fn option(change: &mut Change<'_>, text: &str) -> Result<()> {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (name, value) {
        ("seccomp", "unconfined") => change.filter = Filter::Unconfined,
        ("seccomp", path) if !path.is_empty() => change.filter = Filter::File(path.into()),
        ("no-new-privileges", "" | "true") => no_new_privileges(change, "")?,
        ("no-new-privileges", "false") => {
            change.config["process"]["noNewPrivileges"] = false.into()
        }
        // brig never sets SELinux labels for images.
        ("label", "disable") => {}
        ("mask", paths) if !paths.is_empty() => mask(change, paths)?,
        ("unmask", paths) if !paths.is_empty() => unmask(change, paths)?,
        // Without AppArmor, nothing is confined by it.
        ("apparmor", "unconfined") if !plan::Host::default().has_apparmor() => {}
        ("apparmor", profile) if !profile.is_empty() => {
            change.config["process"]["apparmorProfile"] = profile.into();
        }
        _ => bail!(
            "brig supports seccomp=unconfined|FILE, apparmor=PROFILE, label=disable, mask=PATH, \
             unmask=ALL|PATH and no-new-privileges"
        ),
    }
    Ok(())
}

/// `mask=PATH[:PATH]`.
fn mask(change: &mut Change<'_>, paths: &str) -> Result<()> {
    for path in paths.split(':') {
        ensure!(path.starts_with('/'), "{path:?} is not an absolute path");
        let masked = change.config["linux"]["maskedPaths"].as_array_mut();
        let masked = masked.context("the config masks nothing")?;
        if !masked.contains(&path.into()) {
            masked.push(path.into());
        }
    }
    Ok(())
}

/// `unmask=ALL`, `unmask=PATH[:PATH]`: also makes them writable. The last component of a path may be `*`.
fn unmask(change: &mut Change<'_>, paths: &str) -> Result<()> {
    for path in paths.split(':') {
        ensure!(path == "ALL" || path.starts_with('/'), "{path:?} is not an absolute path");
        let meant = |known: &str| match path.strip_suffix("/*") {
            _ if path == "ALL" => true,
            Some(above) => known.rsplit_once('/').is_some_and(|(dir, _)| dir == above),
            None => known == path,
        };
        for list in ["maskedPaths", "readonlyPaths"] {
            if let Some(listed) = change.config["linux"][list].as_array_mut() {
                listed.retain(|known| !known.as_str().is_some_and(meant));
            }
        }
    }
    Ok(())
}

/// `--no-new-privs`.
pub fn no_new_privileges(change: &mut Change<'_>, _: &str) -> Result<()> {
    change.config["process"]["noNewPrivileges"] = true.into();
    Ok(())
}

/// `linux.seccomp` from a file in docker's format or in that of runtime-spec.
pub fn profile(path: &Path, bounding: &[String]) -> Result<Value> {
    seccomp::resolve(&file::read(path)?, bounding)
}
