//! The cgroup2 controllers available in a container: all that the cgroups above can enable. Skipped if
//! controllers are on v1; the guest of `make test-vm` has only cgroup2.

use crate::cgroup_v2::{cgroup, limited, read, unified};
use crate::sandbox::{Sandbox, brig_only, on_host};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// A process of the host in a cgroup, killed when this is dropped.
struct Occupant(Child);

impl Occupant {
    fn new(sandbox: &Sandbox, cgroup: &Path) -> Occupant {
        let mut command = on_host(&["sleep", "120"]);
        let child = command.env("BRIG_TEST", &sandbox.id).spawn().unwrap();
        let occupant = Occupant(child);
        fs::write(cgroup.join("cgroup.procs"), occupant.0.id().to_string()).unwrap();
        occupant
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        // If this fails, it is dead already.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A new parent cgroup for containers.
fn above(sandbox: &Sandbox, mountpoint: &Path) -> PathBuf {
    let above = mountpoint.join(format!("{}-above", sandbox.id));
    fs::create_dir(&above).unwrap();
    let path = format!("/{0}-above/{0}-own", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
    above
}

fn sorted(dir: &Path, file: &str) -> Vec<String> {
    let mut names: Vec<String> = read(dir, file).split_whitespace().map(str::to_owned).collect();
    names.sort_unstable();
    names
}

fn stats(sandbox: &Sandbox) -> Value {
    let done = sandbox.brig(&["events", "--stats", &sandbox.id]).ok();
    serde_json::from_str(&done.stdout).unwrap()
}

#[test]
fn all_controllers_are_enabled_down_to_the_container() {
    let mountpoint = unified!("memory");
    for resources in [json!({}), json!({"pids": {"limit": 9}, "memory": {"limit": 64 << 20}})] {
        let sandbox = limited(resources);
        let path = format!("/{0}-a/{0}-b/{0}-c", sandbox.id);
        sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        sandbox.create();
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), own, "nobody is moved");
        let available = sorted(&mountpoint, "cgroup.controllers");
        for above in [format!("{0}-a", sandbox.id), format!("{0}-a/{0}-b", sandbox.id)] {
            assert_eq!(sorted(&mountpoint.join(above), "cgroup.subtree_control"), available);
        }
        assert_eq!(sorted(&cgroup(&sandbox, &mountpoint), "cgroup.controllers"), available);
        sandbox.delete();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_container_without_limits_is_counted() {
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    sandbox.create();
    let dir = cgroup(&sandbox, &mountpoint);
    for file in ["memory.current", "memory.events", "pids.current", "cpu.max", "io.stat"] {
        assert!(dir.join(file).exists(), "{file}");
    }
    let stats = stats(&sandbox);
    let memory = &stats["data"]["memory"]["usage"];
    assert!(memory["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{stats}");
    assert_eq!(memory["limit"], json!(u64::MAX), "{stats}");
    assert_eq!(stats["data"]["pids"]["current"], 1, "{stats}");
}

#[test]
fn below_processes_there_are_containers_but_no_controllers() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let above = above(&sandbox, &mountpoint);
    let occupant = Occupant::new(&sandbox, &above);
    sandbox.create();
    assert_eq!(read(&above, "cgroup.type"), "domain");
    assert_eq!(read(&above, "cgroup.subtree_control"), "");
    // Statistics that are not accounted are absent, not 0.
    let stats = stats(&sandbox);
    assert_eq!(stats["data"]["memory"].get("usage"), None, "{stats}");
    assert_eq!(stats["data"]["cpu"].get("throttling"), None, "{stats}");
    assert_eq!(stats["data"]["pids"]["current"], 1, "{stats}");
    let table = sandbox.brig(&["stats", "--no-stream", &sandbox.id]).ok().stdout;
    assert!(!table.contains("0B"), "{table}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();

    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 9}));
    let message = sandbox.create_with(&[]).fails();
    assert!(
        message.contains("has processes, so no controllers can be enabled for its children"),
        "{message}"
    );
    assert!(message.contains("linux.resources.pids.limit"), "{message}");
    let procs = read(&above, "cgroup.procs");
    assert_eq!(procs, occupant.0.id().to_string(), "nobody is moved");
    assert_eq!(read(&above, "cgroup.type"), "domain");
    assert!(!above.join(format!("{}-own", sandbox.id)).exists());
    drop(occupant);
    fs::remove_dir(&above).unwrap();
}

#[test]
fn a_threaded_cgroup_is_left_as_it_is() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let above = above(&sandbox, &mountpoint);
    fs::write(above.join("cgroup.type"), "threaded").unwrap();
    let controllers = read(&mountpoint, "cgroup.subtree_control");
    sandbox.create_with(&[]).fails_with("it or a cgroup above it is threaded");
    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 9}));
    sandbox
        .create_with(&[])
        .fails_with("is threaded, so no controllers can be enabled for its children");
    assert_eq!(read(&above, "cgroup.type"), "threaded");
    assert_eq!(read(&above, "cgroup.subtree_control"), "");
    assert!(read(&mountpoint, "cgroup.subtree_control").len() >= controllers.len());
    assert!(!above.join(format!("{}-own", sandbox.id)).exists());
    fs::remove_dir(&above).unwrap();
}

/// `sh -c SCRIPT` in a new mount namespace, which ends with `exec "$@"`: brig.
fn in_mount_namespace(sandbox: &Sandbox, args: &[&str], script: &str) -> Command {
    let brig = sandbox.command(args);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("set -e; {script}; exec \"$@\""), "sh"]);
    command.arg(brig.get_program()).args(brig.get_args()).current_dir(&sandbox.dir);
    command.envs(brig.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let unshare = || Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?);
    crate::sandbox::before_exec(&mut command, unshare);
    command
}

#[test]
fn a_read_only_hierarchy_is_no_error_of_a_container_without_limits() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let above = above(&sandbox, &mountpoint);
    let own = above.join(format!("{}-own", sandbox.id));
    fs::create_dir(&own).unwrap();
    let bundle = sandbox.bundle();
    let args = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let remount = format!("mount -o remount,bind,ro {}", mountpoint.display());
    sandbox.script("say ran");
    let done = sandbox.spawn(in_mount_namespace(&sandbox, &args, &remount)).wait().ok();
    assert!(done.stdout.contains("ran"), "{done:?}");
    assert_eq!(read(&above, "cgroup.subtree_control"), "");
    sandbox.patch(|config| config["linux"]["resources"]["pids"] = json!({"limit": 9}));
    let refused = sandbox.spawn(in_mount_namespace(&sandbox, &args, &remount)).wait();
    refused.fails_with("linux.resources.pids.limit");
    fs::remove_dir(&own).unwrap();
    fs::remove_dir(&above).unwrap();
}

/// The root of a cgroup namespace is not the root of the hierarchy: with processes in it, it cannot enable
/// controllers.
#[test]
fn the_root_of_a_cgroup_namespace_with_processes_gives_no_controllers() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let above = above(&sandbox, &mountpoint);
    let bundle = sandbox.bundle();
    let args = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    sandbox.patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{}-own", sandbox.id));
    });
    sandbox.script("say ran ; sleep 60");
    let remount = format!("umount {0}; mount -t cgroup2 none {0}; sleep 2", mountpoint.display());
    let mut command = in_mount_namespace(&sandbox, &args, &remount);
    let procs = File::create(above.join("cgroup.procs")).unwrap();
    crate::sandbox::before_exec(&mut command, move || {
        (&procs).write_all(b"0")?;
        Ok(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?)
    });
    let running = sandbox.spawn(command);
    running.wait_for_line("ran");
    assert_eq!(read(&above, "cgroup.type"), "domain");
    assert_eq!(read(&above, "cgroup.subtree_control"), "");
    assert!(above.join(format!("{}-own", sandbox.id)).exists());
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    running.wait();
    fs::remove_dir(&above).unwrap();
}

/// A subtree owned by an unprivileged user, without systemd: files that they cannot write are not changed.
#[test]
fn in_a_delegated_subtree_what_has_been_given_is_given_on() {
    brig_only!();
    let mountpoint = unified!("memory");
    let sandbox = Sandbox::new();
    let above = above(&sandbox, &mountpoint);
    fs::write(mountpoint.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    let (mine, rest) = (above.join("mine"), above.join("mine/shell"));
    fs::write(above.join("cgroup.subtree_control"), "+memory +pids").unwrap();
    fs::create_dir_all(&rest).unwrap();
    crate::rootless::own(&sandbox.dir, crate::rootless::UID);
    for path in ["", "cgroup.procs", "cgroup.subtree_control", "shell", "shell/cgroup.procs"] {
        std::os::unix::fs::chown(mine.join(path), Some(crate::rootless::UID), None).unwrap();
    }
    sandbox.patch(|config| {
        // The gid in its options is not mapped.
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "devpts");
        let linux = &mut config["linux"];
        linux["cgroupsPath"] = json!(format!("/{0}-above/mine/{0}-own", sandbox.id));
        let map = json!([{"containerID": 0, "hostID": crate::rootless::UID, "size": 1}]);
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
    });
    let bundle = sandbox.bundle();
    let mut command =
        sandbox.command(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    command.uid(crate::rootless::UID).gid(crate::rootless::UID);
    let procs = File::create(rest.join("cgroup.procs")).unwrap();
    crate::sandbox::before_exec(&mut command, move || (&procs).write_all(b"0"));
    sandbox.spawn(command).wait().ok();
    assert_eq!(sorted(&mine, "cgroup.subtree_control"), ["memory", "pids"]);
    assert_eq!(sorted(&above, "cgroup.subtree_control"), ["memory", "pids"]);
    assert!(stats(&sandbox)["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    for dir in [&rest, &mine, &above] {
        fs::remove_dir(dir).unwrap();
    }
}
