//! The default devices and links in /dev, masked and read-only paths.

use crate::cgroups::seeing;
use crate::facts::Facts;
use crate::freeze::views;
use crate::host;
use crate::sandbox::{Sandbox, brig_only, copy_program, is_peer};
use serde_json::json;
use std::fs;

#[test]
fn the_default_devices_are_there_and_work() {
    let names = ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"];
    let script: Vec<String> =
        names.iter().map(|name| format!("stat /dev/{}", name.split(' ').next().unwrap())).collect();
    let facts = Sandbox::new().facts(&format!(
        "{} ; open /dev/null rw ; open /dev/zero r ; open /dev/urandom r ; open /dev/full w",
        script.join(" ; ")
    ));
    for name in names {
        let (name, device) = name.split_once(' ').unwrap();
        assert_eq!(facts.get(&format!("stat /dev/{name}")), format!("char 0666 0 0 {device} 0"));
    }
    for name in ["null", "zero", "urandom", "full"] {
        assert_eq!(facts.get(&format!("open /dev/{name}")), "ok");
    }
}

#[test]
fn devices_are_there_as_configured() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 9},
            {"path": "/dev/below/unbuffered", "type": "u", "major": 1, "minor": 5},
            {"path": "/dev/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
            // The same as one of the default devices.
            {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5},
        ]);
    });
    let facts = sandbox.facts(
        "stat /dev/mine ; stat /dev/below/unbuffered ; stat /dev/disk ; stat /dev/pipe ; \
         stat /dev/zero ; open /dev/mine rw ; open /dev/below/unbuffered r ; open /dev/disk r",
    );
    assert_eq!(facts.get("stat /dev/mine"), "char 0640 7 9 1:3 0");
    assert!(facts.get("stat /dev/below/unbuffered").starts_with("char 06"), "{facts}");
    assert!(facts.get("stat /dev/below/unbuffered").ends_with(" 0 0 1:5 0"), "{facts}");
    assert_eq!(facts.get("stat /dev/disk"), "block 0600 0 0 7:99 0");
    assert_eq!(facts.get("stat /dev/pipe"), "fifo 0622 0 0 0:0 0");
    assert!(facts.get("stat /dev/zero").ends_with(" 0 0 1:5 0"), "{facts}");
    assert_eq!(facts.get("open /dev/mine"), "ok");
    assert_eq!(facts.get("open /dev/below/unbuffered"), "ok");
    // Existing does not mean that it is permitted: that is decided by rules.
    assert_eq!(facts.get("open /dev/disk"), "EPERM");
}

#[test]
fn the_default_links_are_there() {
    let facts = Sandbox::new().facts("link /dev/fd ; link /dev/stdin ; link /dev/stdout ; link /dev/stderr ; link /dev/ptmx ; open /dev/ptmx rw");
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        assert_eq!(facts.get(&format!("link /dev/{name}")), to);
    }
    assert_eq!(facts.get("open /dev/ptmx"), "ok");
}

#[test]
fn a_new_pty_belongs_to_the_container() {
    // A new devpts instance: it contains no terminals of the host.
    let facts = Sandbox::new().facts("list /dev/pts");
    assert_eq!(facts.all("entry /dev/pts"), ["ptmx"]);
}

#[test]
fn a_dev_that_is_bound_from_the_host_is_left_alone() {
    let sandbox = Sandbox::new();
    let dev = sandbox.dir.join("dev");
    fs::create_dir(&dev).unwrap();
    let null = nix::sys::stat::makedev(1, 3);
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&dev.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({"destination": "/dev", "source": dev, "options": ["rbind", "rw"]}));
    });
    sandbox.facts("true");
    assert_eq!(fs::read_dir(&dev).unwrap().count(), 1);
}

#[test]
fn device_access_is_limited_to_the_defaults() {
    // Without rules, a container still gets only the default devices.
    for rules in [json!([{"allow": false, "access": "rwm"}]), json!([]), json!(null)] {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            if is_peer() {
                return;
            }
            match rules.is_null() {
                true => {
                    drop(config["linux"]["resources"].as_object_mut().unwrap().remove("devices"))
                }
                false => config["linux"]["resources"]["devices"] = rules.clone(),
            }
        });
        let facts = sandbox.facts(
            "mknod /tmp/null c 1 3 ; open /tmp/null rw ; mknod /tmp/mem c 1 1 ; open /tmp/mem r ; \
             mknod /tmp/disk b 254 0 ; open /tmp/disk r ; mknod /tmp/fuse c 10 229 ; open /tmp/fuse rw ; \
             mknod /tmp/console c 5 1 ; open /tmp/console r",
        );
        assert_eq!(facts.get("open /tmp/null"), "ok");
        for name in ["mem", "disk", "fuse", "console"] {
            // A device that may be created (runc's defaults allow mknod of anything) may still not be opened.
            assert!(
                ["EPERM", "ENOENT"].contains(&facts.get(&format!("open /tmp/{name}"))),
                "{rules}: {facts}"
            );
        }
        for node in ["null", "mem", "disk", "fuse", "console"] {
            // Must not stay, whoever created it.
            _ = fs::remove_file(sandbox.rootfs().join("tmp").join(node));
        }
    }
}

#[test]
fn a_device_that_a_rule_allows_can_be_opened() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        config["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}
        ]);
    });
    let facts = sandbox.facts("mknod /tmp/kmsg c 1 11 ; open /tmp/kmsg r ; open /tmp/kmsg w");
    // CAP_SYSLOG is missing: the driver may return EPERM for reading; the rule is checked first.
    let opened = facts.all("open /tmp/kmsg");
    assert_eq!(opened[1], "EPERM", "{facts}");
    if opened[0] != "ok" {
        crate::sandbox::skip("the host's /dev/kmsg cannot be read without CAP_SYSLOG");
    }
}

#[test]
fn masked_files_are_empty_and_masked_directories_too() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/secret", "a secret");
    sandbox.add_file("etc/secrets/one", "a secret");
    sandbox.add_file("etc/secrets2/two", "a secret");
    sandbox.patch(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/etc/secret", "/etc/secrets", "/etc/secrets2", "/no/such", "/proc/keys"]);
    });
    let facts = sandbox.facts(
        "read /etc/secret ; stat /etc/secret ; list /etc/secrets ; list /etc/secrets2 ; \
         mkdir /etc/secrets/x ; read /proc/keys ; umount /etc/secrets",
    );
    assert_eq!(facts.get("read /etc/secret"), "\"\"");
    assert!(facts.get("stat /etc/secret").starts_with("char 0666 0 0 1:3"), "{facts}");
    assert_eq!(facts.get("list /etc/secrets"), "0");
    assert_eq!(facts.get("list /etc/secrets2"), "0");
    assert_eq!(facts.get("mkdir /etc/secrets/x"), "EROFS");
    assert_eq!(facts.get("read /proc/keys"), "\"\"");
    assert_eq!(facts.get("umount /etc/secrets"), "EPERM");
    assert_eq!(fs::read_to_string(sandbox.rootfs().join("etc/secret")).unwrap(), "a secret");
}

#[test]
fn masked_directories_share_one_empty_filesystem() {
    crate::sandbox::brig_only!();
    let sandbox = Sandbox::new();
    for name in ["a", "b", "c"] {
        fs::create_dir_all(sandbox.rootfs().join("masked").join(name)).unwrap();
    }
    sandbox.patch(|config| {
        config["linux"]["maskedPaths"] = json!(["/masked/a", "/masked/b", "/masked/c"])
    });
    let facts = sandbox.facts("mounts");
    let devices: std::collections::BTreeSet<String> = facts
        .all("mount")
        .into_iter()
        .filter(|line| line.contains(" /masked/"))
        .map(|line| line.split(' ').nth(2).unwrap().to_string())
        .collect();
    assert_eq!(devices.len(), 1, "{facts}");
}

#[test]
fn readonly_paths_cannot_be_written() {
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/fixed/file", "fixed");
    sandbox.patch(|config| {
        config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/proc/sys", "/no/such"]);
    });
    let facts = sandbox.facts("write /etc/fixed/file x ; read /etc/fixed/file ; write /proc/sys/kernel/msgmax 8192 ; mounts");
    assert_eq!(facts.get("write /etc/fixed/file"), "EROFS");
    assert_eq!(facts.get("read /etc/fixed/file"), "\"fixed\"");
    assert_eq!(facts.get("write /proc/sys/kernel/msgmax"), "EROFS");
    assert!(facts.mount("/proc/sys").has("ro"));
}

#[test]
fn a_readonly_path_can_be_the_root() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["readonlyPaths"] = json!(["/"]));
    let facts = sandbox.facts("write /etc/new x ; write /dev/null x");
    assert_eq!(facts.get("write /etc/new"), "EROFS");
    assert_eq!(facts.get("write /dev/null"), "ok");
}

/// An image can have a link to the root where a path is to be read-only: a mount over the root would not be seen.
#[test]
fn a_readonly_path_that_is_a_link_to_the_root_makes_that_read_only() {
    let sandbox = Sandbox::new();
    std::os::unix::fs::symlink("..", sandbox.rootfs().join("etc/up")).unwrap();
    sandbox.patch(|config| config["linux"]["readonlyPaths"] = json!(["/etc/up"]));
    let facts = sandbox.facts("write /etc/new x");
    assert_eq!(facts.get("write /etc/new"), "EROFS");
}

/// The same directory, mounted elsewhere, is not the root.
#[test]
fn a_mount_of_the_root_directory_is_masked_like_any_other() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let mount = json!({"destination": "/mnt", "source": sandbox.rootfs(), "options": ["bind"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
        config["linux"]["maskedPaths"] = json!(["/mnt"]);
    });
    let facts = sandbox.facts("list /mnt ; write /etc/new x");
    assert_eq!(facts.get("list /mnt"), "0");
    assert_eq!(facts.get("write /etc/new"), "ok");
}

#[test]
fn a_masked_path_that_is_a_link_masks_nothing_of_the_host() {
    let sandbox = Sandbox::new();
    let outside = sandbox.dir.join("outside");
    fs::write(&outside, "untouched").unwrap();
    std::os::unix::fs::symlink(&outside, sandbox.rootfs().join("etc/link")).unwrap();
    sandbox.patch(|config| {
        config["linux"]["maskedPaths"] = json!(["/etc/link"]);
        config["linux"]["readonlyPaths"] = json!(["/etc/link"]);
    });
    // Refused, or nothing masked: both are correct.
    sandbox.run();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    assert!(host::mounts().iter().all(|mount| mount.target != outside.to_str().unwrap()));
    sandbox.assert_nothing_left();
}

/// With v1's lists and with the program for cgroup2, as far as this host supports them.
#[test]
fn what_is_denied_is_not_allowed_again_by_the_default_devices() {
    for view in views() {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            config["linux"]["resources"]["devices"] = json!([
                {"allow": true, "access": "rwm"},
                {"allow": false, "type": "b", "major": 7, "access": "m"},
                {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "m"},
            ]);
        });
        sandbox.script("mknod /tmp/a b 7 200 ; mknod /tmp/b b 8 200 ; mknod /tmp/null c 1 3");
        let bundle = sandbox.bundle();
        let mut run = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        if !is_peer() {
            seeing(&mut run, view);
        }
        let facts = Facts::parse(&sandbox.spawn(run).wait().ok().stdout);
        assert_eq!(facts.get("mknod /tmp/a"), "EPERM", "{facts}");
        assert_eq!(facts.get("mknod /tmp/b"), "ok", "{facts}");
        // This device is one of the default ones.
        assert_eq!(facts.get("mknod /tmp/null"), "ok", "{facts}");
    }
}

#[test]
fn a_default_device_that_is_denied_with_others_is_refused_by_the_denials_place() {
    brig_only!();
    for view in views() {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            config["linux"]["resources"]["devices"] = json!([
                {"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 1, "access": "rwm"},
            ]);
        });
        let bundle = sandbox.bundle();
        let mut run = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        seeing(&mut run, view);
        let refused = sandbox.spawn(run).wait().fails_with("linux.resources.devices[1]");
        assert!(refused.contains("the default device c 1:3 rwm"), "{refused}");
        sandbox.assert_nothing_left();
    }
}

/// A container's /dev/console is a pty: the host's is not one of the default devices.
#[test]
fn the_hosts_console_can_be_denied() {
    for view in views() {
        let sandbox = Sandbox::new();
        sandbox.patch(|config| {
            config["linux"]["resources"]["devices"] = json!([
                {"allow": true, "access": "rwm"},
                {"allow": false, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
                {"allow": false, "type": "c", "minor": 1, "access": "w"},
            ]);
        });
        sandbox.script("mknod /tmp/console c 5 1");
        let bundle = sandbox.bundle();
        let mut run = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        if !is_peer() {
            seeing(&mut run, view);
        }
        let facts = Facts::parse(&sandbox.spawn(run).wait().ok().stdout);
        assert_eq!(facts.get("mknod /tmp/console"), "EPERM", "{facts}");
    }
}

#[test]
fn a_path_that_is_named_twice_is_hidden_once() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.add_file("etc/secret", "x");
    sandbox.add_file("etc/fixed", "x");
    fs::create_dir(sandbox.rootfs().join("hidden")).unwrap();
    std::os::unix::fs::symlink("hidden", sandbox.rootfs().join("etc/../link")).unwrap();
    sandbox.patch(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/hidden", "/etc/secret", "/hidden", "/etc/secret", "/link", "/etc/../hidden/"]);
        config["linux"]["readonlyPaths"] = json!(["/etc/fixed", "/etc//fixed"]);
    });
    let facts = sandbox.facts("mounts ; read /etc/secret ; list /hidden ; write /etc/fixed x");
    for path in ["/hidden", "/etc/secret", "/etc/fixed"] {
        let there = facts.mounts().iter().filter(|mount| mount.target == path).count();
        assert_eq!(there, 1, "{path}: {facts}");
    }
    assert_eq!(facts.get("read /etc/secret"), r#""""#);
    assert_eq!(facts.get("write /etc/fixed"), "EROFS");
}

/// A directory as the host's root: a brig that damages it damages nothing else.
fn in_a_chroot(sandbox: &Sandbox, root: &str, patch: impl FnOnce(&mut serde_json::Value)) -> bool {
    use nix::mount::{MsFlags, mount, umount2};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let host = sandbox.dir.join("host");
    fs::create_dir(&host).unwrap();
    let none = None::<&str>;
    mount(Some("host"), &host, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    for dir in ["dev", "proc", "sys", "tmp", "bundle"] {
        fs::create_dir(host.join(dir)).unwrap();
    }
    for (name, minor) in [("null", 3), ("zero", 5), ("ptmx", 2)] {
        let (mode, major) = (Mode::from_bits_truncate(0o640), if name == "ptmx" { 5 } else { 1 });
        let path = host.join("dev").join(name);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).unwrap();
    }
    copy_program(&crate::sandbox::runtime(), &host.join("brig"));
    copy_program(crate::sandbox::init(), &host.join("init"));
    std::os::unix::fs::symlink("/", host.join("link")).unwrap();
    mount(Some("proc"), &host.join("proc"), Some("proc"), MsFlags::empty(), none).unwrap();
    mount(Some("/sys"), &host.join("sys"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    sandbox.script("ids");
    sandbox.patch(|config| {
        config["root"]["path"] = json!(root);
        config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        patch(config);
    });
    fs::copy(sandbox.bundle().join("config.json"), host.join("bundle/config.json")).unwrap();
    let look = || {
        let mut names: Vec<String> = ["", "dev", "bundle"]
            .iter()
            .flat_map(|dir| fs::read_dir(host.join(dir)).unwrap())
            .map(|entry| {
                use std::os::unix::fs::MetadataExt;
                let entry = entry.unwrap();
                let stat = entry.metadata().unwrap();
                format!("{:?} {} {:o} {}", entry.path(), stat.ino(), stat.mode(), stat.rdev())
            })
            .collect();
        names.sort();
        names
    };
    let before = look();
    let mut command = std::process::Command::new("/brig");
    command.args(["--root", "/tmp/state", "run", "--bundle", "/bundle", &sandbox.id]);
    command.env_clear().env("BRIG_TEST", &sandbox.id);
    let path = std::ffi::CString::new(host.to_str().unwrap()).unwrap();
    crate::sandbox::before_exec(&mut command, move || {
        nix::unistd::chroot(path.as_c_str())?;
        Ok(nix::unistd::chdir(c"/")?)
    });
    let done = sandbox.spawn(command).wait();
    assert_eq!(look(), before, "{done:?}");
    umount2(&host, nix::mount::MntFlags::MNT_DETACH).unwrap();
    fs::remove_dir(&host).unwrap();
    assert!(done.code == Some(0) || done.stderr.contains("a directory of the host"), "{done:?}");
    done.code == Some(0)
}

/// As after chroot(1) into a directory.
#[test]
fn a_host_root_that_is_not_a_mount_point_is_an_error_that_says_so() {
    brig_only!();
    crate::rootless::in_own_mounts(|| {
        use nix::mount::{MntFlags, MsFlags, mount, umount2};
        let sandbox = Sandbox::new();
        let host = sandbox.dir.join("host");
        let (none, recursive) = (None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC);
        let dirs = ["proc", "sys", "bundle"].map(|name| host.join(name));
        dirs.iter().for_each(|dir| fs::create_dir_all(dir).unwrap());
        mount(Some("proc"), &dirs[0], Some("proc"), MsFlags::empty(), none).unwrap();
        mount(Some("/sys"), &dirs[1], none, recursive, none).unwrap();
        mount(Some(&sandbox.bundle()), &dirs[2], none, recursive, none).unwrap();
        copy_program(&crate::sandbox::runtime(), &host.join("brig"));
        sandbox.script("ids");
        for options in [&[][..], &["--no-pivot"]] {
            let mut command = std::process::Command::new("/brig");
            command.args(["--root", "/state", "run", "--bundle", "/bundle"]).args(options);
            command.arg(&sandbox.id).env_clear().env("BRIG_TEST", &sandbox.id);
            let path = std::ffi::CString::new(host.to_str().unwrap()).unwrap();
            crate::sandbox::before_exec(&mut command, move || {
                nix::unistd::chroot(path.as_c_str())?;
                Ok(nix::unistd::chdir(c"/")?)
            });
            sandbox.spawn(command).wait().fails_with("is not a mount point");
            assert_eq!(fs::read_dir(host.join("state")).unwrap().count(), 0);
        }
        dirs.iter().for_each(|dir| umount2(dir, MntFlags::MNT_DETACH).unwrap());
    });
}

#[test]
fn a_root_that_is_the_hosts_own_stays_as_it_is() {
    brig_only!();
    crate::rootless::in_own_mounts(|| {
        for root in ["/", "//.", "/link", "../"] {
            assert!(in_a_chroot(&Sandbox::new(), root, |_| ()), "{root}");
        }
        let mounts = json!([
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/tmp/below", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        ]);
        let own = |config: &mut serde_json::Value| config["mounts"] = mounts;
        assert!(in_a_chroot(&Sandbox::new(), "/", own), "in what is mounted new all can be made");
        let refused = |key: &str, index: &str, value: serde_json::Value| {
            let change = |config: &mut serde_json::Value| config[key][index] = value;
            assert!(!in_a_chroot(&Sandbox::new(), "/", change), "{key}");
        };
        refused("process", "cwd", json!("/not/there"));
        refused("linux", "devices", json!([{"path": "/x", "type": "p"}]));
        refused("linux", "devices", json!([{"path": "/dev/x/y", "type": "p"}]));
        let more = |config: &mut serde_json::Value| {
            config["mounts"] = json!([{"destination": "/new", "type": "tmpfs", "source": "t"}]);
        };
        assert!(!in_a_chroot(&Sandbox::new(), "/", more), "a mount point");
    });
}

#[test]
fn a_mount_takes_the_place_of_a_default_device() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.dir.join("file"), "mounted").unwrap();
    let file = sandbox.dir.join("file");
    sandbox.patch(|config| {
        let bind = |source: &std::path::Path, to: &str| json!({"destination": to, "type": "bind", "source": source, "options": ["bind"]});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(bind("/dev/urandom".as_ref(), "/dev/random"));
        mounts.push(bind(&file, "/dev/zero"));
    });
    let facts = sandbox.facts("stat /dev/random ; read /dev/zero ; stat /dev/null");
    assert!(facts.get("stat /dev/random").contains(" 1:9"), "{facts}");
    assert_eq!(facts.get("read /dev/zero"), "\"mounted\"");
    assert!(facts.get("stat /dev/null").contains(" 1:3"), "{facts}");
}
