//! The agent of SCMP_ACT_NOTIFY, which decides about system calls, and how it gets the listener of a filter.
//!
//! [`courier`] sends the listener as soon as the filter is in force, the parent passes it to the agent, and
//! only then does the child continue. brig does not connect to the agent earlier: the agent may serve only
//! one connection at a time, and hooks may be what starts it.

pub mod courier;

use crate::launch::protocol::Channel;
use crate::plan::process::Process;
use crate::process::socket::Socket;
use crate::seccomp::Listener;
use crate::spec::Place;
use crate::state::OciState;
use anyhow::Result;
use serde::Serialize;
use std::os::fd::AsFd;

/// The agent of a filter, and the state of the container to send.
pub struct Agent<'a> {
    listener: &'a Listener,
    state: OciState<'a>,
}

/// config-linux.md, The Container Process State.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: &'a OciState<'a>,
}

impl<'a> Agent<'a> {
    /// None if the filter has no SCMP_ACT_NOTIFY.
    pub fn of(process: &'a Process, state: OciState<'a>) -> Option<Agent<'a>> {
        let listener = process.filter.as_ref()?.listener.as_ref()?;
        Some(Agent { listener, state })
    }

    /// Sends the listener, received over the channel, to the agent.
    pub fn deliver(&self, channel: &Channel, pid: i32) -> Result<()> {
        let fd = courier::receive(channel).at("linux.seccomp")?;
        let state = ProcessState {
            oci_version: crate::SPEC_VERSION,
            fds: ["seccompFd"],
            pid,
            metadata: self.listener.metadata.as_deref(),
            state: &self.state,
        };
        let state = serde_json::to_string(&state)?;
        let send = || Socket::connect("agent", &self.listener.path)?.send(fd.as_fd(), &state);
        self.listener.receiver.named(send())
    }
}
