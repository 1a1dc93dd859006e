//! Writes the id maps of a new user namespace: the parent's work, for the child has no rights
//! outside it.

use crate::plan::idmap::{IdMap, IdMaps, to_text};
use crate::spec::Place;
use crate::sys::cred;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

/// How the maps can be written with the rights that brig has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By itself, whatever they are.
    Root,
    /// By itself, for they are one id each, brig's own. The kernel then wants setgroups denied:
    /// who cannot drop groups outside must not do so inside (CVE-2014-8989).
    OwnId,
    /// By newuidmap(1) and newgidmap(1).
    Helpers,
}

impl Way {
    /// The way for these maps.
    fn of(maps: &IdMaps) -> Result<Way> {
        // linux/capability.h: CAP_SETGID is 6, CAP_SETUID is 7.
        const SET_IDS: u64 = 1 << 6 | 1 << 7;
        if cred::capget()?.effective & SET_IDS == SET_IDS {
            return Ok(Way::Root);
        }
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let only = |maps: &[IdMap], id| matches!(maps, [one] if one.size == 1 && one.host == id);
        Ok(if only(&maps.uids, uid) && only(&maps.gids, gid) { Way::OwnId } else { Way::Helpers })
    }
}

/// Gives the user namespace of `pid` its maps.
pub fn write(pid: i32, maps: &IdMaps) -> Result<()> {
    let way = Way::of(maps)?;
    if way == Way::OwnId {
        write_file(pid, "setgroups", "deny")?;
    }
    let write = |program, file, maps| match way {
        Way::Helpers => run_helper(program, pid, maps),
        Way::Root | Way::OwnId => write_file(pid, file, &to_text(maps)),
    };
    write("newgidmap", "gid_map", &maps.gids).at("linux.gidMappings")?;
    write("newuidmap", "uid_map", &maps.uids).at("linux.uidMappings")
}

fn write_file(pid: i32, name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{name}");
    // One write: the kernel takes no second one.
    let write = || File::options().write(true).open(&path)?.write_all(text.as_bytes());
    write().with_context(|| format!("write {:?} to {path}", text.trim_end()))
}

/// newuidmap(1): setuid root, it allows what /etc/subuid grants.
fn run_helper(program: &str, pid: i32, maps: &[IdMap]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string()).stdin(Stdio::null());
    for map in maps {
        command.args([map.container, map.host, map.size].map(|number| number.to_string()));
    }
    let output = command.output().with_context(|| {
        format!("run {program}: without root's rights it is needed for more than your own id (Debian: package uidmap)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let file = if program == "newuidmap" { "/etc/subuid" } else { "/etc/subgid" };
    bail!("{program} failed ({}): {}; does {file} grant you these ids?", output.status, said.trim())
}
