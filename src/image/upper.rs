//! A container's upper layer, located by the container's record.

use crate::launch::own_bundle::user_namespace;
use crate::plan::idmap;
use crate::plan::mounts::clean;
use crate::plan::overlay::{IDMAP, IMAGE, Layers};
use crate::process::socket::{Socket, receive};
use crate::state::{self, Dir, State};
use anyhow::{Context, Result, anyhow, bail};
use brig_layers::commit::Ids;
use brig_layers::tree::changes::{ForMounts, Upper};
use brig_layers::tree::view::View;
use brig_layers::worker;
use nix::fcntl::{AtFlags, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use sys::cred;
use sys::idmap::IdMap;
use sys::mountinfo::{Mount, mounts};
use sys::path::DIRECTORY;

/// The maximum number of mounts on one place to unmount to reach the upper below them.
const MAX_COVERS: usize = 16;

/// What the caller of brig finds out: in a user namespace of its own, brig could not.
pub struct AsCaller {
    /// The container's id mappings for the files on disk; an error if they are not in its config.
    ids: Result<Ids>,
    /// The upper in memory, if there is one.
    memory: Option<OwnedFd>,
}

impl AsCaller {
    /// Looks at the container.
    pub fn new(state: &State, dir: &Dir) -> Result<AsCaller> {
        let in_memory = state.layers.as_ref().is_some_and(|layers| layers.upper.is_none());
        let memory = match in_memory {
            true => Some(in_memory_of(state).context("its changes are in memory")?),
            false => None,
        };
        Ok(AsCaller { ids: ids(state, dir), memory })
    }

    /// The container's id mappings; an error if they are not known, as those of a user namespace that it has joined.
    pub fn ids(&self) -> Result<&Ids> {
        self.ids.as_ref().map_err(|error| anyhow!("{}", sys::describe(error)))
    }
}

/// Opens the changes of a container, and the layers below.
pub fn open_upper(state: &State, dir: &Dir, as_caller: &AsCaller) -> Result<Upper> {
    let layers = of(state)?;
    worker::raise_open_files()?;
    let mut below = View::default();
    for layer in &layers.lower {
        below.add(layer, BTreeSet::new())?;
    }
    let root = match (&layers.upper, &as_caller.memory) {
        (Some(path), _) => {
            open(path, DIRECTORY, Mode::empty()).with_context(|| path.display().to_string())?
        }
        (None, Some(memory)) => memory.try_clone()?,
        (None, None) => bail!("its changes are in memory"),
    };
    let own_layer =
        state.annotations.for_runtimes()?.contains_key(IMAGE).then(|| layers.lower.len() - 1);
    let for_mounts = ForMounts {
        points: mount_points(dir, &below)?,
        made: state.extra_mounts.made.iter().cloned().collect(),
        owner: as_caller.ids.as_ref().ok().map(Ids::of_root),
    };
    Ok(Upper { root, below, for_mounts, own_layer })
}

/// Opens the merged layers as the container sees them; or the directory of its changes.
pub fn open_merged(state: &State, dir: &Dir, as_caller: &AsCaller) -> Result<Upper> {
    if state.layers.is_none() {
        let what = || state.rootfs.display().to_string();
        worker::raise_open_files()?;
        let root = open(&state.rootfs, DIRECTORY, Mode::empty()).with_context(what)?;
        let mut below = View::default();
        below.add_open(root.try_clone()?);
        return Ok(Upper { root, below, for_mounts: ForMounts::default(), own_layer: None });
    }
    let mut upper = open_upper(state, dir, as_caller)?;
    upper.below.add_open(upper.root.try_clone()?);
    Ok(upper)
}

/// The layers of a container; an error if it has none.
pub fn of(state: &State) -> Result<&Layers> {
    let layers = state.layers.as_ref();
    layers.context(
        "its root filesystem is a single directory, not layers: its changes cannot be determined",
    )
}

/// The container's id mappings for the files on disk: none in the user namespace that brig works in for an
/// unprivileged user, which has the container's ids.
fn ids(state: &State, dir: &Dir) -> Result<Ids> {
    let mapped = state.has_namespace(libc::CLONE_NEWUSER)
        && !state.annotations.for_runtimes()?.contains_key(IDMAP)
        && user_namespace().is_none();
    if !mapped {
        return Ok(Ids::default());
    }
    let config: serde_json::Value = serde_json::from_slice(&dir.read("config.json")?)?;
    let read = |field: &str| -> Result<Vec<IdMap>> {
        let maps: Vec<_> = serde_json::from_value(config["linux"][field].clone())
            .with_context(|| format!("its ids: linux.{field}"))?;
        idmap::read(&maps, &format!("linux.{field}"))
    };
    Ok(Ids { uids: read("uidMappings")?, gids: read("gidMappings")? })
}

/// The mount points of the config, where the links of the layers lead: brig has created them there.
fn mount_points(dir: &Dir, layers: &View) -> Result<BTreeSet<Vec<u8>>> {
    let config: serde_json::Value = serde_json::from_slice(&dir.read("config.json")?)?;
    let mounts = config["mounts"].as_array().into_iter().flatten();
    let points = mounts.filter_map(|mount| mount["destination"].as_str());
    // The mount of the terminal, and the directory for the service manager.
    let more = ["/dev/console", "/run/notify"];
    let place = |path: &str| {
        let place = layers.place(&clean(path.as_bytes()))?;
        Ok(place.unwrap_or_default().join(&b'/'))
    };
    points.chain(more).map(place).collect()
}

/// An upper in memory is mounted only in the container's mount namespace, beneath another mount: a process of
/// brig unmounts that in a copy of the namespace, and opens the upper.
fn in_memory_of(state: &State) -> Result<OwnedFd> {
    let Some(init) = state::open_init(state)? else {
        bail!("they are lost when it ends (keep them with --upper DIR)")
    };
    let mountinfo = format!("/proc/{}/mountinfo", state.pid);
    let mountinfo = fs::read(&mountinfo).context(mountinfo)?;
    let point = parked(&mountinfo).context("it has no mount to be kept below")?;
    let (socket, own) = Socket::pair()?;
    let worker = worker::spawn(None, |_| {
        // Joins the container's user namespace: mounts copied into another one's mount namespace are locked
        // and cannot be unmounted. Processes with capabilities in that namespace must not be able to inspect
        // this one.
        cred::dumpable(false)?;
        let mut namespaces = CloneFlags::CLONE_NEWNS;
        if other_user_namespace(state.pid)? {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        setns(&init, namespaces).context("join its mount namespace: only root may")?;
        cred::dumpable(false)?;
        unshare(CloneFlags::CLONE_NEWNS).context("copy its mount namespace")?;
        // The copied mounts are peers of the container's.
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("make it private")?;
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        // Several mounts may be stacked on it.
        let is_upper = |dir: &OwnedFd| -> Result<bool> {
            let has = |name: &str| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
            Ok(fstatfs(dir)?.filesystem_type() == TMPFS_MAGIC && has("upper") && has("work"))
        };
        let mut found = None;
        for _ in 0..MAX_COVERS {
            umount2(&point, flags).with_context(|| format!("umount {}", point.display()))?;
            let here = open(&point, DIRECTORY, Mode::empty())?;
            if is_upper(&here)? {
                found = Some(here);
                break;
            }
        }
        let parked = found.context("it is covered")?;
        let upper = nix::fcntl::openat(&parked, "upper", DIRECTORY, Mode::empty())?;
        socket.send(upper.as_fd(), "upper")?;
        Ok(Vec::new())
    })?;
    worker.wait(|_| ())?;
    receive(&own)
}

/// Whether a process is in another user namespace than this one.
fn other_user_namespace(pid: i32) -> Result<bool> {
    let namespace = |process: &str| -> Result<_> {
        let path = format!("/proc/{process}/ns/user");
        let meta = fs::metadata(&path).with_context(|| path)?;
        Ok((meta.dev(), meta.ino()))
    };
    Ok(namespace("self")? != namespace(&pid.to_string())?)
}

/// The mount point of the tmpfs with the source "upper".
fn parked(mountinfo: &[u8]) -> Option<PathBuf> {
    let upper = |mount: &Mount<'_>| mount.is_type("tmpfs") && mount.source() == b"upper";
    mounts(mountinfo).find(upper).map(|mount| mount.point())
}
