//! Keys of config.json and similar files in other letter case, duplicate, or unknown: read like runc's
//! decoder.

use crate::sandbox::{Sandbox, brig_only, is_peer};
use std::fs;

/// Replaces `from` in the text of config.json: serde_json's values cannot contain duplicate keys.
fn edit(sandbox: &Sandbox, from: &str, to: &str) {
    let path = sandbox.bundle().join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn of_a_scalar_given_twice_the_last_counts_and_objects_are_merged() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["hostname"] = "MARK".into();
        config["linux"]["maskedPaths"] = ["/proc/keys"].into();
        config["process"]["noNewPrivileges"] = true.into();
    });
    sandbox.script("uname ; status NoNewPrivs");
    edit(&sandbox, "\"hostname\": \"MARK\"", "\"hostname\": \"first\", \"hostname\": \"second\"");
    // The other object comes last: members that only the first one has stay in force.
    let text = fs::read_to_string(sandbox.bundle().join("config.json")).unwrap();
    let end = text.trim_end().strip_suffix('}').unwrap();
    let twice = format!(
        "{end}, \"linux\": {{\"readonlyPaths\": [\"/proc/sys\"]}}, \"process\": {{\"umask\": 1}}}}"
    );
    fs::write(sandbox.bundle().join("config.json"), twice).unwrap();
    let done = sandbox.run_with(&[]).ok();
    let facts = done.facts_now();
    assert_eq!(facts.get("hostname"), "second");
    assert_eq!(facts.get("NoNewPrivs"), "1");
    sandbox.assert_nothing_left();
}

#[test]
fn a_null_after_a_value_removes_it_only_where_decoders_in_go_have_a_pointer() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["hostname"] = "MARK".into();
        config["process"]["noNewPrivileges"] = true.into();
        config["process"]["oomScoreAdj"] = 777.into();
        config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 1000});
    });
    sandbox.script("uname ; ids ; status NoNewPrivs ; read /proc/self/oom_score_adj");
    edit(&sandbox, "\"hostname\": \"MARK\"", "\"hostname\": \"kept\", \"hostname\": null");
    edit(
        &sandbox,
        "\"noNewPrivileges\": true",
        "\"noNewPrivileges\": true, \"noNewPrivileges\": null",
    );
    edit(&sandbox, "\"uid\": 1000", "\"uid\": 1000, \"uid\": null");
    edit(
        &sandbox,
        "\"oomScoreAdj\": 777",
        "\"oomScoreAdj\": 777, \"oomScoreAdj\": null, \"user\": null",
    );
    edit(&sandbox, "\"cwd\":", "\"cwd\": \"/\", \"cwd\": null, \"CWD\":");
    let done = sandbox.run_with(&[]).ok();
    let facts = done.facts_now();
    assert_eq!((facts.get("hostname"), facts.get("NoNewPrivs")), ("kept", "1"));
    assert_eq!(facts.get("uid"), "1000 1000 1000");
    assert_eq!(facts.get("gid"), "1000 1000 1000");
    assert!(!done.stdout.contains("777"), "{}", done.stdout);
    sandbox.assert_nothing_left();
}

#[test]
fn duplicate_keys_count_whatever_number_an_unknown_key_has() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["hostname"] = "MARK".into());
    sandbox.script("uname");
    let both = "\"unknown\": [1e999], \"hostname\": \"first\", \"hostname\": \"second\"";
    edit(&sandbox, "\"hostname\": \"MARK\"", both);
    assert_eq!(sandbox.run_with(&[]).ok().facts_now().get("hostname"), "second");
    brig_only!();
    edit(&sandbox, "\"unknown\": [1e999]", "\"domainname\": 1e999");
    sandbox.run_with(&[]).fails_with("number out of range");
    sandbox.assert_nothing_left();
}

#[test]
fn what_only_decoders_in_go_read_is_read() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["hostname"] = "MARK".into();
        config["annotations"] = serde_json::json!({"a": "LONE"});
        config["process"]["oomScoreAdj"] = 777.into();
    });
    sandbox.script("uname ; sleep 60");
    edit(&sandbox, "\"hostname\"", "\"ho\\u017ftname\"");
    edit(&sandbox, "LONE", "\\udcff");
    edit(&sandbox, "\"oomScoreAdj\": 777", "\"oomScoreAdj\": -0");
    let created = sandbox.create_with(&[]).ok();
    sandbox.start();
    created.wait_for_line("hostname MARK");
    assert_eq!(sandbox.state()["annotations"]["a"], "\u{fffd}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn keys_in_another_letter_case_count_with_a_warning_and_in_exec_too() {
    let sandbox = Sandbox::new();
    sandbox.script("status NoNewPrivs Seccomp ; say ready ; sleep 60");
    sandbox.patch(|config| {
        config["process"]["noNewPrivileges"] = true.into();
        config["linux"]["seccomp"] = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
        });
    });
    edit(&sandbox, "noNewPrivileges", "NonewPrivileges");
    edit(&sandbox, "\"seccomp\"", "\"SecComp\"");
    edit(&sandbox, "defaultAction", "DefaultAction");
    edit(&sandbox, "errnoRet", "errnoret");
    let created = sandbox.create_with(&[]).ok();
    if !is_peer() {
        assert!(
            created.stderr.contains("process.NonewPrivileges (config.json line"),
            "{}",
            created.stderr
        );
        assert!(
            created.stderr.contains("interpreted as \"noNewPrivileges\""),
            "{}",
            created.stderr
        );
    }
    sandbox.start();
    created.wait_for_line("ready");
    let facts = created.facts_now();
    assert_eq!((facts.get("NoNewPrivs"), facts.get("Seccomp")), ("1", "2"));
    // exec uses the config stored by create.
    let exec = sandbox.brig(&["exec", &sandbox.id, "/init", "status", "NoNewPrivs", "Seccomp"]);
    let facts = exec.ok().facts_now();
    assert_eq!((facts.get("NoNewPrivs"), facts.get("Seccomp")), ("1", "2"));
    let file = sandbox.dir.join("process.json");
    let args = serde_json::json!(["/init", "say", "file"]);
    fs::write(&file, format!("{{\"CWD\": \"/\", \"Args\": {args}, \"NoNewPrivileges\": true}}"))
        .unwrap();
    let exec = sandbox.brig(&["exec", "--process", file.to_str().unwrap(), &sandbox.id]).ok();
    assert!(exec.stdout.contains("file"), "{}", exec.stdout);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn data_keeps_its_letter_case() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["annotations"] = serde_json::json!({"Org.Example": "A", "org.example": "b"});
    });
    edit(&sandbox, "\"annotations\"", "\"Annotations\"");
    sandbox.script("sleep 60").create_with(&[]).ok();
    let annotations = &sandbox.state()["annotations"];
    assert_eq!(
        (annotations["Org.Example"].as_str(), annotations["org.example"].as_str()),
        (Some("A"), Some("b"))
    );
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn unknown_keys_are_named_at_debug_level_only() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["maskedPath"] = ["/proc/keys"].into());
    sandbox.script("say ran");
    let done = sandbox.run_with(&[]).ok();
    assert_eq!(done.stderr, "");
    let id = &sandbox.id;
    let done =
        sandbox.brig(&["--debug", "run", "--bundle", sandbox.bundle().to_str().unwrap(), id]).ok();
    assert!(done.stderr.contains("linux.maskedPath (config.json line"), "{}", done.stderr);
}

#[test]
fn unknown_keys_of_other_files_are_named_at_debug_level_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (id, file) = (&sandbox.id, sandbox.dir.join("file.json"));
    let path = file.to_str().unwrap();
    sandbox.script("sleep 60").create();
    sandbox.start();
    for (text, args, unknown) in [
        (
            r#"{"args": ["/init"], "cwd": "/", "usr": {}, "capabilities": {"allowed": []}}"#,
            &["exec", "--process", path, id][..],
            &["usr", "capabilities.allowed"][..],
        ),
        (r#"{"cwd": "/", "agrs": ["/init"]}"#, &["exec", "-p", path, id], &["agrs"]),
        (r#"{"memory": {"limt": 5}}"#, &["update", "-r", path, id], &["memory.limt"]),
        (
            r#"[{"destination": "/new", "type": "tmpfs", "flags": ["ro"]}]"#,
            &["mounts", "add", id, path],
            &["[0].flags"],
        ),
        (r#"{"mounts": [], "x": 1}"#, &["mounts", "remove", id, path], &["x"]),
    ] {
        fs::write(&file, text).unwrap();
        let quiet = sandbox.brig(args).stderr;
        assert!(!quiet.contains("unknown key"), "{quiet}");
        let said = sandbox.brig(&[&["--debug"], args].concat()).stderr;
        for key in unknown {
            let place = format!("{key} ({path} line 1, column ");
            let named =
                |line: &str| line.contains(&place) && line.ends_with("unknown key, ignored");
            assert!(said.lines().any(named), "{place}: {said}");
        }
    }
    sandbox.brig(&["delete", "--force", id]).ok();
}

#[test]
fn an_affinity_that_exec_cannot_set_is_named_with_its_place_in_the_file() {
    brig_only!();
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("process.json");
    let path = file.to_str().unwrap();
    sandbox.script("sleep 60").create();
    for name in ["initial", "final"] {
        let affinity = format!("{{\"{name}\": \"1023\"}}");
        let text = format!(r#"{{"args": ["/init"], "cwd": "/", "execCPUAffinity": {affinity}}}"#);
        fs::write(&file, text).unwrap();
        let place = format!("execCPUAffinity.{name} ({path} line 1, column ");
        let done = sandbox.brig(&["exec", "--process", path, &sandbox.id]);
        assert!(done.code != Some(0) && done.stderr.contains(&place), "{done:?}");
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn warnings_of_update_name_the_flag_or_the_place_in_the_file() {
    brig_only!();
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("file.json");
    let path = file.to_str().unwrap();
    sandbox.script("sleep 60").create();
    fs::write(&file, r#"{"memory": {"kernel": 5000000, "kernelTCP": 5}}"#).unwrap();
    let args = ["update", "-r", path, "--kernel-memory", "5m", &sandbox.id];
    let said = sandbox.brig(&args).ok().stderr;
    for place in [
        &format!("memory.kernel ({path} line 1, column 23)"),
        &format!("memory.kernelTCP ({path} line 1, column 45)"),
        "--kernel-memory",
    ] {
        let warning = format!("{place}: kernel memory limits are obsolete and ignored");
        assert!(said.contains(&warning), "{warning}: {said}");
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
}

#[test]
fn errors_name_the_file_of_the_config_flag() {
    brig_only!();
    let sandbox = Sandbox::new();
    let other = sandbox.dir.join("other.json");
    let run = |text: &str| {
        fs::write(&other, text).unwrap();
        sandbox.brig(&[
            "run",
            "--config",
            other.to_str().unwrap(),
            "--bundle",
            sandbox.bundle().to_str().unwrap(),
            &sandbox.id,
        ])
    };
    let name = format!("({} line 1, column", other.display());
    run("{\"ociVersion\": \"1.0.2\", \"process\": 5}").fails_with(&name);
    run("{").fails_with(&format!("{} line 1, column", other.display()));
    // A warning contains them, too.
    let mut config = sandbox.config();
    config["annotations"] = serde_json::json!({"run.oci.nobody-knows": "x"});
    config["linux"]["resources"] =
        serde_json::json!({"devices": [{"allow": false, "access": "rwm"}]});
    fs::write(&other, config.to_string()).unwrap();
    let bundle = sandbox.bundle();
    let args = ["--cgroup-manager=disabled", "create", "--config", other.to_str().unwrap(), "-b"];
    let said = sandbox.brig(&[&args[..], &[bundle.to_str().unwrap(), &sandbox.id]].concat()).ok();
    for place in ["annotations[\"run.oci.nobody-knows\"] ", "linux.resources.devices "] {
        let line = said.stderr.lines().find(|line| line.contains(place));
        assert!(line.is_some_and(|line| line.contains(&name)), "{place}: {}", said.stderr);
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    // Detected by the child, not by the parser.
    let mut config = sandbox.config();
    config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"destination": "/x", "type": "nosuchfs", "source": "none"}));
    run(&config.to_string()).fails_with(&name);
    sandbox.assert_nothing_left();
}

#[test]
fn null_is_no_value_in_every_document() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["user"] = serde_json::json!({"uid": null, "gid": null});
        config["process"]["args"] = serde_json::json!(["/init", "args", null]);
        config["annotations"] = serde_json::json!({"org.example": null});
        config["linux"]["maskedPaths"] = serde_json::Value::Null;
        config["process"]["rlimits"] = serde_json::json!([null]);
    });
    sandbox.create_with(&[]).fails();
    sandbox.patch(|config| config["process"]["rlimits"] = serde_json::Value::Null);
    sandbox.script("sleep 60");
    sandbox.patch(|config| config["process"]["args"].as_array_mut().unwrap().push(().into()));
    sandbox.create();
    assert_eq!(sandbox.state()["annotations"]["org.example"], "");
    sandbox.start();
    let file = sandbox.dir.join("process.json");
    let text = r#"{"args": ["/init", "sleep", "0"], "cwd": "/", "terminal": null,
        "user": {"uid": null, "additionalGids": [null]}, "env": null}"#;
    fs::write(&file, text).unwrap();
    sandbox.brig(&["exec", "--process", file.to_str().unwrap(), &sandbox.id]).ok();
    fs::write(&file, r#"{"pids": {"limit": null}, "cpu": null, "devices": null}"#).unwrap();
    sandbox.brig(&["update", "--resources", file.to_str().unwrap(), &sandbox.id]).ok();
    brig_only!();
    fs::write(&file, r#"{"args": ["/init"], "cwd": null}"#).unwrap();
    let done = sandbox.brig(&["exec", "--process", file.to_str().unwrap(), &sandbox.id]);
    assert!(done.stderr.contains("missing field \"cwd\""), "{done:?}");
}
