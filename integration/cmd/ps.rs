//! `ps`: the processes of a container, and no others.

use crate::sandbox::{Done, Sandbox, brig_only, skip};
use serde_json::Value;
use std::process::Command;

fn running(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(&format!("{script} ; say ready ; sleep 60"));
    sandbox.run_with(&["--detach"]).ok().wait_for_line("ready");
    sandbox
}

fn ps(sandbox: &Sandbox, flags: &[&str], options: &[&str]) -> Done {
    sandbox.brig(&[&["ps"], flags, &[sandbox.id.as_str()], options].concat())
}

fn pids(sandbox: &Sandbox) -> Vec<i64> {
    serde_json::from_str(&ps(sandbox, &["--format", "json"], &[]).ok().stdout).unwrap()
}

#[test]
fn json_is_the_list_of_the_hosts_pids() {
    let sandbox = running("orphans 2");
    let found = pids(&sandbox);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.contains(&sandbox.pid()), "{found:?}");
    assert_eq!(
        ps(&sandbox, &["-f", "json"], &[]).ok().stdout.trim(),
        format!("{found:?}").replace(' ', "")
    );
    let other = running("true");
    assert_eq!(pids(&other), [other.pid()]);
}

#[test]
fn the_table_is_that_of_the_hosts_ps_and_has_only_the_container() {
    let version = Command::new("ps").arg("--version").output().unwrap();
    if !String::from_utf8_lossy(&version.stdout).contains("procps") {
        return skip("this host's ps is not that of procps");
    }
    let sandbox = running("orphans 1");
    let table = ps(&sandbox, &[], &[]).ok().stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("UID") && lines[0].contains("PPID"), "{table}");
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1..].iter().all(|line| line.contains("/init orphans")), "{table}");
    for (options, heading) in [
        (&["-o", "pid,comm", "-e"][..], ["PID", "COMMAND"]),
        (&["-eo", "comm,pid"], ["COMMAND", "PID"]),
        (&["axo", "pid,ppid"], ["PID", "PPID"]),
    ] {
        let table = ps(&sandbox, &["--format", "table"], options).ok().stdout;
        let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head, heading, "{table}");
        assert_eq!(table.lines().count(), 3, "{table}");
        let pid = sandbox.pid().to_string();
        assert!(table.lines().any(|line| line.split_whitespace().any(|word| word == pid)));
    }
}

#[test]
fn a_table_without_pids_and_what_ps_does_not_know_are_errors() {
    let sandbox = running("true");
    ps(&sandbox, &[], &["-eo", "comm"]).fails_with("PID");
    ps(&sandbox, &[], &["--no-such-option"]).fails_with("exit status: 1");
    ps(&sandbox, &["--format", "xml"], &[]).fails_with("xml");
    sandbox.brig(&["ps", "nobody"]).fails_with("container does not exist");
}

#[test]
fn without_a_ps_there_is_still_json() {
    brig_only!();
    let sandbox = running("true");
    let mut command = sandbox.command(&["ps", &sandbox.id]);
    command.env("PATH", sandbox.bundle());
    sandbox.spawn(command).wait().fails_with("--format json does not need it");
    let mut command = sandbox.command(&["ps", "-f", "json", &sandbox.id]);
    command.env("PATH", sandbox.bundle());
    sandbox.spawn(command).wait().ok();
}

#[test]
fn a_stopped_container_has_no_processes() {
    let sandbox = Sandbox::new();
    sandbox.run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    let none: Value =
        serde_json::from_str(&ps(&sandbox, &["-f", "json"], &[]).ok().stdout).unwrap();
    assert_eq!(none, Value::Null);
    assert_eq!(ps(&sandbox, &[], &[]).ok().stdout.lines().count(), 1);
}

#[test]
fn created_and_paused_ones_have_processes() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    assert_eq!(pids(&sandbox), [sandbox.pid()]);
    sandbox.brig(&["pause", &sandbox.id]).ok();
    assert_eq!(pids(&sandbox), [sandbox.pid()]);
    assert_eq!(ps(&sandbox, &[], &[]).ok().stdout.lines().count(), 2);
}
