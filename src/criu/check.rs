//! Whether what was restored has no rights that the config does not give. A checkpoint is a file: whoever can write to it
//! could have a process come back with every capability, and without no_new_privs and the filter of system calls.

use crate::plan::Plan;
use crate::state::State;
use anyhow::{Context, Result, ensure};
use sys::idmap::IdMap;

/// Looks at every process of the container, none of which has run yet.
pub(super) fn rights(state: &State, plan: &Plan) -> Result<()> {
    let mut pids = state.pids().unwrap_or_default();
    if !pids.contains(&state.pid) {
        pids.push(state.pid);
    }
    for pid in pids {
        let path = format!("/proc/{pid}/status");
        let status = std::fs::read_to_string(&path).context(path)?;
        look(&status, plan).with_context(|| {
            format!(
                "process {pid} of the checkpoint has more rights than config.json gives (--trust-image restores it)"
            )
        })?;
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

fn is_mapped(id: u32, maps: &[IdMap]) -> bool {
    maps.iter().any(|map| id.checked_sub(map.host).is_some_and(|offset| offset < map.size))
}
