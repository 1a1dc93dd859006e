//! A restored container is a normal container: every command works with it.

use super::with::{
    Piped, answers, checkpoint, criu_only, images, restored, restored_as, running, state_of,
};
use crate::host;
use crate::sandbox::Sandbox;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn its_state_is_that_of_a_new_container() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"org.example.a": "b"}));
    running(&sandbox);
    let before = sandbox.state();
    checkpoint(&sandbox, &[]).ok();
    restored(&sandbox, &[]);
    let after = sandbox.state();
    for field in ["ociVersion", "id", "bundle", "annotations", "status", "rootfs", "owner"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_ne!(after["created"], before["created"]);
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn wait_tells_how_it_ends() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 1 ; exit 7");
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    Piped::run(&sandbox, &run).0.wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    restored(&sandbox, &[]);
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    sandbox.wait_for_status("stopped");
    let done = sandbox.brig(&["wait", "--format", "json", &sandbox.id]).ok();
    let ended: Value = serde_json::from_str(&done.stdout).unwrap();
    // Unless the kernel is too old to report it.
    assert!(ended[0]["exitStatus"] == 7 || ended[0]["exitStatus"].is_null(), "{ended}");
}

#[test]
fn it_is_paused_updated_and_counted() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let mut piped = restored(&sandbox, &[]);
    let id = sandbox.id.as_str();
    sandbox.brig(&["pause", id]).ok();
    assert_eq!(sandbox.status(), "paused");
    sandbox.brig(&["resume", id]).ok();
    answers(&sandbox, id, &mut piped);
    sandbox.brig(&["update", "--pids-limit", "31", id]).ok();
    let limits: Vec<_> = host::cgroups_with(id)
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("pids.max")).ok())
        .collect();
    assert!(limits.iter().any(|limit| limit == "31\n"), "{limits:?}");
    let stats: Value =
        serde_json::from_str(&sandbox.brig(&["events", "--stats", id]).ok().stdout).unwrap();
    assert_eq!(stats["data"]["pids"]["current"], 1, "{stats}");
    let listed = sandbox.brig(&["ps", "--format", "json", id]).ok().stdout;
    assert_eq!(serde_json::from_str::<Vec<i64>>(&listed).unwrap(), [sandbox.pid()]);
}

/// The links of all namespaces of a process.
fn namespaces(pid: i64) -> Vec<(String, String)> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "uts"];
    let link = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    kinds.iter().map(|kind| (kind.to_string(), link(kind).display().to_string())).collect()
}

#[test]
fn exec_is_in_its_namespaces_and_cgroup() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    restored(&sandbox, &[]);
    let pid_file = sandbox.dir.join("pid");
    let id = sandbox.id.as_str();
    let exec = ["exec", "-d", "--pid-file", pid_file.to_str().unwrap(), id, "/init", "sleep", "60"];
    sandbox.brig(&exec).ok();
    let pid: i64 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!(namespaces(pid), namespaces(sandbox.pid()));
    let cgroup = |pid: i64| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(cgroup(pid), cgroup(sandbox.pid()));
}

#[test]
fn it_can_have_another_bundle() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &["--leave-running"]).ok();
    let other = sandbox.dir.join("other");
    let copied = Command::new("cp").arg("-a").arg(sandbox.bundle()).arg(&other).status().unwrap();
    assert!(copied.success());
    let id = format!("{}-b", sandbox.id);
    let mut piped = restored_as(&sandbox, &id, &["--bundle", other.to_str().unwrap()]);
    answers(&sandbox, &id, &mut piped);
    assert_eq!(state_of(&sandbox, &id)["bundle"], other.to_str().unwrap());
    sandbox.brig(&["exec", &id, "/init", "write", "/etc/there", "1"]).ok();
    let at = |bundle: &Path| bundle.join("rootfs/etc/there").exists();
    assert!(at(&other) && !at(&sandbox.bundle()));
}

/// Whether its init is in one of its cgroups.
fn in_its_cgroup(sandbox: &Sandbox) -> bool {
    let pid = sandbox.pid().to_string();
    host::cgroups_with(&sandbox.id).iter().any(|dir| {
        fs::read_to_string(dir.join("cgroup.procs"))
            .is_ok_and(|text| text.lines().any(|line| line == pid))
    })
}

#[test]
fn its_limits_are_in_force_whatever_way_criu_has_with_cgroups() {
    criu_only!();
    for mode in ["soft", "full", "ignore", "strict"] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 23}));
        running(&sandbox);
        checkpoint(&sandbox, &["--manage-cgroups-mode", mode]).ok();
        let images = images(&sandbox);
        let bundle = sandbox.bundle();
        let args = [
            "restore",
            "-d",
            "--image-path",
            &images,
            "--manage-cgroups-mode",
            mode,
            "--bundle",
            bundle.to_str().unwrap(),
            &sandbox.id,
        ];
        let (mut piped, status) = Piped::run(&sandbox, &args);
        if mode == "strict" {
            piped.wait_for("--manage-cgroups-mode strict: CRIU then refuses the cgroup");
            return sandbox.assert_nothing_left();
        }
        if !status.success() {
            piped.wait_for("never");
        }
        assert!(in_its_cgroup(&sandbox), "{mode}");
        answers(&sandbox, &sandbox.id, &mut piped);
        let limits: Vec<_> = host::cgroups_with(&sandbox.id)
            .iter()
            .filter_map(|dir| fs::read_to_string(dir.join("pids.max")).ok())
            .collect();
        assert!(limits.iter().any(|limit| limit == "23\n"), "{mode}: {limits:?}");
    }
}
