//! Obstacles of unprivileged users, and brig's explanation: the cause, and the remedy.

use crate::host;
use crate::rootless::{NAME, UID, User, as_user, in_own_mounts, installed};
use crate::sandbox::{brig_only, skip};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// `run` of the config with one change must fail with this message.
#[track_caller]
fn refused(
    granted: bool,
    change: impl FnOnce(&mut Value) + Send + 'static,
    texts: [&'static str; 2],
) {
    as_user(granted, move |user| {
        user.patch(change);
        user.fails(user.run_command(), &texts);
    });
}

#[test]
fn a_config_for_root_is_told_from_one_for_everybody() {
    brig_only!();
    let change = |config: &mut Value| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.retain(|name, _| !name.ends_with("Mappings"));
        linux["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "user");
    };
    refused(false, change, ["linux.namespaces", "brig spec --rootless"]);
}

#[test]
fn ids_that_are_not_granted_are_told_with_the_way_to_get_them() {
    brig_only!();
    if !installed("newuidmap") {
        return skip("no newuidmap");
    }
    let range = |first: u32| json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    let wide = move |config: &mut Value| {
        config["linux"]["uidMappings"] = range(100_000);
        config["linux"]["gidMappings"] = range(100_000);
    };
    let nothing = "/etc/subgid grants brig-test no ids: as root, \
                   run `usermod --add-subgids 100000-165535 brig-test`";
    refused(false, wide, ["linux.gidMappings", nothing]);
    let other = "/etc/subgid does not grant brig-test 100000 to 165535, only 700000 to 765535";
    refused(true, wide, ["linux.gidMappings", other]);
    let of_root = |config: &mut Value| {
        config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    };
    refused(true, of_root, ["linux.uidMappings", "does not grant brig-test 0 to 0"]);
}

#[test]
fn what_keeps_newuidmap_from_its_work_is_told() {
    brig_only!();
    as_user(true, |user| {
        let mut command = user.run_command();
        command.env("PATH", "/nowhere");
        user.fails(command, &["run newgidmap", "package uidmap"]);
        let mut command = user.run_command();
        crate::sandbox::before_exec(&mut command, || Ok(nix::sys::prctl::set_no_new_privs()?));
        user.fails(command, &["no_new_privs, so setuid newgidmap gets no privileges"]);
    });
}

#[test]
fn a_device_that_the_host_has_no_node_of_is_reported_with_its_place() {
    brig_only!();
    let change = |config: &mut Value| {
        let device = json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3});
        config["linux"]["devices"] = json!([device]);
    };
    let text = "/dev/mine: mknod: Operation not permitted, and the host has no such device node";
    refused(false, change, ["linux.devices[0]", text]);
    let other = |config: &mut Value| {
        let device = json!({"path": "/dev/zero", "type": "c", "major": 1, "minor": 3});
        config["linux"]["devices"] = json!([device]);
    };
    let text =
        "/dev/zero: mknod: Operation not permitted, and the host's node is a different device";
    refused(false, other, ["linux.devices[0]", text]);
}

#[test]
fn user_namespaces_that_are_switched_off_are_told() {
    brig_only!();
    if !installed("unshare") {
        return skip("no unshare");
    }
    as_user(false, |user| {
        // Not the host's: in a new user namespace the limit can be set for its descendants.
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
        let brig = user.run_command();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.arg(brig.get_program()).args(brig.get_args());
        command.envs(brig.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("USER", NAME).uid(UID).gid(UID).current_dir("/mnt");
        user.patch(|config| {
            let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
        user.fails(command, &["sysctl user.max_user_namespaces is 0"]);
    });
}

/// A sysctl of the whole machine, restored when it is dropped.
struct Sysctl(&'static Path, String);

impl Sysctl {
    fn set(path: &'static Path, value: &str) -> Sysctl {
        let before = fs::read_to_string(path).unwrap();
        fs::write(path, value).unwrap();
        Sysctl(path, before)
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        fs::write(self.0, &self.1).unwrap();
    }
}

/// A sysctl of the machine disables user namespaces of unprivileged users. `BRIG_TEST_EXPENDABLE` means that
/// the machine exists for the tests only.
#[track_caller]
fn forbidden_by(sysctl: &'static str, value: &'static str, text: &'static str) {
    let path = Path::new(sysctl);
    if std::env::var_os("BRIG_TEST_EXPENDABLE").is_none() {
        return skip(&format!("{sysctl} is not the tests' to set"));
    }
    if !path.exists() {
        return skip(&format!("this kernel has no {sysctl}"));
    }
    let _alone = host::no_unprivileged_namespaces();
    in_own_mounts(move || {
        let user = User::new(false);
        let _set = Sysctl::set(path, value);
        user.fails(user.run_command(), &[text]);
    });
}

#[test]
fn user_namespaces_that_are_roots_alone_are_told() {
    brig_only!();
    let text =
        "only root may create user namespaces here: sysctl kernel.unprivileged_userns_clone is 0";
    forbidden_by("/proc/sys/kernel/unprivileged_userns_clone", "0", text);
}

#[test]
fn user_namespaces_that_app_armor_restricts_are_told() {
    brig_only!();
    let text = "AppArmor restricts user namespaces here";
    forbidden_by("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", text);
}

#[test]
fn limits_without_a_cgroup_are_told_with_the_way_to_get_one() {
    brig_only!();
    let change = |config: &mut Value| {
        config["linux"]["resources"] = json!({"pids": {"limit": 100}});
    };
    refused(false, change, ["linux.resources", "--property=Delegate=yes"]);
}

#[test]
fn ids_outside_a_one_id_map_are_refused() {
    brig_only!();
    let user = |config: &mut Value| config["process"]["user"] = json!({"uid": 1000, "gid": 0});
    refused(false, user, ["process.user.uid", "1000 is not mapped"]);
    let groups = |config: &mut Value| config["process"]["user"]["additionalGids"] = json!([5]);
    refused(false, groups, ["process.user.additionalGids", "5 is not mapped"]);
}

#[test]
fn what_only_root_may_ask_for_is_told() {
    brig_only!();
    let device = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "network"}));
        config["linux"]["netDevices"] = json!({"lo": {}});
    };
    refused(false, device, ["linux.netDevices", "only root"]);
    let idmap = |config: &mut Value| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts
            .push(json!({"destination": "/data", "source": "/tmp", "options": ["bind", "idmap"]}));
    };
    refused(false, idmap, ["options[1]", "only root"]);
    let nice = |config: &mut Value| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": -5});
    };
    refused(false, nice, ["process.scheduler", "needs CAP_SYS_NICE on the host"]);
    let limit = |config: &mut Value| {
        config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1_u64 << 31}]);
    };
    refused(false, limit, ["process.rlimits[0]", "above brig's own hard limit"]);
}

#[test]
fn a_missing_session_directory_is_told() {
    brig_only!();
    as_user(false, |user| {
        let mut command = user.run_command();
        command.env_remove("XDG_RUNTIME_DIR");
        user.fails(command, &["/run/brig", "XDG_RUNTIME_DIR is not set"]);
    });
}
