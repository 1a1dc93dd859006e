//! Resolves the cgroup chosen by the plan: brig's own, systemd's, or none.

use crate::cgroup::{Cgroup, Scope, Version};
use crate::deadline;
use crate::launch::protocol::{Channel, Message};
use crate::log::Log;
use crate::plan::resources::Optional;
use crate::plan::{CgroupManager, Host, Plan, delegate};
use crate::spec::{Place, Spec};
use crate::state::{Dir, State};
use crate::systemd::{Instance, UnitRequest};
use anyhow::Result;
use std::time::Instant;
use sys::{Errno, describe, errno_of};

/// What is known about it before it is created.
pub struct ChosenCgroup {
    /// The container's cgroups.
    pub cgroup: Cgroup,
    /// The cgroups shown in its mounts, if different; brig then creates no directories.
    pub view: Option<Cgroup>,
    /// The unit that systemd creates.
    pub scope: Option<Scope>,
}

/// Only reads, and connects to systemd. `id`: the container's, which names its own directory.
///
/// # Errors
///
/// If `linux.cgroupsPath` is not valid, a process is in that cgroup, or systemd is not available.
pub fn locate(id: &str, spec: &Spec, plan: &Plan, host: Host) -> Result<ChosenCgroup> {
    let path = spec.linux.cgroups_path.as_deref();
    match plan.cgroup_manager {
        CgroupManager::Cgroupfs => {
            let cgroup = Cgroup::locate(host.into_hierarchies()?, path, id)?;
            Ok(ChosenCgroup { cgroup, view: None, scope: None })
        }
        CgroupManager::Systemd => {
            let unprivileged = plan.goes_without_cgroup;
            let instance = if unprivileged { Instance::User } else { Instance::System };
            let asked = UnitRequest::new(path, id, &spec.annotations, instance)?;
            let (cgroup, scope) = Cgroup::of_unit(host.into_hierarchies()?, asked)?;
            let view = Some(scope.prospect(cgroup.version));
            Ok(ChosenCgroup { cgroup, view, scope: Some(scope) })
        }
        CgroupManager::Disabled => {
            let (cgroup, view) = (Cgroup::disabled(), Some(Cgroup::disabled()));
            Ok(ChosenCgroup { cgroup, view, scope: None })
        }
    }
}

/// Creates the cgroup. If that is not possible, some containers run without one.
pub fn make(dir: &Dir, state: &mut State, plan: &Plan, log: &mut Log) -> Result<()> {
    super::claims::ensure_free(dir, state).inspect_err(|_| state.cgroup.give_up(0))?;
    let Err(error) = create(&mut state.cgroup, plan, log) else {
        let delegated = plan.cgroup_owner.map_or(Ok(()), |owner| state.cgroup.delegate(owner));
        return match delegated {
            // The cgroup belongs to another of an unprivileged user's subordinate ids.
            Err(error) if plan.goes_without_cgroup => {
                log.warn(&describe(&error));
                Ok(())
            }
            delegated => delegated,
        };
    };
    let refused = [Errno::EACCES, Errno::EPERM, Errno::EROFS].map(Some).contains(&errno_of(&error));
    if !plan.goes_without_cgroup || !refused {
        return Err(error);
    }
    if !plan.resources.sets_no_limit() {
        return Err(error.context(super::hints::NO_CGROUP)).at("linux.resources");
    }
    if plan.names_cgroup {
        log.warn(&format!(
            "the container gets no cgroup of its own, because you are not permitted to create one: {}",
            describe(&error)
        ));
    }
    state.cgroup.remove(Instant::now() + deadline::CGROUP)?;
    state.cgroup = Cgroup::none(state.cgroup.version);
    dir.begin(state)
}

/// Creates the cgroup and sets its limits; a limit that is an image default is dropped if it is not possible.
fn create(cgroup: &mut Cgroup, plan: &Plan, log: &mut Log) -> Result<()> {
    if plan.resources.optional == Optional::default() {
        return cgroup.create(&plan.resources);
    }
    let located = cgroup.clone();
    let mut done = cgroup.create(&plan.resources);
    for (swap, pids) in [(true, false), (false, true), (true, true)] {
        let Err(error) = &done else { break };
        let rest = plan.resources.without(Optional { pids, swap });
        if rest == plan.resources {
            continue;
        }
        log.debug(format_args!("default limit not set: {}", describe(error)));
        cgroup.remove(Instant::now() + deadline::CGROUP)?;
        cgroup.clone_from(&located);
        done = cgroup.create(&rest);
    }
    done
}

/// Without a cgroup namespace on v1, a cgroup mount consists of bind mounts of the container's own
/// directories.
pub fn shows_directories(plan: &Plan, cgroup: &Cgroup) -> bool {
    cgroup.version != Version::V2 && plan.shows_own_cgroups()
}

/// Moves init to the cgroup named by the annotation.
pub fn delegate(state: &State, plan: &Plan) -> Result<()> {
    let Some((below, owner)) = &plan.delegated else { return Ok(()) };
    let moved = state.cgroup.move_below(below, state.pid, *owner);
    moved.at(format_args!("annotations[{:?}]", delegate::ANNOTATION))
}

/// Waits for systemd, completes the cgroup, and lets the child go on.
pub fn settle(scope: &mut Scope, state: &mut State, plan: &Plan, channel: &Channel) -> Result<()> {
    let settled = scope
        .settle(&mut state.cgroup, state.pid, &plan.resources)
        .and_then(|()| plan.cgroup_owner.map_or(Ok(()), |owner| state.cgroup.delegate(owner)));
    if let Err(error) = settled {
        // If the child has failed in the meantime, that is why systemd had no process to move.
        return match channel.receive_now() {
            Some(Message::Failed(text)) => Err(crate::fault::unpack(&text)),
            _ => Err(error),
        };
    }
    // If the child has died, its error is read next.
    let _ = channel.send(&Message::Placed);
    Ok(())
}
