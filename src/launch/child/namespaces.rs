//! Enters the container's namespaces: create's child makes new ones or joins those of the config, exec's
//! joins init's.

use super::{Exec, Init};
use crate::launch::protocol::{Channel, Message};
use crate::launch::{execute, spawn};
use crate::plan::Plan;
use crate::process::proc::Proc;
use crate::process::{ids, limits, sched};
use crate::spec::Place;
use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use sys::{cred, namespace};

impl Init<'_> {
    /// Leaves the host: namespaces and related settings.
    pub(super) fn enter_namespaces(
        &self,
        proc: Option<&Proc>,
        cgroup: &mut CgroupMembership<'_>,
    ) -> Result<()> {
        let plan = &*self.plan;
        if plan.needs_parent() {
            ensure!(cgroup.channel.expect(&Message::Provided), "brig has exited");
        }
        if plan.namespaces.new & libc::CLONE_NEWTIME != 0 {
            make_time_namespace(open(proc)?, &plan.time_offsets).at("linux.timeOffsets")?;
        }
        if plan.process.in_user_namespace {
            ids::become_root(&plan.process)?;
        }
        // Until the state with this process is saved, it must not outlive the parent. Set here because a
        // change of ids clears it.
        cred::parent_death_signal(libc::SIGKILL)?;
        // Other processes of a shared pid namespace cannot look into an undumpable process (CVE-2016-9962).
        // Root's child is undumpable from the start, but a change of ids resets that to fs.suid_dumpable. An
        // unprivileged user's cannot be earlier: its id maps would be owned by root.
        cred::dumpable(false)?;
        spawn::join(&plan.namespaces, self.joined)?;
        if plan.process.in_user_namespace && plan.namespaces.new & libc::CLONE_NEWIPC != 0 {
            unshare(CloneFlags::CLONE_NEWIPC).context("unshare(CLONE_NEWIPC)")?;
        }
        if !cgroup.awaited {
            cgroup.make_namespace()?;
        }
        if plan.namespaces.new & libc::CLONE_NEWNET != 0 {
            namespace::loopback_up()?;
        }
        if let Some(name) = &plan.hostname {
            nix::unistd::sethostname(name).context("sethostname").at("hostname")?;
        }
        if let Some(name) = &plan.domainname {
            namespace::setdomainname(name.as_bytes()).at("domainname")?;
        }
        Ok(())
    }

    /// The kernel resolves a parameter in the namespaces of the process that opens it.
    pub(super) fn set_sysctls(&self, proc: Option<&Proc>) -> Result<()> {
        for sysctl in &self.plan.sysctl {
            let path = format!("sys/{}", sysctl.path);
            open(proc)?.write(&path, &sysctl.value).at(&sysctl.place)?;
        }
        Ok(())
    }
}

impl Exec<'_> {
    /// Steps that need root privileges on the host.
    pub(super) fn use_hosts_rights(&self, proc: Option<&Proc>) -> Result<()> {
        if let Some(score) = self.process.oom_score_adj {
            execute::set_oom_score(open(proc)?, "self", score)?;
        }
        sched::schedule(0, &self.process.scheduling)?;
        if self.process.in_user_namespace {
            limits::set(0, self.process)?;
        }
        Ok(())
    }

    /// Processes in the container could look into this one if it were dumpable (CVE-2016-9962).
    pub(super) fn enter_namespaces(&self) -> Result<()> {
        cred::dumpable(false)?;
        self.container.join_late()?;
        if self.process.in_user_namespace {
            ids::become_root(self.process)?;
        }
        // Both may have reset it to fs.suid_dumpable.
        Ok(cred::dumpable(false)?)
    }

    /// Without a new mount namespace the container is only chrooted.
    pub(super) fn enter_root(&self) -> Result<()> {
        let Some(root) = self.root else { return Ok(()) };
        nix::unistd::fchdir(root).and_then(|()| nix::unistd::chroot(".")).context("chroot")
    }
}

fn open(proc: Option<&Proc>) -> Result<&Proc> {
    proc.context("internal error: the host's /proc is not open")
}

/// The offsets of a time namespace can only be set before a process enters it (time_namespaces(7)).
fn make_time_namespace(proc: &Proc, offsets: &[(&str, i64, u32)]) -> Result<()> {
    unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("unshare(CLONE_NEWTIME)")?;
    for (clock, seconds, nanoseconds) in offsets {
        proc.write("self/timens_offsets", &format!("{clock} {seconds} {nanoseconds}"))?;
    }
    let file = proc.file("self/ns/time_for_children", OFlag::O_RDONLY)?;
    setns(&file, CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("setns(CLONE_NEWTIME)")
}

/// Whether the child is in its cgroup; with systemd it may not be yet.
pub(super) struct CgroupMembership<'a> {
    pub(super) channel: &'a Channel,
    /// The parent reports when systemd has moved the child.
    awaited: bool,
    /// A cgroup namespace is created; its root is the cgroup of the process at that time.
    namespace: bool,
}

impl<'a> CgroupMembership<'a> {
    /// `by_systemd`: the parent reports when the child is in its cgroup. `plan` is create's.
    pub(super) fn new(channel: &'a Channel, by_systemd: bool, plan: Option<&Plan>) -> Self {
        let new = plan.map_or(0, |plan| plan.namespaces.new);
        Self { channel, awaited: by_systemd, namespace: new & libc::CLONE_NEWCGROUP != 0 }
    }

    /// Called before anything that shows cgroups or is charged to the container's cgroup.
    pub(super) fn wait_until_in_cgroup(&mut self) -> Result<()> {
        if self.awaited {
            ensure!(self.channel.expect(&Message::Placed), "brig has exited");
            self.awaited = false;
            self.make_namespace()?;
        }
        Ok(())
    }

    fn make_namespace(&self) -> Result<()> {
        if self.namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP).context("unshare(CLONE_NEWCGROUP)")?;
        }
        Ok(())
    }
}
