//! The one clone: which namespaces it creates, which are joined before, and which after it.

use super::prepare::hints;
use super::protocol::{self, Message};
use crate::cgroup::explain_clone_error;
use crate::plan::namespaces::{Join, Namespaces, Strategy, name};
use crate::process::proc::Proc;
use crate::spec::{At, Place};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use sys::clone::{Side, clone_sibling, clone3};
use sys::cred;
use sys::namespace::namespace_type;
use sys::{self, Errno, SysError, errno_of, signal};

/// An opened namespace to join.
pub struct Joined {
    file: File,
    join: Join,
}

impl Joined {
    /// Its `CLONE_NEW*` bit.
    pub fn kind(&self) -> libc::c_int {
        self.join.kind
    }

    /// Duplicates its descriptor.
    pub fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::from_bits_retain(self.join.kind))
            .with_context(|| format!("setns({})", self.join.path.display()))
            .at(&self.join.place)
    }
}

/// Opens every namespace to join as the parent sees it on the host, and checks its type.
///
/// # Errors
///
/// If a file does not exist, or is not a namespace of this type.
pub fn open(plan: &Namespaces) -> Result<Vec<Joined>> {
    let open = |join: &Join| -> Result<Joined> {
        Ok(Joined { file: open_one(join).at(&join.place)?, join: join.clone() })
    };
    plan.join.iter().map(open).collect()
}

fn open_one(join: &Join) -> Result<File> {
    let path = join.path.display();
    // O_NONBLOCK: opening a fifo would wait for a writer.
    let open = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&join.path);
    let file = open.with_context(|| format!("open {path}"))?;
    let kind = namespace_type(file.as_fd())
        .with_context(|| format!("{path} is not a namespace file like /proc/PID/ns/net"))?;
    ensure!(
        kind == join.kind,
        "{path} is a {} namespace, not a {} namespace",
        name(kind),
        name(join.kind)
    );
    Ok(file)
}

/// Clones. The child creates cgroup and time namespaces later: the root of the former is the cgroup of the
/// process at that time, and the latter needs its offsets first. In a user namespace it also creates the IPC
/// namespace, whose message queue filesystem belongs to the creator: here, that is not yet a user of the
/// namespace.
///
/// `score`: an OOM score set by a relay, because its child cannot set it and the parent may not.
pub fn spawn(
    plan: &Namespaces,
    joined: &[Joined],
    into: Option<BorrowedFd<'_>>,
    score: Option<i32>,
) -> Result<Side> {
    let ipc = if plan.has(libc::CLONE_NEWUSER) { libc::CLONE_NEWIPC } else { 0 };
    let flags = plan.new & !(libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME | ipc);
    if plan.strategy == Strategy::Relay {
        let early = joined.iter().any(|joined| joined.join.kind == libc::CLONE_NEWCGROUP);
        return relay(flags, into, early, score, || enter_all(joined));
    }
    let Some(pidns) = joined.iter().find(|joined| joined.join.kind == libc::CLONE_NEWPID) else {
        return clone3(flags, into).map_err(|error| explained(error, flags));
    };
    let own = File::open("/proc/self/ns/pid").context("open /proc/self/ns/pid")?;
    pidns.enter()?;
    let side = clone3(flags, into).map_err(|error| explained(error, flags))?;
    if let Side::Parent(..) = side {
        setns(&own, CloneFlags::CLONE_NEWPID).context("return to brig's pid namespace")?;
    }
    Ok(side)
}

/// An existing container, for a process of exec.
pub struct Running<'a> {
    /// Its init.
    pub init: &'a OwnedFd,
    /// `CLONE_NEW*` bits of its namespaces.
    pub namespaces: libc::c_int,
    /// Through a relay: only root may join a pid namespace from outside the user namespace that owns it.
    pub relayed: bool,
}

impl Running<'_> {
    /// Clones a process into the container's pid namespace, or with a relay into all of its namespaces except
    /// the cgroup namespace: CLONE_INTO_CGROUP fails from a cgroup namespace that does not contain brig's own
    /// cgroup.
    ///
    /// `score`: an OOM score set by a relay.
    pub fn spawn(&self, into: Option<BorrowedFd<'_>>, score: Option<i32>) -> Result<Side> {
        if self.relayed {
            return relay(0, into, false, score, || self.join(!libc::CLONE_NEWCGROUP));
        }
        self.join(libc::CLONE_NEWPID)?;
        clone3(0, into).map_err(explain_clone_error)
    }

    /// In the child: joins the namespaces left by [`Self::spawn`].
    pub fn join_late(&self) -> Result<()> {
        self.join(if self.relayed { libc::CLONE_NEWCGROUP } else { !libc::CLONE_NEWPID })
    }

    /// Joins the namespaces of these kinds in one call: the kernel uses the capabilities in the user
    /// namespace for the others (setns(2), Linux 5.8).
    fn join(&self, kinds: libc::c_int) -> Result<()> {
        let kinds = self.namespaces & kinds;
        if kinds == 0 {
            return Ok(());
        }
        let flags = CloneFlags::from_bits_retain(kinds);
        setns(self.init, flags)
            .with_context(|| format!("join the container's namespaces ({kinds:#x})"))
    }
}

/// Explains an errno of the kernel.
fn explained(error: SysError, flags: libc::c_int) -> anyhow::Error {
    let user = flags & libc::CLONE_NEWUSER != 0;
    match hints::no_user_namespace(error.errno).filter(|_| user) {
        Some(why) => anyhow::Error::from(error).context(why).context(At::new("linux.namespaces")),
        None => explain_clone_error(error),
    }
}

/// The relay: joins, clones a child whose parent is the relay's parent, sends its pid, exits. If the joined
/// cgroup namespace does not contain brig's own cgroup, CLONE_INTO_CGROUP fails from there (ENOENT): then the
/// relay itself is cloned into the cgroup, `early`, and its child inherits it.
///
/// Relay and child have brig's ids and the host's files, but run in a user namespace whose processes may have
/// every capability there: they must be undumpable before they join the first namespace (CVE-2016-9962). An
/// unprivileged user's relay can then no longer set its own OOM score, so it does that before.
pub fn relay(
    flags: libc::c_int,
    into: Option<BorrowedFd<'_>>,
    early: bool,
    score: Option<i32>,
    join: impl FnOnce() -> Result<()>,
) -> Result<Side> {
    let (first, second) = if early { (into, None) } else { (None, into) };
    let (ours, theirs) = protocol::pair()?;
    let relay = match clone3(0, first).map_err(explain_clone_error)? {
        Side::Parent(_, relay) => relay,
        Side::Child(born) => {
            drop(ours);
            if let Some(score) = score {
                // The caller compares it: an unprivileged user may not lower it.
                let _ = Proc::open()
                    .and_then(|proc| proc.write("self/oom_score_adj", &score.to_string()));
            }
            let cloned =
                cred::dumpable(false).map_err(Into::into).and_then(|()| join()).and_then(|()| {
                    clone_sibling(flags, second).map_err(|error| explained(error, flags))
                });
            let message = match cloned {
                Ok(Err(birth)) => return Ok(Side::Child(if early { born } else { birth })),
                Ok(Ok(pid)) => Message::Cloned(pid),
                Err(error) => Message::Failed(crate::fault::pack(&error)),
            };
            // If the parent has exited, there is nobody to report to.
            let _ = theirs.send(&message);
            sys::exit(0)
        }
    };
    drop(theirs);
    let said = ours.receive();
    waitid(Id::PIDFd(relay.as_fd()), WaitPidFlag::WEXITED).context("wait for the relay")?;
    match said? {
        Some(Message::Cloned(pid)) => Ok(Side::Parent(pid, signal::pidfd_open(pid)?)),
        Some(Message::Failed(text)) => Err(crate::fault::unpack(&text)),
        _ => bail!("the relay died before it could clone the container's process"),
    }
}

/// The child is in a joined time namespace before it runs.
pub fn born_in_time_namespace(plan: &Namespaces) -> bool {
    plan.strategy == Strategy::Relay && plan.joined(libc::CLONE_NEWTIME).is_some()
}

/// The namespaces that the child joins itself: all except the pid namespace, which it was cloned into, and
/// none after a relay, which has joined all.
pub fn join(plan: &Namespaces, joined: &[Joined]) -> Result<()> {
    match plan.strategy {
        Strategy::Relay => Ok(()),
        Strategy::Direct => {
            let not_pid = |joined: &&Joined| joined.join.kind != libc::CLONE_NEWPID;
            in_order(joined).filter(not_pid).try_for_each(Joined::enter)
        }
    }
}

/// Joins all of them. Capabilities in the user namespace suffice to join most of the others; those owned by
/// another user namespace need brig's own capabilities, which are lost by joining. So the ones that brig can
/// join with its own capabilities come first. The mount namespace is the last of each round.
fn enter_all(joined: &[Joined]) -> Result<()> {
    let user = joined.iter().find(|joined| joined.kind() == libc::CLONE_NEWUSER);
    let mut others: Vec<_> = joined.iter().filter(|j| j.kind() != libc::CLONE_NEWUSER).collect();
    others.sort_by_key(|joined| joined.kind() == libc::CLONE_NEWNS);
    let Some(user) = user else {
        return others.into_iter().try_for_each(Joined::enter);
    };
    let mut left = Vec::new();
    for joined in others {
        match joined.enter() {
            Err(error) if errno_of(&error) == Some(Errno::EPERM) => left.push(joined),
            entered => entered?,
        }
    }
    user.enter()?;
    // Joining another user namespace has reset it to fs.suid_dumpable.
    cred::dumpable(false)?;
    left.into_iter().try_for_each(Joined::enter)
}

/// The mount namespace last: it changes the meaning of every path.
fn in_order(joined: &[Joined]) -> impl Iterator<Item = &Joined> {
    let mount =
        |yes: bool| joined.iter().filter(move |joined| (joined.kind() == libc::CLONE_NEWNS) == yes);
    mount(false).chain(mount(true))
}
