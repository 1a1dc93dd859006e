//! The one clone: which namespaces are made with it, which are joined before, which after.

use crate::plan::namespaces::{Join, Namespaces, name};
use crate::spec::Place;
use crate::sys::clone::{Side, clone3};
use crate::sys::misc::namespace_type;
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

/// An opened namespace to join.
pub struct Joined<'a> {
    file: File,
    join: &'a Join,
}

impl Joined<'_> {
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

/// Clones. A pid namespace is joined by the parent, since it takes effect for children only, and
/// left again. A cgroup namespace is made later, by the child: its root is where the process is.
pub fn spawn(
    plan: &Namespaces,
    joined: &[Joined<'_>],
    into: Option<BorrowedFd<'_>>,
) -> Result<Side> {
    let flags = plan.new & !libc::CLONE_NEWCGROUP;
    let Some(pidns) = joined.iter().find(|joined| joined.join.kind == libc::CLONE_NEWPID) else {
        return Ok(clone3(flags, into)?);
    };
    let own = File::open("/proc/self/ns/pid").context("open /proc/self/ns/pid")?;
    pidns.enter()?;
    let side = clone3(flags, into)?;
    if let Side::Parent(..) = side {
        setns(&own, CloneFlags::CLONE_NEWPID).context("back to brig's own pid namespace")?;
    }
    Ok(side)
}

/// The child joins all but the pid namespace, in which it was born. The mount namespace comes last:
/// it changes what every path means.
pub fn join(joined: &[Joined<'_>]) -> Result<()> {
    let kind = |joined: &&Joined<'_>| joined.join.kind;
    let mount = |joined: &&Joined<'_>| kind(joined) == libc::CLONE_NEWNS;
    let pid = |joined: &&Joined<'_>| kind(joined) == libc::CLONE_NEWPID;
    joined.iter().filter(|joined| !mount(joined) && !pid(joined)).try_for_each(Joined::enter)?;
    joined.iter().find(mount).map_or(Ok(()), Joined::enter)
}
