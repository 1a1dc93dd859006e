//! create, start, state, delete: the lifecycle of a container, and which operations are refused in which
//! state.

use crate::host;
use crate::sandbox::{Sandbox, brig_only, skip};
use crate::tracer::run_and_stop_at;
use serde_json::json;
use std::fs;

#[test]
fn create_start_kill_delete_is_a_whole_life() {
    let sandbox = Sandbox::new();
    sandbox.script("say hello ; sleep 60").create();
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn create_and_start_print_nothing_of_their_own() {
    let sandbox = Sandbox::new();
    let created = sandbox.script("say hello ; warn there").create();
    assert_eq!((created.stdout.as_str(), created.stderr.as_str()), ("", ""));
    let started = sandbox.start();
    assert_eq!((started.stdout.as_str(), started.stderr.as_str()), ("", ""));
    created.wait_for_line("hello");
    sandbox.wait_for_status("stopped");
    assert_eq!(created.facts_now().0, ["hello"]);
}

#[test]
fn the_process_does_not_run_before_start() {
    let sandbox = Sandbox::new();
    sandbox.script("write /tmp/ran yes").create();
    host::wait_until_asleep(sandbox.pid());
    let ran = sandbox.rootfs().join("tmp/ran");
    assert!(!ran.exists());
    sandbox.start();
    sandbox.wait_for_status("stopped");
    assert_eq!(fs::read_to_string(ran).unwrap(), "yes");
}

#[test]
fn start_has_run_the_process_when_it_returns() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let exe = fs::read_link(format!("/proc/{}/exe", sandbox.pid())).unwrap();
    assert!(exe.ends_with("init"), "still {exe:?}");
}

#[test]
fn state_tells_what_the_spec_asks_for() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"org.example.a": "1", "b": ""}));
    sandbox.script("sleep 60").create();
    let state = sandbox.state();
    assert_eq!(state["id"], json!(sandbox.id));
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], json!(sandbox.bundle()));
    assert_eq!(state["annotations"]["org.example.a"], "1");
    assert_eq!(state["annotations"]["b"], "");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    assert!(fs::metadata(format!("/proc/{}", state["pid"])).is_ok(), "{state}");
    // Fields that runc adds, and engines read.
    assert_eq!(state["rootfs"], json!(sandbox.rootfs()));
    assert!(state["created"].as_str().unwrap().contains('T'), "{state}");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    assert_eq!(sandbox.pid(), 0);
}

#[test]
fn a_relative_bundle_is_kept_absolute() {
    let sandbox = Sandbox::new();
    sandbox.brig(&["create", "--bundle", "bundle", &sandbox.id]).ok();
    assert_eq!(sandbox.state()["bundle"], json!(sandbox.bundle()));
}

#[test]
fn a_bundle_has_one_name_in_whatever_way_it_is_given() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("bundle", sandbox.dir.join("link")).unwrap();
    let bundle = sandbox.bundle().canonicalize().unwrap();
    for given in ["bundle///", "bundle/../bundle", "link", "./link/."] {
        sandbox.brig(&["create", "--bundle", given, &sandbox.id]).ok();
        let state = sandbox.state();
        assert_eq!(state["bundle"], json!(bundle), "{given}");
        assert_eq!(state["rootfs"], json!(bundle.join("rootfs")), "{given}");
        sandbox.delete();
    }
    sandbox.patch(|config| config["root"]["path"] = json!("./rootfs/../rootfs//"));
    sandbox.create();
    assert_eq!(sandbox.state()["rootfs"], json!(bundle.join("rootfs")));
}

#[test]
fn the_bundle_is_the_current_directory_unless_given() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["run", &sandbox.id]);
    command.current_dir(sandbox.bundle());
    sandbox.spawn(command).wait().ok();
}

#[test]
fn an_id_in_use_is_refused_and_its_container_unharmed() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    sandbox.create_with(&[]).fails_with("exist");
    sandbox.run().fails_with("exist");
    assert_eq!((sandbox.status().as_str(), sandbox.pid()), ("created", pid));
    sandbox.start();
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn an_unknown_id_does_not_exist() {
    let sandbox = Sandbox::new();
    for args in
        [&["state", "nobody"][..], &["start", "nobody"], &["kill", "nobody"], &["delete", "nobody"]]
    {
        sandbox.brig(args).fails_with("container does not exist");
    }
    assert_eq!(sandbox.brig(&["delete", "--force", "nobody"]).ok().stderr, "");
}

#[test]
fn only_a_created_container_starts() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox.brig(&["start", &sandbox.id]).fails_with("running");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["start", &sandbox.id]).fails_with("stopped");
}

#[test]
fn a_running_container_is_not_deleted_without_force() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox.brig(&["delete", &sandbox.id]).fails_with("running");
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_created_container_is_killed_and_deleted() {
    let sandbox = Sandbox::new();
    sandbox.create();
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_created_container_that_was_killed_is_stopped() {
    let sandbox = Sandbox::new();
    sandbox.create();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["start", &sandbox.id]).fails_with("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_half_made_state_directory_is_removed_by_force() {
    brig_only!();
    let sandbox = Sandbox::new();
    let half = sandbox.state_root().join("half");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("state.json.tmp"), "{").unwrap();
    sandbox.brig(&["delete", "--force", "half"]).ok();
    assert!(!half.exists());
}

#[test]
fn a_broken_state_file_is_removed_by_force_and_named_otherwise() {
    brig_only!();
    let sandbox = Sandbox::new();
    let broken = sandbox.state_root().join("broken");
    fs::create_dir_all(&broken).unwrap();
    fs::write(broken.join("state.json"), "{\"id\": \"bro").unwrap();
    sandbox.brig(&["state", "broken"]).fails_with("broken");
    sandbox.brig(&["delete", "--force", "broken"]).ok();
    assert!(!broken.exists());
}

#[test]
fn the_config_is_a_snapshot_taken_at_create() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"org.example": "old"}));
    let created = sandbox.script("say old").create();
    sandbox.patch(|config| config["annotations"] = json!({"org.example": "new"}));
    sandbox.script("say new");
    assert_eq!(sandbox.state()["annotations"]["org.example"], "old");
    fs::remove_file(sandbox.bundle().join("config.json")).unwrap();
    sandbox.start();
    sandbox.wait_for_status("stopped");
    assert_eq!(created.facts_now().0, ["old"]);
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_zombie_is_stopped() {
    let sandbox = Sandbox::new();
    // A shim that does not reap: the container's init stays a zombie as long as the shim lives.
    let (create, bundle) = (sandbox.command(&[]), sandbox.bundle());
    let mut shim = crate::sandbox::on_host(&["subreaper"]);
    shim.arg(create.get_program()).args(create.get_args());
    shim.args(["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    sandbox.script("true");
    let mut shim = sandbox.spawn(shim);
    shim.wait_for_line("ready 0");
    let pid = sandbox.pid();
    sandbox.start();
    sandbox.wait_for_status("stopped");
    let state = host::status_of(pid, "State");
    sandbox.brig(&["kill", &sandbox.id, "TERM"]).fails_with("not running");
    sandbox.delete();
    shim.child.kill().unwrap();
    shim.child.wait().unwrap();
    if state.is_none_or(|state| !state.starts_with('Z')) {
        skip("somebody else reaped the container's init: no zombie to look at");
    }
}

#[test]
fn a_reused_pid_is_not_taken_for_the_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    let file = sandbox.state_root().join(&sandbox.id).join("state.json");
    let text = fs::read_to_string(&file).unwrap();
    // The kernel's clock ticks are 10 ms, in which pids cannot wrap around.
    let uptime = || fs::read_to_string("/proc/uptime").unwrap();
    let now = uptime();
    assert!(host::wait_until(std::time::Duration::from_secs(5), || uptime() != now));
    let mut bystander = sandbox.spawn(crate::sandbox::on_host(&["sleep", "60"]));
    let other = text.replace(&pid.to_string(), &bystander.child.id().to_string());
    assert_ne!(text, other, "the state does not name the pid");
    fs::write(&file, other).unwrap();
    assert_eq!(sandbox.status(), "stopped");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).fails_with("container not running");
    assert!(bystander.child.try_wait().unwrap().is_none(), "a bystander was killed");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(bystander.child.try_wait().unwrap().is_none(), "a bystander was killed");
    bystander.child.kill().unwrap();
    bystander.child.wait().unwrap();
    sandbox.assert_nothing_left();
}

#[test]
fn the_state_directory_is_for_root_alone() {
    brig_only!();
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    sandbox.create();
    let dir = sandbox.state_root().join(&sandbox.id);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("state.json")).unwrap()).unwrap();
    assert!(json.is_object());
}

/// Right before start writes to the fifo that the container's process waits at.
#[test]
fn a_process_that_dies_when_it_is_released_is_an_error_of_start() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    let start = sandbox.command(&["start", &sandbox.id]);
    let code = run_and_stop_at(
        &sandbox,
        start,
        |call, _| call == libc::SYS_write,
        || {
            sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
            sandbox.wait_for_status("stopped");
        },
    );
    assert_eq!(code, Some(1));
    sandbox.delete();
    sandbox.assert_nothing_left();
}
