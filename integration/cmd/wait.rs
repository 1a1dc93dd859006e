//! `wait`: how long it blocks, and what it reports.

use crate::host;
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Whether the kernel reports how a process that another one has reaped has ended (Linux 6.15).
fn kernel_tells() -> bool {
    let release = nix::sys::utsname::uname().unwrap();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 15)
}

/// The output of wait for a container that runs `script` after start.
fn end_of(script: &str, change: impl FnOnce(&mut Value)) -> Value {
    let sandbox = Sandbox::new();
    sandbox.script(script).patch(change);
    sandbox.create();
    let waiting = sandbox.spawn(sandbox.command(&["wait", "--format", "json", &sandbox.id]));
    let opened = || {
        host::descriptors_of(i64::from(waiting.child.id()))
            .iter()
            .any(|(_, path)| path.to_string_lossy().contains("pidfd"))
    };
    assert!(host::wait_until(Duration::from_secs(10), opened), "wait opens no pidfd");
    sandbox.start();
    let done = waiting.wait().ok();
    let ended: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(ended[0]["id"], sandbox.id);
    ended[0].clone()
}

#[test]
fn it_says_how_a_container_has_ended() {
    brig_only!();
    if !kernel_tells() {
        return skip(
            "this kernel does not tell how a process has ended that others have waited for",
        );
    }
    let ended = end_of("sleep 0.2 ; exit 7", |_| {});
    assert_eq!((&ended["exitStatus"], &ended["reason"]), (&json!(7), &json!("exited")));
    let ended = end_of("sleep 0.2 ; true", |_| {});
    assert_eq!((&ended["exitStatus"], &ended["reason"]), (&json!(0), &json!("exited")));
}

#[test]
fn it_names_the_oom_killer_and_the_seccomp_filter() {
    brig_only!();
    if !kernel_tells() {
        return skip(
            "this kernel does not tell how a process has ended that others have waited for",
        );
    }
    let ended = end_of(&format!("hog {}", 48 << 20), |config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
    });
    assert_eq!((&ended["signal"], &ended["reason"]), (&json!(9), &json!("oom-killed")));
    let ended = end_of("sleep 0.2 ; umask", |config| {
        let rule = json!({ "names": ["umask"], "action": "SCMP_ACT_KILL_PROCESS" });
        config["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    });
    assert_eq!((&ended["exitStatus"], &ended["reason"]), (&json!(159), &json!("seccomp-killed")));
}

#[test]
fn of_a_container_that_has_ended_before_nothing_is_invented() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("exit 3");
    sandbox.create();
    let pid = sandbox.pid();
    sandbox.start();
    let gone = || host::status_of(pid, "State").is_none();
    if !host::wait_briefly(Duration::from_secs(10), gone) {
        return skip("nobody waits for orphans here");
    }
    let done = sandbox.brig(&["wait", &sandbox.id]).ok();
    assert!(done.stdout.contains("unknown"), "{done:?}");
    assert_eq!(sandbox.brig(&["wait", "--quiet", &sandbox.id]).ok().stdout, "unknown\n");
    let state = sandbox.state();
    assert_eq!((&state["status"], state.get("exitStatus")), (&json!("stopped"), None));
}

#[test]
fn what_brig_itself_has_waited_for_is_known_to_wait_and_to_state() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("exit 3");
    sandbox.run_with(&["--keep"]);
    assert_eq!(sandbox.brig(&["wait", "--quiet", &sandbox.id]).ok().stdout, "3\n");
    let state = sandbox.state();
    let told = (&state["status"], &state["exitStatus"], &state["exitReason"]);
    assert_eq!(told, (&json!("stopped"), &json!(3), &json!("exited")));
    // The output that engines read is unchanged.
    let list = sandbox.brig(&["list", "--format", "json"]).ok().stdout;
    assert!(!list.contains("exitStatus"), "{list}");
    if !kernel_tells() {
        return skip("this kernel does not tell a signal from an exit code");
    }
    let sandbox = Sandbox::new();
    sandbox.script("sleep 0.1 ; umask").patch(|config| {
        let rule = json!({ "names": ["umask"], "action": "SCMP_ACT_KILL_PROCESS" });
        config["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    });
    sandbox.run_with(&["--keep"]);
    let state = sandbox.state();
    let told = (&state["exitStatus"], &state["exitReason"]);
    assert_eq!(told, (&json!(159), &json!("seccomp-killed")));
}

#[test]
fn it_waits_for_running_and_for_removed() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    sandbox.create();
    let timely = Instant::now();
    let done = sandbox.brig(&["wait", "--condition", "running", "--timeout", "300ms", &sandbox.id]);
    done.fails_with("timed out after 300ms");
    assert!(timely.elapsed() >= Duration::from_millis(300));
    sandbox.brig(&["wait", "--condition", "created", &sandbox.id]).ok();
    let running = sandbox.spawn(sandbox.command(&["wait", "--condition", "running", &sandbox.id]));
    sandbox.start();
    running.wait().ok();
    let removed = sandbox.spawn(sandbox.command(&["wait", "--condition", "removed", &sandbox.id]));
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    removed.wait().ok();
    sandbox.brig(&["wait", &sandbox.id]).fails_with("container does not exist");
}

#[test]
fn a_foreground_run_says_that_the_kernel_killed_its_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script(&format!("hog {}", 48 << 20)).patch(|config| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20, "swap": 32 << 20 });
    });
    let done = sandbox.run();
    assert_eq!(done.code, Some(137), "{done:?}");
    assert!(done.stderr.contains("ran out of memory"), "{done:?}");
    sandbox.script("umask").patch(|config| {
        let rule = json!({ "names": ["umask"], "action": "SCMP_ACT_KILL_PROCESS" });
        config["linux"]["seccomp"] =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    });
    let done = sandbox.run();
    assert_eq!(done.code, Some(159), "{done:?}");
    assert!(done.stderr.contains("seccomp filter killed"), "{done:?}");
    sandbox.script("exit 137");
    assert_eq!(sandbox.run().stderr, "");
}
