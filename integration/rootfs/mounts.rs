//! root, mounts, propagation and pivot: visible in the container, and nothing of it on the host.

use crate::host;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

/// The default configuration with additional mounts.
fn with_mounts(mounts: &[Value]) -> Sandbox {
    let sandbox = Sandbox::new();
    add_mounts(&sandbox, mounts);
    sandbox
}

fn add_mounts(sandbox: &Sandbox, mounts: &[Value]) {
    sandbox.patch(|config| config["mounts"].as_array_mut().unwrap().extend_from_slice(mounts));
}

/// A directory of the sandbox to mount from, with one file in it.
fn source(sandbox: &Sandbox, name: &str) -> String {
    let dir = sandbox.dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), format!("in {name}")).unwrap();
    dir.to_str().unwrap().to_string()
}

#[test]
fn the_default_mounts_are_there_in_order_with_their_options() {
    let facts = Sandbox::new().facts("mounts");
    let targets: Vec<String> = facts.mounts().iter().map(|mount| mount.target.clone()).collect();
    let order: Vec<&str> =
        ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup"]
            .into();
    let found: Vec<&str> =
        targets.iter().map(String::as_str).filter(|target| order.contains(target)).collect();
    assert_eq!(found, order);
    for (target, fstype, options) in [
        ("/proc", "proc", &["rw"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let mount = facts.mount(target);
        assert_eq!(mount.fstype, fstype, "{target}");
        for option in options {
            assert!(mount.has(option), "{option} is not in {mount:?}");
        }
    }
    // strictatime is the absence of any atime option.
    assert!(!facts.mount("/dev").has("relatime") && !facts.mount("/dev").has("noatime"));
}

#[test]
fn binds_stand_among_other_mounts_where_the_config_lists_them() {
    let sandbox = Sandbox::new();
    let one = source(&sandbox, "one");
    let bind = |to: &str| json!({"destination": to, "source": one, "options": ["rbind"]});
    let tmpfs = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs"});
    add_mounts(&sandbox, &[bind("/mnt/a"), tmpfs("/mnt/b"), bind("/mnt/c"), tmpfs("/mnt/d")]);
    let facts = sandbox.facts("mounts");
    let targets = facts.mounts().into_iter().map(|mount| mount.target);
    let found: Vec<String> = targets.filter(|target| target.starts_with("/mnt/")).collect();
    assert_eq!(found, ["/mnt/a", "/mnt/b", "/mnt/c", "/mnt/d"]);
}

#[test]
fn nothing_of_a_container_shows_in_the_hosts_mounts() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    add_mounts(
        &sandbox,
        &[json!({"destination": "/mnt", "source": outside, "options": ["rbind", "rw"]})],
    );
    sandbox.script("sleep 60").create();
    let here = sandbox.dir.to_str().unwrap();
    let visible = |when: &str| {
        let mounts = host::mounts();
        assert!(mounts.iter().all(|mount| !mount.target.starts_with(here)), "{when}");
    };
    visible("created");
    sandbox.start();
    visible("running");
}

#[test]
fn the_container_does_not_see_the_hosts_mounts() {
    let facts = Sandbox::new().facts("mounts ; stat /work");
    assert_eq!(facts.mounts()[0].target, "/");
    let host = host::mounts().into_iter().filter(|mount| mount.fstype == "ext4").count();
    assert!(host > 0);
    assert_eq!(facts.mounts().iter().filter(|mount| mount.fstype == "ext4").count(), 1, "{facts}");
    assert_eq!(facts.get("stat /work"), "ENOENT");
}

#[test]
fn without_a_pivot_the_container_sees_the_same() {
    let sandbox = Sandbox::new();
    sandbox.script("list / ; stat /work ; write /tmp/x yes ; cwd");
    let facts = crate::facts::Facts::parse(&sandbox.run_with(&["--no-pivot"]).ok().stdout);
    assert_eq!(facts.get("stat /work"), "ENOENT");
    assert!(facts.all("entry /").contains(&"init"), "{facts}");
    assert_eq!(facts.get("cwd"), "/");
    assert_eq!(fs::read_to_string(sandbox.rootfs().join("tmp/x")).unwrap(), "yes");
    sandbox.assert_nothing_left();
}

#[test]
fn the_root_may_be_absolute() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["path"] = json!(sandbox.rootfs()));
    sandbox.facts("true");
}

#[test]
fn a_readonly_root_cannot_be_written_but_its_mounts_can() {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["readonly"] = json!(true));
    let facts = sandbox.facts("write /tmp/x no ; write /dev/shm/x yes ; mounts");
    assert_eq!(facts.get("write /tmp/x"), "EROFS");
    assert_eq!(facts.get("write /dev/shm/x"), "ok");
    assert!(facts.mount("/").options.contains(&"ro".to_string()));
    // Only the container's view of it: the directory itself stays writable.
    fs::write(sandbox.rootfs().join("tmp/y"), "").unwrap();
}

#[test]
fn binds_take_their_options() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    let bind = |to: &str, options: &[&str]| json!({"destination": to, "type": "bind", "source": outside, "options": options});
    add_mounts(
        &sandbox,
        &[
            bind("/mnt/rw", &["bind"]),
            bind("/mnt/ro", &["bind", "ro"]),
            bind("/mnt/safe", &["rbind", "nosuid", "nodev", "noexec", "noatime"]),
            bind("/mnt/strict", &["bind", "strictatime"]),
            bind("/mnt/rel", &["rbind", "rw", "relatime", "nodiratime"]),
        ],
    );
    let facts =
        sandbox.facts("mounts ; read /mnt/rw/file ; write /mnt/rw/new x ; write /mnt/ro/new x");
    assert_eq!(facts.get("read /mnt/rw/file"), "\"in outside\"");
    assert_eq!(facts.get("write /mnt/rw/new"), "ok");
    assert_eq!(facts.get("write /mnt/ro/new"), "EROFS");
    assert_eq!(fs::read_to_string(sandbox.dir.join("outside/new")).unwrap(), "x");
    for (target, have) in [
        ("/mnt/rw", &["rw"][..]),
        ("/mnt/ro", &["ro"]),
        ("/mnt/safe", &["rw", "nosuid", "nodev", "noexec", "noatime"]),
        ("/mnt/rel", &["rw", "relatime", "nodiratime"]),
    ] {
        for option in have {
            assert!(
                facts.mount(target).options.contains(&option.to_string()),
                "{option}: {:?}",
                facts.mount(target)
            );
        }
    }
    for atime in ["relatime", "noatime"] {
        assert!(!facts.mount("/mnt/strict").has(atime), "{:?}", facts.mount("/mnt/strict"));
    }
}

#[test]
fn a_bind_without_its_type_is_a_bind() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    add_mounts(
        &sandbox,
        &[json!({"destination": "/mnt", "source": outside, "options": ["rbind", "rprivate"]})],
    );
    assert_eq!(sandbox.facts("read /mnt/file").get("read /mnt/file"), "\"in outside\"");
}

#[test]
fn a_file_is_bound_onto_a_file_that_is_made_for_it() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    add_mounts(
        &sandbox,
        &[
            json!({"destination": "/etc/new/file", "source": format!("{outside}/file"), "options": ["bind", "ro"]}),
        ],
    );
    let facts = sandbox.facts("read /etc/new/file ; append /etc/new/file x");
    assert_eq!(facts.get("read /etc/new/file"), "\"in outside\"");
    assert_eq!(facts.get("append /etc/new/file"), "EROFS");
}

#[test]
fn rbind_brings_submounts_and_bind_does_not() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    let sub = sandbox.dir.join("outside/sub");
    fs::create_dir(&sub).unwrap();
    let none = None::<&str>;
    nix::mount::mount(Some("tmpfs"), &sub, Some("tmpfs"), nix::mount::MsFlags::empty(), none)
        .unwrap();
    fs::write(sub.join("below"), "").unwrap();
    for (to, option) in [("/mnt/one", "bind"), ("/mnt/all", "rbind")] {
        add_mounts(&sandbox, &[json!({"destination": to, "source": outside, "options": [option]})]);
    }
    let done = sandbox.script("list /mnt/one/sub ; list /mnt/all/sub").run();
    nix::mount::umount(&sub).unwrap();
    let facts = crate::facts::Facts::parse(&done.ok().stdout);
    assert_eq!(facts.get("list /mnt/one/sub"), "0");
    assert_eq!(facts.get("list /mnt/all/sub"), "1");
}

#[test]
fn a_relative_source_is_relative_to_the_bundle() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.bundle().join("data")).unwrap();
    fs::write(sandbox.bundle().join("data/file"), "here").unwrap();
    add_mounts(&sandbox, &[json!({"destination": "/mnt", "source": "data", "options": ["bind"]})]);
    assert_eq!(sandbox.facts("read /mnt/file").get("read /mnt/file"), "\"here\"");
}

#[test]
fn mounts_are_made_in_the_order_in_which_they_are_listed() {
    let sandbox = Sandbox::new();
    let (one, two) = (source(&sandbox, "one"), source(&sandbox, "two"));
    fs::create_dir(sandbox.dir.join("one/sub")).unwrap();
    add_mounts(
        &sandbox,
        &[
            json!({"destination": "/mnt/sub", "source": two, "options": ["bind"]}),
            json!({"destination": "/mnt", "source": one, "options": ["bind"]}),
            json!({"destination": "/mnt/sub", "type": "tmpfs", "source": "tmpfs"}),
        ],
    );
    let facts = sandbox.facts("read /mnt/file ; list /mnt/sub ; mounts");
    assert_eq!(facts.get("read /mnt/file"), "\"in one\"");
    assert_eq!(facts.get("list /mnt/sub"), "0");
    let order: Vec<String> =
        facts.mounts().into_iter().map(|m| m.target).filter(|t| t.starts_with("/mnt")).collect();
    assert_eq!(order, ["/mnt/sub", "/mnt", "/mnt/sub"]);
}

#[test]
fn a_tmpfs_takes_size_mode_and_ids() {
    let sandbox = with_mounts(&[json!({
        "destination": "/mnt/small", "type": "tmpfs", "source": "scratch",
        "options": ["nosuid", "size=128k", "mode=1750", "uid=7", "gid=9"]
    })]);
    let facts =
        sandbox.facts("mounts ; stat /mnt/small ; statfs /mnt/small ; fill /mnt/small/x 1000000");
    assert_eq!(facts.mount("/mnt/small").source, "scratch");
    assert!(facts.get("stat /mnt/small").starts_with("dir 1750 7 9"), "{facts}");
    assert!(facts.get("statfs /mnt/small").ends_with("size 131072"), "{facts}");
    assert_eq!(facts.get("fill /mnt/small/x"), "131072 ENOSPC");
}

#[test]
fn a_mode_within_a_longer_option_counts_more_than_that_of_the_directory() {
    let sandbox = with_mounts(&[json!({
        "destination": "/mnt", "type": "tmpfs", "options": ["size=128k,mode=1750", "acl", "noacl"]
    })]);
    let facts = sandbox.facts("stat /mnt ; statfs /mnt");
    assert!(facts.get("stat /mnt").starts_with("dir 1750"), "{facts}");
    assert!(facts.get("statfs /mnt").ends_with("size 131072"), "{facts}");
}

#[test]
fn a_bind_mount_takes_what_runc_has_for_acls() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    let options = ["rbind", "acl", "noacl", "ro"];
    add_mounts(
        &sandbox,
        &[json!({"destination": "/mnt/x", "source": outside, "options": options})],
    );
    let done = sandbox.script("mounts").run().ok();
    assert!(!done.stderr.contains("acl"), "{done:?}");
}

#[test]
fn propagation_is_set_on_each_mount() {
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    for (to, option) in [
        ("/mnt/p", "rprivate"),
        ("/mnt/s", "shared"),
        ("/mnt/sl", "rslave"),
        ("/mnt/u", "unbindable"),
    ] {
        add_mounts(
            &sandbox,
            &[json!({"destination": to, "source": outside, "options": ["rbind", option]})],
        );
    }
    let facts = sandbox.facts("mounts");
    let tags = |target: &str| facts.mount(target).propagation.join(" ");
    assert_eq!(tags("/mnt/p"), "");
    assert!(tags("/mnt/s").starts_with("shared:"), "{facts}");
    assert_eq!(tags("/mnt/u"), "unbindable");
}

#[test]
fn the_roots_propagation_is_as_configured() {
    for (option, tag) in
        [("private", ""), ("rslave", ""), ("shared", "shared:"), ("unbindable", "unbindable")]
    {
        if !tag.is_empty() && crate::sandbox::is_peer() {
            // If the host's mounts are private, as here, runc 1.1 supports neither.
            continue;
        }
        let sandbox = Sandbox::new();
        sandbox.patch(|config| config["linux"]["rootfsPropagation"] = json!(option));
        let facts = sandbox.facts("mounts");
        let tags = facts.mount("/").propagation.join(" ");
        // This process's mounts are private: a slave of a private mount is private.
        assert!(tags.starts_with(tag) && tags.is_empty() == tag.is_empty(), "{option}: {tags:?}");
    }
}

#[test]
fn a_destination_never_leaves_the_root() {
    let sandbox = Sandbox::new();
    let (inside, outside) = (source(&sandbox, "inside"), sandbox.dir.join("outside"));
    fs::create_dir(&outside).unwrap();
    symlink(&outside, sandbox.rootfs().join("absolute")).unwrap();
    symlink(
        "../../../../../../../../../../..".to_string() + outside.to_str().unwrap(),
        sandbox.rootfs().join("climbing"),
    )
    .unwrap();
    for to in ["/absolute/made", "/climbing/made", "/../../../made"] {
        add_mounts(&sandbox, &[json!({"destination": to, "source": inside, "options": ["bind"]})]);
    }
    let done = sandbox.script("mounts").run();
    assert_eq!(
        fs::read_dir(&outside).unwrap().count(),
        0,
        "something was made outside of the root"
    );
    assert!(!sandbox.dir.join("made").exists() && !sandbox.bundle().join("made").exists());
    // Refusing is as good as resolving the links inside the root.
    if done.code == Some(0) {
        let facts = crate::facts::Facts::parse(&done.stdout);
        assert!(facts.mounts().iter().all(|mount| mount.target.starts_with('/')));
    }
}

#[test]
fn a_proc_that_is_a_symlink_is_refused() {
    let sandbox = Sandbox::minimal();
    fs::remove_dir(sandbox.rootfs().join("proc")).unwrap();
    fs::create_dir(sandbox.rootfs().join("fake")).unwrap();
    symlink("fake", sandbox.rootfs().join("proc")).unwrap();
    sandbox.create_with(&[]).fails_with("/proc");
    sandbox.assert_nothing_left();
}

#[test]
fn filesystem_options_are_refused_on_a_bind() {
    brig_only!();
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    add_mounts(
        &sandbox,
        &[json!({"destination": "/mnt", "source": outside, "options": ["bind", "noexce"]})],
    );
    sandbox.create_with(&[]).fails_with("noexce");
    sandbox.assert_nothing_left();
}

#[test]
fn the_cgroup_mount_shows_the_containers_own_cgroups() {
    let sandbox = Sandbox::new();
    let facts = sandbox.facts("mounts ; list /sys/fs/cgroup");
    assert!(
        facts
            .mounts()
            .iter()
            .any(|mount| mount.target.starts_with("/sys/fs/cgroup") && mount.has("ro")),
        "{facts}"
    );
    for (controllers, path) in host::hierarchies() {
        let Some(name) = path.file_name().filter(|_| controllers.iter().any(|c| c == "memory"))
        else {
            continue;
        };
        let inside = format!("/sys/fs/cgroup/{}", name.display());
        let facts = sandbox.facts(&format!("list {inside} ; mkdir {inside}/x"));
        assert!(
            facts.all(&format!("entry {inside}")).contains(&"memory.limit_in_bytes"),
            "{facts}"
        );
        assert!(
            !facts.0.iter().any(|line| line.contains(&sandbox.id)),
            "the host's tree is visible: {facts}"
        );
        assert_eq!(facts.get(&format!("mkdir {inside}/x")), "EROFS");
    }
}

#[test]
fn a_leftover_mount_of_the_host_is_not_needed_for_a_root_that_is_a_mount_point() {
    let sandbox = Sandbox::new();
    let rootfs = sandbox.rootfs();
    let none = None::<&str>;
    nix::mount::mount(Some(&rootfs), &rootfs, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
    let done = sandbox.script("say hello").run();
    nix::mount::umount(&rootfs).unwrap();
    assert_eq!(done.ok().stdout, "hello\n");
}

#[test]
fn a_kernel_without_openat2_makes_no_difference() {
    brig_only!();
    let sandbox = Sandbox::new();
    let outside = source(&sandbox, "outside");
    symlink("/etc", sandbox.rootfs().join("link")).unwrap();
    let bind = |to: &str| json!({"destination": to, "source": outside, "options": ["bind", "ro"]});
    add_mounts(&sandbox, &[bind("/link/made"), bind("/new/deep")]);
    let bundle = sandbox.script("read /etc/made/file ; read /new/deep/file ; mounts").bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    crate::sandbox::before_exec(&mut command, || crate::tracer::without_syscall(libc::SYS_openat2));
    let facts = crate::facts::Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    for path in ["/etc/made/file", "/new/deep/file"] {
        assert_eq!(facts.get(&format!("read {path}")), "\"in outside\"");
    }
    assert_eq!(facts.mount("/etc/made").fstype, facts.mount("/").fstype);
}

#[test]
fn a_sparse_file_is_copied_as_one() {
    brig_only!();
    let sandbox = with_mounts(&[json!(
        {"destination": "/data", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "size=16m"]}
    )]);
    let data = sandbox.rootfs().join("data");
    fs::create_dir(&data).unwrap();
    let file = fs::File::create(data.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"here", 700 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"there", 64 << 20).unwrap();
    file.set_len(2 << 30).unwrap();
    fs::File::create(data.join("hole")).unwrap().set_len(1 << 30).unwrap();
    fs::write(data.join("empty"), "").unwrap();
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let copies = std::path::PathBuf::from(format!("/proc/{}/root/data", sandbox.pid()));
    let copy = fs::File::open(copies.join("sparse")).unwrap();
    assert_eq!(copy.metadata().unwrap().len(), 2 << 30);
    for (offset, text) in [(700 << 20, "here\0"), (64 << 20, "there"), (100, "\0\0\0\0\0")] {
        let mut found = [1; 5];
        std::os::unix::fs::FileExt::read_exact_at(&copy, &mut found, offset).unwrap();
        assert_eq!(found, text.as_bytes(), "{offset}");
    }
    let blocks = |name: &str| {
        std::os::unix::fs::MetadataExt::blocks(&fs::metadata(copies.join(name)).unwrap())
    };
    assert!(blocks("sparse") < 2048, "{} blocks", blocks("sparse"));
    assert_eq!((blocks("hole"), blocks("empty")), (0, 0));
    assert_eq!(fs::metadata(copies.join("hole")).unwrap().len(), 1 << 30);
}

#[test]
fn links_that_are_sources_and_destinations_are_copied_mounted_or_mounted_on() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (link, file) = (sandbox.dir.join("link"), sandbox.dir.join("file"));
    symlink("where", &link).unwrap();
    fs::write(&file, "mounted").unwrap();
    sandbox.add_file("etc/real", "real");
    symlink("real", sandbox.rootfs().join("etc/destination")).unwrap();
    symlink("where", sandbox.rootfs().join("etc/there")).unwrap();
    let bind = |source: &std::path::Path, to: &str, option: &str| json!({"destination": to, "source": source, "options": ["bind", option]});
    add_mounts(
        &sandbox,
        &[
            bind(&link, "/etc/copied", "copy-symlink"),
            bind(&link, "/etc/there", "copy-symlink"),
            bind(&file, "/etc/plain", "copy-symlink"),
            bind(&link, "/etc/itself", "src-nofollow"),
            bind(&file, "/etc/destination", "dest-nofollow"),
        ],
    );
    let facts = sandbox.facts(
        "link /etc/copied ; link /etc/there ; read /etc/plain ; link /etc/itself ; \
         read /etc/destination ; read /etc/real",
    );
    for path in ["copied", "there", "itself"] {
        assert_eq!(facts.get(&format!("link /etc/{path}")), "where", "{facts}");
    }
    assert_eq!(facts.get("read /etc/plain"), r#""mounted""#);
    assert_eq!(facts.get("read /etc/destination"), r#""mounted""#);
    assert_eq!(facts.get("read /etc/real"), r#""real""#);
}
