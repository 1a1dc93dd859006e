//! Configs that are valid but still look like a mistake.

mod isolation;
mod mounts;
mod process;
mod seccomp;

use super::Severity;
use crate::plan::annotations;
use crate::spec::Spec;
use std::fmt;

/// The newest minor version of runtime-spec 1.x that brig implements.
const NEWEST_MINOR: u32 = 3;

/// Findings of the rules: severity, rule, place, message.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) found: Vec<(Severity, &'static str, String, String)>,
}

impl Rules {
    pub(super) fn error(
        &mut self,
        rule: &'static str,
        place: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.found.push((Severity::Error, rule, place.to_string(), message.into()));
    }

    pub(super) fn warn(
        &mut self,
        rule: &'static str,
        place: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.found.push((Severity::Warning, rule, place.to_string(), message.into()));
    }

    pub(super) fn note(
        &mut self,
        rule: &'static str,
        place: impl fmt::Display,
        message: impl Into<String>,
    ) {
        self.found.push((Severity::Note, rule, place.to_string(), message.into()));
    }
}

/// Applies every rule.
pub(super) fn check(spec: &Spec, rules: &mut Rules) {
    version(spec, rules);
    process::check(spec, rules);
    mounts::check(spec, rules);
    isolation::check(spec, rules);
    if let Some(profile) = &spec.linux.seccomp {
        seccomp::check(profile, rules);
    }
    hooks(spec, rules);
    for name in spec.annotations.keys().filter(|name| annotations::is_unsafe(name)) {
        let text = "an engine must not let untrusted users set this annotation: it changes how the runtime acts";
        rules.note("unsafe-annotation", format_args!("annotations[{name:?}]"), text);
    }
}

fn version(spec: &Spec, rules: &mut Rules) {
    let minor = spec
        .oci_version
        .strip_prefix("1.")
        .and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor > NEWEST_MINOR) {
        let text = format!(
            "brig implements runtime-spec {}: what is newer is ignored",
            crate::SPEC_VERSION
        );
        rules.warn("newer-version", "ociVersion", text);
    }
}

fn hooks(spec: &Spec, rules: &mut Rules) {
    if spec
        .hooks
        .as_ref()
        .is_some_and(|hooks| hooks.prestart().as_ref().is_some_and(|list| !list.is_empty()))
    {
        let text = "is deprecated since runtime-spec 1.0.2: use createRuntime, createContainer or startContainer";
        rules.note("deprecated", "hooks.prestart", text);
    }
}
