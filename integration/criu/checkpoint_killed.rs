//! CRIU or brig is killed on the way: of a checkpoint the container runs on, of a restore nothing is left.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu_only, end_of, images, restored, running,
};
use crate::host;
use crate::sandbox::Sandbox;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Has CRIU run a script at each moment, by its own configuration file: at this one, the script does `act`, with
/// CRIU's pid in `$PPID`.
fn at(sandbox: &Sandbox, moment: &str, act: &str) {
    let script = sandbox.dir.join("script");
    let text = format!("#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" != {moment} ] || {act}\n");
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = sandbox.dir.join("criu.conf");
    fs::write(&config, format!("action-script {}\n", script.display())).unwrap();
    sandbox.patch(|c| c["annotations"] = json!({"org.criu.config": config}));
}

#[test]
fn a_criu_that_is_killed_while_it_dumps_leaves_the_container_running() {
    criu_only!();
    for moment in ["pre-dump", "network-lock", "post-dump"] {
        let sandbox = Sandbox::new();
        at(&sandbox, moment, "kill -9 $PPID");
        let mut piped = running(&sandbox);
        checkpoint(&sandbox, &[]).fails_with("criu was killed by SIGKILL");
        assert_eq!(sandbox.status(), "running", "{moment}");
        answers(&sandbox, &sandbox.id, &mut piped);
        let traced = host::status_of(sandbox.pid(), "TracerPid");
        assert_eq!(traced.as_deref(), Some("0"), "{moment}");
    }
}

#[test]
fn a_criu_that_is_killed_while_it_restores_leaves_nothing() {
    criu_only!();
    for moment in ["pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore"] {
        let sandbox = Sandbox::new();
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        at(&sandbox, moment, "kill -9 $PPID");
        let (images, bundle) = (images(&sandbox), sandbox.bundle());
        let bundle = bundle.to_str().unwrap();
        let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
        let done = brig(&sandbox, &args);
        assert_eq!(done.code, Some(1), "{moment}: {done:?}");
        sandbox.assert_nothing_left();
        // And it can be tried again.
        at(&sandbox, "never", "true");
        let mut piped = restored(&sandbox, &[]);
        answers(&sandbox, &sandbox.id, &mut piped);
    }
}

#[test]
fn a_signal_to_brig_has_the_container_run_on() {
    criu_only!();
    let sandbox = Sandbox::new();
    at(&sandbox, "pre-dump", "kill -TERM $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)");
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &[]).fails_with("interrupted by a signal");
    assert_eq!(sandbox.status(), "running");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_brig_that_is_killed_while_criu_dumps_leaves_the_container_running() {
    criu_only!();
    let sandbox = Sandbox::new();
    at(&sandbox, "pre-dump", "kill -9 $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)");
    let mut piped = running(&sandbox);
    let images = images(&sandbox);
    let done = sandbox
        .spawn(command(&sandbox, &["checkpoint", "--image-path", &images, &sandbox.id]))
        .wait();
    assert_eq!(done.signal, Some(9), "{done:?}");
    let untraced = || host::status_of(sandbox.pid(), "TracerPid").as_deref() == Some("0");
    assert!(host::wait_until(Duration::from_secs(10), untraced));
    assert!(host::wait_until(Duration::from_secs(10), || sandbox.status() == "running"));
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_signal_to_brig_ends_a_restore() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    at(&sandbox, "setup-namespaces", "kill -TERM $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)");
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    let (mut piped, child) = Piped::spawn(&sandbox, &args);
    piped.wait_for("interrupted by a signal");
    assert_eq!(end_of(child).code(), Some(1));
    sandbox.assert_nothing_left();
}
