//! SELinux with a loaded policy: labels of processes and of mounts. Needs a kernel with SELinux enabled, as
//! in the guest of `make test-vm-selinux`, whose policy is Debian's, permissive: labels must be valid in the
//! policy, and are visible, but nothing is denied.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, skip};
use serde_json::json;

/// A label of Debian's policy; the last part is two of its categories.
const LABEL: &str = "system_u:system_r:unconfined_t:s0:c11,c22";
const OTHER: &str = "system_u:system_r:unconfined_t:s0:c33,c44";
const FILES: &str = "system_u:object_r:tmp_t:s0:c11,c22";

fn in_force() -> bool {
    let in_force = host::has_lsm("selinux");
    if !in_force {
        skip("SELinux is not in force");
    }
    in_force
}

fn sandbox(label: &str, no_new_privileges: bool) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["process"]["selinuxLabel"] = json!(label);
        config["process"]["noNewPrivileges"] = json!(no_new_privileges);
    });
    sandbox
}

#[test]
fn a_label_is_the_containers_and_of_what_is_executed_in_it() {
    if !in_force() {
        return;
    }
    for no_new_privileges in [true, false] {
        let sandbox = sandbox(LABEL, no_new_privileges);
        let created = sandbox.script("lsm ; say done ; sleep 60").create();
        sandbox.start();
        created.wait_for_line("done");
        let label = |facts: &Facts| facts.get("lsm").trim_end_matches('\0').to_owned();
        assert_eq!(label(&created.facts_now()), LABEL);
        for (flags, expected) in [(&[][..], LABEL), (&["--process-label", OTHER], OTHER)] {
            let args = [&["exec"], flags, &[&sandbox.id, "/init", "lsm"]].concat();
            let done = sandbox.brig(&args).ok();
            assert_eq!(label(&Facts::parse(&done.stdout)), expected);
        }
    }
}

#[test]
fn hooks_and_brig_do_not_have_the_containers_label() {
    if !in_force() {
        return;
    }
    let own = std::fs::read_to_string("/proc/self/attr/current").unwrap();
    let sandbox = sandbox(LABEL, true);
    let told = sandbox.dir.join("told");
    let script = format!("cat /proc/self/attr/current >>{}", told.display());
    sandbox.patch(|config| {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        config["hooks"] = json!({"createRuntime": hook, "createContainer": hook});
    });
    sandbox.script("true").run().ok();
    let told = std::fs::read_to_string(told).unwrap();
    assert_eq!(told, own.repeat(2));
}

#[test]
fn a_label_that_the_policy_does_not_have_is_an_error_by_name() {
    if !in_force() {
        return;
    }
    for unknown in ["system_u:system_r:brig_test_no_such_t:s0", "no label"] {
        let none = sandbox(unknown, true);
        let text = none.create_with(&[]).fails();
        assert!(text.contains(unknown), "{text}");
        if !crate::sandbox::is_peer() {
            let part = format!("the loaded policy does not define {unknown:?}");
            assert!(text.contains(&part) && text.contains("process.selinuxLabel"), "{text}");
        }
        none.assert_nothing_left();
        let sandbox = sandbox(LABEL, true);
        sandbox.script("sleep 60").create();
        sandbox.start();
        let done =
            sandbox.brig(&["exec", "--process-label", unknown, &sandbox.id, "/init", "true"]);
        assert!(done.code == Some(255) && done.stderr.contains(unknown), "{done:?}");
        assert_eq!(host::processes_of(&sandbox.id).len(), 1);
    }
}

#[test]
fn what_is_mounted_for_the_container_has_its_label() {
    if !in_force() {
        return;
    }
    for user_namespace in [false, true] {
        let sandbox = sandbox(LABEL, true);
        sandbox.add_file("masked/file", "x");
        sandbox.patch(|config| {
            config["linux"]["mountLabel"] = json!(FILES);
            config["linux"]["maskedPaths"] = json!(["/masked"]);
            config["process"]["user"] = json!({"uid": 0, "gid": 0});
            if user_namespace {
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
        });
        let seen = sandbox.facts(
            "write /tmp/file x ; label /tmp/file ; label /tmp ; label /dev ; label /dev/pts ; \
             label /dev/shm ; label /dev/mqueue ; label /masked ; label /proc/version",
        );
        // The message queue filesystem belongs to root of the parent user namespace, who alone could label
        // it.
        let mqueue = (!user_namespace).then_some("/dev/mqueue");
        let paths = ["/tmp/file", "/tmp", "/dev", "/dev/pts", "/dev/shm", "/masked"];
        for path in paths.into_iter().chain(mqueue) {
            assert_eq!(seen.get(&format!("label {path}")), FILES, "{user_namespace} {path} {seen}");
        }
        // The kernel's own files, which every container sees, have the policy's label.
        let proc = seen.get("label /proc/version");
        assert!(proc.contains(":object_r:proc_t:"), "{proc}");
    }
}

#[test]
fn layers_are_mounted_with_the_label_too() {
    if !in_force() || crate::sandbox::is_peer() {
        return;
    }
    let sandbox = sandbox(LABEL, true);
    std::fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
    sandbox.patch(|config| {
        config["linux"]["mountLabel"] = json!(FILES);
        config["root"]["readonly"] = json!(false);
        config["annotations"] = json!({"run.brig.overlay.layers": "base"});
    });
    let seen = sandbox.facts("write /new x ; label /new ; label /init");
    assert_eq!((seen.get("label /new"), seen.get("label /init")), (FILES, FILES), "{seen}");
}

#[test]
fn a_mount_label_that_the_policy_does_not_have_is_an_error_by_name() {
    if !in_force() {
        return;
    }
    let sandbox = sandbox(LABEL, true);
    let unknown = "system_u:object_r:brig_test_no_such_t:s0";
    sandbox.patch(|config| config["linux"]["mountLabel"] = json!(unknown));
    let text = sandbox.create_with(&[]).fails();
    assert!(text.contains(unknown), "{text}");
    sandbox.assert_nothing_left();
}
