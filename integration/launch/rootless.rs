//! brig called by an unprivileged user, with and without subordinate ids in /etc/subuid and /etc/subgid. The
//! user exists only in the test's mount namespace, which has another /etc.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Done, Sandbox, brig_only, skip};
use crate::tracer::{self, Strike, Whose};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chown};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const NAME: &str = "brig-test";
pub const UID: u32 = 54_321;
/// The first subordinate id.
const FIRST: u32 = 700_000;

/// The user's environment: the sandbox's directory as /mnt, accessible wherever it really is.
pub struct User {
    pub sandbox: Sandbox,
    mounts: Vec<PathBuf>,
}

/// Runs the test in a thread with a new mount namespace, in which the user exists.
pub fn as_user(granted: bool, test: impl FnOnce(&User) + Send + 'static) {
    if granted && !installed("newuidmap") {
        return skip("no newuidmap");
    }
    let _namespaces = host::unprivileged_namespaces();
    in_own_mounts(move || test(&User::new(granted)));
}

pub fn in_own_mounts(test: impl FnOnce() + Send + 'static) {
    let name = std::thread::current().name().unwrap_or("rootless").to_string();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        test();
    });
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// Whether a program is installed.
pub fn installed(program: &str) -> bool {
    let found = |dir: &&str| Path::new(dir).join(program).exists();
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().any(found)
}

impl User {
    pub fn new(granted: bool) -> User {
        let mut user = User { sandbox: Sandbox::new(), mounts: Vec::new() };
        let dir = user.sandbox.dir.clone();
        let mut attach = |source: &str, target: &Path, fstype, flags, data: Option<&str>| {
            mount(Some(source), target, fstype, flags, data).unwrap();
            user.mounts.push(target.to_path_buf());
        };
        let etc = dir.join("etc");
        fs::create_dir(&etc).unwrap();
        attach("etc", &etc, Some("tmpfs"), MsFlags::empty(), None);
        let (upper, work) = (etc.join("upper"), etc.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let data = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        attach("etc", Path::new("/etc"), Some("overlay"), MsFlags::empty(), Some(&data));
        attach(dir.to_str().unwrap(), Path::new("/mnt"), None, MsFlags::MS_BIND, None);
        append("/etc/passwd", &format!("{NAME}:x:{UID}:{UID}::/mnt:/bin/sh\n"));
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::write(file, "somebody-else:100000:65536\n").unwrap();
            if granted {
                append(file, &format!("{NAME}:{FIRST}:65536\n"));
            }
        }
        // Not a copy: a child of another thread may hold it open for writing while it is executed.
        fs::write("/mnt/brig", "").unwrap();
        let brig = crate::sandbox::runtime();
        attach(brig.to_str().unwrap(), Path::new("/mnt/brig"), None, MsFlags::MS_BIND, None);
        fs::create_dir("/mnt/run").unwrap();
        own(Path::new("/mnt"), UID);
        fs::remove_file("/mnt/bundle/config.json").unwrap();
        user.brig(&["spec", "--rootless", "--bundle", "/mnt/bundle"]).ok();
        user.patch(|config| config["process"]["terminal"] = json!(false));
        user
    }

    /// A command of brig's as the user, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("/mnt/brig");
        self.become_user(command.args(args));
        command
    }

    /// Makes a command run as the user.
    pub fn become_user(&self, command: &mut Command) {
        command.current_dir("/mnt").uid(UID).gid(UID).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("BRIG_TEST", &self.sandbox.id);
        command.env("XDG_RUNTIME_DIR", "/mnt/run");
    }

    pub fn brig(&self, args: &[&str]) -> Done {
        self.sandbox.spawn(self.command(args)).wait()
    }

    /// `run`, with further arguments.
    pub fn run(&self, args: &[&str]) -> Done {
        self.brig(&[&["run", "--bundle", "/mnt/bundle"], args, &[&self.sandbox.id]].concat())
    }

    /// The output of a script that must succeed.
    #[track_caller]
    pub fn facts(&self, script: &str) -> Facts {
        self.sandbox.script(script);
        Facts::parse(&self.run(&[]).ok().stdout)
    }

    pub fn patch(&self, change: impl FnOnce(&mut Value)) {
        self.sandbox.patch(change);
    }

    /// A command that must fail with this message, and leave nothing.
    #[track_caller]
    pub fn fails(&self, command: Command, texts: &[&str]) {
        let message = self.sandbox.spawn(command).wait().fails();
        for text in texts {
            assert!(message.contains(text), "no {text:?} in {message:?}");
        }
        assert_eq!(fs::read_dir("/mnt/run/brig").map_or(0, Iterator::count), 0);
        self.sandbox.assert_nothing_left();
    }

    /// `run`, not started.
    pub fn run_command(&self) -> Command {
        self.command(&["run", "--bundle", "/mnt/bundle", &self.sandbox.id])
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // The sandbox only considers its own state directory.
        let mut delete = self.command(&["delete", "--force", &self.sandbox.id]);
        let deleted = delete.output();
        for mounted in self.mounts.iter().rev() {
            umount2(mounted, MntFlags::MNT_DETACH).unwrap();
        }
        // A second panic would abort all tests.
        if !std::thread::panicking() {
            let deleted = deleted.unwrap();
            assert!(deleted.status.success(), "{deleted:?}");
        }
    }
}

fn append(path: &str, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Changes the owner of directories: files can be hard links to shared ones.
pub fn own(dir: &Path, id: u32) {
    chown(dir, Some(Uid::from_raw(id)), Some(Gid::from_raw(id))).unwrap();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() && entry.file_name() != "etc" {
            own(&entry.path(), id);
        }
    }
    if dir.ends_with("rootfs") {
        own(&dir.join("etc"), id);
    }
}

/// The id map as seen in the container: lines of three numbers.
fn id_map(facts: &Facts) -> Vec<String> {
    let text: String = serde_json::from_str(facts.get("read /proc/self/uid_map")).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn root_in_the_container_is_the_user_outside() {
    brig_only!();
    for granted in [false, true] {
        as_user(granted, move |user| {
            let facts = user.facts(
                "ids ; read /proc/self/uid_map ; status CapEff NoNewPrivs ; \
                                    write /proc/sys/kernel/panic 0 ; stat /init ; stat /etc",
            );
            assert_eq!(facts.get("uid"), "0 0 0");
            let mut maps = vec![format!("0 {UID} 1")];
            maps.extend(granted.then(|| format!("1 {FIRST} 65536")));
            assert_eq!(id_map(&facts), maps);
            assert_eq!(facts.word("stat /etc", 2), "0", "{facts}");
            assert_eq!(facts.word("stat /init", 2), "65534", "{facts}");
            assert_ne!(facts.get("write /proc/sys/kernel/panic"), "ok");
            user.sandbox.assert_nothing_left();
        });
    }
}

#[test]
fn a_container_lives_and_dies_below_the_session_directory() {
    brig_only!();
    for granted in [false, true] {
        as_user(granted, |user| {
            let id = &user.sandbox.id;
            user.sandbox.script("say up ; sleep 60");
            user.brig(&["create", "--bundle", "/mnt/bundle", id]).ok();
            assert!(Path::new("/mnt/run/brig").join(id).join("state.json").exists());
            let status = || {
                let done = user.brig(&["state", id]).ok();
                serde_json::from_str::<Value>(&done.stdout).unwrap()
            };
            assert_eq!(status()["status"], "created");
            user.brig(&["start", id]).ok();
            assert_eq!(status()["status"], "running");
            let owner = host::status_of(status()["pid"].as_i64().unwrap(), "Uid").unwrap();
            assert!(owner.starts_with(&UID.to_string()), "{owner}");
            assert!(user.brig(&["list"]).ok().stdout.contains(id.as_str()));
            let execd = user.brig(&["exec", id, "/init", "ids", ";", "ns"]).ok();
            let facts = Facts::parse(&execd.stdout);
            assert_eq!(facts.get("uid"), "0 0 0");
            let user_namespace =
                fs::read_link(format!("/proc/{}/ns/user", status()["pid"])).unwrap();
            assert_eq!(facts.get("ns user"), user_namespace.to_str().unwrap());
            user.brig(&["kill", id, "KILL"]).ok();
            let stopped = || status()["status"] == "stopped";
            assert!(host::wait_until(std::time::Duration::from_secs(10), stopped));
            user.brig(&["delete", id]).ok();
            assert!(!Path::new("/mnt/run/brig").join(id).exists());
            user.sandbox.assert_nothing_left();
        });
    }
}

#[test]
fn with_granted_ids_the_process_can_be_any_of_them() {
    brig_only!();
    as_user(true, |user| {
        user.patch(|config| {
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [5]});
        });
        let facts = user.facts("ids ; write /dev/shm/x y ; stat /dev/shm/x");
        assert_eq!(facts.get("uid"), "1000 1000 1000");
        assert_eq!(facts.get("groups"), "5");
        assert_eq!(facts.word("stat /dev/shm/x", 2), "1000", "{facts}");
    });
}

/// An action that needs attributes of overlayfs: a removed and recreated directory must not show the layer's
/// files.
const REMADE: &str =
    "unlink /layer/file ; rmdir /layer ; mkdir /layer ; list /layer ; write /etc/x y";

/// Whether tmpfs supports `user.` attributes (Linux 6.6). In an upper without them, a directory of the layers
/// cannot be removed: the kernel has no way to hide it, and returns EIO.
fn tmpfs_has_attributes() -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new("/dev/shm").join(format!("brig-test-{}", std::process::id()));
    fs::write(&path, "").unwrap();
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let (key, value) = (c"user.brig", c"x");
    // SAFETY: the strings are NUL-terminated, the value has the given length, all outlive the call.
    let done = unsafe { libc::setxattr(name.as_ptr(), key.as_ptr(), value.as_ptr().cast(), 1, 0) };
    fs::remove_file(&path).unwrap();
    done == 0
}

#[test]
fn layers_hide_what_was_removed() {
    brig_only!();
    as_user(true, |user| {
        user.sandbox.add_file("layer/file", "below\n");
        own(Path::new("/mnt/bundle"), UID);
        let uppers = if tmpfs_has_attributes() { &["tmpfs", "upper"][..] } else { &["upper"] };
        for upper in uppers {
            user.patch(|config| {
                config["root"] = json!({"path": "merged"});
                config["annotations"] = json!({
                    "run.brig.overlay.layers": "rootfs", "run.brig.overlay.upper": upper,
                });
            });
            let facts = user.facts(REMADE);
            assert_eq!(facts.get("mkdir /layer"), "ok", "{upper}: {facts}");
            assert_eq!(facts.get("list /layer"), "0", "{upper}: {facts}");
        }
        // The whiteout in the upper also works in the next container.
        assert_eq!(user.facts("list /layer ; read /etc/x").get("list /layer"), "0");
        assert!(Path::new("/mnt/bundle/rootfs/layer/file").exists());
    });
}

#[test]
fn roots_containers_in_user_namespaces_hide_what_was_removed_too() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.add_file("layer/file", "below\n");
    for path in ["", "layer", "etc", "layer/file"] {
        chown(&sandbox.rootfs().join(path), Some(Uid::from_raw(FIRST)), Some(Gid::from_raw(FIRST)))
            .unwrap();
    }
    sandbox.patch(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": FIRST, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["root"] = json!({"path": "merged"});
        config["annotations"] = json!({
            "run.brig.overlay.layers": "rootfs", "run.brig.overlay.upper": "upper",
        });
    });
    let facts = sandbox.facts(REMADE);
    assert_eq!(facts.get("list /layer"), "0", "{facts}");
    assert_eq!(sandbox.facts("list /layer").get("list /layer"), "0");
}

#[test]
fn a_sysfs_that_may_not_be_mounted_is_the_hosts_and_read_only() {
    brig_only!();
    as_user(true, |user| {
        user.patch(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["destination"] != "/sys");
            mounts.push(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs"}));
        });
        user.sandbox.script("mounts ; list /sys/kernel ; write /sys/kernel/mm/x y");
        let done = user.run(&[]).ok();
        assert!(done.stderr.contains("/sys is mounted from the host, read-only"), "{done:?}");
        let facts = Facts::parse(&done.stdout);
        for mounted in facts.mounts().iter().filter(|mount| mount.target.starts_with("/sys")) {
            assert!(mounted.has("ro"), "{mounted:?}");
        }
        assert_eq!(facts.get("write /sys/kernel/mm/x"), "EROFS");
        // With a new network namespace it has its own, and there is no warning.
        user.patch(|config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "network"}));
        });
        let done = user.run(&[]).ok();
        assert!(!done.stderr.contains("/sys is mounted from the host"), "{done:?}");
    });
}

#[test]
fn layers_may_be_somebody_elses() {
    brig_only!();
    for granted in [false, true] {
        as_user(granted, |user| {
            for dir in ["", "etc", "bin"] {
                chown(&user.sandbox.rootfs().join(dir), Some(Uid::from_raw(0)), None).unwrap();
            }
            for upper in ["tmpfs", "upper"] {
                user.patch(|config| {
                    config["root"] = json!({"path": "merged"});
                    config["annotations"] = json!({
                        "run.brig.overlay.layers": "rootfs", "run.brig.overlay.upper": upper,
                    });
                });
                let facts = user.facts("mkdir /new ; write /new/x y ; stat /new");
                assert_eq!(facts.get("write /new/x"), "ok", "{upper}: {facts}");
                assert_eq!(facts.word("stat /new", 2), "0", "{upper}: {facts}");
            }
        });
    }
}

#[test]
fn what_an_unprivileged_user_may_ask_for_is_done() {
    brig_only!();
    as_user(false, |user| {
        user.patch(|config| {
            config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 7});
            config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
            config["process"]["oomScoreAdj"] = json!(500);
            config["linux"]["sysctl"] = json!({"kernel.msgmax": "9000"});
            config["linux"]["devices"] =
                json!([{"path": "/dev/mine", "type": "p"}, {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5}]);
        });
        let facts = user.facts(
            "sched ; read /proc/self/oom_score_adj ; read /proc/sys/kernel/msgmax ; \
                                stat /dev/mine ; stat /dev/zero",
        );
        assert_eq!((facts.word("sched", 0), facts.word("sched", 1)), ("3", "7"), "{facts}");
        assert_eq!(facts.get("ioprio"), "3 0");
        assert_eq!(facts.get("read /proc/self/oom_score_adj"), "\"500\\n\"");
        assert_eq!(facts.get("read /proc/sys/kernel/msgmax"), "\"9000\\n\"");
        assert!(facts.get("stat /dev/mine").starts_with("fifo"), "{facts}");
        assert!(facts.get("stat /dev/zero").starts_with("char"), "{facts}");
    });
}

#[test]
fn when_create_returns_its_user_can_access_the_container() {
    brig_only!();
    as_user(false, |user| {
        user.sandbox.script("sleep 60");
        let create = user.command(&["create", "--bundle", "/mnt/bundle", &user.sandbox.id]);
        // Nothing is struck: there are fewer calls.
        let traced = tracer::run(&user.sandbox, create, Whose::Child, usize::MAX, Strike::Child);
        assert_eq!(traced.code, Some(0));
        let dumpable = [libc::PR_SET_DUMPABLE, 1].map(|word| u64::try_from(word).unwrap());
        let calls = traced.calls.iter().zip(&traced.arguments);
        let made = calls.filter(|(call, args)| (**call, **args) == (libc::SYS_prctl, dumpable));
        assert_eq!(made.count(), 1, "{:?}", traced.calls);
        user.brig(&["exec", &user.sandbox.id, "/init", "true"]).ok();
    });
}

#[test]
fn maps_without_id_0_are_an_unprivileged_users_too() {
    brig_only!();
    as_user(false, |user| {
        user.patch(|config| {
            let maps = json!([{"containerID": 1000, "hostID": UID, "size": 1}]);
            config["linux"]["uidMappings"] = maps.clone();
            config["linux"]["gidMappings"] = maps;
            config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        let facts = user.facts("ids ; read /proc/self/uid_map");
        assert_eq!(facts.get("uid"), "1000 1000 1000");
        assert_eq!(id_map(&facts), [format!("1000 {UID} 1")]);
    });
}

#[test]
fn where_proc_hides_processes_a_container_is_what_it_is() {
    brig_only!();
    as_user(false, |user| {
        // In the test's own mount namespace, which ends with its thread.
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=2")).unwrap();
        let id = &user.sandbox.id;
        let status = || {
            let state = user.brig(&["state", id]).ok();
            serde_json::from_str::<Value>(&state.stdout).unwrap()["status"].clone()
        };
        user.sandbox.script("sleep 60");
        user.brig(&["create", "--bundle", "/mnt/bundle", id]).ok();
        assert_eq!(status(), "created");
        user.brig(&["start", id]).ok();
        assert_eq!(status(), "running");
        user.brig(&["exec", id, "/init", "true"]).ok();
        user.brig(&["kill", id, "KILL"]).ok();
        assert!(host::wait_until(std::time::Duration::from_secs(10), || status() == "stopped"));
        user.brig(&["delete", id]).ok();
        umount2("/proc", MntFlags::MNT_DETACH).unwrap();
        user.sandbox.assert_nothing_left();
    });
}
