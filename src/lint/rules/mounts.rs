//! `mounts`, and masked or read-only paths.

use super::Rules;
use crate::plan::destination::clean;
use crate::plan::mount_options::{self, OPTIONS};
use crate::spec::{Mount, Spec};
use crate::suggest;
use oci_spec::runtime::LinuxNamespaceType as Type;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// config-linux.md, Default Filesystems.
const DEFAULTS: [(&str, &str); 4] =
    [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")];

/// Filesystems whose options the kernel documents, with the option names (before `=`).
const DATA: [(&str, &[&str]); 5] = [
    (
        "tmpfs",
        &[
            "gid",
            "huge",
            "inode32",
            "inode64",
            "mode",
            "mpol",
            "nr_blocks",
            "nr_inodes",
            "noswap",
            "size",
            "uid",
        ],
    ),
    ("proc", &["gid", "hidepid", "subset"]),
    ("devpts", &["gid", "max", "mode", "newinstance", "ptmxmode", "uid"]),
    ("mqueue", &[]),
    ("sysfs", &[]),
];

/// Options that contradict each other.
const PAIRS: [(&str, &str); 5] =
    [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec"), ("atime", "noatime")];

pub(super) fn check(spec: &Spec, rules: &mut Rules) {
    let destinations: Vec<_> =
        spec.mounts.iter().map(|mount| clean(mount.destination.as_os_str().as_bytes())).collect();
    for (index, mount) in spec.mounts.iter().enumerate() {
        hidden(index, destinations.get(index..).unwrap_or_default(), rules);
        options(index, mount, rules);
        of_host(index, mount, spec, rules);
    }
    missing(spec, &destinations, rules);
    for (name, paths) in
        [("maskedPaths", &spec.linux.masked_paths), ("readonlyPaths", &spec.linux.readonly_paths)]
    {
        for (index, path) in paths.iter().enumerate() {
            let place = format!("linux.{name}[{index}]");
            if paths.iter().take(index).any(|earlier| earlier == path) {
                rules.note(
                    "duplicate-path",
                    place,
                    format!("{} is in this list before", path.display()),
                );
            } else if name == "readonlyPaths" && spec.linux.masked_paths.contains(path) {
                rules.note("no-effect", place, "is masked, so it can be neither read nor written");
            }
        }
    }
}

/// A later mount on the same destination, or on a parent directory, covers an earlier one.
fn hidden(index: usize, destinations: &[Vec<u8>], rules: &mut Rules) {
    let Some((own, later)) = destinations.split_first() else { return };
    let covers =
        |other: &Vec<u8>| own == other || own.starts_with(&[other.as_slice(), b"/"].concat());
    if let Some((by, path)) = later.iter().enumerate().find(|(_, other)| covers(other)) {
        let path = String::from_utf8_lossy(path);
        let text =
            format!("is hidden by mounts[{}], which is mounted later on {path}", index + 1 + by);
        rules.warn("hidden-mount", format_args!("mounts[{index}].destination"), text);
    }
}

fn options(index: usize, mount: &Mount, rules: &mut Rules) {
    let parsed = mount_options::parse(&mount.options);
    let place = |option: usize| format!("mounts[{index}].options[{option}]");
    for (option, text) in mount.options.iter().enumerate() {
        let opposite = PAIRS.iter().find_map(|(one, other)| match text {
            text if text == one => Some(other),
            text if text == other => Some(one),
            _ => None,
        });
        let later =
            |other: &&&str| mount.options.iter().skip(option + 1).any(|text| text == **other);
        if let Some(other) = opposite.filter(later) {
            let text = format!("is taken back by {other:?} further down");
            rules.warn("contradicting-options", place(option), text);
        } else if mount.options.iter().take(option).any(|earlier| earlier == text) {
            rules.note("duplicate-option", place(option), "is given before");
        }
    }
    if parsed.bind.is_some() {
        return;
    }
    let typ = mount.typ.as_deref().unwrap_or_default();
    let Some((_, known)) = DATA.iter().find(|(name, _)| *name == typ) else { return };
    for (option, text) in &parsed.data {
        let name = text.split('=').next().unwrap_or(text);
        if !known.contains(&name)
            && !["context", "fscontext", "defcontext", "rootcontext"].contains(&name)
        {
            let general = OPTIONS.iter().map(|(name, _)| *name).filter(|_| !text.contains('='));
            let hint = suggest::hint(name, known.iter().copied().chain(general));
            rules.warn(
                "unknown-option",
                place(*option),
                format!("{name:?} is not an option of {typ}{hint}"),
            );
        }
    }
}

/// Filesystems that expose the host, writable.
fn of_host(index: usize, mount: &Mount, spec: &Spec, rules: &mut Rules) {
    let has = |kind: Type| spec.linux.namespaces.iter().any(|namespace| namespace.typ() == kind);
    let read_only = mount_options::parse(&mount.options).all_set() & libc::MOUNT_ATTR_RDONLY != 0;
    let place = || format!("mounts[{index}]");
    match mount.typ.as_deref() {
        Some("cgroup" | "cgroup2") if !read_only && !has(Type::Cgroup) && !has(Type::User) => {
            let text = "without a cgroup namespace the host's cgroups are writable here: add \"ro\" or the namespace";
            rules.warn("host-cgroups-writable", place(), text);
        }
        Some("sysfs") if !read_only && !has(Type::Network) => {
            let text = "without a network namespace this is the host's /sys, writable: add \"ro\"";
            rules.warn("host-sys-writable", place(), text);
        }
        _ => {}
    }
}

fn missing(spec: &Spec, destinations: &[Vec<u8>], rules: &mut Rules) {
    let has = |path: &str| destinations.iter().any(|known| known == path.as_bytes());
    // A bind mounted directory includes mounts below it.
    let bound = |path: &str| {
        let above = |mount: &Mount| Path::new(path).starts_with(&mount.destination);
        spec.mounts
            .iter()
            .any(|mount| above(mount) && mount.options.iter().any(|option| option == "rbind"))
    };
    for (path, typ) in DEFAULTS {
        if !has(path) && !bound(path) {
            let text = format!(
                "no {typ} is mounted on {path}, which programs expect (config-linux.md, Default Filesystems)"
            );
            rules.note("missing-mount", "mounts", text);
        }
    }
    if !has("/proc") && !bound("/proc") {
        let hides = spec
            .linux
            .masked_paths
            .iter()
            .chain(&spec.linux.readonly_paths)
            .any(|path| path.starts_with("/proc"));
        if hides {
            rules.note(
                "no-effect",
                "linux.maskedPaths",
                "has paths in /proc, where nothing is mounted",
            );
        }
    }
}
