//! State directories that this brig has not created: of an older version, damaged, foreign, or not state
//! directories at all.

use crate::host::{self, wait_until};
use crate::sandbox::{Sandbox, brig_only};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox
}

/// Creates a directory in the state root.
fn make(sandbox: &Sandbox, name: &str) -> PathBuf {
    let dir = sandbox.state_root().join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push(entry.path().display().to_string()),
        }
    }
    found.sort();
    found
}

#[test]
fn no_command_follows_a_link_in_the_state_root() {
    brig_only!();
    let sandbox = running();
    let precious = sandbox.dir.join("precious");
    fs::create_dir_all(precious.join("notify")).unwrap();
    // Including names that brig uses, and a complete state.
    let state = sandbox.state_root().join(&sandbox.id).join("state.json");
    fs::copy(state, precious.join("state.json")).unwrap();
    for name in ["a", "config.json", "go", "notify/notify.sock", "notify/b"] {
        fs::write(precious.join(name), "x").unwrap();
    }
    let before = files(&precious);
    let link = sandbox.state_root().join("link");
    symlink(&precious, &link).unwrap();
    for args in [
        &["delete", "--force", "link"][..],
        &["delete", "link"],
        &["kill", "link", "KILL"],
        &["state", "link"],
        &["start", "link"],
    ] {
        sandbox.brig(args).fails_with("is a symbolic link, not a state directory");
    }
    assert_eq!(files(&precious), before);
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout.trim(), sandbox.id);
    assert_eq!(sandbox.status(), "running");
    fs::remove_file(link).unwrap();
}

#[test]
fn force_removes_nothing_from_a_directory_that_is_not_brigs() {
    brig_only!();
    let sandbox = Sandbox::new();
    // As with a wrong --root.
    for (name, has) in [
        ("home", &["state.json", "config.json", "letter"][..]),
        ("sub", &["notify/other"]),
        ("odd", &["state.json/within"]),
        ("bundle", &["config.json"]),
    ] {
        let dir = make(&sandbox, name);
        for file in has {
            fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
            fs::write(dir.join(file), "precious").unwrap();
        }
        let before = files(&dir);
        sandbox.brig(&["delete", "--force", name]).fails();
        assert_eq!(files(&dir), before, "{name}");
        assert!(dir.exists(), "{name}");
        crate::tree::remove(&dir).unwrap();
    }
}

#[test]
fn a_container_of_runcs_is_not_deleted() {
    brig_only!();
    let sandbox = Sandbox::new();
    let dir = make(&sandbox, "theirs");
    let theirs = json!({"id": "theirs", "init_process_pid": 1, "init_process_start": 0});
    fs::write(dir.join("state.json"), theirs.to_string()).unwrap();
    sandbox.brig(&["delete", "--force", "theirs"]).fails_with("a record of runc");
    assert!(dir.join("state.json").exists());
    crate::tree::remove(&dir).unwrap();
}

/// Ways to make a record unreadable, by name.
fn damage(sandbox: &Sandbox) -> Vec<(&'static str, PathBuf)> {
    let own = sandbox.state_root().join(&sandbox.id).join("state.json");
    let whole = fs::read(own).unwrap();
    let mut made = Vec::new();
    for (name, bytes) in [
        ("foreign", br#"{"ociVersion":"1.0.2","id":"foreign","status":"stopped"}"#.to_vec()),
        ("newer", br#"{"id":"newer","version":9,"pid":"none"}"#.to_vec()),
        ("cut", whole[..60].to_vec()),
        ("nul", vec![0; 300]),
        ("empty", Vec::new()),
        ("list", b"[1]".to_vec()),
        ("copy", whole.clone()),
        ("bytes", vec![0xff; 10]),
    ] {
        let dir = make(sandbox, name);
        fs::write(dir.join("state.json"), bytes).unwrap();
        made.push((name, dir));
    }
    let dir = make(sandbox, "fifo");
    mkfifo(&dir.join("state.json"), Mode::S_IRWXU).unwrap();
    made.push(("fifo", dir));
    let dir = make(sandbox, "dir");
    fs::create_dir(dir.join("state.json")).unwrap();
    made.push(("dir", dir));
    let dir = make(sandbox, "link");
    symlink(sandbox.state_root().join(&sandbox.id).join("state.json"), dir.join("state.json"))
        .unwrap();
    made.push(("link", dir));
    made
}

#[test]
fn an_unreadable_record_hides_no_other_container() {
    brig_only!();
    let sandbox = running();
    let made = damage(&sandbox);
    let listed = sandbox.brig(&["list", "--format", "json"]).ok();
    let list: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let status = |name: &str| list.iter().find(|one| one["id"] == name).map(|one| &one["status"]);
    assert_eq!(status(&sandbox.id).unwrap(), "running");
    for (name, dir) in &made {
        assert_eq!(status(name).unwrap(), "unknown", "{name}");
        let path = dir.join("state.json").display().to_string();
        assert!(listed.stderr.contains(&path), "{name}: {}", listed.stderr);
        let error = sandbox.brig(&["state", name]).fails();
        assert!(error.contains(&format!("brig delete --force {name}")), "{error}");
    }
    assert!(sandbox.brig(&["list", "-q"]).ok().stdout.contains(&sandbox.id));
    let shown = sandbox.brig(&["stats", "--no-stream", "--format", "json"]).ok().stdout;
    assert!(shown.contains(&sandbox.id), "{shown}");
    // A container whose upper must not be used by others.
    let (upper, id) = (sandbox.dir.join("upper"), format!("{}-upper", sandbox.id));
    fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
    fs::create_dir(sandbox.rootfs()).unwrap();
    let bundle = sandbox.script("true").bundle();
    let words = ["run", "--bundle", bundle.to_str().unwrap(), "--layer", "bundle/base", "--upper"];
    sandbox.brig(&[&words[..], &[upper.to_str().unwrap(), &id]].concat()).ok();
    for (name, dir) in made {
        sandbox.brig(&["delete", "--force", name]).ok();
        assert!(!dir.exists(), "{name}");
    }
    assert_eq!(sandbox.status(), "running");
}

#[test]
fn of_a_newer_record_force_deletes_what_it_tells_of() {
    brig_only!();
    let sandbox = running();
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["version"] = 9.into();
    state["bundle"] = json!({"path": "/elsewhere"});
    fs::write(&path, state.to_string()).unwrap();
    let listed = sandbox.brig(&["list"]).ok();
    assert!(listed.stdout.contains("running"), "{listed:?}");
    assert!(listed.stderr.contains("has version 9, and this brig supports 1"), "{listed:?}");
    sandbox.brig(&["delete", &sandbox.id]).fails_with("has version 9");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_cut_record_is_not_taken_for_one_that_is_being_written() {
    brig_only!();
    let sandbox = running();
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let whole = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&whole);
    let pid = Pid::from_raw(sandbox.pid().try_into().unwrap());
    for length in [text.find("\"cgroup\"").unwrap() + 20, 0] {
        fs::write(&path, &whole[..length]).unwrap();
        for command in [&["delete"][..], &["start"], &["pause"], &["update", "--pids-limit", "9"]] {
            let error = sandbox.brig(&[command, &[&sandbox.id]].concat()).fails();
            assert!(error.contains("state.json: EOF"), "{command:?}: {error}");
        }
        assert!(kill(pid, None).is_ok());
    }
    fs::write(&path, &whole).unwrap();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    // Its cgroups would not be found without the end of the record.
    let bundle = sandbox.bundle().display().to_string();
    let create = ["--cgroup-manager=disabled", "create", "--bundle", &bundle, &sandbox.id];
    sandbox.brig(&create).ok();
    let pid = Pid::from_raw(sandbox.pid().try_into().unwrap());
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 2]).unwrap();
    let done = sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(done.stderr.contains("only what the readable part"), "{done:?}");
    assert!(wait_until(Duration::from_secs(30), || kill(pid, None).is_err()));
}

#[test]
fn without_its_copy_of_the_config_a_container_can_still_be_paused_and_resumed() {
    brig_only!();
    let sandbox = running();
    let copy = sandbox.state_root().join(&sandbox.id).join("config.json");
    fs::write(&copy, "").unwrap();
    let said = sandbox.brig(&["exec", &sandbox.id, "/init", "true"]).stderr;
    assert!(said.contains("config.json in the container's state directory: EOF"), "{said}");
    fs::remove_file(&copy).unwrap();
    for command in ["pause", "resume"] {
        sandbox.brig(&[command, &sandbox.id]).ok();
    }
}

/// Removes everything that 0.1 has not written.
fn as_of_0_1(value: &mut Value, model: &Value) {
    match (value, model) {
        (Value::Object(fields), Value::Object(model)) => {
            fields.retain(|name, _| model.contains_key(name));
            for (name, field) in fields {
                as_of_0_1(field, &model[name]);
            }
        }
        (Value::Array(items), Value::Array(model)) => {
            if let Some(model) = model.first() {
                items.iter_mut().for_each(|item| as_of_0_1(item, model));
            }
        }
        _ => {}
    }
}

#[test]
fn a_container_of_0_1_goes_on_with_every_command() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let model = include_str!("../../fixtures/states/0.1/plain.json");
    as_of_0_1(&mut state, &serde_json::from_str(model).unwrap());
    assert!(state.get("version").is_none() && state.get("cgroup").is_some(), "{state}");
    fs::write(&path, state.to_string()).unwrap();
    let listed = sandbox.brig(&["list"]).ok();
    assert!(listed.stdout.contains("created") && listed.stderr.is_empty(), "{listed:?}");
    sandbox.start();
    let id = sandbox.id.as_str();
    assert_eq!(sandbox.status(), "running");
    sandbox.brig(&["exec", id, "/init", "true"]).ok();
    sandbox.brig(&["ps", "--format", "json", id]).ok();
    sandbox.brig(&["stats", "--no-stream", id]).ok();
    sandbox.brig(&["events", "--stats", id]).ok();
    if host::controller("pids").is_some() {
        sandbox.brig(&["update", "--pids-limit", "30", id]).ok();
    }
    sandbox.brig(&["pause", id]).ok();
    assert_eq!(sandbox.status(), "paused");
    sandbox.brig(&["resume", id]).ok();
    sandbox.brig(&["kill", id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    sandbox.delete();
    sandbox.assert_nothing_left();
}

/// Nothing is left of a `run` that a signal ends, at any point of its first milliseconds.
#[test]
fn a_run_that_is_signalled_early_leaves_nothing() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    for number in 0..150_u32 {
        let id = format!("{}-{number}", sandbox.id);
        let command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &id]);
        let mut running = sandbox.spawn(command);
        std::thread::sleep(Duration::from_micros(u64::from(number % 50) * 250));
        let pid = Pid::from_raw(running.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let gone = || running.child.try_wait().unwrap().is_some();
        if !host::wait_briefly(Duration::from_millis(200), gone) {
            // The container runs, its init ignores the signal, and brig has forwarded it.
            sandbox.brig(&["delete", "--force", &id]).ok();
        }
        running.wait();
        assert!(!sandbox.state_root().join(&id).exists(), "after {} x 250 us", number % 50);
    }
    sandbox.assert_nothing_left();
}

/// The first flock of create is refused: what it has created by then is removed.
#[test]
fn a_create_that_cannot_lock_its_state_leaves_nothing() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("true").bundle();
    let args = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut command = sandbox.command(&args);
    crate::sandbox::before_exec(&mut command, || crate::tracer::without_syscall(libc::SYS_flock));
    sandbox.spawn(command).wait().fails_with("flock");
    sandbox.assert_nothing_left();
    sandbox.create();
}

/// No name can affect the terminal on which it is shown: C0 and C1 controls, DEL, directional overrides.
#[test]
fn names_reach_no_terminal_with_control_characters() {
    brig_only!();
    let sandbox = Sandbox::new();
    let odd = "odd\x1b[2J\x07\u{9b}2J\x7f\u{202e}\u{2066}\u{200f}\nroot";
    let bundle = sandbox.dir.join(odd);
    fs::rename(sandbox.bundle(), &bundle).unwrap();
    let mut config: Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    config["annotations"] = json!({odd: odd});
    config["process"]["args"] = json!(["/init", "sleep", "60", ";", "say", odd]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let args = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    sandbox.brig(&args).ok();
    let acts =
        |c: char| c.is_control() && c != '\n' || ['\u{202e}', '\u{2066}', '\u{200f}'].contains(&c);
    for args in [
        &["list"][..],
        &["list", "--format", "json"],
        &["state", &sandbox.id],
        &["ps", &sandbox.id],
        &["create", "--bundle", &format!("{}x", bundle.display()), "other"],
        &["delete", odd],
    ] {
        let done = sandbox.brig(args);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(!said.contains(acts), "{args:?}: {said:?}");
    }
    assert_eq!(sandbox.brig(&["list"]).ok().stdout.lines().count(), 2);
    assert_eq!(sandbox.state()["bundle"], bundle.to_str().unwrap());
    assert_eq!(sandbox.state()["annotations"][odd], odd);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    fs::rename(bundle, sandbox.bundle()).unwrap();
}
