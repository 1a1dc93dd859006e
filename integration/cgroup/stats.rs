//! `events` and `stats`: numbers match the files, out-of-memory events are reported, and the commands end
//! with the container.

use crate::cgroups::{BUSY, cgroup_of, cpu_stat, limited, setting};
use crate::host::{self, Version};
use crate::sandbox::{Done, Running, Sandbox, brig_only, skip};
use crate::screen::open;
use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Makes the container idle.
fn idle(sandbox: &Sandbox) {
    sandbox.script("say ready ; sleep 60").run_with(&["--detach"]).ok().wait_for_line("ready");
}

fn lines(text: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(line).collect()
}

fn once(sandbox: &Sandbox) -> Value {
    let done = sandbox.brig(&["events", "--stats", &sandbox.id]).ok();
    let events = lines(&done.stdout);
    assert_eq!(events.len(), 1, "{done:?}");
    assert_eq!((&events[0]["type"], &events[0]["id"]), (&json!("stats"), &json!(sandbox.id)));
    events[0]["data"].clone()
}

fn follow(sandbox: &Sandbox) -> Running {
    sandbox.spawn(sandbox.command(&["events", "--interval", "200ms", &sandbox.id]))
}

/// Waits for the first event of this kind.
#[track_caller]
fn wait_for(running: &Running, kind: &str) {
    let of = |text: &str| text.contains(&format!("\"type\":\"{kind}\""));
    let told = || of(&fs::read_to_string(&running.stdout).unwrap());
    assert!(host::wait_until(Duration::from_secs(10), told), "no event {kind}");
}

#[track_caller]
fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer);
    // runc omits values of 0.
    found.map_or(0, |number| number.as_u64().unwrap_or_else(|| panic!("{pointer}: {number}")))
}

#[test]
fn the_numbers_are_those_of_the_files() {
    if host::controller("memory").is_none() || host::controller("pids").is_none() {
        return skip("this host has no controllers memory and pids");
    }
    let sandbox = limited("memory", json!({"limit": 64 << 20}));
    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 77}));
    sandbox.create();
    // Its usage does not change meanwhile.
    host::wait_until_asleep(sandbox.pid());
    let file = |controller: &str, v1: &str, v2: &str| -> u64 {
        setting(&sandbox, controller, v1, v2).parse().unwrap()
    };
    let usage = || file("memory", "memory.usage_in_bytes", "memory.current");
    let (before, data, after) = (usage(), once(&sandbox), usage());
    let range = before.min(after)..=before.max(after);
    assert!(range.contains(&number(&data, "/memory/usage/usage")), "{range:?} {data}");
    assert_eq!(number(&data, "/memory/usage/limit"), 64 << 20);
    assert_eq!(number(&data, "/pids/current"), file("pids", "pids.current", "pids.current"));
    assert_eq!(number(&data, "/pids/limit"), 77);
    let stat = setting(&sandbox, "memory", "memory.stat", "memory.stat");
    for line in stat.lines() {
        let (key, _) = line.split_once(' ').unwrap();
        assert!(data["memory"]["raw"][key].is_u64(), "{key} in {data}");
    }
    let v1 = host::controller("cpuacct").is_some();
    let dir = cgroup_of(sandbox.pid(), if v1 { "cpuacct" } else { "memory" });
    let total: u64 = match fs::read_to_string(dir.join("cpuacct.usage")) {
        Ok(nanoseconds) => nanoseconds.trim().parse().unwrap(),
        Err(_) => {
            let text = fs::read_to_string(dir.join("cpu.stat")).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
            line.parse::<u64>().unwrap() * 1000
        }
    };
    assert_eq!(number(&data, "/cpu/usage/total"), total);
    assert!(total > 0);
    assert_eq!(data["network_interfaces"], json!(null));
}

/// The keys that Go programs read: every key of runc's for which this host has numbers.
#[test]
fn the_shape_is_runcs() {
    let sandbox = Sandbox::new();
    sandbox.create();
    let data = once(&sandbox);
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let expected =
        ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"];
    assert_eq!(keys(&data), expected);
    for (at, some) in [
        ("/cpu/usage", &["kernel", "total", "user"][..]),
        ("/cpuset", &["cpu_exclusive", "mem_exclusive", "sched_relax_domain_level"]),
        ("/memory/usage", &["failcnt", "limit", "usage"]),
        ("/pids", &["current"]),
    ] {
        let have = keys(data.pointer(at).unwrap());
        assert!(some.iter().all(|key| have.iter().any(|have| have == key)), "{at}: {have:?}");
    }
    let v1 = host::controller("cpuset").is_some_and(|(version, _)| version == Version::V1);
    if v1 {
        let cpus = setting(&sandbox, "cpuset", "cpuset.cpus", "");
        let count = data["cpuset"]["cpus"].as_array().unwrap().len();
        assert_eq!(count == 1, !cpus.contains(['-', ',']), "{cpus} {data}");
    }
}

#[test]
fn the_pressure_is_told_where_the_kernel_measures_it() {
    let Some((_, unified)) = host::hierarchies().into_iter().find(|(names, _)| names.is_empty())
    else {
        return skip("this host has no cgroup2");
    };
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    sandbox.create();
    if fs::read_to_string(unified.join(&sandbox.id).join("cpu.pressure")).is_err() {
        return skip("this kernel has no pressure stall information");
    }
    if crate::sandbox::is_peer() && host::controller("memory").unwrap().0 == Version::V1 {
        return skip("runc has it on cgroup v2 alone");
    }
    let data = once(&sandbox);
    for part in ["cpu", "memory", "blkio"] {
        assert!(data[part]["psi"]["some"]["avg10"].is_number(), "{data}");
        assert!(data[part]["psi"]["full"]["total"].is_u64(), "{data}");
    }
}

#[test]
fn what_was_throttled_is_told() {
    if host::controller("cpu").is_none() {
        return skip("this host has no controller cpu");
    }
    let sandbox = limited("cpu", json!({"quota": 5000, "period": 50000}));
    sandbox.script("say ready ; burn 60").run_with(&["--detach"]).ok().wait_for_line("ready");
    let dir = cgroup_of(sandbox.pid(), "cpu");
    if !host::wait_until(Duration::from_secs(20), || cpu_stat(&dir, "nr_throttled") >= 8) {
        return skip(BUSY);
    }
    let data = once(&sandbox);
    assert!(number(&data, "/cpu/throttling/throttledPeriods") >= 5, "{data}");
    assert!(number(&data, "/cpu/throttling/throttledTime") > 100_000_000, "nanoseconds: {data}");
}

#[test]
fn events_come_in_their_interval_and_end_with_the_container() {
    let sandbox = Sandbox::new();
    idle(&sandbox);
    let start = Instant::now();
    let events = follow(&sandbox);
    let count = || fs::read_to_string(&events.stdout).unwrap().lines().count();
    assert!(host::wait_until(Duration::from_secs(10), || count() >= 4));
    let took = start.elapsed();
    assert!(took > Duration::from_millis(550), "{took:?}");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    // With cgroup v1 it continues until the cgroup is removed.
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    let done = events.wait().ok();
    assert!(lines(&done.stdout).iter().all(|event| event["type"] == "stats"), "{done:?}");
}

#[test]
fn with_cgroup_v1_events_go_on_until_the_container_is_deleted() {
    let v1 = host::controller("memory").is_some_and(|(version, _)| version == Version::V1);
    if !v1 {
        return skip("the controller memory is not on a v1 hierarchy here");
    }
    let sandbox = Sandbox::new();
    idle(&sandbox);
    let mut events = follow(&sandbox);
    wait_for(&events, "stats");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    let count = || fs::read_to_string(&events.stdout).unwrap().lines().count();
    let before = count();
    assert!(host::wait_until(Duration::from_secs(10), || count() > before + 1));
    assert!(events.child.try_wait().unwrap().is_none());
    sandbox.delete();
    events.wait().ok();
}

#[test]
fn events_end_when_nobody_reads_them() {
    brig_only!();
    let sandbox = Sandbox::new();
    idle(&sandbox);
    let mut command = sandbox.command(&["events", "--interval", "100ms", &sandbox.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
    let ended = host::wait_until(Duration::from_secs(10), || child.try_wait().unwrap().is_some());
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(ended && status.success(), "{status}");
}

#[test]
fn a_container_that_dies_for_lack_of_memory_has_told_so() {
    if host::controller("memory").is_none() {
        return skip("this host has no controller memory");
    }
    let sandbox = limited("memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    sandbox.script(&format!("hog {}", 24 << 20)).create();
    let events = follow(&sandbox);
    wait_for(&events, "stats");
    sandbox.start();
    sandbox.wait_for_status("stopped");
    // Its file ends with the cgroup: delete must not come before it was read.
    wait_for(&events, "oom");
    sandbox.delete();
    let done = events.wait().ok();
    let oom: Vec<Value> =
        lines(&done.stdout).into_iter().filter(|event| event["type"] == "oom").collect();
    assert_eq!(oom, [json!({"type": "oom", "id": sandbox.id})], "{done:?}");
}

#[test]
fn a_process_that_is_killed_for_lack_of_memory_is_told_at_once() {
    if host::controller("memory").is_none() {
        return skip("this host has no controller memory");
    }
    let sandbox = limited("memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    idle(&sandbox);
    let events = follow(&sandbox);
    wait_for(&events, "stats");
    assert!(!fs::read_to_string(&events.stdout).unwrap().contains("oom\""));
    let hog = sandbox.brig(&["exec", &sandbox.id, "/init", "hog", &(24 << 20).to_string()]);
    assert_eq!(hog.code, Some(128 + 9), "{hog:?}");
    wait_for(&events, "oom");
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    events.wait().ok();
}

#[test]
fn there_are_no_events_of_what_does_not_run() {
    let sandbox = Sandbox::new();
    sandbox.brig(&["events", &sandbox.id]).fails_with("does not exist");
    sandbox.script("true").run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    for args in [&["events", &sandbox.id][..], &["events", "--stats", &sandbox.id]] {
        sandbox.brig(args).fails_with("is not running");
    }
    sandbox.brig(&["events", "--interval", "0s", &sandbox.id]).fails_with("greater than 0");
}

#[test]
fn an_interval_is_a_duration() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    let wrong = sandbox.brig(&["events", "--interval", "5", &sandbox.id]);
    wrong.fails_with("--interval \"5\": not a duration (e.g. 500ms or 1m30s)");
}

fn rows(done: Done) -> Vec<Value> {
    serde_json::from_str::<Value>(&done.ok().stdout).unwrap().as_array().unwrap().clone()
}

#[test]
fn all_containers_or_some_are_shown() {
    brig_only!();
    if host::controller("cpu").is_none() || host::controller("memory").is_none() {
        return skip("this host has no controllers cpu and memory");
    }
    let sandbox = limited("memory", json!({"limit": 64 << 20}));
    let ids: Vec<String> = ["a", "b"].map(|name| format!("{}-{name}", sandbox.id)).into();
    let bundle = sandbox.bundle();
    sandbox.script("burn 300");
    for id in &ids {
        sandbox.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]).ok();
    }
    let all = rows(sandbox.brig(&["stats", "--format", "json"]));
    assert_eq!(all.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    for row in &all {
        // A whole CPU, unless others use it.
        assert!(row["cpuPercent"].as_f64().unwrap() > 0.0, "{row}");
        assert_eq!(row["memory"]["limit"], json!(64 << 20));
        let used = row["memory"]["used"].as_u64().unwrap();
        assert!((4096..64 << 20).contains(&used), "{row}");
        assert_eq!((&row["status"], &row["pids"]["used"]), (&json!("running"), &json!(1)));
    }
    let one = rows(sandbox.brig(&["stats", "--format=json", "--interval=100ms", &ids[1]]));
    assert_eq!(one.len(), 1);
    assert_eq!(one[0]["id"], json!(ids[1]));
    let table = sandbox.brig(&["stats", "--interval", "100ms"]).ok().stdout;
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.starts_with("ID ") && !table.contains('\x1b'), "{table}");
    assert!(table.lines().nth(1).unwrap().contains("MiB / 64MiB") || table.contains("KiB / 64MiB"));
}

#[test]
fn what_does_not_run_has_no_stats() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.brig(&["stats", &sandbox.id]).fails_with("does not exist");
    assert!(rows(sandbox.brig(&["stats", "--format=json", "--interval=1ms"])).is_empty());
    sandbox.script("true").run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.brig(&["stats", &sandbox.id]).fails_with("is not running");
    assert!(rows(sandbox.brig(&["stats", "--format=json", "--interval=1ms"])).is_empty());
}

#[test]
fn on_a_terminal_the_table_is_drawn_again_until_the_container_ends() {
    brig_only!();
    let sandbox = Sandbox::new();
    idle(&sandbox);
    let (screen, peer) = open();
    let mut command = sandbox.command(&["stats", "--interval", "100ms", &sandbox.id]);
    let mut child = command.stdin(Stdio::null()).stdout(peer).spawn().unwrap();
    drop(command);
    let frames = || screen.text().matches("\x1b[H").count();
    let drawn = host::wait_until(Duration::from_secs(10), || frames() >= 3);
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    let ended = host::wait_until(Duration::from_secs(10), || {
        screen.look();
        child.try_wait().unwrap().is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(drawn && ended && status.success(), "{status} {:?}", screen.text());
    assert!(screen.text().contains("CPU %") && screen.text().contains(&sandbox.id));
}
