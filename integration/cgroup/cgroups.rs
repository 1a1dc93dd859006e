//! `linux.resources` and `linux.cgroupsPath`: effective limits, and creation and removal of cgroups.

use crate::facts::Facts;
use crate::host::{self, Version};
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The default configuration with one section of resources.
pub fn limited(section: &str, limits: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["resources"][section] = limits);
    sandbox
}

/// Skips the test if the host does not have the controller: `let version = controller!("cpu");`.
macro_rules! controller {
    ($name:expr) => {
        match host::controller($name) {
            Some((version, _)) => version,
            None => return skip(concat!("this host has no controller ", $name)),
        }
    };
}

/// The cgroup of a process in the hierarchy of `controller`, as the host sees it.
pub fn cgroup_of(pid: i64, controller: &str) -> PathBuf {
    let (version, mountpoint) = host::controller(controller).unwrap();
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let here = |line: &&str| match (version, line.split(':').nth(1).unwrap()) {
        (Version::V1, names) => names.split(',').any(|name| name == controller),
        (Version::V2, names) => names.is_empty(),
    };
    let line = cgroups.lines().find(here).unwrap();
    mountpoint.join(line.splitn(3, ':').nth(2).unwrap().trim_start_matches('/'))
}

/// A file of the created container's cgroup: the first one that exists (v1, v2).
pub fn setting(sandbox: &Sandbox, controller: &str, v1: &str, v2: &str) -> String {
    let dir = cgroup_of(sandbox.pid(), controller);
    let name = if host::controller(controller).unwrap().0 == Version::V1 { v1 } else { v2 };
    fs::read_to_string(dir.join(name))
        .unwrap_or_else(|error| panic!("{dir:?}/{name}: {error}"))
        .trim()
        .to_string()
}

#[test]
fn a_cpu_quota_of_a_fifth_gives_a_fifth() {
    controller!("cpu");
    let sandbox = limited("cpu", json!({"quota": 20000, "period": 100_000}));
    sandbox.script("say ready ; burn 60").run_with(&["--detach"]).ok().wait_for_line("ready");
    if !gets_percent_of_a_cpu(sandbox.pid(), 5..=27) {
        skip(BUSY);
    }
}

/// The reason to skip a measurement of CPU shares.
pub const BUSY: &str = "this machine is too busy: other processes leave less than the quota";

/// The number with this name in a cgroup's cpu.stat.
pub fn cpu_stat(dir: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(dir.join("cpu.stat")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// The CPU time used by the cgroup in microseconds.
fn used(dir: &Path) -> u64 {
    match fs::read_to_string(dir.join("cpuacct.usage")) {
        Ok(nanoseconds) => nanoseconds.trim().parse::<u64>().unwrap() / 1000,
        Err(_) => cpu_stat(dir, "usage_usec"),
    }
}

/// Checks the CPU share of a process that burns time, per second: one of ten must be in the range. The first,
/// full period can be added, and a machine whose own CPUs are preempted (a busy guest) sometimes ends a
/// period late. False if it cannot be measured: it got less, although its quota was not used up in each
/// period.
#[track_caller]
pub fn gets_percent_of_a_cpu(pid: i64, range: RangeInclusive<u64>) -> bool {
    let version = host::controller("cpu").unwrap().0;
    let dir = cgroup_of(pid, "cpu");
    let accounting = if version == Version::V1 { cgroup_of(pid, "cpuacct") } else { dir.clone() };
    let count =
        || (used(&accounting), cpu_stat(&dir, "nr_periods"), cpu_stat(&dir, "nr_throttled"));
    let (mut measured, mut held_back) = (Vec::new(), true);
    for _ in 0..10 {
        let (before, start) = (count(), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let after = count();
        let percent =
            (after.0 - before.0) * 100 / u64::try_from(start.elapsed().as_micros()).unwrap();
        if range.contains(&percent) {
            return true;
        }
        let (periods, throttled) = (after.1 - before.1, after.2 - before.2);
        held_back &= percent > *range.end() || throttled * 10 >= periods * 9;
        measured.push((percent, periods, throttled));
    }
    assert!(!held_back, "(percent, periods, throttled): {measured:?}");
    false
}

#[test]
fn cpu_shares_are_set() {
    controller!("cpu");
    let sandbox = limited("cpu", json!({"shares": 512}));
    sandbox.create();
    let weight = setting(&sandbox, "cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "59"].contains(&weight.as_str()), "{weight}");
}

#[test]
fn what_takes_more_memory_than_its_limit_is_killed() {
    controller!("memory");
    let sandbox = limited("memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    let done = sandbox.script(&format!("hog {} ; say survived", 24 << 20)).run();
    assert_eq!(done.code, Some(128 + 9), "{done:?}");
    assert!(!done.stdout.contains("survived"));
    let facts = sandbox.facts(&format!("hog {}", 4 << 20));
    assert_eq!(facts.number("hog", 0), 4 << 20);
    sandbox.assert_nothing_left();
}

#[test]
fn memory_limits_are_set_before_the_container_is_created() {
    controller!("memory");
    let sandbox = limited("memory", json!({"limit": 64 << 20, "reservation": 32 << 20}));
    sandbox.create();
    assert_eq!(
        setting(&sandbox, "memory", "memory.limit_in_bytes", "memory.max"),
        (64 << 20).to_string()
    );
    assert_eq!(
        setting(&sandbox, "memory", "memory.soft_limit_in_bytes", "memory.low"),
        (32 << 20).to_string()
    );
}

#[test]
fn a_container_starts_within_one_mebibyte() {
    brig_only!();
    controller!("memory");
    let sandbox = limited("memory", json!({"limit": 1 << 20}));
    assert_eq!(sandbox.script("say small").run().ok().stdout, "small\n");
}

#[test]
fn a_limit_too_small_for_anything_is_told_as_such() {
    brig_only!();
    controller!("memory");
    let sandbox = limited("memory", json!({"limit": 4096, "swap": 4096}));
    let message = sandbox.create_with(&[]).fails();
    assert!(message.contains("memory"), "{message}");
    sandbox.assert_nothing_left();
}

#[test]
fn processes_stop_at_their_limit() {
    controller!("pids");
    let facts = limited("pids", json!({"limit": 8})).facts("forks 20");
    assert_eq!(facts.get("forks"), "7 EAGAIN");
}

#[test]
fn no_limit_of_processes_is_not_a_limit_of_none() {
    controller!("pids");
    brig_only!();
    for limits in [json!({}), json!({"limit": -1}), json!(null)] {
        assert_eq!(limited("pids", limits).facts("forks 5").get("forks"), "5 ok");
    }
}

/// As in runc: an explicit 0 means unlimited memory, and systemd's minimum for pids.
#[test]
fn no_tasks_are_one_and_no_bytes_are_no_limit() {
    controller!("pids");
    controller!("memory");
    let zeros = json!({"limit": 0, "swap": 0, "reservation": 0});
    let sandbox = limited("memory", zeros);
    sandbox.script("sleep 60").create();
    let unlimited = setting(&sandbox, "memory", "memory.limit_in_bytes", "memory.max");
    assert!(["max", "9223372036854771712"].contains(&&*unlimited), "{unlimited}");
    brig_only!();
    let sandbox = limited("pids", json!({"limit": 0}));
    assert_eq!(sandbox.facts("forks 5").get("forks"), "0 EAGAIN");
    sandbox.script("sleep 60").create();
    assert_eq!(setting(&sandbox, "pids", "pids.max", "pids.max"), "1");
}

#[test]
fn the_cpuset_is_what_the_container_runs_on() {
    controller!("cpuset");
    let sandbox = limited("cpu", json!({"cpus": "0", "mems": "0"}));
    assert_eq!(sandbox.facts("affinity").get("affinity"), "0");
    sandbox.script("sleep 60").create();
    assert_eq!(setting(&sandbox, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(setting(&sandbox, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    // The kernel's list format, which runc and crun accept.
    for list in ["0, 0", " 0", "0\n"] {
        let sandbox = limited("cpu", json!({"cpus": list, "mems": list}));
        sandbox.script("sleep 60").create();
        assert_eq!(setting(&sandbox, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0", "{list:?}");
    }
}

/// The cgroup paths of a created container, one per hierarchy.
fn paths(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    text.lines().map(|line| line.splitn(3, ':').nth(2).unwrap().to_string()).collect()
}

#[test]
fn an_absolute_path_is_the_cgroup_in_every_hierarchy() {
    let sandbox = Sandbox::new();
    let path = format!("/{}-absolute", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.create();
    if crate::sandbox::is_peer() {
        assert!(paths(&sandbox).contains(&path));
    } else {
        assert!(paths(&sandbox).iter().all(|have| *have == path), "{:?}", paths(&sandbox));
    }
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_path_of_several_parts_is_made_and_removed() {
    brig_only!();
    let sandbox = Sandbox::new();
    let path = format!("/{0}-a/{0}-b/{0}-c", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.create();
    assert!(paths(&sandbox).iter().all(|have| *have == path), "{:?}", paths(&sandbox));
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_relative_path_and_none_are_below_the_callers_cgroup() {
    for relative in [None, Some("relative")] {
        let sandbox = Sandbox::new();
        let name = format!("{}-{}", sandbox.id, relative.unwrap_or_default());
        if relative.is_some() {
            sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(name));
        }
        sandbox.create();
        let last = if relative.is_some() { &name } else { &sandbox.id };
        let found = paths(&sandbox);
        let ends = found.iter().filter(|path| path.ends_with(&format!("/{last}"))).count();
        assert!(ends == found.len() || crate::sandbox::is_peer() && ends > 0, "{found:?}");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_path_that_climbs_does_not_leave_the_hierarchy() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/../../../{}-climbing", sandbox.id))
    });
    let done = sandbox.create_with(&[]);
    if done.code == Some(0) {
        assert!(paths(&sandbox).iter().all(|path| !path.contains("..")), "{:?}", paths(&sandbox));
        sandbox.delete();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn two_containers_do_not_share_a_cgroup_by_accident() {
    brig_only!();
    let (one, two) = (Sandbox::new(), Sandbox::new());
    for sandbox in [&one, &two] {
        sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", one.id)));
        sandbox.script("sleep 60");
    }
    one.create();
    two.create_with(&[]).fails_with("not empty");
    assert_eq!(one.status(), "created");
    two.assert_nothing_left();
    one.delete();
    one.assert_nothing_left();
}

#[test]
fn a_cgroup_that_was_there_before_stays() {
    let Some((_, mountpoint)) = host::controller("memory") else {
        return skip("this host has no controller memory");
    };
    let sandbox = Sandbox::new();
    let above = mountpoint.join(format!("{}-above", sandbox.id));
    fs::create_dir(&above).unwrap();
    sandbox.patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{0}-above/{0}-own", sandbox.id))
    });
    sandbox.create();
    assert!(above.join(format!("{}-own", sandbox.id)).exists());
    sandbox.delete();
    let stayed = above.exists() && !above.join(format!("{}-own", sandbox.id)).exists();
    fs::remove_dir(&above).unwrap();
    assert!(stayed);
    if crate::sandbox::is_peer() {
        host::clean_up(&sandbox.id);
    }
}

#[test]
fn the_container_is_in_its_cgroup_from_the_beginning_in_every_hierarchy() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    sandbox.create();
    for (controllers, mountpoint) in host::hierarchies() {
        let dir = mountpoint.join(&sandbox.id);
        let pids = fs::read_to_string(dir.join("cgroup.procs"))
            .unwrap_or_else(|e| panic!("{controllers:?}: {e}"));
        assert_eq!(pids.trim(), sandbox.pid().to_string(), "{controllers:?}");
    }
}

#[test]
fn orphans_are_killed_with_their_container() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "pid");
    });
    let done = sandbox.script("orphans 3 ; say ready").run_with(&["--detach"]).ok();
    done.wait_for_line("ready");
    sandbox.wait_for_status("stopped");
    assert_eq!(host::processes_of(&sandbox.id).len(), 3);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_limit_that_cannot_be_set_is_an_error_and_leaves_nothing() {
    brig_only!();
    for (controller, section, limits, place) in [
        ("cpu", "cpu", json!({"quota": 1, "period": 100_000}), "linux.resources.cpu.quota"),
        ("cpu", "cpu", json!({"quota": 20000, "period": 1}), "linux.resources.cpu.period"),
        ("cpuset", "cpu", json!({"cpus": "4000"}), "linux.resources.cpu.cpus"),
        ("cpuset", "cpu", json!({"cpus": "zero"}), "linux.resources.cpu.cpus"),
        ("cpuset", "cpu", json!({"mems": "77"}), "linux.resources.cpu.mems"),
        (
            "memory",
            "memory",
            json!({"limit": 1 << 20, "swap": 1 << 19}),
            "linux.resources.memory.swap",
        ),
    ] {
        if host::controller(controller).is_none() {
            continue;
        }
        let sandbox = limited(section, limits);
        sandbox.create_with(&[]).fails_with(place);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn v2_files_are_refused_where_there_is_no_v2() {
    brig_only!();
    if controller!("memory") != Version::V1 {
        return skip("this host has cgroup v2");
    }
    let sandbox = limited("unified", json!({"memory.high": "10000000"}));
    sandbox.create_with(&[]).fails_with("linux.resources.unified");
    sandbox.assert_nothing_left();
}

#[test]
fn deleting_twenty_containers_leaves_no_cgroup() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let ids: Vec<String> = (0..20).map(|number| format!("{}-{number}", sandbox.id)).collect();
    for id in &ids {
        sandbox.brig(&["create", "--bundle", bundle.to_str().unwrap(), id]).ok();
    }
    let listed = sandbox.brig(&["list", "-q"]).ok().stdout;
    assert_eq!(listed.lines().count(), 20);
    for id in &ids {
        sandbox.brig(&["delete", "--force", id]).ok();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_cgroup_that_is_joined_takes_larger_and_smaller_limits() {
    brig_only!();
    let Some((Version::V1, mountpoint)) = host::controller("memory") else {
        return skip("this host has no v1 controller memory");
    };
    for (limit, swap) in [(64, 96), (16, 24), (8, 64), (256, 256)] {
        let sandbox = limited("memory", json!({"limit": limit << 20, "swap": swap << 20}));
        sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
        let dir = mountpoint.join(&sandbox.id);
        fs::create_dir(&dir).unwrap();
        for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] {
            fs::write(dir.join(file), (32 << 20).to_string()).unwrap();
        }
        sandbox.create();
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap().trim().to_owned();
        let now = [read("memory.limit_in_bytes"), read("memory.memsw.limit_in_bytes")];
        assert_eq!(now, [(limit << 20).to_string(), (swap << 20).to_string()]);
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        fs::remove_dir(&dir).unwrap();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn the_container_sees_its_limit() {
    if controller!("memory") != Version::V1 {
        return skip("the file is cgroup v1's");
    }
    let sandbox = limited("memory", json!({"limit": 32 << 20}));
    let facts: Facts = sandbox.facts("read /sys/fs/cgroup/memory/memory.limit_in_bytes");
    assert_eq!(
        facts.get("read /sys/fs/cgroup/memory/memory.limit_in_bytes"),
        format!("{:?}", format!("{}\n", 32 << 20))
    );
}

/// Hides all cgroup mounts of the host from a command except these.
pub fn seeing(command: &mut Command, seen: impl Fn(&[String]) -> bool) {
    let hidden = host::hierarchies().into_iter().filter(|(controllers, _)| !seen(controllers));
    let hidden: Vec<PathBuf> = hidden.map(|(_, path)| path).collect();
    before_exec(command, move || {
        // In this command's own copy of the mounts, which is private.
        unshare(CloneFlags::CLONE_NEWNS)?;
        Ok(hidden.iter().try_for_each(|path| umount2(path, MntFlags::MNT_DETACH))?)
    });
}
