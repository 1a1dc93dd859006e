//! Whose a cgroup is: containers with the same `linux.cgroupsPath`, or with one below another's, and cgroups that
//! others have made.

use crate::host::{self, Version};
use crate::sandbox::{Sandbox, brig_only, skip};
use serde_json::json;
use std::fs;
use std::time::Duration;

/// The next containers of this bundle are in this cgroup, whose name contains that of the sandbox.
fn place(sandbox: &Sandbox, path: &str) {
    let path = format!("/{}-p/{path}", sandbox.id);
    sandbox.patch(|config| config["linux"]["cgroupsPath"] = json!(path));
}

fn run(sandbox: &Sandbox, id: &str) {
    let bundle = sandbox.bundle();
    sandbox.brig(&["run", "--detach", "--bundle", bundle.to_str().unwrap(), id]).ok();
}

fn status(sandbox: &Sandbox, id: &str) -> String {
    let state = sandbox.brig(&["state", id]).ok().stdout;
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

#[test]
fn a_path_with_the_name_of_a_cgroups_file_is_refused_by_its_place() {
    brig_only!();
    for path in ["cgroup.procs", "tasks", "memory.limit_in_bytes", "cgroup.procs/x", "tasks/x/y"] {
        if !path.starts_with("cgroup")
            && host::controller("memory").is_none_or(|c| c.0 == Version::V2)
        {
            skip("this host has no v1 controller memory");
            continue;
        }
        let sandbox = Sandbox::new();
        place(&sandbox, path);
        let message = sandbox.create_with(&[]).fails_with("linux.cgroupsPath");
        assert!(message.contains("has the name of a file"), "{message}");
        assert!(!message.contains("cleaning up failed"), "{message}");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn of_containers_created_at_once_in_one_cgroup_exactly_one_is() {
    brig_only!();
    let sandbox = Sandbox::new();
    place(&sandbox, "same");
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    for round in 0..8 {
        let ids: Vec<String> = (0..4).map(|n| format!("{}-{round}-{n}", sandbox.id)).collect();
        let start = |id: &String| {
            let args = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), id];
            // Not all at the same moment: some find directories that are just being made.
            std::thread::sleep(Duration::from_micros(round * 300));
            sandbox.spawn(sandbox.command(&args))
        };
        let started: Vec<_> = ids.iter().map(start).collect();
        let done: Vec<_> = started.into_iter().map(|running| running.wait()).collect();
        let won = done.iter().filter(|done| done.code == Some(0)).count();
        assert_eq!(won, 1, "{done:#?}");
        for (id, _) in ids.iter().zip(&done).filter(|(_, done)| done.code == Some(0)) {
            assert_eq!(status(&sandbox, id), "running");
            sandbox.brig(&["delete", "--force", id]).ok();
        }
        assert!(host::cgroups_with(&sandbox.id).is_empty());
    }
    sandbox.assert_nothing_left();
}

#[test]
fn an_empty_cgroup_of_another_container_is_not_joined() {
    brig_only!();
    let sandbox = Sandbox::new();
    place(&sandbox, "same");
    let (one, two) = (format!("{}-one", sandbox.id), format!("{}-two", sandbox.id));
    sandbox.script("true");
    run(&sandbox, &one);
    assert!(host::wait_until(Duration::from_secs(10), || status(&sandbox, &one) == "stopped"));
    sandbox.script("sleep 60");
    let bundle = sandbox.bundle();
    let args = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &two];
    let message = sandbox.brig(&args).fails_with("linux.cgroupsPath");
    assert!(
        message.contains(&format!("is that of container {one}, which is stopped")),
        "{message}"
    );
    sandbox.brig(&["delete", &one]).ok();
    run(&sandbox, &two);
    sandbox.brig(&["delete", "--force", &two]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_container_is_not_deleted_with_another_whose_cgroup_is_below() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60");
    let (above, below) = (format!("{}-above", sandbox.id), format!("{}-below", sandbox.id));
    place(&sandbox, "one");
    run(&sandbox, &above);
    place(&sandbox, "one/sub");
    run(&sandbox, &below);
    let message = sandbox.brig(&["delete", "--force", &above]).fails();
    let expected = format!("also contains the cgroup of container {below}, which is running");
    assert!(message.contains(&expected), "{message}");
    assert_eq!(status(&sandbox, &above), "running");
    sandbox.brig(&["kill", &above, "KILL"]).ok();
    assert!(host::wait_until(Duration::from_secs(10), || status(&sandbox, &above) == "stopped"));
    sandbox.brig(&["delete", &above]).fails();
    assert_eq!(status(&sandbox, &below), "running");
    sandbox.brig(&["delete", "--force", &below]).ok();
    sandbox.brig(&["delete", &above]).ok();
    sandbox.assert_nothing_left();
}

/// As an administrator's mkdir leaves it.
#[test]
fn an_existing_cpuset_without_cpus_is_filled() {
    let Some((Version::V1, mountpoint)) = host::controller("cpuset") else {
        return skip("this host has no v1 controller cpuset");
    };
    let sandbox = Sandbox::new();
    let parent = format!("{}-p", sandbox.id);
    for (path, cpu) in
        [(String::new(), json!({})), ("/own".into(), json!({"cpus": "0", "mems": "0"}))]
    {
        fs::create_dir(mountpoint.join(&parent)).unwrap();
        sandbox.patch(|config| {
            config["linux"]["cgroupsPath"] = json!(format!("/{parent}{path}"));
            config["linux"]["resources"]["cpu"] = cpu;
        });
        let done = sandbox.script("say ran").run();
        fs::remove_dir(mountpoint.join(&parent)).unwrap();
        assert_eq!(done.ok().stdout, "ran\n");
    }
}
