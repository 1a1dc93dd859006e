//! `pause`, `resume`, and commands for a frozen container: frozen by brig, by others, by a parent cgroup, or
//! from inside.

use crate::cgroups::seeing;
use crate::host::{self, wait_until};
use crate::sandbox::{Done, Running, Sandbox, brig_only, is_peer, skip};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The cgroup mounts of the host visible to brig: v1, cgroup2.
pub type View = fn(&[String]) -> bool;

/// One for each kind of freezer on this host: a hybrid one has both, and brig prefers v1's.
pub fn views() -> Vec<View> {
    let (mut v1, mut v2) = (false, false);
    for (controllers, _) in host::hierarchies() {
        v1 |= controllers.iter().any(|name| name == "freezer");
        v2 |= controllers.is_empty();
    }
    let mut views: Vec<View> = vec![|_| true];
    if v1 && v2 {
        views.extend([(|names| !names.is_empty()) as View, <[String]>::is_empty]);
    }
    views
}

/// A container that was created by a brig with this view.
fn created(view: View, script: &str) -> (Sandbox, Done) {
    created_in(Sandbox::new(), view, script)
}

/// Like [`created`], for a prepared bundle.
pub fn created_in(sandbox: Sandbox, view: View, script: &str) -> (Sandbox, Done) {
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    let bundle = sandbox.script(script).bundle();
    let mut command =
        sandbox.command(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    seeing(&mut command, view);
    let done = sandbox.spawn(command).wait().ok();
    (sandbox, done)
}

fn running(view: View, script: &str) -> (Sandbox, Done) {
    let (sandbox, done) = created(view, script);
    sandbox.start();
    (sandbox, done)
}

/// A container started by a brig that sees all cgroups.
fn started(script: &str) -> (Sandbox, Done) {
    running(|_| true, script)
}

fn ask(sandbox: &Sandbox, verb: &str) -> Done {
    sandbox.brig(&[verb, &sandbox.id])
}

/// How long the process has been on a CPU, in nanoseconds.
fn on_cpu(pid: i64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Whether the process, which burns time, is running.
fn moves(pid: i64) -> bool {
    let before = on_cpu(pid);
    wait_until(Duration::from_secs(10), || on_cpu(pid) > before)
}

/// Whether the process, which burns time if it can, does not run while this thread burns a tenth of a second:
/// on a busy machine both would get some time.
fn stands_still(pid: i64) -> bool {
    let mine = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        (usage.user_time() + usage.system_time()).num_microseconds()
    };
    let (before, begun) = (on_cpu(pid), mine());
    while mine() - begun < 100_000 {}
    on_cpu(pid) == before
}

/// The v1 freezer's mount point, if the host has one; otherwise cgroup2's.
fn freezer() -> (bool, PathBuf) {
    let has = |(names, _): &&(Vec<String>, PathBuf)| names.iter().any(|name| name == "freezer");
    let all = host::hierarchies();
    match (all.iter().find(has), all.iter().find(|(names, _)| names.is_empty())) {
        (Some((_, path)), _) => (true, path.clone()),
        (None, Some((_, path))) => (false, path.clone()),
        (None, None) => panic!("no freezer on this host"),
    }
}

/// Freezes or thaws a cgroup without brig.
fn put(dir: &Path, frozen: bool) {
    match (dir.join("freezer.state").exists(), frozen) {
        (true, true) => fs::write(dir.join("freezer.state"), "FROZEN").unwrap(),
        (true, false) => fs::write(dir.join("freezer.state"), "THAWED").unwrap(),
        (false, true) => fs::write(dir.join("cgroup.freeze"), "1").unwrap(),
        (false, false) => fs::write(dir.join("cgroup.freeze"), "0").unwrap(),
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    for view in views() {
        let (sandbox, _) = running(view, "burn 60");
        let pid = sandbox.pid();
        assert!(moves(pid));
        assert_eq!(ask(&sandbox, "pause").ok().stdout, "");
        assert!(stands_still(pid), "it goes on");
        assert_eq!(sandbox.status(), "paused");
        let table = sandbox.brig(&["list"]).ok().stdout;
        assert!(table.lines().any(|line| line.contains("paused")), "{table}");
        let list = sandbox.brig(&["list", "--format", "json"]).ok().stdout;
        assert!(list.contains(r#""status":"paused""#), "{list}");
        assert_eq!(ask(&sandbox, "resume").ok().stdout, "");
        assert!(moves(pid), "it does not go on");
        assert_eq!(sandbox.status(), "running");
    }
}

#[test]
fn pausing_twice_and_resuming_what_goes_on_are_errors_in_runcs_words() {
    for view in views() {
        let (sandbox, _) = running(view, "sleep 60");
        ask(&sandbox, "resume").fails_with("container not paused");
        ask(&sandbox, "pause").ok();
        let said = ask(&sandbox, "pause").fails_with("container not running");
        assert!(is_peer() || said.contains("paused already"), "{said}");
        assert_eq!(sandbox.status(), "paused");
        ask(&sandbox, "resume").ok();
        ask(&sandbox, "resume").fails_with("container not paused");
    }
    for verb in ["pause", "resume"] {
        Sandbox::new().brig(&[verb, "nobody"]).fails_with("container does not exist");
    }
}

#[test]
fn what_a_commit_keeps_paused_is_left_to_it() {
    brig_only!();
    let (sandbox, _) = started("sleep 60");
    for (verb, after) in [("pause", "paused"), ("resume", "running")] {
        let config = fs::File::open(sandbox.state_root().join(&sandbox.id).join("config.json"));
        let commit = Flock::lock(config.unwrap(), FlockArg::LockExclusive).unwrap();
        let before = sandbox.status();
        ask(&sandbox, verb).fails_with("a commit keeps the container paused");
        assert_eq!(sandbox.status(), before);
        drop(commit);
        ask(&sandbox, verb).ok();
        assert_eq!(sandbox.status(), after);
    }
}

#[test]
fn a_stopped_container_is_neither_paused_nor_resumed() {
    let (sandbox, _) = started("true");
    sandbox.wait_for_status("stopped");
    ask(&sandbox, "pause").fails_with("container not running");
    ask(&sandbox, "resume").fails_with("container not paused");
    assert_eq!(sandbox.status(), "stopped");
}

#[test]
fn a_created_container_can_be_paused_and_starts_only_after_that() {
    for view in views() {
        let (sandbox, done) = created(view, "say hello ; sleep 60");
        ask(&sandbox, "pause").ok();
        assert_eq!(sandbox.status(), "paused");
        ask(&sandbox, "start").fails_with("cannot start a container in the paused state");
        ask(&sandbox, "resume").ok();
        assert_eq!(sandbox.status(), "created");
        sandbox.start();
        done.wait_for_line("hello");
    }
}

#[test]
fn exec_waits_for_a_paused_container_only_if_told_to() {
    brig_only!();
    for view in views() {
        let (sandbox, _) = running(view, "sleep 60");
        ask(&sandbox, "pause").ok();
        let refused = sandbox.brig(&["exec", &sandbox.id, "/init", "true"]);
        assert_eq!(refused.code, Some(255));
        let words = "cannot exec in a paused container (use --ignore-paused to override)";
        assert!(refused.stderr.contains(words), "{refused:?}");
        let args = ["exec", "--ignore-paused", &sandbox.id, "/init", "say", "thawed"];
        let mut waiting: Running = sandbox.spawn(sandbox.command(&args));
        host::wait_until_asleep(waiting.child.id().into());
        assert!(waiting.child.try_wait().unwrap().is_none(), "{:?}", waiting.wait());
        ask(&sandbox, "resume").ok();
        assert_eq!(waiting.wait().ok().stdout, "thawed\n");
    }
}

#[test]
fn exec_ends_soon_where_v1_would_stop_its_process() {
    brig_only!();
    if !freezer().0 {
        return skip("no v1 freezer");
    }
    let (sandbox, _) = started("sleep 60");
    ask(&sandbox, "pause").ok();
    let start = Instant::now();
    let refused = sandbox.brig(&["exec", "--ignore-paused", &sandbox.id, "/init", "true"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(refused.code, Some(255), "{refused:?}");
    assert!(refused.stderr.contains("the container is paused, and cgroup v1"), "{refused:?}");
    ask(&sandbox, "resume").ok();
    sandbox.brig(&["exec", "--ignore-paused", &sandbox.id, "/init", "true"]).ok();
}

#[test]
fn what_somebody_has_frozen_from_above_runs_but_is_not_executed_in() {
    brig_only!();
    let (_, mountpoint) = freezer();
    let sandbox = Sandbox::new();
    let above = mountpoint.join(format!("{}-above", sandbox.id));
    let path = format!("/{0}-above/{0}-own", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.script("burn 60").create();
    sandbox.start();
    put(&above, true);
    let frozen = wait_until(Duration::from_secs(10), || stands_still(sandbox.pid()));
    let status = sandbox.status();
    let refused = sandbox.brig(&["exec", &sandbox.id, "/init", "true"]);
    let resumed = ask(&sandbox, "resume");
    let paused = ask(&sandbox, "pause");
    put(&above, false);
    assert!(frozen);
    assert_eq!(status, "running");
    assert_eq!(refused.code, Some(255));
    assert!(refused.stderr.contains("above it"), "{refused:?}");
    resumed.fails_with("container not paused");
    paused.ok();
    assert!(stands_still(sandbox.pid()), "the pause ends with somebody else's freeze");
    assert_eq!(sandbox.status(), "paused");
    ask(&sandbox, "resume").ok();
    assert!(moves(sandbox.pid()));
}

#[test]
fn sigkill_ends_a_paused_container_and_other_signals_wait() {
    for view in views() {
        let (sandbox, done) = running(view, "sigloop 1 ; sleep 60");
        done.wait_for_line("ready");
        ask(&sandbox, "pause").ok();
        sandbox.brig(&["kill", &sandbox.id, "TERM"]).ok();
        // SIGTERM, 15, is pending.
        let pending = host::status_of(sandbox.pid(), "ShdPnd").unwrap();
        assert_eq!(u64::from_str_radix(&pending, 16).unwrap() & 1 << 14, 1 << 14, "{pending}");
        assert!(done.facts_now().all("signal").is_empty(), "{}", done.facts_now());
        assert_eq!(sandbox.status(), "paused");
        ask(&sandbox, "resume").ok();
        done.wait_for_line("signal SIGTERM");
        ask(&sandbox, "pause").ok();
        sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
        sandbox.wait_for_status("stopped");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn all_processes_of_a_paused_container_are_killed() {
    brig_only!();
    for view in views() {
        let (sandbox, done) = running(view, "orphans 3 ; say ready ; sleep 60");
        done.wait_for_line("ready");
        ask(&sandbox, "pause").ok();
        sandbox.brig(&["kill", "-a", &sandbox.id, "9"]).ok();
        sandbox.wait_for_status("stopped");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_paused_container_is_deleted_only_by_force() {
    for view in views() {
        let (sandbox, _) = running(view, "orphans 2 ; sleep 60");
        ask(&sandbox, "pause").ok();
        let words = format!("cannot delete container {} that is not stopped: paused", sandbox.id);
        ask(&sandbox, "delete").fails_with(&words);
        let start = Instant::now();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
        sandbox.assert_nothing_left();
        let (sandbox, _) = created(view, "sleep 60");
        ask(&sandbox, "pause").ok();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn what_a_container_has_frozen_of_itself_does_not_keep_it_alive() {
    brig_only!();
    for view in views() {
        let (sandbox, done) = running(view, "orphans 1 ; say ready ; sleep 60");
        done.wait_for_line("ready");
        let (v1, mountpoint) = freezer();
        let is_v1 = view(&["freezer".into()]);
        if v1 && !is_v1 {
            continue;
        }
        let below = mountpoint.join(&sandbox.id).join("below");
        fs::create_dir(&below).unwrap();
        let own = fs::read_to_string(mountpoint.join(&sandbox.id).join("cgroup.procs")).unwrap();
        let init = sandbox.pid().to_string();
        let orphan = own.lines().find(|pid| **pid != init).unwrap();
        fs::write(below.join("cgroup.procs"), orphan).unwrap();
        put(&below, true);
        assert_eq!(sandbox.status(), "running");
        let start = Instant::now();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_v1_container_frozen_from_above_is_told_about_in_time() {
    brig_only!();
    let (true, mountpoint) = freezer() else { return skip("no v1 freezer") };
    let sandbox = Sandbox::new();
    let path = format!("/{0}-above/{0}-own", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    sandbox.script("sleep 60").create();
    sandbox.start();
    let above = mountpoint.join(format!("{}-above", sandbox.id));
    put(&above, true);
    let start = Instant::now();
    let killed = sandbox.brig(&["kill", &sandbox.id, "KILL"]);
    let deleted = sandbox.brig(&["delete", "--force", &sandbox.id]);
    let took = start.elapsed();
    put(&above, false);
    killed.ok();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let complaint = deleted.fails();
    let path = mountpoint.join(&path[1..]).display().to_string();
    for word in [&*path, "above it, is frozen", "has not died", "state D"] {
        assert!(complaint.contains(word), "no {word} in {complaint}");
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

/// A container without its own pid namespace.
fn shared(view: View, script: &str) -> (Sandbox, Done) {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let (sandbox, done) = created_in(sandbox, view, script);
    sandbox.start();
    (sandbox, done)
}

#[test]
fn without_a_pid_namespace_nothing_outlives_a_killed_init() {
    for view in views() {
        for paused in [false, true] {
            let (sandbox, done) = shared(view, "orphans 3 ; hop 60 ; say ready ; sleep 60");
            done.wait_for_line("ready");
            if paused {
                ask(&sandbox, "pause").ok();
            }
            sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
            sandbox.wait_for_status("stopped");
            let none = || host::processes_of(&sandbox.id).is_empty();
            assert!(wait_until(Duration::from_secs(5), none), "{:?}", sandbox.leftovers());
            sandbox.delete();
            sandbox.assert_nothing_left();
        }
    }
}

#[test]
fn what_has_outlived_its_init_is_killed_too() {
    for args in [&["kill", "--all"][..], &["kill"]] {
        let (sandbox, done) = shared(|_| true, "orphans 3 ; say ready");
        done.wait_for_line("ready");
        sandbox.wait_for_status("stopped");
        assert_eq!(host::processes_of(&sandbox.id).len(), 3);
        sandbox.brig(&[args, &[&sandbox.id, "KILL"]].concat()).ok();
        let none = || host::processes_of(&sandbox.id).is_empty();
        assert!(wait_until(Duration::from_secs(5), none), "{:?}", sandbox.leftovers());
        sandbox.brig(&["kill", "--all", &sandbox.id, "KILL"]).ok();
        sandbox.brig(&["kill", &sandbox.id, "TERM"]).fails_with("container not running");
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn in_a_joined_pid_namespace_nothing_outlives_a_killed_init() {
    let holder = Sandbox::new();
    holder.script("sleep 60").run_with(&["--detach"]).ok();
    let path = format!("/proc/{}/ns/pid", holder.pid());
    for end in [&["kill"][..], &["delete", "--force"]] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid");
            namespaces.push(json!({"type": "pid", "path": path}));
        });
        let done = sandbox.script("orphans 2 ; say ready ; sleep 60").run_with(&["--detach"]).ok();
        done.wait_for_line("ready");
        let signal: &[&str] = if end == ["kill"] { &["KILL"] } else { &[] };
        sandbox.brig(&[end, &[sandbox.id.as_str()], signal].concat()).ok();
        let none = || host::processes_of(&sandbox.id).is_empty();
        assert!(wait_until(Duration::from_secs(5), none), "{:?}", sandbox.leftovers());
    }
    assert_eq!(holder.status(), "running");
}
