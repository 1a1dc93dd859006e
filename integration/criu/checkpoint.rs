//! checkpoint and restore: a container is stopped, and continues unchanged.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu_only, end_of, images, nature, restored,
    restored_as, running, spawn_into, state_of, with_third,
};
use crate::host;
use crate::sandbox::{Sandbox, wait_for_line};
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

#[test]
fn a_container_comes_back_as_it_was() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["oomScoreAdj"] = json!(17);
        config["linux"]["resources"]["pids"] = json!({"limit": 23});
    });
    running(&sandbox);
    let before = nature(sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    sandbox.assert_nothing_left();
    for file in ["inventory.img", "dump.log", "descriptors.json", "brig.json"] {
        assert!(Path::new(&images(&sandbox)).join(file).exists(), "{file}");
    }
    let pid_file = sandbox.dir.join("pid");
    let mut piped = restored(&sandbox, &["--pid-file", pid_file.to_str().unwrap()]);
    assert_eq!(sandbox.status(), "running");
    let pid = sandbox.pid();
    assert_eq!(fs::read_to_string(pid_file).unwrap(), pid.to_string());
    assert_eq!(nature(pid), before);
    let limits: Vec<_> = host::cgroups_with(&sandbox.id)
        .iter()
        .filter_map(|dir| fs::read_to_string(dir.join("pids.max")).ok())
        .collect();
    assert!(limits.iter().any(|limit| limit.trim() == "23"), "{limits:?}");
    answers(&sandbox, &sandbox.id, &mut piped);
    let said = sandbox.brig(&["exec", &sandbox.id, "/init", "say", "hello"]).ok().stdout;
    assert_eq!(said, "hello\n");
    // CRIU creates a time namespace.
    let facts = sandbox.brig(&["exec", &sandbox.id, "/init", "ns"]).ok().stdout;
    let time = fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
    assert!(facts.contains(&format!("ns time {}\n", time.display())), "{facts}");
    sandbox.brig(&["ps", &sandbox.id]).ok();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn in_the_foreground_restore_ends_as_the_container_does() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 1 ; exit 7");
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    let run = ["run", "--detach", "--bundle", bundle, &sandbox.id];
    let (mut piped, _) = Piped::run(&sandbox, &run);
    piped.wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    let images = images(&sandbox);
    let args = ["restore", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    let (mut piped, child) = Piped::spawn(&sandbox, &args);
    let there = || sandbox.brig(&["state", &sandbox.id]).code == Some(0);
    assert!(host::wait_until(std::time::Duration::from_secs(20), there));
    sandbox.wait_for_status("running");
    sandbox.brig(&["kill", &sandbox.id, "USR2"]).ok();
    piped.wait_for("signal SIGUSR2\n");
    assert_eq!(end_of(child).code(), Some(7));
    sandbox.assert_nothing_left();
}

#[test]
fn a_container_may_run_on_and_be_written_down_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = running(&sandbox);
    for _ in 0..2 {
        // Engines may give the same flag twice.
        checkpoint(&sandbox, &["--leave-running", "--leave-running"]).ok();
        answers(&sandbox, &sandbox.id, &mut piped);
    }
}

#[test]
fn a_paused_container_is_written_down_and_comes_back() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    sandbox.brig(&["pause", &sandbox.id]).ok();
    checkpoint(&sandbox, &["--leave-running"]).ok();
    assert_eq!(sandbox.status(), "paused");
    // A restored container can be checkpointed again.
    for _ in 0..2 {
        checkpoint(&sandbox, &[]).ok();
        sandbox.assert_nothing_left();
        let mut piped = restored(&sandbox, &[]);
        answers(&sandbox, &sandbox.id, &mut piped);
    }
}

#[test]
fn output_into_a_file_of_the_host_goes_on_there() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 100");
    let (bundle, log) = (sandbox.bundle(), sandbox.dir.join("log"));
    let bundle = bundle.to_str().unwrap();
    spawn_into(&sandbox, &["run", "-d", "--bundle", bundle, &sandbox.id], &log).wait().ok();
    wait_for_line(&log, "ready");
    checkpoint(&sandbox, &[]).ok();
    let images = images(&sandbox);
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    spawn_into(&sandbox, &args, &log).wait().ok();
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    wait_for_line(&log, "signal SIGUSR1");
}

#[test]
fn one_checkpoint_becomes_several_containers_beside_the_running_one() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut first = running(&sandbox);
    checkpoint(&sandbox, &["--leave-running"]).ok();
    let mut clones: Vec<_> = (0..3)
        .map(|n| {
            let id = format!("{}-c{n}", sandbox.id);
            let piped = restored_as(&sandbox, &id, &[]);
            (id, piped)
        })
        .collect();
    for (id, piped) in &mut clones {
        answers(&sandbox, id, piped);
        let pid = state_of(&sandbox, id)["pid"].as_i64().unwrap();
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(cgroup.contains(id.as_str()), "{cgroup}");
    }
    answers(&sandbox, &sandbox.id, &mut first);
}

#[test]
fn hooks_prepare_what_is_around_a_restored_container() {
    criu_only!();
    let sandbox = Sandbox::new();
    let told = sandbox.dir.join("told");
    let hook = |name: &str| {
        let script = format!("cat >>{0}; echo ' {name}' >>{0}", told.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    sandbox.patch(|config| {
        config["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"), "poststart": hook("poststart"),
            "poststop": hook("poststop"),
        });
    });
    running(&sandbox);
    fs::write(&told, "").unwrap();
    checkpoint(&sandbox, &[]).ok();
    let names = || -> Vec<String> {
        let text = fs::read_to_string(&told).unwrap();
        text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.1.to_string())).collect()
    };
    assert_eq!(names(), ["poststop"]);
    restored(&sandbox, &[]);
    assert_eq!(names()[1..], ["prestart", "createRuntime"]);
    let text = fs::read_to_string(&told).unwrap();
    assert!(text.contains(&format!("\"pid\":{}", sandbox.pid())), "{text}");
}

#[test]
fn a_hook_that_fails_leaves_nothing() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    sandbox.patch(|config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]});
    });
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let args = [
        "restore",
        "-d",
        "--image-path",
        &images,
        "--bundle",
        bundle.to_str().unwrap(),
        &sandbox.id,
    ];
    brig(&sandbox, &args).fails_with("hooks.createRuntime[0]");
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_not_running_is_not_written_down() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    checkpoint(&sandbox, &[]).fails_with("container does not exist");
    sandbox.create();
    checkpoint(&sandbox, &[]).fails_with("container cannot be checkpointed in created state");
    assert_eq!(sandbox.status(), "created");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    checkpoint(&sandbox, &[]).fails_with("container cannot be checkpointed in stopped state");
}

#[test]
fn no_criu_is_one_line_and_the_container_runs_on() {
    crate::sandbox::brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    sandbox.run_with(&["--detach"]).ok();
    let mut without = sandbox.command(&["checkpoint", "--image-path", "images", &sandbox.id]);
    without.env("PATH", "/nonexistent");
    let said = sandbox.spawn(without).wait().fails_with("criu is not installed");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(sandbox.status(), "running");
    let said = sandbox.brig(&["--criu", "/bin/true", "checkpoint", &sandbox.id]).fails_with("criu");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn what_criu_cannot_dump_is_told_by_its_last_error_and_runs_on() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 100");
    let bundle = sandbox.bundle();
    let args =
        ["run", "-d", "--preserve-fds", "1", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut run = command(&sandbox, &args);
    let (inside, _outside) = std::os::unix::net::UnixStream::pair().unwrap();
    with_third(&mut run, inside.as_raw_fd());
    let running = sandbox.spawn(run).wait().ok();
    wait_for_line(&running.stdout_path, "ready");
    let said = checkpoint(&sandbox, &[]).fails_with("criu: Error (criu/");
    assert!(said.contains("dump.log:"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    wait_for_line(&running.stdout_path, "signal SIGUSR1");
}

#[test]
fn processes_of_exec_are_told_of() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    let pid_file = sandbox.dir.join("pid");
    let exec = [
        "exec",
        "-d",
        "--pid-file",
        pid_file.to_str().unwrap(),
        &sandbox.id,
        "/init",
        "sleep",
        "60",
    ];
    sandbox.brig(&exec).ok();
    let pid = fs::read_to_string(pid_file).unwrap();
    let said = checkpoint(&sandbox, &["--leave-running"]).ok().stderr;
    assert!(said.contains(&format!("processes {pid}, which")), "{said}");
}
