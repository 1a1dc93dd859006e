//! exec's child: from the clone to execve.

use crate::cgroup::Entry;
use crate::launch::execute::{self, Program};
use crate::launch::protocol::{Channel, Message};
use crate::plan::process::Process;
use crate::process::console::Pty;
use crate::process::lsm::{self, Opened};
use crate::process::proc::Proc;
use crate::process::socket::Socket;
use crate::process::{affinity, ids, limits, sched};
use crate::rdt;
use crate::spec::Place;
use crate::state::State;
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use sys::clone::Birth;
use sys::{clone, cred, keyring, signal};

/// Where the child goes.
pub struct Target<'a> {
    /// The container.
    pub state: &'a State,
    /// Its init.
    pub init: &'a OwnedFd,
    /// `CLONE_NEW*` bits of the namespaces that it joins itself.
    pub kinds: libc::c_int,
    /// To be chrooted to, where there is no mount namespace to join.
    pub root: Option<File>,
    /// The host's /proc, where there is something to write in it.
    pub proc: Option<Proc>,
    /// The files of the container's class of service.
    pub class: &'a [OwnedFd],
    /// Where to send the other side of its terminal.
    pub console: Option<&'a Socket>,
    /// The parent has it moved into the container's cgroup.
    pub by_systemd: bool,
}

/// Joins these namespaces of init, all at once: the kernel takes the user namespace's rights for the
/// others (setns(2), Linux 5.8).
pub fn join(init: &OwnedFd, kinds: libc::c_int) -> Result<()> {
    if kinds == 0 {
        return Ok(());
    }
    let flags = CloneFlags::from_bits_retain(kinds);
    setns(init, flags).with_context(|| format!("join the container's namespaces ({kinds:#x})"))
}

/// The child's steps. What is already in the container could look into this process, were it dumpable
/// (CVE-2016-9962).
pub fn become_process(
    target: &Target<'_>,
    process: &Process,
    entry: &Entry,
    birth: Birth,
    channel: &Channel,
) -> Result<std::convert::Infallible> {
    match target.by_systemd {
        true => ensure!(channel.expect(&Message::Placed), "brig is gone"),
        false => entry.enter(birth)?,
    }
    rdt::enter(target.class)?;
    signal::reset_all()?;
    nix::unistd::setsid().context("setsid")?;
    if let Some(score) = process.oom_score_adj {
        let proc = target.proc.as_ref().context("the host's /proc is not open")?;
        execute::set_oom_score(proc, "self", score)?;
    }
    // As long as it has root's rights on the host.
    sched::schedule(0, &process.scheduling)?;
    if process.in_user_namespace {
        limits::set(0, process)?;
    }
    let labels = lsm::open_all(target.proc.as_ref(), &process.labels)?;
    close_the_rest(target, process, &labels, channel)?;
    cred::dumpable(false)?;
    join(target.init, target.kinds)?;
    if process.in_user_namespace {
        ids::become_root(process)?;
    }
    // Both may have reset it to fs.suid_dumpable.
    cred::dumpable(false)?;
    if let Some(root) = &target.root {
        nix::unistd::fchdir(root).and_then(|()| nix::unistd::chroot(".")).context("chroot")?;
    }
    if let (Some(terminal), Some(socket)) = (&process.terminal, target.console) {
        let pty = Pty::open(terminal, process.uid).at("process.terminal")?;
        pty.hand_over(socket).at("process.terminal")?;
    }
    if target.state.keyring {
        let name = CString::new(format!("_ses.{}", target.state.id))?;
        keyring::join_session_keyring(&name)?;
    }
    affinity::in_cgroup(process)?;
    if !process.in_user_namespace {
        limits::set(0, process)?;
    }
    labels.iter().try_for_each(Opened::set)?;
    let program: Program = execute::become_user(process, &target.state.execution, channel)?;
    program.execute(process, || {
        channel.send(&Message::Ready).context("tell brig that the process starts")
    })
}

/// Before it is in the container, the process closes what it has of the host and does not need there
/// (CVE-2024-21626).
fn close_the_rest(
    target: &Target<'_>,
    process: &Process,
    labels: &[Opened<'_>],
    channel: &Channel,
) -> Result<()> {
    let mut needed = vec![channel.as_fd(), target.init.as_fd()];
    needed.extend(labels.iter().map(AsFd::as_fd));
    needed.extend(target.root.iter().map(AsFd::as_fd));
    needed.extend(target.console.iter().map(|console| console.as_fd()));
    Ok(clone::close_all_but(3 + process.preserved_fds, &needed)?)
}
