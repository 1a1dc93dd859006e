//! brig called by root of an unprivileged user's user namespace, as by rootless podman.

use crate::facts::Facts;
use crate::rootless::{NAME, UID, as_user, installed};
use crate::sandbox::{brig_only, skip};
use serde_json::json;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A command run by sh as root of a new user namespace, as by podman.
fn as_root_of_a_user_namespace(command: &Command, script: &str) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    outer.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.uid(UID).gid(UID).current_dir("/mnt");
    outer
}

#[test]
fn root_of_a_user_namespace_keeps_states_where_the_user_does_unless_called_root() {
    brig_only!();
    if !installed("unshare") {
        return skip("no unshare");
    }
    as_user(false, |user| {
        user.patch(|config| {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        // podman's conmon runs without USER.
        for (name, root) in [
            (None, "/proc/none/brig"),
            (Some(NAME), "/proc/none/brig"),
            (Some("root"), "/run/brig"),
        ] {
            let mut command = as_root_of_a_user_namespace(&user.run_command(), "exec \"$@\"");
            command.envs(name.map(|name| ("USER", name))).env("XDG_RUNTIME_DIR", "/proc/none");
            user.fails(command, &[root]);
        }
    });
}

#[test]
fn a_container_of_rootless_podman_sees_brigs_cgroups_and_joins_a_pid_namespace() {
    brig_only!();
    if !installed("unshare") {
        return skip("no unshare");
    }
    as_user(false, |user| {
        user.patch(|config| {
            let linux = config["linux"].as_object_mut().unwrap();
            linux.remove("uidMappings");
            linux.remove("gidMappings");
            linux.insert(
                "namespaces".into(),
                json!([{"type": "pid", "path": "/proc/OTHER/ns/pid_for_children"},
                    {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]),
            );
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "ro"]}));
        });
        user.sandbox.script("mounts ; pid");
        let script = "unshare --pid --fork --kill-child sleep 30 & other=$!
            until [ -e /proc/$other/ns/pid_for_children ]; do sleep 0.01; done
            sed -i s/OTHER/$other/ /mnt/bundle/config.json
            \"$@\"; code=$?
            kill $other; wait $other; exit $code";
        let command = as_root_of_a_user_namespace(&user.run_command(), script);
        let facts = Facts::parse(&user.sandbox.spawn(command).wait().ok().stdout);
        let shown = facts.mounts();
        let shown = shown.iter().filter(|mount| mount.fstype.starts_with("cgroup")).count();
        assert!(shown > 0, "{facts}");
        assert_ne!(facts.word("pid", 0), "1", "{facts}");
    });
}
