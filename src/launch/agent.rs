//! Who decides about system calls: SCMP_ACT_NOTIFY's agent, and how a filter's listener gets to it.
//!
//! The child says the listener's number as soon as its filter is in force ([`super::sync`]), the
//! parent takes the descriptor and hands it over, and only then does the child go on. The agent is
//! connected to no earlier: it may serve one connection after the other, and hooks may start it.

use crate::hooks::Stdin;
use crate::plan::process::Process;
use crate::process::socket::Socket;
use crate::seccomp::Listener;
use crate::spec::Place;
use crate::sys::{Errno, SysError, signal};
use anyhow::{Context, Result};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd};

/// The agent of a filter, and the container that it decides for.
pub struct Agent<'a> {
    listener: &'a Listener,
    state: Stdin<'a>,
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
    state: &'a Stdin<'a>,
}

impl<'a> Agent<'a> {
    /// None, if the process's filter notifies nobody.
    pub fn of(process: &'a Process, state: Stdin<'a>) -> Option<Agent<'a>> {
        let listener = process.filter.as_ref()?.listener.as_ref()?;
        Some(Agent { listener, state })
    }

    /// Takes the listener, which is descriptor `number` of the process, and gives it to the agent.
    pub fn deliver(&self, process: BorrowedFd<'_>, pid: i32, number: i32) -> Result<()> {
        let fd = signal::pidfd_getfd(process, number).map_err(explained);
        let fd = fd.context("take the listener of the container's process").at("linux.seccomp")?;
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

/// What the kernel means by its errno.
fn explained(error: SysError) -> anyhow::Error {
    let refused = error.errno == Errno::EPERM;
    let error = anyhow::Error::from(error);
    match refused {
        true => error.context("only who may trace the process, as root may, can take it"),
        false => error,
    }
}
