//! What engines rely on, according to their latest sources: the error messages that podman, docker and CRI-O
//! match on, what `features` prints besides its JSON, and the program names under which they call a runtime.
//! docs/engines.md.

use crate::sandbox::{Done, Sandbox, brig_only, copy_program, runtime};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// podman's OCI errors, matched case-insensitively in the log or stderr.
fn podmans_exit_code(message: &str) -> i32 {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["permission denied", "operation not permitted"]) {
        126
    } else if has(&["executable file not found in", "no such file or directory", "open executable"])
    {
        127
    } else {
        125
    }
}

/// moby 29's, matched in lower case.
fn mobys_exit_code(message: &str) -> i32 {
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["executable file not found", "no such file or directory", "not a directory"]) {
        127
    } else if has(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

/// The message in the JSON log, and stderr: podman and docker read either.
fn both(sandbox: &Sandbox, args: &[&str]) -> [String; 2] {
    let log = sandbox.dir.join("engine.log");
    let global = ["--log-format", "json", "--log", log.to_str().unwrap()];
    let done = sandbox.brig(&[&global, args].concat());
    assert_ne!(done.code, Some(0), "{done:?}");
    let text = fs::read_to_string(&log).unwrap();
    fs::remove_file(log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    [last["msg"].as_str().unwrap().to_owned(), done.stderr]
}

#[test]
fn podman_and_docker_tell_126_from_127_by_what_create_and_exec_say() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/plain", "no program");
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    crate::run::make_executable(&sandbox, "bin/broken");
    let bundle = sandbox.bundle();
    let create = ["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let cases = [
        ("nosuch", 127, 127),
        ("/no/such", 127, 127),
        ("/etc/plain", 126, 126),
        ("/etc", 126, 126),
        // podman does not match anything in it.
        ("/etc/plain/x", 125, 127),
    ];
    for (program, podmans, mobys) in cases {
        sandbox.args(&[program]);
        for message in both(&sandbox, &create) {
            assert_eq!(podmans_exit_code(&message), podmans, "{program}: {message}");
            assert_eq!(mobys_exit_code(&message), mobys, "{program}: {message}");
        }
    }
    sandbox.script("sleep 60").create();
    sandbox.start();
    // Only exec's own error can concern an interpreter: create has ended before that.
    for (program, podmans, mobys) in cases.into_iter().chain([("/bin/broken", 127, 127)]) {
        for message in both(&sandbox, &["exec", &sandbox.id, program]) {
            assert_eq!(podmans_exit_code(&message), podmans, "{program}: {message}");
            assert_eq!(mobys_exit_code(&message), mobys, "{program}: {message}");
        }
    }
}

#[test]
fn docker_knows_a_directory_mounted_onto_a_file_by_its_words() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    sandbox.patch(|config| {
        let mount = json!({"destination": "/etc/passwd", "type": "bind", "source": "/usr",
            "options": ["rbind"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let message = sandbox.create_with(&[]).fails();
    assert!(message.to_lowercase().contains("not a directory"), "{message}");
    sandbox.assert_nothing_left();
}

/// CRI-O: "no such process", "container not running", "invalid process"; containerd's shim: "does not exist",
/// "process already finished", "container not running".
#[test]
fn cri_o_and_containerd_know_by_words_that_there_is_nothing_to_kill_any_more() {
    let sandbox = Sandbox::new();
    sandbox.script("true").run_with(&["--detach"]).ok();
    sandbox.wait_for_status("stopped");
    for signal in ["15", "KILL", "SIGTERM"] {
        sandbox.brig(&["kill", &sandbox.id, signal]).fails_with("container not running");
    }
    for args in [&["kill", "nobody", "9"][..], &["delete", "nobody"], &["state", "nobody"]] {
        sandbox.brig(args).fails_with("does not exist");
    }
}

/// CRI-O parses stdout and stderr together as one JSON text.
#[test]
fn features_prints_nothing_but_its_json() {
    brig_only!();
    let sandbox = Sandbox::new();
    for args in [&["features"][..], &["--debug", "features"]] {
        let done = sandbox.brig(args).ok();
        assert_eq!(done.stderr, "");
        let features: Value = serde_json::from_str(&done.stdout).unwrap();
        // Fields that containerd's CRI plugin and dockerd 29 read.
        let options = features["mountOptions"].as_array().unwrap();
        assert!(options.contains(&json!("rro")), "{features}");
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
        assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("user")));
    }
}

/// The runtime under another name, as a link or a copy.
fn called(sandbox: &Sandbox, name: &str, copy: bool) -> PathBuf {
    let path = sandbox.dir.join(format!("bin-{copy}")).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match copy {
        true => copy_program(&runtime(), &path),
        false => std::os::unix::fs::symlink(runtime(), &path).unwrap(),
    }
    path
}

fn call(sandbox: &Sandbox, program: &PathBuf, args: &[&str]) -> Done {
    let own = sandbox.command(&[]);
    let mut command = Command::new(program);
    command.args(own.get_args()).args(args).current_dir(&sandbox.dir).env_clear();
    command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    sandbox.spawn(command).wait()
}

/// podman passes on `--cgroups=disabled` and reads JSON errors if the runtime's name is crun; BuildKit runs
/// `runc` from PATH.
#[test]
fn installed_as_crun_or_runc_it_does_what_engines_expect_of_these_names() {
    brig_only!();
    for (name, copy) in [("crun", false), ("crun", true), ("runc", false), ("runc", true)] {
        let sandbox = Sandbox::new();
        let program = called(&sandbox, name, copy);
        let bundle = sandbox.bundle();
        let bundle = bundle.to_str().unwrap();
        sandbox.patch(|config| {
            drop(config["linux"].as_object_mut().unwrap().remove("resources"));
        });
        sandbox.script("say ran");
        let disabled = ["--cgroup-manager", "disabled", "run", "--bundle", bundle, &sandbox.id];
        let done = call(&sandbox, &program, &disabled).ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ran\n", ""), "{name}");

        // As run by BuildKit: in the foreground, with its log in the bundle.
        let log = sandbox.dir.join("log.json");
        let logged = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        let run = [&logged[..], &["run", "--bundle", bundle, "--keep", &sandbox.id]].concat();
        assert_eq!(call(&sandbox, &program, &run).ok().stdout, "ran\n", "{name}");
        call(&sandbox, &program, &["delete", &sandbox.id]).ok();

        sandbox.args(&["nosuch"]);
        let create = [&logged[..], &["create", "--bundle", bundle, &sandbox.id]].concat();
        let done = call(&sandbox, &program, &create);
        assert_eq!(done.code, Some(1), "{done:?}");
        let error: Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
        assert_eq!(error["level"], "error");
        let message = error["msg"].as_str().unwrap();
        assert!(message.contains("executable file not found in $PATH"), "{message}");
        sandbox.assert_nothing_left();
    }
}
