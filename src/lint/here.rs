//! `--here`: what a config requires of this host and of the bundle's files.

use super::rules::Rules;
use crate::plan::mount_options;
use crate::spec::Spec;
use anyhow::Result;
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::Hook;
use std::path::Path;
use sys::hierarchy::{self, Version};

pub(super) fn check(spec: &Spec, bundle: &Path, rules: &mut Rules) -> Result<()> {
    if let Some(root) = spec.root.as_ref().filter(|_| !has_layers(spec)) {
        let path = bundle.join(&root.path);
        if !path.is_dir() {
            rules.error(
                "missing-file",
                "root.path",
                format!("{} is not a directory", path.display()),
            );
        }
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        let bind = mount_options::parse(&mount.options).bind.is_some();
        let Some(source) = mount.source.as_ref().filter(|_| bind) else { continue };
        exists(&bundle.join(source), &format!("mounts[{index}].source"), rules);
    }
    for (index, namespace) in spec.linux.namespaces.iter().enumerate() {
        let Some(path) = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty())
        else {
            continue;
        };
        exists(path, &format!("linux.namespaces[{index}].path"), rules);
    }
    hooks(spec, rules);
    versions(spec, rules)
}

fn has_layers(spec: &Spec) -> bool {
    spec.annotations.keys().any(|name| name.starts_with("run.brig.overlay."))
}

fn exists(path: &Path, place: &str, rules: &mut Rules) {
    if let Err(error) = std::fs::symlink_metadata(path) {
        let errno = sys::Errno::from_raw(error.raw_os_error().unwrap_or_default());
        rules.error("missing-file", place, format!("{}: {}", path.display(), errno.desc()));
    }
}

fn hooks(spec: &Spec, rules: &mut Rules) {
    let Some(hooks) = &spec.hooks else { return };
    let of_host: [(&str, &Option<Vec<Hook>>); 5] = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in of_host {
        for (index, hook) in list.iter().flatten().enumerate() {
            if let Err(errno) = access(hook.path(), AccessFlags::X_OK) {
                let text = format!("{}: {}", hook.path().display(), errno.desc());
                rules.error("missing-file", format_args!("hooks.{name}[{index}].path"), text);
            }
        }
    }
}

/// Limits that this host's cgroup version does not support.
fn versions(spec: &Spec, rules: &mut Rules) -> Result<()> {
    let v2 = hierarchy::detect()?.version == Version::V2;
    let mut general = Rules::default();
    super::rules::check(spec, &mut general);
    for (_, rule, place, _) in general.found {
        match rule {
            "cgroup-v1-only" if v2 => {
                rules.warn(rule, place, "is cgroup v1's, and this host has cgroup v2 alone")
            }
            "cgroup-v2-only" if !v2 => {
                rules.warn(rule, place, "is cgroup v2's, and this host has cgroup v1")
            }
            _ => {}
        }
    }
    Ok(())
}
