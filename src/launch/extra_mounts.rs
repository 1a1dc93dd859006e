//! mounts add and remove: a process of brig enters the mount namespace of an existing container, and another
//! one stays outside and keeps the container's state.

use super::execute::write_oom_score;
use super::prepare::id_maps;
use super::protocol::{self, Channel, Message};
use crate::cgroup::{Entry, explain_clone_error};
use crate::deadline;
use crate::plan::idmap::MountMap;
use crate::plan::mounts::{Kind, Mount};
use crate::process::ids;
use crate::process::proc::Proc;
use crate::process::socket::{self, Socket};
use crate::rootfs::{self, extra_mounts::Opened};
use crate::spec::Place;
use crate::state::{self, Dir, State};
use crate::systemd::Unit;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;
use sys::clone::{Side, clone3, exit};
use sys::mount::{Identity, identity};
use sys::{cred, describe, signal};

/// The user namespaces for id-mapped mounts, created before any namespace is joined.
pub fn users(mounts: &[Mount], state: &State) -> Result<Vec<Option<OwnedFd>>> {
    let user = |map: &MountMap| -> Result<OwnedFd> {
        match &map.maps {
            Some(maps) => id_maps::make_namespace(maps, &map.place),
            None if state.has_namespace(libc::CLONE_NEWUSER) => {
                let path = format!("/proc/{}/ns/user", state.pid);
                Ok(File::open(&path).context(path)?.into())
            }
            None => bail!("needs uidMappings and gidMappings, of the mount or of a user namespace"),
        }
    };
    let user = |mount: &Mount| match &mount.id_map {
        Some(map) => user(map).map(Some).at(&map.place),
        None => Ok(None),
    };
    mounts.iter().map(user).collect()
}

/// Adds mounts to the container: all or none. They are recorded in the saved state before they become
/// visible, so that they can be removed even if brig is killed.
pub fn add(
    dir: &Dir,
    state: &mut State,
    mounts: &[Mount],
    opened: &Opened,
    render: &dyn Fn(anyhow::Error) -> String,
) -> Result<()> {
    let copies = mounts.iter().any(|mount| {
        let Kind::Filesystem(fs) = &mount.kind else { return false };
        fs.copy_up.is_some()
    });
    let cgroup = if copies { CgroupEntry::into_cgroup(state)? } else { CgroupEntry::default() };
    let (socket, own) = Socket::pair()?;
    let worker = Worker::spawn(state, cgroup, render, |channel, root| {
        rootfs::extra_mounts::add(root, mounts, opened, &|mount, target, above| {
            socket.send(mount, "mount")?;
            socket.send(target, "target")?;
            socket.send(above, "above")?;
            channel.send(&Message::Mounted)?;
            ensure!(channel.expect(&Message::Saved), "brig has exited");
            Ok(())
        })
    })?;
    drop(socket);
    let mut added = Vec::new();
    let done = serve(&worker, &own, dir, state, mounts, &mut added);
    if let Err(error) = done {
        worker.end();
        undo(dir, state, added, render).with_context(|| format!("{error:#}; and undo"))?;
        return Err(error);
    }
    worker.wait()
}

/// Records each mount that the worker is about to attach.
fn serve(
    worker: &Worker,
    socket: &OwnedFd,
    dir: &Dir,
    state: &mut State,
    mounts: &[Mount],
    added: &mut Vec<OwnedFd>,
) -> Result<()> {
    let root = root_of(state)?;
    loop {
        if worker.recv()? == Message::Ready {
            return Ok(());
        }
        let (mount, target) = (socket::receive(socket)?, socket::receive(socket)?);
        let above = socket::receive(socket)?;
        let identity = identity(mount.as_fd())?.context("not the root of a mount")?;
        let path = |fd: &OwnedFd| rootfs::extra_mounts::path_below(root.as_fd(), fd.as_fd());
        let (point, above) = (path(&target)?, path(&above)?);
        let destination =
            mounts.get(added.len()).context("internal error: more mounts than planned")?;
        let destination = destination.target.to_string_lossy();
        state.extra_mounts.add(&destination, identity, &point, &above);
        added.push(mount);
        dir.save(state)?;
        worker.channel.send(&Message::Saved)?;
    }
}

/// Removes the mounts that a failed or killed worker has attached.
fn undo(
    dir: &Dir,
    state: &mut State,
    added: Vec<OwnedFd>,
    render: &dyn Fn(anyhow::Error) -> String,
) -> Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let worker = Worker::spawn(state, CgroupEntry::default(), render, |_, _| {
        rootfs::extra_mounts::take_away(&added);
        Ok(())
    })?;
    worker.recv()?;
    worker.wait()?;
    for mount in added {
        identity(mount.as_fd())?.iter().for_each(|mount| state.extra_mounts.forget(mount));
    }
    dir.save(state)
}

/// Removes mounts that [`add`] has made at these destinations, the last one first. Mounts made by the
/// container are not touched.
pub fn remove(dir: &Dir, state: &mut State, destinations: &[CString]) -> Result<()> {
    let mut left = state.extra_mounts.mounts.clone();
    let mut chosen = Vec::with_capacity(destinations.len());
    for (index, destination) in destinations.iter().enumerate().rev() {
        let name = destination.to_string_lossy();
        let place = format!("mounts[{index}].destination");
        let found = left.iter().rposition(|added| added.destination == name);
        let found = found.with_context(|| format!("{name}: not a mount made by `brig mounts add`"));
        chosen.push((left.remove(found.at(&place)?), place));
    }
    for (added, place) in chosen {
        let mut remove = || -> Result<()> {
            let removed = remove_one(state, &added.mount)?;
            state.extra_mounts.forget(&added.mount);
            dir.save(state)?;
            ensure!(removed, "no longer mounted: the container has unmounted it");
            Ok(())
        };
        remove().with_context(|| added.destination.clone()).at(place)?;
    }
    Ok(())
}

/// Returns false if it is not mounted any more.
fn remove_one(state: &State, mount: &Identity) -> Result<bool> {
    let mountinfo = PathBuf::from(format!("/proc/{}/mountinfo", state.pid));
    let worker = Worker::spawn(
        state,
        CgroupEntry::default(),
        &|error| describe(&error),
        |channel, root| {
            if rootfs::extra_mounts::remove(&root, &mountinfo, mount)? {
                channel.send(&Message::Mounted)?;
            }
            Ok(())
        },
    )?;
    let removed = worker.recv()? == Message::Mounted;
    worker.wait().map(|()| removed)
}

/// How the worker enters the container's cgroups, if necessary.
#[derive(Default)]
struct CgroupEntry {
    entry: Entry,
    /// systemd moves it there.
    unit: Option<Unit>,
    charged: bool,
}

impl CgroupEntry {
    /// Data copied into a tmpfs belongs to the container, so its memory is charged to it.
    fn into_cgroup(state: &State) -> Result<CgroupEntry> {
        if let Some(path) = state.cgroup.frozen()? {
            bail!("cannot copy into a tmpfs of a paused container ({})", path.display());
        }
        if state.cgroup.only_systemd_moves_in()? {
            let unit = state.cgroup.unit().context("the container has no systemd unit")?.clone();
            return Ok(CgroupEntry { entry: Entry::default(), unit: Some(unit), charged: true });
        }
        let entry = state.cgroup.entry_beside(state.pid)?;
        Ok(CgroupEntry { entry, unit: None, charged: true })
    }
}

/// A process in the container's mount namespace that performs one operation there.
struct Worker {
    channel: Channel,
    process: OwnedFd,
    /// It is in the container's cgroups.
    charged: bool,
}

impl Worker {
    fn spawn(
        state: &State,
        cgroup: CgroupEntry,
        render: &dyn Fn(anyhow::Error) -> String,
        work: impl FnOnce(&Channel, OwnedFd) -> Result<()>,
    ) -> Result<Worker> {
        let (channel, its) = protocol::pair()?;
        let into = cgroup.entry.into.as_ref().map(AsFd::as_fd);
        let (pid, process) = match clone3(0, into).map_err(explain_clone_error)? {
            Side::Parent(pid, process) => (pid, process),
            Side::Child(birth) => {
                drop(channel);
                let live = || -> Result<()> {
                    cred::parent_death_signal(libc::SIGKILL)?;
                    match cgroup.unit {
                        Some(_) => ensure!(its.expect(&Message::Placed), "brig has exited"),
                        None => cgroup.entry.enter(birth)?,
                    }
                    if cgroup.charged {
                        // If memory is short, the OOM killer should choose this process and none of the
                        // container's.
                        write_oom_score(&Proc::open()?, "self", 1000)?;
                    }
                    work(&its, enter(state)?)
                };
                let said =
                    live().map_or_else(|error| Message::Failed(render(error)), |()| Message::Ready);
                // If this fails, there is nobody to report to.
                let told = its.send(&said);
                exit(i32::from(told.is_err()))
            }
        };
        drop(its);
        let worker = Worker { channel, process, charged: cgroup.charged };
        if let Some(unit) = cgroup.unit {
            let placed = unit.attach(u32::try_from(pid)?);
            placed
                .and_then(|()| Ok(worker.channel.send(&Message::Placed)?))
                .inspect_err(|_| worker.end())?;
        }
        Ok(worker)
    }

    /// Its next message, unless it reports a failure.
    fn recv(&self) -> Result<Message> {
        let end = Instant::now() + deadline::SETUP;
        self.channel.wait_for(end, "the process that mounts in the container")?;
        match self.channel.receive()? {
            Some(Message::Failed(text)) => bail!(text),
            Some(said) => Ok(said),
            None if self.charged => bail!(
                "the process that mounts in the container was killed: the container's memory \
                 limit does not suffice for what is copied into its tmpfs"
            ),
            None => bail!("the process that mounts in the container was killed"),
        }
    }

    /// Waits until it has exited.
    fn wait(&self) -> Result<()> {
        super::peer::reap(&self.process).map(drop)
    }

    /// Kills it if it has not exited.
    fn end(&self) {
        // If it is dead already, that is fine.
        let _ = signal::pidfd_send_signal(self.process.as_fd(), libc::SIGKILL);
        let _ = self.wait();
    }
}

fn root_of(state: &State) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let path = format!("/proc/{}/root", state.pid);
    open(path.as_str(), flags, Mode::empty()).context(path)
}

/// The first id of the user namespace, read from its map in the host's /proc.
fn first_id(kind: &str) -> Result<u32> {
    let path = format!("/proc/self/{kind}_map");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first.with_context(|| format!("{path}: the user namespace maps no id"))
}

/// Joins the container's mount namespace, and its user namespace as root, but keeps the host's root directory
/// and its /proc. Returns the container's root; names in the container are looked up below it only.
fn enter(state: &State) -> Result<OwnedFd> {
    ensure!(
        state.has_namespace(libc::CLONE_NEWNS),
        "the container has no mount namespace of its own"
    );
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let hosts = open("/", flags, Mode::empty()).context("open /")?;
    let root = root_of(state)?;
    // Opened first and checked afterwards, so that the descriptor certainly refers to init.
    let init = state::open_init(state)?.context("container not running")?;
    // Processes in the container could look into this one if it were dumpable (CVE-2016-9962).
    cred::dumpable(false)?;
    let kinds = state.namespaces & (libc::CLONE_NEWNS | libc::CLONE_NEWUSER);
    setns(&init, CloneFlags::from_bits_retain(kinds))
        .with_context(|| format!("join the container's namespaces ({kinds:#x})"))?;
    nix::unistd::fchdir(&hosts).and_then(|()| nix::unistd::chroot(".")).context("chroot")?;
    if kinds & libc::CLONE_NEWUSER != 0 {
        ids::become_first(first_id("uid")?, first_id("gid")?)?;
        // A change of ids clears it.
        cred::parent_death_signal(libc::SIGKILL)?;
    }
    // Both may have reset it to fs.suid_dumpable.
    cred::dumpable(false)?;
    Ok(root)
}
