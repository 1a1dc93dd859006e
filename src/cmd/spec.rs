//! spec: writes a config.json as a starting point.

use crate::process::subids;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use sys::file::write_atomically;
use sys::hierarchy::{self, Version};
use sys::idmap::IdMap;

/// A config that this brig can run, given a `rootfs` with a shell.
const DEFAULT: &str = include_str!("default-config.json");

/// On cgroup v1 hosts runc lists none, and a tool that adds one itself would end up with two.
const CGROUP_NAMESPACE: &str = ",\n      { \"type\": \"cgroup\" }";

fn has_cgroup2_alone() -> bool {
    hierarchy::detect().is_ok_and(|found| found.version == Version::V2)
}

/// Writes it into a bundle without a config.json, or like crun to `file`, relative to the bundle, replacing
/// an existing file. `rootless`: one that runs without root privileges.
pub fn spec(bundle: &Path, file: Option<&Path>, rootless: bool) -> Result<()> {
    let path = bundle.join(file.unwrap_or(Path::new("config.json")));
    let mut text = template(rootless)?;
    if !has_cgroup2_alone() {
        replace(&mut text, CGROUP_NAMESPACE, "")?;
    }
    let written = match file {
        Some(_) => replace_file(&path, &text),
        None if path.symlink_metadata().is_ok() => {
            bail!("spec: file {} exists. Remove it first", path.display())
        }
        None => new_file(&path, &text),
    };
    written.with_context(|| format!("spec: {}", path.display()))
}

/// Writes a new file; none is left after an error.
fn new_file(path: &Path, text: &str) -> Result<()> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(text.as_bytes());
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(path);
    }
    Ok(written?)
}

/// Replaces a regular file completely or not at all; others, e.g. /dev/stdout, are written to.
fn replace_file(path: &Path, text: &str) -> Result<()> {
    match path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        true => Ok(File::create(path)?.write_all(text.as_bytes())?),
        false => write_atomically(path, text.as_bytes()),
    }
}

/// The output of `brig spec`, for root or for the calling unprivileged user.
pub fn template(unprivileged: bool) -> Result<String> {
    if !unprivileged {
        return Ok(DEFAULT.to_owned());
    }
    let own = subids::own_maps();
    rootless(&own.uids, &own.gids)
}

/// The default config in a user namespace with these ids.
fn rootless(uids: &[IdMap], gids: &[IdMap]) -> Result<String> {
    let mut text = DEFAULT.to_owned();
    // The host's network: a new network namespace has only a loopback device, which an unprivileged user
    // cannot change.
    replace(&mut text, r#"{ "type": "network" }"#, r#"{ "type": "user" }"#)?;
    // Only the owner of the network namespace can mount sysfs.
    let sysfs = section(&text, "    {\n      \"destination\": \"/sys\",", "\n    },\n")?;
    let bound = r#"    {
      "destination": "/sys",
      "type": "none",
      "source": "/sys",
      "options": ["rbind", "nosuid", "noexec", "nodev", "rro"]
    }
"#;
    replace(&mut text, &sysfs, bound)?;
    let cgroup = section(&text, "    {\n      \"destination\": \"/sys/fs/cgroup\",", "\n    }\n")?;
    replace(&mut text, &cgroup, "")?;
    // Limits need permission to create cgroups.
    let resources = section(&text, "    \"resources\": {", "\n    },\n")?;
    let [uid_maps, gid_maps] = [("uid", uids), ("gid", gids)].map(|(kind, maps)| json(kind, maps));
    replace(&mut text, &resources, &(uid_maps + &gid_maps))?;
    // The group of terminals is not mapped.
    if !gids.iter().any(|map| (map.container..map.container + map.size).contains(&5)) {
        replace(&mut text, r#", "gid=5""#, "")?;
    }
    Ok(text)
}

/// The text between these two, inclusive.
fn section(text: &str, start: &str, end: &str) -> Result<String> {
    let found = text.split_once(start).and_then(|(_, rest)| rest.split_once(end));
    let (middle, _) = found.with_context(|| format!("the default config has no {start:?}"))?;
    Ok([start, middle, end].concat())
}

fn replace(text: &mut String, from: &str, to: &str) -> Result<()> {
    ensure!(text.matches(from).count() == 1, "the default config does not have one {from:?}");
    *text = text.replacen(from, to, 1);
    Ok(())
}

fn json(kind: &str, maps: &[IdMap]) -> String {
    let line = |IdMap { container, host, size }: &IdMap| {
        format!(r#"      {{ "containerID": {container}, "hostID": {host}, "size": {size} }}"#)
    };
    let lines: Vec<String> = maps.iter().map(line).collect();
    format!("    \"{kind}Mappings\": [\n{}\n    ],\n", lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::host::Facts;
    use crate::plan::{Plan, Request};
    use crate::process::subids::id_maps;

    fn plan(text: &str) -> Plan {
        let spec = serde_json::from_str(text).unwrap();
        let request = Request::of_bundle(Path::new("/bundle"));
        Plan::new(&spec, &request, &Facts::ROOT.into()).unwrap()
    }

    #[test]
    fn the_default_config_makes_a_plan_without_warnings() {
        assert_eq!(plan(DEFAULT).warnings, Vec::<String>::new());
    }

    #[test]
    fn the_cgroup_namespace_can_be_left_out() {
        let one = id_maps(1000, &[]);
        for mut text in [DEFAULT.to_owned(), rootless(&one, &one).unwrap()] {
            replace(&mut text, CGROUP_NAMESPACE, "").unwrap();
            assert!(!plan(&text).namespaces.has(libc::CLONE_NEWCGROUP));
        }
    }

    #[test]
    fn the_rootless_config_makes_one_too_and_asks_for_nothing_of_roots() {
        let one = id_maps(1000, &[]);
        let text = rootless(&one, &one).unwrap();
        let plan = plan(&text);
        assert_eq!(plan.warnings, Vec::<String>::new());
        assert_eq!((&plan.id_maps.uids, &plan.id_maps.gids), (&one, &one));
        assert!(plan.resources.sets_no_limit());
        assert!(plan.namespaces.has(libc::CLONE_NEWUSER));
        assert!(!plan.namespaces.has(libc::CLONE_NEWNET));
        for word in ["gid=", "sysfs", "\"cgroup\",", "resources"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }

    #[test]
    fn granted_ids_follow_ones_own() {
        let maps = id_maps(1000, &[(100_000, 65536), (300_000, 10)]);
        let of = |container, host, size| IdMap { container, host, size };
        assert_eq!(maps, [of(0, 1000, 1), of(1, 100_000, 65536), of(65537, 300_000, 10)]);
        assert_eq!(id_maps(7, &[(1, u32::MAX)]).len(), 1);
        let text = rootless(&maps, &maps).unwrap();
        assert!(text.contains("gid=5"));
        assert_eq!(plan(&text).id_maps.uids, maps);
    }
}
