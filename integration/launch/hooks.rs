//! The six kinds of hooks: when they run, in which namespaces, with which input, and what happens to the
//! container if one fails.

use crate::sandbox::{Sandbox, brig_only};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// A hook that is a shell script.
pub fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})
}

/// A hook that appends its name to the log, and copies its stdin to a file of that name.
fn recorder(sandbox: &Sandbox, name: &str) -> Value {
    let dir = sandbox.dir.display();
    shell(&format!("cat > {dir}/{name}.json; echo {name} >> {dir}/log"))
}

pub fn set(sandbox: &Sandbox, kind: &str, hooks: &[Value]) {
    sandbox.patch(|config| config["hooks"][kind] = json!(hooks));
}

fn log(sandbox: &Sandbox) -> String {
    fs::read_to_string(sandbox.dir.join("log")).unwrap_or_default()
}

/// What a recorder has read from stdin.
fn told(sandbox: &Sandbox, name: &str) -> Value {
    let text = fs::read(sandbox.dir.join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn hooks_run_in_the_order_of_the_spec() {
    let sandbox = Sandbox::new();
    for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        set(
            &sandbox,
            kind,
            &[
                recorder(&sandbox, kind),
                shell(&format!("echo second >> {}/log", sandbox.dir.display())),
            ],
        );
    }
    sandbox.script("sleep 60").create();
    assert_eq!(log(&sandbox), "prestart\nsecond\ncreateRuntime\nsecond\ncreateContainer\nsecond\n");
    sandbox.start();
    assert!(log(&sandbox).ends_with("poststart\nsecond\n"), "{}", log(&sandbox));
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(log(&sandbox).ends_with("poststop\nsecond\n"), "{}", log(&sandbox));
}

#[test]
fn all_but_two_kinds_run_in_the_runtimes_namespaces() {
    let sandbox = Sandbox::new();
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let dir = sandbox.dir.display().to_string();
    for kind in kinds {
        let look = format!("for ns in /proc/self/ns/*; do readlink $ns; done > {dir}/{kind}.ns");
        set(&sandbox, kind, &[shell(&look)]);
    }
    sandbox.script("sleep 60").create();
    sandbox.start();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let own = fs::read_dir("/proc/thread-self/ns").unwrap().flatten();
    let own = own.map(|entry| fs::read_link(entry.path()).unwrap().display().to_string());
    let own: std::collections::BTreeSet<String> = own.collect();
    for kind in kinds {
        let seen = fs::read_to_string(sandbox.dir.join(format!("{kind}.ns"))).unwrap();
        assert_eq!(seen.lines().map(String::from).collect::<std::collections::BTreeSet<_>>(), own);
    }
}

#[test]
fn poststop_finds_nothing_of_the_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (dir, state) = (sandbox.dir.display(), sandbox.state_root());
    let path =
        format!("{0}/{1} /sys/fs/cgroup/{1} /sys/fs/cgroup/*/{1}", state.display(), sandbox.id);
    let look = format!("ls -d {path} > {dir}/left 2>/dev/null; true");
    set(
        &sandbox,
        "createRuntime",
        &[shell(&format!("ls -d {path} > {dir}/made 2>/dev/null; true"))],
    );
    set(&sandbox, "poststop", &[shell(&look)]);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id)));
    sandbox.script("true").create();
    sandbox.delete();
    let seen = |name: &str| fs::read_to_string(sandbox.dir.join(name)).unwrap();
    assert!(seen("made").lines().count() >= 2, "{}", seen("made"));
    assert_eq!(seen("left"), "");
}

#[test]
fn a_hook_is_told_the_state_of_its_moment() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"org.example": "yes"}));
    for kind in ["createRuntime", "createContainer", "poststart", "poststop"] {
        set(&sandbox, kind, &[recorder(&sandbox, kind)]);
    }
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    sandbox.start();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    for (kind, status, told_pid) in [
        ("createRuntime", "created", json!(pid)),
        ("createContainer", "created", json!(1)),
        ("poststart", "running", json!(pid)),
        ("poststop", "stopped", Value::Null),
    ] {
        let told = told(&sandbox, kind);
        // runc 1.1 passes "created", although the program runs.
        if !(kind == "poststart" && crate::sandbox::is_peer()) {
            assert_eq!(told["status"], status, "{kind}");
        }
        assert_eq!(told["id"], json!(sandbox.id), "{kind}");
        assert_eq!(told["bundle"], json!(sandbox.bundle()), "{kind}");
        assert_eq!(told["annotations"], json!({"org.example": "yes"}), "{kind}");
        assert!(told["ociVersion"].as_str().unwrap().starts_with("1."), "{kind}");
        // runc passes a pid of 0 to poststop.
        if !(kind == "poststop" && crate::sandbox::is_peer()) {
            assert_eq!(told["pid"], told_pid, "{kind}");
        }
    }
}

#[test]
fn create_runtime_finds_namespaces_cgroup_and_rootfs_as_they_will_be() {
    brig_only!();
    let sandbox = Sandbox::new();
    let dir = sandbox.dir.display().to_string();
    let look = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); for ns in net mnt; do readlink /proc/$pid/ns/$ns; done > {dir}/ns; cat /proc/$pid/cgroup > {dir}/cgroup; \
         nsenter -t $pid -m test -e {}/dev/null && echo mounted >> {dir}/log; readlink /proc/self/ns/mnt > {dir}/own",
        sandbox.rootfs().display()
    );
    set(&sandbox, "createRuntime", &[shell(&look)]);
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    let read = |name: &str| fs::read_to_string(sandbox.dir.join(name)).unwrap();
    let ns = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    assert_eq!(read("ns"), format!("{}\n{}\n", ns("net").display(), ns("mnt").display()));
    assert_eq!(read("cgroup"), fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
    assert_eq!(log(&sandbox), "mounted\n");
    let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    assert_eq!(read("own").trim(), own.display().to_string());
}

#[test]
fn create_container_runs_in_the_containers_namespaces_before_the_pivot() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir.display().to_string();
    set(
        &sandbox,
        "createContainer",
        &[shell(&format!(
            "for ns in mnt net uts; do readlink /proc/self/ns/$ns; done > {dir}/ns; hostname >> {dir}/ns"
        ))],
    );
    sandbox.patch(|config| config["hostname"] = json!("inside"));
    sandbox.script("sleep 60").create();
    let pid = sandbox.pid();
    let ns = |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    let expected = format!("{}\n{}\n{}\ninside\n", ns("mnt"), ns("net"), ns("uts"));
    assert_eq!(fs::read_to_string(sandbox.dir.join("ns")).unwrap(), expected);
}

#[test]
fn start_container_runs_in_the_container_after_start_with_the_processes_environment() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["env"].as_array_mut().unwrap().push(json!("FROM=process"));
        config["root"]["readonly"] = json!(false);
    });
    let hook = json!({"path": "/init", "args": ["init", "write", "/tmp/hook", "ran", ";", "exec", "/init", "env"]});
    set(
        &sandbox,
        "startContainer",
        &[json!({"path": "/init", "args": ["init", "write", "/tmp/hook", "ran"]}), hook],
    );
    sandbox.script("read /tmp/hook").create();
    assert!(!sandbox.rootfs().join("tmp/hook").exists());
    sandbox.start();
    sandbox.wait_for_status("stopped");
    assert_eq!(fs::read_to_string(sandbox.rootfs().join("tmp/hook")).unwrap(), "ran");
}

#[test]
fn a_hook_has_exactly_its_own_environment_and_arguments() {
    let sandbox = Sandbox::new();
    let dir = sandbox.dir.display().to_string();
    let hook = json!({
        "path": "/bin/sh", "env": ["ONLY=this", "PATH=/usr/bin:/bin"],
        "args": ["zero", "-c", format!("echo \"$0 $1\" > {dir}/args; tr '\\0' '\\n' < /proc/$$/environ > {dir}/env; pwd > {dir}/pwd"), "one", "two"],
    });
    set(&sandbox, "createRuntime", &[hook]);
    sandbox.script("true").create();
    assert_eq!(fs::read_to_string(sandbox.dir.join("args")).unwrap(), "one two\n");
    assert_eq!(
        fs::read_to_string(sandbox.dir.join("env")).unwrap(),
        "ONLY=this\nPATH=/usr/bin:/bin\n"
    );
}

#[test]
fn a_failed_hook_of_create_leaves_nothing_but_poststop() {
    brig_only!();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let sandbox = Sandbox::new();
        set(
            &sandbox,
            kind,
            &[
                shell("true"),
                shell("echo because of this >&2; exit 3"),
                recorder(&sandbox, "third"),
            ],
        );
        set(&sandbox, "poststop", &[recorder(&sandbox, "poststop")]);
        let done = sandbox.script("true").create_with(&[]);
        assert_eq!(done.code, Some(1));
        let line = format!("hooks.{kind}[1] (config.json line ");
        assert!(done.stderr.contains(&line), "{done:?}");
        for part in ["/bin/sh", "exit status 3", "because of this"] {
            assert!(done.stderr.contains(part), "{done:?}");
        }
        assert_eq!(log(&sandbox), "poststop\n", "{kind}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn poststop_hooks_run_after_any_failed_attempt_to_create() {
    for fails_by in ["a mount", "the program"] {
        let sandbox = Sandbox::new();
        set(&sandbox, "poststop", &[recorder(&sandbox, "poststop")]);
        sandbox.script("true").patch(|config| match fails_by {
            "a mount" => config["mounts"].as_array_mut().unwrap().push(json!(
                {"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}
            )),
            _ => config["process"]["args"] = json!(["/no/such"]),
        });
        sandbox.create_with(&[]).fails();
        assert_eq!(log(&sandbox), "poststop\n", "{fails_by}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_failed_start_container_or_poststart_hook_stops_and_deletes() {
    brig_only!();
    for (kind, hook) in [
        ("startContainer", json!({"path": "/init", "args": ["init", "exit", "4"]})),
        ("poststart", shell("exit 4")),
    ] {
        let sandbox = Sandbox::new();
        set(&sandbox, kind, &[hook]);
        set(&sandbox, "poststop", &[recorder(&sandbox, "poststop")]);
        sandbox.script("sleep 60").create();
        let done = sandbox.brig(&["start", &sandbox.id]);
        assert_eq!(done.code, Some(1), "{done:?}");
        let place = format!("hooks.{kind}[0] (config.json line ");
        assert!(done.stderr.contains(&place), "{done:?}");
        assert!(done.stderr.contains("exit status 4"), "{done:?}");
        assert_eq!(log(&sandbox), "poststop\n", "{kind}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_failed_poststop_hook_is_a_warning_and_the_others_run() {
    brig_only!();
    let sandbox = Sandbox::new();
    set(&sandbox, "poststop", &[shell("echo no >&2; exit 1"), recorder(&sandbox, "second")]);
    sandbox.script("true").create();
    let done = sandbox.delete();
    assert!(
        done.stderr.contains("warning: hooks.poststop[0] (config.json line ")
            && done.stderr.contains("no"),
        "{done:?}"
    );
    assert_eq!(log(&sandbox), "second\n");
    sandbox.assert_nothing_left();
}

#[test]
fn poststart_and_poststop_hooks_run_without_the_bundle_too() {
    for gone in ["before start", "before delete"] {
        let sandbox = Sandbox::new();
        for kind in ["poststart", "poststop"] {
            set(&sandbox, kind, &[recorder(&sandbox, kind)]);
        }
        sandbox.patch(|config| {
            config["annotations"] = json!({"run.oci.hooks.stdout": "hooks.out"});
        });
        sandbox.script("sleep 60").create();
        let elsewhere = sandbox.dir.join("elsewhere");
        let away = || fs::rename(sandbox.bundle(), &elsewhere).unwrap();
        if gone == "before start" {
            away();
        }
        sandbox.start();
        if gone == "before delete" {
            away();
        }
        let done = sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        assert_eq!(done.stderr, "", "{gone}");
        assert_eq!(log(&sandbox), "poststart\npoststop\n", "{gone}");
        fs::rename(&elsewhere, sandbox.bundle()).unwrap();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_hook_that_overstays_its_timeout_is_killed() {
    brig_only!();
    let sandbox = Sandbox::new();
    let mut hook = shell(&format!("echo $$ > {}/pid; exec sleep 100", sandbox.dir.display()));
    hook["timeout"] = json!(3);
    set(&sandbox, "createRuntime", &[hook]);
    let before = std::time::Instant::now();
    let done = sandbox.script("true").create_with(&[]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("hooks.createRuntime[0]") && done.stderr.contains("timeout of 3 s"),
        "{done:?}"
    );
    assert!(before.elapsed().as_secs() < 20);
    let pid = fs::read_to_string(sandbox.dir.join("pid")).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists());
    sandbox.assert_nothing_left();
}

#[test]
fn a_hook_need_not_read_its_stdin_and_may_say_a_lot() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"long": "x".repeat(300_000)}));
    set(
        &sandbox,
        "createRuntime",
        &[shell("exec <&-; head -c 3000000 /dev/zero | tr '\\0' x"), shell("exit 0")],
    );
    let done = sandbox.script("true").create();
    assert_eq!(done.stdout, "");
}

#[test]
fn a_daemon_that_a_hook_leaves_behind_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("pid");
    let hook = shell(&format!("sleep 60 & echo $! > {}", file.display()));
    set(&sandbox, "createRuntime", &[hook]);
    let before = std::time::Instant::now();
    sandbox.script("true");
    // runc waits for every process that holds the hook's output.
    brig_only!();
    sandbox.create();
    assert!(before.elapsed().as_secs() < 20);
    let daemon = Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap());
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// A shell that writes its environment and working directory to a file.
fn looker(file: &str, env: Option<Value>) -> Value {
    let script = format!("tr '\\0' '\\n' < /proc/$$/environ > {file}; pwd >> {file}");
    let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
    if let Some(env) = env {
        hook["env"] = env;
    }
    hook
}

/// The variables in the file of a [`looker`], without those that the shell adds, and its working directory.
fn looked(file: &std::path::Path) -> (Vec<String>, String) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let directory = lines.pop().unwrap();
    lines.sort();
    (lines, directory)
}

/// Runs the container with MARK=runtime in the runtime's environment.
fn live_and_die(sandbox: &Sandbox) {
    let bundle = sandbox.bundle();
    let marked = |args: &[&str]| {
        let mut command = sandbox.command(args);
        command.env("MARK", "runtime").env("BRIG_MARK", "own").env_remove("BRIG_TEST");
        sandbox.spawn(command).wait().ok();
    };
    marked(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    marked(&["start", &sandbox.id]);
    sandbox.wait_for_status("stopped");
    marked(&["delete", &sandbox.id]);
}

#[test]
fn hooks_in_the_runtimes_namespaces_without_env_have_the_runtimes_environment() {
    let sandbox = Sandbox::new();
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let file = |kind: &str, env: &str| sandbox.dir.join(format!("{kind}.{env}"));
    for kind in kinds {
        let looker = |name: &str, env| looker(file(kind, name).to_str().unwrap(), env);
        let own = looker("own", Some(json!(["A=b"])));
        set(&sandbox, kind, &[looker("none", None), looker("empty", Some(json!([]))), own]);
    }
    sandbox.script("true");
    live_and_die(&sandbox);
    for kind in kinds {
        let (none, directory) = looked(&file(kind, "none"));
        assert!(none.contains(&"MARK=runtime".into()), "{kind}: {none:?}");
        assert!(none.iter().any(|variable| variable.starts_with("PATH=")), "{kind}: {none:?}");
        if !crate::sandbox::is_peer() {
            assert!(!none.iter().any(|variable| variable.starts_with("BRIG_")), "{kind}: {none:?}");
        }
        assert_eq!(directory, sandbox.bundle().to_str().unwrap(), "{kind}");
        assert_eq!(looked(&file(kind, "empty")).0, [""; 0], "{kind}");
        assert_eq!(looked(&file(kind, "own")).0, ["A=b"], "{kind}");
    }
}

#[test]
fn create_container_hooks_without_env_have_nothing_of_the_runtimes_and_start_in_the_root() {
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("seen");
    set(&sandbox, "createContainer", &[looker(file.to_str().unwrap(), None)]);
    sandbox.script("true");
    live_and_die(&sandbox);
    let (variables, directory) = looked(&file);
    assert!(!variables.iter().any(|variable| variable.contains("MARK")), "{variables:?}");
    // runc 1.1 passes the process's environment, later versions an empty one.
    if !crate::sandbox::is_peer() {
        assert_eq!(variables, [""; 0]);
    }
    assert_eq!(directory, sandbox.rootfs().to_str().unwrap());
}

#[test]
fn start_container_hooks_without_env_or_with_an_empty_one_have_the_processes_environment_and_cwd() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/passwd", "root:x:0:0::/of/root:/bin/sh\n");
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["process"]["cwd"] = json!("/tmp");
        config["process"]["env"] = json!(["PATH=/bin", "FROM=process"]);
    });
    let hook = |file: &str, env: Option<Value>| {
        let script = ["init", "env", ";", "cwd"];
        let mut hook = json!({"path": "/init", "args": script});
        if let Some(env) = env {
            hook["env"] = env;
        }
        sandbox.patch(|config| {
            config["annotations"] = json!({"run.oci.hooks.stdout": sandbox.dir.join(file)});
            config["hooks"]["startContainer"] = json!([hook]);
        });
        sandbox.script("true");
        live_and_die(&sandbox);
        fs::read_to_string(sandbox.dir.join(file)).unwrap()
    };
    for (file, env) in [("none", None), ("empty", Some(json!([])))] {
        let seen = hook(file, env);
        assert!(seen.contains("env FROM=process\n"), "{file}: {seen}");
        assert!(seen.contains("env HOME=/of/root\n"), "{file}: {seen}");
        assert!(!seen.contains("MARK"), "{file}: {seen}");
        assert!(seen.contains("cwd /tmp\n"), "{file}: {seen}");
    }
    let seen = hook("own", Some(json!(["A=b"])));
    assert!(seen.contains("env A=b\n") && !seen.contains("FROM"), "{seen}");
}

#[test]
fn a_state_of_brig_0_1_still_reads_and_its_hooks_have_the_environment_they_had() {
    brig_only!();
    let sandbox = Sandbox::new();
    let file = sandbox.dir.join("seen");
    set(&sandbox, "poststop", &[looker(file.to_str().unwrap(), None)]);
    sandbox.script("true").create();
    let path = sandbox.state_root().join(&sandbox.id).join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(state["poststop"][0].get("env").is_none(), "{state}");
    // 0.1 wrote an empty list for an absent one.
    state["poststop"][0]["env"] = json!([]);
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    sandbox.delete();
    assert_eq!(looked(&file).0, [""; 0]);
}
