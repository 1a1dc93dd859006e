//! Bind mounts whose source or destination is named by a path of the container's root filesystem on the host.

use super::binds::{add, in_user_namespace};
use crate::facts::Facts;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A directory with a file and a subdirectory with a file.
pub(super) fn volume(sandbox: &Sandbox) -> PathBuf {
    let volume = sandbox.dir.join("volume");
    fs::create_dir_all(volume.join("dir")).unwrap();
    fs::write(volume.join("file"), "of the volume").unwrap();
    fs::write(volume.join("dir/file"), "deeper").unwrap();
    volume
}

#[test]
fn a_source_can_be_what_an_earlier_mount_puts_into_the_root_filesystem() {
    for user in [false, true] {
        let sandbox = Sandbox::new();
        if user {
            brig_only!();
            in_user_namespace(&sandbox);
        }
        let (volume, root) = (volume(&sandbox), sandbox.rootfs());
        let bind = |to: &str, source: &str, option: &str| json!({"destination": to, "source": root.join(source), "options": ["rbind", option]});
        fs::create_dir(root.join("early")).unwrap();
        add(
            &sandbox,
            &[
                json!({"destination": "/early", "source": volume, "options": ["bind"]}),
                bind("/mnt/dir", "early/dir", "ro"),
                bind("/mnt/file", "early/file", "rw"),
                json!({"destination": "/tmp", "type": "tmpfs", "options": ["nosuid"]}),
                bind("/mnt/memory", "tmp", "nodev"),
                json!({"destination": "/mnt/relative", "source": "rootfs/early/dir/", "options": ["bind"]}),
            ],
        );
        let facts = sandbox.facts(
            "read /mnt/dir/file ; read /mnt/file ; read /mnt/relative/file ; mounts ; \
             write /tmp/new x ; read /mnt/memory/new",
        );
        assert_eq!(facts.get("read /mnt/dir/file"), r#""deeper""#);
        assert_eq!(facts.get("read /mnt/file"), r#""of the volume""#);
        assert_eq!(facts.get("read /mnt/relative/file"), r#""deeper""#);
        assert_eq!(facts.get("read /mnt/memory/new"), r#""x""#);
        assert_eq!(facts.mount("/mnt/memory").fstype, "tmpfs");
        assert!(facts.mount("/mnt/dir").has("ro"), "{facts}");
    }
}

#[test]
fn a_source_inside_the_root_filesystem_never_leads_out_of_it() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (volume, root) = (volume(&sandbox), sandbox.rootfs());
    symlink(&volume, root.join("out")).unwrap();
    symlink("/etc", root.join("in")).unwrap();
    sandbox.add_file("etc/file", "of the image");
    let plain = sandbox.config();
    let bind = |source: &str| json!({"destination": "/mnt", "source": root.join(source), "options": ["bind"]});
    for source in ["out", "out/dir", "in/nothing"] {
        add(&sandbox, &[bind(source)]);
        let said = sandbox.create_with(&[]).fails();
        let place = "].source (config.json line";
        assert!(
            said.contains(place) && said.contains("No such file or directory"),
            "{source}: {said}"
        );
        sandbox.assert_nothing_left();
        sandbox.write_config(&plain);
    }
    add(&sandbox, &[bind("in")]);
    assert_eq!(sandbox.facts("read /mnt/file").get("read /mnt/file"), r#""of the image""#);
}

#[test]
fn a_source_inside_the_root_filesystem_can_be_id_mapped() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (volume, root) = (volume(&sandbox), sandbox.rootfs());
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    add(
        &sandbox,
        &[
            json!({"destination": "/tmp", "source": volume, "options": ["bind"]}),
            json!({"destination": "/mnt", "source": root.join("tmp/dir"), "options": ["bind", "idmap"],
                   "uidMappings": map, "gidMappings": map}),
        ],
    );
    let facts = sandbox.facts("stat /mnt/file ; stat /tmp/dir/file");
    assert_eq!(facts.number("stat /mnt/file", 2), 1000, "{facts}");
    assert_eq!(facts.number("stat /tmp/dir/file", 2), 0, "{facts}");
}

#[test]
fn a_destination_that_begins_with_the_root_filesystems_path_means_the_remainder() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (volume, root) = (volume(&sandbox), sandbox.rootfs());
    let root = root.to_str().unwrap();
    let beside = format!("{root}-beside/x");
    let tmpfs = |to: &str| json!({"destination": to, "type": "tmpfs", "source": "tmpfs"});
    add(
        &sandbox,
        &[
            json!({"destination": format!("{root}/mnt/bind"), "source": volume, "options": ["bind"]}),
            tmpfs(&format!("/.{root}/x/..//mnt/tmpfs/")),
            tmpfs(&root[1..]),
            tmpfs(&beside),
        ],
    );
    let said = sandbox.create_with(&[]).fails();
    assert!(said.contains("is the container's root"), "{said}");
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != root[1..]);
    });
    let facts = sandbox.facts("mounts ; read /mnt/bind/file");
    assert_eq!(facts.get("read /mnt/bind/file"), r#""of the volume""#);
    for target in ["/mnt/tmpfs", &beside] {
        assert_eq!(facts.mount(target).fstype, "tmpfs");
    }
    let refused = format!("{root}/proc/self/attr");
    add(&sandbox, &[tmpfs(&refused)]);
    sandbox.create_with(&[]).fails_with("is inside /proc");
}

#[test]
fn mounts_of_a_running_container_know_its_root_filesystem_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (volume, root) = (volume(&sandbox), sandbox.rootfs());
    fs::create_dir_all(root.join("later")).unwrap();
    fs::create_dir_all(root.join("again")).unwrap();
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let file = sandbox.dir.join("mounts.json");
    let mounts = json!([
        {"destination": root.join("later"), "source": volume, "options": ["bind", "ro"]},
        {"destination": "/again", "source": root.join("later/dir"), "options": ["bind"]},
    ]);
    fs::write(&file, mounts.to_string()).unwrap();
    let call = |action| sandbox.brig(&["mounts", action, &sandbox.id, file.to_str().unwrap()]);
    let read = || {
        let done = sandbox.brig(&["exec", &sandbox.id, "/init", "read", "/again/file"]);
        Facts::parse(&done.ok().stdout)
    };
    call("add").ok();
    assert_eq!(read().get("read /again/file"), r#""deeper""#);
    call("remove").ok();
    assert_eq!(read().get("read /again/file"), "ENOENT");
}

#[test]
fn a_link_in_the_root_filesystem_is_copied_or_mounted_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    symlink("where", sandbox.rootfs().join("etc/link")).unwrap();
    sandbox.add_file("etc/file", "mounted");
    let bind = |source: &str, to: &str, option: &str| json!({"destination": to, "source": sandbox.rootfs().join(source), "options": ["bind", option]});
    let mounts = [
        bind("etc/link", "/etc/copied", "copy-symlink"),
        bind("etc/file", "/etc/plain", "copy-symlink"),
        bind("etc/link", "/etc/itself", "src-nofollow"),
    ];
    sandbox.patch(|config| config["mounts"].as_array_mut().unwrap().extend(mounts));
    let facts = sandbox.facts("link /etc/copied ; link /etc/itself ; read /etc/plain");
    assert_eq!((facts.get("link /etc/copied"), facts.get("link /etc/itself")), ("where", "where"));
    assert_eq!(facts.get("read /etc/plain"), r#""mounted""#);
}
