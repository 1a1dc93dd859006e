//! Flags in both forms, --version, ids, pid files, list, spec and features.

use crate::sandbox::{Sandbox, brig_only, runtime};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs;

#[test]
fn flags_take_their_value_with_and_without_an_equals_sign() {
    let sandbox = Sandbox::new();
    let (root, bundle) = (sandbox.state_root(), sandbox.bundle());
    let (root, bundle) = (root.to_str().unwrap(), bundle.to_str().unwrap());
    let pid = sandbox.dir.join("pid");
    let pid = pid.to_str().unwrap();
    let forms: [&[&str]; 4] = [
        &["--bundle", bundle, "--pid-file", pid],
        &[&format!("--bundle={bundle}"), &format!("--pid-file={pid}")],
        &["-b", bundle],
        &["--pid-file", pid, "-b", bundle, "--no-pivot", "--no-new-keyring"],
    ];
    for form in forms {
        sandbox.brig(&[&["create"], form, &[&sandbox.id]].concat()).ok();
        // The other form: without --root in front.
        let mut state = std::process::Command::new(runtime());
        state.arg(format!("--root={root}")).args(["state", &sandbox.id]);
        sandbox.spawn(state).wait().ok();
        sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
    }
}

#[test]
fn a_flag_given_twice_counts_as_it_was_given_last() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    sandbox.brig(&["run", "-b", "/no/such", "--bundle", bundle, &sandbox.id]).ok();
    sandbox.brig(&["run", "--keep=true", "-b", bundle, &sandbox.id]).ok();
    sandbox.brig(&["delete", "--force=false", &sandbox.id]).ok();
}

#[test]
fn help_is_a_command_too() {
    let sandbox = Sandbox::new();
    for args in [&["help"][..], &["h"], &["help", "state"]] {
        let done = sandbox.brig(args).ok();
        assert!(done.stdout.contains("state"), "{done:?}");
    }
}

#[test]
fn wrong_arguments_are_told_in_the_log_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    let log = sandbox.dir.join("usage.json");
    for args in [&["create"][..], &["frobnicate"], &["start", "--frobnicate", "x"]] {
        let _ = fs::remove_file(&log);
        let globals = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        let done = sandbox.brig(&[&globals[..], args].concat());
        // runc's exit code for an unknown command.
        let code = if args == ["frobnicate"] { 3 } else { 1 };
        assert_eq!(done.code, Some(code), "{done:?}");
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let entry: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(entry["level"], "error", "{entry}");
    }
}

#[test]
fn an_empty_host_name_leaves_the_name_alone() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["hostname"] = json!("");
        config["domainname"] = json!("");
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "uts");
    });
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let file = "/proc/sys/kernel/hostname";
    let mut command =
        sandbox.command(&["run", "-b", sandbox.bundle().to_str().unwrap(), &sandbox.id]);
    sandbox.args(&["/init", "read", file]);
    crate::sandbox::expendable_host(&mut command);
    let done = sandbox.spawn(command).wait().ok();
    let facts = crate::facts::Facts::parse(&done.stdout);
    assert_eq!(facts.get(&format!("read {file}")), format!("{name:?}"));
}

#[test]
fn cruns_flags_are_taken() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    fs::rename(bundle.join("config.json"), sandbox.dir.join("other.json")).unwrap();
    let config = sandbox.dir.join("other.json");
    let args =
        ["--cgroup-manager", "cgroupfs", "run", "--config", config.to_str().unwrap(), "--bundle"];
    sandbox.brig(&[&args[..], &[bundle.to_str().unwrap(), &sandbox.id]].concat()).ok();
    let args = ["--cgroup-manager=cgroupfs", "run", "-f", config.to_str().unwrap(), "-b"];
    sandbox.brig(&[&args[..], &[bundle.to_str().unwrap(), &sandbox.id]].concat()).ok();
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    for (args, name) in [
        (&["--cgroup-manager", "init", "create", "--bundle", bundle, &sandbox.id][..], "init"),
        (&["create", "--bundle", bundle, "--frobnicate", &sandbox.id], "frobnicate"),
        (&["--frobnicate", "create", "--bundle", bundle, &sandbox.id], "frobnicate"),
        (&["frobnicate"], "frobnicate"),
        (&["create", "--bundle", bundle], "ID"),
        (&["create", "--bundle", bundle, &sandbox.id, "another"], "another"),
        (&["exec", &sandbox.id, "/init"], "exec"),
    ] {
        let done = sandbox.brig(args);
        assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
        assert!(done.stderr.contains(name), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn wrong_arguments_show_the_commands_help_on_stdout_and_no_arguments_brigs() {
    let sandbox = Sandbox::new();
    for args in [&["state"][..], &["state", "--frobnicate", "x"], &["--frobnicate", "list"]] {
        let done = sandbox.brig(args);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stdout.starts_with("Incorrect Usage"), "{done:?}");
        assert!(done.stdout.to_lowercase().contains("usage:"), "{done:?}");
        assert!(!args.contains(&"state") || done.stdout.contains(" state "), "{done:?}");
    }
    let unknown = sandbox.brig(&["frobnicate"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(3), ""), "{unknown:?}");
    let nothing = sandbox.brig(&[]).ok();
    assert!(nothing.stdout.to_lowercase().contains("usage:") && nothing.stderr.is_empty());
}

#[test]
fn an_empty_list_is_null_in_json_as_with_runc() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.brig(&["list", "--format", "json"]).ok().stdout, "null\n");
}

#[test]
fn a_spec_is_written_to_the_file_that_crun_would_write_it_to() {
    brig_only!();
    let sandbox = Sandbox::new();
    let bundle = sandbox.dir.join("new");
    fs::create_dir(&bundle).unwrap();
    let is_config = |path: &std::path::Path| {
        let config: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert!(config["ociVersion"].is_string(), "{config}");
    };
    fs::write(sandbox.dir.join("one.json"), "x".repeat(100_000)).unwrap();
    for flag in ["-f", "--file"] {
        sandbox.brig(&["spec", flag, "one.json"]).ok();
        is_config(&sandbox.dir.join("one.json"));
    }
    sandbox.brig(&["spec", "--bundle", "new", "--file=two.json"]).ok();
    is_config(&bundle.join("two.json"));
    let absolute = sandbox.dir.join("three.json");
    sandbox.brig(&["spec", "--bundle", "new", "--file", absolute.to_str().unwrap()]).ok();
    is_config(&absolute);
    sandbox.brig(&["spec", "--file", "no/such/file"]).fails_with("no/such/file");
    // Without space, what exists is kept, and nothing new is left.
    let full = sandbox.dir.join("full");
    fs::create_dir(&full).unwrap();
    mount(Some("tmpfs"), &full, Some("tmpfs"), MsFlags::empty(), Some("size=4k")).unwrap();
    fs::write(full.join("kept"), [b'x'; 4096]).unwrap();
    for args in [&["--file", "kept"][..], &[]] {
        let said = sandbox.brig(&[&["spec", "--bundle", "full"], args].concat()).fails();
        assert!(said.contains("No space left on device"), "{said}");
    }
    let names = fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["kept"]);
    assert_eq!(fs::metadata(full.join("kept")).unwrap().len(), 4096);
    umount2(&full, MntFlags::MNT_DETACH).unwrap();
    assert!(!bundle.join("config.json").exists());
}

#[test]
fn a_failure_is_one_line_on_stderr() {
    brig_only!();
    let done = Sandbox::new().brig(&["state", "nobody"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert!(done.stderr.starts_with("brig: error: state nobody: "), "{done:?}");
}

#[test]
fn errors_name_the_option_the_state_and_the_container_that_are_wrong() {
    brig_only!();
    let sandbox = Sandbox::new();
    let said = sandbox.brig(&["--log-leve", "debug", "list"]).fails();
    assert!(said.contains("'--log-leve'"), "{said}");
    for command in [&["diff"][..], &["export"], &["commit", "image"], &["stats"], &["ps"]] {
        let mut args = command.to_vec();
        args.insert(1, "nobody");
        let said = sandbox.brig(&args).fails();
        assert!(said.contains("nobody") && said.contains("does not exist"), "{said}");
        assert!(said.starts_with("brig: error: "), "{said}");
    }
}

#[test]
fn bash_completes_the_containers_that_there_are() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    sandbox.create();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/completions/brig.bash");
    let (root, brig) = (sandbox.state_root(), runtime());
    let line = format!("{} --root {} state ", brig.display(), root.display());
    let ask = "source \"$1\"; COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDS=(''); COMP_CWORD=0; \
               _brig \"$3\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let args = ["--norc", "-c", ask, "bash", script, &line, brig.to_str().unwrap()];
    let said = std::process::Command::new("bash").args(args).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), sandbox.id, "{said:?}");
}

#[test]
fn the_version_has_lines_that_engines_read() {
    brig_only!();
    let sandbox = Sandbox::new();
    for flag in ["--version", "-v"] {
        let text = sandbox.brig(&[flag]).ok().stdout;
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("brig version "), "{text}");
        assert!(lines[1].starts_with("commit: "), "{text}");
        assert_eq!(lines[2], "spec: 1.3.0");
        assert!(["libc: glibc", "libc: musl"].contains(&lines[3]), "{text}");
    }
}

#[test]
fn help_names_every_command() {
    let text = Sandbox::new().brig(&["--help"]).ok().stdout;
    for command in ["create", "start", "run", "state", "kill", "delete", "list", "spec", "features"]
    {
        assert!(text.contains(command), "{command}: {text}");
    }
}

#[test]
fn an_id_is_of_letters_digits_and_a_few_signs() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    let absolute = sandbox.dir.join("absolute");
    let bad = [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a b",
        "a\u{e4}",
        "a:b",
        "a*",
        "a\n",
        absolute.to_str().unwrap(),
    ];
    for bad in bad {
        let done = sandbox.brig(&["create", "--bundle", bundle, "--", bad]);
        assert_eq!(done.code, Some(1), "{bad:?}: {done:?}");
    }
    assert!(!absolute.exists());
    assert!(sandbox.leftovers().is_empty());
    let own = &sandbox.id;
    for good in [
        format!("{own}_+-."),
        format!(".{own}"),
        format!("{own}..{own}"),
        format!("{own}{}", "x".repeat(200)),
    ] {
        sandbox.brig(&["create", "--bundle", bundle, &good]).ok();
        sandbox.brig(&["delete", &good]).ok();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn the_pid_file_has_the_pid_when_create_returns() {
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("pid");
    fs::write(&file, "an older one, and longer").unwrap();
    sandbox.create_with(&["--pid-file", file.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), sandbox.pid().to_string());
    let beside: Vec<_> =
        fs::read_dir(&sandbox.dir).unwrap().flatten().map(|entry| entry.file_name()).collect();
    let temporary =
        |name: &&std::ffi::OsString| name.to_string_lossy().contains("pid") && *name != "pid";
    assert!(!beside.iter().any(|name| temporary(&name)), "{beside:?}");
}

#[test]
fn a_pid_file_that_cannot_be_written_fails_create_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("no/such/pid");
    sandbox.create_with(&["--pid-file", file.to_str().unwrap()]).fails();
    sandbox.assert_nothing_left();
}

#[test]
fn list_shows_every_container_in_three_forms() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    let bundle = sandbox.bundle();
    let other = format!("{}-other", sandbox.id);
    sandbox.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &other]).ok();
    let quiet = sandbox.brig(&["list", "-q"]).ok().stdout;
    assert_eq!(quiet.lines().collect::<Vec<_>>(), [sandbox.id.as_str(), &other]);
    assert_eq!(sandbox.brig(&["list", "--quiet"]).ok().stdout, quiet);
    for format in
        [&["list", "--format", "json"][..], &["list", "--format=json"], &["list", "-f", "json"]]
    {
        let list: Value = serde_json::from_str(&sandbox.brig(format).ok().stdout).unwrap();
        assert_eq!(list[0]["id"], json!(sandbox.id));
        assert_eq!(list[0]["status"], "created");
        assert_eq!(list[1]["status"], "running");
        assert_eq!(list[1]["bundle"], json!(bundle));
        assert!(list[1]["pid"].as_i64().unwrap() > 1);
    }
    let table = sandbox.brig(&["list"]).ok().stdout;
    let words: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(
        (row[0], row[2], row[3], row[5]),
        (sandbox.id.as_str(), "created", bundle.to_str().unwrap(), "root")
    );
    assert_eq!(row[1], sandbox.pid().to_string());
}

#[test]
fn list_of_nothing_is_empty_also_without_a_root() {
    let sandbox = Sandbox::new();
    let list = || {
        serde_json::from_str::<Value>(&sandbox.brig(&["list", "--format", "json"]).ok().stdout)
            .unwrap()
    };
    // runc prints null.
    assert!(matches!(list(), Value::Null) || list() == json!([]));
    assert_eq!(sandbox.brig(&["list", "-q"]).ok().stdout, "");
    assert_eq!(sandbox.brig(&["list"]).ok().stdout.lines().count(), 1);
    assert!(!sandbox.state_root().exists() || crate::sandbox::is_peer());
}

#[test]
fn list_is_not_hindered_by_a_half_made_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.create();
    fs::create_dir(sandbox.state_root().join("half")).unwrap();
    fs::write(sandbox.state_root().join("file"), "no directory").unwrap();
    let done = sandbox.brig(&["list", "-q"]).ok();
    assert!(done.stdout.lines().any(|line| line == sandbox.id), "{done:?}");
    fs::remove_file(sandbox.state_root().join("file")).unwrap();
}

#[test]
fn spec_writes_a_config_that_runs() {
    let sandbox = Sandbox::new();
    let bundle = sandbox.bundle();
    fs::remove_file(bundle.join("config.json")).unwrap();
    sandbox.brig(&["spec", "--bundle", bundle.to_str().unwrap()]).ok();
    let config = sandbox.config();
    assert!(config["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(config["root"]["path"], "rootfs");
    if crate::sandbox::is_peer() {
        sandbox.patch(|config| config["process"]["terminal"] = json!(false));
    }
    let facts = sandbox.facts("ids ; mounts ; status CapEff NoNewPrivs");
    assert_eq!(facts.get("uid"), "0 0 0");
    assert_eq!(facts.get("NoNewPrivs"), "1");
}

#[test]
fn spec_overwrites_nothing() {
    let sandbox = Sandbox::new();
    let before = sandbox.config();
    let bundle = sandbox.bundle();
    sandbox.brig(&["spec", "--bundle", bundle.to_str().unwrap()]).fails_with("config.json");
    assert_eq!(sandbox.config(), before);
}

#[test]
fn features_tell_what_is_true() {
    brig_only!();
    let features: Value =
        serde_json::from_str(&Sandbox::new().brig(&["features"]).ok().stdout).unwrap();
    assert!(features["ociVersionMin"].as_str().unwrap().starts_with("1."));
    assert_eq!(features["ociVersionMax"], "1.3.0");
    let has = |path: &str, value: &str| {
        features
            .pointer(path)
            .and_then(Value::as_array)
            .is_some_and(|list| list.contains(&json!(value)))
    };
    for namespace in ["pid", "network", "ipc", "uts", "mount", "cgroup"] {
        assert!(has("/linux/namespaces", namespace), "{features:#}");
    }
    for option in ["ro", "nosuid", "rbind", "rslave", "relatime"] {
        assert!(has("/mountOptions", option), "{features:#}");
    }
    assert!(has("/linux/capabilities", "CAP_CHOWN"), "{features:#}");
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
    let unsafe_ones = features["potentiallyUnsafeConfigAnnotations"].as_array().unwrap();
    let own: Vec<&str> = unsafe_ones
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| name.starts_with("run.brig."))
        .collect();
    // Listed one by one: a prefix would also forbid annotations that only restrict a container.
    let expected =
        ["defaults", "image", "overlay.idmap", "overlay.layers", "overlay.upper", "overlay.work"];
    assert_eq!(own, expected.map(|name| format!("run.brig.{name}")), "{features:#}");
}
