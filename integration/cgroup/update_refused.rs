//! `update` that is refused completely or in part: all limits are unchanged.

use crate::cgroups::{limited, setting};
use crate::host::{self, Version};
use crate::sandbox::{Sandbox, brig_only, skip};
use crate::update::{limits, memory, running, update, update_by_stdin};
use serde_json::{Value, json};

#[test]
fn a_cut_of_memory_below_its_use_is_refused_and_all_is_as_before() {
    let Some((version, _)) = host::controller("memory") else {
        return skip("this host has no controller memory");
    };
    let sandbox = limited("memory", json!({"limit": 64 << 20, "swap": 64 << 20}));
    running(&sandbox, &format!("fill /dev/shm/held {}", 24 << 20));
    let before = limits(&sandbox);
    let json = json!({
        "memory": {"limit": 8 << 20, "swap": 8 << 20, "checkBeforeUpdate": true},
        "cpu": {"quota": 20000}, "pids": {"limit": 50},
    });
    let refused = update_by_stdin(&sandbox, &["-r", "-"], &json.to_string()).fails();
    if !crate::sandbox::is_peer() {
        assert!(refused.contains("memory"), "{refused}");
        assert_eq!(limits(&sandbox), before);
    }
    assert_eq!(sandbox.status(), "running");
    assert_eq!(memory(&sandbox), (64 << 20).to_string(), "{version:?}");
}

/// On v1 the kernel changes such values without an error.
#[test]
fn shares_out_of_the_kernels_range_are_refused() {
    if host::controller("cpu").is_none_or(|(version, _)| version == Version::V2) {
        return skip("this host has no v1 controller cpu");
    }
    for shares in [1, 262_145] {
        let sandbox = limited("cpu", json!({"shares": shares}));
        let message = sandbox.create_with(&[]).fails();
        assert!(
            crate::sandbox::is_peer() || message.contains("must be from 2 to 262144"),
            "{message}"
        );
    }
    let sandbox = limited("cpu", json!({"shares": 2}));
    sandbox.create();
    let message = update(&sandbox, &["--cpu-share", "262145"]).fails();
    assert!(crate::sandbox::is_peer() || message.contains("cpu.shares"), "{message}");
    update(&sandbox, &["--cpu-share", "262144"]).ok();
    assert_eq!(setting(&sandbox, "cpu", "cpu.shares", ""), "262144");
}

/// The kernel resets the weight of a cgroup that is no longer idle.
#[test]
fn a_cgroup_that_is_not_made_idle_after_all_keeps_its_weight() {
    brig_only!();
    let sandbox = limited("cpu", json!({"shares": 512}));
    if host::controller("cpu").is_none() || host::controller("pids").is_none() {
        return skip("this host has no controllers cpu and pids");
    }
    sandbox.create();
    let before = setting(&sandbox, "cpu", "cpu.shares", "cpu.weight");
    for cpu in [json!({"idle": 1}), json!({"idle": 1, "shares": 77})] {
        let json = json!({"cpu": cpu, "pids": {"limit": 99_999_999}}).to_string();
        let message = update_by_stdin(&sandbox, &["-r", "-"], &json).fails();
        assert!(message.contains("linux.resources.pids.limit"), "{message}");
        assert_eq!(setting(&sandbox, "cpu", "cpu.idle", "cpu.idle"), "0");
        assert_eq!(setting(&sandbox, "cpu", "cpu.shares", "cpu.weight"), before);
    }
}

#[test]
fn whatever_is_refused_last_the_rest_is_taken_back() {
    brig_only!();
    if host::controller("cpuset").is_none() {
        return skip("this host has no controller cpuset");
    }
    let sandbox = limited("cpu", json!({"quota": 20000, "period": 100_000, "burst": 5000}));
    sandbox.create();
    let before = limits(&sandbox);
    let message = update(
        &sandbox,
        &[
            "--cpu-quota=60000",
            "--cpu-period=50000",
            "--cpu-burst=1000",
            "--cpu-share=77",
            "--memory=50m",
            "--cpuset-cpus=4000",
        ],
    )
    .fails();
    assert!(message.contains("linux.resources.cpu.cpus"), "{message}");
    assert_eq!(limits(&sandbox), before);
    update(&sandbox, &["--cpu-quota=60000", "--cpu-period=50000", "--cpu-burst=1000"]).ok();
}

#[test]
fn a_stopped_container_and_none_cannot_be_updated() {
    let sandbox = Sandbox::new();
    update(&sandbox, &["--memory", "64m"]).fails_with("does not exist");
    sandbox.script("true").run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    update(&sandbox, &["--memory", "64m"]).fails_with("not running");
}

#[test]
fn a_wrong_limit_is_told_with_its_place() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    for (args, part) in [
        (&["--memory", "64q"][..], "--memory \"64q\": not a size (e.g. 64m or -1)"),
        (&["--cpu-share", "x"], "--cpu-share \"x\": not a number in the valid range"),
        (
            &["--blkio-weight", "1001"],
            "linux.resources.blockIO.weight: weight 1001: must be from 10 to 1000",
        ),
        (&["--cpu-idle", "2"], "linux.resources.cpu.idle: 2: neither 0 nor 1"),
        (&["--mem-bw-schema", "L3:0=f"], "does not start with MB:"),
        (&["--l3-cache-schema", "L3:0=f"], "created without linux.intelRdt"),
        (&["--resources", "/no/such/file"], "--resources /no/such/file: No such file or directory"),
    ] {
        update(&sandbox, args).fails_with(part);
    }
    for (json, part) in [
        (
            "{\n\"memory\": {\"limit\": \"64m\"}}",
            "memory.limit (stdin line 2, column 21): invalid type",
        ),
        ("{\n\"memory\": {\"limit\": -2}}", "memory.limit (stdin line 2, column 21): -2: neither"),
        ("[]", "expected an object"),
        ("", "stdin line 1"),
    ] {
        let message = update_by_stdin(&sandbox, &["-r", "-"], json).fails();
        assert!(message.contains(part), "no {part:?} in {message}");
    }
}

#[test]
fn kernel_memory_is_warned_of_and_changes_nothing() {
    if host::controller("memory").is_none() {
        return skip("this host has no controller memory");
    }
    let sandbox = Sandbox::new();
    sandbox.create();
    let before = limits(&sandbox);
    let warned = update(&sandbox, &["--kernel-memory", "64m", "--kernel-memory-tcp=1g"]).ok();
    assert!(warned.stderr.to_lowercase().contains("kernel memory"), "{warned:?}");
    assert_eq!(limits(&sandbox), before);
}

#[test]
fn v2_files_are_written_as_they_are() {
    let Some((Version::V2, _)) = host::controller("memory") else {
        return skip("this host has no memory on cgroup v2");
    };
    let sandbox = Sandbox::new();
    sandbox.create();
    let json: Value = json!({"unified": {"memory.high": "50331648", "memory.oom.group": "1"}});
    update_by_stdin(&sandbox, &["-r", "-"], &json.to_string()).ok();
    assert_eq!(setting(&sandbox, "memory", "", "memory.high"), "50331648");
    assert_eq!(setting(&sandbox, "memory", "", "memory.oom.group"), "1");
    let before = limits(&sandbox);
    let json = json!({"unified": {"memory.high": "1000000", "no.such": "1"}}).to_string();
    let message = update_by_stdin(&sandbox, &["-r", "-"], &json).fails();
    if !crate::sandbox::is_peer() {
        assert!(message.contains("no.such"), "{message}");
        assert_eq!(limits(&sandbox), before);
    }
}
