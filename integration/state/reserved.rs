//! An id belongs to one container, whatever other processes create or remove its state directory
//! concurrently.

use crate::host::wait_until;
use crate::sandbox::{Running, Sandbox, brig_only};
use crate::tracer::run_and_stop_at;
use serde_json::json;
use std::time::Duration;

/// Right after create has created the state directory, and before it has locked it.
fn between_making_and_locking() -> impl FnMut(i64, u64) -> bool {
    let mut made = false;
    move |call, _| {
        let opens = made && call == libc::SYS_openat;
        // aarch64 has no mkdir.
        #[cfg(target_arch = "x86_64")]
        let makes = call == libc::SYS_mkdir;
        #[cfg(not(target_arch = "x86_64"))]
        let makes = call == libc::SYS_mkdirat;
        made |= makes;
        opens
    }
}

/// Creates a container, and runs something else at that point. Returns the exit code of create.
fn create_and_meanwhile(sandbox: &Sandbox, meanwhile: impl FnOnce()) -> Option<i32> {
    // The state root exists.
    std::fs::create_dir_all(sandbox.state_root()).unwrap();
    let bundle = sandbox.bundle().display().to_string();
    let command = sandbox.command(&["create", "--bundle", &bundle, &sandbox.id]);
    run_and_stop_at(sandbox, command, between_making_and_locking(), meanwhile)
}

#[test]
fn a_create_whose_directory_is_removed_before_it_is_locked_makes_it_again() {
    brig_only!();
    let sandbox = Sandbox::new();
    let code = create_and_meanwhile(&sandbox, || {
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    });
    assert_eq!(code, Some(0));
    assert_eq!(sandbox.status(), "created");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_create_does_not_take_the_directory_of_another_create_for_its_own() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let code = create_and_meanwhile(&sandbox, || {
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.create();
    });
    assert_eq!(code, Some(1));
    // The other's container is complete.
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

/// A create whose hook waits for the file `go`.
fn creating(sandbox: &Sandbox) -> Running {
    let dir = sandbox.dir.display().to_string();
    let wait = format!("cd {dir}; : >begun; until [ -e go ]; do sleep 0.05; done");
    sandbox.script("sleep 60").patch(|config| {
        config["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", wait]}]);
    });
    let bundle = sandbox.bundle().display().to_string();
    let create = sandbox.command(&["create", "--bundle", &bundle, &sandbox.id]);
    let create = sandbox.spawn(create);
    assert!(wait_until(Duration::from_secs(20), || sandbox.dir.join("begun").exists()));
    create
}

/// exec has read a record of a container that is being created, and looks whether that create still runs.
#[test]
fn a_create_that_finishes_while_another_command_looks_is_not_taken_for_dead() {
    brig_only!();
    let sandbox = Sandbox::new();
    let create = creating(&sandbox);
    let exec = sandbox.command(&["exec", &sandbox.id, "/init", "true"]);
    let code = run_and_stop_at(
        &sandbox,
        exec,
        |call, _| call == libc::SYS_flock,
        || {
            std::fs::write(sandbox.dir.join("go"), "").unwrap();
            create.wait().ok();
        },
    );
    assert_eq!(code, Some(0));
}

#[test]
fn the_end_of_a_container_that_is_being_created_is_waited_for() {
    brig_only!();
    let sandbox = Sandbox::new();
    let create = creating(&sandbox);
    // Before its process exists.
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let whole = std::fs::read(&path).unwrap();
    let mut early: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    early["pid"] = 0.into();
    std::fs::write(&path, early.to_string()).unwrap();
    sandbox.brig(&["wait", "--timeout", "300ms", &sandbox.id]).fails_with("timed out");
    std::fs::write(&path, whole).unwrap();
    let waiting = sandbox.spawn(sandbox.command(&["wait", &sandbox.id]));
    std::fs::write(sandbox.dir.join("go"), "").unwrap();
    create.wait().ok();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    waiting.wait().ok();
}

#[test]
fn a_container_runs_only_when_its_hooks_have_succeeded() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        let args = ["/init", "sleep", "2"];
        config["hooks"]["startContainer"] = json!([{"path": "/init", "args": args}]);
    });
    sandbox.create();
    let starting = sandbox.spawn(sandbox.command(&["start", &sandbox.id]));
    sandbox.wait_for_status("running");
    let wait = ["wait", "--condition", "running", &sandbox.id];
    sandbox.brig(&[&wait[..], &["--timeout", "300ms"]].concat()).fails_with("timed out");
    starting.wait().ok();
    sandbox.brig(&wait).ok();
}
