//! Many concurrent and interrupted commands: the result must be the same as in some sequential order.

use crate::host::{self, wait_until};
use crate::sandbox::{Running, Sandbox, brig_only};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

fn spawn(sandbox: &Sandbox, verb: &str, id: &str) -> Running {
    let bundle = sandbox.bundle();
    sandbox.spawn(sandbox.command(&[verb, "--bundle", bundle.to_str().unwrap(), id]))
}

#[test]
fn of_many_creates_of_one_id_exactly_one_wins() {
    let sandbox = Sandbox::new();
    for _ in 0..5 {
        let racers: Vec<Running> = (0..8).map(|_| spawn(&sandbox, "create", &sandbox.id)).collect();
        let done: Vec<_> = racers.into_iter().map(Running::wait).collect();
        let won = done.iter().filter(|done| done.code == Some(0)).count();
        assert_eq!(won, 1, "{done:#?}");
        for lost in done.into_iter().filter(|done| done.code != Some(0)) {
            assert!(lost.fails().contains("exist"), "lost for another reason");
        }
        assert_eq!(sandbox.status(), "created");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn of_many_starts_exactly_one_wins() {
    brig_only!();
    let sandbox = Sandbox::new();
    let created = sandbox.script("say hello ; sleep 60").create();
    let start = || sandbox.spawn(sandbox.command(&["start", &sandbox.id]));
    let racers: Vec<Running> = (0..8).map(|_| start()).collect();
    let won = racers.into_iter().map(Running::wait).filter(|done| done.code == Some(0)).count();
    assert_eq!(won, 1);
    created.wait_for_line("hello");
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn many_deletes_of_one_container_leave_nothing_and_do_not_fail() {
    brig_only!();
    let sandbox = Sandbox::new();
    for _ in 0..5 {
        sandbox.script("sleep 60").create();
        sandbox.start();
        let delete = || sandbox.spawn(sandbox.command(&["delete", "--force", &sandbox.id]));
        let racers: Vec<Running> = (0..6).map(|_| delete()).collect();
        for done in racers.into_iter().map(Running::wait) {
            assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:#?}");
        }
        sandbox.assert_nothing_left();
    }
}

#[test]
fn twenty_containers_run_at_the_same_time() {
    let sandbox = Sandbox::new();
    sandbox.script("exit 3");
    let running: Vec<Running> =
        (0..20).map(|number| spawn(&sandbox, "run", &format!("{}-{number}", sandbox.id))).collect();
    for done in running.into_iter().map(Running::wait) {
        assert_eq!(done.code, Some(3), "{done:#?}");
    }
    sandbox.assert_nothing_left();
}

#[test]
fn list_works_while_containers_come_and_go() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("true");
    let mut churn: Vec<Running> = Vec::new();
    let mut lists = 0;
    for number in 0..30 {
        churn.push(spawn(&sandbox, "run", &format!("{}-{number}", sandbox.id)));
        for format in ["table", "json"] {
            let done = sandbox.brig(&["list", "--format", format]).ok();
            assert_eq!(done.stderr, "");
            lists += 1;
        }
    }
    assert_eq!(lists, 60);
    for done in churn.into_iter().map(Running::wait) {
        done.ok();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn state_list_and_kill_do_not_wait_for_a_lock() {
    brig_only!();
    let sandbox = Sandbox::new();
    let done = sandbox.script("sigloop 1").run_with(&["--detach"]).ok();
    done.wait_for_line("ready");
    let dir = fs::File::open(sandbox.state_root().join(&sandbox.id)).unwrap();
    let lock =
        Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
    let start = Instant::now();
    assert_eq!(sandbox.status(), "running");
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.trim(), sandbox.id);
    sandbox.brig(&["kill", &sandbox.id, "TERM"]).ok();
    assert!(start.elapsed() < Duration::from_secs(9), "waited {:?}", start.elapsed());
    drop(lock);
    done.wait_for_line("signal SIGTERM");
}

/// A configuration whose createRuntime hook writes `ready` to a file and then sleeps.
fn slow_to_create(sandbox: &Sandbox, command: &str) -> std::path::PathBuf {
    let ready = sandbox.dir.join("ready");
    let text = format!("{command} && echo ready > {}; exec sleep 60", ready.display());
    sandbox.patch(|config| {
        config["hooks"] = json!({"createRuntime": [{
            "path": "/bin/sh", "args": ["sh", "-c", text], "env": [format!("BRIG_TEST={}", sandbox.id)]
        }]});
    });
    ready
}

#[test]
fn a_create_that_is_told_to_end_puts_everything_back() {
    brig_only!();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let sandbox = Sandbox::new();
        let ready = slow_to_create(&sandbox, "true");
        let creating = spawn(&sandbox, "create", &sandbox.id);
        assert!(wait_until(Duration::from_secs(10), || ready.exists()), "the hook never ran");
        kill(Pid::from_raw(creating.child.id().try_into().unwrap()), signal).unwrap();
        creating.wait().fails();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_hook_may_ask_for_the_state_of_its_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    let out = sandbox.dir.join("state.json");
    let state = format!(
        "{} --root {} state {} > {}",
        crate::sandbox::runtime().display(),
        sandbox.state_root().display(),
        sandbox.id,
        out.display()
    );
    let ready = slow_to_create(&sandbox, &state);
    let mut creating = spawn(&sandbox, "create", &sandbox.id);
    assert!(wait_until(Duration::from_secs(10), || ready.exists()), "state failed in the hook");
    let state: Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(state["status"], "creating");
    assert!(fs::metadata(format!("/proc/{}", state["pid"])).is_ok(), "{state}");
    // brig dies with its hook running: both are gone after delete.
    creating.child.kill().unwrap();
    creating.child.wait().unwrap();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    for pid in host::processes_of(&sandbox.id) {
        let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // The shell writes the file before it executes sleep.
        let sleeps = wait_until(Duration::from_secs(20), || comm().trim() == "sleep");
        assert!(sleeps, "more than the hook is left: {}", comm());
        // The hook does not belong to the container: its creator must kill it.
        kill(pid, Signal::SIGKILL).unwrap();
    }
    assert!(wait_until(Duration::from_secs(5), || sandbox.leftovers().is_empty()));
}

#[test]
fn a_foreground_run_that_is_killed_leaves_what_force_deletes() {
    brig_only!();
    let sandbox = Sandbox::new();
    let mut running = spawn(sandbox.script("say ready ; sleep 60"), "run", &sandbox.id);
    running.wait_for_line("ready");
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_container_outlives_the_brig_that_created_it() {
    let sandbox = Sandbox::new();
    sandbox.script("say ready ; sleep 60");
    let created = sandbox.create();
    // A signal from a dying parent would have woken it.
    host::wait_until_asleep(sandbox.pid());
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
    created.wait_for_line("ready");
    host::wait_until_asleep(sandbox.pid());
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn a_thousand_environment_variables_and_arguments_are_passed_on() {
    let sandbox = Sandbox::new();
    let env: Vec<String> = (0..1000).map(|n| format!("NAME_{n}={}", "x".repeat(50))).collect();
    let args: Vec<String> = (0..1000).map(|n| format!("{}{n}", "y".repeat(50))).collect();
    sandbox.patch(|config| config["process"]["env"] = json!(env));
    let mut words = vec!["/init", "env", ";", "args", ";", "say"];
    words.extend(args.iter().map(String::as_str));
    let facts = crate::facts::Facts::parse(&sandbox.args(&words).run().ok().stdout);
    assert_eq!(
        facts.all("env").iter().filter(|variable| variable.starts_with("NAME_")).count(),
        1000
    );
    assert_eq!(facts.get("arg 1005"), format!("{}999", "y".repeat(50)));
}

#[test]
fn calls_that_old_kernels_and_filters_refuse_are_not_needed() {
    brig_only!();
    for number in [libc::SYS_clone3, libc::SYS_close_range, libc::SYS_openat2] {
        let sandbox = Sandbox::new();
        let bundle = sandbox.script("fds ; ns ; cgroups ; exit 3").bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        crate::sandbox::before_exec(&mut command, move || crate::tracer::without_syscall(number));
        let done = sandbox.spawn(command).wait();
        assert_eq!(done.code, Some(3), "without {number}: {done:?}");
        let facts = crate::facts::Facts::parse(&done.stdout);
        assert_eq!(facts.all("fd").len(), 3, "without {number}: {facts}");
        let unified = facts.all("cgroup").into_iter().find(|line| line.starts_with("0::"));
        assert!(unified.is_none_or(|line| line == "0::/"), "without {number}: {facts}");
        sandbox.assert_nothing_left();
    }
}
