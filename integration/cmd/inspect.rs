//! `inspect`: settings as reported by the kernel, and differences from the config.

use crate::rootless::as_user;
use crate::sandbox::{Sandbox, brig_only};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use std::fs::{self, File};

/// A running container.
fn running(script: &str, change: impl FnOnce(&mut Value)) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(&format!("{script} ; sleep 60")).patch(change);
    sandbox.create();
    sandbox.start();
    sandbox
}

/// Gives root in the container the privileges to mount.
fn may_mount(config: &mut Value) {
    for set in ["bounding", "permitted", "effective"] {
        let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
        set.push(json!("CAP_SYS_ADMIN"));
    }
}

/// The report and the exit status.
#[track_caller]
fn report(sandbox: &Sandbox, args: &[&str]) -> Value {
    let args = [&["inspect", "--format", "json"], args, &[sandbox.id.as_str()]].concat();
    let done = sandbox.brig(&args);
    let report: Value =
        serde_json::from_str(&done.stdout).unwrap_or_else(|why| panic!("{why}: {done:?}"));
    let drift = report["drift"].as_u64().unwrap();
    assert_eq!(done.code, Some(i32::from(drift > 0)), "{done:?}");
    report
}

fn rows<'a>(report: &'a Value, section: &str) -> &'a Vec<Value> {
    report[section].as_array().unwrap()
}

#[track_caller]
fn row<'a>(report: &'a Value, section: &str, name: &str) -> &'a Value {
    let found = rows(report, section).iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {section}: {report:#}"))
}

/// The names of all rows that differ.
fn drift(report: &Value) -> Vec<String> {
    let sections = ["namespaces", "process", "mounts", "cgroup", "rlimits"];
    let rows = sections.into_iter().flat_map(|section| rows(report, section));
    let differ = rows.filter(|row| row["drift"] == true);
    differ.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_container_that_is_as_it_was_asked_has_no_drift() {
    brig_only!();
    let sandbox = running("true", |config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]);
    });
    let report = report(&sandbox, &[]);
    assert_eq!(drift(&report), [""; 0], "{report:#}");
    assert_eq!(report["id"], sandbox.id);
    assert_eq!((&report["pid"], &report["status"]), (&json!(sandbox.pid()), &json!("running")));
    assert!(report["summary"].as_str().unwrap().contains("shares with the host: "));
    let network = row(&report, "namespaces", "network");
    assert_eq!((&network["has"], &network["asked"]), (&json!("own"), &json!("own")));
    let files = row(&report, "rlimits", "RLIMIT_NOFILE");
    assert_eq!(files["has"], json!({ "soft": 64, "hard": 128 }));
    assert_eq!(row(&report, "mounts", "/proc")["from"], "config mounts[0]");
    let table = sandbox.brig(&["inspect", &sandbox.id]).ok().stdout;
    assert!(table.contains("all is as the config asked\n"), "{table}");
}

#[test]
fn so_have_one_that_waits_for_start_and_one_of_another_user() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        let filter = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        config["linux"]["seccomp"] = filter;
    });
    sandbox.create();
    let before = report(&sandbox, &[]);
    assert_eq!((drift(&before).len(), &before["status"]), (0, &json!("created")), "{before:#}");
    sandbox.start();
    let after = report(&sandbox, &[]);
    assert_eq!(drift(&after), [""; 0], "{after:#}");
    assert_eq!(row(&after, "process", "uid")["has"], 1000);
    assert_eq!(row(&after, "process", "effective")["has"], json!([]));
    assert_eq!(row(&after, "process", "seccomp")["has"], "filter");
    let summary = after["summary"].as_str().unwrap();
    assert!(summary.contains("runs as uid 1000 of the host; no capabilities"), "{summary}");
}

#[test]
fn in_a_user_namespace_ids_are_those_of_the_host() {
    brig_only!();
    let sandbox = running("true", |config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65536 }]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
    });
    let report = report(&sandbox, &[]);
    assert_eq!(drift(&report), [""; 0], "{report:#}");
    assert_eq!(row(&report, "process", "uid")["has"], 200_000);
    assert_eq!(row(&report, "namespaces", "uid_map")["has"], json!(["0 200000 65536"]));
}

#[test]
fn of_a_user_without_privileges_too() {
    brig_only!();
    as_user(false, |user| {
        user.sandbox.script("sleep 60");
        let id = &user.sandbox.id;
        user.brig(&["run", "--detach", "--bundle", "/mnt/bundle", id]).ok();
        let done = user.brig(&["inspect", "--format", "json", id]);
        let report: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert_eq!(drift(&report), [""; 0], "{report:#}");
        assert_eq!(row(&report, "process", "uid")["has"], crate::rootless::UID);
    });
}

#[test]
fn a_limit_that_was_changed_is_marked_beside_what_was_asked() {
    brig_only!();
    if crate::host::controller("pids").is_none() {
        return crate::sandbox::skip("no pids controller");
    }
    let sandbox = running("true", |config| {
        config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    });
    assert_eq!(drift(&report(&sandbox, &[])), [""; 0]);
    sandbox.brig(&["update", "--pids-limit", "70", &sandbox.id]).ok();
    let report = report(&sandbox, &[]);
    let pids = row(&report, "cgroup", "pids.max");
    assert_eq!((&pids["has"], &pids["asked"]), (&json!("70"), &json!("50")));
    assert_eq!(drift(&report), ["pids.max"]);
    let table = sandbox.brig(&["inspect", &sandbox.id]);
    let marked = table.stdout.lines().find(|line| line.starts_with("! ")).unwrap();
    assert!(marked.contains("pids.max") && marked.contains("linux.resources.pids.limit"));
    assert_eq!(table.code, Some(1));
}

#[test]
fn a_resource_limit_that_was_changed_is_marked() {
    brig_only!();
    let sandbox = running("true", |config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 9, "hard": 9}]);
    });
    let limit = libc::rlimit { rlim_cur: 5, rlim_max: 5 };
    let pid = i32::try_from(sandbox.pid()).unwrap();
    // SAFETY: the limit outlives the call; nothing is written through the null pointer.
    let done =
        unsafe { libc::prlimit(pid, libc::RLIMIT_CORE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0);
    assert_eq!(drift(&report(&sandbox, &[])), ["RLIMIT_CORE"]);
}

/// Runs a function in the container's mount namespace.
fn in_its_mounts(sandbox: &Sandbox, act: impl FnOnce() + Send) {
    let namespace = File::open(format!("/proc/{}/ns/mnt", sandbox.pid())).unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(move || {
            unshare(CloneFlags::CLONE_FS).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNS).unwrap();
            act();
        });
        inside.join().unwrap();
    });
}

#[test]
fn what_was_mounted_later_is_marked_and_what_mounts_add_has_mounted_is_not() {
    brig_only!();
    let sandbox = running("true", |_| {});
    in_its_mounts(&sandbox, || {
        mount(Some("x"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    });
    let file = sandbox.dir.join("mounts.json");
    let mounts = json!([{ "destination": "/added", "type": "tmpfs", "source": "tmpfs" }]);
    fs::write(&file, mounts.to_string()).unwrap();
    fs::create_dir_all(sandbox.rootfs().join("added")).unwrap();
    sandbox.brig(&["mounts", "add", &sandbox.id, file.to_str().unwrap()]).ok();
    let report = report(&sandbox, &[]);
    assert_eq!(drift(&report), ["/tmp"], "{report:#}");
    let stray = row(&report, "mounts", "/tmp");
    assert!(stray["note"].as_str().unwrap().contains("not asked for"), "{stray}");
    assert_eq!(row(&report, "mounts", "/added")["from"], "mounts add");
}

#[test]
fn a_mask_that_was_taken_away_and_a_flag_that_was_changed_are_marked() {
    brig_only!();
    let masked = "/proc/keys";
    let sandbox = running(&format!("umount {masked} ; umount /dev/mqueue"), |config| {
        may_mount(config);
        config["linux"]["maskedPaths"] = json!([masked]);
    });
    in_its_mounts(&sandbox, || {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOEXEC;
        mount(None::<&str>, "/dev/shm", None::<&str>, flags, None::<&str>).unwrap();
    });
    // Waits until init has done it.
    let gone = || drift(&report(&sandbox, &[])).len() == 3;
    assert!(crate::host::wait_until(std::time::Duration::from_secs(10), gone));
    let report = report(&sandbox, &[]);
    let mut differ = drift(&report);
    differ.sort();
    assert_eq!(differ, ["/dev/mqueue", "/dev/shm", masked], "{report:#}");
    let mask = row(&report, "mounts", masked);
    assert!(mask["note"].as_str().unwrap().contains("linux.maskedPaths[0]: not protected"));
    let flags = row(&report, "mounts", "/dev/shm");
    assert!(flags["note"].as_str().unwrap().contains("is not nosuid,nodev"), "{flags}");
}

#[test]
fn who_shares_a_namespace_is_named() {
    brig_only!();
    let first = running("true", |_| {});
    let network = format!("/proc/{}/ns/net", first.pid());
    let second = Sandbox::new();
    second.script("sleep 60").patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        for namespace in namespaces.iter_mut().filter(|one| one["type"] == "network") {
            namespace["path"] = json!(network);
        }
    });
    // In the state directory of the first.
    let root = first.state_root();
    let bundle = second.bundle();
    let args = ["--root", root.to_str().unwrap(), "create", "--bundle", bundle.to_str().unwrap()];
    first.brig(&[&args[2..], &[&second.id]].concat()).ok();
    let of_first = report(&first, &[]);
    assert_eq!(row(&of_first, "namespaces", "network")["with"], json!([second.id]));
    assert_eq!(row(&of_first, "namespaces", "pid")["with"], json!([]));
    let done = first.brig(&["inspect", "--format", "json", &second.id]);
    let of_second: Value = serde_json::from_str(&done.stdout).unwrap();
    let shared = row(&of_second, "namespaces", "network");
    assert_eq!((&shared["has"], &shared["asked"]), (&json!("shared"), &json!(network)));
    assert_eq!((&shared["drift"], &shared["with"]), (&json!(false), &json!([first.id])));
    first.brig(&["delete", "--force", &second.id]).ok();
}

#[test]
fn the_filter_is_asked_about_a_named_call() {
    brig_only!();
    let sandbox = running("true", |config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["swapon"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
            { "names": ["personality"], "action": "SCMP_ACT_KILL_PROCESS",
              "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
        ] });
    });
    for (call, outcomes) in
        [("read", json!(["SCMP_ACT_ALLOW"])), ("swapon", json!(["SCMP_ACT_ERRNO (ENOSYS)"]))]
    {
        let report = report(&sandbox, &["--syscall", call]);
        assert_eq!(row(&report, "process", &format!("seccomp {call}"))["has"], outcomes);
    }
    let both = report(&sandbox, &["--syscall", "personality"]);
    let both = row(&both, "process", "seccomp personality");
    assert_eq!(both["note"], "depends on its arguments");
    assert_eq!(both["has"].as_array().unwrap().len(), 2, "{both}");
    let unknown = sandbox.brig(&["inspect", "--syscall", "frobnicate", &sandbox.id]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("--syscall frobnicate: no system call of"), "{unknown:?}");
}

#[test]
fn names_that_a_container_has_chosen_break_no_line_and_change_no_terminal() {
    brig_only!();
    let sandbox = running("true", may_mount);
    let name = "/tmp/a\u{1b}[2J\nb\u{202e}";
    in_its_mounts(&sandbox, || {
        fs::create_dir(name).unwrap();
        mount(Some("x\u{9b}y"), name, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    });
    let unprintable = |text: &str| text.contains(['\u{1b}', '\u{9b}', '\u{202e}']);
    let table = sandbox.brig(&["inspect", &sandbox.id]).stdout;
    assert!(table.contains(r"/tmp/a\u{1b}[2J\nb\u{202e}") && !unprintable(&table), "{table}");
    let json = sandbox.brig(&["inspect", "--format", "json", &sandbox.id]).stdout;
    assert!(!unprintable(&json), "{json}");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(drift(&report), [name]);
}

#[test]
fn a_container_that_does_not_run_is_an_error() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("true");
    sandbox.run_with(&["--keep"]).ok();
    let done = sandbox.brig(&["inspect", &sandbox.id]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("container is not running"), "{done:?}");
    let none = sandbox.brig(&["inspect", "nobody"]);
    assert!(none.stderr.contains("container does not exist"), "{none:?}");
}
