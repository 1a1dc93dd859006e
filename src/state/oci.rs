//! The state of a container as defined in runtime.md, for hooks and seccomp agents; and its status.

use super::{Annotations, State};
use serde::Serialize;
use std::path::Path;

/// runtime.md, State: hooks read it from stdin, a seccomp agent gets it in its message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OciState<'a> {
    /// The version of runtime-spec.
    pub oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// The status as defined in runtime.md.
    pub status: Status,
    /// Init's pid: that on the host in the runtime's namespaces, that in the container in its own. None
    /// without a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The absolute path of the bundle.
    pub bundle: &'a Path,
    /// The config's annotations.
    pub annotations: &'a Annotations,
}

/// A container's status as defined in runtime.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// create has not finished.
    Creating,
    /// It waits for start.
    Created,
    /// The user's program runs.
    Running,
    /// Its processes are frozen, possibly while it waits for start.
    Paused,
    /// Its init has exited.
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
    /// The container's state for hooks, with `pid` as its init's pid.
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
