//! config-linux.md, Cgroup ownership: the owner of the container's cgroup. Only with cgroup v2 alone, as in
//! the guest of `make test-vm`.

use crate::host::{self, Version};
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::json;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const ROOT_INSIDE: u32 = 100_000;

fn mountpoint() -> Option<PathBuf> {
    match host::controller("pids") {
        Some((Version::V2, mountpoint)) => Some(mountpoint),
        _ => None,
    }
}

/// A container with a user namespace, and with a writable or read-only cgroup mount.
fn sandbox(options: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let map = json!([{"containerID": 0, "hostID": ROOT_INSIDE, "size": 65536}]);
    sandbox.patch(|config| {
        for mount in config["mounts"].as_array_mut().unwrap() {
            if mount["type"] == "cgroup" {
                mount["options"] = json!(options);
            }
        }
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        linux["cgroupsPath"] = json!(format!("/{}", sandbox.id));
        linux["resources"]["pids"] = json!({"limit": 20});
    });
    sandbox
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).uid()
}

#[test]
fn a_writable_cgroup_belongs_to_the_containers_user_and_its_limits_do_not() {
    brig_only!();
    let Some(mountpoint) = mountpoint() else { return skip("this host has no cgroup v2 alone") };
    let sandbox = sandbox(&["nosuid", "noexec", "nodev"]);
    let act =
        "mkdir /sys/fs/cgroup/child ; write /sys/fs/cgroup/pids.max max ; say done ; sleep 60";
    sandbox.script(act).run_with(&["--detach"]).ok().wait_for_line("done");
    let cgroup = mountpoint.join(&sandbox.id);
    assert_eq!(owner(&cgroup), ROOT_INSIDE);
    for name in fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap().lines() {
        let file = cgroup.join(name);
        if file.exists() {
            assert_eq!(owner(&file), ROOT_INSIDE, "{name}");
        }
    }
    for name in ["pids.max", "cgroup.freeze", "cgroup.kill"] {
        assert_eq!(owner(&cgroup.join(name)), 0, "{name}");
    }
    assert_eq!(owner(&cgroup.join("child")), ROOT_INSIDE);
    assert_eq!(fs::read_to_string(cgroup.join("pids.max")).unwrap(), "20\n");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(!cgroup.exists());
}

#[test]
fn a_readonly_cgroup_or_one_without_its_namespace_keeps_its_owner() {
    let Some(mountpoint) = mountpoint() else { return skip("this host has no cgroup v2 alone") };
    let readonly = sandbox(&["nosuid", "noexec", "nodev", "ro"]);
    readonly.create().ok();
    assert_eq!(owner(&mountpoint.join(&readonly.id)), 0);
    let shared = sandbox(&["nosuid", "noexec", "nodev"]);
    shared.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    });
    shared.create().ok();
    assert_eq!(owner(&mountpoint.join(&shared.id)), 0);
}

#[test]
fn the_delegated_cgroup_is_the_containers_and_the_limits_stay_with_the_one_above() {
    brig_only!();
    let Some(mountpoint) = mountpoint() else { return skip("this host has no cgroup v2 alone") };
    for user_namespace in [false, true] {
        let sandbox = sandbox(&["nosuid", "noexec", "nodev"]);
        sandbox.patch(|config| {
            config["annotations"] = json!({"run.oci.delegate-cgroup": "own/tree"});
            if !user_namespace {
                let linux = config["linux"].as_object_mut().unwrap();
                let namespaces = linux["namespaces"].as_array_mut().unwrap();
                namespaces.retain(|namespace| namespace["type"] != "user");
                linux.remove("uidMappings");
                linux.remove("gidMappings");
            }
        });
        let act = "read /proc/self/cgroup ; mkdir /sys/fs/cgroup/own/tree/x ; \
                   read /sys/fs/cgroup/pids.max ; say done ; sleep 60";
        let done = sandbox.script(act).run_with(&["--detach"]).ok();
        done.wait_for_line("done");
        let facts = done.facts_now();
        // Its cgroup namespace shows the parent, which has the limit.
        assert_eq!(facts.get("read /proc/self/cgroup"), r#""0::/own/tree\n""#, "{facts}");
        assert_eq!(facts.get("mkdir /sys/fs/cgroup/own/tree/x"), "ok", "{facts}");
        assert_eq!(facts.get("read /sys/fs/cgroup/pids.max"), r#""20\n""#, "{facts}");
        let above = mountpoint.join(&sandbox.id);
        let read = |file: &str| fs::read_to_string(above.join(file)).unwrap();
        assert_eq!(read("pids.max"), "20\n");
        assert!(!above.join("own/tree/pids.max").exists(), "whose it is gives controllers on");
        assert_eq!(read("cgroup.procs"), "");
        // Also for exec: no process can be in the parent after it has enabled controllers.
        fs::write(above.join("cgroup.subtree_control"), "+pids").unwrap();
        let facts = sandbox.brig(&["exec", &sandbox.id, "/init", "read", "/proc/self/cgroup"]);
        assert!(facts.ok().stdout.contains("0::/own/tree"));
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.assert_nothing_left();
    }
}
