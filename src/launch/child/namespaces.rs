//! Into the container's namespaces: create's child makes them or joins others', exec's joins init's.

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
    /// Out of the host: namespaces, and what belongs to them.
    pub(super) fn enter_namespaces(
        &self,
        proc: Option<&Proc>,
        cgroup: &mut CgroupMembership<'_>,
    ) -> Result<()> {
        let plan = &*self.plan;
        if plan.needs_parent() {
            ensure!(cgroup.channel.expect(&Message::Provided), "brig is gone");
        }
        if plan.namespaces.new & libc::CLONE_NEWTIME != 0 {
            make_time_namespace(open(proc)?, &plan.time_offsets).at("linux.timeOffsets")?;
        }
        if plan.process.in_user_namespace {
            ids::become_root(&plan.process)?;
        }
        // Until there is a saved state that leads to this process it must not outlive the parent. Not
        // before now: a change of ids clears it.
        cred::parent_death_signal(libc::SIGKILL)?;
        // What is not dumpable, other processes of a shared pid namespace cannot look into (CVE-2016-9962).
        // Root's child has been so from its birth on, but a change of ids resets it to fs.suid_dumpable. An
        // ordinary user's could not be before: its id maps would be root's.
        cred::dumpable(false)?;
        spawn::join(&plan.namespaces, self.joined)?;
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

    /// The kernel looks up a parameter in the namespaces of whoever opens it.
    pub(super) fn set_sysctls(&self, proc: Option<&Proc>) -> Result<()> {
        for sysctl in &self.plan.sysctl {
            let path = format!("sys/{}", sysctl.path);
            open(proc)?.write(&path, &sysctl.value).at(&sysctl.place)?;
        }
        Ok(())
    }
}

impl Exec<'_> {
    /// What has to be done as long as this process has root's rights on the host.
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

    /// What is already in the container could look into this process, were it dumpable (CVE-2016-9962).
    pub(super) fn enter_namespaces(&self) -> Result<()> {
        cred::dumpable(false)?;
        self.container.join_late()?;
        if self.process.in_user_namespace {
            ids::become_root(self.process)?;
        }
        // Both may have reset it to fs.suid_dumpable.
        Ok(cred::dumpable(false)?)
    }

    /// Without a mount namespace of its own the container is only chrooted.
    pub(super) fn enter_root(&self) -> Result<()> {
        let Some(root) = self.root else { return Ok(()) };
        nix::unistd::fchdir(root).and_then(|()| nix::unistd::chroot(".")).context("chroot")
    }
}

fn open(proc: Option<&Proc>) -> Result<&Proc> {
    proc.context("the host's /proc is not open")
}

/// A new time namespace takes its offsets only as long as nobody is in it (time_namespaces(7)).
fn make_time_namespace(proc: &Proc, offsets: &[(&str, i64, u32)]) -> Result<()> {
    unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("unshare(CLONE_NEWTIME)")?;
    for (clock, seconds, nanoseconds) in offsets {
        proc.write("self/timens_offsets", &format!("{clock} {seconds} {nanoseconds}"))?;
    }
    let file = proc.file("self/ns/time_for_children", OFlag::O_RDONLY)?;
    setns(&file, CloneFlags::from_bits_retain(libc::CLONE_NEWTIME)).context("setns(CLONE_NEWTIME)")
}

/// Whether the child is in its cgroup, which systemd may still be about to see to.
pub(super) struct CgroupMembership<'a> {
    pub(super) channel: &'a Channel,
    /// The parent will say when systemd has moved the child.
    awaited: bool,
    /// There is to be a cgroup namespace. Its root is where the process is when it is made.
    namespace: bool,
}

impl<'a> CgroupMembership<'a> {
    /// `by_systemd`: the parent will say when the child is there. `plan` is create's.
    pub(super) fn new(channel: &'a Channel, by_systemd: bool, plan: Option<&Plan>) -> Self {
        let new = plan.map_or(0, |plan| plan.namespaces.new);
        Self { channel, awaited: by_systemd, namespace: new & libc::CLONE_NEWCGROUP != 0 }
    }

    /// To be called before anything that shows cgroups, or is to be charged to the container's.
    pub(super) fn wait_until_in_cgroup(&mut self) -> Result<()> {
        if self.awaited {
            ensure!(self.channel.expect(&Message::Placed), "brig is gone");
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
