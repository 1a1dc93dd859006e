//! cgroup v2 with all controllers. Skipped if they are on v1; the guest of `make test-vm` has cgroup v2.

use crate::cgroups::{BUSY, cpu_stat, gets_percent_of_a_cpu};
use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Skips the test if cgroup2 does not have the controller: `let mountpoint = unified!("io");`.
macro_rules! unified {
    ($controller:expr) => {
        match $crate::host::controller($controller) {
            Some(($crate::host::Version::V2, mountpoint)) => mountpoint,
            _ => {
                return $crate::sandbox::skip(concat!(
                    "this host has no ",
                    $controller,
                    " on cgroup v2"
                ))
            }
        }
    };
}

pub(crate) use unified;

/// The default configuration with more resources than its devices.
pub fn limited(resources: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let Value::Object(more) = resources else { panic!("{resources} are no resources") };
        config["linux"]["resources"].as_object_mut().unwrap().extend(more);
    });
    sandbox
}

/// The container's cgroup on the host.
pub fn cgroup(sandbox: &Sandbox, mountpoint: &Path) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    mountpoint.join(path)
}

pub fn read(dir: &Path, file: &str) -> String {
    let text = fs::read_to_string(dir.join(file));
    text.unwrap_or_else(|error| panic!("{dir:?}/{file}: {error}")).trim().to_string()
}

/// Without `ro`, the container can create cgroups below its own.
fn writable(sandbox: &Sandbox) {
    sandbox.patch(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"].as_array_mut().unwrap().retain(|option| option != "ro");
            }
        }
    });
}

fn without_cgroup_namespace(sandbox: &Sandbox) {
    sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    });
}

fn with_user_namespace(sandbox: &Sandbox) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    sandbox.patch(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
}

#[test]
fn every_limit_is_in_its_file() {
    brig_only!();
    let mountpoint = unified!("memory");
    unified!("hugetlb");
    let sandbox = limited(json!({
        "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
        "cpu": {"shares": 2048, "quota": 50000, "period": 100_000, "burst": 10000,
                "cpus": "0", "mems": "0"},
        "pids": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
        "blockIO": {"weight": 500},
        "unified": {"memory.high": "50331648", "memory.oom.group": "1",
                    "cgroup.max.descendants": "7"},
    }));
    sandbox.create();
    let dir = cgroup(&sandbox, &mountpoint);
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "174"),
        ("cpu.max", "50000 100000"),
        ("cpu.max.burst", "10000"),
        ("cpuset.cpus", "0"),
        ("cpuset.cpus.effective", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "100"),
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("io.weight", "default 4950"),
        ("cgroup.max.descendants", "7"),
    ] {
        assert_eq!(read(&dir, file), value, "{file}");
    }
}

#[test]
fn unlimited_is_max_and_idle_is_idle() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = limited(json!({
        "memory": {"limit": -1, "swap": -1}, "cpu": {"quota": -1, "idle": 1}, "pids": {"limit": -1},
    }));
    sandbox.create();
    let dir = cgroup(&sandbox, &mountpoint);
    for file in ["memory.max", "memory.swap.max", "pids.max"] {
        assert_eq!(read(&dir, file), "max", "{file}");
    }
    assert_eq!(read(&dir, "cpu.max"), "max 100000");
    assert_eq!(read(&dir, "cpu.idle"), "1");
}

#[test]
fn what_only_v1_has_is_refused_by_name() {
    brig_only!();
    unified!("memory");
    for (section, limits, place) in [
        ("memory", json!({"swappiness": 10}), "linux.resources.memory.swappiness"),
        ("memory", json!({"kernel": 1 << 20}), "linux.resources.memory.kernel"),
        ("memory", json!({"disableOOMKiller": true}), "linux.resources.memory.disableOOMKiller"),
        ("memory", json!({"swap": 1 << 20}), "linux.resources.memory.swap"),
        ("cpu", json!({"realtimeRuntime": 1000}), "linux.resources.cpu.realtimeRuntime"),
        ("network", json!({"classID": 1}), "linux.resources.network.classID"),
        ("unified", json!({"no.such": "1"}), "linux.resources.unified[\"no.such\"]"),
        ("unified", json!({"memory.such": "1"}), "linux.resources.unified[\"memory.such\"]"),
    ] {
        let sandbox = limited(json!({section: limits}));
        sandbox.create_with(&[]).fails_with(place);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_cpu_quota_of_a_half_gives_a_half() {
    unified!("cpu");
    let sandbox = limited(json!({"cpu": {"quota": 50000, "period": 100_000}}));
    sandbox.script("say ready ; burn 60").run_with(&["--detach"]).ok().wait_for_line("ready");
    if !gets_percent_of_a_cpu(sandbox.pid(), 20..=58) {
        skip(BUSY);
    }
}

#[test]
fn of_two_on_one_cpu_the_heavier_gets_more() {
    let mountpoint = unified!("cpu");
    // Concurrently: alone, each would get everything.
    let burning = |shares: u64| {
        let sandbox = limited(json!({"cpu": {"shares": shares, "cpus": "0"}}));
        sandbox.script("say ready ; burn 60").run_with(&["--detach"]).ok().wait_for_line("ready");
        sandbox
    };
    // The light one first: beside the other it would not begin for long. For the same reason it ends last.
    let light = burning(2);
    let heavy = burning(262_144);
    let used = || [&light, &heavy].map(|one| cpu_stat(&cgroup(one, &mountpoint), "usage_usec"));
    let before = used();
    std::thread::sleep(Duration::from_secs(3));
    let after = used();
    let [light_used, heavy_used] = [0, 1].map(|one| after[one] - before[one]);
    assert!(heavy_used > 3 * light_used, "{heavy_used} us and {light_used} us");
}

#[test]
fn swap_is_used_as_far_as_it_is_allowed() {
    unified!("memory");
    if fs::read_to_string("/proc/swaps").unwrap().lines().count() < 2 {
        return skip("this host has no swap");
    }
    let memory = |swap: u64| limited(json!({"memory": {"limit": 16 << 20, "swap": swap}}));
    let script = format!("hog {}", 24 << 20);
    assert_eq!(memory(48 << 20).facts(&script).number("hog", 0), 24 << 20);
    assert_eq!(memory(20 << 20).script(&script).run().code, Some(128 + 9));
}

#[test]
fn an_oom_kill_is_counted_in_the_containers_cgroup() {
    let mountpoint = unified!("memory");
    let sandbox = limited(json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    let done = sandbox.script(&format!("hog {}", 24 << 20)).run_with(&["--keep"]);
    assert_eq!(done.code, Some(128 + 9), "{done:?}");
    let events = read(&mountpoint.join(&sandbox.id), "memory.events");
    assert!(events.lines().any(|line| line == "oom_kill 1"), "{events}");
}

#[test]
fn reading_a_disk_is_throttled() {
    let mountpoint = unified!("io");
    let Some(disk) = std::env::var_os("BRIG_TEST_DISK").map(PathBuf::from) else {
        return skip("BRIG_TEST_DISK names no disk to read from");
    };
    use std::os::unix::fs::MetadataExt;
    let number = fs::metadata(&disk).unwrap().rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let rate = json!([{"major": major, "minor": minor, "rate": 1 << 20}]);
    let sandbox = limited(json!({
        "blockIO": {"throttleReadBpsDevice": rate},
        "devices": [{"allow": true, "type": "b", "major": major, "minor": minor, "access": "rm"}],
    }));
    let script = format!("mknod /tmp/disk b {major} {minor} ; take /tmp/disk {}", 4 << 20);
    let facts = sandbox.script(&script).create_with(&[]).ok();
    let limit = read(&cgroup(&sandbox, &mountpoint), "io.max");
    assert_eq!(limit, format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"));
    sandbox.start();
    assert!(host::wait_until(Duration::from_secs(60), || sandbox.status() == "stopped"));
    let facts = Facts::parse(&fs::read_to_string(facts.stdout_path).unwrap());
    assert_eq!(facts.number("take /tmp/disk", 0), 4 << 20, "{facts}");
    let took = facts.number("take /tmp/disk", 2);
    assert!((2500..20_000).contains(&took), "{facts}");
}

#[test]
fn a_device_is_opened_as_far_as_its_rule_goes() {
    unified!("memory");
    // /dev/kmsg's number as a block device is a ramdisk: the type counts, too.
    for (rules, opened) in [
        (json!([]), ["EPERM", "EPERM"]),
        (json!([{"allow": true, "type": "b", "major": 1, "access": "rw"}]), ["EPERM", "EPERM"]),
        (
            json!([{"allow": true, "type": "c", "major": 1, "minor": 4, "access": "rw"}]),
            ["EPERM"; 2],
        ),
        (
            json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}]),
            ["EPERM", "ok"],
        ),
        (json!([{"allow": true, "access": "rwm"}]), ["ok", "ok"]),
        (
            json!([{"allow": true, "type": "c", "major": 1, "access": "rwm"},
                   {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
            ["EPERM", "ok"],
        ),
    ] {
        let sandbox = limited(json!({"devices": rules}));
        sandbox.patch(|config| {
            for set in ["bounding", "effective", "permitted"] {
                let set = &mut config["process"]["capabilities"][set];
                set.as_array_mut().unwrap().push(json!("CAP_SYSLOG"));
            }
        });
        let facts = sandbox.facts("mknod /tmp/kmsg c 1 11 ; open /tmp/kmsg r ; open /tmp/kmsg w");
        assert_eq!(facts.all("open /tmp/kmsg"), opened, "{rules}");
        fs::remove_file(sandbox.rootfs().join("tmp/kmsg")).unwrap();
    }
}

#[test]
fn a_cgroup_that_was_there_before_gets_its_device_rules_anew() {
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let dir = mountpoint.join(format!("{}-joined", sandbox.id));
    fs::create_dir(&dir).unwrap();
    let mut told = Vec::new();
    for rules in [json!([{"allow": true, "access": "rwm"}]), json!([])] {
        sandbox.patch(|config| {
            config["linux"]["cgroupsPath"] = json!(format!("/{}-joined", sandbox.id));
            config["linux"]["resources"]["devices"] = rules;
        });
        let facts = sandbox.facts("mknod /tmp/kmsg c 1 11 ; open /tmp/kmsg w");
        told.push(facts.get("open /tmp/kmsg").to_string());
        assert!(dir.exists());
        fs::remove_file(sandbox.rootfs().join("tmp/kmsg")).unwrap();
    }
    fs::remove_dir(&dir).unwrap();
    assert_eq!(told, ["ok", "EPERM"]);
}

#[test]
fn a_cgroup_that_takes_no_process_is_told_as_such() {
    brig_only!();
    let mountpoint = unified!("pids");
    let sandbox = Sandbox::new();
    let dir = mountpoint.join(format!("{}-joined", sandbox.id));
    fs::create_dir(&dir).unwrap();
    fs::write(mountpoint.join("cgroup.subtree_control"), "+memory").unwrap();
    fs::write(dir.join("cgroup.subtree_control"), "+memory").unwrap();
    sandbox.patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{}-joined", sandbox.id));
        config["linux"]["resources"] = json!({});
    });
    sandbox.create_with(&[]).fails_with("controllers are enabled for the cgroups below");
    fs::remove_dir(&dir).unwrap();
}

#[test]
fn the_container_sees_its_own_cgroup_as_the_root() {
    unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    let facts = sandbox.facts("cgroups ; read /sys/fs/cgroup/pids.max ; mkdir /sys/fs/cgroup/x");
    assert_eq!(facts.get("cgroup"), "0::/");
    assert_eq!(facts.get("read /sys/fs/cgroup/pids.max"), "\"9\\n\"");
    assert_eq!(facts.get("mkdir /sys/fs/cgroup/x"), "EROFS");
    writable(&sandbox);
    let facts =
        sandbox.facts("mkdir /sys/fs/cgroup/x ; write /sys/fs/cgroup/pids.max max ; forks 20");
    assert_eq!(facts.get("mkdir /sys/fs/cgroup/x"), "ok");
    // With nsdelegate, the owner of a cgroup namespace may distribute its resources, but not raise its
    // limits.
    let nsdelegate = host::mounts().iter().any(|mount| mount.has("nsdelegate"));
    if nsdelegate {
        assert_eq!(facts.get("write /sys/fs/cgroup/pids.max"), "EPERM");
        assert_eq!(facts.get("forks"), "8 EAGAIN");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_cgroup_namespace_the_hosts_paths_lead_to_the_containers_cgroup() {
    unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    let path = format!("/{}", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    without_cgroup_namespace(&sandbox);
    let file = format!("/sys/fs/cgroup{path}/pids.max");
    let facts = sandbox.facts(&format!("cgroups ; read {file} ; write {file} max"));
    assert_eq!(facts.get("cgroup"), format!("0::{path}"));
    assert_eq!(facts.get(&format!("read {file}")), "\"9\\n\"");
    assert_eq!(facts.get(&format!("write {file}")), "EROFS");
}

#[test]
fn a_user_namespace_has_its_limits_and_its_cgroup_mount() {
    unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    with_user_namespace(&sandbox);
    let facts = sandbox.facts("cgroups ; read /sys/fs/cgroup/pids.max ; forks 20");
    assert_eq!(facts.get("cgroup"), "0::/");
    assert_eq!(facts.get("read /sys/fs/cgroup/pids.max"), "\"9\\n\"");
    assert_eq!(facts.get("forks"), "8 EAGAIN");
    writable(&sandbox);
    let facts = sandbox.facts("write /sys/fs/cgroup/pids.max max");
    assert!(["EPERM", "EACCES"].contains(&facts.get("write /sys/fs/cgroup/pids.max")), "{facts}");
    sandbox.assert_nothing_left();
}

#[test]
fn a_user_namespace_without_a_cgroup_namespace_sees_the_hosts_paths_too() {
    unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    let path = format!("/{}", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    with_user_namespace(&sandbox);
    without_cgroup_namespace(&sandbox);
    let file = format!("/sys/fs/cgroup{path}/pids.max");
    let facts = sandbox.facts(&format!("read {file} ; write {file} max"));
    assert_eq!(facts.get(&format!("read {file}")), "\"9\\n\"");
    assert_eq!(facts.get(&format!("write {file}")), "EROFS");
}

/// Runs the script in the background until it prints `ready`.
fn running(sandbox: &Sandbox, script: &str) {
    let script = format!("{script} ; say ready ; sleep 60");
    sandbox.script(&script).run_with(&["--detach"]).ok().wait_for_line("ready");
}

fn exec(sandbox: &Sandbox, args: &[&str], script: &str) -> Facts {
    let script: Vec<&str> = std::iter::once("/init").chain(script.split(' ')).collect();
    let args = [&["exec"], args, &[&sandbox.id], &script].concat();
    Facts::parse(&sandbox.brig(&args).ok().stdout)
}

#[test]
fn what_is_executed_in_a_container_is_in_its_cgroup_and_counts_there() {
    unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    running(&sandbox, "true");
    let facts = exec(&sandbox, &[], "cgroups ; forks 20");
    assert_eq!(facts.get("cgroup"), "0::/");
    assert_eq!(facts.get("forks"), "7 EAGAIN");
}

/// The steps of systemd as a container's init: moves itself into a child cgroup, and enables controllers for
/// the children of the container's.
const DIVIDE: &str = "mkdir /sys/fs/cgroup/own ; write /sys/fs/cgroup/own/cgroup.procs 0 ; \
                      write /sys/fs/cgroup/cgroup.subtree_control +pids ; mkdir /sys/fs/cgroup/other";

#[test]
fn a_container_that_divides_its_cgroup_can_be_executed_in_and_deleted() {
    brig_only!();
    let mountpoint = unified!("pids");
    let sandbox = limited(json!({"pids": {"limit": 9}}));
    writable(&sandbox);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    running(&sandbox, DIVIDE);
    assert_eq!(read(&mountpoint.join(&sandbox.id), "cgroup.subtree_control"), "pids");
    let facts = exec(&sandbox, &[], "cgroups ; forks 20");
    assert_eq!(facts.get("cgroup"), "0::/own");
    assert_eq!(facts.get("forks"), "7 EAGAIN", "the container's limit is for all below");
    let facts = exec(&sandbox, &["--cgroup", "other"], "cgroups");
    assert_eq!(facts.get("cgroup"), "0::/other");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_frozen_container_is_not_executed_in_but_deleted() {
    brig_only!();
    let mountpoint = unified!("pids");
    let sandbox = Sandbox::new();
    running(&sandbox, "true");
    let dir = cgroup(&sandbox, &mountpoint);
    fs::write(dir.join("cgroup.freeze"), "1").unwrap();
    let frozen = || read(&dir, "cgroup.events").contains("frozen 1");
    assert!(host::wait_until(Duration::from_secs(10), frozen));
    let refused = sandbox.brig(&["exec", &sandbox.id, "/init", "true"]);
    assert!(refused.code == Some(255) && refused.stderr.contains("paused"), "{refused:?}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn below_a_frozen_cgroup_no_container_is_created() {
    brig_only!();
    let mountpoint = unified!("pids");
    let sandbox = Sandbox::new();
    let above = mountpoint.join(format!("{}-above", sandbox.id));
    fs::create_dir(&above).unwrap();
    fs::write(above.join("cgroup.freeze"), "1").unwrap();
    let path = format!("/{0}-above/{0}-own", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.create_with(&[]).fails_with("is frozen");
    assert!(!mountpoint.join(&path[1..]).exists());
    fs::remove_dir(&above).unwrap();
}
