//! The one clone: which namespaces are made with it, which are joined before, which after.

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

    /// Another descriptor of it.
    pub fn file(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::from_bits_retain(self.join.kind))
            .with_context(|| format!("setns({})", self.join.path.display()))
            .at(&self.join.place)
    }
}

/// Opens every namespace to join, in the parent's view of the host, and checks its type.
pub fn open(plan: &Namespaces) -> Result<Vec<Joined>> {
    let open = |join: &Join| -> Result<Joined> {
        Ok(Joined { file: open_one(join).at(&join.place)?, join: join.clone() })
    };
    plan.join.iter().map(open).collect()
}

fn open_one(join: &Join) -> Result<File> {
    let path = join.path.display();
    let file = File::open(&join.path).with_context(|| format!("open {path}"))?;
    let kind = namespace_type(file.as_fd())
        .with_context(|| format!("{path} is not a namespace file (as /proc/PID/ns/net is)"))?;
    ensure!(
        kind == join.kind,
        "{path} is a {} namespace, not a {} namespace",
        name(kind),
        name(join.kind)
    );
    Ok(file)
}

/// Clones. Cgroup and time namespaces are made later, by the child: the one has its root where the
/// process is then, the other wants its offsets first.
///
/// `score`: an OOM score that a relay sets, because its child cannot and the parent may not.
pub fn spawn(
    plan: &Namespaces,
    joined: &[Joined],
    into: Option<BorrowedFd<'_>>,
    score: Option<i32>,
) -> Result<Side> {
    let flags = plan.new & !(libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME);
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
        setns(&own, CloneFlags::CLONE_NEWPID).context("back to brig's own pid namespace")?;
    }
    Ok(side)
}

/// A container that is there, for a process of exec's.
pub struct Running<'a> {
    /// Its init.
    pub init: &'a OwnedFd,
    /// `CLONE_NEW*` bits of its namespaces.
    pub namespaces: libc::c_int,
    /// By a relay: only root may join a pid namespace from outside the user namespace that it belongs to.
    pub relayed: bool,
}

impl Running<'_> {
    /// Clones a process that is in the container's pid namespace, or behind a relay in all of them but the cgroup
    /// namespace: nobody can be born in a cgroup from one that does not have brig's own.
    ///
    /// `score`: an OOM score that a relay sets.
    pub fn spawn(&self, into: Option<BorrowedFd<'_>>, score: Option<i32>) -> Result<Side> {
        if self.relayed {
            return relay(0, into, false, score, || self.join(!libc::CLONE_NEWCGROUP));
        }
        self.join(libc::CLONE_NEWPID)?;
        clone3(0, into).map_err(explain_clone_error)
    }

    /// In the child: what [`Self::spawn`] has left.
    pub fn join_late(&self) -> Result<()> {
        self.join(if self.relayed { libc::CLONE_NEWCGROUP } else { !libc::CLONE_NEWPID })
    }

    /// Joins those of these kinds, all at once: the kernel takes the user namespace's rights for the others (setns(2),
    /// Linux 5.8).
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

/// What the kernel means by its errno.
fn explained(error: SysError, flags: libc::c_int) -> anyhow::Error {
    let user = flags & libc::CLONE_NEWUSER != 0;
    match hints::no_user_namespace(error.errno).filter(|_| user) {
        Some(why) => anyhow::Error::from(error).context(why).context(At::new("linux.namespaces")),
        None => explain_clone_error(error),
    }
}

/// The relay's life: join, clone a child that is its parent's, tell its pid, end. Where a cgroup
/// namespace is joined that does not have brig's own cgroup, nobody could be born in the container's
/// from there (ENOENT): the relay itself is, `early`, and its child inherits it.
///
/// With brig's ids and the host's files, but in a user namespace whose processes may have every
/// capability there, relay and child must be undumpable before the first namespace is joined
/// (CVE-2016-9962). An ordinary user's can then no longer set its own OOM score, so that comes before.
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
                // Whoever cares compares: an ordinary user may not lower it.
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
            // If the parent is gone, there is nobody to tell.
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

/// What the child joins itself: all but the pid namespace, in which it was born, and nothing after a
/// relay, which has joined all.
pub fn join(plan: &Namespaces, joined: &[Joined]) -> Result<()> {
    match plan.strategy {
        Strategy::Relay => Ok(()),
        Strategy::Direct => {
            let not_pid = |joined: &&Joined| joined.join.kind != libc::CLONE_NEWPID;
            in_order(joined).filter(not_pid).try_for_each(Joined::enter)
        }
    }
}

/// All of them. The user namespace has the rights to join the others in most cases; brig's own have to
/// do for those that belong to another one, and they are gone once it is joined. So what brig may join
/// with its own rights comes first. The mount namespace is the last of each round.
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
    // Joining somebody else's user namespace has reset it to fs.suid_dumpable.
    cred::dumpable(false)?;
    left.into_iter().try_for_each(Joined::enter)
}

/// The mount namespace last: it changes what every path means.
fn in_order(joined: &[Joined]) -> impl Iterator<Item = &Joined> {
    let mount =
        |yes: bool| joined.iter().filter(move |joined| (joined.kind() == libc::CLONE_NEWNS) == yes);
    mount(false).chain(mount(true))
}
