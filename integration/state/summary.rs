//! `list` and `state` report the same about a container in any state; only state reports how it ended.

use crate::host;
use crate::sandbox::{Sandbox, brig_only, on_host, skip};
use serde_json::{Value, json};
use std::fs;

/// Its status; checks that `state` and `list` agree about everything.
fn status(sandbox: &Sandbox) -> String {
    let mut state = sandbox.state();
    let ended = ["exitStatus", "exitReason"];
    ended.iter().for_each(|key| drop(state.as_object_mut().unwrap().remove(*key)));
    let list = sandbox.brig(&["list", "--format", "json"]).ok();
    assert_eq!(list.stderr, "");
    let list: Vec<Value> = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list, std::slice::from_ref(&state));
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.trim(), sandbox.id);
    state["status"].as_str().unwrap().to_owned()
}

fn record(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.state_root().join(&sandbox.id).join("state.json")
}

/// The status with a changed record.
fn status_with(sandbox: &Sandbox, change: impl FnOnce(&mut Value)) -> String {
    let path = record(sandbox);
    let text = fs::read_to_string(&path).unwrap();
    let mut changed = serde_json::from_str(&text).unwrap();
    change(&mut changed);
    fs::write(&path, changed.to_string()).unwrap();
    let status = status(sandbox);
    fs::write(&path, text).unwrap();
    status
}

/// The record was written by a brig without pidfs.
fn older(state: &mut Value) {
    let fields = state.as_object_mut().unwrap();
    fields.remove("boot");
    fields.remove("pidfs_inode");
}

#[test]
fn list_and_state_agree_whatever_a_container_does() {
    brig_only!();
    let sandbox = Sandbox::new();
    // A shim that does not reap, as long as it lives.
    let (create, bundle) = (sandbox.command(&[]), sandbox.bundle());
    let mut shim = on_host(&["subreaper"]);
    shim.arg(create.get_program()).args(create.get_args());
    shim.args(["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    sandbox.script("sleep 60");
    sandbox.patch(|config| config["annotations"] = json!({"z": "1", "a": "\u{e9}\"\n"}));
    let mut shim = sandbox.spawn(shim);
    shim.wait_for_line("ready 0");
    let (pid, id) = (sandbox.pid(), sandbox.id.as_str());
    assert_eq!(status(&sandbox), "created");
    sandbox.start();
    assert_eq!(status(&sandbox), "running");
    sandbox.brig(&["pause", id]).ok();
    assert_eq!(status(&sandbox), "paused");
    sandbox.brig(&["resume", id]).ok();
    assert_eq!(status(&sandbox), "running");
    assert_eq!(status_with(&sandbox, older), "running");
    sandbox.brig(&["kill", id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    let state = host::status_of(pid, "State");
    assert_eq!(
        (status(&sandbox), status_with(&sandbox, older)),
        ("stopped".into(), "stopped".into())
    );
    shim.child.kill().unwrap();
    shim.child.wait().unwrap();
    if state.is_none_or(|state| !state.starts_with('Z')) {
        skip("somebody else reaped the container's init: no zombie to look at");
    }
    let reaped = || host::status_of(pid, "State").is_none();
    if !host::wait_briefly(std::time::Duration::from_secs(20), reaped) {
        return skip("nobody waits for orphans here");
    }
    assert_eq!(
        (status(&sandbox), status_with(&sandbox, older)),
        ("stopped".into(), "stopped".into())
    );
    sandbox.delete();
}

/// Pids and pidfs inodes start again with each boot.
#[test]
fn of_another_boot_only_the_start_time_tells() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let state: Value =
        serde_json::from_str(&fs::read_to_string(record(&sandbox)).unwrap()).unwrap();
    assert_eq!(state["boot"].is_string(), state["pidfs_inode"].is_u64(), "{state}");
    let other = |state: &mut Value| {
        if state["boot"].is_string() {
            state["boot"] = "00000000-0000-4000-8000-000000000000".into();
        }
    };
    let later = |state: &mut Value| {
        state["start_time"] = (state["start_time"].as_u64().unwrap() + 1).into();
    };
    let inode = |state: &mut Value| state["pidfs_inode"] = 3.into();
    assert_eq!(status_with(&sandbox, other), "created");
    assert_eq!(status_with(&sandbox, |state| (other(state), later(state)).1), "stopped");
    assert_eq!(status_with(&sandbox, |state| (older(state), later(state)).1), "stopped");
    if state["boot"].is_string() {
        assert_eq!(status_with(&sandbox, inode), "stopped");
        assert_eq!(status_with(&sandbox, |state| (other(state), inode(state)).1), "stopped");
    }
}

#[test]
fn the_list_of_ids_reads_no_record() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    let dir = sandbox.state_root().join("damaged");
    fs::create_dir(&dir).unwrap();
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.trim(), sandbox.id);
    fs::write(dir.join("state.json"), "{").unwrap();
    let list = sandbox.brig(&["list", "-q"]).ok();
    let mut expected = ["damaged", &sandbox.id];
    expected.sort_unstable();
    assert_eq!(
        (list.stdout.lines().collect::<Vec<_>>().as_slice(), &*list.stderr),
        (&expected[..], "")
    );
    crate::tree::remove(&dir).unwrap();
}
