//! mounts add and mounts remove for an existing container.

use crate::facts::Mount;
use crate::host;
use crate::rootless::as_user;
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

/// Writes the file with the mounts, and calls `mounts`.
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

/// The mounts of a process.
fn mounts_seen_by(pid: i64) -> Vec<Mount> {
    let path = format!("/proc/{pid}/mountinfo");
    fs::read_to_string(path).unwrap().lines().filter_map(Mount::parse).collect()
}

/// The mounts of the container's init.
fn mounts_of(sandbox: &Sandbox) -> Vec<Mount> {
    mounts_seen_by(sandbox.pid())
}

/// How many mounts are there, and the options of the last.
fn at(sandbox: &Sandbox, target: &str) -> (usize, Vec<String>) {
    let mut mounts = mounts_of(sandbox);
    mounts.retain(|mount| mount.target == target);
    (mounts.len(), mounts.pop().map_or_else(Vec::new, |mount| mount.options))
}

/// The output of a script of the test process in the container.
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

#[test]
fn a_source_that_is_a_link_is_what_the_options_say() {
    brig_only!();
    let sandbox = running();
    let volume = volume(&sandbox, "volume");
    symlink("file", volume.join("link")).unwrap();
    let mounts = |option: &str| {
        json!([{"destination": format!("/tmp/{option}"), "source": volume.join("link"),
            "options": ["bind", option]}])
    };
    call(&sandbox, "add", &mounts("src-nofollow")).ok();
    let link = inside(&sandbox, "link /tmp/src-nofollow");
    assert!(link.get("link /tmp/src-nofollow").ends_with("file"), "{link}");
    call(&sandbox, "remove", &mounts("src-nofollow")).ok();
    call(&sandbox, "add", &mounts("copy-symlink")).fails_with("[0].source");
    assert_eq!(at(&sandbox, "/tmp/copy-symlink").0, 0);
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
        // Nothing is visible on the host.
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains("new/place"), "{host}");

        call(&sandbox, "remove", &mounts).ok();
        let facts = inside(&sandbox, "read /tmp/new/place/file ; stat /tmp/memory/x ; mounts");
        assert_eq!(facts.get("read /tmp/new/place/file"), "ENOENT", "{facts}");
        assert_eq!(facts.get("stat /tmp/memory/x"), "ENOENT", "{facts}");
        assert!(facts.mounts().iter().all(|mount| !mount.target.starts_with("/tmp/")), "{facts}");
        call(&sandbox, "remove", &mounts).fails_with("not a mount made by `brig mounts add`");
    }
}

#[test]
fn a_part_of_a_config_is_read_as_well_and_a_created_container_is_one_that_is_there() {
    brig_only!();
    let sandbox = Sandbox::new();
    let volume = volume(&sandbox, "volume");
    sandbox.script("read /tmp/file").create();
    // Relative to the bundle.
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
    call(&sandbox, "add", &at("/itself")).fails_with("leads to the container's root");
    call(&sandbox, "remove", &at("/itself")).fails_with("not a mount made by `brig mounts add`");
    for action in ["add", "remove"] {
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
    if done.stderr.contains("its filesystem does not support id-mapped mounts") {
        return skip("the filesystem of the tests has no id-mapped mounts");
    }
    done.ok();
    let stat = inside(&sandbox, "stat /tmp/mapped/file");
    assert!(stat.get("stat /tmp/mapped/file").contains("7000"), "{stat}");
}

#[test]
fn an_unprivileged_user_adds_a_tmpfs_and_nothing_of_the_hosts() {
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
        add(&json!([bound])).fails_with("only root can bind mount files of the host");
        user.brig(&["delete", "--force", &user.sandbox.id]).ok();
    });
}

#[test]
fn what_is_removed_is_the_mount_that_was_added_and_no_other() {
    brig_only!();
    for sandbox in [running(), in_user_namespace()] {
        let volume = volume(&sandbox, "volume");
        let root = sandbox.rootfs();
        let mounts = json!([{"destination": "/tmp/a/x", "source": volume, "options": ["rbind"]}]);
        call(&sandbox, "add", &mounts).ok();
        let before = at(&sandbox, "/proc/sys");
        assert!(before.1.contains(&"ro".to_owned()), "{before:?}");
        fs::rename(root.join("tmp/a"), root.join("tmp/b")).unwrap();
        fs::create_dir(root.join("tmp/a")).unwrap();
        let owner = fs::metadata(root.join("tmp")).unwrap().uid();
        std::os::unix::fs::chown(root.join("tmp/a"), Some(owner), Some(owner)).unwrap();
        symlink("/proc/sys", root.join("tmp/a/x")).unwrap();
        assert_eq!(at(&sandbox, "/tmp/b/x").0, 1);
        call(&sandbox, "remove", &mounts).ok();
        assert_eq!(at(&sandbox, "/proc/sys"), before);
        assert_eq!(at(&sandbox, "/tmp/b/x").0, 0);
        // Mounts of the config are refused, duplicates too, and of several all or none are added.
        call(&sandbox, "add", &mounts).fails();
        fs::remove_file(root.join("tmp/a/x")).unwrap();
        call(&sandbox, "add", &mounts).ok();
        let reason = "not a mount made by `brig mounts add`";
        let both = json!([{"destination": "/dev/shm"}, {"destination": "/tmp/a/x"}]);
        let error = call(&sandbox, "remove", &both).fails_with(reason);
        assert!(error.contains("/dev/shm: not a mount"), "{error}");
        assert_eq!((at(&sandbox, "/dev/shm").0, at(&sandbox, "/tmp/a/x").0), (1, 1));
        let twice = json!([{"destination": "/tmp/a/x"}, {"destination": "/tmp/a/x"}]);
        call(&sandbox, "remove", &twice).fails_with(reason);
        call(&sandbox, "add", &mounts).ok();
        assert_eq!(at(&sandbox, "/tmp/a/x").0, 2);
        call(&sandbox, "remove", &twice).ok();
        assert_eq!(at(&sandbox, "/tmp/a/x").0, 0);
    }
}

#[test]
fn what_the_container_has_unmounted_or_covered_itself_is_named() {
    brig_only!();
    let sandbox = running();
    let volume = volume(&sandbox, "volume");
    let mounts = json!([{"destination": "/tmp/x", "source": volume, "options": ["rbind"]}]);
    let in_container = |work: fn() -> nix::Result<()>| {
        let namespace = fs::File::open(format!("/proc/{}/ns/mnt", sandbox.pid())).unwrap();
        let mut command = std::process::Command::new("/init");
        before_exec(&mut command, move || {
            setns(&namespace, CloneFlags::CLONE_NEWNS)?;
            Ok(work()?)
        });
        assert!(command.arg("ids").status().unwrap().success());
    };
    let cover: fn() -> nix::Result<()> = || {
        let (none, tmpfs) = (None::<&std::ffi::CStr>, Some(c"tmpfs"));
        mount(tmpfs, c"/tmp/x", tmpfs, MsFlags::empty(), none)
    };
    let uncover: fn() -> nix::Result<()> = || umount2(c"/tmp/x", MntFlags::empty());
    call(&sandbox, "add", &mounts).ok();
    in_container(uncover);
    call(&sandbox, "remove", &mounts).fails_with("the container has unmounted it");
    call(&sandbox, "remove", &mounts).fails_with("not a mount made by `brig mounts add`");
    call(&sandbox, "add", &mounts).ok();
    in_container(cover);
    call(&sandbox, "remove", &mounts).fails_with("has mounted something over it");
    in_container(uncover);
    call(&sandbox, "remove", &mounts).ok();
    assert_eq!(at(&sandbox, "/tmp/x").0, 0);
}

#[test]
fn what_is_taken_back_is_what_was_added_wherever_the_container_has_put_it() {
    brig_only!();
    let sandbox = Sandbox::new();
    // Takes a while to copy, and then does not fit.
    let many = sandbox.rootfs().join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..40_000 {
        fs::write(many.join(number.to_string()), "").unwrap();
    }
    sandbox.patch(|config| config["root"]["readonly"] = json!(false));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let volume = volume(&sandbox, "volume");
    let mounts = json!([
        {"destination": "/tmp/a/x", "source": volume, "options": ["rbind"]},
        {"destination": "/many", "type": "tmpfs", "options": ["tmpcopyup", "nr_inodes=39900"]},
    ]);
    let before = (at(&sandbox, "/proc/sys"), mounts_of(&sandbox).len());
    let file = sandbox.dir.join("mounts.json");
    fs::write(&file, mounts.to_string()).unwrap();
    // While brig copies, there is no time to run another.
    let pid = sandbox.pid();
    let there = |target: &str| mounts_seen_by(pid).iter().any(|mount| mount.target == target);
    let adding =
        sandbox.spawn(sandbox.command(&["mounts", "add", &sandbox.id, file.to_str().unwrap()]));
    let shown = host::wait_until(Duration::from_secs(10), || there("/tmp/a/x"));
    assert!(shown, "nothing was added");
    let root = sandbox.rootfs();
    fs::rename(root.join("tmp/a"), root.join("tmp/b")).unwrap();
    fs::create_dir(root.join("tmp/a")).unwrap();
    symlink("/proc/sys", root.join("tmp/a/x")).unwrap();
    assert!(there("/tmp/b/x"), "it was taken back before it could be moved");
    adding.wait().fails_with("No space left on device");
    assert_eq!((at(&sandbox, "/proc/sys"), mounts_of(&sandbox).len()), before);
    call(&sandbox, "remove", &mounts).fails_with("not a mount made by `brig mounts add`");
}

#[test]
fn what_is_copied_into_a_tmpfs_counts_as_the_containers_memory() {
    brig_only!();
    if host::controller("memory").is_none() {
        return skip("no memory controller");
    }
    let sandbox = Sandbox::new();
    let data = sandbox.rootfs().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("big"), vec![b'x'; 64 << 20]).unwrap();
    let limit = 24 << 20;
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["linux"]["resources"]["memory"] = json!({"limit": limit, "swap": limit});
    });
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let volume = volume(&sandbox, "volume");
    let mounts = json!([
        {"destination": "/tmp/x", "source": volume, "options": ["rbind"]},
        {"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup"]},
    ]);
    let before = mounts_of(&sandbox).len();
    call(&sandbox, "add", &mounts).fails_with("memory limit does not suffice");
    assert_eq!((sandbox.status(), mounts_of(&sandbox).len()), ("running".to_owned(), before));
    sandbox.brig(&["pause", &sandbox.id]).ok();
    call(&sandbox, "add", &mounts).fails_with("of a paused container");
    sandbox.brig(&["resume", &sandbox.id]).ok();
    // What fits is copied, and the copying process has exited.
    fs::write(data.join("big"), "small").unwrap();
    call(&sandbox, "add", &mounts).ok();
    assert_eq!(inside(&sandbox, "read /data/big").get("read /data/big"), r#""small""#);
    assert_eq!(host::processes_of(&sandbox.id).len(), 1);
}

#[test]
fn what_is_mounted_later_is_no_change_of_the_container() {
    brig_only!();
    let sandbox = Sandbox::new();
    fs::rename(sandbox.rootfs(), sandbox.bundle().join("base")).unwrap();
    let upper = sandbox.dir.join("upper");
    fs::create_dir(&upper).unwrap();
    sandbox.script("write /new x ; sleep 60");
    let base = sandbox.bundle().join("base");
    let (base, up) = (base.to_str().unwrap(), upper.to_str().unwrap());
    let layers = ["--detach", "--layer", base, "--upper", up];
    sandbox.patch(|config| config["root"]["readonly"] = json!(false)).run_with(&layers).ok();
    let wait = host::wait_until(Duration::from_secs(10), || upper.join("new").exists());
    assert!(wait, "the script has not run");
    let volume = volume(&sandbox, "volume");
    let mounts = json!([
        {"destination": "/added/deep", "source": volume, "options": ["rbind"]},
        {"destination": "/added/file", "source": volume.join("file"), "options": ["bind"]},
    ]);
    call(&sandbox, "add", &mounts).ok();
    let diff = || sandbox.brig(&["diff", &sandbox.id]).ok().stdout;
    assert_eq!(diff(), "A /new\n");
    call(&sandbox, "remove", &mounts).ok();
    assert_eq!(diff(), "A /new\n");
    fs::write(upper.join("added/own"), "the container's").unwrap();
    assert_eq!(diff(), "A /added\nA /added/own\nA /new\n");
}
