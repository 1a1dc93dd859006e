//! In the process that becomes CRIU: what the restored processes inherit from it, because CRIU does not restore it, and
//! the root filesystem that it finds.

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

/// What is staged for CRIU.
pub(super) struct Stage<'a> {
    pub(super) plan: &'a Plan,
    pub(super) cgroup: &'a Cgroup,
    /// CRIU starts in it, and in a namespace of it, because it puts nothing there.
    pub(super) enters: bool,
    pub(super) users: &'a Users,
    /// The files of its class of service.
    pub(super) class: &'a [OwnedFd],
    /// The name of its session keyring.
    pub(super) keyring: Option<String>,
    /// The directory over which the sources of bind mounts are shown.
    pub(super) beside: &'a Path,
    /// The mounts of the host that are below a source, each with the index of that bind mount in the config.
    pub(super) below: &'a [(usize, PathBuf)],
}

impl Stage<'_> {
    /// In a mount namespace of its own.
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
        // What taskset(1) bound brig to is not meant for the container.
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
