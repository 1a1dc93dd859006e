//! brig never hangs: with processes that cannot be killed or frozen, and with many brigs concurrently.

use crate::freeze::{View, created_in};
use crate::host::{self, wait_until};
use crate::sandbox::{Done, Running, Sandbox, brig_only, skip};
use crate::stuck::Stuck;
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// A container with the filesystem at /stuck, and its own or the host's pid namespace.
fn configure(sandbox: &Sandbox, stuck: &Stuck, own_pids: bool) {
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"source": stuck.dir, "destination": "/stuck", "options": ["bind"]}));
        if !own_pids {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
        }
    });
}

fn running(sandbox: &Sandbox, stuck: &Stuck, own_pids: bool, script: &str) -> Done {
    configure(sandbox, stuck, own_pids);
    sandbox.script(script).run_with(&["--detach"]).ok()
}

/// A killed process of the container that cannot die, because it is blocked in the kernel on the filesystem.
fn undead(sandbox: &Sandbox, stuck: &Stuck) -> i64 {
    let before = stuck.reads();
    let args =
        ["exec", "--detach", "--pid-file", "pid", &sandbox.id, "/init", "read", "/stuck/file"];
    sandbox.brig(&args).ok();
    let pid = fs::read_to_string(sandbox.dir.join("pid")).unwrap().parse().unwrap();
    assert!(wait_until(Duration::from_secs(10), || stuck.reads() > before), "nobody reads");
    let signal = nix::sys::signal::Signal::SIGKILL;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()), signal)
        .unwrap();
    let state = || host::status_of(pid, "State").unwrap_or_default();
    assert!(wait_until(Duration::from_secs(10), || state().starts_with('D')), "{}", state());
    pid
}

/// Checks that the command fails in less than 25 seconds, and names the blocking process.
#[track_caller]
fn fails_in_time(sandbox: &Sandbox, args: &[&str], words: &[&str]) {
    let start = Instant::now();
    let complaint = sandbox.brig(args).fails();
    assert!(start.elapsed() < Duration::from_secs(25), "{args:?} took {:?}", start.elapsed());
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in {complaint}");
    }
}

fn cannot_be_frozen(view: View) {
    let sandbox = Sandbox::new();
    let stuck = match Stuck::new(&sandbox.dir) {
        Ok(stuck) => stuck,
        Err(why) => return skip(&why),
    };
    configure(&sandbox, &stuck, true);
    let (sandbox, _) = created_in(sandbox, view, "burn 60");
    sandbox.start();
    let pid = undead(&sandbox, &stuck).to_string();
    fails_in_time(
        &sandbox,
        &["pause", &sandbox.id],
        &["timed out waiting for the cgroup to freeze", &pid, "state D in "],
    );
    assert_eq!(sandbox.status(), "running");
    let cpu = || fs::read_to_string(format!("/proc/{}/schedstat", sandbox.pid())).unwrap();
    let before = cpu();
    assert!(wait_until(Duration::from_secs(5), || cpu() != before), "it stays frozen");
    drop(stuck);
}

#[test]
fn what_cannot_be_frozen_is_named_and_all_goes_on() {
    brig_only!();
    cannot_be_frozen(|_| true);
}

#[test]
fn what_cgroup2_cannot_freeze_is_named_and_all_goes_on() {
    brig_only!();
    if !host::hierarchies().iter().any(|(controllers, _)| controllers.is_empty()) {
        return skip("this host has no cgroup2");
    }
    cannot_be_frozen(<[String]>::is_empty);
}

#[test]
fn an_init_that_cannot_die_is_named() {
    brig_only!();
    let sandbox = Sandbox::new();
    let stuck = match Stuck::new(&sandbox.dir) {
        Ok(stuck) => stuck,
        Err(why) => return skip(&why),
    };
    running(&sandbox, &stuck, true, "sleep 60");
    let pid = undead(&sandbox, &stuck).to_string();
    let start = Instant::now();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    assert!(["running", "stopped"].contains(&sandbox.status().as_str()));
    sandbox.brig(&["list"]).ok();
    let listed = sandbox.brig(&["ps", "--format", "json", &sandbox.id]).ok().stdout;
    assert!(listed.contains(&pid), "{listed}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let words = [&*pid, "state D in "];
    fails_in_time(&sandbox, &["delete", "--force", &sandbox.id], &words);
    drop(stuck);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn what_outlives_init_and_cannot_die_is_named() {
    brig_only!();
    let sandbox = Sandbox::new();
    let stuck = match Stuck::new(&sandbox.dir) {
        Ok(stuck) => stuck,
        Err(why) => return skip(&why),
    };
    running(&sandbox, &stuck, false, "sleep 60");
    let pid = undead(&sandbox, &stuck).to_string();
    let start = Instant::now();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    assert!(start.elapsed() < Duration::from_secs(10));
    sandbox.wait_for_status("stopped");
    let words = ["still in use by", &*pid, "state D in "];
    fails_in_time(&sandbox, &["delete", &sandbox.id], &words);
    fails_in_time(&sandbox, &["delete", "--force", &sandbox.id], &words);
    assert_eq!(sandbox.status(), "stopped");
    drop(stuck);
    sandbox.delete();
    sandbox.assert_nothing_left();
}

#[test]
fn fifty_creates_and_deletes_at_once_leave_nothing() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let ids: Vec<String> = (0..50).map(|number| format!("{}-{number}", sandbox.id)).collect();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    let all = |args: &dyn Fn(&str) -> Vec<String>| {
        let spawn = |id: &String| {
            let args = args(id);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            sandbox.spawn(sandbox.command(&args))
        };
        let running: Vec<Running> = ids.iter().map(spawn).collect();
        for done in running.into_iter().map(Running::wait) {
            done.ok();
        }
    };
    let to = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    all(&|id| to(&["create", "--bundle", bundle, id]));
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.lines().count(), 50);
    // Half of them run and are killed, the others have not been started.
    for id in ids.iter().step_by(2) {
        sandbox.brig(&["start", id]).ok();
    }
    all(&|id| to(&["delete", "--force", id]));
    sandbox.assert_nothing_left();
}

/// Adding the largest timeout to the current time, or two of them, must not overflow.
#[test]
fn the_largest_timeout_is_a_timeout() {
    let sandbox = Sandbox::new();
    let hook = |path: &str| {
        let hook = json!({"path": path, "args": ["init", "exit", "0"], "timeout": i64::MAX});
        json!([hook, hook])
    };
    sandbox.patch(|config| {
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            config["hooks"][kind] = hook("/bin/true");
        }
        config["hooks"]["startContainer"] = hook("/init");
    });
    sandbox.script("sleep 60").create();
    sandbox.start();
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}
