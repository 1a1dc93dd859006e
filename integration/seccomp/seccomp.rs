//! `linux.seccomp`: the filter applies to the container's process and what it executes, and does not obstruct
//! brig.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;

/// A profile with this default action and one rule.
fn profile(default: &str, names: &[&str], action: &str) -> Value {
    json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": names, "action": action}],
    })
}

fn sandbox(seccomp: &Value, no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["seccomp"] = seccomp.clone();
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        config["root"]["readonly"] = json!(false);
    });
    sandbox
}

const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

#[test]
fn a_denied_call_fails_with_and_without_new_privileges() {
    for no_new_privileges in [true, false] {
        let mut seccomp = profile("SCMP_ACT_ALLOW", &MKDIR, "SCMP_ACT_ERRNO");
        seccomp["syscalls"][0]["errnoRet"] = json!(libc::EXDEV);
        let sandbox = sandbox(&seccomp, no_new_privileges);
        let seen = sandbox.facts("mkdir /tmp/no ; status Seccomp NoNewPrivs ; write /tmp/yes x");
        assert_eq!(seen.get("mkdir /tmp/no"), "EXDEV");
        assert_eq!(seen.get("write /tmp/yes"), "ok");
        assert_eq!(seen.get("Seccomp"), "2");
        assert_eq!(seen.get("NoNewPrivs"), if no_new_privileges { "1" } else { "0" });
    }
}

#[test]
fn what_is_executed_in_the_container_is_filtered_too() {
    for no_new_privileges in [true, false] {
        let sandbox =
            sandbox(&profile("SCMP_ACT_ALLOW", &MKDIR, "SCMP_ACT_ERRNO"), no_new_privileges);
        sandbox.script("sleep 60").create();
        sandbox.start();
        let done = sandbox.brig(&["exec", &sandbox.id, "/init", "mkdir", "/tmp/no"]).ok();
        assert_eq!(Facts::parse(&done.stdout).get("mkdir /tmp/no"), "EPERM");
    }
}

#[test]
fn a_profile_that_denies_every_socket_call_is_not_in_brigs_way() {
    let calls = [
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "accept",
        "accept4",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "shutdown",
        "getsockopt",
        "setsockopt",
    ];
    for no_new_privileges in [true, false] {
        let sandbox =
            sandbox(&profile("SCMP_ACT_ALLOW", &calls, "SCMP_ACT_KILL_PROCESS"), no_new_privileges);
        sandbox.script("sleep 60").create();
        sandbox.start();
        sandbox.brig(&["exec", &sandbox.id, "/init", "true"]).ok();
    }
}

#[test]
fn what_brig_looks_at_before_the_program_need_not_be_allowed() {
    for no_new_privileges in [true, false] {
        let calls = ["getcwd", "close_range", "faccessat2", "openat2", "fsopen", "move_mount"];
        let seccomp = profile("SCMP_ACT_ALLOW", &calls, "SCMP_ACT_ERRNO");
        sandbox(&seccomp, no_new_privileges).script("true").run().ok();
    }
}

#[test]
fn start_container_hooks_run_under_the_filter() {
    for no_new_privileges in [false, true] {
        let filter = profile("SCMP_ACT_ALLOW", &["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
        let sandbox = sandbox(&filter, no_new_privileges);
        let told = sandbox.dir.join("told");
        sandbox.patch(|config| {
            config["root"]["readonly"] = json!(false);
            let script =
                "status Seccomp Seccomp_filters ; mkdir /tmp/made ; write /tmp/told yes".split(' ');
            let args: Vec<_> = std::iter::once("init").chain(script).collect();
            let hook = json!({"path": "/init", "args": args});
            config["hooks"] = json!({"startContainer": [hook, hook]});
            config["annotations"] = json!({"run.oci.hooks.stdout": told});
        });
        let facts = sandbox.facts("status Seccomp Seccomp_filters");
        let own = facts.get("Seccomp_filters").to_owned();
        assert_eq!(facts.get("Seccomp"), "2");
        assert!(sandbox.rootfs().join("tmp/told").exists(), "the hooks have run");
        assert!(!sandbox.rootfs().join("tmp/made").exists(), "{no_new_privileges}");
        if !crate::sandbox::is_peer() {
            let seen = fs::read_to_string(&told).unwrap();
            assert_eq!(seen.matches("Seccomp 2\n").count(), 2, "{seen}");
            assert_eq!(seen.matches(&format!("Seccomp_filters {own}\n")).count(), 2, "{seen}");
        }
    }
}

#[test]
fn a_call_can_be_fatal() {
    let sandbox = sandbox(&profile("SCMP_ACT_ALLOW", &MKDIR, "SCMP_ACT_KILL_PROCESS"), true);
    sandbox.script("mkdir /tmp/no");
    assert_eq!(sandbox.run().code, Some(128 + libc::SIGSYS));
}

#[test]
fn start_still_tells_of_a_failed_execve() {
    for no_new_privileges in [true, false] {
        let sandbox =
            sandbox(&profile("SCMP_ACT_ALLOW", &MKDIR, "SCMP_ACT_ERRNO"), no_new_privileges);
        sandbox.add_file("bin/text", "no program");
        let path = sandbox.rootfs().join("bin/text");
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        sandbox.args(&["/bin/text"]).create();
        sandbox.brig(&["start", &sandbox.id]).fails_with("exec format error");
    }
}

#[test]
fn an_unknown_name_is_a_warning() {
    brig_only!();
    let sandbox =
        sandbox(&profile("SCMP_ACT_ALLOW", &["frobnicate", "mkdir"], "SCMP_ACT_ERRNO"), true);
    let done = sandbox.script("true").run().ok();
    assert!(done.stderr.contains("warning") && done.stderr.contains("frobnicate"), "{done:?}");
}

/// crun's annotation, with a program that makes mkdir fail with EXDEV, and allows everything else.
#[test]
fn a_compiled_filter_in_an_annotation_counts_instead() {
    // ld [0]; jeq #mkdir (83) or #mkdirat (34), 0, 1; ret ERRNO(18); ret ALLOW
    let program = match cfg!(target_arch = "x86_64") {
        true => "IAAAAAAAAAAVAAABUwAAAAYAAAASAAUABgAAAAAA/38=",
        false => "IAAAAAAAAAAVAAABIgAAAAYAAAASAAUABgAAAAAA/38=",
    };
    for no_new_privileges in [true, false] {
        let sandbox =
            sandbox(&profile("SCMP_ACT_KILL", &["read"], "SCMP_ACT_KILL"), no_new_privileges);
        sandbox.patch(|config| {
            config["annotations"] = json!({"run.oci.seccomp_bpf_data": program});
        });
        sandbox.script("sleep 60").create();
        sandbox.start();
        let done = sandbox.brig(&["exec", &sandbox.id, "/init", "mkdir", "/tmp/no"]).ok();
        assert_eq!(Facts::parse(&done.stdout).get("mkdir /tmp/no"), "EXDEV");
    }
}

#[test]
fn a_compiled_filter_that_is_none_is_an_error_by_name() {
    brig_only!();
    // ldx without a return; st M[0], ld M[1], which was not written: only the kernel checks that.
    for (program, why) in [
        ("AQAAAAAAAAA=", "not valid in a filter"),
        ("AQAA", "has 3 bytes"),
        ("?", "base64"),
        ("YAAAAAEAAAAGAAAAAAD/fw==", "Invalid argument"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            config["annotations"] = json!({"run.oci.seccomp_bpf_data": program});
            config["process"]["noNewPrivileges"] = json!(false);
        });
        let text = sandbox.create_with(&[]).fails();
        let place = r#"annotations["run.oci.seccomp_bpf_data"]"#;
        assert!(text.contains(place) && text.contains(why), "{text}");
        sandbox.assert_nothing_left();
    }
}
