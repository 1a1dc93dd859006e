//! `mounts[].destination`: a path in the container.

use super::mounts::{Kind, c_string};
use anyhow::{Result, ensure};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A normalised container path: absolute, without `.`, `..` and double slashes. As in runc, a path that
/// begins with that of the root filesystem, `root`, means the remainder.
pub(super) fn target(path: &Path, root: &[u8]) -> Result<CString> {
    ensure!(!path.as_os_str().is_empty(), "is empty");
    let clean = clean(path.as_os_str().as_bytes());
    ensure!(clean != b"/" && clean != root, "{} is the container's root", path.display());
    c_string(below(&clean, root).unwrap_or(&clean))
}

/// The path of `path` relative to the root filesystem at `root`, if it is strictly below it. Both are
/// normalised. Everything is below `/`, so that does not count.
pub(super) fn below<'a>(path: &'a [u8], root: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(root)?;
    (rest.len() > 1 && rest.starts_with(b"/")).then_some(rest)
}

/// Makes a path absolute and normalised without accessing the filesystem, as runc does.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend_from_slice(&names.join(&b'/'));
    clean
}

/// Files of /proc that lxcfs and similar tools replace.
const REPLACEABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Only a proc filesystem may be mounted on /proc, and nothing inside it: otherwise writes during set-up
/// (labels, profiles) would go to other files (CVE-2019-16884, CVE-2025-52881). Whether the source of a bind
/// mount is a proc filesystem is checked when it is opened.
pub fn check_proc(target: &CStr, kind: &Kind) -> Result<()> {
    let path = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
    if path == Path::new("/proc") {
        let proc = match kind {
            Kind::Filesystem(filesystem) => filesystem.fstype.as_c_str() == c"proc",
            Kind::Bind { .. } | Kind::Remount { .. } => true,
            Kind::Cgroup(_) => false,
        };
        ensure!(proc, "only a proc filesystem can be mounted on /proc");
    } else if path.starts_with("/proc") && !matches!(kind, Kind::Remount { .. }) {
        let replaceable = REPLACEABLE.iter().any(|file| path == Path::new(file));
        ensure!(replaceable, "{} is inside /proc: nothing can be mounted there", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_root_filesystem_is_stripped_by_whole_components() {
        let of = |path: &str, root: &str| target(Path::new(path), root.as_bytes()).ok();
        for (path, root, expected) in [
            ("/b/r/x", "/b/r", c"/x"),
            ("//b/./c/../r//x/y/", "/b/r", c"/x/y"),
            ("b/r/x", "/b/r", c"/x"),
            ("/b/rx", "/b/r", c"/b/rx"),
            ("/b/r/b/r/x", "/b/r", c"/b/r/x"),
            ("/x", "/", c"/x"),
        ] {
            assert_eq!(of(path, root).as_deref(), Some(expected), "{path}");
        }
        for path in ["/", "/b/r", "/b/r/", "b/r/x/.."] {
            assert_eq!(of(path, "/b/r"), None, "{path}");
        }
    }
}
