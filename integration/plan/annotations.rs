//! crun's annotations and runc's --rootless: the output of hooks, receivers of pidfds, delegated cgroups, and
//! containers without cgroups. Others are tested with what they change.

use crate::sandbox::{Sandbox, brig_only, is_peer};
use crate::{host, service};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A hook that writes its name to both streams.
fn speaker(kind: &str) -> Value {
    let script = format!("echo out-{kind}; echo err-{kind} >&2");
    json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
}

const HOST_HOOKS: [&str; 5] =
    ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

fn annotate(sandbox: &Sandbox, annotations: &Value) {
    sandbox.patch(|config| config["annotations"] = annotations.clone());
}

#[test]
fn output_of_hooks_is_appended_to_the_files_that_are_named() {
    brig_only!();
    let sandbox = Sandbox::new();
    let out = sandbox.dir.join("hooks.out");
    fs::write(&out, "before\n").unwrap();
    // Relative to the bundle, and does not exist yet.
    annotate(&sandbox, &json!({"run.oci.hooks.stdout": out, "run.oci.hooks.stderr": "hooks.err"}));
    for kind in HOST_HOOKS {
        sandbox.patch(|config| config["hooks"][kind] = speaker(kind));
    }
    sandbox.patch(|config| {
        let args = ["init", "say", "out-startContainer"];
        config["hooks"]["startContainer"] = json!([{"path": "/init", "args": args}]);
    });
    sandbox.script("fds ; say done ; sleep 60");
    let created = sandbox.create_with(&[]).ok();
    let held: Vec<PathBuf> =
        host::descriptors_of(sandbox.pid()).into_iter().map(|(_, path)| path).collect();
    assert!(held.contains(&out), "{held:?}");
    sandbox.start();
    created.wait_for_line("done");
    let held = host::descriptors_of(sandbox.pid());
    assert!(held.iter().all(|(fd, _)| *fd < 3), "the program inherits {held:?}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let said = |prefix: &str, kinds: &[&str]| -> String {
        kinds.iter().map(|kind| format!("{prefix}-{kind}\n")).collect()
    };
    let order = ["prestart", "createRuntime", "createContainer", "startContainer"];
    let order = [&order[..], &["poststart", "poststop"]].concat();
    let text = fs::read_to_string(&out).unwrap();
    assert_eq!(text, format!("before\n{}", said("out", &order)));
    let text = fs::read_to_string(sandbox.bundle().join("hooks.err")).unwrap();
    assert_eq!(text, said("err", &HOST_HOOKS));
}

#[test]
fn one_stream_in_a_file_leaves_the_other_in_the_error() {
    brig_only!();
    let sandbox = Sandbox::new();
    annotate(&sandbox, &json!({"run.oci.hooks.stdout": "hooks.out"}));
    let script = "echo in the file; echo in the error >&2; exit 3";
    sandbox.patch(|config| {
        config["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    let error = sandbox.create_with(&[]).fails_with("failed with exit status 3");
    assert!(error.contains("its output: in the error"), "{error}");
    assert!(error.contains("hooks.out") && !error.contains("in the file"), "{error}");
    let text = fs::read_to_string(sandbox.bundle().join("hooks.out")).unwrap();
    assert_eq!(text, "in the file\n");
    sandbox.assert_nothing_left();
}

#[test]
fn a_file_for_hooks_that_cannot_be_opened_fails_create_before_anything_is_made() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["hooks"]["createRuntime"] = speaker("never"));
    let fifo = sandbox.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, path) in [
        ("run.oci.hooks.stdout", "/no/such/file"),
        ("run.oci.hooks.stderr", "/"),
        // A fifo without a reader: does not block.
        ("run.oci.hooks.stdout", fifo.to_str().unwrap()),
    ] {
        annotate(&sandbox, &json!({name: path}));
        let error = sandbox.create_with(&[]).fails_with(&format!("annotations[\"{name}\"]"));
        assert!(error.contains("config.json line"), "{error}");
        sandbox.assert_nothing_left();
    }
    // Without hooks no file is opened.
    sandbox.patch(|config| config["hooks"] = json!({}));
    sandbox.create();
}

#[test]
fn a_pidfd_goes_to_its_receiver() {
    brig_only!();
    let sandbox = Sandbox::new();
    let listener = UnixListener::bind(sandbox.dir.join("a.sock")).unwrap();
    let path = sandbox.dir.join("a.sock");
    annotate(&sandbox, &json!({"run.oci.pidfd_receiver": path}));
    sandbox.script("sleep 60").create();
    let (_, pidfd) = service::receive(&listener);
    assert_eq!(service::process_of(&pidfd), sandbox.pid());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();

    // Both, if both are requested.
    let other = UnixListener::bind(sandbox.dir.join("b.sock")).unwrap();
    let flag = sandbox.dir.join("b.sock");
    sandbox.create_with(&["--pidfd-socket", flag.to_str().unwrap()]).ok();
    for listener in [&listener, &other] {
        assert_eq!(service::process_of(&service::receive(listener).1), sandbox.pid());
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();

    drop(listener);
    sandbox.create_with(&[]).fails_with("annotations[\"run.oci.pidfd_receiver\"]");
    sandbox.assert_nothing_left();
}

#[test]
fn what_is_followed_is_told_to_be_unsafe_and_warned_of_no_more() {
    brig_only!();
    let sandbox = Sandbox::new();
    let features: Value = serde_json::from_str(&sandbox.brig(&["features"]).ok().stdout).unwrap();
    let told: Vec<&str> = features["potentiallyUnsafeConfigAnnotations"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for name in [
        "run.oci.delegate-cgroup",
        "run.oci.hooks.stderr",
        "run.oci.hooks.stdout",
        "run.oci.keep_original_groups",
        "run.oci.mount_context_type",
        "run.oci.pidfd_receiver",
        "run.oci.seccomp.receiver",
        "run.oci.seccomp_bpf_data",
        "run.oci.seccomp_fail_unknown_syscall",
        "run.oci.systemd.subgroup",
        "run.oci.timens_offset",
        "org.systemd.property.",
    ] {
        assert!(told.contains(&name), "{name}: {told:?}");
    }
    annotate(
        &sandbox,
        &json!({"run.oci.hooks.stdout": "x", "run.oci.hooks.stderr": "x",
            "run.oci.systemd.subgroup": "x", "run.oci.seccomp_fail_unknown_syscall": "1",
            "run.oci.nosuch": "1"}),
    );
    let done = sandbox.run().ok();
    let warnings: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("run.oci.nosuch"), "{warnings:?}");
}

#[test]
fn a_container_for_a_handler_does_not_run_natively_but_a_pods_sandbox_does() {
    let sandbox = Sandbox::new();
    sandbox.script("say ran");
    for handler in ["krun", "wasm", "nosuch"] {
        annotate(&sandbox, &json!({"run.oci.handler": handler}));
        if !is_peer() {
            let message = sandbox.run().fails_with("annotations[\"run.oci.handler\"]");
            assert!(message.contains(handler), "{message}");
            sandbox.assert_nothing_left();
        }
        let of_pod =
            json!({"run.oci.handler": handler, "io.kubernetes.cri.container-type": "sandbox"});
        annotate(&sandbox, &of_pod);
        assert_eq!(sandbox.run().ok().stdout, "ran\n");
    }
}

#[test]
fn an_unknown_system_call_is_an_error_only_where_the_annotation_asks_for_it() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("say ran").patch(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}],
        });
    });
    for value in [None, Some("0")] {
        annotate(&sandbox, &json!({"run.oci.seccomp_fail_unknown_syscall": value.unwrap_or("0")}));
        if value.is_none() {
            annotate(&sandbox, &json!({}));
        }
        assert_eq!(sandbox.run().ok().stdout, "ran\n");
    }
    annotate(&sandbox, &json!({"run.oci.seccomp_fail_unknown_syscall": "1"}));
    sandbox.run().fails_with("no_such_call");
    sandbox.assert_nothing_left();
}

/// Runs brig with read-only cgroups.
fn where_cgroups_are_read_only(sandbox: &Sandbox, flag: &str) -> crate::sandbox::Done {
    let bundle = sandbox.bundle();
    let mut args = vec!["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    args.splice(0..0, Some(flag).filter(|flag| !flag.is_empty()));
    let mut command = sandbox.command(&args);
    let targets: Vec<PathBuf> = host::hierarchies().into_iter().map(|(_, path)| path).collect();
    crate::sandbox::before_exec(&mut command, move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, flags) =
            (None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY);
        Ok(targets.iter().try_for_each(|target| mount(none, target, none, flags, none))?)
    });
    sandbox.spawn(command).wait()
}

#[test]
fn root_goes_without_a_cgroup_only_where_rootless_says_so() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("say here");
    sandbox.patch(|config| config["linux"]["resources"] = json!({}));
    for flag in ["", "--rootless=auto", "--rootless=false", "--rootless="] {
        where_cgroups_are_read_only(&sandbox, flag).fails_with("Read-only file system");
        sandbox.assert_nothing_left();
    }
    for flag in ["--rootless=true", "--rootless=1", "--rootless=T"] {
        let done = where_cgroups_are_read_only(&sandbox, flag).ok();
        assert_eq!(done.stdout, "here\n", "{flag}");
    }
    // A limit must not be lost.
    sandbox.patch(|config| config["linux"]["resources"] = json!({"pids": {"limit": 9}}));
    where_cgroups_are_read_only(&sandbox, "--rootless=true").fails_with("linux.resources");
    sandbox.brig(&["--rootless=perhaps", "list"]).fails_with("--rootless");
    // If cgroups can be created they are, with all values of the flag.
    for flag in ["--rootless=true", "--rootless=false", "--rootless=auto"] {
        sandbox.script("sleep 60");
        let bundle = sandbox.bundle();
        let run = [flag, "run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        sandbox.brig(&run).ok();
        assert!(!host::cgroups_with(&sandbox.id).is_empty(), "{flag}");
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    }
}
