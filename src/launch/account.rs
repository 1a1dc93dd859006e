//! What `--debug` logs about a creation: what was decided, and what was created. Nothing is formatted here
//! without `--debug`.

use crate::log::Log;
use crate::plan::mounts::Kind;
use crate::plan::{CgroupManager, Plan, namespaces};
use crate::state::State;
use std::path::Path;

/// Logs what the plan and the choice of a cgroup decided.
pub fn decided(plan: &Plan, state: &State, log: &mut Log) {
    if !log.debugs() {
        return;
    }
    let manager = match plan.cgroup_manager {
        CgroupManager::Cgroupfs => "cgroupfs",
        CgroupManager::Systemd => "systemd",
        CgroupManager::Disabled => "disabled",
    };
    let version = state.cgroup.version;
    let dirs = list(state.cgroup.dirs().iter().map(|dir| dir.path.display().to_string()));
    log.debug(format_args!("decided: cgroup manager {manager}, cgroup {version:?}: {dirs}"));
    let bits = (0..32).map(|bit| 1 << bit).filter(|bit| plan.namespaces.new & bit != 0);
    let created = list(bits.map(|bit| namespaces::name(bit).to_owned()));
    let joined = plan.namespaces.join.iter();
    let joined =
        joined.map(|join| format!("{} ({})", namespaces::name(join.kind), join.path.display()));
    log.debug(format_args!("decided: namespaces to create: {created}; to join: {}", list(joined)));
    for mount in &plan.rootfs.mounts {
        let what = match &mount.kind {
            Kind::Bind { source, .. } => format!("bind mount of {}", source.to_string_lossy()),
            Kind::Filesystem(new) | Kind::Cgroup(new) => new.fstype.to_string_lossy().into_owned(),
            Kind::Remount { .. } => "other options for the mount that exists".into(),
        };
        let target = mount.target.to_string_lossy();
        log.debug(format_args!("decided: mounts[{}]: {target}: {what}", mount.index));
    }
}

/// Logs what would have to be undone.
pub fn made(root: &Path, state: &State, log: &mut Log) {
    if !log.debugs() {
        return;
    }
    log.debug(format_args!("made: state directory {}", root.join(&state.id).display()));
    for dir in state.cgroup.dirs().iter().filter(|dir| dir.made > 0) {
        log.debug(format_args!("made: cgroup {}", dir.path.display()));
    }
}

/// Logs that everything created is gone again, because creation failed or the container is deleted.
pub fn removed(state: &State, log: &mut Log) {
    log.phase("removal");
    if !log.debugs() {
        return;
    }
    if state.pid != 0 {
        log.debug(format_args!("ended: process {}", state.pid));
    }
    log.debug(format_args!("removed: state directory of {}", state.id));
    for dir in state.cgroup.dirs().iter().filter(|dir| dir.made > 0) {
        log.debug(format_args!("removed: cgroup {}", dir.path.display()));
    }
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".into() } else { words.join(", ") }
}
