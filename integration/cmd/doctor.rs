//! `doctor`: takes away one thing at a time, and checks that it is reported.

use crate::host;
use crate::rootless::{as_user, in_own_mounts};
use crate::sandbox::{Done, Sandbox, before_exec, brig_only, runtime};
use crate::tracer::without_syscall;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const JSON: [&str; 3] = ["doctor", "--format", "json"];

/// doctor's report.
struct Report {
    code: Option<i32>,
    list: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(done: &Done) -> Report {
        let list =
            serde_json::from_str(&done.stdout).unwrap_or_else(|why| panic!("{why}: {done:?}"));
        Report { code: done.code, list }
    }

    fn find(&self, check: &str) -> Option<&Value> {
        self.list.iter().find(|finding| finding["check"] == check)
    }

    /// Checks the status of a probe, and words of its message and remedy.
    #[track_caller]
    fn has(&self, check: &str, status: &str, words: &[&str]) {
        let finding = self.find(check).unwrap_or_else(|| panic!("no {check}: {:#?}", self.list));
        assert_eq!(finding["status"], status, "{finding:#}");
        for word in words {
            assert!(finding.to_string().contains(word), "no {word:?} in {finding:#}");
        }
        let worst = [(Some(2), "fail"), (Some(1), "warn")];
        let worst = worst.iter().find(|(_, s)| self.list.iter().any(|found| found["status"] == *s));
        assert_eq!(self.code, worst.map_or(Some(0), |(code, _)| *code));
    }
}

/// Without a bundle, and without this system call.
fn without(call: libc::c_long) -> Report {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&JSON);
    before_exec(&mut command, move || without_syscall(call));
    Report::of(&sandbox.spawn(command).wait())
}

/// For the sandbox's bundle.
fn about(sandbox: &Sandbox) -> Command {
    let bundle = sandbox.bundle();
    sandbox.command(&[&JSON[..], &[bundle.to_str().unwrap()]].concat())
}

fn bundle_report(sandbox: &Sandbox) -> Report {
    Report::of(&sandbox.spawn(about(sandbox)).wait())
}

fn add_user_namespace(config: &mut Value) {
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
    (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
}

#[test]
fn a_host_that_runs_these_tests_lacks_nothing_that_the_usual_container_needs() {
    brig_only!();
    let sandbox = Sandbox::new();
    let report = Report::of(&sandbox.brig(&JSON));
    for check in ["mount-namespace", "pid-namespace", "mount-proc", "cgroup", "keyring", "pidfd"] {
        report.has(check, "ok", &[]);
    }
    assert!(report.find("bundle").is_none() && report.find("criu").is_some());
    assert!(report.list.iter().all(|finding| finding["status"] != "fail"), "{:#?}", report.list);
    let table = sandbox.brig(&["doctor"]).stdout;
    assert!(table.contains("pid-namespace") && table.starts_with("ok "), "{table}");
}

#[test]
fn a_bundle_is_asked_for_what_it_needs_alone_and_does_start() {
    brig_only!();
    let sandbox = Sandbox::minimal();
    sandbox.script("true");
    let report = bundle_report(&sandbox);
    report.has("bundle", "ok", &["would start"]);
    report.has("mount-proc", "ok", &[]);
    for check in ["network-namespace", "user-namespace", "mount-mqueue", "criu", "seccomp-notify"] {
        assert!(report.find(check).is_none(), "{check}");
    }
    sandbox.run().ok();
}

#[test]
fn what_create_would_refuse_is_told_with_its_place() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["process"]["cwd"] = json!("tmp"));
    let report = bundle_report(&sandbox);
    report.has("config", "fail", &["process.cwd (config.json line ", "is not an absolute path"]);
    report.has("bundle", "fail", &["would not start"]);
    let missing = sandbox.brig(&["doctor", "/nonexistent"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("/nonexistent/config.json"), "{missing:?}");
    assert!(!sandbox.state_root().exists());
}

#[test]
fn a_root_filesystem_that_does_not_exist_fails() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["root"]["path"] = json!("nowhere"));
    bundle_report(&sandbox).has("config", "fail", &["root.path", "nowhere is not a directory"]);
}

#[test]
fn without_clone3_no_process_is_born_in_a_cgroup() {
    brig_only!();
    let report = without(libc::SYS_clone3);
    report.has("clone3", "warn", &["Linux 5.3", "uses older calls"]);
    if report.find("clone-into-cgroup").is_some() {
        report.has("clone-into-cgroup", "warn", &["not support clone3(2)"]);
    }
    report.has("pid-namespace", "ok", &[]);
}

#[test]
fn without_openat2_paths_are_walked() {
    brig_only!();
    without(libc::SYS_openat2).has("openat2", "warn", &["Linux 5.6"]);
}

#[test]
fn without_close_range_it_is_told() {
    brig_only!();
    without(libc::SYS_close_range).has("close_range", "warn", &["Linux 5.9"]);
}

#[test]
fn without_mount_setattr_nothing_is_id_mapped() {
    brig_only!();
    let report = without(libc::SYS_mount_setattr);
    report.has("mount_setattr", "warn", &["Linux 5.12"]);
    report.has("idmap", "warn", &["cannot be id-mapped", "mount_setattr"]);
}

#[test]
fn without_open_tree_or_fsopen_it_is_told() {
    brig_only!();
    without(libc::SYS_open_tree).has("open_tree", "warn", &["Linux 5.2"]);
    without(libc::SYS_fsopen).has("fsopen", "warn", &["Linux 5.2"]);
}

#[test]
fn without_pidfd_open_nothing_works() {
    brig_only!();
    without(libc::SYS_pidfd_open).has("pidfd", "fail", &["Linux 5.3", "Function not implemented"]);
}

#[test]
fn without_seccomp_a_bundle_with_a_filter_would_not_start() {
    brig_only!();
    let report = without(libc::SYS_seccomp);
    report.has("seccomp", "warn", &["Function not implemented"]);
    report.has("seccomp-notify", "warn", &[]);
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    let mut command = about(&sandbox);
    before_exec(&mut command, || without_syscall(libc::SYS_seccomp));
    let report = Report::of(&sandbox.spawn(command).wait());
    report.has("seccomp", "fail", &[]);
    report.has("bundle", "fail", &[]);
}

#[test]
fn without_keyrings_it_says_how_to_do_without() {
    brig_only!();
    without(libc::SYS_keyctl).has("keyring", "fail", &["keyctl", "--no-new-keyring"]);
}

#[test]
fn without_unshare_there_are_no_cgroup_and_time_namespaces() {
    brig_only!();
    let report = without(libc::SYS_unshare);
    report.has("cgroup-namespace", "warn", &["Function not implemented"]);
    report.has("time-namespace", "warn", &["Function not implemented"]);
    report.has("uts-namespace", "ok", &[]);
}

#[test]
fn without_mount_no_root_filesystem_can_be_built() {
    brig_only!();
    let report = without(libc::SYS_mount);
    report.has("mount-proc", "fail", &["Function not implemented"]);
    report.has("mount-tmpfs", "fail", &[]);
    report.has("overlay", "warn", &[]);
}

/// In a user namespace with this limit set to 0.
fn with_limit_0(sandbox: &Sandbox, kind: &str, args: &str) -> Report {
    let brig = runtime();
    let root = sandbox.state_root();
    let line = format!(
        "echo 0 >/proc/sys/user/max_{kind}_namespaces && exec {} --root {} doctor --format json {args}",
        brig.display(),
        root.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", &line]);
    command.env("BRIG_TEST", &sandbox.id).current_dir(&sandbox.dir);
    Report::of(&sandbox.spawn(command).wait())
}

#[test]
fn a_limit_on_each_kind_of_namespace_is_named_with_its_sysctl() {
    brig_only!();
    for (kind, check, status) in [
        ("mnt", "mount-namespace", "fail"),
        ("pid", "pid-namespace", "fail"),
        ("net", "network-namespace", "fail"),
        ("ipc", "ipc-namespace", "fail"),
        ("uts", "uts-namespace", "fail"),
        ("cgroup", "cgroup-namespace", "warn"),
        ("time", "time-namespace", "warn"),
    ] {
        let report = with_limit_0(&Sandbox::new(), kind, "");
        let limit = format!("user.max_{kind}_namespaces is 0");
        let mend = format!("sysctl -w user.max_{kind}_namespaces=");
        report.has(check, status, &[&limit, &mend]);
    }
}

#[test]
fn without_user_namespaces_a_bundle_that_has_one_would_not_start() {
    brig_only!();
    let sandbox = Sandbox::new();
    with_limit_0(&sandbox, "user", "").has("user-namespace", "warn", &["max_user_namespaces is 0"]);
    sandbox.patch(|config| {
        add_user_namespace(config);
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
        }
    });
    let report = with_limit_0(&sandbox, "user", sandbox.bundle().to_str().unwrap());
    report.has("user-namespace", "fail", &["sysctl -w user.max_user_namespaces="]);
    // Probes inside it are omitted.
    assert!(report.find("mount-proc").is_none(), "{:#?}", report.list);
    report.has("bundle", "fail", &[]);
}

#[test]
fn a_user_without_ranges_is_told_how_to_get_them() {
    brig_only!();
    as_user(false, |user| {
        let report = Report::of(&user.brig(&JSON));
        report.has("user-namespace", "ok", &[]);
        report.has("id-maps", "warn", &["usermod --add-subuids 100000-165535", "brig-test"]);
        report.has("mount-proc", "ok", &[]);
        user.patch(|config| {
            for map in ["uidMappings", "gidMappings"] {
                config["linux"][map] = json!([{ "containerID": 0, "hostID": 100_000, "size": 9 }]);
            }
        });
        let about = [&JSON[..], &["/mnt/bundle"]].concat();
        let report = Report::of(&user.brig(&about));
        report.has("id-maps", "fail", &["grants brig-test no ids", "usermod"]);
        report.has("bundle", "fail", &[]);
    });
}

#[test]
fn a_user_with_ranges_has_all_of_them_mapped() {
    brig_only!();
    as_user(true, |user| {
        Report::of(&user.brig(&JSON)).has("id-maps", "ok", &["65537 user ids", "65537 group ids"]);
    });
}

#[test]
fn without_newuidmap_ranges_are_of_no_use() {
    brig_only!();
    as_user(true, |user| {
        let mut command = user.command(&JSON);
        command.env("PATH", "/nonexistent");
        let report = Report::of(&user.sandbox.spawn(command).wait());
        report.has("id-maps", "warn", &["newgidmap", "apt-get install uidmap"]);
    });
}

#[test]
fn under_no_new_privs_newuidmap_has_no_rights() {
    brig_only!();
    as_user(true, |user| {
        let mut command = user.command(&JSON);
        before_exec(&mut command, || Ok(nix::sys::prctl::set_no_new_privs()?));
        let report = Report::of(&user.sandbox.spawn(command).wait());
        report.has("id-maps", "warn", &["no_new_privs"]);
    });
}

#[test]
fn a_proc_that_is_partly_hidden_cannot_be_mounted_by_a_user() {
    brig_only!();
    as_user(false, |user| {
        let target = Path::new("/proc/tty");
        mount(Some("hidden"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let done = user.brig(&JSON);
        umount2(target, MntFlags::MNT_DETACH).unwrap();
        let report = Report::of(&done);
        report.has("mount-proc", "fail", &["/proc/tty", "systempaths=unconfined", "umount"]);
        report.has("mount-tmpfs", "ok", &[]);
    });
}

#[test]
fn hidepid_is_named_to_a_user() {
    brig_only!();
    as_user(false, |user| {
        let flags = MsFlags::empty();
        mount(Some("proc"), "/proc", Some("proc"), flags, Some("hidepid=2")).unwrap();
        let done = user.brig(&JSON);
        umount2("/proc", MntFlags::MNT_DETACH).unwrap();
        Report::of(&done).has("proc", "warn", &["hidepid=", "remount,hidepid=0"]);
    });
}

#[test]
fn read_only_cgroups_are_an_obstacle_with_its_remedy() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        for (_, path) in host::hierarchies() {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).unwrap();
        }
        let done = sandbox.brig(&JSON);
        for (_, path) in host::hierarchies() {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            mount(None::<&str>, &path, None::<&str>, flags, None::<&str>).unwrap();
        }
        let report = Report::of(&done);
        report.has("cgroup", "fail", &["Read-only file system", "mount -o remount,rw"]);
    });
}

#[test]
fn without_cgroups_it_says_how_to_mount_them() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        let target = Path::new("/sys/fs/cgroup");
        mount(Some("hidden"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let done = sandbox.brig(&JSON);
        umount2(target, MntFlags::MNT_DETACH).unwrap();
        Report::of(&done).has("cgroup", "fail", &["no cgroup hierarchy", "mount -t cgroup2"]);
    });
}

#[test]
fn limits_that_the_kernel_refuses_fail_with_their_place_and_nothing_is_left() {
    brig_only!();
    if host::controller("cpuset").is_none() {
        return crate::sandbox::skip("no cpuset controller");
    }
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config["linux"]["resources"]["cpu"] = json!({ "cpus": "4000" }));
    let running = sandbox.spawn(about(&sandbox));
    let cgroup = format!("brig-doctor-{}", running.child.id());
    let report = Report::of(&running.wait());
    report.has("cgroup", "fail", &["linux.resources.cpu.cpus"]);
    report.has("bundle", "fail", &[]);
    assert_eq!(host::cgroups_with(&cgroup), Vec::<std::path::PathBuf>::new());
}

#[test]
fn without_pressure_it_says_how_to_boot() {
    brig_only!();
    let target = Path::new("/proc/pressure");
    if !target.exists() {
        return crate::sandbox::skip("the kernel measures no pressure");
    }
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        mount(Some("hidden"), target, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let done = sandbox.brig(&JSON);
        umount2(target, MntFlags::MNT_DETACH).unwrap();
        Report::of(&done).has("pressure", "warn", &["psi=1"]);
    });
}

#[test]
fn a_root_filesystem_that_is_mounted_noexec_fails() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        let rootfs = sandbox.rootfs();
        let none = None::<&str>;
        mount(Some(&rootfs), &rootfs, none, MsFlags::MS_BIND, none).unwrap();
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOEXEC;
        mount(none, &rootfs, none, flags, none).unwrap();
        let done = sandbox.spawn(about(&sandbox)).wait();
        umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
        let report = Report::of(&done);
        report.has("rootfs", "fail", &["noexec", "mount -o remount,exec"]);
        report.has("bundle", "fail", &[]);
    });
}

#[test]
fn a_state_directory_that_cannot_be_made_fails() {
    brig_only!();
    in_own_mounts(|| {
        let sandbox = Sandbox::new();
        let (state, none) = (sandbox.state_root(), None::<&str>);
        fs::create_dir(&state).unwrap();
        mount(Some("ro"), &state, Some("tmpfs"), MsFlags::MS_RDONLY, none).unwrap();
        let done = sandbox.brig(&JSON);
        umount2(&state, MntFlags::MNT_DETACH).unwrap();
        let words = ["Read-only file system", "--root"];
        Report::of(&done).has("state-directory", "fail", &words);
    });
}

#[test]
fn without_criu_there_is_no_checkpoint() {
    brig_only!();
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&JSON);
    command.env("PATH", "/nonexistent");
    let report = Report::of(&sandbox.spawn(command).wait());
    report.has("criu", "warn", &["criu is not installed", "apt-get install criu"]);
    let report = Report::of(&sandbox.brig(&[&["--criu", "/bin/false"], &JSON[..]].concat()));
    report.has("criu", "warn", &["exit status 1"]);
}

#[test]
fn without_systemd_scopes_cannot_be_made() {
    brig_only!();
    let sandbox = Sandbox::new();
    for (args, status) in [(&[][..], "ok"), (&["--systemd-cgroup"], "fail")] {
        let mut command = sandbox.command(&[args, &JSON].concat());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
        let report = Report::of(&sandbox.spawn(command).wait());
        report.has("systemd", status, &["systemd is not running"]);
    }
}

#[test]
fn root_without_its_capabilities_is_an_unprivileged_user() {
    brig_only!();
    let sandbox = Sandbox::new();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin"]).arg(runtime());
    command.arg("--root").arg(sandbox.state_root()).args(JSON).arg(sandbox.bundle());
    command.env("BRIG_TEST", &sandbox.id);
    let report = Report::of(&sandbox.spawn(command).wait());
    report.has("config", "fail", &["an unprivileged user needs a user namespace"]);
    report.has("bundle", "fail", &[]);
}
