//! doctor: what this host permits this user, and which requirements of a bundle are not met.
//!
//! Nothing is derived from version numbers: each of [`probes::PROBES`] tries it, in a separate process if it
//! would leave something behind ([`attempt`]). With a bundle, only what its plan needs is tried.

mod attempt;
mod bundle;
mod cgroups;
mod files;
mod namespaces;
mod others;
mod probes;

use crate::plan::{CgroupManager, Host};
use anyhow::Result;
use bundle::Bundle;
use nix::unistd::{getegid, geteuid};
use serde::Serialize;
use std::path::{Path, PathBuf};
use sys::idmap::{IdMap, IdMaps};

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// brig has a fallback, or only some containers need it.
    Warn,
    /// Containers cannot start without it: the bundle's, or those with the config of `brig spec`.
    Fail,
}

/// The finding of one probe.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The probe's name, e.g. `mount-proc`.
    pub check: &'static str,
    /// The result.
    pub status: Status,
    /// What works, or why it does not.
    pub message: String,
    /// A command for root that fixes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// The answer of a probe.
enum Answer {
    /// It works.
    Works(String),
    /// brig has a fallback.
    Worse(Trouble),
    /// Containers that need it cannot start.
    Lacks(Trouble),
}

/// Why something does not work, and how to fix it.
struct Trouble {
    why: String,
    mend: Option<String>,
}

impl Trouble {
    fn new(why: impl Into<String>) -> Trouble {
        Trouble { why: why.into(), mend: None }
    }

    fn mend(why: impl Into<String>, command: impl Into<String>) -> Trouble {
        Trouble { why: why.into(), mend: Some(command.into()) }
    }
}

/// The options of doctor.
#[derive(Debug)]
pub struct Question {
    /// The bundle to check, if any.
    pub bundle: Option<PathBuf>,
    /// The state directory.
    pub root: PathBuf,
    /// The CRIU program.
    pub criu: PathBuf,
    /// The cgroup manager.
    pub manager: CgroupManager,
    /// `--rootless`.
    pub rootless: Option<bool>,
}

/// The user and the bundle.
struct Subject<'a> {
    question: &'a Question,
    /// Whether brig has root privileges, possibly only in a user namespace around it.
    privileged: bool,
    /// Whether it has them on the host.
    root_of_host: bool,
    bundle: Option<Bundle>,
}

impl Subject<'_> {
    /// `CLONE_NEW*` bits of the namespaces that the bundle's container gets.
    fn new_namespaces(&self) -> Option<libc::c_int> {
        self.bundle.as_ref().map(|bundle| bundle.plan.namespaces.new)
    }

    /// The user namespace in which everything else is tried, if the container gets one, and its id maps.
    fn inside(&self) -> (libc::c_int, Option<IdMaps>) {
        let wanted = self.new_namespaces().is_some_and(|new| new & libc::CLONE_NEWUSER != 0);
        if self.privileged && !wanted {
            return (0, None);
        }
        let own = |host| vec![IdMap { container: 0, host, size: 1 }];
        let maps = IdMaps { uids: own(geteuid().as_raw()), gids: own(getegid().as_raw()) };
        (libc::CLONE_NEWUSER, Some(maps))
    }
}

/// Tries everything, or what the bundle needs.
///
/// # Errors
///
/// If a seccomp filter around brig forbids capget(2), or the bundle has no config.json.
pub fn examine(question: &Question) -> Result<Vec<Finding>> {
    let host = Host::default();
    let (privileged, root_of_host) = (host.is_privileged()?, host.is_root()?);
    let mut findings = Vec::new();
    let mut subject = Subject { question, privileged, root_of_host, bundle: None };
    if let Some(path) = &question.bundle {
        let path = std::path::absolute(path)?;
        subject.bundle = bundle::open(&path, question, &host, &mut findings)?;
        if subject.bundle.is_none() {
            findings.push(verdict(&findings));
            return Ok(findings);
        }
    }
    let mut stuck = false;
    for probe in probes::PROBES {
        // Without a user namespace, probes inside it have no result.
        if stuck && probe.is_inside() {
            continue;
        }
        let Some(finding) = probe.finding(&subject) else { continue };
        let needs_user = subject.inside().0 != 0;
        stuck |= finding.check == "user-namespace" && finding.status != Status::Ok && needs_user;
        findings.push(finding);
    }
    if subject.bundle.is_some() {
        findings.push(verdict(&findings));
    }
    Ok(findings)
}

/// Whether the bundle's container would start.
fn verdict(findings: &[Finding]) -> Finding {
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    let (status, message) = match failed {
        true => (Status::Fail, "its container would not start"),
        false => (Status::Ok, "its container would start, as far as this can be tried without it"),
    };
    Finding { check: "bundle", status, message: message.into(), mend: None }
}

/// The name of the calling user, or the uid.
fn user_name() -> String {
    let uid = geteuid().as_raw();
    crate::process::passwd::name_of(uid).unwrap_or_else(|| uid.to_string())
}

/// Quotes a path for a shell command.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
