//! In the process that becomes CRIU: sets what restored processes inherit because CRIU does not restore it,
//! and stages the root filesystem.

use crate::cgroup::Cgroup;
use crate::plan::Plan;
use crate::process::sched;
use crate::rdt;
use crate::rootfs::{Sources, Users, staged};
use crate::spec::Place;
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use sys::clone::Birth;
use sys::keyring;

/// What to set up for CRIU.
pub(super) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cgroup: &'a Cgroup,
    /// CRIU must start in the container's cgroup, and in a cgroup namespace there, because it does not move
    /// processes into cgroups.
    pub(super) enters: bool,
    pub(super) users: &'a Users,
    /// The files to enter its class of service.
    pub(super) class: &'a [OwnedFd],
    /// The name of its session keyring.
    pub(super) keyring: Option<String>,
    /// The directory over which the sources of bind mounts are staged.
    pub(super) beside: &'a Path,
    /// The mounts of the host below a source, each with the index of its bind mount in the config.
    pub(super) below: &'a [(usize, PathBuf)],
}

impl Stage<'_> {
    /// Called in a new mount namespace.
    pub(super) fn prepare(&self) -> Result<()> {
        let Stage { plan, cgroup, enters, users, class, keyring, beside, below } = self;
        if *enters {
            cgroup.entry()?.enter(Birth::InParentsCgroup)?;
            if plan.namespaces.new & libc::CLONE_NEWCGROUP != 0 {
                unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare(CLONE_NEWCGROUP)")?;
            }
        }
        rdt::enter(class)?;
        if let Some(name) = keyring {
            keyring::join_session_keyring(&CString::new(name.as_str())?)?;
        }
        // brig's CPU affinity (taskset(1)) does not apply to the container.
        sys::sched::reset_affinity()?;
        if let Some(priority) = plan.process.scheduling.io_priority {
            sys::sched::set_io_priority(0, priority).at("process.ioPriority")?;
        }
        sched::adopt(&plan.execution)?;
        staged::leave_host()?;
        let sources = Sources::open(&plan.rootfs, cgroup, users, false)?;
        staged::stage(&plan.rootfs, sources, beside, below)
    }
}
