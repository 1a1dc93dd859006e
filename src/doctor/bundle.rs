//! The requirements of a bundle, determined by the plan.

use super::{Finding, Question, Status};
use crate::lint::{self, Severity};
use crate::plan::{Host, Plan, Request};
use crate::spec::{self, Document, Spec, shape};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::Path;

/// A bundle whose config is valid on this host.
pub(super) struct Bundle {
    pub(super) plan: Plan,
    /// `linux.cgroupsPath`.
    pub(super) cgroup: Option<String>,
}

/// None if the config is not valid on this host: then `findings` contain the reason.
pub(super) fn open(
    path: &Path,
    question: &Question,
    host: &Host,
    findings: &mut Vec<Finding>,
) -> Result<Option<Bundle>> {
    let file = path.join("config.json");
    let read = || spec::read(File::open(&file)?);
    let text = read().with_context(|| file.display().to_string())?;
    let document = Document { name: "config.json", shape: shape::CONFIG, text: &text };
    let request = Request {
        cgroup_manager: question.manager,
        rootless: question.rootless,
        ..Request::of_bundle(path)
    };
    let planned = document.parse::<Spec>(&mut Vec::new()).and_then(|(spec, _)| {
        let plan = Plan::new(&spec, &request, host)?;
        Ok(Bundle { plan, cgroup: spec.linux.cgroups_path })
    });
    let (bundle, error) = match planned {
        Ok(bundle) => (Some(bundle), None),
        Err(error) => (None, Some(sys::describe(&document.located(error)))),
    };
    // The first error, which may be specific to this host, and then all that do not depend on the host: other
    // errors of the host may only follow from the first.
    let mut messages: Vec<String> = error.into_iter().collect();
    let everywhere = lint::lint(document, None)?;
    let here = lint::lint(document, Some(path))?;
    let everywhere = everywhere.iter().filter(|found| found.rule == "config");
    let missing = here.iter().filter(|found| found.rule == "missing-file");
    for found in everywhere.chain(missing).filter(|found| found.severity == Severity::Error) {
        let lint::Finding { place, line, column, message, .. } = found;
        let message = format!("{place} (config.json line {line}, column {column}): {message}");
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    let finding = |message| Finding { check: "config", status: Status::Fail, message, mend: None };
    findings.extend(messages.into_iter().map(finding));
    Ok(bundle)
}
