//! lint: reports mistakes in a config.json without running it.
//!
//! Errors are the plan's own. The plan stops at the first, so `repair` removes the value that an error refers
//! to from a copy and plans again: one run reports all errors, and no check is written twice. `keys` and
//! `rules` find what is valid but still looks like a mistake.

mod here;
mod keys;
mod repair;
mod report;
mod rules;
#[cfg(test)]
mod tests;

pub use report::{Format, render};

use crate::plan::host::Facts;
use crate::plan::{Host, Plan, Request};
use crate::seccomp::UNKNOWN_CALLS;
use crate::spec::{At, Document, leading_place};
use anyhow::Result;
use repair::Copy;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// `create` refuses it, or `create --strict` does.
    Error,
    /// The container is created, but differs from the config, or probably from its author's intent.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// One finding.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// How severe it is.
    pub severity: Severity,
    /// The name of the rule, e.g. `unknown-key`; `config` for errors of the plan.
    pub rule: &'static str,
    /// The place of the value, e.g. `mounts[3].options[1]`; empty for the whole file.
    pub place: String,
    /// The line of the place, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// The message.
    pub message: String,
}

/// Collects findings about one text.
struct Findings<'a> {
    document: Document<'a>,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        place: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.push(severity, rule, At::new(place), message);
    }

    fn push(
        &mut self,
        severity: Severity,
        rule: &'static str,
        mut at: At,
        message: impl Into<String>,
    ) {
        at.locate(self.document.text);
        let (place, (line, column)) = at
            .position()
            .map_or((String::new(), (1, 1)), |(place, _, position)| (place.to_owned(), position));
        let message = message.into();
        let known = |finding: &Finding| finding.place == place && finding.message == message;
        if !self.list.iter().any(known) {
            self.list.push(Finding { severity, rule, place, line, column, message });
        }
    }
}

/// All findings about the text, in the order of the text. `here`: the bundle, if this host and the bundle's
/// files are to be checked as well.
///
/// # Errors
///
/// If this host cannot be queried.
pub fn lint(document: Document<'_>, here: Option<&Path>) -> Result<Vec<Finding>> {
    let mut findings = Findings { document, list: Vec::new() };
    keys::check(&mut findings);
    let mut copy = match Copy::of(document) {
        Ok(copy) => copy,
        Err(error) => {
            refuse(&mut findings, &error);
            return Ok(findings.list);
        }
    };
    let bundle = here.unwrap_or(Path::new("/bundle"));
    let request = Request::of_bundle(bundle);
    copy.errors(&mut findings, |_| Ok(()));
    // Without the values of wrong types, the rest can be parsed as a whole and checked by the rules.
    if let Ok(spec) = copy.spec() {
        let mut list = rules::Rules::default();
        rules::check(&spec, &mut list);
        for (severity, rule, place, message) in list.found {
            findings.add(severity, rule, copy.original(&place), message);
        }
    }
    copy.errors(&mut findings, |spec| {
        Plan::new(spec, &request, &Host::from(Facts::ROOT)).map(drop)
    });
    warnings(&mut findings, &copy, &request);
    if here.is_some() {
        copy.errors(&mut findings, |spec| Plan::new(spec, &request, &Host::default()).map(drop));
        if let Ok(spec) = copy.spec() {
            let mut list = rules::Rules::default();
            here::check(&spec, bundle, &mut list)?;
            for (severity, rule, place, message) in list.found {
                findings.add(severity, rule, copy.original(&place), message);
            }
        }
    }
    findings.list.sort_by_key(|finding| (finding.line, finding.column, finding.severity));
    Ok(findings.list)
}

/// Reports a text that cannot be parsed at all.
fn refuse(findings: &mut Findings<'_>, error: &anyhow::Error) {
    let position = error.downcast_ref::<At>().and_then(At::position);
    let (place, (line, column)) = position
        .map_or((String::new(), (1, 1)), |(place, _, position)| (place.to_owned(), position));
    let message = repair::message(error);
    findings.list.push(Finding {
        severity: Severity::Error,
        rule: "config",
        place,
        line,
        column,
        message,
    });
}

/// Adds the warnings of create.
fn warnings(findings: &mut Findings<'_>, copy: &Copy<'_>, request: &Request<'_>) {
    let plan = copy.spec().and_then(|spec| Plan::new(&spec, request, &Host::from(Facts::ROOT)));
    let Ok(plan) = plan else { return };
    let notes: Vec<_> = plan.process.notes().collect();
    let said = plan.warnings.iter().chain(&notes);
    for warning in said.filter(|warning| !warning.contains(UNKNOWN_CALLS)) {
        let (place, rest) = leading_place(warning);
        let rest = rest.strip_prefix(": ").unwrap_or(rest);
        findings.add(Severity::Warning, "config", copy.original(place), rest);
    }
}
