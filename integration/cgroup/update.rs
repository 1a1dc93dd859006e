//! `update`: changes limits of an existing container, keeps others, restores them after errors.

use crate::cgroups::{BUSY, cgroup_of, gets_percent_of_a_cpu, limited, setting};
use crate::facts::Facts;
use crate::host::{self, Version};
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

/// Skips the test if the host does not have the controller: `let version = controller!("cpu");`.
macro_rules! controller {
    ($name:expr) => {
        match host::controller($name) {
            Some((version, _)) => version,
            None => return skip(concat!("this host has no controller ", $name)),
        }
    };
}

pub fn update(sandbox: &Sandbox, args: &[&str]) -> Done {
    sandbox.brig(&[&["update"], args, &[&sandbox.id]].concat())
}

/// `update` with this JSON on its stdin.
pub fn update_by_stdin(sandbox: &Sandbox, args: &[&str], json: &str) -> Done {
    let path = sandbox.dir.join("stdin");
    fs::write(&path, json).unwrap();
    let mut command = sandbox.command(&[&["update"], args, &[&sandbox.id]].concat());
    command.stdin(File::open(&path).unwrap());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done {
        what: format!("{command:?}"),
        code: output.status.code(),
        signal: None,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        stdout_path: path,
    }
}

/// Runs the script in the background until it prints `ready`.
pub fn running(sandbox: &Sandbox, script: &str) -> Done {
    let script = format!("{script} ; say ready ; sleep 60");
    let done = sandbox.script(&script).run_with(&["--detach"]).ok();
    done.wait_for_line("ready");
    done
}

fn exec(sandbox: &Sandbox, script: &str) -> Facts {
    let script: Vec<&str> = std::iter::once("/init").chain(script.split(' ')).collect();
    Facts::parse(&sandbox.brig(&[&["exec", &sandbox.id], &script[..]].concat()).ok().stdout)
}

/// Every file of the container's cgroups that contains a limit.
pub fn limits(sandbox: &Sandbox) -> BTreeMap<PathBuf, String> {
    let mut limits = BTreeMap::new();
    for controller in ["memory", "cpu", "cpuset", "pids", "blkio", "io", "devices"] {
        if host::controller(controller).is_none() {
            continue;
        }
        for entry in fs::read_dir(cgroup_of(sandbox.pid(), controller)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let says = ["limit", "max", "low", "high", "shares", "weight", "_us", "burst", "idle"]
                .iter()
                .any(|word| name.contains(word))
                || ["cpuset.cpus", "cpuset.mems", "devices.list"].contains(&name.as_str());
            if says && !name.contains("max_usage") {
                limits.insert(entry.path(), fs::read_to_string(entry.path()).unwrap_or_default());
            }
        }
    }
    limits
}

pub fn memory(sandbox: &Sandbox) -> String {
    setting(sandbox, "memory", "memory.limit_in_bytes", "memory.max")
}

#[test]
fn a_quota_that_is_cut_from_a_half_to_a_fifth_is_felt() {
    controller!("cpu");
    let sandbox = limited("cpu", json!({"quota": 50000, "period": 100_000}));
    sandbox.script("say ready ; burn 60").run_with(&["--detach"]).ok().wait_for_line("ready");
    let half = gets_percent_of_a_cpu(sandbox.pid(), 29..=58);
    update(&sandbox, &["--cpu-quota", "20000"]).ok();
    if !gets_percent_of_a_cpu(sandbox.pid(), 5..=27) || !half {
        skip(BUSY);
    }
}

#[test]
fn each_flag_is_a_limit() {
    brig_only!();
    controller!("memory");
    controller!("cpuset");
    controller!("pids");
    let sandbox = Sandbox::new();
    sandbox.create();
    update(
        &sandbox,
        &[
            "--memory",
            "64m",
            "--memory-reservation=32M",
            "--memory-swap",
            "96mb",
            "--cpu-share",
            "2048",
            "--cpu-quota",
            "50000",
            "--cpu-period",
            "200000",
            "--cpu-burst",
            "10000",
            "--cpuset-cpus",
            "0",
            "--cpuset-mems=0",
            "--pids-limit",
            "100",
        ],
    )
    .ok();
    for (controller, v1, v1_value, v2, v2_value) in [
        ("memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
        ("cpu", "cpu.shares", "2048", "cpu.weight", "174"),
        ("cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 200000"),
        ("cpu", "cpu.cfs_burst_us", "10000", "cpu.max.burst", "10000"),
        ("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0", "cpuset.mems", "0"),
        ("pids", "pids.max", "100", "pids.max", "100"),
    ] {
        let expected = [v1_value, v2_value];
        let value = setting(&sandbox, controller, v1, v2);
        assert!(expected.contains(&value.as_str()), "{v1} {v2}: {value}");
    }
    update(&sandbox, &["--memory", "-1"]).ok();
    assert!(["9223372036854771712", "max"].contains(&memory(&sandbox).as_str()));
    // As in runc, the others are unlimited with any negative value.
    for (quota, pids) in [("--cpu-quota=-1", "-1"), ("--cpu-quota=-2", "-2")] {
        update(&sandbox, &["--cpu-quota=50000", "--pids-limit=100"]).ok();
        update(&sandbox, &[quota, "--pids-limit", pids]).ok();
        let quota = setting(&sandbox, "cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(["-1", "max 200000"].contains(&quota.as_str()), "{quota}");
        assert_eq!(setting(&sandbox, "pids", "pids.max", "pids.max"), "max");
    }
}

#[test]
fn a_period_alone_keeps_the_quota_and_a_quota_the_period() {
    controller!("cpu");
    let sandbox = limited("cpu", json!({"quota": 20000, "period": 100_000}));
    sandbox.create();
    let both = |expected: &str| {
        let quota = setting(&sandbox, "cpu", "cpu.cfs_quota_us", "cpu.max");
        let now = match quota.contains(' ') {
            true => quota,
            false => format!("{quota} {}", setting(&sandbox, "cpu", "cpu.cfs_period_us", "")),
        };
        assert_eq!(now, expected);
    };
    update(&sandbox, &["--cpu-period", "50000"]).ok();
    both("20000 50000");
    update(&sandbox, &["--cpu-quota", "10000"]).ok();
    both("10000 50000");
    update(&sandbox, &["--cpu-quota", "400000", "--cpu-period", "800000"]).ok();
    both("400000 800000");
    update(&sandbox, &["--cpu-quota", "5000", "--cpu-period", "10000"]).ok();
    both("5000 10000");
}

#[test]
fn memory_and_swap_are_raised_and_cut_together() {
    let version = controller!("memory");
    let sandbox = limited("memory", json!({"limit": 32 << 20, "swap": 48 << 20}));
    sandbox.create();
    for (limit, swap) in [(64, 96), (128, 128), (16, 64), (16, 16), (32, 48)] {
        let (limit_flag, swap_flag) = (format!("{limit}m"), format!("{swap}m"));
        update(&sandbox, &["--memory", &limit_flag, "--memory-swap", &swap_flag]).ok();
        assert_eq!(memory(&sandbox), (limit << 20).to_string());
        let total = setting(&sandbox, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        let expected = if version == Version::V1 { swap } else { swap - limit };
        assert_eq!(total, (expected << 20).to_string(), "{limit} {swap}");
    }
}

#[test]
fn memory_and_swap_together_stay_what_was_asked_for() {
    let version = controller!("memory");
    let sandbox = limited("memory", json!({"limit": 32 << 20, "swap": 64 << 20}));
    sandbox.create();
    let swap = || setting(&sandbox, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    let of_both = |both: u64, alone: u64| {
        let expected = if version == Version::V1 { both } else { alone };
        assert_eq!(swap(), (expected << 20).to_string());
    };
    update(&sandbox, &["--memory", "48m"]).ok();
    of_both(64, 16);
    update(&sandbox, &["--memory-swap", "80m"]).ok();
    of_both(80, 32);
    update(&sandbox, &["--memory", "16m"]).ok();
    of_both(80, 64);
    if crate::sandbox::is_peer() {
        return;
    }
    let refused = update(&sandbox, &["--memory", "81m"]).fails();
    assert!(refused.contains("the limit of memory and swap together (83886080)"), "{refused}");
    of_both(80, 64);
    assert_eq!(memory(&sandbox), (16 << 20).to_string());
}

/// The ways in which podman and containerd pass limits: a file, and stdin in two spellings.
#[test]
fn limits_are_read_from_a_file_and_from_stdin() {
    controller!("memory");
    let sandbox = Sandbox::new();
    sandbox.create();
    let file = sandbox.dir.join("resources.json");
    let json = |bytes: u64| {
        json!({"devices": [{"allow": false, "access": "rwm"}], "memory": {"limit": bytes},
               "cpu": {}, "pids": {}, "blockIO": {}})
        .to_string()
    };
    let devices = |sandbox: &Sandbox| {
        let list = |(version, _)| match version {
            Version::V1 => Some(setting(sandbox, "devices", "devices.list", "")),
            Version::V2 => None,
        };
        host::controller("devices").and_then(list)
    };
    let before = devices(&sandbox);
    fs::write(&file, json(64 << 20)).unwrap();
    update(&sandbox, &["--resources", file.to_str().unwrap()]).ok();
    assert_eq!(memory(&sandbox), (64 << 20).to_string());
    for (megabytes, args) in
        [(65, &["--resources", "-"][..]), (66, &["--resources=-"]), (67, &["-r", "-"])]
    {
        update_by_stdin(&sandbox, args, &json(megabytes << 20)).ok();
        assert_eq!(memory(&sandbox), (megabytes << 20).to_string());
    }
    assert_eq!(devices(&sandbox), before, "device rules are not an update's");
}

#[test]
fn what_is_not_asked_for_stays() {
    let sandbox = limited("cpu", json!({"shares": 512, "quota": 20000, "period": 100_000}));
    sandbox.patch(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
        config["linux"]["resources"]["pids"] = json!({"limit": 99});
    });
    sandbox.create();
    let before = limits(&sandbox);
    assert!(before.values().any(|text| text.contains("67108864")), "{before:?}");
    update(&sandbox, &[]).ok();
    let nothing = match crate::sandbox::is_peer() {
        // runc 1.1 crashes on null.
        true => json!({}),
        false => {
            json!({"memory": null, "cpu": null, "pids": null, "unified": null, "devices": null})
        }
    };
    for json in [
        json!({}),
        json!({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}}),
        nothing,
        json!({
            "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": 0,
                       "checkBeforeUpdate": false},
            "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0,
                    "realtimePeriod": 0, "cpus": "", "mems": ""},
            "blockIO": {"weight": 0},
        }),
    ] {
        update_by_stdin(&sandbox, &["-r", "-"], &json.to_string()).ok();
        assert_eq!(limits(&sandbox), before, "{json}");
    }
}

#[test]
fn a_burst_and_its_quota_go_down_and_up_together() {
    brig_only!();
    controller!("cpu");
    let sandbox = limited("cpu", json!({"quota": 50000, "period": 100_000, "burst": 40000}));
    sandbox.create();
    for (quota, burst) in [("20000", "10000"), ("90000", "80000"), ("30000", "30000")] {
        update(&sandbox, &["--cpu-quota", quota, "--cpu-burst", burst]).ok();
        assert_eq!(setting(&sandbox, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), burst);
    }
}

#[test]
fn an_idle_container_gets_other_shares() {
    brig_only!();
    controller!("cpu");
    let sandbox = Sandbox::new();
    sandbox.create();
    let idle = || setting(&sandbox, "cpu", "cpu.idle", "cpu.idle");
    update(&sandbox, &["--cpu-idle", "1"]).ok();
    assert_eq!(idle(), "1");
    update(&sandbox, &["--cpu-idle", "1", "--cpu-share", "512"]).ok();
    assert_eq!(idle(), "1");
    update(&sandbox, &["--cpu-idle", "0", "--cpu-share", "512"]).ok();
    assert_eq!(idle(), "0");
    let shares = setting(&sandbox, "cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "59"].contains(&shares.as_str()), "{shares}");
}

#[test]
fn real_time_shares_follow_their_period() {
    brig_only!();
    let version = controller!("cpu");
    let sandbox = Sandbox::new();
    sandbox.create();
    if version == Version::V2 {
        let message = update(&sandbox, &["--cpu-rt-runtime", "1000"]).fails();
        assert!(message.contains("exists only in cgroup v1"), "{message}");
        return;
    }
    if !cgroup_of(sandbox.pid(), "cpu").join("cpu.rt_runtime_us").exists() {
        return skip("this kernel has no real-time group scheduling");
    }
    for (runtime, period) in [("1000", "1000000"), ("90", "1000"), ("2000", "500000")] {
        update(&sandbox, &["--cpu-rt-runtime", runtime, "--cpu-rt-period", period]).ok();
        assert_eq!(setting(&sandbox, "cpu", "cpu.rt_runtime_us", ""), runtime);
        assert_eq!(setting(&sandbox, "cpu", "cpu.rt_period_us", ""), period);
    }
}

#[test]
fn fewer_processes_and_processors_from_now_on() {
    controller!("pids");
    controller!("cpuset");
    let sandbox = limited("pids", json!({"limit": 50}));
    running(&sandbox, "true");
    assert_eq!(exec(&sandbox, "forks 20").get("forks"), "20 ok");
    update(&sandbox, &["--pids-limit", "9", "--cpuset-cpus", "0"]).ok();
    let facts = exec(&sandbox, "forks 20 ; affinity");
    assert_eq!(facts.get("forks"), "7 EAGAIN");
    assert_eq!(facts.get("affinity"), "0");
}

#[test]
fn a_paused_container_is_limited_too() {
    let version = controller!("memory");
    let sandbox = Sandbox::new();
    running(&sandbox, "true");
    let (controller, file, freeze, thaw) = match version {
        Version::V1 => ("freezer", "freezer.state", "FROZEN", "THAWED"),
        Version::V2 => ("memory", "cgroup.freeze", "1", "0"),
    };
    let dir = cgroup_of(sandbox.pid(), controller);
    fs::write(dir.join(file), freeze).unwrap();
    update(&sandbox, &["--memory", "40m", "--pids-limit", "33"]).ok();
    assert_eq!(fs::read_to_string(dir.join(file)).unwrap().trim(), freeze);
    fs::write(dir.join(file), thaw).unwrap();
    assert_eq!(memory(&sandbox), (40 << 20).to_string());
    assert_eq!(setting(&sandbox, "pids", "pids.max", "pids.max"), "33");
}

#[test]
fn a_joined_cgroup_is_limited_and_stays() {
    let Some((_, mountpoint)) = host::controller("pids") else {
        return skip("this host has no controller pids");
    };
    let sandbox = Sandbox::new();
    let joined = format!("{}-joined", sandbox.id);
    for (_, mountpoint) in host::hierarchies() {
        fs::create_dir(mountpoint.join(&joined)).unwrap();
    }
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{joined}")));
    if let Some((Version::V1, _)) = host::controller("cpuset") {
        sandbox.patch(|config| {
            config["linux"]["resources"]["cpu"] = json!({"cpus": "0", "mems": "0"});
        });
    }
    sandbox.create();
    update(&sandbox, &["--pids-limit", "44"]).ok();
    let limit = fs::read_to_string(mountpoint.join(&joined).join("pids.max")).unwrap();
    sandbox.delete();
    for (_, mountpoint) in host::hierarchies() {
        // Other runtimes remove cgroups that they have not created.
        let _ = fs::remove_dir(mountpoint.join(&joined));
    }
    assert_eq!(limit.trim(), "44");
}

#[test]
fn an_oom_killer_that_was_disabled_can_be_enabled() {
    brig_only!();
    if controller!("memory") != Version::V1 {
        return skip("this host has no v1 controller memory");
    }
    let sandbox = limited("memory", json!({"disableOOMKiller": false}));
    sandbox.create();
    for (disable, expected) in [(true, "oom_kill_disable 1"), (false, "oom_kill_disable 0")] {
        let json = json!({"memory": {"disableOOMKiller": disable}}).to_string();
        update_by_stdin(&sandbox, &["-r", "-"], &json).ok();
        let now = setting(&sandbox, "memory", "memory.oom_control", "");
        assert!(now.contains(expected), "{now}");
    }
}

#[test]
fn a_dry_run_tells_every_write_and_writes_nothing() {
    brig_only!();
    controller!("memory");
    let sandbox = limited("memory", json!({"limit": 32 << 20}));
    sandbox.create();
    let args = ["--memory=64m", "--memory-swap=96m", "--cpu-quota=20000", "--pids-limit=-1"];
    let before = limits(&sandbox);
    let told = update(&sandbox, &[&["--dry-run"], &args[..]].concat()).ok().stdout;
    assert_eq!(limits(&sandbox), before);
    assert_eq!(told.lines().count(), 4, "{told}");
    update(&sandbox, &args).ok();
    for line in told.lines() {
        let (path, value) = line.split_once(' ').unwrap();
        let now = fs::read_to_string(path).unwrap();
        assert_eq!(now.trim().trim_end_matches(" 100000"), value, "{path}");
    }
}
