//! Sentences of runtime-spec that no other module tests, and `features`: everything it lists is passed to
//! brig, which must support it. docs/conformance.md lists all sentences.

use crate::cgroups::seeing;
use crate::freeze::View;
use crate::host;
use crate::sandbox::{Sandbox, brig_only, is_peer};
use serde_json::{Value, json};
use std::fs;

fn features() -> Value {
    serde_json::from_str(&Sandbox::new().brig(&["features"]).ok().stdout).unwrap()
}

fn list(features: &Value, path: &str) -> Vec<String> {
    let list = features.pointer(path).and_then(Value::as_array);
    let list = list.unwrap_or_else(|| panic!("{path} in {features:#}"));
    list.iter().map(|value| value.as_str().unwrap().to_string()).collect()
}

/// Runs the test process with a changed configuration.
fn runs(what: &str, change: impl FnOnce(&mut Value)) -> String {
    let sandbox = Sandbox::new();
    sandbox.script("say done").patch(change);
    let done = sandbox.run();
    assert_eq!(done.code, Some(0), "{what}: {done:#?}");
    assert!(done.stdout.contains("done"), "{what}: {done:#?}");
    done.stderr
}

#[test]
fn every_version_between_the_features_first_and_last_is_taken() {
    brig_only!();
    let features = features();
    for version in [&features["ociVersionMin"], &features["ociVersionMax"], &json!("1.0.2-dev")] {
        runs("ociVersion", |config| config["ociVersion"] = version.clone());
    }
}

#[test]
fn every_namespace_of_the_features_can_be_new() {
    brig_only!();
    let types = list(&features(), "/linux/namespaces");
    assert_eq!(types, ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"] = types.iter().map(|name| json!({"type": name})).collect();
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
    let facts = sandbox.facts("ns");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(facts.get(&format!("ns {name}")), own.to_str().unwrap(), "{facts}");
    }
}

#[test]
fn every_hook_of_the_features_is_run() {
    brig_only!();
    for name in list(&features(), "/hooks") {
        let sandbox = Sandbox::new();
        let file = sandbox.dir.join("hook");
        let told = if name == "startContainer" { "/told".into() } else { file.clone() };
        let path = if name == "startContainer" { "/init" } else { "/bin/sh" };
        let args = match path {
            "/init" => json!(["init", "write", told, name]),
            _ => json!(["sh", "-c", format!("echo {name} >{}", told.display())]),
        };
        sandbox.patch(|config| {
            config["root"]["readonly"] = json!(false);
            config["hooks"] = json!({ name.clone(): [{"path": path, "args": args}] });
        });
        sandbox.script("true").run().ok();
        let inside = sandbox.rootfs().join("told");
        assert!(file.exists() || inside.exists(), "{name} was not run");
    }
}

#[test]
fn every_mount_option_of_the_features_is_known() {
    brig_only!();
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    for option in list(&features(), "/mountOptions") {
        let name = option.as_str();
        // Which of the two filesystems supports it depends on the option.
        const OF_BINDS: [&str; 7] =
            ["bind", "rbind", "idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow"];
        let bind = OF_BINDS.contains(&name) || name.starts_with('r');
        let mut mount = match name {
            "remount" => json!({"destination": "/tmp", "options": ["remount", "bind", "nosuid"]}),
            "mand" | "nomand" | "ro" | "rw" | "relatime" => {
                json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [name]})
            }
            _ if bind => {
                json!({"destination": "/tmp", "source": "rootfs/etc", "options": ["rbind", name]})
            }
            _ => {
                json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [name]})
            }
        };
        if ["idmap", "ridmap"].contains(&name) {
            mount["uidMappings"] = maps.clone();
            mount["gidMappings"] = maps.clone();
        }
        runs(name, |config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            if name == "remount" {
                let tmp = json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"});
                mounts.push(tmp);
            }
            mounts.push(mount);
        });
    }
}

#[test]
fn every_capability_of_the_features_is_known() {
    brig_only!();
    let all = list(&features(), "/linux/capabilities");
    let stderr = runs("capabilities", |config| {
        config["process"]["capabilities"] =
            json!({"bounding": all, "permitted": all, "effective": all});
    });
    assert!(!stderr.contains("unknown"), "{stderr}");
}

#[test]
fn a_capability_that_cannot_be_granted_is_a_warning() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("status CapBnd").patch(|config| {
        let caps = json!(["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
        config["process"]["capabilities"] = json!({"bounding": caps});
    });
    let program = "exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \"$@\"";
    let mut command = std::process::Command::new("sh");
    let own = sandbox.command(&["run", &sandbox.id]);
    command.args(["-c", program, "sh"]).arg(own.get_program()).args(own.get_args());
    command.current_dir(sandbox.bundle());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("CAP_SYS_RESOURCE"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("0000000000000001"), "{output:?}");
}

fn seccomp(filter: Value) -> impl FnOnce(&mut Value) {
    move |config| config["linux"]["seccomp"] = filter
}

#[test]
fn everything_of_seccomp_in_the_features_is_known() {
    brig_only!();
    let features = features();
    let under = |name: &str| list(&features, &format!("/linux/seccomp/{name}"));
    for action in under("actions").into_iter().filter(|action| action != "SCMP_ACT_NOTIFY") {
        let rule = json!({"names": ["acct"], "action": action});
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        runs(&action, seccomp(filter));
    }
    for op in under("operators") {
        let arg = json!({"index": 0, "value": 7, "valueTwo": 7, "op": op});
        let rule = json!({"names": ["acct"], "action": "SCMP_ACT_ERRNO", "args": [arg]});
        runs(&op, seccomp(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})));
    }
    for arch in under("archs") {
        let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch]});
        runs(&arch, seccomp(filter));
    }
    assert_eq!(under("knownFlags"), under("supportedFlags"));
    // The kernel supports this one only together with a listener.
    let alone = |flag: &String| flag != "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
    for flag in under("supportedFlags").into_iter().filter(alone) {
        let rule = json!({"names": ["acct"], "action": "SCMP_ACT_ERRNO"});
        let filter =
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [rule]});
        runs(&flag, seccomp(filter));
    }
}

#[test]
fn every_memory_policy_of_the_features_is_known() {
    brig_only!();
    let features = features();
    for mode in list(&features, "/linux/memoryPolicy/modes") {
        let nodes = !["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str());
        let policy =
            if nodes { json!({"mode": mode, "nodes": "0"}) } else { json!({"mode": mode}) };
        runs(&mode, |config| config["linux"]["memoryPolicy"] = policy);
    }
    for flag in list(&features, "/linux/memoryPolicy/flags") {
        let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]});
        runs(&flag, |config| config["linux"]["memoryPolicy"] = policy);
    }
}

#[test]
fn features_are_the_same_whoever_asks_and_wherever() {
    brig_only!();
    let sandbox = Sandbox::new();
    let here = sandbox.brig(&["features"]).ok().stdout;
    let mut elsewhere = std::process::Command::new("setpriv");
    elsewhere.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let own = sandbox.command(&["features"]);
    let copy = std::path::Path::new("/tmp").join(&sandbox.id);
    crate::sandbox::copy_program(own.get_program().as_ref(), &copy);
    let output = elsewhere.arg(&copy).arg("features").current_dir("/").output();
    fs::remove_file(&copy).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.unwrap().stdout), here);
}

#[test]
fn unknown_properties_and_annotations_are_ignored() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["annotations"] = json!({"com.example.unknown": "", "not-reverse": "x"});
        config["com.example"] = json!({"anything": [1, 2]});
        config["process"]["unheardOf"] = json!(true);
        config["linux"]["unheardOf"] = json!("x");
        config["linux"]["resources"]["unheardOf"] = json!({});
        config["windows"] = json!({"layerFolders": []});
        config["mounts"][0]["unheardOf"] = json!(1);
    });
    sandbox.create().ok();
    let annotations = &sandbox.state()["annotations"];
    assert_eq!(annotations["com.example.unknown"], "");
    assert_eq!(annotations["not-reverse"], "x");
}

#[test]
fn a_relative_mount_destination_is_relative_to_the_root() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let mount = json!({"destination": "tmp/below", "type": "tmpfs", "source": "tmpfs"});
        config["mounts"].as_array_mut().unwrap().push(mount);
        config["process"]["cwd"] = json!("/proc");
    });
    assert_eq!(sandbox.facts("mounts").mount("/tmp/below").fstype, "tmpfs");
}

#[test]
fn the_size_of_a_console_that_is_not_asked_for_is_ignored() {
    let too_wide = json!({"height": 0, "width": 70_000});
    let sizes = [too_wide, json!({}), json!({"height": -1}), json!({"height": "x"}), json!(7)];
    for size in sizes {
        runs("consoleSize", |config| {
            config["process"]["terminal"] = json!(false);
            config["process"]["consoleSize"] = size.clone();
        });
    }
}

#[test]
fn the_links_of_dev_are_there_as_far_as_what_they_lead_to() {
    let sandbox = Sandbox::new();
    let facts = sandbox.facts("link /dev/fd ; link /dev/stdin ; link /dev/core");
    assert_eq!(facts.get("link /dev/fd"), "/proc/self/fd");
    assert_eq!(facts.get("link /dev/stdin"), "/proc/self/fd/0");
    let kcore = std::path::Path::new("/proc/kcore").exists();
    assert_eq!(facts.get("link /dev/core") == "/proc/kcore", kcore, "{facts}");
}

#[test]
fn every_operation_wants_the_id_of_a_container_that_there_is() {
    let sandbox = Sandbox::new();
    for operation in ["create", "start", "state", "kill", "delete"] {
        let done = sandbox.brig(&[operation]);
        assert_ne!(done.code, Some(0), "{operation}: {done:#?}");
        assert!(!done.stderr.is_empty(), "{operation}: {done:#?}");
    }
    for operation in ["start", "state", "kill", "delete"] {
        sandbox.brig(&[operation, "nobody"]).fails();
    }
    sandbox.assert_nothing_left();
}

#[test]
fn state_and_list_have_the_documented_keys() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["annotations"] = json!({"a": "b"}));
    sandbox.create().ok();
    const KEYS: [&str; 9] = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "annotations",
        "owner",
    ];
    // serde_json sorts keys: the order of the text is needed.
    let in_order = |text: &str| {
        let found = KEYS.map(|key| text.find(&format!("\"{key}\":")).unwrap_or(usize::MAX));
        assert!(found.is_sorted() && found[8] != usize::MAX, "{text}");
    };
    let state = sandbox.brig(&["state", &sandbox.id]).ok().stdout;
    in_order(&state);
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state.as_object().unwrap().len(), KEYS.len());
    assert_eq!(state["created"].as_str().unwrap().len(), "2026-01-01T00:00:00.000000000Z".len());
    let list = sandbox.brig(&["list", "--format", "json"]).ok().stdout;
    in_order(&list);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list, json!([state]));
}

#[test]
fn ps_prints_the_pids_of_the_host() {
    let sandbox = Sandbox::new();
    sandbox.create().ok();
    let pids = sandbox.brig(&["ps", "--format", "json", &sandbox.id]).ok().stdout;
    let pids: Value = serde_json::from_str(&pids).unwrap();
    assert_eq!(pids, json!([sandbox.pid()]));
}

/// As in runc, which depends on the host's cgroups.
#[test]
fn the_cgroup_namespace_is_listed_where_cgroup2_is_all_there_is() {
    let sandbox = Sandbox::new();
    let alone = host::hierarchies().iter().all(|(controllers, _)| controllers.is_empty());
    let views: &[(View, bool)] = match (alone, is_peer()) {
        (true, _) => &[(|_| true, true)],
        (false, true) => &[(|_| true, false)],
        (false, false) => &[(|_| true, false), (<[String]>::is_empty, true)],
    };
    for &(view, listed) in views {
        let has_cgroup2 = host::hierarchies().iter().any(|(controllers, _)| controllers.is_empty());
        if listed && !has_cgroup2 {
            continue;
        }
        for args in [&["spec"][..], &["spec", "--rootless"]] {
            let config = sandbox.dir.join("config.json");
            let mut command = sandbox.command(args);
            command.current_dir(&sandbox.dir);
            if !is_peer() {
                seeing(&mut command, view);
            }
            sandbox.spawn(command).wait().ok();
            let text = fs::read_to_string(&config).unwrap();
            fs::remove_file(&config).unwrap();
            let config: Value = serde_json::from_str(&text).unwrap();
            let namespaces = config["linux"]["namespaces"].as_array().unwrap();
            let has = namespaces.iter().any(|namespace| namespace["type"] == "cgroup");
            assert_eq!(has, listed, "{args:?}: {text}");
        }
    }
}
