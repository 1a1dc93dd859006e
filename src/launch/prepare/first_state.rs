//! The contents of state.json before there is a process.

use crate::cgroup::Cgroup;
use crate::launch::options::Options;
use crate::plan::Plan;
use crate::plan::hooks::allowance;
use crate::plan::overlay::Overlay;
use crate::rdt::Rdt;
use crate::spec::Spec;
use crate::state::{self, Annotations, ExtraMounts, State};
use anyhow::Result;
use nix::sys::stat::{SFlag, fstat};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use sys::fd::STANDARD_FDS;
use sys::file::kind;

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
    spec: &Spec,
    plan: &Plan,
    bundle: &Path,
    belongs_to: Belonging,
) -> Result<State> {
    Ok(State {
        version: state::VERSION,
        id: options.id.clone(),
        creating: true,
        pid: 0,
        start_time: 0,
        pidfs_inode: None,
        boot: None,
        bundle: bundle.to_owned(),
        rootfs: plan.rootfs.path.clone(),
        created: sys::time::now(),
        uid: nix::unistd::geteuid().as_raw(),
        layers: plan.rootfs.overlay.as_ref().map(Overlay::paths),
        annotations: Annotations::new(&spec.annotations)?,
        own_bundle: options.own_bundle,
        poststart: plan.hooks.poststart.clone(),
        poststop: plan.hooks.poststop.clone(),
        start_seconds: allowance(&plan.hooks.start_container).as_secs(),
        namespaces: plan.namespaces.all(),
        own_pids: plan.namespaces.new & libc::CLONE_NEWPID != 0,
        keyring: !options.no_new_keyring,
        execution: plan.execution.clone(),
        memory_and_swap: plan.resources.memory.swap,
        stdio: streams(plan)?,
        ended: None,
        rdt: belongs_to.rdt,
        extra_mounts: ExtraMounts::default(),
        cgroup: belongs_to.cgroup,
    })
}

/// The pipes behind init's standard streams and preserved descriptors, by their names in /proc: init may
/// replace them, and a restored container needs the ones it had at first.
fn streams(plan: &Plan) -> Result<Vec<String>> {
    let name = |fd: BorrowedFd<'_>| match fstat(fd) {
        Ok(found) if kind(found.st_mode) == SFlag::S_IFIFO => format!("pipe:[{}]", found.st_ino),
        _ => String::new(),
    };
    let preserved = plan.process.preserved_fds;
    let mut names = match plan.process.terminal.is_some() {
        true if preserved == 0 => return Ok(Vec::new()),
        true => vec![String::new(); 3],
        false => STANDARD_FDS.map(name).to_vec(),
    };
    for fd in 3..3 + preserved {
        names.push(name(sys::fd::duplicate(fd)?.as_fd()));
    }
    Ok(names)
}
