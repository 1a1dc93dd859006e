//! --trace and --timings.

use crate::sandbox::{Done, Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn trace_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.dir.join("trace.json")
}

fn traced(sandbox: &Sandbox, args: &[&str]) -> Done {
    let file = trace_file(sandbox);
    sandbox.brig(&[&["--trace", file.to_str().unwrap()], args].concat())
}

fn events(sandbox: &Sandbox) -> Vec<Value> {
    let text = fs::read_to_string(trace_file(sandbox)).unwrap();
    let Value::Array(events) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    events
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["ph"] == "X" && event["name"] == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {events:#?}"))
}

/// When it began and ended, in microseconds.
fn times(event: &Value) -> (f64, f64) {
    let number = |key: &str| event[key].as_f64().unwrap_or_else(|| panic!("{key}: {event}"));
    (number("ts"), number("ts") + number("dur"))
}

#[test]
fn one_trace_has_the_life_of_a_container_from_create_to_delete() {
    brig_only!();
    let sandbox = Sandbox::new();
    let hook = json!({"path": "/bin/true"});
    sandbox.patch(|config| config["hooks"]["createRuntime"] = json!([hook]));
    let bundle = sandbox.script("sleep 60").bundle();
    let (bundle, id) = (bundle.to_str().unwrap(), sandbox.id.as_str());
    traced(&sandbox, &["create", "--bundle", bundle, id]).ok();
    let pid = sandbox.pid();
    traced(&sandbox, &["start", id]).ok();
    traced(&sandbox, &["exec", id, "/init", "say", "x"]).ok();
    traced(&sandbox, &["delete", "--force", id]).ok();
    let mode = fs::metadata(trace_file(&sandbox)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let events = events(&sandbox);
    let mut last = 0.0;
    for (command, phases) in [
        ("create", &["config and plan", "preparation", "prestart and createRuntime hooks"][..]),
        ("start", &["startContainer hooks and execve"]),
        ("exec", &["set-up of the process", "the process runs"]),
        ("delete", &["end of the processes", "removal"]),
    ] {
        let whole = event(&events, &format!("{command} {id}"));
        let (began, ended) = times(whole);
        assert!(began >= last, "{command}: {events:#?}");
        last = ended;
        let line = whole["args"]["commandLine"].to_string();
        assert!(line.contains(command) && line.contains(id), "{whole}");
        for name in phases {
            let own = |event: &&Value| event["pid"] == whole["pid"] && event["name"] == *name;
            let phase = events.iter().find(own).unwrap_or_else(|| panic!("{name}: {events:#?}"));
            let (from, to) = times(phase);
            assert!(from >= began && to <= ended + 1.0, "{phase} is not in {whole}");
        }
    }
    // The container's process has its own phases, while brig waits for it.
    let mounts = event(&events, "mounts");
    assert_eq!(mounts["pid"], pid);
    let (began, ended) = times(event(&events, &format!("create {id}")));
    assert!(times(mounts).0 >= began && times(mounts).1 <= ended, "{events:#?}");
    assert_eq!(event(&events, "ids, capabilities and filter")["pid"], pid);
    let names: Vec<_> = events.iter().filter(|event| event["ph"] == "M").collect();
    assert!(names.iter().any(|event| event["pid"] == pid), "{names:#?}");
}

#[test]
fn a_trace_that_cannot_be_written_is_an_error_before_anything_is_made() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("sleep 60").bundle();
    let foreign = sandbox.dir.join("foreign");
    fs::write(&foreign, "{\"precious\": 1}\n").unwrap();
    let cut = sandbox.dir.join("cut");
    fs::write(&cut, "[\n{\"name\":").unwrap();
    let fifo = sandbox.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let of = |file: &str| {
        let bundle = bundle.to_str().unwrap();
        sandbox.brig(&["--trace", file, "create", "--bundle", bundle, &sandbox.id])
    };
    let cases = [
        ("/no/such/directory/trace", "No such file or directory"),
        (sandbox.dir.to_str().unwrap(), "Is a directory"),
        (fifo.to_str().unwrap(), "is not a regular file"),
        (foreign.to_str().unwrap(), "is not a trace"),
        (cut.to_str().unwrap(), "is not a trace"),
    ];
    for (file, why) in cases {
        let error = of(file).fails_with(&format!("--trace {file}: "));
        assert!(error.contains(why), "{file}: {error}");
        assert!(!sandbox.state_root().exists(), "{file}");
    }
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "{\"precious\": 1}\n");
    assert_eq!(fs::read_to_string(&cut).unwrap(), "[\n{\"name\":");
}

#[test]
fn what_fails_is_in_the_trace_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    for _ in 0..2 {
        traced(&sandbox, &["start", "nobody"]).fails_with("container does not exist");
    }
    let events = events(&sandbox);
    let failed = events.iter().filter(|event| event["name"] == "until it failed");
    assert_eq!(failed.count(), 2, "{events:#?}");
}

#[test]
fn timings_are_a_table_on_stderr() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("say hello").bundle();
    let bundle = bundle.to_str().unwrap();
    let done = sandbox.brig(&["--timings", "run", "--bundle", bundle, &sandbox.id]).ok();
    assert_eq!(done.stdout, "hello\n");
    let rows: Vec<Vec<&str>> =
        done.stderr.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PROCESS", "BEGAN", "TOOK", "PHASE"]);
    let has = |process: &str, phase: &str| {
        rows.iter().any(|row| row[0] == process && row[5..].join(" ") == phase)
    };
    for (process, phase) in [
        ("brig", "config and plan"),
        ("container", "namespaces"),
        ("container", "mounts"),
        ("brig", "startContainer hooks and execve"),
        ("brig", "the container runs"),
        ("brig", "removal"),
        ("brig", "total"),
    ] {
        assert!(has(process, phase), "{process}, {phase}: {}", done.stderr);
    }
    // The error is the last line, where people and engines look for it.
    let failed = sandbox.brig(&["--timings", "start", "nobody"]).fails();
    assert!(failed.starts_with("PROCESS"), "{failed}");
    assert!(failed.lines().last().unwrap().starts_with("brig: error: "), "{failed}");
}
