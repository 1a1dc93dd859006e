//! Id-mapped mounts: the options `idmap` and `ridmap`, and `mounts[].uidMappings`.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, brig_only};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn map(container: u32, host: u32, size: u32) -> Value {
    json!([{"containerID": container, "hostID": host, "size": size}])
}

/// Files of root, of uid 5, and of uid 5000.
fn fill(dir: &Path) {
    for (name, id) in [("of-root", 0), ("of-5", 5), ("of-5000", 5000)] {
        fs::write(dir.join(name), name).unwrap();
        chown(&dir.join(name), Some(Uid::from_raw(id)), Some(Gid::from_raw(id))).unwrap();
    }
}

/// A directory on disk with such files.
fn on_disk(sandbox: &Sandbox) -> PathBuf {
    let dir = sandbox.dir.join("data");
    fs::create_dir(&dir).unwrap();
    fill(&dir);
    dir
}

/// A tmpfs with such files, unmounted at the end.
struct InMemory(PathBuf);

impl InMemory {
    fn below(dir: &Path) -> InMemory {
        let dir = dir.join("memory");
        fs::create_dir(&dir).unwrap();
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fill(&dir);
        InMemory(dir)
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Mounts `source` on /data with these options and both kinds of mappings.
fn with_data(sandbox: &Sandbox, source: &Path, options: &[&str], maps: Option<&Value>) {
    // Created here: root of a user namespace may not create it.
    fs::create_dir_all(sandbox.rootfs().join("data")).unwrap();
    sandbox.patch(|config| {
        let mut entry = json!({"destination": "/data", "source": source, "options": options});
        if let Some(maps) = maps {
            entry["uidMappings"] = maps.clone();
            entry["gidMappings"] = maps.clone();
        }
        config["mounts"].as_array_mut().unwrap().push(entry);
    });
}

fn in_user_namespace(sandbox: &Sandbox) {
    sandbox.patch(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["linux"]["uidMappings"] = map(0, 300_000, 1000);
        config["linux"]["gidMappings"] = map(0, 300_000, 1000);
    });
}

const STATS: &str = "stat /data/of-root ; stat /data/of-5 ; stat /data/of-5000";

/// The owners as seen by the container: of the files of root, 5 and 5000.
fn owners(facts: &Facts) -> [u64; 3] {
    ["of-root", "of-5", "of-5000"].map(|name| {
        let name = format!("stat /data/{name}");
        assert_eq!(facts.number(&name, 2), facts.number(&name, 3), "{facts}");
        facts.number(&name, 2)
    })
}

#[test]
fn files_have_the_ids_that_the_mount_maps_theirs_to() {
    let sandbox = Sandbox::new();
    let memory = InMemory::below(&sandbox.dir);
    for source in [&on_disk(&sandbox), &memory.0] {
        let plain = sandbox.config();
        with_data(&sandbox, source, &["bind", "idmap"], Some(&map(0, 1000, 10)));
        assert_eq!(owners(&sandbox.facts(STATS)), [1000, 1005, 65534]);
        sandbox.write_config(&plain);
        with_data(&sandbox, source, &["bind"], None);
        assert_eq!(owners(&sandbox.facts(STATS)), [0, 5, 5000]);
        sandbox.write_config(&plain);
    }
}

#[test]
fn what_is_written_has_the_filesystems_ids_on_disk() {
    let sandbox = Sandbox::new();
    let data = on_disk(&sandbox);
    chown(&data, Some(Uid::from_raw(7)), Some(Gid::from_raw(7))).unwrap();
    with_data(&sandbox, &data, &["bind", "idmap"], Some(&map(0, 1000, 10)));
    sandbox.patch(|config| config["process"]["user"] = json!({"uid": 1007, "gid": 1007}));
    sandbox.facts("write /data/new text");
    let written = fs::metadata(data.join("new")).unwrap();
    assert_eq!((written.uid(), written.gid()), (7, 7));
}

#[test]
fn in_a_user_namespace_the_message_queues_belong_to_its_root() {
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let facts = sandbox.facts("stat /dev/mqueue");
    assert!(facts.get("stat /dev/mqueue").starts_with("dir 1777 0 0"), "{facts}");
}

#[test]
fn in_a_user_namespace_files_keep_their_ids() {
    let sandbox = Sandbox::new();
    let memory = InMemory::below(&sandbox.dir);
    in_user_namespace(&sandbox);
    for source in [&on_disk(&sandbox), &memory.0] {
        let plain = sandbox.config();
        with_data(&sandbox, source, &["rbind"], None);
        assert_eq!(owners(&sandbox.facts(STATS)), [65534, 65534, 65534]);
        for maps in [None, Some(map(0, 300_000, 1000))] {
            sandbox.write_config(&plain);
            with_data(&sandbox, source, &["rbind", "idmap"], maps.as_ref());
            assert_eq!(owners(&sandbox.facts(STATS)), [0, 5, 65534]);
        }
        sandbox.write_config(&plain);
    }
}

#[test]
fn a_joined_user_namespace_gives_its_ids_too() {
    brig_only!();
    let holder = Sandbox::new();
    in_user_namespace(&holder);
    holder.script("sleep 60").run_with(&["--detach"]).ok();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let user = json!({"type": "user", "path": format!("/proc/{}/ns/user", holder.pid())});
        config["linux"]["namespaces"].as_array_mut().unwrap().push(user);
    });
    let data = on_disk(&sandbox);
    with_data(&sandbox, &data, &["bind", "idmap"], None);
    assert_eq!(owners(&sandbox.facts(STATS)), [0, 5, 65534]);
    // Engines repeat its maps; others would have no effect.
    let of_holder = holder.config()["linux"]["uidMappings"].clone();
    let other = json!([{"containerID": 0, "hostID": 200_000, "size": 10}]);
    for (field, map) in
        [("uidMappings", &of_holder), ("uidMappings", &other), ("gidMappings", &other)]
    {
        let plain = sandbox.config();
        sandbox.patch(|config| config["linux"][field] = map.clone());
        let done = sandbox.run();
        match map == &of_holder {
            true => drop(done.ok()),
            false => drop(done.fails_with(&format!("linux.{field} (config.json"))),
        }
        sandbox.write_config(&plain);
    }
}

#[test]
fn ridmap_is_for_the_mounts_below_and_idmap_is_not() {
    let sandbox = Sandbox::new();
    let data = on_disk(&sandbox);
    let _memory = InMemory::below(&data);
    let plain = sandbox.config();
    for (option, below) in [("idmap", 0), ("ridmap", 1000)] {
        with_data(&sandbox, &data, &["rbind", option], Some(&map(0, 1000, 10)));
        let facts = sandbox.facts("stat /data/of-root ; stat /data/memory/of-root");
        assert_eq!(facts.number("stat /data/of-root", 2), 1000, "{facts}");
        assert_eq!(facts.number("stat /data/memory/of-root", 2), below, "{facts}");
        sandbox.write_config(&plain);
    }
}

#[test]
fn mappings_alone_make_an_idmapped_mount() {
    let sandbox = Sandbox::new();
    with_data(&sandbox, &on_disk(&sandbox), &["bind"], Some(&map(0, 1000, 10)));
    assert_eq!(owners(&sandbox.facts(STATS)), [1000, 1005, 65534]);
}

#[test]
fn an_idmap_option_can_bring_its_own_mappings() {
    let sandbox = Sandbox::new();
    let data = on_disk(&sandbox);
    let plain = sandbox.config();
    for (option, expected) in [
        ("idmap=uids=0-1000-10;gids=0-1000-10", [1000, 1005, 65534]),
        ("ridmap=uids=0-7-1#5000-9-1;gids=0-7-1#5000-9-1", [7, 65534, 9]),
    ] {
        if crate::sandbox::is_peer() && option.starts_with('r') {
            continue;
        }
        with_data(&sandbox, &data, &["bind", option], None);
        assert_eq!(owners(&sandbox.facts(STATS)), expected, "{option}");
        sandbox.write_config(&plain);
    }
}

#[test]
fn ids_of_the_kind_that_an_idmap_option_does_not_name_stay() {
    brig_only!();
    let sandbox = Sandbox::new();
    with_data(&sandbox, &on_disk(&sandbox), &["bind", "idmap=uids=5-1005-1"], None);
    let facts = sandbox.facts(STATS);
    let ids = |name: &str| [2, 3].map(|word| facts.number(&format!("stat /data/{name}"), word));
    assert_eq!([ids("of-root"), ids("of-5")], [[65534, 0], [1005, 5]], "{facts}");
}

#[test]
fn an_idmap_option_can_be_relative_to_the_user_namespace() {
    brig_only!();
    let sandbox = Sandbox::new();
    in_user_namespace(&sandbox);
    let relative = "idmap=uids=@5000-0-1#@5-7-1;gids=@5000-0-1#@5-7-1";
    with_data(&sandbox, &on_disk(&sandbox), &["bind", relative], None);
    assert_eq!(owners(&sandbox.facts(STATS)), [65534, 7, 0]);
}

#[test]
fn what_an_idmap_option_cannot_do_is_an_error_with_its_place() {
    brig_only!();
    let sandbox = Sandbox::new();
    let data = on_disk(&sandbox);
    let plain = sandbox.config();
    let one = map(0, 1000, 1);
    for (option, maps, said) in [
        ("idmap=", None, "has no mapping"),
        ("idmap=uids=0-1", None, "uids=0-1: is not ID-ID-SIZE"),
        ("idmap=uids=@0-0-1", None, "@ needs the mappings of a user namespace"),
        ("ridmap=pids=0-0-1", None, "\"pids\" is neither uids nor gids"),
        ("idmap=uids=0-5-1", Some(&one), "the mount has uidMappings and gidMappings"),
    ] {
        with_data(&sandbox, &data, &["bind", option], maps);
        let stderr = sandbox.create_with(&[]).fails_with(said);
        assert!(stderr.contains("].options[1] (config.json line"), "{stderr}");
        sandbox.assert_nothing_left();
        sandbox.write_config(&plain);
    }
}

#[test]
fn no_process_is_left_of_the_making_of_maps() {
    brig_only!();
    let sandbox = Sandbox::new();
    let data = on_disk(&sandbox);
    for host in [1000, 2000, 1000] {
        let at = format!("/data{host}");
        with_data(&sandbox, &data, &["bind", "idmap"], Some(&map(0, host, 10)));
        sandbox.patch(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.last_mut().unwrap()["destination"] = json!(at);
        });
    }
    let facts = sandbox.script("stat /data1000/of-root ; stat /data2000/of-root ; sleep 60");
    let running = facts.run_with(&["--detach"]).ok();
    running.wait_for_line(&format!(
        "stat /data2000/of-root file 0644 2000 2000 0:0 {}",
        "of-root".len()
    ));
    assert_eq!(host::processes_of(&sandbox.id).len(), 1);
}

#[test]
fn a_filesystem_without_idmapped_mounts_is_named() {
    brig_only!();
    let sandbox = Sandbox::new();
    with_data(&sandbox, Path::new("/sys/kernel"), &["bind", "idmap"], Some(&map(0, 1000, 10)));
    sandbox.create_with(&[]).fails_with("its filesystem does not support id-mapped mounts");
    sandbox.assert_nothing_left();
}
