//! Whether what was restored has no rights that the config does not give. A checkpoint is a file: whoever can write to it
//! could have a process come back with every capability, and without no_new_privs and the filter of system calls.

use super::dump::descends;
use crate::launch::prepare::id_maps::read_map;
use crate::plan::Plan;
use crate::plan::namespaces::{Namespaces, file, name};
use crate::state::State;
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::MetadataExt;
use sys::idmap::IdMap;

/// All that a container can have of its own, but mounts, which are CRIU's and not the host's otherwise, and time, of which
/// CRIU always makes a new one.
const KINDS: [libc::c_int; 6] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Whether every process is in the container's cgroup, where its limits are in force.
pub(super) fn belongs(state: &State) -> Result<()> {
    if state.cgroup.is_none() {
        return Ok(());
    }
    let known = state.cgroup.pids()?;
    let others = if state.own_pids { state.in_pid_namespace()? } else { Vec::new() };
    ensure!(
        others.iter().chain([&state.pid]).all(|pid| known.contains(pid)),
        "the checkpoint leaves processes outside of the container's cgroup"
    );
    Ok(())
}

/// Looks at every process of the container, none of which has run yet, and each of their threads, which can have rights
/// of their own. CRIU can be in the container's cgroup too.
pub(super) fn rights(state: &State, plan: &Plan, criu: i32) -> Result<()> {
    let mut pids = if state.cgroup.is_none() { Vec::new() } else { state.cgroup.pids()? };
    pids.retain(|&pid| pid != criu && !descends(pid, criu));
    // A checkpoint may say otherwise where they belong.
    if state.own_pids {
        pids.extend(state.in_pid_namespace()?);
    }
    pids.push(state.pid);
    pids.sort_unstable();
    pids.dedup();
    for pid in pids {
        process(pid, plan, criu).with_context(|| {
            format!(
                "process {pid} of the checkpoint has more rights than config.json gives (--trust-image restores it)"
            )
        })?;
    }
    Ok(())
}

fn process(pid: i32, plan: &Plan, criu: i32) -> Result<()> {
    look_at_namespaces(pid, &plan.namespaces)?;
    let mounts = |pid: i32| inode(&pid.to_string(), libc::CLONE_NEWNS);
    ensure!(mounts(pid)? != mounts(criu)?, "it has no mount namespace of its own");
    if plan.namespaces.new & libc::CLONE_NEWUSER != 0 {
        for (name, maps) in [("uid_map", &plan.id_maps.uids), ("gid_map", &plan.id_maps.gids)] {
            let theirs = read_map(pid, name)?;
            ensure!(
                theirs.iter().all(|map| is_within(map, maps)),
                "its {name} has ids of the host beyond those of the user namespace"
            );
        }
    }
    let path = format!("/proc/{pid}/task");
    for thread in std::fs::read_dir(&path).context(path)? {
        let path = thread?.path().join("status");
        let status = std::fs::read_to_string(&path);
        look(&status.with_context(|| path.display().to_string())?, plan)?;
    }
    Ok(())
}

/// Where the config has it in other namespaces than the host's it is in them.
fn look_at_namespaces(pid: i32, namespaces: &Namespaces) -> Result<()> {
    for kind in KINDS.into_iter().filter(|&kind| namespaces.has(kind)) {
        let theirs = inode(&pid.to_string(), kind)?;
        let joined = namespaces.joined(kind).map(|join| std::fs::metadata(&join.path));
        let joined = joined.transpose().context("linux.namespaces")?.map(|found| found.ino());
        ensure!(
            theirs != inode("self", kind)? || joined == Some(theirs),
            "it is in the host's {} namespace, and linux.namespaces has another",
            name(kind)
        );
    }
    Ok(())
}

fn look(status: &str, plan: &Plan) -> Result<()> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).with_context(|| format!("its status has no {name}"))
    };
    let process = &plan.process;
    let given = &process.capabilities;
    let sets = given.sets;
    for (name, allowed) in [
        ("CapBnd", given.bounding),
        ("CapPrm", sets.permitted),
        ("CapEff", sets.permitted),
        ("CapInh", sets.inheritable),
        ("CapAmb", given.ambient),
    ] {
        let has = u64::from_str_radix(field(name)?, 16).context(name)?;
        let more = has & !allowed;
        ensure!(more == 0, "capabilities {more:#x} ({name}) beyond process.capabilities");
    }
    let bound = field("NoNewPrivs")? == "1";
    ensure!(bound || !process.no_new_privileges, "it lacks process.noNewPrivileges");
    let filtered = field("Seccomp")? == "2";
    ensure!(filtered || process.filter.is_none(), "it lacks the filter of linux.seccomp");
    if plan.namespaces.new & libc::CLONE_NEWUSER != 0 {
        for (name, maps) in [("Uid", &plan.id_maps.uids), ("Gid", &plan.id_maps.gids)] {
            let ids = field(name)?.split_whitespace().filter_map(|id| id.parse::<u32>().ok());
            for id in ids {
                ensure!(is_mapped(id, maps), "{name} {id} is not one of the user namespace's");
            }
        }
    }
    Ok(())
}

fn inode(process: &str, kind: i32) -> Result<u64> {
    let path = format!("/proc/{process}/ns/{}", file(kind));
    Ok(std::fs::metadata(&path).context(path)?.ino())
}

fn is_within(map: &IdMap, allowed: &[IdMap]) -> bool {
    allowed.iter().any(|all| {
        let offset = map.host.checked_sub(all.host);
        offset.is_some_and(|offset| map.size <= all.size && offset <= all.size - map.size)
    })
}

fn is_mapped(id: u32, maps: &[IdMap]) -> bool {
    maps.iter().any(|map| id.checked_sub(map.host).is_some_and(|offset| offset < map.size))
}
