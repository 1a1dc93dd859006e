//! Id maps: the host's user and group ids of a user namespace, their numbers in it, and how to set them
//! (user_namespaces(7)).

use super::cred;
use anyhow::{Context, Result, bail};
use nix::unistd::{getegid, geteuid};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// The maps of a user namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids.
    pub uids: Vec<IdMap>,
    /// Group ids.
    pub gids: Vec<IdMap>,
}

/// One range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// The first id in the container.
    pub container: u32,
    /// The first id on the host.
    pub host: u32,
    /// The number of ids.
    pub size: u32,
}

/// The host's id for an id of the container.
pub fn host_id(maps: &[IdMap], id: u32) -> Option<u32> {
    let offset = |map: &IdMap| id.checked_sub(map.container).filter(|offset| *offset < map.size);
    maps.iter().find_map(|map| offset(map).map(|offset| map.host + offset))
}

/// The text for /proc/PID/uid_map.
pub fn to_text(maps: &[IdMap]) -> String {
    let line = |map: &IdMap| format!("{} {} {}\n", map.container, map.host, map.size);
    maps.iter().map(line).collect()
}

/// Parses the text of /proc/PID/uid_map.
pub fn from_text(text: &str) -> Option<Vec<IdMap>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        let mut number = || numbers.next().flatten();
        Some(IdMap { container: number()?, host: number()?, size: number()? })
    };
    text.lines().map(line).collect()
}

/// Explains why newuidmap(1) or newgidmap(1), as named by the first argument, refuses these maps to a caller
/// with this id.
pub type Explain = fn(&str, &[IdMap], u32) -> String;

/// The maps of a new user namespace, and how to explain that its creator may not use them.
#[derive(Debug, Clone)]
pub struct UserNamespace {
    /// The maps.
    pub maps: IdMaps,
    /// Called with the name of the helper that refuses them.
    pub explain: Explain,
}

/// A map that could not be written.
#[derive(Debug)]
pub struct NotWritten {
    /// The name in config.json: `uidMappings` or `gidMappings`.
    pub field: &'static str,
    /// The reason.
    pub error: anyhow::Error,
}

/// How the maps can be written with brig's privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// By brig itself, without restrictions.
    Root,
    /// By brig itself, because each contains a single id, brig's own. The kernel then requires setgroups to
    /// be denied: a process that cannot drop groups outside must not do so inside (CVE-2014-8989).
    OwnId,
    /// By newuidmap(1) and newgidmap(1).
    Helpers,
}

impl Method {
    /// Chooses the method for these maps.
    fn of(maps: &IdMaps) -> Result<Method> {
        // linux/capability.h: CAP_SETGID is 6, CAP_SETUID is 7.
        const SET_IDS: u64 = 1 << 6 | 1 << 7;
        if cred::capget()?.effective & SET_IDS == SET_IDS {
            return Ok(Method::Root);
        }
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let only = |maps: &[IdMap], id| matches!(maps, [one] if one.size == 1 && one.host == id);
        let own = only(&maps.uids, uid) && only(&maps.gids, gid);
        Ok(if own { Method::OwnId } else { Method::Helpers })
    }
}

/// Writes the maps of `pid`'s user namespace. Done by the parent, because processes in the namespace have no
/// privileges outside.
///
/// # Errors
///
/// If the kernel, or a helper, refuses them; in the second case `explain` gives the reason.
pub fn write(pid: i32, maps: &IdMaps, explain: Explain) -> Result<(), NotWritten> {
    let in_gids = |error| NotWritten { field: "gidMappings", error };
    let in_uids = |error| NotWritten { field: "uidMappings", error };
    let method = Method::of(maps).map_err(in_gids)?;
    if method == Method::OwnId {
        write_file(pid, "setgroups", "deny").map_err(in_gids)?;
    }
    let write = |program, file, maps, own| match method {
        Method::Helpers => run_helper(program, pid, maps, own, explain),
        Method::Root | Method::OwnId => write_file(pid, file, &to_text(maps)),
    };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    write("newgidmap", "gid_map", &maps.gids, gid).map_err(in_gids)?;
    write("newuidmap", "uid_map", &maps.uids, uid).map_err(in_uids)
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    // A single write: the kernel accepts no second one.
    let write = || File::options().write(true).open(&path)?.write_all(text.as_bytes());
    write().with_context(|| format!("write {:?} to {path}", text.trim_end()))
}

/// newuidmap(1): setuid root, it permits the ids in /etc/subuid.
fn run_helper(program: &str, pid: i32, maps: &[IdMap], own: u32, explain: Explain) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for map in maps {
        command.args([map.container, map.host, map.size].map(|number| number.to_string()));
    }
    let output = command.output().with_context(|| {
        format!("run {program}: needed to map more than your own id without root privileges (Debian: package uidmap)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let why = explain(program, maps, own);
    bail!("{why} ({program}, {}: {})", output.status, said.trim().replace('\n', " "))
}
