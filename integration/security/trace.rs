//! No process may trace brig, or access the host through its files in /proc, from the clone to execve
//! (CVE-2016-9962): docs/security.md, "From birth to execve".

use crate::facts::Facts;
use crate::host;
use crate::rootless::{User, as_user};
use crate::sandbox::{Done, Sandbox, before_exec, brig_only};
use crate::tracer::{self, Strike, Traced, Whose};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// The number of processes to attack: 0436a14 lost each race within a few.
const TRIES: usize = 60;

fn map() -> Value {
    json!([{"containerID": 0, "hostID": 200_000, "size": 65536}])
}

fn in_user_namespace(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    config["linux"]["uidMappings"] = map();
    config["linux"]["gidMappings"] = map();
}

fn with_capabilities(config: &mut Value, names: &[&str]) {
    for set in ["bounding", "effective", "permitted"] {
        config["process"]["capabilities"][set] = json!(names);
    }
}

/// A file that only root on the host may read.
fn secret(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.dir.join("secret");
    fs::write(&path, "of the host").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A container in the host's pid namespace, with uid 0 but without capabilities, that looks for the secret.
fn spy() -> (Sandbox, Done) {
    let spy = Sandbox::new();
    let secret = secret(&spy);
    spy.patch(|config| {
        with_capabilities(config, &[]);
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "pid");
    });
    spy.script(&format!("look 600 {}", secret.display()));
    let looking = spy.run_with(&["--detach"]).ok();
    looking.wait_for_line("looking");
    (spy, looking)
}

/// Runs commands that create attackable processes, as long as it has found nothing.
#[track_caller]
fn nothing_is_read(looking: &Done, mut make: impl FnMut() -> Done) {
    let read = || looking.facts_now().all("read").first().map(ToString::to_string);
    for _ in 0..TRIES {
        let done = make();
        // After reading it, the spy exits, and perhaps what was being created with it.
        assert_eq!(read(), None);
        done.ok();
    }
}

#[test]
fn uid_0_of_another_container_reads_nothing_through_one_that_is_being_created() {
    brig_only!();
    let (_spy, looking) = spy();
    let made = Sandbox::new();
    made.script("true").patch(in_user_namespace);
    nothing_is_read(&looking, || made.run());
}

#[test]
fn uid_0_of_another_container_reads_nothing_through_what_maps_the_ids_of_a_mount() {
    brig_only!();
    let (_spy, looking) = spy();
    let made = Sandbox::new();
    fs::create_dir(made.dir.join("data")).unwrap();
    let mount = json!({
        "destination": "/tmp/data", "source": made.dir.join("data"), "options": ["bind"],
        "uidMappings": map(), "gidMappings": map(),
    });
    made.patch(|config| {
        config["root"]["readonly"] = json!(false);
        config["mounts"].as_array_mut().unwrap().push(mount.clone());
    });
    made.script("sleep 60").run_with(&["--detach"]).ok();
    let file = made.dir.join("mounts.json");
    let mount = |name: &str| {
        let mut mount = mount.clone();
        mount["destination"] = json!(name);
        json!([mount])
    };
    let mut number = 0;
    nothing_is_read(&looking, || {
        number += 1;
        fs::write(&file, mount(&format!("/tmp/data{number}")).to_string()).unwrap();
        made.brig(&["mounts", "add", &made.id, file.to_str().unwrap()])
    });
}

/// A directory of the host that everyone may search.
struct OfEverybody(PathBuf);

impl OfEverybody {
    fn new(id: &str) -> OfEverybody {
        let dir = std::env::temp_dir().join(format!("brig-test-{id}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        OfEverybody(dir)
    }
}

impl Drop for OfEverybody {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The namespaces of a pod's second container.
fn of_the_pod(config: &mut Value, pod: &Sandbox) {
    let pid = pod.pid();
    let joined = [("pid", "pid"), ("user", "user"), ("network", "net"), ("ipc", "ipc")]
        .map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    let list = config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| ["mount", "cgroup"].iter().any(|kind| namespace["type"] == *kind));
    list.extend(joined);
    config.as_object_mut().unwrap().remove("hostname");
}

#[test]
fn a_pod_that_may_trace_reads_nothing_through_its_second_container() {
    brig_only!();
    let pod = Sandbox::new();
    // Its ids are unused on the host: what it could read there is world-readable, if it gets there.
    let dir = OfEverybody::new(&pod.id);
    let secret = dir.0.join("secret");
    fs::write(&secret, "of the host").unwrap();
    pod.patch(|config| {
        in_user_namespace(config);
        with_capabilities(config, &["CAP_SYS_PTRACE", "CAP_KILL"]);
    });
    pod.script(&format!("look 600 {}", secret.display()));
    let looking = pod.run_with(&["--detach"]).ok();
    looking.wait_for_line("looking");
    let made = Sandbox::new();
    made.script("true").patch(|config| of_the_pod(config, &pod));
    nothing_is_read(&looking, || made.run());
}

#[test]
fn an_unprivileged_users_container_reads_nothing_through_what_is_executed_in_it() {
    brig_only!();
    as_user(false, |user| {
        fs::write("/mnt/secret", "of the user").unwrap();
        user.patch(|config| with_capabilities(config, &["CAP_SYS_PTRACE", "CAP_KILL"]));
        // From the state directory, /mnt/run/brig/ID, to /mnt.
        user.sandbox.script("look 600 ../../../secret");
        let looking = user.run(&["--detach"]).ok();
        looking.wait_for_line("looking");
        let id = user.sandbox.id.clone();
        nothing_is_read(&looking, || user.brig(&["exec", &id, "/init", "true"]));
        user.brig(&["delete", "--force", &id]).ok();
    });
}

#[test]
fn root_without_cap_sys_ptrace_creates_containers_with_mapped_ids() {
    brig_only!();
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.dir.join("data")).unwrap();
    fs::create_dir(sandbox.rootfs().join("data")).unwrap();
    sandbox.script("ids").patch(|config| {
        in_user_namespace(config);
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/data", "source": sandbox.dir.join("data"), "options": ["bind"],
            "uidMappings": map(), "gidMappings": map(),
        }));
    });
    let bundle = sandbox.bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    before_exec(&mut command, || {
        const CAP_SYS_PTRACE: libc::c_ulong = 19;
        // SAFETY: takes integers only.
        nix::errno::Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_PTRACE) })?;
        Ok(())
    });
    let done = sandbox.spawn(command).wait().ok();
    assert_eq!(Facts::parse(&done.stdout).word("uid", 0), "0");
}

fn pid_of(user: &User) -> i64 {
    let state: Value =
        serde_json::from_str(&user.brig(&["state", &user.sandbox.id]).ok().stdout).unwrap();
    state["pid"].as_i64().unwrap()
}

#[test]
fn an_unprivileged_users_created_container_can_be_entered_listed_and_mounted_into() {
    brig_only!();
    as_user(false, |user| {
        let id = user.sandbox.id.as_str();
        user.sandbox.script("sleep 60").patch(|config| config["root"]["readonly"] = json!(false));
        user.brig(&["create", "--bundle", "/mnt/bundle", id]).ok();
        let facts = Facts::parse(&user.brig(&["exec", id, "/init", "ids"]).ok().stdout);
        assert_eq!(facts.get("uid"), "0 0 0");
        let listed = user.brig(&["ps", "--format", "json", id]).ok().stdout;
        assert_eq!(listed.trim(), format!("[{}]", pid_of(user)));
        let mounts = json!([{"destination": "/tmp/new", "type": "tmpfs", "source": "tmpfs"}]);
        fs::write("/mnt/mounts.json", mounts.to_string()).unwrap();
        user.brig(&["mounts", "add", id, "/mnt/mounts.json"]).ok();
        let done = user.brig(&["exec", id, "/init", "mounts"]).ok();
        assert_eq!(Facts::parse(&done.stdout).mount("/tmp/new").fstype, "tmpfs");
        user.brig(&["start", id]).ok();
        user.brig(&["delete", "--force", id]).ok();
    });
}

/// Whether the readable part of a process's memory contains this text.
fn memory_has(pid: i64, text: &str) -> bool {
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        rest.starts_with("rw")
            && memory.seek(SeekFrom::Start(from)).is_ok()
            && memory.read_exact(&mut bytes).is_ok()
            && bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn an_unprivileged_users_created_container_has_nothing_of_the_callers_in_its_memory() {
    brig_only!();
    as_user(false, |user| {
        let id = user.sandbox.id.as_str();
        user.sandbox.script("sleep 60").patch(|config| {
            let hook =
                json!({"path": "/bin/true", "args": ["true"], "env": ["A=sesame-of-a-hook"]});
            config["hooks"] = json!({"poststop": [hook], "createRuntime": [hook]});
            config["annotations"] = json!({"a": "sesame-of-an-annotation"});
            config["process"]["env"].as_array_mut().unwrap().push(json!("B=sesame-of-its-own"));
        });
        let mut create = user.command(&["create", "--bundle", "/mnt/bundle", id]);
        create.env("SESAME", "sesame-of-the-caller");
        user.sandbox.spawn(create).wait().ok();
        let pid = pid_of(user);
        // Its own text proves that the search works.
        assert!(memory_has(pid, "sesame-of-its-own"));
        let gone = ["hook", "an-annotation", "the-caller"];
        let wiped = || gone.iter().all(|what| !memory_has(pid, &format!("sesame-of-{what}")));
        // create ends before init has done it.
        let done = host::wait_until(Duration::from_secs(5), wiped);
        let left: Vec<_> =
            gone.iter().filter(|what| memory_has(pid, &format!("sesame-of-{what}"))).collect();
        assert!(done, "{left:?}");
        user.brig(&["delete", "--force", id]).ok();
    });
}

/// The calls allowed between a change of ids and the next one that makes it undumpable, because
/// `fs.suid_dumpable` may make it dumpable: only further changes of credentials.
fn assert_undumpable_after_each_change_of_ids(traced: &Traced) {
    let (mut changes, mut dumpable) = (0, false);
    for (&call, &[first, second]) in traced.calls.iter().zip(&traced.arguments) {
        let joins = |second: u64| second & libc::CLONE_NEWUSER.cast_unsigned() as u64 != 0;
        match call {
            libc::SYS_execve | libc::SYS_execveat => break,
            libc::SYS_setresuid | libc::SYS_setresgid => (changes, dumpable) = (changes + 1, true),
            libc::SYS_setns if joins(second) => (changes, dumpable) = (changes + 1, true),
            libc::SYS_prctl if first == libc::PR_SET_DUMPABLE as u64 => dumpable = second != 0,
            libc::SYS_prctl | libc::SYS_setgroups | libc::SYS_capset => {}
            call => assert!(!dumpable, "call {call} after a change of ids: {traced:?}"),
        }
    }
    assert!(!dumpable && changes >= 3, "{changes} changes: {traced:?}");
}

#[test]
fn whoever_changes_its_ids_is_made_undumpable_before_it_does_anything_else() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").patch(|config| {
        in_user_namespace(config);
        config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    });
    let bundle = sandbox.bundle();
    let traced = |args: &[&str]| {
        let command = sandbox.command(args);
        tracer::run(&sandbox, command, Whose::Child, usize::MAX, Strike::Child)
    };
    let id = sandbox.id.as_str();
    let run = traced(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_undumpable_after_each_change_of_ids(&run);
    let exec = traced(&["exec", id, "/init", "true"]);
    assert_eq!(exec.code, Some(0), "{exec:?}");
    assert_undumpable_after_each_change_of_ids(&exec);
}
