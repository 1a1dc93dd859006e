//! `kill`: accepted signals, and which processes get them.

use crate::host::wait_until;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use crate::tracer::{process_of_number, run_and_stop_at};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// A running container that prints the signals it gets, up to `count`.
fn listening(count: usize) -> (Sandbox, Done) {
    let sandbox = Sandbox::new();
    let done = sandbox.script(&format!("sigloop {count}")).run_with(&["--detach"]).ok();
    done.wait_for_line("ready");
    (sandbox, done)
}

#[track_caller]
fn each_arrives(spellings: &[(&str, &str)]) {
    let (sandbox, done) = listening(spellings.len());
    for (count, (spelling, _)) in spellings.iter().enumerate() {
        sandbox.brig(&["kill", &sandbox.id, spelling]).ok();
        let arrived = || done.facts_now().all("signal").len() > count;
        assert!(wait_until(Duration::from_secs(5), arrived), "{spelling} never arrived");
    }
    let expected: Vec<&str> = spellings.iter().map(|(_, name)| *name).collect();
    assert_eq!(done.facts_now().all("signal"), expected);
}

#[test]
fn a_signal_is_given_by_name_with_or_without_sig_or_by_number() {
    each_arrives(&[
        ("TERM", "SIGTERM"),
        ("SIGTERM", "SIGTERM"),
        ("15", "SIGTERM"),
        ("HUP", "SIGHUP"),
        ("SIGUSR1", "SIGUSR1"),
        ("10", "SIGUSR1"),
        ("WINCH", "SIGWINCH"),
    ]);
}

#[test]
fn a_signal_name_is_of_any_case() {
    each_arrives(&[("term", "SIGTERM"), ("sigUsr2", "SIGUSR2"), ("Quit", "SIGQUIT")]);
}

#[test]
fn real_time_signals_count_from_both_ends() {
    brig_only!();
    each_arrives(&[
        ("RTMIN", "34"),
        ("RTMIN+1", "35"),
        ("SIGRTMIN+3", "37"),
        ("rtmin+15", "49"),
        ("RTMAX", "64"),
        ("RTMAX-2", "62"),
        ("sigrtmax-14", "50"),
        ("40", "40"),
    ]);
}

#[test]
fn the_default_signal_is_term() {
    let (sandbox, done) = listening(1);
    sandbox.brig(&["kill", &sandbox.id]).ok();
    done.wait_for_line("signal SIGTERM");
}

#[test]
fn what_is_no_signal_is_refused_by_name() {
    brig_only!();
    let (sandbox, done) = listening(1);
    for nonsense in
        ["FOO", "SIG", "SIGSIGTERM", "65", "-1", "RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMAX+1", "9x"]
    {
        sandbox.brig(&["kill", &sandbox.id, "--", nonsense]).fails_with("signal");
    }
    assert!(done.facts_now().all("signal").is_empty(), "{}", done.facts_now());
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn a_stopped_container_is_not_running() {
    let sandbox = Sandbox::new();
    sandbox.run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["kill", &sandbox.id, "TERM"]).fails_with("container not running");
}

#[test]
fn signal_0_only_asks() {
    let (sandbox, done) = listening(1);
    sandbox.brig(&["kill", &sandbox.id, "0"]).ok();
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["kill", &sandbox.id, "0"]).fails_with("container not running");
    assert!(done.facts_now().all("signal").is_empty(), "{}", done.facts_now());
}

#[test]
fn a_created_container_gets_signals_and_stays_created() {
    let sandbox = Sandbox::new();
    sandbox.create();
    sandbox.brig(&["kill", &sandbox.id, "CHLD"]).ok();
    assert_eq!(sandbox.status(), "created");
    sandbox.start();
}

#[test]
fn all_processes_of_the_container_are_killed_with_its_init() {
    let sandbox = Sandbox::new();
    let done = sandbox.script("orphans 3 ; say ready ; sleep 60").run_with(&["--detach"]).ok();
    done.wait_for_line("ready");
    sandbox.brig(&["kill", "--all", &sandbox.id, "9"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn a_created_container_is_ended_by_the_signals_that_end_others() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let sandbox = Sandbox::new();
        sandbox.create().ok();
        sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
        assert_eq!(sandbox.status(), "created");
        sandbox.brig(&["kill", &sandbox.id, signal]).ok();
        sandbox.wait_for_status("stopped");
        sandbox.delete().ok();
    }
}

#[test]
fn the_program_finds_no_signal_handled() {
    let sandbox = Sandbox::new();
    let facts = sandbox.facts("read /proc/self/status");
    assert!(facts.get("read /proc/self/status").contains("SigCgt:\\t0000000000000000"));
}

#[test]
fn an_empty_signal_is_the_default_one() {
    let (sandbox, done) = listening(1);
    sandbox.brig(&["kill", &sandbox.id, ""]).ok();
    let arrived = || !done.facts_now().all("signal").is_empty();
    assert!(wait_until(Duration::from_secs(5), arrived));
    assert_eq!(done.facts_now().all("signal"), ["SIGTERM"]);
}

#[test]
fn all_containers_that_a_regular_expression_matches_are_killed_and_deleted() {
    crate::sandbox::brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    let ids: Vec<String> =
        ["web-1", "web-2", "db"].iter().map(|name| format!("{}-{name}", sandbox.id)).collect();
    for id in &ids {
        sandbox.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]).ok();
    }
    let status = |id: &str| {
        let state = sandbox.brig(&["state", id]).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&state).unwrap()["status"].to_string()
    };
    let pattern = format!("^{}-(web|cache)-[0-9]+$", sandbox.id);
    // Without the flag it is an id.
    sandbox.brig(&["kill", &pattern, "KILL"]).fails_with("invalid container id");
    sandbox.brig(&["kill", "--regex", &pattern, "KILL"]).ok();
    let stopped = || ids[..2].iter().all(|id| status(id) == "\"stopped\"");
    assert!(wait_until(Duration::from_secs(10), stopped));
    assert_eq!(status(&ids[2]), "\"running\"");
    // A container that is not stopped is an error, but the others are deleted.
    let error = sandbox.brig(&["delete", "-r", &sandbox.id]).fails_with(&ids[2]);
    assert!(error.contains("not stopped") && !error.contains("web"), "{error}");
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout, format!("{}\n", ids[2]));
    sandbox.brig(&["delete", "--regex", "(", "--force"]).fails_with("--regex \"(\": unmatched (");
    sandbox.brig(&["delete", "--regex", "--force", "db$"]).ok();
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout, "");
    sandbox.brig(&["delete", "--regex", "nobody"]).ok();
}

/// The pid of an exited process of the container is reused before brig opens it.
#[test]
fn all_are_not_whoever_has_got_a_pid_of_theirs_meanwhile() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 1").run_with(&["--detach"]).ok().wait_for_line("ready");
    let file = sandbox.dir.join("pid");
    let args = ["exec", "--pid-file", file.to_str().unwrap(), &sandbox.id, "/init"];
    let command = sandbox.command(&[&args[..], &["say", "ready", ";", "sleep", "60"]].concat());
    let executed = sandbox.spawn(command);
    let said = || fs::read_to_string(&executed.stdout).unwrap().contains("ready");
    assert!(wait_until(Duration::from_secs(10), || said() && file.exists()));
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let mut bystander = Err(Errno::EEXIST);
    let number = u64::try_from(pid).unwrap();
    let at = |call, first| (call, first) == (libc::SYS_pidfd_open, number);
    let command = sandbox.command(&["kill", "--all", &sandbox.id, "USR1"]);
    let code = run_and_stop_at(&sandbox, command, at, || {
        nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        assert_eq!(executed.wait().code, Some(128 + 9));
        bystander = process_of_number(pid);
    });
    assert_eq!(code, Some(0));
    // Init has received it.
    sandbox.wait_for_status("stopped");
    match bystander {
        Ok(bystander) => {
            let ended = waitpid(bystander, Some(WaitPidFlag::WNOHANG)).unwrap();
            assert_eq!(ended, WaitStatus::StillAlive, "a bystander was signalled");
            nix::sys::signal::kill(bystander, Signal::SIGKILL).unwrap();
            waitpid(bystander, None).unwrap();
        }
        Err(errno) => skip(&format!("the pid could not be used again: {errno}")),
    }
}

#[test]
fn all_processes_of_a_container_that_is_being_created_are_not_killed() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let whole = fs::read(&path).unwrap();
    let mut state: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    state["creating"] = true.into();
    state["pid"] = 0.into();
    fs::write(&path, state.to_string()).unwrap();
    let done = sandbox.brig(&["kill", "--all", &sandbox.id, "KILL"]);
    fs::write(&path, whole).unwrap();
    done.fails_with("container not running");
    assert_eq!(sandbox.status(), "created");
}
