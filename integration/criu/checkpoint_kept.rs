//! Settings of the config that CRIU does not restore: brig sets them again, and limits are in force.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu_only, images, restored, running, told_after,
};
use crate::host;
use crate::sandbox::{Sandbox, before_exec, skip};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn with(change: impl FnOnce(&mut Value)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(change);
    sandbox
}

#[test]
fn scheduling_and_priorities_are_the_configs_again() {
    criu_only!();
    let sandbox = with(|config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"});
    });
    let facts = told_after(&sandbox, "sched ; status SigIgn");
    assert_eq!(facts.get("ioprio"), "2 6", "{facts}");
    assert_eq!(facts.get("mempolicy"), "0x2 0x1", "{facts}");
    assert!(facts.get("sched").starts_with("3 5 0 "), "{facts}");
}

#[test]
fn the_personality_is_the_configs_again() {
    criu_only!();
    let sandbox = with(|config| config["linux"]["personality"] = json!({"domain": "LINUX32"}));
    let facts = told_after(&sandbox, "sched");
    assert!(facts.get("personality").starts_with("8 "), "{facts}");
}

#[test]
fn parameters_of_the_kernel_are_the_configs_again() {
    criu_only!();
    let parameters = [
        ("net.ipv4.ip_unprivileged_port_start", "7"),
        ("kernel.shmmax", "123456"),
        ("fs.mqueue.msg_max", "9"),
    ];
    let sandbox = with(|config| {
        for (name, value) in parameters {
            config["linux"]["sysctl"][name] = json!(value);
        }
    });
    let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let script = parameters.map(|(name, _)| format!("read {}", path(name))).join(" ; ");
    let facts = told_after(&sandbox, &script);
    for (name, value) in parameters {
        assert_eq!(
            facts.get(&format!("read {}", path(name))),
            format!("\"{value}\\n\""),
            "{facts}"
        );
    }
}

#[test]
fn the_session_keyring_is_the_containers_own_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    let facts = told_after(&sandbox, "keyring");
    let name = facts.get("keyring").rsplit(';').next().unwrap().to_string();
    assert_eq!(name, format!("_ses.{}", sandbox.id), "{facts}");
}

#[test]
fn affinity_is_not_that_of_the_restoring_brig() {
    criu_only!();
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap()).collect();
    let [first, _, ..] = cpus[..] else { return skip("one processor") };
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    let mut restore = command(&sandbox, &args);
    before_exec(&mut restore, move || {
        let mut one = CpuSet::new();
        one.set(first)?;
        Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
    });
    sandbox.spawn(restore).wait().ok();
    let pid = Pid::from_raw(i32::try_from(sandbox.pid()).unwrap());
    assert_eq!(sched_getaffinity(pid).unwrap(), all);
}

#[test]
fn a_class_of_service_is_entered_again() {
    criu_only!();
    let mounts = host::mounts();
    let Some(resctrl) = mounts.iter().find(|mount| mount.fstype == "resctrl") else {
        return skip("no resctrl filesystem is mounted");
    };
    let sandbox = with(|config| config["linux"]["intelRdt"] = json!({}));
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    restored(&sandbox, &[]);
    let class = Path::new(&resctrl.target).join(&sandbox.id);
    let tasks = fs::read_to_string(class.join("tasks")).unwrap();
    assert!(tasks.lines().any(|task| task == sandbox.pid().to_string()), "{tasks}");
}

/// The limits in the files of the container's cgroups.
fn limits(sandbox: &Sandbox) -> Vec<(PathBuf, String)> {
    let files = [
        "pids.max",
        "memory.max",
        "memory.limit_in_bytes",
        "cpu.max",
        "cpu.cfs_quota_us",
        "cpu.weight",
        "cpu.shares",
        "cpuset.cpus",
        "devices.list",
    ];
    let dirs = host::cgroups_with(&sandbox.id);
    let read = |path: PathBuf| Some((path.clone(), fs::read_to_string(path).ok()?));
    let all = dirs.iter().flat_map(|dir| files.map(|name| dir.join(name)));
    all.filter_map(read).collect()
}

#[test]
fn limits_and_device_rules_are_in_force_again() {
    criu_only!();
    let sandbox = with(|config| {
        config["linux"]["devices"] = json!([
            {"path": "/dev/allowed", "type": "c", "major": 240, "minor": 11, "fileMode": 0o600},
            {"path": "/dev/denied", "type": "c", "major": 10, "minor": 183, "fileMode": 0o600},
        ]);
        config["linux"]["resources"] = json!({
            "devices": [
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 240, "minor": 11, "access": "r"},
            ],
            "memory": {"limit": 64 << 20}, "pids": {"limit": 23},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000},
        });
    });
    sandbox.script(
        "sigloop 1 ; open /dev/allowed r ; open /dev/allowed w ; open /dev/denied r ; say done ; sleep 60",
    );
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, _) = Piped::run(&sandbox, &run);
    piped.wait_for("ready\n");
    let before = limits(&sandbox);
    assert!(before.iter().any(|(path, text)| path.ends_with("pids.max") && text == "23\n"));
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    assert_eq!(limits(&sandbox), before);
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    piped.wait_for("done\n");
    let said = piped.text();
    assert!(said.contains("open /dev/denied EPERM\n"), "{said}");
    // Opening it for reading reaches the driver, which does not exist.
    assert!(said.contains("open /dev/allowed ENXIO\nopen /dev/allowed EPERM\n"), "{said}");
}

#[test]
fn a_limit_that_does_not_suffice_is_named() {
    criu_only!();
    if fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1) {
        return skip("there is swap, into which it fits");
    }
    let sandbox = Sandbox::new();
    sandbox.script("fill /dev/shm/full 33554432 ; sigloop 100");
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let (mut piped, _) = Piped::run(&sandbox, &["run", "-d", "--bundle", bundle, &sandbox.id]);
    piped.wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    let limit = |bytes: u64| {
        sandbox.patch(|config| config["linux"]["resources"]["memory"] = json!({"limit": bytes}));
    };
    limit(20 << 20);
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    brig(&sandbox, &args).fails_with("the container's memory limit does not suffice");
    sandbox.assert_nothing_left();
    limit(96 << 20);
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}
