//! `brig seccomp explain` and `brig seccomp diff`.

use crate::sandbox::{Done, Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
            "syscalls": [
                { "names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::EXDEV },
                { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" },
                { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ESRCH,
                  "args": [{ "index": 1, "value": libc::SIGUSR1, "op": "SCMP_CMP_EQ" }] },
            ],
        });
    });
    sandbox
}

fn asked(sandbox: &Sandbox, calls: &[&str]) -> Done {
    let bundle = sandbox.bundle();
    sandbox.brig(&[&["seccomp", "explain", bundle.to_str().unwrap()], calls].concat())
}

/// The decisions about a call on the machine's own architecture.
fn decisions(sandbox: &Sandbox, call: &str) -> Vec<Value> {
    let answers: Value =
        serde_json::from_str(&asked(sandbox, &[call, "--format", "json"]).ok().stdout).unwrap();
    assert_eq!(answers[0]["call"], call);
    answers[0]["decisions"].as_array().unwrap().clone()
}

/// Compared with the kernel running the same filter.
#[test]
fn what_explain_says_is_what_the_container_gets() {
    brig_only!();
    let sandbox = sandbox();
    let usr1 = libc::SIGUSR1;
    let facts = sandbox.facts("mkdir /tmp/a ; rmdir /tmp/b ; kill 77777 USR1 ; kill 1 WINCH");
    // Newer architectures only have the calls with a directory argument.
    let (mkdir, rmdir) = match cfg!(target_arch = "x86_64") {
        true => ("mkdir", "rmdir"),
        false => ("mkdirat", "unlinkat"),
    };
    for (call, fact, errno) in [
        (mkdir, "mkdir /tmp/a", "EPERM"),
        (rmdir, "rmdir /tmp/b", "EXDEV"),
        (format!("kill(77777, {usr1})").as_str(), "kill 77777", "ESRCH"),
    ] {
        assert_eq!(facts.get(fact), errno, "{call}");
        let said = decisions(&sandbox, call);
        assert_eq!(said.len(), 1, "{call}: {said:?}");
        assert_eq!(said[0]["action"], format!("SCMP_ACT_ERRNO ({errno})"), "{call}");
        assert_eq!(said[0]["reason"], "rule", "{call}");
    }
    assert_eq!(facts.get("kill 1"), "ok");
    assert_eq!(
        decisions(&sandbox, &format!("kill(1, {})", libc::SIGWINCH))[0]["action"],
        "SCMP_ACT_ALLOW"
    );
}

#[test]
fn the_rule_is_named_with_its_line_and_its_conditions() {
    brig_only!();
    let sandbox = sandbox();
    let said = decisions(&sandbox, "kill");
    assert_eq!(said.len(), 2);
    assert_eq!(said[0]["conditions"], json!(["args[1] == 0xa"]));
    assert_eq!(said[0]["rule"], "linux.seccomp.syscalls[2]");
    let text = fs::read_to_string(sandbox.bundle().join("config.json")).unwrap();
    let names = text.lines().position(|line| line.contains("\"kill\"")).unwrap() + 1;
    let line = usize::try_from(said[0]["line"].as_u64().unwrap()).unwrap();
    assert!(line < names && names - line < 20, "{line} {names}");
    assert_eq!(
        (&said[1]["reason"], &said[1]["rule"]),
        (&json!("default"), &json!("linux.seccomp.defaultAction"))
    );
    let table = asked(&sandbox, &["kill", "mkdir"]).ok().stdout;
    assert!(table.starts_with("CALL"), "{table}");
    assert!(table.lines().any(|line| line.contains("otherwise")), "{table}");
    // Every architecture of the machine, also unlisted ones.
    if cfg!(target_arch = "x86_64") {
        let x32 = table.lines().find(|line| line.contains("x32")).unwrap();
        assert!(
            x32.contains("SCMP_ACT_KILL_THREAD") && x32.contains("not in architectures"),
            "{x32}"
        );
    }
    // Without a call: all calls, grouped by outcome.
    let all = asked(&sandbox, &[]).ok().stdout;
    let by_arguments = all.lines().find(|line| line.contains("by arguments")).unwrap();
    assert!(by_arguments.ends_with("kill"), "{by_arguments}");
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    brig_only!();
    let sandbox = sandbox();
    let fails = |done: Done, part: &str| {
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    };
    fails(asked(&sandbox, &["opneat"]), "did you mean openat?");
    fails(asked(&sandbox, &["read(x)"]), "\"x\" is not a number");
    sandbox.patch(|config| config["linux"]["seccomp"]["syscalls"][0]["names"] = json!([]));
    fails(asked(&sandbox, &[]), "linux.seccomp.syscalls[0].names (");
    sandbox.patch(|config| config["linux"]["seccomp"] = Value::Null);
    fails(asked(&sandbox, &[]), "has no linux.seccomp: no system call is refused");
    fails(sandbox.brig(&["seccomp", "diff", "/nonexistent", "/nonexistent"]), "/nonexistent");
    // Nothing was created.
    assert!(!sandbox.state_root().exists());
}

#[test]
fn diff_names_each_call_that_two_profiles_treat_differently() {
    brig_only!();
    let sandbox = sandbox();
    let bundle = sandbox.bundle();
    let own = sandbox.config()["linux"]["seccomp"].clone();
    let other = sandbox.dir.join("profile.json");
    let diff = |profile: &Value, more: &[&str]| {
        fs::write(&other, profile.to_string()).unwrap();
        let of = [bundle.to_str().unwrap(), other.to_str().unwrap()];
        sandbox.brig(&[&["seccomp", "diff"], &of[..], more].concat())
    };
    let same = diff(&own, &[]);
    assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{same:?}");
    // In another order, and with a rule in docker's format that takes effect only with a capability.
    let mut changed = own.clone();
    let rules = changed["syscalls"].as_array_mut().unwrap();
    rules.reverse();
    rules.push(json!({
        "names": ["mount"], "action": "SCMP_ACT_ERRNO", "excludes": { "caps": ["CAP_SYS_ADMIN"] },
    }));
    let refused = diff(&changed, &["--format", "json"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let found: Value = serde_json::from_str(&refused.stdout).unwrap();
    for one in found.as_array().unwrap() {
        assert_eq!(one["call"], "mount", "{found:#}");
        assert_eq!(one["b"][0]["action"], "SCMP_ACT_ERRNO (EPERM)");
        assert_eq!(one["b"][0]["rule"], "syscalls[3]");
    }
    assert_eq!(diff(&changed, &["--cap", "CAP_SYS_ADMIN"]).code, Some(0));
    assert_eq!(diff(&changed, &["--cap", "sys_admin"]).code, Some(0));
    let unknown = diff(&changed, &["--cap", "CAP_SYS_ADMN"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("CAP_SYS_ADMIN?"), "{unknown:?}");
}
