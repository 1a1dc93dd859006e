//! `--cgroup-manager=disabled`, and `--systemd-cgroup` without systemd.

use crate::host;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use serde_json::json;
use std::fs;
use std::path::Path;

fn disabled(sandbox: &Sandbox, args: &[&str]) -> Done {
    let bundle = sandbox.bundle();
    let before = ["--cgroup-manager", "disabled"];
    let all = [&before[..], args, &["--bundle", bundle.to_str().unwrap(), &sandbox.id]].concat();
    sandbox.brig(&all)
}

fn own_cgroups() -> String {
    fs::read_to_string("/proc/self/cgroup").unwrap()
}

#[test]
fn a_container_without_a_cgroup_is_in_brigs_own() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    disabled(&sandbox, &["create"]).ok();
    sandbox.start();
    let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", sandbox.pid())).unwrap();
    assert_eq!(cgroups, own_cgroups());
    assert_eq!(host::cgroups_with(&sandbox.id), Vec::<std::path::PathBuf>::new());
    sandbox.brig(&["exec", &sandbox.id, "/init", "say", "hello"]).ok();
    let below = sandbox.brig(&["exec", "--cgroup", "below", &sandbox.id, "/init", "true"]);
    let why = "--cgroup below: the container has no cgroup of its own";
    assert!(below.stderr.contains(why), "{below:?}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
    assert_eq!(cgroups, own_cgroups());
}

#[test]
fn without_a_cgroup_nothing_can_be_limited() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 5}));
    let message = disabled(&sandbox, &["create"]).fails();
    assert!(message.contains("linux.resources") && message.contains("disabled"), "{message}");
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_cgroup_all_is_all_of_the_pid_namespace() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    disabled(&sandbox, &["run", "--detach"]).ok();
    let exec = ["exec", &sandbox.id, "/init", "say", "up", ";", "sleep", "60"];
    let other = sandbox.spawn(sandbox.command(&exec));
    other.wait_for_line("up");
    sandbox.brig(&["kill", "--all", &sandbox.id, "KILL"]).ok();
    assert_eq!(other.wait().code, Some(128 + 9));
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn without_cgroup_and_pid_namespace_init_is_killed_and_all_is_refused() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    disabled(&sandbox, &["run", "--detach"]).ok();
    let message = sandbox.brig(&["kill", "--all", &sandbox.id, "USR1"]).fails();
    assert!(message.contains("neither a cgroup nor a pid namespace"), "{message}");
    let message = sandbox.brig(&["kill", "--all", &sandbox.id, "KILL"]).fails();
    assert!(message.contains("only its init is killed"), "{message}");
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["kill", "--all", &sandbox.id, "KILL"]).ok();
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn without_systemd_its_scopes_are_refused_with_a_hint() {
    brig_only!();
    if Path::new("/run/systemd/private").exists() {
        return skip("systemd is running here");
    }
    for manager in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        let sandbox = Sandbox::new();
        let bundle = sandbox.bundle();
        let args = [manager, "create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let message = sandbox.brig(&args).fails();
        assert!(message.contains("systemd is not running"), "{message}");
        assert!(message.contains("--cgroup-manager=cgroupfs"), "{message}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_path_or_an_annotation_that_systemd_could_not_take_is_refused_by_name() {
    brig_only!();
    let sandbox = Sandbox::new();
    for (pointer, value, words) in [
        ("/linux/cgroupsPath", "/a/b", ["linux.cgroupsPath (config.json", "slice:prefix:name"]),
        ("/linux/cgroupsPath", "x:a:b", ["linux.cgroupsPath (config.json", ".slice"]),
        (
            "/annotations/org.systemd.property.TimeoutStopSec",
            "soon",
            ["annotations[\"org.systemd.property.TimeoutStopSec\"] (config.json", "\"soon\""],
        ),
        (
            "/annotations/org.systemd.property.PIDs",
            "[uint32 1]",
            [
                "annotations[\"org.systemd.property.PIDs\"] (config.json",
                "an annotation cannot choose",
            ],
        ),
    ] {
        let before = sandbox.config();
        sandbox.patch(|config| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            if config.pointer(parent).is_none() {
                config[&parent[1..]] = json!({});
            }
            config.pointer_mut(parent).unwrap()[name] = json!(value);
        });
        let bundle = sandbox.bundle();
        let bundle = bundle.to_str().unwrap();
        let args = ["--systemd-cgroup", "create", "--bundle", bundle, &sandbox.id];
        let message = sandbox.brig(&args).fails();
        for word in words {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        sandbox.write_config(&before);
    }
    sandbox.assert_nothing_left();
}
