//! Checks that restored processes have no privileges beyond the config. A checkpoint is a file: anyone who
//! can write to it could have a process restored with every capability, or without no_new_privs and the
//! seccomp filter.

use super::dump::descends;
use crate::launch::prepare::id_maps::read_map;
use crate::plan::Plan;
use crate::plan::namespaces::{Namespaces, file, name};
use crate::state::State;
use anyhow::{Context, Result, ensure};
use std::os::unix::fs::MetadataExt;
use sys::idmap::IdMap;

/// The namespaces that a container can have of its own, except mount and time namespaces: CRIU always creates
/// new ones of those.
const KINDS: [libc::c_int; 6] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Checks that every process is in the container's cgroup, whose limits then apply to it.
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

/// Checks every process of the container, none of which has run yet, and all of their threads, which can have
/// privileges of their own. `criu`, which can be in the container's cgroup too, is skipped.
pub(super) fn rights(state: &State, plan: &Plan, criu: i32) -> Result<()> {
    let mut pids = if state.cgroup.is_none() { Vec::new() } else { state.cgroup.pids()? };
    pids.retain(|&pid| pid != criu && !descends(pid, criu));
    // A checkpoint may place processes in other cgroups than the container's.
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
    check_namespaces(pid, &plan.namespaces)?;
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
        check_status(&status.with_context(|| path.display().to_string())?, plan)?;
    }
    Ok(())
}

/// Checks that the process is not in a namespace of the host if the config requires another one.
fn check_namespaces(pid: i32, namespaces: &Namespaces) -> Result<()> {
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

fn check_status(status: &str, plan: &Plan) -> Result<()> {
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
