//! Writes the id maps of a new user namespace. The parent does this, because the child has no privileges
//! outside it.

use super::hints;
use crate::launch::aside::aside;
use crate::launch::spawn::Joined;
use crate::plan::Plan;
use crate::plan::idmap::MountMap;
use crate::process::socket::{self, Socket};
use crate::rootfs::{self, Users};
use crate::spec::Place;
use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use sys::cred;
use sys::idmap::{IdMap, IdMaps, NotWritten, from_text};

/// Writes the maps of `pid`'s user namespace; `place` is their place in config.json.
///
/// # Errors
///
/// If the kernel or newuidmap(1) refuses the maps; the error explains the likely reason.
pub fn write(pid: i32, maps: &IdMaps, place: &str) -> Result<()> {
    let written = sys::idmap::write(pid, maps, hints::refused_ids);
    written.or_else(|NotWritten { field, error }| Err(error).at(format!("{place}.{field}")))
}

/// The user namespaces for id-mapped layers and mounts of the plan.
pub fn of_plan(plan: &Plan, joined: &[Joined]) -> Result<Users> {
    let layers = match &plan.rootfs.overlay {
        Some(overlay) if overlay.id_mapped => {
            match joined.iter().find(|joined| joined.kind() == libc::CLONE_NEWUSER) {
                Some(joined) => Some(joined.file()?.into()),
                None => Some(make_namespace(&plan.id_maps, "linux")?),
            }
        }
        _ => None,
    };
    let makes_devices = plan.only_parent_is_root()
        && plan.rights.root_of_host
        && rootfs::host_lacks_any(&plan.rootfs);
    let devices = makes_devices.then(|| of_container(plan, joined)).transpose()?;
    Ok(Users { mounts: of_mounts(plan, joined)?, layers, devices })
}

/// Checks that id maps given for a joined user namespace are those that it has, as in runc: engines repeat
/// them.
///
/// # Errors
///
/// If they differ.
pub fn check_joined(plan: &Plan, joined: &[Joined]) -> Result<()> {
    let given = &plan.id_maps;
    let joins_user = joined.iter().any(|joined| joined.kind() == libc::CLONE_NEWUSER);
    if !joins_user || *given == IdMaps::default() {
        return Ok(());
    }
    let own = of_container(plan, joined)?;
    let sorted = |maps: &[IdMap]| {
        let mut maps = maps.to_vec();
        maps.sort_by_key(|map| map.container);
        maps
    };
    for (field, given, own) in
        [("uidMappings", &given.uids, &own.uids), ("gidMappings", &given.gids, &own.gids)]
    {
        let same = given.is_empty() || sorted(given) == sorted(own);
        if !same {
            Err(anyhow!("differs from the map of the user namespace that is joined"))
                .at(format!("linux.{field}"))?;
        }
    }
    Ok(())
}

/// The id maps of the container's user namespace. Those of a joined one are read through a process in it.
fn of_container(plan: &Plan, joined: &[Joined]) -> Result<IdMaps> {
    let Some(user) = joined.iter().find(|joined| joined.kind() == libc::CLONE_NEWUSER) else {
        return Ok(plan.id_maps.clone());
    };
    let user = user.file()?;
    let act = || -> Result<()> {
        // No process in that namespace may inspect this one.
        cred::dumpable(false)?;
        setns(&user, CloneFlags::CLONE_NEWUSER).context("setns to the user namespace")?;
        Ok(cred::dumpable(false)?)
    };
    aside(0, "the process that shows the id maps of a user namespace", act, |pid| {
        Ok(IdMaps { uids: read_map(pid, "uid_map")?, gids: read_map(pid, "gid_map")? })
    })
}

/// One of the id maps of a process, as brig sees it.
pub fn read_map(pid: i32, name: &str) -> Result<Vec<IdMap>> {
    let path = format!("/proc/{pid}/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    from_text(&text).with_context(|| path)
}

fn of_mounts(plan: &Plan, joined: &[Joined]) -> Result<Vec<Option<OwnedFd>>> {
    let mut users: Vec<Option<OwnedFd>> = Vec::new();
    let mut made: Vec<(&IdMaps, usize)> = Vec::new();
    let container = joined.iter().find(|joined| joined.kind() == libc::CLONE_NEWUSER);
    for mount in &plan.rootfs.mounts {
        let user = match (mount.id_map.as_ref(), container) {
            (None, _) => None,
            (Some(MountMap { maps: None, .. }), Some(joined)) => Some(joined.file()?.into()),
            (Some(map), _) => {
                let own = map.maps.as_ref().map(|maps| (maps, mount.place()));
                let (maps, place) = own.unwrap_or_else(|| (&plan.id_maps, "linux".into()));
                let same = made.iter().find(|(other, _)| *other == maps).map(|(_, index)| *index);
                made.push((maps, users.len()));
                match same.and_then(|index: usize| users[index].as_ref()) {
                    Some(file) => Some(file.try_clone()?),
                    None => Some(make_namespace(maps, &place)?),
                }
            }
        };
        users.push(user);
    }
    Ok(users)
}

/// Creates a user namespace with these maps and no process in it: it exists as long as its descriptor. The
/// process that creates it sends the descriptor itself: if brig is root the process is undumpable, and
/// opening its files in /proc would need CAP_SYS_PTRACE, which brig may not have.
pub fn make_namespace(maps: &IdMaps, place: &str) -> Result<OwnedFd> {
    let (socket, own) = Socket::pair()?;
    let act = move || {
        let path = "/proc/self/ns/user";
        socket.send(File::open(path).context(path)?.as_fd(), "user")
    };
    aside(libc::CLONE_NEWUSER, "the process that makes a user namespace", act, |pid| {
        write(pid, maps, place)?;
        socket::receive(&own).context("the new user namespace")
    })
}
