//! Who decides about system calls: SCMP_ACT_NOTIFY's agent, and how a filter's listener gets to it.
//!
//! It comes by [`courier`] as soon as the filter is in force, the parent hands it over, and only then does
//! the child go on. The agent is connected to no earlier: it may serve one connection after the other, and hooks
//! may start it.

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

/// The agent of a filter, and the container that it decides for.
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
    /// None, if the process's filter notifies nobody.
    pub fn of(process: &'a Process, state: OciState<'a>) -> Option<Agent<'a>> {
        let listener = process.filter.as_ref()?.listener.as_ref()?;
        Some(Agent { listener, state })
    }

    /// Gives the agent the listener of the process, which has come by the channel.
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
        send().at("linux.seccomp.listenerPath")
    }
}
