//! --log, --log-format and --debug.

use crate::sandbox::{Done, Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

/// docs/output.md: fields that programs need not parse from the text.
#[test]
fn an_error_in_the_json_log_has_code_place_command_and_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let (bundle, id) = (bundle.to_str().unwrap(), sandbox.id.as_str());
    let logged = |args: &[&str]| -> Value {
        let log = sandbox.dir.join("log.json");
        let global = ["--log-format", "json", "--log", log.to_str().unwrap()];
        let done = sandbox.brig(&[&global, args].concat());
        assert_ne!(done.code, Some(0), "{done:?}");
        let text = fs::read(&log).unwrap();
        fs::remove_file(log).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    let create = ["create", "--bundle", bundle, id];

    // Detected by brig itself, before there is a process.
    sandbox.patch(|config| config["process"]["cwd"] = json!("tmp"));
    let error = logged(&create);
    assert_eq!(error["place"]["path"], "process.cwd", "{error}");
    assert_eq!(error["place"]["file"], "config.json", "{error}");
    let line = error["place"]["line"].as_u64().unwrap();
    let text = fs::read_to_string(sandbox.bundle().join("config.json")).unwrap();
    let line = text.lines().nth(usize::try_from(line).unwrap() - 1).unwrap();
    let column = usize::try_from(error["place"]["column"].as_u64().unwrap()).unwrap();
    assert!(line[column - 1..].starts_with("\"tmp\""), "{error}: {line}");
    assert_eq!((&error["command"], &error["container"]), (&json!("create"), &json!(id)));
    assert_eq!(error.get("code"), None, "{error}");

    // Detected by the container's process.
    sandbox.patch(|config| {
        config["process"]["cwd"] = json!("/");
        let mount = json!({"destination": "/x", "type": "tmpfs", "options": ["size=64q"]});
        config["mounts"].as_array_mut().unwrap().insert(0, mount);
    });
    let error = logged(&create);
    assert_eq!(error["place"]["path"], "mounts[0].options[0]", "{error}");
    assert_eq!(error["code"], "EINVAL", "{error}");
    sandbox.patch(|config| drop(config["mounts"].as_array_mut().unwrap().remove(0)));

    // Detected at start, and by exec.
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    crate::run::make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]).create();
    let error = logged(&["start", id]);
    assert_eq!((&error["code"], &error["command"]), (&json!("ENOENT"), &json!("start")));
    sandbox.delete();
    sandbox.script("sleep 60").create();
    let error = logged(&["exec", id, "nosuchcommand"]);
    assert_eq!((&error["code"], &error["command"]), (&json!("ENOENT"), &json!("exec")));
    let error = logged(&["state", "nobody"]);
    assert_eq!((&error["command"], &error["container"]), (&json!("state"), &json!("nobody")));
    assert_eq!((error.get("place"), error.get("code")), (None, None), "{error}");
}

#[test]
fn a_json_log_has_exactly_one_object_after_a_failure() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.args(&["nosuchcommand"]).bundle();
    for spelling in [&["--log-format", "json"][..], &["--log-format=json"]] {
        let log = sandbox.dir.join("log.json");
        let path = log.to_str().unwrap();
        let args = [
            spelling,
            &["--log", path, "create", "--bundle", bundle.to_str().unwrap(), &sandbox.id],
        ]
        .concat();
        sandbox.brig(&args).fails();
        let text = fs::read_to_string(&log).unwrap();
        let object: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(object["level"], "error");
        let message = object["msg"].as_str().unwrap();
        assert!(
            message.contains("exec: \"nosuchcommand\": executable file not found in $PATH"),
            "{message}"
        );
        assert!(!message.starts_with("brig: ") && !message.contains("level="), "{message}");
        let time = object["time"].as_str().unwrap();
        assert!(is_rfc3339(time), "{time}");
        assert_eq!(text.lines().count(), 1);
        fs::remove_file(log).unwrap();
    }
    sandbox.assert_nothing_left();
}

/// E.g. `2026-11-22T15:04:05Z`, possibly with a fraction or an offset.
fn is_rfc3339(time: &str) -> bool {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let rest = shape.strip_prefix("0000-00-00T00:00:00");
    let rest = rest.map(|rest| {
        rest.strip_prefix('.').map_or(rest, |fraction| fraction.trim_start_matches('0'))
    });
    matches!(rest, Some("Z" | "+00:00" | "-00:00"))
}

#[test]
fn without_a_log_stderr_has_the_json() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    sandbox.patch(|config| {
        let bounding = config["process"]["capabilities"]["bounding"].as_array_mut();
        bounding.unwrap().push(json!("CAP_OF_TOMORROW"));
    });
    let levels = |done: &Done| -> Vec<String> {
        let level = |line: &str| -> String {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{done:?}"));
            assert!(is_rfc3339(object["time"].as_str().unwrap()), "{done:?}");
            object["level"].as_str().unwrap().to_owned()
        };
        done.stderr.lines().map(level).collect()
    };
    let json = ["--log-format", "json"];
    let failed = sandbox.brig(&[&json[..], &["state", "nobody"]].concat());
    assert_eq!((failed.code, levels(&failed)), (Some(1), vec!["error".to_owned()]));
    let made = sandbox.brig(&[&json[..], &["create", "--bundle", bundle, &sandbox.id]].concat());
    assert_eq!((made.code, levels(&made)), (Some(0), vec!["warning".to_owned()]));
}

#[test]
fn a_log_gets_nothing_when_all_is_well() {
    let sandbox = Sandbox::new();
    let log = sandbox.dir.join("log.json");
    let bundle = sandbox.bundle();
    let args = ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "--bundle"];
    sandbox.brig(&[&args[..], &[bundle.to_str().unwrap(), &sandbox.id]].concat()).ok();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
}

#[test]
fn a_text_log_is_appended_to() {
    brig_only!();
    let sandbox = Sandbox::new();
    let log = sandbox.dir.join("log");
    fs::write(&log, "before\n").unwrap();
    for _ in 0..2 {
        sandbox.brig(&["--log", log.to_str().unwrap(), "state", "nobody"]).fails();
    }
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.lines().skip(1).all(|line| line.contains("container does not exist")), "{text}");
}

#[test]
fn a_log_that_cannot_be_written_is_an_error() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.brig(&["--log", "/no/such/directory/log", "list"]).fails_with("/no/such/directory/log");
}

#[test]
fn debug_is_taken_and_keeps_stdout_clean() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.script("say hello").bundle();
    let done =
        sandbox.brig(&["--debug", "run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]).ok();
    assert_eq!(done.stdout, "hello\n");
}

/// The output of `--debug` for a command, as objects.
fn account(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    let log = sandbox.dir.join("account.json");
    let global = ["--debug", "--log-format", "json", "--log", log.to_str().unwrap()];
    sandbox.brig(&[&global, args].concat());
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The phases of a process in order; checks that none begins before the previous one has ended.
fn phases(account: &[Value], process: &str) -> Vec<String> {
    let own = account.iter().filter(|line| line["process"] == process && line["phase"].is_string());
    let mut end = 0;
    let mut names = Vec::new();
    for line in own {
        let began = line["beganMicros"].as_u64().unwrap();
        // Each is rounded down.
        assert!(began + 1 >= end, "{account:#?}");
        end = began + line["tookMicros"].as_u64().unwrap();
        names.push(line["phase"].as_str().unwrap().to_owned());
    }
    names
}

#[test]
fn debug_tells_what_was_called_decided_made_and_undone_and_how_long_it_took() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    let (bundle, id) = (bundle.to_str().unwrap(), sandbox.id.as_str());
    let has = |account: &[Value], words: &[&str]| {
        let found = account
            .iter()
            .any(|line| words.iter().all(|word| line["msg"].as_str().unwrap().contains(word)));
        assert!(found, "{words:?}: {account:#?}");
    };
    let create = account(&sandbox, &["create", "--bundle", bundle, id]);
    has(&create, &["brig 0", "commit", "\"create\"", id]);
    has(&create, &["decided: cgroup manager cgroupfs"]);
    has(&create, &["decided: namespaces to create: ", "mount", "pid"]);
    has(&create, &["decided: mounts[0]: /proc: proc"]);
    has(&create, &["made: state directory", id]);
    has(&create, &["made: process "]);
    let own = phases(&create, "brig");
    assert_eq!(own, ["config and plan", "preparation", "set-up of the process", "the rest"]);
    let childs = phases(&create, "container");
    let expected = [
        "cgroups",
        "namespaces",
        "mounts",
        "root filesystem and terminal",
        "limits and labels",
        "ids, capabilities and filter",
    ];
    assert_eq!(childs, expected);
    // The container's process worked while brig waited for it.
    let began = |phase: &str| {
        let line = create.iter().find(|line| line["phase"] == phase).unwrap();
        line["beganMicros"].as_u64().unwrap()
    };
    assert!(began("mounts") >= began("set-up of the process"), "{create:#?}");
    account(&sandbox, &["start", id]);
    let exec = account(&sandbox, &["exec", id, "/init", "say", "x"]);
    assert_eq!(phases(&exec, "container").len(), 5, "{exec:#?}");
    let delete = account(&sandbox, &["delete", "--force", id]);
    has(&delete, &["ended: process "]);
    has(&delete, &["removed: state directory", id]);

    // After a failure, everything is undone.
    sandbox.patch(|config| {
        let mount = json!({"destination": "/x", "type": "tmpfs", "options": ["size=64q"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let failed = account(&sandbox, &["create", "--bundle", bundle, id]);
    has(&failed, &["ended: process "]);
    has(&failed, &["removed: state directory", id]);
    assert_eq!(failed.last().unwrap()["level"], "error", "{failed:#?}");
    sandbox.assert_nothing_left();
}

/// `brig --debug create ID 2>&1 | head -1` must not leave half a container.
#[test]
fn a_message_that_nobody_reads_does_not_end_brig() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    for global in [&["--debug"][..], &["--debug", "--log-format", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let create = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let mut command = sandbox.command(&[global, &create].concat());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(0));
        assert_eq!(sandbox.status(), "created");
        sandbox.delete();
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = sandbox.command(&["state", &sandbox.id]);
    assert_eq!(command.stderr(writer).status().unwrap().code(), Some(1));
}
