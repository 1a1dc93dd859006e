//! Deleting a container that resists, while unrelated processes must survive.

use crate::host::{self, Version, wait_until};
use crate::sandbox::{Sandbox, brig_only, on_host, skip};
use serde_json::json;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A process that does not belong to a container.
struct Foreign(Child);

impl Foreign {
    fn new() -> Foreign {
        Foreign(on_host(&["sleep", "60"]).stdin(Stdio::null()).spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A cgroup of the test, removed with it.
struct Group(PathBuf);

impl Group {
    fn new(hierarchy: &Path, name: &str) -> Group {
        let path = hierarchy.join(name);
        fs::create_dir(&path).unwrap();
        Group(path)
    }

    fn take(&self, pid: impl std::fmt::Display) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        _ = fs::write(self.0.join("freezer.state"), "THAWED");
        _ = host::wait_briefly(Duration::from_secs(5), || fs::remove_dir(&self.0).is_ok());
    }
}

fn running(args: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(args).create();
    sandbox.start();
    sandbox
}

#[test]
fn what_somebody_has_moved_to_a_frozen_cgroup_is_deleted() {
    brig_only!();
    let Some((Version::V1, freezer)) = host::controller("freezer") else {
        return skip("no freezer of cgroup v1");
    };
    for exec in [false, true] {
        let sandbox = running("sleep 60");
        let group = Group::new(&freezer, &format!("{}-frozen", sandbox.id));
        let mut foreign = Foreign::new();
        group.take(foreign.0.id());
        let mut pid = sandbox.pid().to_string();
        if exec {
            let file = sandbox.dir.join("pid");
            let flags = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &sandbox.id];
            sandbox.brig(&[&flags[..], &["/init", "sleep", "60"]].concat()).ok();
            pid = fs::read_to_string(file).unwrap();
        }
        group.take(&pid);
        fs::write(group.0.join("freezer.state"), "FROZEN").unwrap();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        // What does not belong to brig is unchanged.
        let state = fs::read_to_string(group.0.join("freezer.state")).unwrap();
        assert_eq!(state.trim(), "FROZEN");
        assert!(foreign.lives());
        // A frozen process does not die.
        fs::write(group.0.join("freezer.state"), "THAWED").unwrap();
        drop(foreign);
        drop(group);
        sandbox.assert_nothing_left();
    }
}

/// An init's descriptors are closed first; it has exited only after the other processes of its pid namespace.
#[test]
fn a_start_that_fails_ends_with_a_stopped_container() {
    brig_only!();
    let Some((Version::V1, freezer)) = host::controller("freezer") else {
        return skip("no freezer of cgroup v1");
    };
    let sandbox = Sandbox::new();
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    crate::run::make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]).create();
    let file = sandbox.dir.join("pid");
    let flags = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &sandbox.id];
    sandbox.brig(&[&flags[..], &["/init", "sleep", "60"]].concat()).ok();
    let group = Group::new(&freezer, &format!("{}-frozen", sandbox.id));
    group.take(fs::read_to_string(file).unwrap());
    fs::write(group.0.join("freezer.state"), "FROZEN").unwrap();
    let thaw = group.0.join("freezer.state");
    let thawing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        fs::write(thaw, "THAWED").unwrap();
    });
    sandbox.brig(&["start", &sandbox.id]).fails_with("no such file or directory");
    let status = sandbox.status();
    thawing.join().unwrap();
    assert_eq!(status, "stopped");
    sandbox.delete();
    drop(group);
    sandbox.assert_nothing_left();
}

/// A container without a pid namespace, to be created in these cgroups, which exist already.
fn joining() -> (Sandbox, Vec<Group>) {
    let sandbox = Sandbox::new();
    let name = format!("{}-joined", sandbox.id);
    let groups: Vec<Group> =
        host::hierarchies().iter().map(|(_, path)| Group::new(path, &name)).collect();
    for group in &groups {
        // A v1 cpuset accepts no process before it has CPUs.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(group.0.parent().unwrap().join(file)) {
                _ = fs::write(group.0.join(file), value);
            }
        }
    }
    sandbox.patch(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{name}"));
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    (sandbox, groups)
}

/// To free its memory takes a killed process a while.
#[test]
fn what_is_killed_in_a_cgroup_that_was_there_before_has_exited_in_the_end() {
    brig_only!();
    let (sandbox, groups) = joining();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let file = sandbox.dir.join("pid");
    let flags = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &sandbox.id];
    let hog = ["/init", "hog", "200000000", "keep", ";", "sleep", "60"];
    sandbox.brig(&[&flags[..], &hog].concat()).ok();
    let pid: i64 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let size = || host::status_of(pid, "VmRSS").unwrap().trim_end_matches(" kB").parse::<u64>();
    assert!(wait_until(Duration::from_secs(20), || size().unwrap() > 190_000));
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    let state = host::status_of(pid, "State");
    drop(groups);
    assert!(state.as_ref().is_none_or(|state| state.starts_with(['Z', 'X'])), "{state:?}");
    sandbox.assert_nothing_left();
}

#[test]
fn in_a_cgroup_that_was_there_before_only_the_containers_processes_are_killed() {
    brig_only!();
    let (sandbox, groups) = joining();
    sandbox.script("orphans 2 ; sleep 60").create();
    sandbox.start();
    let mut foreign = Foreign::new();
    for group in &groups {
        group.take(foreign.0.id());
    }
    let init = sandbox.pid();
    sandbox.brig(&["kill", &sandbox.id, "KILL"]);
    assert!(wait_until(Duration::from_secs(5), || host::status_of(init, "State")
        .is_none_or(|state| state.starts_with('Z'))));
    // kill affects the whole container, and so its cgroup: that is another guarantee.
    let spared = foreign.lives();
    if !spared {
        foreign = Foreign::new();
        groups.iter().for_each(|group| group.take(foreign.0.id()));
    }
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(foreign.lives(), "delete has killed what is not the container's");
    let left = host::processes_of(&sandbox.id);
    drop(foreign);
    drop(groups);
    assert!(left.is_empty(), "{left:?}");
    sandbox.assert_nothing_left();
}

/// As systemd does in a container: controllers are enabled for cgroups of its own, so exec enters that of init.
#[test]
fn exec_finds_init_among_cgroups_that_are_nested_deeper_than_any_path() {
    brig_only!();
    let Some((Version::V2, unified)) = host::controller("hugetlb") else {
        return skip("this host has no hugetlb on cgroup v2");
    };
    for deep in [false, true] {
        let sandbox = Sandbox::new();
        let path = format!("/{}", sandbox.id);
        sandbox.patch(|config| {
            config["linux"]["cgroupsPath"] = json!(path);
            config["linux"]["resources"]["unified"] = json!({"hugetlb.2MB.max": "max"});
        });
        sandbox.script("say ready ; sleep 60").run_with(&["--detach"]).ok().wait_for_line("ready");
        let own = unified.join(&sandbox.id);
        let init = sandbox.pid();
        fs::create_dir(own.join("init")).unwrap();
        fs::write(own.join("init/cgroup.procs"), init.to_string()).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "+hugetlb").unwrap();
        nest(&own, 40, deep.then(|| init.try_into().unwrap()));
        sandbox.brig(&["exec", &sandbox.id, "/init", "true"]).ok();
        sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
        sandbox.assert_nothing_left();
    }
}

/// Nests cgroups with long names in a container's, and moves a process into the deepest.
fn nest(cgroup: &Path, levels: usize, process: Option<u32>) {
    let name = CString::new("d".repeat(199)).unwrap();
    let mut here = File::open(cgroup).unwrap();
    for _ in 0..levels {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
        nix::sys::stat::mkdirat(&here, name.as_c_str(), mode).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        let none = nix::sys::stat::Mode::empty();
        here = nix::fcntl::openat(&here, name.as_c_str(), flags, none).unwrap().into();
    }
    if let Some(pid) = process {
        let flags = nix::fcntl::OFlag::O_WRONLY | nix::fcntl::OFlag::O_CLOEXEC;
        let none = nix::sys::stat::Mode::empty();
        let procs = nix::fcntl::openat(&here, "cgroup.procs", flags, none).unwrap();
        nix::unistd::write(procs, pid.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn cgroups_that_are_nested_deeper_than_any_path_are_seen_killed_and_removed() {
    brig_only!();
    let sandbox = running("sleep 60");
    let file = sandbox.dir.join("pid");
    let flags = ["exec", "--detach", "--pid-file", file.to_str().unwrap(), &sandbox.id];
    sandbox.brig(&[&flags[..], &["/init", "sleep", "60"]].concat()).ok();
    let pid: u32 = fs::read_to_string(file).unwrap().parse().unwrap();
    for (controllers, path) in host::hierarchies() {
        let cgroup = path.join(&sandbox.id);
        if cgroup.exists() {
            // New v1 cpusets are empty, and accept no processes.
            let enters = !controllers.iter().any(|name| name == "cpuset");
            nest(&cgroup, 40, enters.then_some(pid));
        }
    }
    let seen = sandbox.brig(&["ps", "--format", "json", &sandbox.id]).ok().stdout;
    assert!(seen.contains(&pid.to_string()), "{seen}");
    sandbox.brig(&["kill", "--all", &sandbox.id, "TERM"]).ok();
    let gone = || host::status_of(pid.into(), "State").is_none_or(|state| state.starts_with('Z'));
    assert!(wait_until(Duration::from_secs(5), gone), "{pid} has not got the signal");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

/// In a threaded cgroup the kernel refuses to list processes (cgroups(7), Thread mode). A container can make its own
/// cgroups threaded, and must not be safe from `kill` and `delete` thereby.
#[test]
fn processes_in_threaded_cgroups_are_seen_killed_and_removed() {
    brig_only!();
    let unified = host::hierarchies().into_iter().find(|(names, _)| names.is_empty());
    let Some((_, unified)) = unified else { return skip("no cgroup2") };
    let sandbox = running("sleep 60");
    let init = sandbox.pid();
    let threaded = unified.join(&sandbox.id).join("threaded");
    fs::create_dir(&threaded).unwrap();
    fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    fs::write(threaded.join("cgroup.threads"), init.to_string()).unwrap();
    let refused = fs::read(threaded.join("cgroup.procs")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP));
    let seen = sandbox.brig(&["ps", "--format", "json", &sandbox.id]).ok().stdout;
    assert_eq!(seen.trim(), format!("[{init}]"));
    for args in [&["stats", "--no-stream"][..], &["pause"], &["resume"]] {
        sandbox.brig(&[args, &[&sandbox.id]].concat()).ok();
    }
    sandbox.brig(&["kill", "--all", &sandbox.id, "CONT"]).ok();
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}
