//! Checks around all tests: files that must not be touched are unchanged at the end, and no test has left
//! anything. If this fails, the run fails, whatever the results of the tests.

use crate::host;
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Files of the host that no test may change.
const OF_THE_HOST: [&str; 17] = [
    "/etc/group",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.preload",
    "/etc/passwd",
    "/etc/shadow",
    "/dev/console",
    "/dev/full",
    "/dev/null",
    "/dev/ptmx",
    "/dev/random",
    "/dev/tty",
    "/dev/zero",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/modprobe",
];

/// The state at the beginning.
struct Guard {
    /// The description of each watched file.
    before: BTreeMap<PathBuf, String>,
    /// Directories created to be watched.
    sentinels: Vec<PathBuf>,
}

static GUARD: OnceLock<Guard> = OnceLock::new();

/// The part of the ids that all containers of this run share.
fn mark() -> String {
    format!("bt{}-", std::process::id())
}

/// The directory for bundles and states.
pub fn test_dir() -> PathBuf {
    let dir = std::env::var_os("BRIG_TEST_DIR");
    dir.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// Records the state before the first test.
pub fn begin() {
    let mut sentinels = Vec::new();
    for place in [&test_dir(), Path::new("/tmp"), Path::new("/run")] {
        let dir = place.join(format!("brig-guard-{}", std::process::id()));
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(dir.join("empty"))?;
            fs::write(dir.join("file"), "nobody's to change")
        };
        // Some guests have no /run.
        if make().is_ok() {
            sentinels.push(dir);
        }
    }
    let guard = Guard { before: watched(&sentinels), sentinels };
    // Called once.
    _ = GUARD.set(guard);
}

/// What has changed and what is left; empty if all is well.
pub fn end() -> Vec<String> {
    let Some(guard) = GUARD.get() else { return Vec::new() };
    let now = watched(&guard.sentinels);
    let mut found = Vec::new();
    for (path, before) in &guard.before {
        let now = now.get(path).map_or("gone", String::as_str);
        if now != before {
            found.push(format!("{} was {before} and is {now}", path.display()));
        }
    }
    for dir in &guard.sentinels {
        // Unexpected contents have been reported, and stay for inspection.
        _ = fs::remove_dir(dir.join("empty"));
        _ = fs::remove_file(dir.join("file"));
        _ = fs::remove_dir(dir);
    }
    found.extend(left());
    found
}

fn watched(sentinels: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> = OF_THE_HOST.iter().map(PathBuf::from).collect();
    paths.push(crate::sandbox::runtime());
    for dir in sentinels {
        paths.extend([dir.clone(), dir.join("empty"), dir.join("file")]);
    }
    paths.into_iter().map(|path| (path.clone(), looks(&path))).collect()
}

/// Everything about a file that an attacker might change.
fn looks(path: &Path) -> String {
    let Ok(found) = fs::symlink_metadata(path) else { return "not there".into() };
    let mut hasher = DefaultHasher::new();
    if found.is_file() {
        fs::read(path).unwrap_or_default().hash(&mut hasher);
    } else if found.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names.hash(&mut hasher);
    }
    // The kernel assigns new inode numbers to parameters after it has dropped them from memory.
    let inode = if path.starts_with("/proc") { 0 } else { found.ino() };
    format!(
        "inode {inode} mode {:o} of {}:{} device {:x} content {:x}",
        found.mode(),
        found.uid(),
        found.gid(),
        found.rdev(),
        hasher.finish()
    )
}

/// Mounts, cgroups, processes, and states left by this run.
fn left() -> Vec<String> {
    let mark = mark();
    let processes = || {
        let ours = |pid: &nix::unistd::Pid| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let start = format!("BRIG_TEST={mark}");
            variables.split(|&byte| byte == 0).any(|have| have.starts_with(start.as_bytes()))
        };
        host::processes().filter(ours).map(|pid| format!("process {pid}")).collect::<Vec<_>>()
    };
    // The last one may be exiting.
    _ = host::wait_until(Duration::from_secs(5), || processes().is_empty());
    let mut left = processes();
    left.extend(host::cgroups_with(&mark).iter().map(|path| format!("cgroup {}", path.display())));
    for namespace in ["1", "self"] {
        let mounts = fs::read_to_string(format!("/proc/{namespace}/mountinfo")).unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&mark)).map(str::to_string));
    }
    let dirs = fs::read_dir(test_dir()).into_iter().flatten().flatten();
    let dirs = dirs.filter(|dir| dir.file_name().to_string_lossy().contains(&mark));
    left.extend(dirs.map(|dir| format!("directory {}", dir.path().display())));
    left
}
