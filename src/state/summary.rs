//! What `state` and `list` show about a container: a small part of its record. The rest is not parsed,
//! because a host can have a thousand containers.

use super::exit_status::{self, Ended};
use super::init::Init;
use super::{Annotations, Dir, ListedContainer, Status, VERSION, dir, ids, record};
use crate::cgroup::Freezer;
use anyhow::{Context, Result};
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use sys::IfExists;

/// runtime.md's state, and the fields that runc adds, in the order in which they are printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    oci_version: &'static str,
    /// The container's id.
    pub id: String,
    /// Its init's pid on the host; 0 if it has exited.
    pub pid: i32,
    /// Its current status.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    #[serde(skip_serializing_if = "Annotations::is_empty", serialize_with = "Annotations::print")]
    annotations: Annotations,
    /// The name of the user who created it, if the caller has looked it up.
    pub owner: String,
    /// If it is stopped and known: the exit code, or 128 + the signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Why it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<&'static str>,
    /// The uid of the user who created it.
    #[serde(skip)]
    pub uid: u32,
}

/// The required part of a record. Records with escapes in these fields or of another version are left to
/// [`Record`](super::record::Record).
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(default = "super::first_version")]
    version: u32,
    id: &'a str,
    creating: bool,
    pid: i32,
    start_time: u64,
    pidfs_inode: Option<u64>,
    boot: Option<&'a str>,
    bundle: &'a str,
    rootfs: &'a str,
    created: &'a str,
    uid: u32,
    annotations: Annotations,
    #[serde(borrow)]
    cgroup: Freezer<'a>,
}

/// The shown part of an entry of a state root.
#[derive(Debug)]
pub struct Listed {
    /// The known part.
    pub summary: Summary,
    /// Why it is incomplete, if it is.
    pub trouble: Option<anyhow::Error>,
}

impl Fields<'_> {
    /// None: the complete record must be parsed instead.
    fn parse<'a>(id: &str, bytes: &'a [u8]) -> Option<Fields<'a>> {
        let fields: Fields<'a> = serde_json::from_slice(bytes).ok()?;
        (fields.version == VERSION && fields.id == id && !fields.creating).then_some(fields)
    }

    /// Adds the current status; `go`, relative to `at`, is the path of its start fifo.
    fn look(self, at: BorrowedFd<'_>, go: &str) -> Result<Summary> {
        let Fields { pid, start_time, pidfs_inode, .. } = self;
        let init = Init { pid, start_time, pidfs_inode, boot: self.boot };
        let status = status(&init, || self.cgroup.paused(), at, go)?;
        Ok(Summary {
            oci_version: crate::SPEC_VERSION,
            id: self.id.to_owned(),
            pid: if status == Status::Stopped { 0 } else { pid },
            status,
            bundle: self.bundle.into(),
            rootfs: self.rootfs.into(),
            created: self.created.to_owned(),
            annotations: self.annotations,
            owner: String::new(),
            exit_status: None,
            exit_reason: None,
            uid: self.uid,
        })
    }
}

/// The status of a container whose create has finished.
pub(super) fn status(
    init: &Init<'_>,
    paused: impl FnOnce() -> Result<bool>,
    at: BorrowedFd<'_>,
    go: &str,
) -> Result<Status> {
    if init.open()?.is_none() {
        return Ok(Status::Stopped);
    }
    if paused()? {
        return Ok(Status::Paused);
    }
    let waits = fstatat(at, go, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
    Ok(if waits { Status::Created } else { Status::Running })
}

impl From<ListedContainer> for Listed {
    fn from(found: ListedContainer) -> Listed {
        let ListedContainer { state, status, trouble } = found;
        let gone = [Status::Stopped, Status::Unknown].contains(&status);
        let summary = Summary {
            oci_version: crate::SPEC_VERSION,
            id: state.id,
            pid: if gone { 0 } else { state.pid },
            status,
            bundle: state.bundle,
            rootfs: state.rootfs,
            created: state.created,
            annotations: state.annotations,
            owner: String::new(),
            exit_status: None,
            exit_reason: None,
            uid: state.uid,
        };
        Listed { summary, trouble }
    }
}

impl Summary {
    /// The summary of one container.
    ///
    /// # Errors
    ///
    /// If it does not exist, or its record cannot be read.
    pub fn of(root: &Path, id: &str) -> Result<Summary> {
        let dir = Dir::open(root, id)?;
        let bytes = dir.read("state.json");
        if let Some(fields) = bytes.ok().as_deref().and_then(|bytes| Fields::parse(id, bytes)) {
            return fields.look(dir.fd(), "go");
        }
        let (state, status) = dir.look()?;
        Ok(Listed::from(ListedContainer { state, status, trouble: None }).summary)
    }

    /// Adds how it has ended, if it has and that is known.
    ///
    /// # Errors
    ///
    /// If its record cannot be read.
    pub fn add_end(&mut self, root: &Path) -> Result<()> {
        if self.status != Status::Stopped {
            return Ok(());
        }
        let state = Dir::open(root, &self.id)?.existing()?;
        let ended = Ended::new(&state, exit_status::known(&state));
        self.exit_reason = ended.exit_status.map(|_| ended.reason);
        self.exit_status = ended.exit_status;
        Ok(())
    }

    /// The summaries of all containers, by name. Omits entries without a record, and those that disappear
    /// during the call.
    ///
    /// # Errors
    ///
    /// If the state root cannot be read.
    pub fn all(root: &Path) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        let opened = File::open(root).if_exists();
        let Some(at) = opened.with_context(|| root.display().to_string())? else {
            return Ok(found);
        };
        for id in ids(root)? {
            let plain = dir::read(at.as_fd(), &format!("{id}/state.json")).ok();
            let fields = plain.as_deref().and_then(|bytes| Fields::parse(&id, bytes));
            // All problems are reported by the code that parses the complete record.
            match fields.and_then(|fields| fields.look(at.as_fd(), &format!("{id}/go")).ok()) {
                Some(summary) => found.push(Listed { summary, trouble: None }),
                None => found.extend(record::listed(root, &id).map(Listed::from)),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;

    #[test]
    fn the_shown_part_is_read_of_what_brig_and_brig_0_1_have_written() {
        let old = include_str!("../../fixtures/states/0.1/full.json");
        let state: State = serde_json::from_str(old).unwrap();
        let new = serde_json::to_string(&state).unwrap();
        assert!(new.len() < old.len() && new.contains(r#"["freezer","#), "{new}");
        for text in [old, &new] {
            let fields = Fields::parse("old", text.as_bytes()).unwrap();
            assert_eq!((fields.pid, fields.rootfs), (4242, "/bundles/old/rootfs"));
            assert!(format!("{:?}", fields.cgroup).contains("/sys/fs/cgroup/freezer/old"));
        }
    }
}
