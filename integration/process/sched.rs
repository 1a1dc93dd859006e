//! `process.scheduler`, `process.ioPriority`, `linux.memoryPolicy`, `linux.personality`, `linux.intelRdt`.

use crate::facts::Facts;
use crate::host::{self, Version};
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

fn with(pointer: [&str; 2], value: Value) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.patch(|config| config[pointer[0]][pointer[1]] = value);
    sandbox
}

fn scheduler(value: Value) -> Sandbox {
    with(["process", "scheduler"], value)
}

/// A user namespace with a range of ids that are unused on the host.
fn in_user_namespace(sandbox: &Sandbox) {
    sandbox.patch(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    });
}

/// Policy, nice, priority and flags; newer kernels report a fair process's slice as its runtime.
fn scheduled(facts: &Facts) -> String {
    (0..4).map(|index| facts.word("sched", index)).collect::<Vec<_>>().join(" ")
}

/// The output of a process of exec in the container.
fn exec(sandbox: &Sandbox, args: &[&str]) -> Facts {
    Facts::parse(&sandbox.brig(&[&["exec", &sandbox.id], args].concat()).ok().stdout)
}

#[test]
fn every_fair_policy_reaches_the_process_and_what_is_execd() {
    // SAFETY: takes integers only.
    let inherited = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    // The kernel does not change the nice value of SCHED_IDLE.
    for (policy, number, nice) in [("OTHER", "0", 5), ("BATCH", "3", -3), ("IDLE", "5", inherited)]
    {
        let sandbox = scheduler(json!({"policy": format!("SCHED_{policy}"), "nice": nice}));
        sandbox.script("sched ; sleep 60");
        let running = sandbox.run_with(&["--detach"]).ok();
        let execd = exec(&sandbox, &["/init", "sched"]);
        running.wait_for_line(&format!("personality 0 {}", std::env::consts::ARCH));
        for facts in [execd, running.facts_now()] {
            assert_eq!(scheduled(&facts), format!("{number} {nice} 0 0x0"), "{facts}");
        }
    }
}

/// Real-time policies need a budget if the cpu controller has one for each cgroup.
fn with_budget(sandbox: Sandbox) -> Sandbox {
    if let Some((Version::V1, path)) = host::controller("cpu")
        && path.join("cpu.rt_runtime_us").exists()
    {
        sandbox.patch(|config| {
            let cpu = json!({"realtimePeriod": 1_000_000, "realtimeRuntime": 10_000});
            config["linux"]["resources"]["cpu"] = cpu;
        });
    }
    sandbox
}

#[test]
fn real_time_policies_have_their_priority_and_flags() {
    brig_only!();
    for (policy, number, priority) in [("FIFO", "1", 7), ("RR", "2", 99)] {
        let sandbox = with_budget(scheduler(json!({
            "policy": format!("SCHED_{policy}"), "priority": priority,
            "flags": ["SCHED_FLAG_RESET_ON_FORK"],
        })));
        let facts = sandbox.facts("sched");
        assert_eq!(facts.get("sched"), format!("{number} 0 {priority} 0x1 0 0 0"), "{facts}");
    }
}

#[test]
fn in_a_user_namespace_root_outside_grants_real_time() {
    brig_only!();
    let sandbox = with_budget(scheduler(json!({"policy": "SCHED_FIFO", "priority": 3})));
    in_user_namespace(&sandbox);
    sandbox.patch(|config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_RT", "priority": 1});
    });
    sandbox.script("sched ; sleep 60");
    let running = sandbox.run_with(&["--detach"]).ok();
    let execd = exec(&sandbox, &["/init", "sched"]);
    running.wait_for_line("ioprio 1 1");
    for facts in [execd, running.facts_now()] {
        assert_eq!(facts.get("sched"), "1 0 3 0x0 0 0 0", "{facts}");
        assert_eq!(facts.get("ioprio"), "1 1", "{facts}");
    }
}

#[test]
fn real_time_without_a_budget_says_what_is_missing() {
    brig_only!();
    let budgets =
        |(_, path): &(Version, std::path::PathBuf)| path.join("cpu.rt_runtime_us").exists();
    if !host::controller("cpu").as_ref().is_some_and(budgets) {
        return skip("no CONFIG_RT_GROUP_SCHED on cgroup v1");
    }
    let sandbox = scheduler(json!({"policy": "SCHED_FIFO", "priority": 3}));
    sandbox.create_with(&[]).fails_with("set linux.resources.cpu.realtimeRuntime");
    sandbox.assert_nothing_left();
}

#[test]
fn deadline_is_a_policy_like_the_others() {
    brig_only!();
    let sandbox = scheduler(json!({
        "policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 50_000_000,
        "period": 100_000_000, "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
    }));
    let facts = sandbox.facts("sched");
    assert_eq!(facts.get("sched"), "6 0 0 0x5 2000000 50000000 100000000", "{facts}");
}

#[test]
fn deadline_that_forbids_forks_forbids_hooks_that_need_them() {
    brig_only!();
    let sandbox = scheduler(json!({
        "policy": "SCHED_DEADLINE", "runtime": 2_000_000, "deadline": 100_000_000,
    }));
    sandbox.patch(|config| {
        config["hooks"] = json!({"startContainer": [{"path": "/init"}]});
    });
    sandbox.create_with(&[]).fails_with("without SCHED_FLAG_RESET_ON_FORK");
    sandbox.assert_nothing_left();
}

#[test]
fn an_io_priority_without_a_level_has_level_0() {
    brig_only!();
    for (class, told) in [("IOPRIO_CLASS_BE", "2 0"), ("IOPRIO_CLASS_IDLE", "3 0")] {
        let sandbox = with(["process", "ioPriority"], json!({ "class": class }));
        assert_eq!(sandbox.facts("sched").get("ioprio"), told);
    }
}

#[test]
fn io_priority_is_that_of_the_process_and_what_is_execd() {
    for (class, level, told) in [("RT", 2, "1 2"), ("BE", 7, "2 7"), ("IDLE", 0, "3 0")] {
        let class = format!("IOPRIO_CLASS_{class}");
        let sandbox = with(["process", "ioPriority"], json!({"class": class, "priority": level}));
        sandbox.script("sched ; sleep 60");
        let running = sandbox.run_with(&["--detach"]).ok();
        let execd = exec(&sandbox, &["/init", "sched"]);
        running.wait_for_line(&format!("ioprio {told}"));
        assert_eq!(execd.get("ioprio"), told, "{execd}");
    }
}

#[test]
fn memory_policy_is_that_of_all_processes() {
    brig_only!();
    let all = if several_nodes() { "0x2 0x3" } else { "0x2 0x1" };
    for (policy, told) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "0x2 0x1"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": ""}), "0x4 0x0"),
        (json!({"mode": "MPOL_LOCAL"}), "0x4 0x0"),
        (json!({"mode": "MPOL_DEFAULT", "flags": []}), "0x0 0x0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
            "0x8003 0x1",
        ),
        // More than any kernel has: the existing ones are used.
        (json!({"mode": "MPOL_BIND", "nodes": "0-1023"}), all),
    ] {
        let sandbox = with(["linux", "memoryPolicy"], policy.clone());
        sandbox.script("sched ; sleep 60");
        let running = sandbox.run_with(&["--detach"]).ok();
        let execd = exec(&sandbox, &["/init", "sched"]);
        running.wait_for_line(&format!("mempolicy {told}"));
        assert_eq!(execd.get("mempolicy"), told, "{policy}");
    }
}

/// Whether this machine has two memory nodes, like the guest of `make test-vm`.
fn several_nodes() -> bool {
    let nodes = std::fs::read_to_string("/sys/devices/system/node/has_memory");
    nodes.unwrap_or_default().trim() == "0-1"
}

#[test]
fn memory_policies_can_be_of_several_nodes() {
    brig_only!();
    if !several_nodes() {
        return skip("one node of memory: a policy of several is not tested by effect");
    }
    for (policy, told) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0-1"}), "0x2 0x3"),
        (json!({"mode": "MPOL_BIND", "nodes": "1"}), "0x2 0x2"),
        (json!({"mode": "MPOL_INTERLEAVE", "nodes": "0,1"}), "0x3 0x3"),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "1"}), "0x1 0x2"),
        (json!({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-1"}), "0x5 0x3"),
    ] {
        let sandbox = with(["linux", "memoryPolicy"], policy.clone());
        assert_eq!(sandbox.facts("sched").get("mempolicy"), told, "{policy}");
    }
}

#[test]
fn memory_nodes_that_are_not_there_are_named() {
    brig_only!();
    for nodes in ["2000", "0,2000"] {
        let policy = json!({"mode": "MPOL_BIND", "nodes": nodes});
        let sandbox = with(["linux", "memoryPolicy"], policy);
        sandbox.create_with(&[]).fails_with("are all nodes there");
        sandbox.assert_nothing_left();
    }
}

/// A running container, and the result of `exec` in it.
fn with_affinity(affinity: Value, cpuset: Option<&str>) -> (Sandbox, crate::sandbox::Done) {
    let sandbox = with(["process", "execCPUAffinity"], affinity);
    if let Some(cpus) = cpuset {
        sandbox.patch(|config| config["linux"]["resources"]["cpu"] = json!({"cpus": cpus}));
    }
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let done = sandbox.brig(&["exec", &sandbox.id, "/init", "affinity"]);
    (sandbox, done)
}

#[test]
fn the_initial_affinity_is_set_before_the_cgroup_and_the_final_one_in_it() {
    brig_only!();
    if std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() < 2) {
        return skip("needs two processors");
    }
    // The cpuset excludes the first CPU: a process can be bound to that only outside it.
    let (_sandbox, done) = with_affinity(json!({"initial": "0"}), Some("1"));
    assert_eq!(Facts::parse(&done.ok().stdout).get("affinity"), "1");
    let (_sandbox, done) = with_affinity(json!({"initial": "0", "final": "0"}), Some("1"));
    assert_eq!(done.code, Some(255));
    assert!(done.stderr.contains("process.execCPUAffinity.final: none of"), "{done:?}");
}

#[test]
fn an_affinity_that_cannot_be_had_is_an_error_with_its_place() {
    brig_only!();
    for field in ["initial", "final"] {
        let place = format!("process.execCPUAffinity.{field}");
        for cpus in ["one", "1-0", "0,,1", "-1", "0-"] {
            let sandbox = with(["process", "execCPUAffinity"], json!({field: cpus}));
            sandbox.create_with(&[]).fails_with(&format!("{place} (config.json line"));
            sandbox.assert_nothing_left();
        }
        let (sandbox, done) = with_affinity(json!({field: "1023"}), None);
        assert_eq!(done.code, Some(255));
        assert!(done.stderr.contains(&format!("{place}: none of")), "{done:?}");
        assert_eq!(sandbox.status(), "running");
    }
}

#[test]
fn personality_is_what_uname_tells() {
    let machine = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    let sandbox = with(["linux", "personality"], json!({"domain": "LINUX32"}));
    sandbox.script("sched ; sleep 60");
    let running = sandbox.run_with(&["--detach"]).ok();
    let execd = exec(&sandbox, &["/init", "sched"]);
    running.wait_for_line(&format!("personality 8 {machine}"));
    assert_eq!(execd.get("personality"), format!("8 {machine}"), "{execd}");
    let facts = with(["linux", "personality"], json!({"domain": "LINUX"})).facts("sched");
    assert_eq!(facts.get("personality"), format!("0 {}", std::env::consts::ARCH));
}

#[test]
fn a_process_file_does_not_lose_what_the_container_has() {
    brig_only!();
    let sandbox = with(["linux", "personality"], json!({"domain": "LINUX32"}));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let process = sandbox.dir.join("process.json");
    let text = json!({
        "args": ["/init", "sched"], "cwd": "/",
        "scheduler": {"policy": "SCHED_BATCH", "nice": 4},
    });
    std::fs::write(&process, text.to_string()).unwrap();
    let done = sandbox.brig(&["exec", "--process", process.to_str().unwrap(), &sandbox.id]).ok();
    let facts = Facts::parse(&done.stdout);
    assert_eq!(facts.word("personality", 0), "8", "{facts}");
    assert_eq!(scheduled(&facts), "3 4 0 0x0", "{facts}");
}

#[test]
fn a_class_of_service_is_made_entered_and_removed() {
    brig_only!();
    let mounts = host::mounts();
    let Some(resctrl) = mounts.iter().find(|mount| mount.fstype == "resctrl") else {
        return skip("no resctrl filesystem is mounted: intelRdt is not tested by effect");
    };
    let sandbox = with(["linux", "intelRdt"], json!({}));
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let class = std::path::Path::new(&resctrl.target).join(&sandbox.id);
    let tasks = std::fs::read_to_string(class.join("tasks")).unwrap();
    assert!(tasks.lines().any(|task| task == sandbox.pid().to_string()), "{tasks}");
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    assert!(!class.exists());
}

#[test]
fn a_class_of_service_without_resctrl_is_an_error() {
    brig_only!();
    if host::mounts().iter().any(|mount| mount.fstype == "resctrl") {
        return skip("resctrl is mounted here");
    }
    for rdt in [json!({}), json!({"closID": "/"}), json!({"schemata": ["L3:0=f"]})] {
        let sandbox = with(["linux", "intelRdt"], rdt);
        sandbox.create_with(&[]).fails_with("no resctrl filesystem is mounted");
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_mount_of_the_host_whose_name_is_not_utf8_changes_no_message() {
    brig_only!();
    if host::mounts().iter().any(|mount| mount.fstype == "resctrl") {
        return skip("resctrl is mounted here");
    }
    let sandbox = with(["linux", "intelRdt"], json!({"schemata": ["L3:0=f"]}));
    let odd = sandbox.dir.join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&odd).unwrap();
    let bundle = sandbox.bundle();
    let mut command = sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    let odd = CString::new(odd.as_os_str().as_bytes()).unwrap();
    before_exec(&mut command, move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, tmpfs) = (None::<&CStr>, Some(c"tmpfs"));
        mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        Ok(mount(tmpfs, odd.as_c_str(), tmpfs, MsFlags::empty(), none)?)
    });
    sandbox.spawn(command).wait().fails_with("no resctrl filesystem is mounted");
    sandbox.assert_nothing_left();
}
