//! CRIU or brig is killed at each step that CRIU reports: after a checkpoint the container continues, after a
//! restore nothing is left, or the container runs.

use super::with::{
    Piped, answers, checkpoint, command, criu_only, end_of, images, restored, running,
};
use crate::host;
use crate::sandbox::Sandbox;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

const KILL_CRIU: &str = "kill -9 $PPID";
const KILL_BRIG: &str = "kill -9 $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)";
const STOP_BRIG: &str = "kill -TERM $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)";

/// The file in which the script records each step.
fn moments_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.dir.join("moments")
}

/// Makes CRIU run a script at each step, through its own configuration file: at `moment`, the script runs
/// `act`, with CRIU's pid in `$PPID`.
pub(super) fn at(sandbox: &Sandbox, moment: &str, act: &str) {
    let script = sandbox.dir.join("script");
    let moments = moments_file(sandbox);
    let text = format!(
        "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION >>{}\n\
         [ \"$CRTOOLS_SCRIPT_ACTION\" != {moment} ] || {act}\n",
        moments.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = sandbox.dir.join("criu.conf");
    fs::write(&config, format!("action-script {}\n", script.display())).unwrap();
    sandbox.patch(|c| c["annotations"] = json!({"org.criu.config": config}));
}

/// The recorded steps without duplicates; clears the record.
fn noted(sandbox: &Sandbox) -> Vec<String> {
    let text = fs::read_to_string(moments_file(sandbox)).unwrap_or_default();
    fs::write(moments_file(sandbox), "").unwrap();
    let mut moments: Vec<String> = text.lines().map(str::to_string).collect();
    moments.dedup();
    moments
}

/// The steps of a checkpoint with these flags, and those of a restore.
fn moments(flags: &[&str]) -> (Vec<String>, Vec<String>) {
    let sandbox = Sandbox::new();
    at(&sandbox, "never", "true");
    running(&sandbox);
    checkpoint(&sandbox, flags).ok();
    let of_dump = noted(&sandbox);
    if flags.contains(&"--leave-running") {
        return (of_dump, Vec::new());
    }
    restored(&sandbox, &[]);
    (of_dump, noted(&sandbox))
}

/// Kills something at each step of a checkpoint; the container must continue.
fn kill_while_it_dumps(act: &str, signal: Option<i32>) {
    for flags in [&[][..], &["--leave-running"]] {
        let (moments, _) = moments(flags);
        assert!(moments.len() >= 2, "{moments:?}");
        for moment in &moments {
            let sandbox = Sandbox::new();
            at(&sandbox, moment, act);
            let mut piped = running(&sandbox);
            let done = checkpoint(&sandbox, flags);
            let failed = if signal.is_some() { None } else { Some(1) };
            assert_eq!((done.code, done.signal), (failed, signal), "{moment}: {done:?}");
            wait_for_criu(&sandbox);
            if signal.is_some() && !host::processes_of(&sandbox.id).is_empty() {
                let runs = || sandbox.status() == "running";
                assert!(host::wait_until(Duration::from_secs(10), runs), "{moment}");
            }
            if signal.is_some() && sandbox.status() == "stopped" {
                // CRIU already had its response: the checkpoint is complete.
                assert_eq!((moment.as_str(), flags.len()), ("post-dump", 0));
                sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
                at(&sandbox, "never", "true");
                piped = restored(&sandbox, &[]);
            }
            assert_eq!(sandbox.status(), "running", "{moment}");
            // A killed CRIU may still be exiting.
            let tracer = || host::status_of(sandbox.pid(), "TracerPid");
            let untraced = || tracer().as_deref() == Some("0");
            let let_go = host::wait_until(Duration::from_secs(10), untraced);
            assert!(let_go, "{moment}: {:?}", tracer());
            answers(&sandbox, &sandbox.id, &mut piped);
            // It can be checkpointed.
            at(&sandbox, "never", "true");
            checkpoint(&sandbox, &[]).ok();
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn a_criu_that_is_killed_while_it_dumps_leaves_the_container_running() {
    criu_only!();
    kill_while_it_dumps(KILL_CRIU, None);
}

#[test]
fn a_brig_that_is_killed_while_criu_dumps_leaves_the_container_running() {
    criu_only!();
    kill_while_it_dumps(KILL_BRIG, Some(9));
}

/// Kills something at each step of a restore. `after` returns whether everything was completed.
fn kill_while_it_restores(act: &str, after: impl Fn(&Sandbox, Piped)) {
    let (_, moments) = moments(&[]);
    assert!(moments.len() >= 5, "{moments:?}");
    for moment in &moments {
        let sandbox = Sandbox::new();
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        at(&sandbox, moment, act);
        let (images, bundle) = (images(&sandbox), sandbox.bundle());
        let bundle = bundle.to_str().unwrap();
        let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
        let (piped, status) = Piped::run(&sandbox, &args);
        assert!(!status.success(), "{moment}: {}", piped.text());
        after(&sandbox, piped);
        sandbox.assert_nothing_left();
        // It can be tried again.
        at(&sandbox, "never", "true");
        let mut piped = restored(&sandbox, &[]);
        answers(&sandbox, &sandbox.id, &mut piped);
    }
}

#[test]
fn a_criu_that_is_killed_while_it_restores_leaves_nothing() {
    criu_only!();
    kill_while_it_restores(KILL_CRIU, |sandbox, _| sandbox.assert_nothing_left());
}

/// The killed brig cannot undo anything: `delete --force` does, as after create.
#[test]
fn a_brig_that_is_killed_while_criu_restores_leaves_a_running_container_or_one_to_delete() {
    criu_only!();
    kill_while_it_restores(KILL_BRIG, |sandbox, mut piped| {
        let id = sandbox.id.as_str();
        wait_for_criu(sandbox);
        let state = sandbox.brig(&["state", id]);
        if state.code == Some(0) && state.stdout.contains("\"running\"") {
            answers(sandbox, id, &mut piped);
        }
        sandbox.brig(&["delete", "--force", id]).ok();
    });
}

/// CRIU continues as far as possible, or undoes everything. An exiting process has no command line any more
/// while it still traces others or is listed: so the list must be stable for a while.
#[track_caller]
fn wait_for_criu(sandbox: &Sandbox) {
    let settled = || {
        let before = host::processes_of(&sandbox.id);
        std::thread::sleep(Duration::from_millis(300));
        let criu = before.iter().any(|pid| is_criu(pid.as_raw()));
        !criu && before == host::processes_of(&sandbox.id)
    };
    assert!(host::wait_until(Duration::from_secs(20), settled), "criu goes on");
}

fn is_criu(pid: i32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|&byte| byte == 0).any(|word| word == b"swrk")
}

#[test]
fn a_signal_to_brig_has_the_container_run_on() {
    criu_only!();
    let sandbox = Sandbox::new();
    at(&sandbox, "pre-dump", STOP_BRIG);
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &[]).fails_with("interrupted by a signal");
    assert_eq!(sandbox.status(), "running");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_signal_to_brig_ends_a_restore() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    at(&sandbox, "setup-namespaces", STOP_BRIG);
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    let (mut piped, child) = Piped::spawn(&sandbox, &args);
    piped.wait_for("interrupted by a signal");
    assert_eq!(end_of(child).code(), Some(1));
    sandbox.assert_nothing_left();
}

#[test]
fn a_hung_criu_can_be_interrupted() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = running(&sandbox);
    let criu = sandbox.dir.join("criu");
    fs::write(&criu, "#!/bin/sh\necho >started\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&criu, fs::Permissions::from_mode(0o755)).unwrap();
    let images = images(&sandbox);
    let args = ["--criu", criu.to_str().unwrap(), "checkpoint", "--image-path", &images];
    let child = command(&sandbox, &[&args[..], &[&sandbox.id]].concat()).spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let started = sandbox.dir.join("started");
    assert!(host::wait_until(Duration::from_secs(20), || started.exists()));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(end_of(child).code(), Some(1));
    answers(&sandbox, &sandbox.id, &mut piped);
}
