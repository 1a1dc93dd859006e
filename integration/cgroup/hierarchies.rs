//! Hosts with one cgroup version only, without one controller, or without cgroups: simulated by hiding mounts
//! from brig.

use crate::cgroups::{limited, seeing};
use crate::facts::Facts;
use crate::host::{self, Version};
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use serde_json::json;

/// Runs a script with only these cgroup mounts visible to brig.
fn run_seeing(sandbox: &Sandbox, script: &str, seen: impl Fn(&[String]) -> bool) -> Done {
    let bundle = sandbox.script(script).bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    seeing(&mut command, seen);
    sandbox.spawn(command).wait()
}

const DEVICES: &str = "mknod /tmp/null c 1 3 ; open /tmp/null rw ; mknod /tmp/mem c 1 1 ; open /tmp/mem r ; \
                       mknod /tmp/fuse c 10 229 ; open /tmp/fuse rw ; open /dev/zero r";

/// Checks the output of [`DEVICES`].
#[track_caller]
fn only_default_devices(facts: &Facts) {
    assert_eq!(facts.get("open /tmp/null"), "ok");
    assert_eq!(facts.get("open /dev/zero"), "ok");
    for name in ["mem", "fuse"] {
        assert!(["EPERM", "ENOENT"].contains(&facts.get(&format!("open /tmp/{name}"))), "{facts}");
    }
}

#[test]
fn without_a_v1_controller_a_program_limits_the_devices() {
    brig_only!();
    if !host::hierarchies().iter().any(|(controllers, _)| controllers.is_empty()) {
        return skip("this host has no cgroup2");
    }
    let sandbox = Sandbox::new();
    let done = run_seeing(&sandbox, DEVICES, |controllers| {
        !controllers.iter().any(|name| name == "devices")
    });
    only_default_devices(&Facts::parse(&done.ok().stdout));
    sandbox.assert_nothing_left();
}

#[test]
fn cgroup2_alone_is_enough() {
    brig_only!();
    if !host::hierarchies().iter().any(|(controllers, _)| controllers.is_empty()) {
        return skip("this host has no cgroup2");
    }
    let sandbox = Sandbox::new();
    let done =
        run_seeing(&sandbox, &format!("{DEVICES} ; list /sys/fs/cgroup"), <[String]>::is_empty);
    let facts = Facts::parse(&done.ok().stdout);
    only_default_devices(&facts);
    assert!(facts.all("entry /sys/fs/cgroup").contains(&"cgroup.procs"), "{facts}");
    sandbox.assert_nothing_left();
}

#[test]
fn v1_alone_is_enough() {
    brig_only!();
    if host::controller("devices").is_none_or(|(version, _)| version != Version::V1) {
        return skip("this host has no v1 controller devices");
    }
    let sandbox = limited("pids", json!({"limit": 8}));
    let done = run_seeing(&sandbox, &format!("{DEVICES} ; forks 20"), |controllers| {
        !controllers.is_empty()
    });
    let facts = Facts::parse(&done.ok().stdout);
    only_default_devices(&facts);
    if host::controller("pids").is_some_and(|(version, _)| version == Version::V1) {
        assert_eq!(facts.get("forks"), "7 EAGAIN");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_host_without_cgroups_is_told_about_and_nothing_is_left() {
    brig_only!();
    let sandbox = Sandbox::new();
    run_seeing(&sandbox, "true", |_| false).fails_with("cgroup");
    sandbox.assert_nothing_left();
}
