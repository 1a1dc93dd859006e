//! The annotation `run.brig.landlock`: the domain applies to everything that runs in the container, and
//! follows the annotation, for the container's own files.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::{Value, json};
use std::fs;

/// The version of the kernel's Landlock ABI; 0: not supported.
pub fn abi() -> i64 {
    // SAFETY: with the flag VERSION (1) the call takes no pointer, and a size of 0.
    unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1_u32)
    }
    .max(0)
}

macro_rules! landlock_only {
    ($abi:expr) => {
        brig_only!();
        if abi() < $abi {
            return skip(&format!("needs Landlock's ABI {}, this kernel has {}", $abi, abi()));
        }
    };
}

pub fn annotate(sandbox: &Sandbox, rules: &Value) {
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["annotations"]["run.brig.landlock"] = json!(rules.to_string());
    });
}

/// Nothing may be created or written except below /tmp/ok.
fn sandbox(no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.rootfs().join("tmp/ok")).unwrap();
    let rights = json!(["write_file", "make_reg", "make_dir"]);
    let rules = json!({
        "handledAccessFs": rights,
        "pathBeneath": [{ "paths": ["/tmp/ok"], "allowedAccess": rights }],
    });
    annotate(&sandbox, &rules);
    sandbox.patch(|config| config["process"]["noNewPrivileges"] = json!(no_new_privileges));
    sandbox
}

const SCRIPT: &str =
    "write /tmp/ok/file x ; mkdir /tmp/ok/dir ; write /tmp/file x ; mkdir /tmp/dir";

fn is_confined(seen: &Facts) {
    for (act, expected) in [
        ("write /tmp/ok/file", "ok"),
        ("mkdir /tmp/ok/dir", "ok"),
        ("write /tmp/file", "EACCES"),
        ("mkdir /tmp/dir", "EACCES"),
    ] {
        assert_eq!(seen.get(act), expected, "{act}");
    }
}

#[test]
fn init_gives_up_what_no_rule_allows() {
    landlock_only!(1);
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(no_new_privileges);
        let seen = sandbox.facts(&format!("{SCRIPT} ; status NoNewPrivs"));
        is_confined(&seen);
        assert_eq!(seen.get("NoNewPrivs"), if no_new_privileges { "1" } else { "0" });
        assert!(!sandbox.rootfs().join("tmp/file").exists());
    }
}

#[test]
fn a_process_of_exec_gives_up_the_same() {
    landlock_only!(1);
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(no_new_privileges);
        sandbox.script("sleep 60").create();
        sandbox.start();
        let words: Vec<&str> = SCRIPT.split(' ').collect();
        let args = [&["exec", sandbox.id.as_str(), "/init"], &words[..]].concat();
        is_confined(&Facts::parse(&sandbox.brig(&args).ok().stdout));
        // Also with a file that contains the whole process.
        let mut process = sandbox.config()["process"].clone();
        process["args"] = json!(["/init", "write", "/tmp/file", "x"]);
        let file = sandbox.dir.join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        let done = sandbox.brig(&["exec", "--process", file.to_str().unwrap(), &sandbox.id]).ok();
        assert_eq!(Facts::parse(&done.stdout).get("write /tmp/file"), "EACCES");
    }
}

#[test]
fn start_container_hooks_give_up_the_same_and_earlier_ones_nothing() {
    landlock_only!(1);
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(no_new_privileges);
        sandbox.patch(|config| {
            let hook = |path: &str| json!({"path": "/init", "args": ["init", "write", path, "x"]});
            config["hooks"]["startContainer"] = json!([hook("/tmp/ok/hook"), hook("/tmp/hook")]);
            let rootfs = sandbox.rootfs();
            let script = format!("echo x > {}/tmp/before", rootfs.display());
            let args = ["sh", "-c", &script];
            config["hooks"]["createContainer"] = json!([{"path": "/bin/sh", "args": args}]);
        });
        sandbox.script("true").run().ok();
        let exists = |name: &str| sandbox.rootfs().join("tmp").join(name).exists();
        assert!(exists("ok/hook") && exists("before"));
        assert!(!exists("hook"), "no_new_privs: {no_new_privileges}");
    }
}

/// With an agent and without privileges, the filter is installed at other times.
#[test]
fn it_goes_together_with_a_seccomp_filter_that_forbids_landlock() {
    landlock_only!(1);
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(no_new_privileges);
        sandbox.patch(|config| {
            let calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": calls, "action": "SCMP_ACT_KILL_PROCESS" }],
            });
        });
        is_confined(&sandbox.facts(SCRIPT));
    }
}

#[test]
fn a_container_of_another_user_is_confined_too() {
    landlock_only!(1);
    let sandbox = sandbox(true);
    std::os::unix::fs::chown(sandbox.rootfs().join("tmp/ok"), Some(1000), Some(1000)).unwrap();
    std::os::unix::fs::chown(sandbox.rootfs().join("tmp"), Some(1000), Some(1000)).unwrap();
    sandbox.patch(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    is_confined(&sandbox.facts(SCRIPT));
}

#[test]
fn paths_are_the_containers_whatever_links_say() {
    landlock_only!(1);
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    // The same path inside the container: the target of the link there.
    let inside = sandbox.rootfs().join(outside.strip_prefix("/").unwrap());
    fs::create_dir_all(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.rootfs().join("link")).unwrap();
    let rules = |path: &str| {
        json!({
            "handledAccessFs": ["make_reg"],
            "pathBeneath": [{ "paths": [path], "allowedAccess": ["make_reg"] }],
        })
    };
    annotate(&sandbox, &rules("/link"));
    let seen = sandbox.facts("write /link/file x ; write /tmp/file x");
    assert_eq!((seen.get("write /link/file"), seen.get("write /tmp/file")), ("ok", "EACCES"));
    assert!(inside.join("file").exists());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // A path that exists only on the host does not exist.
    annotate(&sandbox, &rules(sandbox.bundle().to_str().unwrap()));
    let error = sandbox.run().fails_with("annotations[\"run.brig.landlock\"] (config.json line ");
    assert!(error.contains("pathBeneath[0].paths[0]: "), "{error}");
    assert!(error.contains("No such file or directory"), "{error}");
    sandbox.assert_nothing_left();
}

#[test]
fn ports_that_no_rule_allows_cannot_be_bound() {
    landlock_only!(4);
    let sandbox = Sandbox::new();
    let rules = json!({
        "handledAccessNet": ["bind_tcp"],
        "netPort": [{ "ports": [8080], "allowedAccess": ["bind_tcp"] }],
    });
    annotate(&sandbox, &rules);
    let seen = sandbox.facts("bind 8080 ; bind 8081");
    assert_eq!((seen.get("bind 8080"), seen.get("bind 8081")), ("ok", "EACCES"));
}

#[test]
fn signals_do_not_leave_the_domain_if_they_are_scoped() {
    landlock_only!(6);
    let sandbox = Sandbox::new();
    annotate(&sandbox, &json!({ "scoped": ["signal"] }));
    sandbox.script("sleep 60").create();
    sandbox.start();
    // A process of exec has its own domain, separate from init's.
    let done = sandbox.brig(&["exec", &sandbox.id, "/init", "kill", "1", "WINCH"]).ok();
    assert_eq!(Facts::parse(&done.stdout).get("kill 1"), "EPERM");
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
}

#[test]
fn mistakes_are_errors_before_anything_is_made() {
    landlock_only!(1);
    let sandbox = Sandbox::new();
    let cases = [
        (json!({}), "restricts nothing"),
        (
            json!({"handledAcessFs": 1}),
            "handledAcessFs: unknown key: did you mean handledAccessFs?",
        ),
        (
            json!({"handledAccessFs": ["readfile"]}),
            "handledAccessFs[0]: unknown right \"readfile\": did you mean read_file?",
        ),
        (json!({"handledAccessFs": 1u64 << 40}), "are rights that brig does not know"),
        (
            json!({"handledAccessFs": 1, "pathBeneath": [{"paths": ["/"], "allowedAccess": 2}]}),
            "pathBeneath[0].allowedAccess: write_file is not refused",
        ),
    ];
    for (rules, said) in cases {
        annotate(&sandbox, &rules);
        let place = "annotations[\"run.brig.landlock\"] (config.json line ";
        let error = sandbox.create_with(&[]).fails_with(place);
        assert!(error.contains(said), "{said}: {error}");
        assert!(!sandbox.state_root().exists());
    }
    // Only directories can have these rights; the kernel would return EINVAL.
    let rules = json!({"handledAccessFs": ["make_reg"], "pathBeneath": [{"paths": ["/init"], "allowedAccess": ["make_reg"]}]});
    annotate(&sandbox, &rules);
    sandbox.create_with(&[]).fails_with("/init is not a directory");
    sandbox.assert_nothing_left();
}

#[test]
fn a_container_in_a_domain_is_not_checkpointed() {
    landlock_only!(1);
    let sandbox = sandbox(true);
    sandbox.script("sleep 60").create();
    sandbox.start();
    let images = sandbox.dir.join("images");
    let args = ["checkpoint", "--image-path", images.to_str().unwrap(), &sandbox.id];
    sandbox.brig(&args).fails_with("Landlock domains");
    assert_eq!(sandbox.status(), "running");
    assert!(!images.exists());
}
