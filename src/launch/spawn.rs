//! The one clone: which namespaces are made with it, which are joined before, which after.

use super::rootless;
use super::sync::{self, Message};
use crate::cgroup::not_born;
use crate::plan::namespaces::{Join, Namespaces, name};
use crate::spec::{At, Place};
use crate::sys::clone::{Side, clone_sibling, clone3};
use crate::sys::cred;
use crate::sys::misc::namespace_type;
use crate::sys::{self, SysError, signal};
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// An opened namespace to join.
pub struct Joined<'a> {
    file: File,
    join: &'a Join,
}

impl Joined<'_> {
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
pub fn open(plan: &Namespaces) -> Result<Vec<Joined<'_>>> {
    let open = |join| open_one(join).at(&join.place).map(|file| Joined { file, join });
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

/// How the child gets into its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One clone. A pid namespace is joined by the parent, since that takes effect for children only;
    /// all others by the child.
    Direct,
    /// A process in between joins all, clones, and is gone: only with the rights of the user
    /// namespace that is joined can more be made in it, and only without those of a new one can
    /// others be joined. The parent can do neither: it could not go back. Nor could it go back to its
    /// pid namespace, where it is root of a user namespace only (podman of an ordinary user).
    Relay,
}

impl Strategy {
    fn of(plan: &Namespaces) -> Strategy {
        let joins_pid = plan.joined(libc::CLONE_NEWPID).is_some();
        Strategy::simplest(plan, !joins_pid || cred::in_first_user_namespace())
    }

    /// The simplest that the kernel allows.
    fn simplest(plan: &Namespaces, goes_back: bool) -> Strategy {
        let new_user = plan.new & libc::CLONE_NEWUSER != 0;
        let joins_user = plan.joined(libc::CLONE_NEWUSER).is_some();
        if joins_user || new_user && !plan.join.is_empty() || !goes_back {
            Strategy::Relay
        } else {
            Strategy::Direct
        }
    }
}

/// Clones. Cgroup and time namespaces are made later, by the child: the one has its root where the
/// process is then, the other wants its offsets first.
pub fn spawn(
    plan: &Namespaces,
    joined: &[Joined<'_>],
    into: Option<BorrowedFd<'_>>,
) -> Result<Side> {
    let flags = plan.new & !(libc::CLONE_NEWCGROUP | libc::CLONE_NEWTIME);
    if Strategy::of(plan) == Strategy::Relay {
        let early = joined.iter().any(|joined| joined.join.kind == libc::CLONE_NEWCGROUP);
        return relay(flags, into, early, || enter_all(joined));
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

/// What the kernel means by its errno.
fn explained(error: SysError, flags: libc::c_int) -> anyhow::Error {
    let user = flags & libc::CLONE_NEWUSER != 0;
    match rootless::no_user_namespace(error.errno).filter(|_| user) {
        Some(why) => anyhow::Error::from(error).context(why).context(At::new("linux.namespaces")),
        None => not_born(error),
    }
}

/// The relay's life: join, clone a child that is its parent's, tell its pid, end. Where a cgroup
/// namespace is joined that does not have brig's own cgroup, nobody could be born in the container's
/// from there (ENOENT): the relay itself is, `early`, and its child inherits it.
pub fn relay(
    flags: libc::c_int,
    into: Option<BorrowedFd<'_>>,
    early: bool,
    join: impl FnOnce() -> Result<()>,
) -> Result<Side> {
    let (first, second) = if early { (into, None) } else { (None, into) };
    let (ours, theirs) = sync::pair()?;
    let relay = match clone3(0, first).map_err(not_born)? {
        Side::Parent(_, relay) => relay,
        Side::Child(born) => {
            drop(ours);
            let cloned = join().and_then(|()| {
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

/// What the child joins itself: all but the pid namespace, in which it was born, and nothing after a
/// relay, which has joined all.
pub fn join(plan: &Namespaces, joined: &[Joined<'_>]) -> Result<()> {
    match Strategy::of(plan) {
        Strategy::Relay => Ok(()),
        Strategy::Direct => {
            let not_pid = |joined: &&Joined<'_>| joined.join.kind != libc::CLONE_NEWPID;
            in_order(joined).filter(not_pid).try_for_each(Joined::enter)
        }
    }
}

fn enter_all(joined: &[Joined<'_>]) -> Result<()> {
    in_order(joined).try_for_each(Joined::enter)
}

/// The user namespace first: it has the rights to join the others. The mount namespace last: it
/// changes what every path means.
fn in_order<'a>(joined: &'a [Joined<'a>]) -> impl Iterator<Item = &'a Joined<'a>> {
    let of = |kinds: &'static [libc::c_int], yes: bool| {
        joined.iter().filter(move |joined| kinds.contains(&joined.join.kind) == yes)
    };
    let ends = &[libc::CLONE_NEWUSER, libc::CLONE_NEWNS];
    of(&ends[..1], true).chain(of(ends, false)).chain(of(&ends[1..], true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relay_is_only_for_user_namespaces() {
        let plan = |json: &str| Namespaces::new(&serde_json::from_str(json).unwrap()).unwrap();
        let strategy = |json: &str| Strategy::simplest(&plan(json), true);
        let joined = r#"{"type":"network","path":"/n"},{"type":"pid","path":"/p"}"#;
        assert_eq!(strategy(&format!(r#"{{"namespaces":[{joined}]}}"#)), Strategy::Direct);
        assert_eq!(
            strategy(r#"{"namespaces":[{"type":"user"},{"type":"pid"}]}"#),
            Strategy::Direct
        );
        let both = format!(r#"{{"namespaces":[{{"type":"user"}},{joined}]}}"#);
        assert_eq!(strategy(&both), Strategy::Relay);
        assert_eq!(strategy(r#"{"namespaces":[{"type":"user","path":"/u"}]}"#), Strategy::Relay);
        let pid = plan(&format!(r#"{{"namespaces":[{joined}]}}"#));
        assert_eq!(Strategy::simplest(&pid, false), Strategy::Relay);
    }
}
