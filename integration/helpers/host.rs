//! The host's view of a container, and leftovers.

use crate::facts::Mount;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// From here on, mounts of this process are private.
pub fn enter_private_mount_namespace() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .unwrap();
}

/// Whether tests may run in this process: root, in a mount namespace of its own.
pub fn is_private() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("these tests need root: make integration".into());
    }
    let same = fs::read_link("/proc/self/ns/mnt").ok() == fs::read_link("/proc/1/ns/mnt").ok();
    let shared =
        mounts().iter().any(|mount| mount.propagation.iter().any(|tag| tag.starts_with("shared:")));
    match same || shared {
        true => {
            Err("not in a private mount namespace: unshare -m --propagation private cargo test …"
                .into())
        }
        false => Ok(()),
    }
}

/// The mounts that this process sees.
pub fn mounts() -> Vec<Mount> {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter_map(Mount::parse).collect()
}

/// The mounted cgroup hierarchies: controllers (e.g. `memory` or `name=systemd`, empty for v2) and path.
pub fn hierarchies() -> Vec<(Vec<String>, PathBuf)> {
    let cgroup = |mount: &Mount| mount.fstype == "cgroup" || mount.fstype == "cgroup2";
    let controllers = |mount: &Mount| match mount.fstype.as_str() {
        "cgroup" => mount.data.iter().filter(|option| *option != "rw").cloned().collect(),
        _ => Vec::new(),
    };
    mounts()
        .into_iter()
        .filter(cgroup)
        .map(|mount| (controllers(&mount), PathBuf::from(&mount.target)))
        .collect()
}

/// The version and mount point of `controller`; None if the host does not have it.
pub fn controller(controller: &str) -> Option<(Version, PathBuf)> {
    for (controllers, path) in hierarchies() {
        if controllers.iter().any(|name| name == controller) {
            return Some((Version::V1, path));
        }
        let v2 = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
        if controllers.is_empty() && v2.split_whitespace().any(|name| name == controller) {
            return Some((Version::V2, path));
        }
    }
    None
}

/// The cgroup version of a controller on this host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Version {
    /// v1: a hierarchy of its own.
    V1,
    /// v2: the unified hierarchy.
    V2,
}

/// Every cgroup whose path contains `part`, deepest first.
pub fn cgroups_with(part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = hierarchies().into_iter().map(|(_, path)| path).collect();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
                if entry.path().to_string_lossy().contains(part) {
                    found.push(entry.path());
                }
            }
        }
    }
    found.reverse();
    found
}

/// Whether this security module is enabled.
pub fn has_lsm(name: &str) -> bool {
    match name {
        "apparmor" => fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.trim() == "Y"),
        name => Path::new("/sys/fs").join(name).join("enforce").exists(),
    }
}

/// Live processes of a container: brig and its descendants have `BRIG_TEST=id` in their environment, or the
/// id on their command line. (A zombie has neither any more.)
pub fn processes_of(id: &str) -> Vec<Pid> {
    let marker = format!("BRIG_TEST={id}");
    let has = |pid: &Pid, file: &str, word: &str| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.split(|&byte| byte == 0).any(|have| have == word.as_bytes())
    };
    processes().filter(|pid| has(pid, "environ", &marker) || has(pid, "cmdline", id)).collect()
}

/// Every process of the host.
pub fn processes() -> impl Iterator<Item = Pid> {
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw);
    fs::read_dir("/proc").unwrap().flatten().filter_map(pid)
}

/// The open descriptors of a process; empty if it has exited.
pub fn descriptors_of(pid: i64) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = |entry: fs::DirEntry| {
        Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?))
    };
    entries.filter_map(open).collect()
}

/// A field of /proc/PID/status; None if the process has exited.
pub fn status_of(pid: i64, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_string())
}

/// Waits until the process is blocked: it sleeps at each of ten looks, so it does nothing more by itself.
#[track_caller]
pub fn wait_until_asleep(pid: i64) {
    let mut looks = 0;
    let asleep = wait_until(Duration::from_secs(20), || {
        let state = status_of(pid, "State").unwrap_or_else(|| panic!("process {pid} is gone"));
        looks = if state.starts_with(['S', 'D']) { looks + 1 } else { 0 };
        looks == 10
    });
    assert!(asleep, "process {pid} does not come to rest");
}

/// What is left of a container named `id` with files in `dir`.
pub fn leftovers(id: &str, dir: &Path, state: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        left.push(format!("state {}", entry.path().display()));
    }
    left.extend(cgroups_with(id).iter().map(|path| format!("cgroup {}", path.display())));
    for pid in processes_of(id) {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        left.push(format!("process {pid} {}", cmdline.replace('\0', " ")));
    }
    let dir = dir.to_str().unwrap();
    left.extend(
        mounts()
            .iter()
            .filter(|m| m.target.starts_with(dir))
            .map(|m| format!("mount {}", m.target)),
    );
    left
}

/// Removes what [`leftovers`] has found, so that a failing test does not affect others.
pub fn clean_up(id: &str) {
    for pid in processes_of(id) {
        // It may have exited by now.
        _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    }
    _ = wait_briefly(Duration::from_secs(5), || processes_of(id).is_empty());
    for cgroup in cgroups_with(id) {
        let thaw = cgroup.join("freezer.state");
        if thaw.exists() {
            _ = fs::write(thaw, "THAWED");
        }
        _ = wait_briefly(Duration::from_secs(5), || fs::remove_dir(&cgroup).is_ok());
    }
}

/// Held for reading by tests that need user namespaces of unprivileged users, and for writing by those that
/// disable them.
static NAMESPACES: RwLock<()> = RwLock::new(());

/// While this is held, unprivileged users can create user namespaces.
pub fn unprivileged_namespaces() -> RwLockReadGuard<'static, ()> {
    NAMESPACES.read().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held, no other test needs user namespaces of unprivileged users.
pub fn no_unprivileged_namespaces() -> RwLockWriteGuard<'static, ()> {
    NAMESPACES.write().unwrap_or_else(PoisonError::into_inner)
}

/// A deadline on this machine: multiplied by `BRIG_TEST_SLOWNESS`.
pub fn patient(limit: Duration) -> Duration {
    limit * std::env::var("BRIG_TEST_SLOWNESS").map_or(1, |times| times.parse().unwrap())
}

/// Polls a condition every few milliseconds; false if it did not become true in time. That is a failure, which
/// may take its time: no limit is below 30 s, because a loaded machine can take many seconds for anything.
#[must_use]
pub fn wait_until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    wait_briefly(limit.max(Duration::from_secs(30)), condition)
}

/// The same with a limit as given, for a condition that may well stay false.
#[must_use]
pub fn wait_briefly(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let (start, limit) = (Instant::now(), patient(limit));
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
