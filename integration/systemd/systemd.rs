//! `--systemd-cgroup` with the real systemd: scopes, their limits in systemd and in the kernel, and their
//! end. In the guest of `make test-vm-systemd`.

use crate::host::wait_until;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use nix::unistd::{Gid, Uid, chown, setgid, setgroups, setuid};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Skips the test without systemd, or with other than only cgroup2.
macro_rules! systemd {
    () => {
        brig_only!();
        if !Path::new("/run/systemd/private").exists() {
            return skip("systemd is not running here");
        }
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            return skip("cgroup2 is not all there is");
        }
    };
}

const ROOT: &str = "/sys/fs/cgroup";

impl Sandbox {
    fn scope(&self) -> String {
        format!("brig-{}.scope", self.id)
    }

    fn dir(&self) -> PathBuf {
        Path::new(ROOT).join("system.slice").join(self.scope())
    }

    fn by_systemd(&self, verb: &[&str]) -> Done {
        let bundle = self.bundle();
        let bundle = ["--bundle", bundle.to_str().unwrap(), &self.id];
        self.brig(&[&["--systemd-cgroup"], verb, &bundle[..]].concat())
    }
}

/// systemd's properties of a unit.
fn show(unit: &str) -> BTreeMap<String, String> {
    let output = Command::new("systemctl").args(["show", unit]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[track_caller]
fn assert_gone(unit: &str) {
    let state = show(unit);
    assert_eq!(state["LoadState"], "not-found", "{state:#?}");
}

#[track_caller]
fn file(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    let text = fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn limits() -> Value {
    json!({
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20},
        "cpu": {"shares": 512, "quota": 20_500, "period": 50_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 77},
        "devices": [{"allow": false, "access": "rwm"}],
        "unified": {"memory.high": "50331648"}
    })
}

#[test]
fn limits_are_properties_of_the_scope_and_stand_in_the_files() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| config["linux"]["resources"] = limits());
    sandbox.by_systemd(&["create"]).ok();
    let unit = show(&sandbox.scope());
    for (name, value) in [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("DefaultDependencies", "no"),
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemoryHigh", "50331648"),
        ("MemorySwapMax", "33554432"),
        ("CPUWeight", "59"),
        // 410 ms per second are 41 %.
        ("CPUQuotaPerSecUSec", "410ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "77"),
        ("DevicePolicy", "strict"),
        ("MemoryAccounting", "yes"),
        ("TasksAccounting", "yes"),
    ] {
        assert_eq!(unit[name], value, "{name}");
    }
    let dir = sandbox.dir();
    for (name, value) in [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("memory.swap.max", "33554432"),
        ("cpu.weight", "59"),
        ("cpu.max", "20500 50000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "77"),
    ] {
        assert_eq!(file(&dir, name), value, "{name}");
    }
    assert_eq!(file(&dir, "cgroup.procs"), sandbox.pid().to_string());
    sandbox.start();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

#[test]
fn a_scope_without_limits_is_counted_below_a_subgroup_too() {
    systemd!();
    for subgroup in ["", "below"] {
        let sandbox = Sandbox::new();
        sandbox.script("sleep 60");
        if !subgroup.is_empty() {
            sandbox.patch(|config| {
                config["annotations"] = json!({"run.oci.systemd.subgroup": subgroup});
            });
        }
        sandbox.by_systemd(&["create"]).ok();
        let dir = sandbox.dir().join(subgroup);
        assert_eq!(file(&dir, "cgroup.procs"), sandbox.pid().to_string());
        for name in ["memory.current", "memory.events", "pids.current", "cpu.max", "io.stat"] {
            assert!(dir.join(name).exists(), "{subgroup:?} {name}");
        }
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn limits_are_felt_and_devices_denied() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["resources"] = limits());
    sandbox.script("forks 100 ; read /proc/self/cgroup");
    let done = sandbox.by_systemd(&["run"]).ok();
    assert!(done.stdout.contains("EAGAIN"), "{done:?}");
    assert!(done.stdout.contains("0::/"), "its cgroup namespace begins in its cgroup: {done:?}");
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

#[test]
fn update_changes_properties_and_files() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| config["linux"]["resources"] = limits());
    sandbox.by_systemd(&["run", "--detach"]).ok();
    let id = sandbox.id.as_str();
    let flags = ["--memory", "83886080", "--memory-swap", "100663296", "--pids-limit", "88"];
    sandbox.brig(&[&["update"], &flags[..], &["--cpu-quota", "10001", id]].concat()).ok();
    let unit = show(&sandbox.scope());
    for (name, value) in
        [("MemoryMax", "83886080"), ("MemorySwapMax", "16777216"), ("TasksMax", "88")]
    {
        assert_eq!(unit[name], value, "{name}");
    }
    for (name, value) in [
        ("memory.max", "83886080"),
        ("memory.swap.max", "16777216"),
        ("pids.max", "88"),
        ("cpu.max", "10001 50000"),
        ("memory.low", "33554432"),
    ] {
        assert_eq!(file(&sandbox.dir(), name), value, "{name}");
    }
    // systemd reloads all its units: the limits that it writes must be the same.
    assert!(Command::new("systemctl").arg("daemon-reload").status().unwrap().success());
    assert_eq!(file(&sandbox.dir(), "memory.max"), "83886080");
    assert_eq!(file(&sandbox.dir(), "pids.max"), "88");
}

#[test]
fn a_slice_with_dashes_is_in_those_before_them() {
    systemd!();
    let sandbox = Sandbox::new();
    let path = format!("brigtest-nested.slice:pre:{}", sandbox.id);
    sandbox.script("sleep 60").patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.by_systemd(&["create"]).ok();
    let scope = format!("pre-{}.scope", sandbox.id);
    let dir = Path::new(ROOT).join("brigtest.slice/brigtest-nested.slice").join(&scope);
    assert_eq!(file(&dir, "cgroup.procs"), sandbox.pid().to_string());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert_gone(&scope);
}

#[test]
fn annotations_are_properties_and_a_wrong_one_is_an_error_that_leaves_nothing() {
    systemd!();
    let sandbox = Sandbox::new();
    let annotation = |name: &str, value: &str| {
        sandbox.patch(|config| {
            config["annotations"] = json!({format!("org.systemd.property.{name}"): value});
        });
    };
    sandbox.script("sleep 60");
    annotation("TimeoutStopSec", "uint64 17");
    sandbox.by_systemd(&["create"]).ok();
    assert_eq!(show(&sandbox.scope())["TimeoutStopUSec"], "17s");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert_gone(&sandbox.scope());
    for (name, value) in [("NoSuchProperty", "true"), ("TimeoutStopSec", "uint64 1 2")] {
        annotation(name, value);
        let message = sandbox.by_systemd(&["create"]).fails();
        assert!(message.contains(name), "{message}");
        assert_gone(&sandbox.scope());
        sandbox.assert_nothing_left();
    }
}

#[test]
fn the_container_can_be_in_a_cgroup_below_its_scope() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        config["annotations"] = json!({"run.oci.systemd.subgroup": "container"});
        config["linux"]["resources"]["pids"] = json!({"limit": 33});
    });
    sandbox.by_systemd(&["run", "--detach"]).ok();
    let dir = sandbox.dir().join("container");
    assert_eq!(file(&dir, "cgroup.procs"), sandbox.pid().to_string());
    assert_eq!(file(&dir, "pids.max"), "33");
    assert_eq!(show(&sandbox.scope())["TasksMax"], "33");
    let inside = sandbox.brig(&["exec", &sandbox.id, "/init", "read", "/proc/self/cgroup"]).ok();
    assert!(inside.stdout.contains("0::/"), "{inside:?}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

#[test]
fn a_create_that_fails_leaves_no_unit() {
    systemd!();
    let sandbox = Sandbox::new();
    for (pointer, value) in [
        ("/process/args", json!(["/no-such-program"])),
        ("/mounts/0/type", json!("nosuchfs")),
        ("/linux/resources", json!({"unified": {"memory.max": "nonsense"}})),
        ("/linux/resources", json!({"unified": {"nosuch.max": "1"}})),
        ("/hooks", json!({"prestart": [{"path": "/no-such-hook"}]})),
    ] {
        let before = sandbox.config();
        sandbox.patch(|config| match config.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => config[&pointer[1..]] = value,
        });
        sandbox.by_systemd(&["create"]).fails();
        sandbox.assert_nothing_left();
        assert_gone(&sandbox.scope());
        sandbox.write_config(&before);
    }
}

#[test]
fn what_is_killed_for_lack_of_memory_leaves_no_failed_unit() {
    systemd!();
    let sandbox = Sandbox::new();
    let memory = json!({"limit": 16 << 20, "swap": 16 << 20});
    sandbox.patch(|config| config["linux"]["resources"]["memory"] = memory);
    sandbox.script(&format!("hog {}", 24 << 20));
    assert_eq!(sandbox.by_systemd(&["run"]).code, Some(128 + 9));
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

#[test]
fn it_is_paused_executed_in_and_killed_like_any_other() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").by_systemd(&["run", "--detach"]).ok();
    let id = sandbox.id.as_str();
    sandbox.brig(&["pause", id]).ok();
    assert_eq!(sandbox.status(), "paused");
    sandbox.brig(&["resume", id]).ok();
    sandbox.brig(&["exec", id, "/init", "say", "hello"]).ok();
    sandbox.brig(&["kill", id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

#[test]
fn the_bus_is_as_good_as_systemds_own_socket() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    let run = ["--systemd-cgroup", "create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    for args in [&run[..], &["delete", "--force", &sandbox.id]] {
        let mut command = sandbox.command(args);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/run/dbus/system_bus_socket");
        sandbox.spawn(command).wait().ok();
    }
    assert_gone(&sandbox.scope());
    sandbox.assert_nothing_left();
}

/// A proxy to the bus that records the methods called by brig.
fn listening(sandbox: &Sandbox) -> Arc<Mutex<Vec<String>>> {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&calls);
    let address = SocketAddr::from_abstract_name(&sandbox.id).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    std::thread::spawn(move || {
        for brig in listener.incoming() {
            let (mut brig, heard) = (brig.unwrap(), Arc::clone(&heard));
            let mut bus = UnixStream::connect("/run/dbus/system_bus_socket").unwrap();
            let (mut from, mut to) = (bus.try_clone().unwrap(), brig.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(length @ 1..) = brig.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    // Field 3, a string: the member that is called.
                    let members = text.split("\u{3}\u{1}s\0").skip(1);
                    let names = members.filter_map(|rest| rest[4..].split('\0').next());
                    heard.lock().unwrap().extend(names.map(str::to_owned));
                    if bus.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    calls
}

#[test]
fn calls_are_no_more_than_cruns() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| config["linux"]["resources"] = limits());
    let calls = listening(&sandbox);
    let bundle = sandbox.bundle();
    let run = ["--systemd-cgroup", "create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    // The calls of crun 1.8.1, by strace: Hello, AddMatch, StartTransientUnit; Hello, AddMatch, StopUnit.
    for (args, third) in
        [(&run[..], "StartTransientUnit"), (&["delete", "--force", &sandbox.id], "StopUnit")]
    {
        let mut command = sandbox.command(args);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:abstract={}", sandbox.id));
        sandbox.spawn(command).wait().ok();
        let made = std::mem::take(&mut *calls.lock().unwrap());
        assert_eq!(made, ["Hello", "AddMatch", third]);
    }
    assert_gone(&sandbox.scope());
}

#[test]
fn a_scope_that_is_there_already_is_not_taken_over() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let unit = format!("--unit={}", sandbox.scope());
    let mut other =
        Command::new("systemd-run").args(["--scope", &unit, "sleep", "60"]).spawn().unwrap();
    let active = || show(&sandbox.scope())["ActiveState"] == "active";
    assert!(wait_until(Duration::from_secs(10), active));
    let message = sandbox.by_systemd(&["create"]).fails();
    let alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(message.contains("linux.cgroupsPath") && message.contains("already"), "{message}");
    assert!(alive, "somebody else's process was killed");
    assert!(wait_until(Duration::from_secs(10), || !sandbox.dir().exists()));
}

#[test]
fn fifty_at_once_come_and_go() {
    systemd!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let ids: Vec<String> = (0..50).map(|n| format!("{}-{n}", sandbox.id)).collect();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    let all = |args: &dyn Fn(&str) -> Vec<String>| {
        let start = |id: &String| {
            let args = args(id);
            sandbox.spawn(sandbox.command(&args.iter().map(String::as_str).collect::<Vec<_>>()))
        };
        let running: Vec<_> = ids.iter().map(start).collect();
        running.into_iter().for_each(|running| drop(running.wait().ok()));
    };
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    all(&|id| words(&["--systemd-cgroup", "create", "--bundle", bundle, id]));
    all(&|id| words(&["delete", id]));
    sandbox.assert_nothing_left();
    for id in &ids {
        assert_gone(&format!("brig-{id}.scope"));
    }
}

/// The user of the guest, whose systemd instance runs without a login.
const USER: u32 = 1000;

#[test]
fn an_unprivileged_users_systemd_makes_scopes_as_well() {
    systemd!();
    let runtime = format!("/run/user/{USER}");
    if !Path::new(&runtime).join("systemd/private").exists() {
        return skip("no user's systemd is running here");
    }
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let home = sandbox.dir.join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(sandbox.dir.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [&sandbox.dir, &bundle, &sandbox.rootfs(), &home, &bundle.join("config.json")] {
        chown(path, Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
    }
    let user = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("XDG_RUNTIME_DIR", &runtime).current_dir(&home);
        crate::sandbox::before_exec(&mut command, || {
            setgroups(&[])?;
            setgid(Gid::from_raw(USER))?;
            Ok(setuid(Uid::from_raw(USER))?)
        });
        sandbox.spawn(command).wait()
    };
    fs::remove_file(bundle.join("config.json")).unwrap();
    user(&["spec", "--rootless", "--bundle", bundle.to_str().unwrap()]).ok();
    sandbox.script("sleep 60").patch(|config| {
        config["process"]["terminal"] = json!(false);
        config["linux"]["resources"] = json!({
            "memory": {"limit": 64 << 20},
            "pids": {"limit": 55},
            "devices": [{"allow": false, "access": "rwm"}]
        });
    });
    let id = sandbox.id.as_str();
    user(&["--systemd-cgroup", "run", "--detach", "--bundle", bundle.to_str().unwrap(), id]).ok();
    let state = user(&["state", id]).ok();
    let state: Value = serde_json::from_str(&state.stdout).unwrap();
    let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let wanted = format!("user.slice/{}", sandbox.scope());
    assert!(cgroup.contains("user@1000.service") && cgroup.contains(&wanted), "{cgroup}");
    let dir = Path::new(ROOT).join(cgroup.trim().trim_start_matches("0::/"));
    assert_eq!(file(&dir, "memory.max"), (64 << 20).to_string());
    assert_eq!(file(&dir, "pids.max"), "55");
    // From outside the user's own cgroups: only their systemd instance can move the process.
    user(&["exec", "--detach", id, "/init", "sleep", "60"]).ok();
    assert_eq!(file(&dir, "cgroup.procs").lines().count(), 2);
    user(&["update", "--pids-limit", "66", id]).ok();
    assert_eq!(file(&dir, "pids.max"), "66");
    user(&["delete", "--force", id]).ok();
    assert!(!dir.exists());
    sandbox.assert_nothing_left();
}
