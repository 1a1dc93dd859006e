//! What brig stores about a container between two invocations: `<root>/<id>/`.
//!
//! * `state.json`: [`State`]; written before anything that must be undone exists, and again, by temp file and
//!   rename, once the container is created.
//! * `config.json`: the config as it was when the container was created.
//! * `seccomp`: the compiled filter, after the first exec (see [`crate::seccomp::kept`]).
//! * `go`, `result`: the start channel (see [`crate::launch::gate`]); `go` exists until `start`.
//!
//! Creating the directory reserves the id. create, start, update and delete exclude each other with a lock on
//! it; state, list and kill never wait for one, because hooks call them. The status is computed by each
//! query, never stored.

mod annotations;
mod busy;
mod dir;
pub mod exit_status;
mod extra_mounts;
mod init;
mod oci;
mod pid_file;
pub mod record;
mod removal;
mod summary;

pub use annotations::Annotations;
pub use busy::HeldByAncestor;
pub use dir::{Dir, Lock};
pub use extra_mounts::{Added, ExtraMounts};
pub use init::{boot, open_init, own_stat, pidfs_inode, start_time};
pub use oci::{OciState, Status};
pub use pid_file::{PidFile, write_pid_file};
pub use record::{ListedContainer, NotBrigs, Record, VERSION, all};
pub use summary::{Listed, Summary};

use crate::cgroup::Cgroup;
use crate::plan::hooks::Hook;
use crate::plan::overlay::Layers;
use crate::plan::sched::Execution;
use crate::rdt::Rdt;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use sys::{IfExists, Missing};

/// The record of a container.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The version of the format: [`record::VERSION`].
    #[serde(default = "first_version")]
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// create has not finished: everything that exists must be removed if create dies.
    pub creating: bool,
    /// Its init's pid on the host; 0 until that is known.
    pub pid: i32,
    /// The start time of that process, in clock ticks after boot (proc_pid_stat(5)): a pid alone may have
    /// been reused.
    pub start_time: u64,
    /// The inode of its pidfd, if that is unique (pidfs, Linux 6.9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfs_inode: Option<u64>,
    /// The boot in which it is unique: `/proc/sys/kernel/random/boot_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root filesystem.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// The uid of the user who created it.
    pub uid: u32,
    /// The bundle is in the layer store, and removed with the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_bundle: bool,
    /// The directories of its root filesystem, if it consists of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// The config's annotations.
    pub annotations: Annotations,
    /// `CLONE_NEW*` bits of the namespaces that may differ from brig's: exec joins them.
    pub namespaces: i32,
    /// Its pid namespace was created for it, so all processes in it die with init.
    #[serde(default)]
    pub own_pids: bool,
    /// It has its own session keyring.
    pub keyring: bool,
    /// Settings that also apply to processes of exec.
    #[serde(default, skip_serializing_if = "Execution::is_empty")]
    pub execution: Execution,
    /// poststart hooks, which run without reading the config.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// poststop hooks, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
    /// The time limit for startContainer hooks in seconds, which start waits for.
    #[serde(default)]
    pub start_seconds: u64,
    /// The last configured limit for memory and swap together: cgroup2 limits them separately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_and_swap: Option<i64>,
    /// What its standard streams and preserved descriptors were at first, for `checkpoint`: the names of
    /// pipes, and empty strings for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdio: Vec<String>,
    /// The wait(2) status of its init, if brig itself has waited for it and keeps the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<i32>,
    /// Its class of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Rdt>,
    /// Mounts added later.
    #[serde(rename = "live", default, skip_serializing_if = "ExtraMounts::is_empty")]
    pub extra_mounts: ExtraMounts,
    /// Its cgroup, and which of its directories brig has created.
    pub cgroup: Cgroup,
}

fn first_version() -> u32 {
    1
}

impl State {
    /// Whether this namespace, a `CLONE_NEW*` bit, may differ from the runtime's.
    pub fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind != 0
    }

    /// All of its processes: those in its cgroup, or without a cgroup, those in its pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        if !self.cgroup.is_none() {
            return self.cgroup.pids();
        }
        if open_init(self)?.is_none() {
            return Ok(Vec::new());
        }
        ensure!(self.own_pids, self.unknown_processes());
        self.in_pid_namespace()
    }

    /// Why [`State::pids`] fails.
    pub fn unknown_processes(&self) -> String {
        let id = &self.id;
        format!(
            "container {id} has neither a cgroup nor a pid namespace: its processes are not known"
        )
    }

    /// All processes in init's pid namespace that brig may inspect.
    pub fn in_pid_namespace(&self) -> Result<Vec<i32>> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        let own = match namespace(&self.pid.to_string()) {
            // Init has exited in the meantime, and before it all processes of its namespace: EACCES if that
            // happened during the call.
            Err(error) if error.is_missing() || open_init(self)?.is_none() => return Ok(Vec::new()),
            own => own.context("its pid namespace")?,
        };
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").context("/proc")? {
            let name = entry?.file_name();
            let Some((name, pid)) = name.to_str().and_then(|name| Some((name, name.parse().ok()?)))
            else {
                continue;
            };
            // It has exited, or brig may not inspect it: not in the namespace.
            if namespace(name).is_ok_and(|namespace| namespace == own) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }
}

/// The error that no container has this id. The message is that of runc: containerd matches on it.
#[derive(Debug)]
pub struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("container does not exist")
    }
}

impl std::error::Error for NotFound {}

/// The error that the id is in use, if it is. The message is that of runc.
pub fn in_use(root: &Path, id: &str) -> Option<anyhow::Error> {
    let path = root.join(id);
    let text = || anyhow!("container with given ID already exists: {id} ({})", path.display());
    path.symlink_metadata().is_ok().then(text)
}

/// Validates a container id, by runc's rule.
///
/// # Errors
///
/// If it is empty, `.` or `..`, or contains characters other than ASCII letters, digits and `_+,-.`.
pub fn check_id(id: &str) -> Result<()> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_+,-.".contains(c);
    ensure!(!id.is_empty(), "container id cannot be empty");
    if !id.chars().all(sound) || id == "." || id == ".." {
        bail!(
            "invalid container id {id:?}: valid are letters, digits, '_', '+', ',', '-' and '.', but not \".\" or \"..\""
        );
    }
    ensure!(id.len() <= 255, "invalid container id: longer than 255 bytes");
    Ok(())
}

/// The names in the state root that can be containers. Symbolic links are omitted: they would lead to
/// directories that are not brig's.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    let entries = std::fs::read_dir(root).if_exists();
    let entries = entries.with_context(|| root.display().to_string())?;
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            ids.extend(entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
        }
    }
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_runcs_rule() {
        for good in ["a", "A_b+c-d.e", ".x", "-x", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
