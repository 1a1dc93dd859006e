//! doctor: what this host lets this user do, and what a bundle lacks of it.
//!
//! Nothing is guessed from version numbers: each of [`probes::PROBES`] tries it, in a process of its own where it would
//! leave something behind ([`attempt`]). With a bundle the plan tells what is needed, and only that is tried.

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

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    Ok,
    /// brig does without, or only some containers need it.
    Warn,
    /// Containers do not start without it: the bundle's, or those of the config that `brig spec` writes.
    Fail,
}

/// What one probe has found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The probe's name, e.g. `mount-proc`.
    pub check: &'static str,
    /// How it is.
    pub status: Status,
    /// What works, or why it does not.
    pub message: String,
    /// A command that mends it, as root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What a probe answers.
enum Answer {
    /// It works.
    Works(String),
    /// brig does without.
    Worse(Trouble),
    /// Who needs it cannot do without.
    Lacks(Trouble),
}

/// Why something does not work, and how to mend it.
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

/// What the command line says.
#[derive(Debug)]
pub struct Question {
    /// The bundle, if it is about one.
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

/// Who asks, and what for.
struct Subject<'a> {
    question: &'a Question,
    /// brig has the rights of root, be it in a user namespace around it.
    privileged: bool,
    /// And on the host.
    root_of_host: bool,
    bundle: Option<Bundle>,
}

impl Subject<'_> {
    /// `CLONE_NEW*` bits of the namespaces that the bundle's container gets.
    fn new_namespaces(&self) -> Option<libc::c_int> {
        self.bundle.as_ref().map(|bundle| bundle.plan.namespaces.new)
    }

    /// The user namespace in which everything else is tried, where the container gets one.
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
/// Where not even that can be asked: a filter around brig forbids capget(2), or the bundle has no config.json.
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
        // Of what can only be tried in a user namespace nothing is known where there is none.
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

/// The name of the user who asks, or the number.
fn user_name() -> String {
    let uid = geteuid().as_raw();
    crate::process::passwd::name_of(uid).unwrap_or_else(|| uid.to_string())
}

/// As an argument of a command that is to be copied.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
