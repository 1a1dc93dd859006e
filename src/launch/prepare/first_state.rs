//! The contents of state.json before there is a process.

use crate::cgroup::Cgroup;
use crate::launch::options::Options;
use crate::plan::Plan;
use crate::plan::hooks::allowance;
use crate::plan::overlay::Overlay;
use crate::rdt::Rdt;
use crate::spec::Spec;
use crate::state::{self, ExtraMounts, State};
use std::path::Path;

/// The cgroup and the class of service of the container.
pub struct Belonging {
    /// The cgroup.
    pub cgroup: Cgroup,
    /// The class of service, if the config asks for one.
    pub rdt: Option<Rdt>,
}

/// Everything known before there is a process.
pub fn first_state(
    options: &Options,
    spec: Spec,
    plan: &Plan,
    bundle: &Path,
    belongs_to: Belonging,
) -> State {
    State {
        version: state::VERSION,
        id: options.id.clone(),
        creating: true,
        pid: 0,
        start_time: 0,
        pidfs_inode: None,
        bundle: bundle.to_owned(),
        rootfs: plan.rootfs.path.clone(),
        created: sys::time::now(),
        uid: nix::unistd::geteuid().as_raw(),
        layers: plan.rootfs.overlay.as_ref().map(Overlay::paths),
        annotations: spec.annotations,
        own_bundle: options.own_bundle,
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
        start_seconds: allowance(&plan.hooks.start_container).as_secs(),
        namespaces: plan.namespaces.all(),
        own_pids: plan.namespaces.new & libc::CLONE_NEWPID != 0,
        keyring: !options.no_new_keyring,
        execution: plan.execution.clone(),
        memory_and_swap: plan.resources.memory.swap,
        rdt: belongs_to.rdt,
        extra_mounts: ExtraMounts::default(),
        cgroup: belongs_to.cgroup,
    }
}
