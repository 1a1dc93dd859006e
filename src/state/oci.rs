//! The state of a container as runtime.md has it: what hooks and agents are given, and its status.

use super::{Annotations, State};
use serde::Serialize;
use std::path::Path;

/// runtime.md, State: hooks read it from their stdin, a seccomp agent gets it in its message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    /// Of runtime-spec.
    pub oci_version: &'a str,
    /// The container's.
    pub id: &'a str,
    /// One of runtime.md's.
    pub status: Status,
    /// Init's: the host's number in the runtime's namespaces, the container's in its own. None when
    /// there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Absolute path.
    pub bundle: &'a Path,
    /// The config's.
    pub annotations: &'a Annotations,
}

/// A container's status as runtime.md has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// create has not finished.
    Creating,
    /// Waiting for start.
    Created,
    /// The user's program runs.
    Running,
    /// Its processes are frozen, also those of a container that waits for start.
    Paused,
    /// There is no such process any more.
    Stopped,
    /// Its record cannot be read.
    Unknown,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
            Status::Unknown => "unknown",
        })
    }
}

impl State {
    /// The container's as a hook gets to read it, where its init has the number `pid`.
    pub fn for_hooks(&self, status: Status, pid: i32) -> OciState<'_> {
        OciState {
            oci_version: crate::SPEC_VERSION,
            id: &self.id,
            status,
            pid: (pid != 0).then_some(pid),
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }
}
