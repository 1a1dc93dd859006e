//! `exec` into a cgroup: the container's, one below it, and what happens after its removal.

use crate::exec::{exec, started};
use crate::freeze::created_in;
use crate::host;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::json;
use std::fs;

#[test]
fn a_cgroup_below_the_containers_can_be_chosen() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    started(&sandbox);
    let Some((host::Version::V1, freezer)) = host::controller("freezer") else {
        return crate::sandbox::skip("no v1 freezer");
    };
    let freezer = freezer.join(&sandbox.id);
    fs::create_dir(freezer.join("below")).unwrap();
    exec(&sandbox, &["--cgroup", "freezer:below", "--detach", "--pid-file", "pid"], "sleep 60")
        .ok();
    let pid = fs::read_to_string(sandbox.dir.join("pid")).unwrap();
    assert_eq!(fs::read_to_string(freezer.join("below/tasks")).unwrap().trim(), pid);
    let done = exec(&sandbox, &["--cgroup", "nowhere"], "true");
    assert_eq!(done.code, Some(255));
    assert!(done.stderr.contains("--cgroup nowhere: "), "{done:?}");
}

#[test]
fn a_frozen_cgroup_below_the_containers_is_refused() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    started(&sandbox);
    let Some((host::Version::V1, freezer)) = host::controller("freezer") else {
        return crate::sandbox::skip("no v1 freezer");
    };
    let below = freezer.join(&sandbox.id).join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("freezer.state"), "FROZEN").unwrap();
    let args = ["exec", "--cgroup", "freezer:below", &sandbox.id, "/init", "true"];
    let mut running = sandbox.spawn(sandbox.command(&args));
    let ended = || running.child.try_wait().unwrap().is_some();
    _ = host::wait_briefly(std::time::Duration::from_secs(5), ended);
    // Otherwise the process of a brig that enters it could not even be killed.
    fs::write(below.join("freezer.state"), "THAWED").unwrap();
    let done = running.wait();
    assert!(done.stderr.contains("cannot exec in a frozen container"), "{done:?}");
}

#[test]
fn a_path_of_several_controllers_is_used_in_the_hierarchy_of_each() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    started(&sandbox);
    let hierarchy = |name: &str| match host::controller(name) {
        Some((host::Version::V1, mountpoint)) => Some(mountpoint.join(&sandbox.id)),
        _ => None,
    };
    let (Some(cpu), Some(pids)) = (hierarchy("cpu"), hierarchy("pids")) else {
        return crate::sandbox::skip("no cpu and pids on v1");
    };
    for dir in [&cpu, &pids] {
        fs::create_dir(dir.join("below")).unwrap();
    }
    for path in ["cpu,pids:/below", "cpu,pids:below"] {
        let done = exec(&sandbox, &["--cgroup", path, "--detach", "--pid-file", "pid"], "sleep 60");
        done.ok();
        let pid = fs::read_to_string(sandbox.dir.join("pid")).unwrap();
        for dir in [&cpu, &pids] {
            let tasks = fs::read_to_string(dir.join("below/tasks")).unwrap();
            assert!(tasks.lines().any(|line| line == pid), "{path} {dir:?}: {tasks}");
        }
    }
    for (args, words) in [
        (&["--cgroup", "cpu,nosuch:/"][..], "nosuch"),
        (&["--cgroup", "cpu:/", "--cgroup", "cpu:/below"], "cpu"),
        (&["--cgroup", "cpu:/", "--cgroup", "/below"], "/below"),
    ] {
        let done = exec(&sandbox, args, "true");
        assert_eq!(done.code, Some(255), "{done:?}");
        assert!(done.stderr.contains(words), "{done:?}");
    }
}

/// Only with cgroup2 alone, as in runc.
#[test]
fn where_init_has_left_a_cgroup_that_is_gone_exec_goes_where_init_is() {
    brig_only!();
    let hierarchies = host::hierarchies();
    let Some((_, unified)) = hierarchies.iter().find(|(names, _)| names.is_empty()) else {
        return crate::sandbox::skip("this host has no cgroup2");
    };
    let (sandbox, _) = created_in(Sandbox::new(), <[String]>::is_empty, "sleep 60");
    sandbox.start();
    let (own, elsewhere) =
        (unified.join(&sandbox.id), unified.join(format!("{}-else", sandbox.id)));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("cgroup.procs"), sandbox.pid().to_string()).unwrap();
    fs::remove_dir(&own).unwrap();
    exec(&sandbox, &["--detach", "--pid-file", "pid"], "sleep 60").ok();
    let pid = fs::read_to_string(sandbox.dir.join("pid")).unwrap();
    let procs = fs::read_to_string(elsewhere.join("cgroup.procs")).unwrap();
    // An explicit one must exist.
    let named = exec(&sandbox, &["--cgroup", "below"], "true");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let gone = || fs::remove_dir(&elsewhere).is_ok();
    assert!(host::wait_until(std::time::Duration::from_secs(10), gone));
    assert!(procs.lines().any(|line| line == pid), "{procs} {pid}");
    assert_eq!(named.code, Some(255), "{named:?}");
}
