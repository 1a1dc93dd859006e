//! What processes in containers, and reports about them, have done to runtimes, each by its CVE. `exec::` and
//! `process::` contain more: docs/security.md lists all.

use crate::facts::Facts;
use crate::rootless::{User, as_user};
use crate::sandbox::{Sandbox, before_exec, brig_only, expendable_host};
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

/// A container with all capabilities in its own user namespace.
fn almighty_in_its_user_namespace(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let names: Vec<String> =
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER KILL SETGID SETUID SETPCAP \
                              NET_ADMIN SYS_CHROOT SYS_PTRACE SYS_ADMIN SYS_RESOURCE"
            .split_whitespace()
            .map(|name| format!("CAP_{name}"))
            .collect();
    sandbox.script(script).patch(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let maps = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(names);
        }
    });
    sandbox
}

#[test]
fn cve_2016_9962_nobody_looks_into_brig_on_its_way_into_the_container() {
    brig_only!();
    let sandbox = almighty_in_its_user_namespace("peek 6");
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let peeking = sandbox.brig(&run).ok();
    peeking.wait_for_line("peeking");
    while sandbox.status() == "running" {
        // The last one may come too late.
        sandbox.brig(&["exec", &sandbox.id, "/init", "true"]);
    }
    let facts = peeking.facts_now();
    assert!(facts.all("peeked").is_empty(), "{facts}");
    assert!(facts.number("denied", 0) > 0, "brig was never seen: {facts}");
}

#[test]
fn cve_2024_21626_exec_has_no_directory_of_the_host_either() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    for fd in 3..20 {
        let cwd = format!("/proc/self/fd/{fd}");
        let args = ["exec", "--cwd", &cwd, &sandbox.id, "/init", "cwd", ";", "list", "../../.."];
        let mut command = sandbox.command(&args);
        let leaked = fs::File::open("/").unwrap();
        before_exec(&mut command, move || {
            // SAFETY: the number is free in the new process, and a failure only weakens the test.
            unsafe { libc::dup2(leaked.as_raw_fd(), 15) };
            Ok(())
        });
        let done = sandbox.spawn(command).wait();
        assert_eq!((done.code, done.stdout.as_str()), (Some(255), ""), "{fd}: {done:?}");
    }
}

#[test]
fn cve_2016_3697_a_number_is_no_name() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/passwd", "1000:x:0:0:root:/root:/bin/sh\n");
    sandbox.add_file("etc/group", "1000:x:0:\n");
    sandbox.script("sleep 60").create();
    sandbox.start();
    let done = sandbox.brig(&["exec", "--user", "1000:1000", &sandbox.id, "/init", "ids"]).ok();
    let facts = Facts::parse(&done.stdout);
    assert_eq!((facts.get("uid"), facts.get("gid")), ("1000 1000 1000", "1000 1000 1000"));
}

#[test]
fn cve_2026_47262_files_of_users_without_end_are_not_read() {
    let sandbox = Sandbox::new();
    for file in ["etc/passwd", "etc/group", "etc/shadow"] {
        sandbox.add_file(file, "root:x:0:0::/root:/bin/sh\n");
        let path = sandbox.rootfs().join(file);
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 40).unwrap();
    }
    // Not in the files, and without HOME: they are searched to the end. Reading everything would exceed the
    // memory limit.
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 4242, "gid": 4242});
        let env = config["process"]["env"].as_array_mut().unwrap();
        env.retain(|entry| !entry.as_str().unwrap().starts_with("HOME="));
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    });
    let start = Instant::now();
    let facts = sandbox.facts("env");
    assert!(facts.all("env").contains(&"HOME=/"), "{facts}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn cve_2025_24965_the_working_directory_is_made_inside_of_the_root() {
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, sandbox.rootfs().join("link")).unwrap();
    symlink("../".repeat(30) + outside.to_str().unwrap(), sandbox.rootfs().join("up")).unwrap();
    for cwd in ["/link/made", "/up/made", "/../../made", "/tmp/../../made"] {
        sandbox.script("true").patch(|config| config["process"]["cwd"] = json!(cwd));
        sandbox.run();
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{cwd}");
        assert!(!sandbox.bundle().join("made").exists() && !sandbox.dir.join("made").exists());
    }
}

#[test]
fn cve_2020_15257_brig_has_no_abstract_sockets() {
    let sandbox = Sandbox::new();
    sandbox.script("read /proc/net/unix").patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
    });
    let bundle = sandbox.bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    // A network namespace shared by brig and the container: all sockets in it are brig's.
    expendable_host(&mut command);
    let done = sandbox.spawn(command).wait().ok();
    assert!(done.stdout.contains("RefCount") && !done.stdout.contains('@'), "{done:?}");
}

#[test]
fn cve_2021_43784_what_is_much_too_long_is_refused_or_passed_whole() {
    let long = "x".repeat(70_000);
    let maps: Vec<_> = (0..100_000)
        .map(|id| json!({"containerID": id, "hostID": 100_000 + id, "size": 1}))
        .collect();
    for field in ["maps", "hostname", "namespace", "cgroup", "source", "user"] {
        let sandbox = Sandbox::new();
        sandbox.script("true").patch(|config| match field {
            "maps" => {
                let user = json!({"type": "user"});
                config["linux"]["namespaces"].as_array_mut().unwrap().push(user);
                config["linux"]["uidMappings"] = json!(maps);
                config["linux"]["gidMappings"] = json!(maps);
            }
            "hostname" => config["hostname"] = json!(long),
            "namespace" => config["linux"]["namespaces"][0]["path"] = json!(format!("/{long}")),
            "cgroup" => config["linux"]["cgroupsPath"] = json!(format!("/{long}")),
            "source" => {
                let mount = json!({"destination": "/mnt", "source": long, "options": ["bind"]});
                config["mounts"].as_array_mut().unwrap().push(mount);
            }
            _ => config["process"]["user"]["additionalGids"] = json!(vec![7; 70_000]),
        });
        let error = sandbox.run().fails();
        assert!(!error.contains("panic"), "{field}: {}", &error[..error.len().min(2000)]);
        sandbox.assert_nothing_left();
    }
    let sandbox = Sandbox::new();
    let args = ["/init", "args", &long];
    let done = sandbox.args(&args).run().ok();
    assert!(done.stdout.contains(&long));
}

#[test]
fn limits_of_config_json_are_exact() {
    brig_only!();
    let sandbox = Sandbox::new();
    let text = sandbox.script("say hello").config().to_string();
    let with = |unknown: &str| format!("{},\"unknown\":{unknown}}}", &text[..text.len() - 1]);
    let run = |text: &str| {
        fs::write(sandbox.bundle().join("config.json"), text).unwrap();
        sandbox.run()
    };
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // The config itself is the first level.
    assert_eq!(run(&with(&nested(127))).ok().stdout, "hello\n");
    run(&with(&nested(128))).fails_with("nests deeper than 128 arrays and objects");
    run(&with(&nested(1_000_000))).fails_with("nests deeper than 128 arrays and objects");
    let longest = 16 << 20;
    let padded = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
    assert_eq!(run(&padded(longest)).ok().stdout, "hello\n");
    run(&padded(longest + 1)).fails_with("is longer than 16 MiB");
    sandbox.assert_nothing_left();
}

#[test]
fn delegation_by_annotation_and_cgroups_of_exec_do_not_climb() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{}", sandbox.id));
    });
    for outside in ["../../{}-climbed", "/{}-climbed", "a/../../{}-climbed", "..", ""] {
        let outside = outside.replace("{}", &sandbox.id);
        sandbox.patch(|config| config["annotations"] = json!({"run.oci.delegate-cgroup": outside}));
        let error = sandbox.create_with(&[]).fails_with("run.oci.delegate-cgroup");
        assert!(error.contains("is not a relative path of a cgroup"), "{error}");
        sandbox.assert_nothing_left();
    }
    sandbox.patch(|config| config["annotations"] = json!({}));
    sandbox.create();
    sandbox.start();
    assert!(crate::host::cgroups_with("-climbed").is_empty());
    for cgroup in ["..", "../..", "a/../..", "/..", "freezer:..", "../x"] {
        let args = ["exec", "--cgroup", cgroup, &sandbox.id, "/init", "say", "out"];
        let done = sandbox.brig(&args);
        assert_eq!((done.code, done.stdout.as_str()), (Some(255), ""), "{cgroup}: {done:?}");
    }
}

#[test]
fn cve_2014_8989_who_may_not_drop_groups_outside_may_not_inside() {
    brig_only!();
    as_user(false, |user| {
        let facts = user.facts("read /proc/self/setgroups ; ids");
        assert_eq!(facts.get("read /proc/self/setgroups"), "\"deny\\n\"");
    });
}

#[test]
fn cve_2023_25809_the_hosts_cgroups_are_read_only_without_a_namespace_of_ones_own() {
    brig_only!();
    as_user(false, |user| {
        user.patch(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/sys"));
            mounts.push(json!({"destination": "/sys", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
            mounts.push(
                json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}),
            );
        });
        // Tested by effect: mounts of the host there are still in mountinfo, but covered.
        let mut dirs = vec!["/sys/fs/cgroup".to_owned()];
        let hierarchies = crate::host::hierarchies().into_iter().map(|(_, path)| path);
        dirs.extend(hierarchies.filter_map(|path| path.to_str().map(str::to_owned)));
        let script: Vec<String> = dirs.iter().map(|dir| format!("mkdir {dir}/made")).collect();
        user.sandbox.script(&script.join(" ; "));
        let done = user.run(&[]);
        // If the hierarchies cannot be mounted by the user, it is an error.
        if done.code != Some(0) {
            done.fails_with("/sys/fs/cgroup: ");
            return;
        }
        let facts = Facts::parse(&done.stdout);
        for dir in dirs {
            // cgroup2 is not shown if v1 has controllers.
            let made = facts.all(&format!("mkdir {dir}/made"));
            assert!(made.iter().all(|made| ["EROFS", "ENOENT"].contains(made)), "{facts}");
        }
    });
}

/// The executable of the container's process while it waits.
fn executable(user: &User, brig: &str) -> String {
    let mut command = Command::new(brig);
    let like = user.command(&["create", "--bundle", "/mnt/bundle", &user.sandbox.id]);
    user.become_user(&mut command);
    command.args(like.get_args());
    user.sandbox.spawn(command).wait().ok();
    let state = user.brig(&["state", &user.sandbox.id]).ok().stdout;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    let exe = fs::read_link(format!("/proc/{}/exe", state["pid"])).unwrap();
    user.brig(&["delete", "--force", &user.sandbox.id]).ok();
    exe.to_str().unwrap().to_string()
}

#[test]
fn cve_2019_5736_an_unprivileged_users_own_brig_is_sealed() {
    brig_only!();
    as_user(true, |user| {
        user.sandbox.script("true");
        let runtime = crate::sandbox::runtime();
        for (name, uid, mode) in [("own", 54_321, "755"), ("everybodys", 0, "777")] {
            let path = format!("/mnt/{name}");
            crate::sandbox::copy_program(&runtime, path.as_ref());
            let changed = Command::new("chmod").args([mode, &path]).status().unwrap();
            assert!(changed.success());
            std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
            assert_eq!(executable(user, &path), "/memfd:brig (deleted)", "{name}");
        }
        // root's, to which the container cannot write
        assert!(executable(user, "/mnt/brig").ends_with("/brig"));
    });
}
