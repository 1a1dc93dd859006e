//! mounts add and mounts remove: into a container that is there, and out of it again.

use crate::rootless::as_user;
use crate::sandbox::{Sandbox, brig_only};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Writes the file that mounts are read from, and calls `mounts`.
fn call(sandbox: &Sandbox, action: &str, mounts: &Value) -> crate::sandbox::Done {
    let file = sandbox.dir.join("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    sandbox.brig(&["mounts", action, &sandbox.id, file.to_str().unwrap()])
}

/// A directory of the host with a file in it.
fn volume(sandbox: &Sandbox, name: &str) -> PathBuf {
    let volume = sandbox.dir.join(name);
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("file"), name).unwrap();
    volume
}

/// What a script of the test process tells inside.
#[track_caller]
fn inside(sandbox: &Sandbox, script: &str) -> crate::facts::Facts {
    let args: Vec<&str> =
        ["exec", &sandbox.id, "/init"].into_iter().chain(script.split_whitespace()).collect();
    crate::facts::Facts::parse(&sandbox.brig(&args).ok().stdout)
}

fn running() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    sandbox
}

fn in_user_namespace() -> Sandbox {
    let sandbox = Sandbox::new();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    sandbox.patch(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        config["root"]["readonly"] = json!(false);
    });
    for path in [sandbox.rootfs(), sandbox.rootfs().join("tmp")] {
        std::os::unix::fs::chown(path, Some(100_000), Some(100_000)).unwrap();
    }
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    sandbox
}

#[test]
fn a_running_container_gets_a_volume_and_loses_it_again() {
    brig_only!();
    for sandbox in [running(), in_user_namespace()] {
        let volume = volume(&sandbox, "volume");
        let mounts = json!([
            {"destination": "/tmp/new/place", "source": volume, "options": ["rbind", "ro"]},
            {"destination": "/tmp/file", "source": volume.join("file"), "options": ["bind"]},
            {"destination": "/tmp/memory", "type": "tmpfs", "options": ["size=1m", "mode=700"]},
        ]);
        let done = call(&sandbox, "add", &mounts).ok();
        assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
        let facts = inside(
            &sandbox,
            "read /tmp/new/place/file ; write /tmp/new/place/x y ; read /tmp/file ; \
             write /tmp/memory/x y ; mounts",
        );
        assert_eq!(facts.get("read /tmp/new/place/file"), r#""volume""#, "{facts}");
        assert_eq!(facts.get("write /tmp/new/place/x"), "EROFS", "{facts}");
        assert_eq!(facts.get("read /tmp/file"), r#""volume""#, "{facts}");
        assert_eq!(facts.get("write /tmp/memory/x"), "ok", "{facts}");
        assert_eq!(facts.mount("/tmp/memory").fstype, "tmpfs");
        // None of it shows on the host.
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains("new/place"), "{host}");

        call(&sandbox, "remove", &mounts).ok();
        let facts = inside(&sandbox, "read /tmp/new/place/file ; stat /tmp/memory/x ; mounts");
        assert_eq!(facts.get("read /tmp/new/place/file"), "ENOENT", "{facts}");
        assert_eq!(facts.get("stat /tmp/memory/x"), "ENOENT", "{facts}");
        assert!(facts.mounts().iter().all(|mount| !mount.target.starts_with("/tmp/")), "{facts}");
        call(&sandbox, "remove", &mounts).fails_with("nothing is mounted there");
    }
}

#[test]
fn a_part_of_a_config_is_read_as_well_and_a_created_container_is_one_that_is_there() {
    brig_only!();
    let sandbox = Sandbox::new();
    let volume = volume(&sandbox, "volume");
    sandbox.script("read /tmp/file").create();
    // From the bundle.
    fs::rename(&volume, sandbox.bundle().join("volume")).unwrap();
    let mount =
        json!({"destination": "tmp", "type": "bind", "source": "volume", "options": ["rbind"]});
    let done = call(&sandbox, "add", &json!({"ociVersion": "1.0.0", "mounts": [mount]})).ok();
    assert!(done.stderr.contains("is not absolute"), "{done:?}");
    assert_eq!(inside(&sandbox, "read /tmp/file").get("read /tmp/file"), r#""volume""#);
}

#[test]
fn links_of_the_image_lead_nowhere_but_into_its_root() {
    brig_only!();
    let sandbox = Sandbox::new();
    let volume = volume(&sandbox, "volume");
    symlink(&sandbox.dir, sandbox.rootfs().join("absolute")).unwrap();
    symlink("../../../../../../etc", sandbox.rootfs().join("climbing")).unwrap();
    symlink("/", sandbox.rootfs().join("itself")).unwrap();
    symlink("/proc/sys", sandbox.rootfs().join("kernel")).unwrap();
    symlink("/proc/1/root", sandbox.rootfs().join("magic")).unwrap();
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let at = |path: &str| json!([{"destination": path, "source": volume, "options": ["bind"]}]);
    call(&sandbox, "add", &at("/absolute/in")).ok();
    assert!(!sandbox.dir.join("in").exists());
    let inside_path = format!("read {}/in/file", sandbox.dir.display());
    assert_eq!(inside(&sandbox, &inside_path).get(&inside_path), r#""volume""#);
    call(&sandbox, "add", &at("/climbing")).ok();
    assert_eq!(inside(&sandbox, "read /etc/file").get("read /etc/file"), r#""volume""#);
    for action in ["add", "remove"] {
        call(&sandbox, action, &at("/itself")).fails_with("leads to the container's root");
        call(&sandbox, action, &at("/")).fails_with("is the container's root");
    }
    call(&sandbox, "add", &at("/magic")).fails();
    call(&sandbox, "add", &at("/kernel")).fails_with("/proc");
    call(&sandbox, "add", &at("/proc/sys")).fails_with("/proc");
}

#[test]
fn what_cannot_be_added_is_named_with_its_place_and_nothing_else_is_added() {
    brig_only!();
    let sandbox = running();
    let volume = volume(&sandbox, "volume");
    let good = json!({"destination": "/tmp/good", "source": volume, "options": ["rbind"]});
    for (bad, words) in [
        (json!({"destination": "/x", "type": "proc"}), "only bind mounts and tmpfs"),
        (json!({"destination": "/x", "source": "/no/such", "options": ["bind"]}), "source"),
        (json!({"destination": "/x", "type": "tmpfs", "options": ["frob=1"]}), "frob"),
        (json!({"destination": "/init", "source": volume, "options": ["bind"]}), "not a directory"),
        (json!({"destination": "/x", "type": "tmpfs", "options": ["idmap"]}), "id-mapped"),
    ] {
        let error = call(&sandbox, "add", &json!([good, bad])).fails_with(words);
        assert!(error.contains("[1]") && error.contains("mounts.json line 1, column"), "{error}");
        let facts = inside(&sandbox, "mounts");
        assert!(facts.mounts().iter().all(|mount| mount.target != "/tmp/good"), "{facts}");
    }
    call(&sandbox, "add", &json!("text")).fails_with("mounts.json");
    call(&sandbox, "add", &json!([{"source": volume}])).fails_with("destination");
    call(&sandbox, "remove", &json!([{"destination": "/etc"}])).fails_with("/etc");
    call(&sandbox, "move", &json!([])).fails_with("add");
    sandbox.brig(&["mounts", "add", &sandbox.id, "/no/such"]).fails_with("/no/such");
    sandbox.brig(&["mounts", "add", "nobody", "/dev/null"]).fails();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    sandbox.wait_for_status("stopped");
    call(&sandbox, "add", &json!([good])).fails_with("container not running");
}

#[test]
fn a_volume_that_is_added_can_have_other_ids() {
    brig_only!();
    let sandbox = running();
    let volume = volume(&sandbox, "volume");
    let map = json!([{"containerID": 0, "hostID": 7000, "size": 100}]);
    let mount = json!({"destination": "/tmp/mapped", "source": volume, "options": ["bind"],
        "uidMappings": map, "gidMappings": map});
    let done = call(&sandbox, "add", &json!([mount]));
    if done.stderr.contains("its filesystem has no id-mapped mounts") {
        return crate::sandbox::skip("the filesystem of the tests has no id-mapped mounts");
    }
    done.ok();
    let stat = inside(&sandbox, "stat /tmp/mapped/file");
    assert!(stat.get("stat /tmp/mapped/file").contains("7000"), "{stat}");
}

#[test]
fn an_ordinary_user_adds_a_tmpfs_and_nothing_of_the_hosts() {
    brig_only!();
    as_user(false, |user| {
        user.sandbox.script("sleep 60");
        user.patch(|config| config["root"]["readonly"] = json!(false));
        user.run(&["--detach"]).ok();
        let add = |mounts: &Value| {
            let file = user.sandbox.dir.join("mounts.json");
            fs::write(&file, mounts.to_string()).unwrap();
            user.brig(&["mounts", "add", &user.sandbox.id, "/mnt/mounts.json"])
        };
        let memory = json!({"destination": "/tmp/memory", "type": "tmpfs"});
        add(&json!([memory])).ok();
        let script = ["exec", &user.sandbox.id, "/init", "write", "/tmp/memory/x", "y"];
        assert_eq!(user.brig(&script).ok().stdout, "write /tmp/memory/x ok\n");
        let bound = json!({"destination": "/tmp/x", "source": "/mnt/run", "options": ["bind"]});
        add(&json!([bound])).fails_with("only root can bind what is the host's");
        user.brig(&["delete", "--force", &user.sandbox.id]).ok();
    });
}
