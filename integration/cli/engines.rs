//! Command lines as engines send them, and what they read in the output: recorded from podman, conmon,
//! buildah, containerd, docker and CRI-O. `make test-engines` runs the engines themselves.

use crate::facts::Facts;
use crate::sandbox::{Done, Running, Sandbox, brig_only, on_host};
use crate::update::update_by_stdin;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A container with its bundle's path and an id in the style of an engine.
struct Engine {
    sandbox: Sandbox,
    bundle: String,
}

impl Engine {
    fn new(script: &str) -> Engine {
        let sandbox = Sandbox::new();
        sandbox.script(script);
        let bundle = sandbox.bundle().to_str().unwrap().to_owned();
        Engine { sandbox, bundle }
    }

    /// Runs a recorded line; `BUNDLE` and `ID` are replaced.
    fn call(&self, line: &str) -> Done {
        let line = line.replace("BUNDLE", &self.bundle).replace("ID", &self.sandbox.id);
        self.sandbox.brig(&line.split_whitespace().collect::<Vec<_>>())
    }

    fn process_file(&self, script: &str) {
        let args: Vec<&str> = std::iter::once("/init").chain(script.split_whitespace()).collect();
        let process = json!({"args": args, "cwd": "/", "user": {"uid": 0, "gid": 0},
            "env": [format!("BRIG_TEST={}", self.sandbox.id)]});
        fs::write(format!("{}/process.json", self.bundle), process.to_string()).unwrap();
    }

    /// The one JSON object of a log.
    fn logged(&self, log: &str) -> Value {
        let text = fs::read_to_string(format!("{}/{log}", self.bundle)).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }
}

#[test]
fn conmon_of_podman() {
    let engine = Engine::new("sleep 60");
    let log = "--log-format=json --log BUNDLE/oci-log";
    engine
        .call(&format!(
            "{log} create --bundle BUNDLE --pid-file BUNDLE/pidfile --no-pivot \
             --no-new-keyring --preserve-fds 0 ID"
        ))
        .ok();
    let pid: i64 =
        fs::read_to_string(format!("{}/pidfile", engine.bundle)).unwrap().parse().unwrap();
    assert_eq!(pid, engine.sandbox.pid());
    engine.call("start ID").ok();
    engine.process_file("sleep 60");
    let exec = "exec --pid-file BUNDLE/exec_pid --process BUNDLE/process.json --detach";
    engine.call(&format!("{log} {exec} ID")).ok();
    let text = fs::read_to_string(format!("{}/exec_pid", engine.bundle)).unwrap();
    assert!(fs::exists(format!("/proc/{}", text.parse::<u32>().unwrap())).unwrap());
    assert_eq!(fs::read_to_string(format!("{}/oci-log", engine.bundle)).unwrap_or_default(), "");
    engine.call("kill ID 9").ok();
    engine.sandbox.wait_for_status("stopped");
    engine.call("delete --force ID").ok();
    engine.sandbox.assert_nothing_left();
}

#[test]
fn buildah() {
    let engine = Engine::new("say built");
    engine.call("create --bundle BUNDLE --pid-file BUNDLE/pid ID").ok();
    engine.call("start ID").ok();
    let stopped = || {
        let state: Value = serde_json::from_str(&engine.call("state ID").ok().stdout).unwrap();
        let status = state["status"].as_str().unwrap().to_owned();
        assert!(["created", "running", "stopped"].contains(&status.as_str()), "{state}");
        status == "stopped"
    };
    assert!(crate::host::wait_until(std::time::Duration::from_secs(10), stopped));
    engine.call("delete ID").ok();
}

#[test]
fn the_shim_of_containerd() {
    let engine = Engine::new("sigloop 1");
    let log = "--log BUNDLE/log.json --log-format json";
    let create = format!("{log} create --bundle BUNDLE --pid-file BUNDLE/init.pid ID");
    let created = engine.call(&create).ok();
    engine.call(&format!("{log} start ID")).ok();
    created.wait_for_line("ready");
    engine.process_file("sleep 60");
    let exec = "exec --process BUNDLE/process.json --detach --pid-file BUNDLE/exec.pid";
    engine.call(&format!("{log} {exec} ID")).ok();
    let pids: Vec<i64> =
        serde_json::from_str(&engine.call(&format!("{log} ps --format json ID")).ok().stdout)
            .unwrap();
    assert!(pids.contains(&engine.sandbox.pid()) && pids.len() == 2, "{pids:?}");
    for resources in [&["--resources", "-"][..], &["--resources=-"]] {
        update_by_stdin(&engine.sandbox, resources, r#"{"pids": {"limit": 77}}"#).ok();
    }
    engine.call(&format!("{log} pause ID")).ok();
    assert_eq!(engine.sandbox.status(), "paused");
    engine.call(&format!("{log} resume ID")).ok();
    engine.call(&format!("{log} kill ID 15")).ok();
    engine.sandbox.wait_for_status("stopped");
    // Sent to all remaining processes, even if there are none.
    engine.call(&format!("{log} kill --all ID 9")).ok();
    engine.call(&format!("{log} delete ID")).ok();
    engine.call(&format!("{log} delete --force ID")).ok();
    assert_eq!(fs::read_to_string(format!("{}/log.json", engine.bundle)).unwrap_or_default(), "");
}

#[test]
fn cri_o() {
    let engine = Engine::new("sigloop 1");
    let done =
        engine.sandbox.brig(&["create", "--bundle", &engine.bundle, &engine.sandbox.id]).ok();
    engine.call("start ID").ok();
    done.wait_for_line("ready");
    let state: Value = serde_json::from_str(&engine.call("state ID").ok().stdout).unwrap();
    for key in ["ociVersion", "id", "status", "pid", "bundle", "created", "rootfs"] {
        assert!(!state[key].is_null(), "{key}: {state}");
    }
    engine.process_file("say synced ; exit 9");
    let exec = engine.call("exec --process BUNDLE/process.json ID");
    assert_eq!((exec.code, exec.stdout.as_str()), (Some(9), "synced\n"));
    engine.call("kill ID 15").ok();
    engine.sandbox.wait_for_status("stopped");
    engine.call("kill -a ID 9").ok();
    engine.call("delete --force ID").ok();

    let engine = Engine::new("sleep 60");
    engine.call("create --bundle=BUNDLE --pid-file=BUNDLE/pid ID").ok();
    engine.call("start ID").ok();
    engine.call("kill ID KILL").ok();
    engine.sandbox.wait_for_status("stopped");
}

/// The user and network namespaces of a pod, held by a process like an engine does.
fn pod_namespaces(holder: &Sandbox) -> Running {
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--net", "--"]);
    let sleeper = on_host(&["say", "ready", ";", "sleep", "60"]);
    unshare.arg(sleeper.get_program()).args(sleeper.get_args());
    let running = holder.spawn(unshare);
    running.wait_for_line("ready");
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", running.child.id()), "0 300000 1000").unwrap();
    }
    running
}

fn pod_maps() -> Value {
    json!([{"containerID": 0, "hostID": 300_000, "size": 1000}])
}

/// A container of the pod: it joins these namespaces of processes, or creates them (pid 0).
fn of_pod(script: &str, namespaces: &[(&str, i64)]) -> Engine {
    let engine = Engine::new(script);
    engine.sandbox.patch(|config| {
        let mut all = vec![json!({"type": "mount"}), json!({"type": "pid"})];
        for (name, pid) in namespaces {
            let file = if *name == "network" { "net" } else { name };
            all.push(match pid {
                0 => json!({"type": name}),
                pid => json!({"type": name, "path": format!("/proc/{pid}/ns/{file}")}),
            });
        }
        config["linux"]["namespaces"] = json!(all);
        config["linux"]["uidMappings"] = pod_maps();
        config["linux"]["gidMappings"] = pod_maps();
    });
    engine
}

#[test]
fn the_containers_of_a_pod_join_a_user_namespace_that_the_engine_made() {
    brig_only!();
    let holder = Sandbox::new();
    let mut pod = pod_namespaces(&holder);
    let made = i64::from(pod.child.id());
    let namespaces = [("user", made), ("network", made), ("ipc", 0), ("uts", 0)];
    let pause = of_pod("say paused ; sleep 60", &namespaces);
    pause.sandbox.run_with(&["--detach"]).ok().wait_for_line("paused");

    let volume = holder.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), "of the node's root").unwrap();
    let init = pause.sandbox.pid();
    let member = of_pod(
        "stat /volume/file ; write /volume/new text ; link /proc/self/ns/user ; \
         link /proc/self/ns/net ; link /proc/self/ns/ipc ; say told ; sleep 60",
        &["user", "network", "ipc", "uts"].map(|name| (name, init)),
    );
    fs::create_dir(member.sandbox.rootfs().join("volume")).unwrap();
    member.sandbox.patch(|config| {
        config.as_object_mut().unwrap().remove("hostname");
        let entry = json!({"destination": "/volume", "type": "bind", "source": volume,
            "options": ["rbind", "rprivate", "rw"],
            "uidMappings": pod_maps(), "gidMappings": pod_maps()});
        config["mounts"].as_array_mut().unwrap().push(entry);
    });
    let told = member.sandbox.run_with(&["--detach"]).ok();
    told.wait_for_line("told");
    let facts = told.facts_now();
    for (name, holder) in [("user", made), ("net", made), ("ipc", init)] {
        let theirs = fs::read_link(format!("/proc/{holder}/ns/{name}")).unwrap();
        assert_eq!(facts.get(&format!("link /proc/self/ns/{name}")), theirs.to_str().unwrap());
    }
    assert_eq!(facts.number("stat /volume/file", 2), 0, "{facts}");
    assert_eq!(fs::metadata(volume.join("new")).unwrap().uid(), 0);
    member.process_file("read /proc/self/uid_map");
    let exec = member.call("exec --process BUNDLE/process.json ID").ok();
    assert!(exec.stdout.contains("300000"), "{}", exec.stdout);
    for engine in [member, pause] {
        engine.call("kill ID 9").ok();
        engine.sandbox.wait_for_status("stopped");
        engine.call("delete ID").ok();
        engine.sandbox.assert_nothing_left();
    }
    pod.child.kill().unwrap();
    pod.child.wait().unwrap();
}

/// Command lines of podman, and of CRI-O through its conmon: each value also after an equals sign.
#[test]
fn podman_without_conmon_and_cri_o_with_it() {
    let engine = Engine::new("sigloop 3");
    let created = engine
        .call(
            "--log-format=json --log=BUNDLE/oci-log --cgroup-manager=cgroupfs create \
             --bundle=BUNDLE --pid-file=BUNDLE/pid --no-pivot --preserve-fds=0 ID",
        )
        .ok();
    engine.call("start ID").ok();
    created.wait_for_line("ready");
    for (number, name) in [(10, "SIGUSR1"), (12, "SIGUSR2")] {
        engine.call(&format!("kill ID {number}")).ok();
        created.wait_for_line(&format!("signal {name}"));
    }
    let limits = r#"{"cpu": {"shares": 512}, "memory": {}, "pids": {"limit": 66}, "blockIO": {}}"#;
    fs::write(format!("{}/limits", engine.bundle), limits).unwrap();
    engine.call("update --resources=BUNDLE/limits ID").ok();
    engine.process_file("say synced ; exit 7");
    let exec = "exec --pid-file=BUNDLE/exec_pid --process=BUNDLE/process.json ID";
    let done = engine.call(&format!("--log-format=json --log=BUNDLE/exec-log {exec}"));
    assert_eq!((done.code, done.stdout.as_str()), (Some(7), "synced\n"));
    engine.call(&exec.replace("exec ", "exec --detach ")).ok();
    engine.call("kill --all ID 9").ok();
    engine.sandbox.wait_for_status("stopped");
    engine.call("kill --all ID 9").ok();
    engine.call("kill -a ID KILL").ok();
    engine.call("delete --force ID").ok();
    engine.sandbox.assert_nothing_left();
}

#[test]
fn all_of_a_container_in_the_hosts_pid_namespace_end_by_kill_all() {
    let engine = Engine::new("sleep 60");
    engine.sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    engine.call("run --detach --bundle BUNDLE ID").ok();
    engine.process_file("sleep 60");
    engine.call("exec --process BUNDLE/process.json --detach --pid-file BUNDLE/p ID").ok();
    engine.call("kill --all ID 9").ok();
    let id = engine.sandbox.id.clone();
    let gone = || crate::host::processes_of(&id).is_empty();
    assert!(crate::host::wait_until(std::time::Duration::from_secs(10), gone));
    engine.call("delete --force ID").ok();
}

#[test]
fn what_engines_decide_by_in_features_and_version() {
    brig_only!();
    let engine = Engine::new("true");
    let features: Value = serde_json::from_str(&engine.call("features").ok().stdout).unwrap();
    let has = |list: &Value, word: &str| list.as_array().unwrap().contains(&json!(word));
    assert!(
        has(&features["mountOptions"], "rro"),
        "docker, containerd: recursive read-only mounts"
    );
    assert!(has(&features["linux"]["namespaces"], "user"), "containerd, CRI-O: user namespaces");
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    let version = engine.call("--version").ok().stdout;
    assert!(version.lines().next().unwrap().contains(" version "), "{version}");
    assert!(version.lines().any(|line| line.starts_with("commit: ")), "{version}");
}

/// The error determines the message and exit code of an engine.
#[test]
fn errors_have_the_words_that_engines_look_for() {
    let failing = |args: &[&str], words: &[&str]| {
        let engine = Engine::new("true");
        engine.sandbox.add_file("bin/text", "no program");
        engine.sandbox.args(args);
        let log = "--log BUNDLE/log.json --log-format json";
        let done = engine.call(&format!("{log} create --bundle BUNDLE ID"));
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
        let logged = engine.logged("log.json");
        assert_eq!(logged["level"], "error", "{logged}");
        let message = logged["msg"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert!(!message.contains("level="), "{message}");
        engine.sandbox.assert_nothing_left();
    };
    // Exit codes: 127, 127, 126, 126.
    let prefix = "unable to start container process: exec: ";
    failing(&["nosuch"], &[prefix, r#""nosuch": executable file not found in $PATH"#]);
    failing(&["/no/such"], &[prefix, r#""/no/such": stat /no/such: no such file or directory"#]);
    failing(&["/bin/text"], &[prefix, r#""/bin/text": permission denied"#]);
    failing(&["/etc"], &[prefix, r#""/etc": is a directory: permission denied"#]);

    let engine = Engine::new("true");
    for line in ["kill ID 9", "delete ID", "state ID", "start ID", "pause ID", "ps ID"] {
        engine.call(line).fails_with("does not exist");
    }
    engine.call("run --detach --bundle BUNDLE ID").ok();
    engine.sandbox.wait_for_status("stopped");
    engine.call("kill ID 15").fails_with("container not running");
    let exec = engine.call("exec ID /init true");
    assert!(exec.stderr.contains("cannot exec in a stopped"), "{exec:?}");
}

#[test]
fn an_exec_that_fails_has_the_words_too() {
    let engine = Engine::new("sleep 60");
    engine.sandbox.add_file("bin/text", "no program");
    engine.call("run --detach --bundle BUNDLE ID").ok();
    let prefix = "unable to start container process: exec: ";
    for (program, words) in [
        ("nosuch", r#""nosuch": executable file not found in $PATH"#),
        ("/no/such", r#""/no/such": stat /no/such: no such file or directory"#),
        ("/bin/text", r#""/bin/text": permission denied"#),
    ] {
        let done = engine
            .call(&format!("--log BUNDLE/exec.json --log-format json exec --detach ID {program}"));
        assert!(done.code.is_some_and(|code| code != 0), "{done:?}");
        let message = engine.logged("exec.json")["msg"].as_str().unwrap().to_owned();
        assert!(message.contains(prefix) && message.contains(words), "{message}");
        fs::remove_file(format!("{}/exec.json", engine.bundle)).unwrap();
    }
}

#[test]
fn what_is_on_stdin_of_exec_reaches_it_and_nothing_of_brigs_shows() {
    let engine = Engine::new("sleep 60");
    engine.call("run --detach --bundle BUNDLE ID").ok();
    let done = engine.call("exec ID /init pid");
    assert_eq!(done.stderr, "");
    assert_ne!(Facts::parse(&done.ok().stdout).word("pid", 0), "1");
}

#[test]
fn a_shared_volume_in_a_shared_root_stays_of_one_peer_group_with_the_hosts() {
    let sandbox = Sandbox::new();
    let volume = sandbox.dir.join("volume");
    fs::create_dir(&volume).unwrap();
    let none = None::<&str>;
    mount(Some("volume"), &volume, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &volume, none, MsFlags::MS_SHARED, none).unwrap();
    sandbox.patch(|config| {
        config["linux"]["rootfsPropagation"] = json!("rshared");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/volume", "source": volume,
            "options": ["rbind", "rshared"]}));
    });
    let facts = sandbox.facts("mounts");
    let inside = facts.mount("/volume").propagation.join(" ");
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let line = text.lines().find(|line| line.contains(volume.to_str().unwrap())).unwrap();
    nix::mount::umount(&volume).unwrap();
    assert!(inside.starts_with("shared:"), "{inside:?}");
    assert!(line.contains(&format!(" {inside} - ")), "{inside:?} is not in {line}");
}

#[test]
fn cruns_annotations_that_brig_does_not_know_are_warned_of_by_name() {
    brig_only!();
    let engine = Engine::new("true");
    engine.sandbox.patch(|config| {
        config["annotations"] = json!({"run.oci.nosuch": "x", "org.example": "x"});
    });
    let done = engine.call("run --bundle BUNDLE ID").ok();
    assert!(
        done.stderr.contains(
            r#"annotations["run.oci.nosuch"] (config.json line 4, column 23): unknown to brig, has no effect"#
        ),
        "{done:?}"
    );
    assert!(!done.stderr.contains("org.example"), "{done:?}");
    let done = engine.call("--log-level=error run --bundle BUNDLE ID").ok();
    assert_eq!(done.stderr, "");
}

#[test]
fn groups_of_the_caller_are_kept_where_the_annotation_asks_for_it() {
    brig_only!();
    for (annotations, groups) in [
        (json!({}), ""),
        (json!({"run.oci.keep_original_groups": "1"}), "77"),
        (json!({"run.oci.keep_original_groups": "0"}), ""),
    ] {
        let engine = Engine::new("ids");
        engine.sandbox.patch(|config| config["annotations"] = annotations);
        let mut command =
            engine.sandbox.command(&["run", "--bundle", &engine.bundle, &engine.sandbox.id]);
        let group = nix::unistd::Gid::from_raw(77);
        crate::sandbox::before_exec(&mut command, move || Ok(nix::unistd::setgroups(&[group])?));
        let facts = Facts::parse(&engine.sandbox.spawn(command).wait().ok().stdout);
        assert_eq!(facts.get("groups"), groups, "{facts}");
    }
}

#[test]
fn a_log_goes_where_crun_sends_it() {
    brig_only!();
    let engine = Engine::new("true");
    engine
        .call("--log file:BUNDLE/log.json --log-format json state ID")
        .fails_with("does not exist");
    assert!(engine.logged("log.json")["msg"].as_str().unwrap().contains("does not exist"));
    let unheard = engine.call("--log journald:x state ID").fails();
    if !fs::exists("/run/systemd/journal/socket").unwrap() {
        assert!(unheard.contains("/run/systemd/journal/socket"), "{unheard}");
    }
    engine.call("--log syslog:x --log-level debug state ID").fails();
    assert!(!engine.sandbox.dir.join("syslog:x").exists());
}
