//! brig called by an unprivileged user with cgroups delegated by systemd, in their session: a lingering user,
//! as in the guest of `make test-vm-systemd`.

use crate::cgroups::{BUSY, gets_percent_of_a_cpu};
use crate::facts::Facts;
use crate::host::{self, Version};
use crate::rootless;
use crate::sandbox::{Done, Sandbox, brig_only, runtime, skip};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::RwLockReadGuard;
use std::time::Duration;

/// A sandbox of the user.
struct Session {
    sandbox: Sandbox,
    user: User,
    /// No other test disables user namespaces of unprivileged users meanwhile.
    _namespaces: RwLockReadGuard<'static, ()>,
}

#[derive(Clone, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

/// A lingering user, on cgroup v2.
fn lingering() -> Option<User> {
    host::controller("pids").filter(|(version, _)| *version == Version::V2)?;
    let names = fs::read_dir("/var/lib/systemd/linger").ok()?.flatten();
    let names: Vec<String> = names.filter_map(|name| name.file_name().into_string().ok()).collect();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let user = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let user = User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? };
        let up = Path::new(&format!("/run/user/{}/bus", user.uid)).exists();
        (up && names.iter().any(|name| name == fields[0])).then_some(user)
    };
    passwd.lines().find_map(user)
}

/// Skips the test without such a user: `let session = session!();`.
macro_rules! session {
    () => {{
        brig_only!();
        match lingering() {
            Some(user) => Session::new(user),
            None => return skip("no unprivileged user has a session of systemd's on cgroup v2"),
        }
    }};
}

impl Session {
    fn new(user: User) -> Session {
        let namespaces = host::unprivileged_namespaces();
        let sandbox = Sandbox::new();
        rootless::own(&sandbox.dir, user.uid);
        let session = Session { sandbox, user, _namespaces: namespaces };
        fs::remove_file(session.sandbox.bundle().join("config.json")).unwrap();
        let bundle = session.sandbox.bundle();
        let mut spec = session.outside(&["spec", "--rootless", "--bundle"]);
        spec.arg(&bundle);
        session.sandbox.spawn(spec).wait().ok();
        session.sandbox.patch(|config| config["process"]["terminal"] = json!(false));
        session
    }

    /// A command as the user.
    fn as_user(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.sandbox.dir).uid(self.user.uid).gid(self.user.gid).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BRIG_TEST", &self.sandbox.id);
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{}", self.user.uid));
        command
    }

    /// brig in the cgroup of this test, outside the session.
    fn outside(&self, args: &[&str]) -> Command {
        let mut command = self.as_user(runtime());
        command.args(args);
        command
    }

    /// brig in a cgroup of the session, as called by a person.
    fn brig(&self, args: &[&str]) -> Done {
        let mut command = self.as_user("systemd-run");
        command.args(["--user", "--scope", "--quiet", "--property=Delegate=yes"]);
        command.arg(runtime()).args(args);
        self.sandbox.spawn(command).wait()
    }

    /// `run` there, with further arguments.
    fn run(&self, args: &[&str]) -> Done {
        let bundle = self.sandbox.bundle();
        let bundle = bundle.to_str().unwrap();
        self.brig(&[&["run", "--bundle", bundle], args, &[&self.sandbox.id]].concat())
    }

    fn limit(&self, resources: Value) {
        self.sandbox.patch(|config| config["linux"]["resources"] = resources);
    }

    /// Runs a script in the background until it prints `ready`.
    fn running(&self, script: &str) -> Done {
        self.sandbox.script(&format!("{script} ; say ready ; sleep 120"));
        let done = self.run(&["--detach"]).ok();
        done.wait_for_line("ready");
        done
    }

    fn exec(&self, script: &str) -> Done {
        let words: Vec<&str> = script.split(' ').collect();
        self.brig(&[&["exec", &self.sandbox.id, "/init"], &words[..]].concat())
    }

    fn state(&self) -> Value {
        let done = self.sandbox.spawn(self.outside(&["state", &self.sandbox.id])).wait().ok();
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// The container's cgroup.
    fn cgroup(&self) -> PathBuf {
        let (_, mountpoint) = host::controller("pids").unwrap();
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.state()["pid"])).unwrap();
        mountpoint.join(text.trim().strip_prefix("0::/").unwrap())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The sandbox only considers its own state directory.
        let deleted = self.outside(&["delete", "--force", &self.sandbox.id]).output();
        // A second panic would abort all tests.
        if !std::thread::panicking() {
            let deleted = deleted.unwrap();
            assert!(deleted.status.success(), "{deleted:?}");
        }
    }
}

fn read(dir: &Path, file: &str) -> String {
    let text = fs::read_to_string(dir.join(file));
    text.unwrap_or_else(|error| panic!("{dir:?}/{file}: {error}")).trim().to_string()
}

#[test]
fn limits_are_in_effect_where_cgroups_are_delegated() {
    let session = session!();
    session.limit(json!({
        "pids": {"limit": 9}, "memory": {"limit": 32 << 20, "swap": 32 << 20},
        "cpu": {"shares": 512, "quota": 20_000, "period": 100_000, "cpus": "0"},
        "unified": {"memory.high": "29360128"},
    }));
    let done = session.running("forks 20 ; affinity");
    assert!(!done.stderr.contains("warning"), "{done:?}");
    let facts = done.facts_now();
    assert_eq!(facts.get("forks"), "8 EAGAIN");
    assert_eq!(facts.get("affinity"), "0");
    let cgroup = session.cgroup();
    let service = format!("/user@{0}.service/", session.user.uid);
    assert!(cgroup.to_str().unwrap().contains(&service), "{cgroup:?}");
    assert_eq!(fs::metadata(&cgroup).unwrap().uid(), session.user.uid);
    for (file, value) in [
        ("pids.max", "9"),
        ("memory.max", "33554432"),
        ("memory.swap.max", "0"),
        ("memory.high", "29360128"),
        ("cpu.max", "20000 100000"),
        ("cpu.weight", "59"),
        ("cpuset.cpus", "0"),
    ] {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    // From another scope, because the first is gone: executed processes are accounted to the container's.
    let facts = Facts::parse(&session.exec("cgroups ; forks 20").ok().stdout);
    assert_eq!(facts.get("cgroup"), "0::/");
    assert_eq!(facts.get("forks"), "7 EAGAIN");
    session.brig(&["exec", "--detach", &session.sandbox.id, "/init", "burn", "60"]).ok();
    if !gets_percent_of_a_cpu(session.state()["pid"].as_i64().unwrap(), 5..=32) {
        skip(BUSY);
    }
    // The limits also survive after scopes have ended, and whatever systemd does in the session: it disables
    // controllers that no unit below has enabled for its children.
    let mut reload = session.as_user("systemctl");
    reload.args(["--user", "daemon-reload"]);
    session.sandbox.spawn(reload).wait().ok();
    // After creating and ending another scope, systemd has processed everything before.
    session.brig(&["list"]).ok();
    for (file, value) in [("pids.max", "9"), ("cpu.max", "20000 100000"), ("cpuset.cpus", "0")] {
        assert_eq!(read(&cgroup, file), value, "{file}");
    }
    session.brig(&["delete", "--force", &session.sandbox.id]).ok();
    assert!(!cgroup.exists());
    session.sandbox.assert_nothing_left();
}

#[test]
fn a_delegated_container_that_takes_too_much_memory_is_killed() {
    let session = session!();
    session.limit(json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}));
    session.sandbox.script(&format!("hog {} ; say survived", 24 << 20));
    let done = session.run(&[]);
    assert_eq!(done.code, Some(128 + 9), "{done:?}");
}

#[test]
fn each_step_of_a_delegated_containers_life_can_come_from_another_scope() {
    let session = session!();
    let id = &session.sandbox.id;
    session.sandbox.script("say up ; sleep 120");
    let bundle = session.sandbox.bundle();
    let done = session.brig(&["create", "--bundle", bundle.to_str().unwrap(), id]).ok();
    assert!(!done.stderr.contains("warning"), "{done:?}");
    assert_eq!(session.state()["status"], "created");
    let cgroup = session.cgroup();
    session.brig(&["start", id]).ok();
    done.wait_for_line("up");
    assert!(session.brig(&["list"]).ok().stdout.contains(id.as_str()));
    assert_eq!(Facts::parse(&session.exec("ids").ok().stdout).get("uid"), "0 0 0");
    session.brig(&["kill", id, "KILL"]).ok();
    let stopped = || session.state()["status"] == "stopped";
    assert!(host::wait_until(Duration::from_secs(20), stopped));
    session.brig(&["delete", id]).ok();
    assert!(!cgroup.exists());
    session.sandbox.assert_nothing_left();
}

#[test]
fn without_delegation_a_container_goes_without_a_cgroup_and_says_so_but_not_without_its_limits() {
    let session = session!();
    let bundle = session.sandbox.bundle();
    let run =
        || session.outside(&["run", "--bundle", bundle.to_str().unwrap(), &session.sandbox.id]);
    session.sandbox.script("say done");
    session.sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!("named"));
    let done = session.sandbox.spawn(run()).wait().ok();
    assert!(done.stderr.contains("the container gets no cgroup of its own"), "{done:?}");
    session.limit(json!({"pids": {"limit": 9}}));
    let done = session.sandbox.spawn(run()).wait();
    done.fails_with("run brig by `systemd-run --user --scope --property=Delegate=yes`");
    session.sandbox.assert_nothing_left();
}

#[test]
fn a_delegated_container_is_executed_in_from_the_session_alone() {
    let session = session!();
    session.limit(json!({"pids": {"limit": 9}}));
    session.running("true");
    let exec = session.outside(&["exec", &session.sandbox.id, "/init", "true"]);
    let done = session.sandbox.spawn(exec).wait();
    assert_eq!(done.code, Some(255), "{done:?}");
    assert!(done.stderr.contains("systemd-run --user --scope"), "{done:?}");
}

#[test]
fn a_delegated_container_can_divide_its_cgroup() {
    let session = session!();
    session.limit(json!({"pids": {"limit": 9}}));
    session.sandbox.patch(|config| {
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev"],
        }));
    });
    let done = session.running(
        "mkdir /sys/fs/cgroup/own ; write /sys/fs/cgroup/own/cgroup.procs 0 ; \
         write /sys/fs/cgroup/cgroup.subtree_control +pids ; write /sys/fs/cgroup/pids.max max",
    );
    let facts = done.facts_now();
    assert_eq!(facts.get("write /sys/fs/cgroup/cgroup.subtree_control"), "ok", "{facts}");
    // nsdelegate: the limits of the namespace's root cannot be changed inside.
    assert_eq!(facts.get("write /sys/fs/cgroup/pids.max"), "EPERM");
    let facts = Facts::parse(&session.exec("cgroups ; forks 20").ok().stdout);
    assert_eq!(facts.get("cgroup"), "0::/own");
    assert_eq!(facts.get("forks"), "7 EAGAIN");
    session.brig(&["delete", "--force", &session.sandbox.id]).ok();
    session.sandbox.assert_nothing_left();
}

#[test]
fn rules_for_devices_that_cannot_be_enforced_are_a_debug_line() {
    let session = session!();
    session.limit(json!({"devices": [{"allow": false, "access": "rwm"}]}));
    session.sandbox.script("mknod /dev/kmsg c 1 11 ; open /dev/null rw");
    let done = session.run(&[]).ok();
    // Engines send such a list with every container.
    assert!(!done.stderr.contains("linux.resources.devices"), "{done:?}");
    let facts = Facts::parse(&done.stdout);
    assert_eq!(facts.get("mknod /dev/kmsg"), "EPERM");
    assert_eq!(facts.get("open /dev/null"), "ok");
}
