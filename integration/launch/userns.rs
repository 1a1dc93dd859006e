//! User and time namespaces: created, joined, and used.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::{Value, json};
use std::fs;

/// The default configuration in a user namespace whose root is the host's 100000.
pub fn mapped() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
    });
    own(&sandbox);
    sandbox
}

/// Makes the container's root the owner of the image.
fn own(sandbox: &Sandbox) {
    for path in ["", "bin", "etc", "tmp"] {
        std::os::unix::fs::chown(sandbox.rootfs().join(path), Some(100_000), Some(100_000))
            .unwrap();
    }
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().unwrap()
}

#[test]
fn root_inside_is_an_unprivileged_user_outside() {
    let sandbox = mapped();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    let seen = sandbox.facts("ids ; read /proc/self/uid_map ; write /tmp/mine x ; stat /tmp/mine");
    assert_eq!(seen.word("uid", 0), "0");
    assert!(seen.get("read /proc/self/uid_map").contains("100000"), "{seen}");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(sandbox.rootfs().join("tmp/mine")).unwrap().uid(), 100_000);
}

#[test]
fn every_default_mount_and_device_works_inside() {
    let sandbox = mapped();
    let seen = sandbox.facts(
        "stat /dev/null ; open /dev/null rw ; open /dev/zero r ; statfs /proc ; statfs /sys ; statfs /dev/mqueue ; statfs /dev/pts ; statfs /sys/fs/cgroup",
    );
    assert!(seen.get("open /dev/null").contains("ok"), "{seen}");
    assert!(seen.get("open /dev/zero").contains("ok"), "{seen}");
}

/// Devices that have no node on the host.
fn devices(config: &mut Value) {
    config["linux"]["devices"] = json!([
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o620, "uid": 7, "gid": 9},
        {"path": "/dev/below/zero", "type": "c", "major": 1, "minor": 5},
        {"path": "/dev/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
        {"path": "/tmp/full", "type": "c", "major": 1, "minor": 7, "fileMode": 0o444},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 7},
        // The host's node of this name is another device.
        {"path": "/dev/zero", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666},
    ]);
    let rules = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "access": "rw"},
    ]);
    config["linux"]["resources"]["devices"] = rules;
}

const DEVICES: &str = "stat /dev/mine ; open /dev/mine rw ; stat /dev/below/zero ; open /dev/below/zero r ; \
                       stat /dev/disk ; open /dev/disk r ; stat /tmp/full ; open /tmp/full r ; stat /dev/pipe ; \
                       stat /dev/zero ; open /dev/zero w ; open /dev/null w ; mounts";

fn assert_devices(seen: &Facts) {
    for (path, stat, opened) in [
        ("/dev/mine", "char 0620 7 9 1:3 0", "ok"),
        ("/dev/below/zero", "char 0666 0 0 1:5 0", "ok"),
        // Existing does not mean that it is permitted.
        ("/dev/disk", "block 0600 0 0 7:99 0", "EPERM"),
        ("/tmp/full", "char 0444 0 0 1:7 0", "ok"),
        ("/dev/zero", "char 0666 0 0 1:3 0", "ok"),
    ] {
        assert_eq!(seen.get(&format!("stat {path}")), stat, "{seen}");
        assert_eq!(seen.get(&format!("open {path}")), opened, "{path}: {seen}");
    }
    assert_eq!(seen.get("stat /dev/pipe"), "fifo 0622 7 0 0:0 0");
    assert_eq!(seen.get("open /dev/null"), "ok");
    let options = seen.mount("/dev/mine").options;
    for option in ["nosuid", "noexec"] {
        assert!(options.iter().any(|given| given == option), "{options:?}");
    }
    // The filesystem of the nodes is not mounted as a whole.
    assert_eq!(seen.mounts().iter().filter(|mount| mount.source == "devices").count(), 5, "{seen}");
}

#[test]
fn devices_that_the_host_has_no_node_of_are_there() {
    brig_only!();
    let sandbox = mapped();
    sandbox.patch(devices);
    assert_devices(&sandbox.facts(DEVICES));
    sandbox.assert_nothing_left();
    // They are owned by ids of a joined user namespace, whatever its maps.
    let first = mapped();
    first.patch(|config| {
        let maps = json!([
            {"containerID": 0, "hostID": 100_000, "size": 7},
            {"containerID": 7, "hostID": 200_000, "size": 9},
        ]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
    });
    first.script("sleep 60").create();
    first.start();
    let second = mapped();
    let pid = first.pid();
    second.patch(|config| {
        devices(config);
        config["linux"].as_object_mut().unwrap().remove("uidMappings");
        config["linux"].as_object_mut().unwrap().remove("gidMappings");
        let joined = namespaces(config).iter_mut().find(|namespace| namespace["type"] == "user");
        joined.unwrap()["path"] = json!(format!("/proc/{pid}/ns/user"));
    });
    assert_devices(&second.facts(DEVICES));
}

#[test]
fn the_owner_of_a_made_device_has_to_be_mapped() {
    brig_only!();
    let sandbox = mapped();
    sandbox.patch(|config| {
        devices(config);
        config["linux"]["devices"][1]["gid"] = json!(65_536);
    });
    let error = sandbox.run().fails_with("65536 is not mapped in the user namespace");
    assert!(error.contains("linux.devices[1].gid"), "{error}");
    sandbox.assert_nothing_left();
}

#[test]
fn another_user_inside_is_mapped_too_and_has_no_capabilities_outside() {
    let sandbox = mapped();
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1001, "additionalGids": [5]});
    });
    let seen = sandbox.facts("ids");
    assert_eq!(
        (seen.word("uid", 0), seen.word("gid", 0), seen.get("groups")),
        ("1000", "1001", "5")
    );
}

#[test]
fn without_maps_a_new_namespace_has_the_callers_id_alone() {
    brig_only!();
    let sandbox = mapped();
    sandbox.patch(|config| {
        config["linux"].as_object_mut().unwrap().remove("uidMappings");
        config["linux"].as_object_mut().unwrap().remove("gidMappings");
        let keep = ["/proc", "/dev"];
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| keep.iter().any(|path| mount["destination"] == *path));
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let script = "ids ; read /proc/self/uid_map ; read /proc/self/gid_map";
    let map = |facts: &Facts, kind| -> Vec<String> {
        let text = facts.get(&format!("read /proc/self/{kind}_map"));
        let text: String = serde_json::from_str(text).unwrap();
        text.split_whitespace().map(String::from).collect()
    };
    for (uid, gid) in [("0", "0"), ("5", "6")] {
        let [user, group] = [uid, gid].map(|id| id.parse::<u32>().unwrap());
        sandbox.patch(|config| config["process"]["user"] = json!({"uid": user, "gid": group}));
        let facts = sandbox.facts(script);
        assert_eq!((facts.word("uid", 0), facts.word("gid", 0)), (uid, gid));
        assert_eq!(map(&facts, "uid"), [uid, "0", "1"]);
        assert_eq!(map(&facts, "gid"), [gid, "0", "1"]);
    }
}

#[test]
fn maps_without_id_0_have_the_process_set_the_container_up() {
    brig_only!();
    let sandbox = mapped();
    sandbox.patch(|config| {
        let maps = json!([{"containerID": 1000, "hostID": 100_000, "size": 10}]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["process"]["user"] = json!({"uid": 1001, "gid": 1002});
        for mount in config["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !option.as_str().unwrap().starts_with("gid="));
            }
        }
        config["root"]["readonly"] = json!(false);
    });
    sandbox.script("sleep 60").create();
    sandbox.start();
    let inside_with = |flags: &[&str], args: &[&str]| {
        let args = [&["exec"], flags, &[sandbox.id.as_str()], args].concat();
        Facts::parse(&sandbox.brig(&args).ok().stdout)
    };
    let inside = |args: &[&str]| inside_with(&[], args);
    let facts = inside(&["/init", "ids", ";", "stat", "/dev/null", ";", "open", "/dev/null", "rw"]);
    assert_eq!((facts.word("uid", 0), facts.word("gid", 0)), ("1001", "1002"), "{facts}");
    assert!(facts.get("open /dev/null").contains("ok"), "{facts}");
    let mounts = json!([{"destination": "/tmp/new", "type": "tmpfs", "source": "tmpfs"}]);
    let file = sandbox.dir.join("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    sandbox.brig(&["mounts", "add", &sandbox.id, file.to_str().unwrap()]).ok();
    assert_eq!(inside(&["/init", "mounts"]).mount("/tmp/new").fstype, "tmpfs");
    let facts = inside_with(&["--user", "1009"], &["/init", "ids"]);
    assert_eq!(facts.word("uid", 0), "1009");
}

#[test]
fn a_user_namespace_and_others_that_it_does_not_own_are_joined_together() {
    brig_only!();
    let owner = mapped();
    owner.script("sleep 60").create();
    let other = Sandbox::new();
    other.script("sleep 60").create();
    let sandbox = mapped();
    let path = |of: &Sandbox, name: &str| format!("/proc/{}/ns/{name}", of.pid());
    let kinds = [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")];
    sandbox.patch(|config| {
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("uidMappings");
        linux.remove("gidMappings");
        let list = namespaces(config);
        list.retain(|namespace| namespace["type"] == "mount");
        list.push(json!({"type": "user", "path": path(&owner, "user")}));
        for (kind, name) in kinds {
            list.push(json!({"type": kind, "path": path(&other, name)}));
        }
        let keep = ["tmpfs", "devpts"];
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| keep.iter().any(|kind| mount["type"] == *kind));
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        config.as_object_mut().unwrap().remove("hostname");
    });
    sandbox.script("sleep 60").create();
    let of = |sandbox: &Sandbox, name| fs::read_link(path(sandbox, name)).unwrap();
    assert_eq!(of(&sandbox, "user"), of(&owner, "user"));
    for (_, name) in kinds {
        assert_eq!(of(&sandbox, name), of(&other, name), "{name}");
    }
}

#[test]
fn a_user_outside_the_maps_is_an_error_with_its_place() {
    brig_only!();
    let sandbox = mapped();
    sandbox.patch(|config| config["process"]["user"]["uid"] = json!(70_000));
    let stderr = sandbox.script("true").run().fails();
    assert!(
        stderr.contains("process.user.uid (config.json line")
            && stderr.contains("70000 is not mapped"),
        "{stderr}"
    );
    sandbox.assert_nothing_left();
}

#[test]
fn limits_devices_and_scores_are_set_from_outside() {
    let sandbox = mapped();
    sandbox.patch(|config| {
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
        config["process"]["oomScoreAdj"] = json!(200);
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    let seen = sandbox.facts("read /proc/self/oom_score_adj ; read /proc/sys/net/ipv4/ip_forward");
    assert!(seen.get("read /proc/self/oom_score_adj").contains("200"), "{seen}");
    assert!(seen.get("read /proc/sys/net/ipv4/ip_forward").contains('1'), "{seen}");
}

#[test]
fn exec_becomes_root_of_the_user_namespace() {
    let sandbox = mapped();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let done =
        sandbox.brig(&["exec", &sandbox.id, "/init", "ids", ";", "read", "/proc/self/uid_map"]);
    let seen = Facts::parse(&done.ok().stdout);
    assert_eq!(seen.word("uid", 0), "0");
    assert!(seen.get("read /proc/self/uid_map").contains("100000"), "{seen}");
}

#[test]
fn a_second_container_can_live_in_the_first_ones_user_namespace() {
    brig_only!();
    let first = mapped();
    first.script("sleep 60").create();
    first.start();
    let pid = first.pid();
    for new_pid in [true, false] {
        let second = mapped();
        second.patch(|config| {
            config["linux"].as_object_mut().unwrap().remove("uidMappings");
            config["linux"].as_object_mut().unwrap().remove("gidMappings");
            for namespace in namespaces(config) {
                let kind = namespace["type"].as_str().unwrap().to_string();
                let file = match kind.as_str() {
                    "user" => "user",
                    "network" => "net",
                    "ipc" => "ipc",
                    "pid" if !new_pid => "pid",
                    _ => continue,
                };
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        });
        let seen = second.facts("pid ; ids ; ns ; statfs /proc");
        let of_first =
            |name| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
        for (name, same) in
            [("user", true), ("net", true), ("ipc", true), ("pid", !new_pid), ("mnt", false)]
        {
            let line = of_first(name);
            assert_eq!(seen.0.iter().any(|fact| fact.ends_with(&line)), same, "{name}: {seen}");
        }
        assert_eq!(seen.word("uid", 0), "0");
        assert_eq!(seen.word("pid", 0) == "1", new_pid, "{seen}");
    }
}

#[test]
fn a_new_user_namespace_can_join_others_that_belong_to_the_host() {
    brig_only!();
    let other = Sandbox::new();
    other.script("sleep 60").create();
    let pid = other.pid();
    let sandbox = mapped();
    sandbox.patch(|config| {
        for namespace in namespaces(config) {
            if namespace["type"] == "uts" || namespace["type"] == "ipc" {
                let file = namespace["type"].as_str().unwrap().to_string();
                namespace["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        }
        config.as_object_mut().unwrap().remove("hostname");
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "mqueue");
    });
    let seen = sandbox.facts("ns ; ids");
    let uts = fs::read_link(format!("/proc/{pid}/ns/uts")).unwrap().display().to_string();
    assert!(seen.0.iter().any(|fact| fact.ends_with(&uts)), "{seen}");
    assert_eq!(seen.word("uid", 0), "0");
}

#[test]
fn clocks_are_set_off_in_a_time_namespace() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        namespaces(config).push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000}, "monotonic": {"secs": -1}});
    });
    let uptime = |text: &str| -> f64 {
        text.trim_matches('"').split(['.', ' ']).next().unwrap().parse().unwrap()
    };
    let outside = uptime(&fs::read_to_string("/proc/uptime").unwrap());
    let seen = sandbox.facts("read /proc/uptime");
    let inside = uptime(seen.get("read /proc/uptime"));
    assert!((999_990.0..1_000_100.0).contains(&(inside - outside)), "{outside} {inside}");

    // crun's annotation replaces all offsets.
    let offsets = |text: &str| {
        sandbox.patch(|config| config["annotations"] = json!({"run.oci.timens_offset": text}));
        sandbox.script("read /proc/uptime").run()
    };
    let seen = Facts::parse(&offsets("7 3000000 0\nmonotonic 5 0").ok().stdout);
    let inside = uptime(seen.get("read /proc/uptime"));
    assert!((2_999_990.0..3_000_100.0).contains(&(inside - outside)), "{outside} {inside}");
    offsets("realtime 1 0").fails_with("annotations[\"run.oci.timens_offset\"]");
    sandbox.patch(|config| namespaces(config).retain(|namespace| namespace["type"] != "time"));
    sandbox.patch(|config| config["linux"]["timeOffsets"] = json!({}));
    let done = offsets("monotonic 5 0").ok();
    assert!(done.stderr.contains("has no effect without a new time namespace"), "{done:?}");
}

#[test]
fn exec_has_the_clocks_of_the_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        namespaces(config).push(json!({"type": "time"}));
        config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5_000_000}});
    });
    sandbox.script("sleep 60").create();
    sandbox.start();
    let done = sandbox.brig(&["exec", &sandbox.id, "/init", "read", "/proc/uptime"]).ok();
    assert!(done.stdout.contains("\"50"), "{done:?}");
}

#[test]
fn a_hard_limit_above_brigs_own_is_set_by_root_outside() {
    use nix::sys::resource::{Resource, setrlimit};
    let own = crate::host::status_of(i64::from(std::process::id()), "CapEff").unwrap();
    // linux/capability.h: CAP_SYS_RESOURCE is 24.
    if u64::from_str_radix(&own, 16).unwrap() & 1 << 24 == 0 {
        return skip("root has no CAP_SYS_RESOURCE");
    }
    let sandbox = mapped();
    sandbox.patch(|config| {
        config["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 3000, "hard": 4000}]);
    });
    sandbox.script("rlimits ; sleep 60");
    let bundle = sandbox.bundle();
    let lowered = |args: &[&str]| {
        let mut command = sandbox.command(args);
        crate::sandbox::before_exec(&mut command, || {
            Ok(setrlimit(Resource::RLIMIT_NOFILE, 500, 2000)?)
        });
        sandbox.spawn(command).wait().ok()
    };
    let run = lowered(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let execd = Facts::parse(&lowered(&["exec", &sandbox.id, "/init", "rlimits"]).stdout);
    run.wait_for_line("rlimit NOFILE 3000 4000");
    assert_eq!(execd.get("rlimit NOFILE"), "3000 4000");
}

/// `unshare --user` alone: root may not change the mounts that it sees.
#[test]
fn root_of_a_user_namespace_around_brig_can_run_containers() {
    brig_only!();
    for user in [false, true] {
        let sandbox = Sandbox::minimal();
        sandbox.patch(|config| {
            config["linux"].as_object_mut().unwrap().remove("resources");
            if user {
                namespaces(config).push(json!({"type": "user"}));
                let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map;
            }
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/tmp", "source": "shared", "options": ["rbind"]}));
        });
        fs::create_dir(sandbox.bundle().join("shared")).unwrap();
        fs::write(sandbox.bundle().join("shared/file"), "text").unwrap();
        sandbox.script("ids ; read /tmp/file ; list /proc/self");
        let bundle = sandbox.bundle();
        let run = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        let brig = sandbox.command(&run);
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(brig.get_program()).args(brig.get_args());
        command.envs(brig.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let done = sandbox.spawn(command).wait().ok();
        let facts = Facts::parse(&done.stdout);
        assert_eq!(facts.get("uid"), "0 0 0", "{user}");
        assert_eq!(facts.get("read /tmp/file"), "\"text\"");
        sandbox.assert_nothing_left();
    }
}
