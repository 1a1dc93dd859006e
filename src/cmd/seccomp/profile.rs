//! A profile, and the position of its rules in its file.

use crate::seccomp::{self, COMPILED, NATIVE};
use crate::spec::{self, At, Document, Place, shape};
use anyhow::{Context, Result, anyhow, bail};
use oci_seccomp::LinuxSeccomp;
use oci_seccomp::explain::{Explainer, Reason};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

/// A compiled profile with its text.
pub(super) struct Profile {
    /// Explains decisions.
    pub(super) explainer: Explainer,
    name: String,
    text: Vec<u8>,
    /// The path of the profile in the text, with a trailing dot.
    prefix: &'static str,
    /// The index in the text of each rule: rules in docker's format may not take effect.
    indexes: Vec<usize>,
}

impl Profile {
    /// Reads `linux.seccomp` of a bundle or a config.json, or a profile in the format of runtime-spec or
    /// docker. `caps` determine which conditional rules of the latter take effect.
    pub(super) fn read(of: &Path, caps: &[String]) -> Result<Profile> {
        let path = if of.is_dir() { of.join("config.json") } else { of.to_owned() };
        let name = path.display().to_string();
        let open = || spec::read(File::open(&path)?);
        let text = open().with_context(|| name.clone())?;
        let document = Document { name: &name, shape: shape::CONFIG, text: &text };
        let act = || {
            let value: Value = document.parse(&mut Vec::new())?.0;
            compiled(&text, &value, caps)
        };
        let located = |error| document.located(error).context(name.clone());
        let (explainer, prefix, indexes) = act().map_err(located)?;
        Ok(Profile { explainer, name, text, prefix, indexes })
    }

    /// The place of the value that is the reason, and its line.
    pub(super) fn rule(&self, reason: Reason) -> Option<(String, usize)> {
        let prefix = self.prefix;
        let place = match reason {
            Reason::Rule(rule) => format!("{prefix}syscalls[{}]", self.indexes.get(rule)?),
            Reason::Default => format!("{prefix}defaultAction"),
            _ => return None,
        };
        let mut at = At::new(&place);
        at.name(&self.name);
        at.locate(&self.text);
        let line = at.position().map_or(1, |(_, _, (line, _))| line);
        Some((place, line))
    }
}

/// Compiles the profile in a text; also returns its path there, and the indexes of its rules.
fn compiled(
    text: &[u8],
    value: &Value,
    caps: &[String],
) -> Result<(Explainer, &'static str, Vec<usize>)> {
    if value.get("ociVersion").is_none() && value.get("linux").is_none() {
        let resolved = seccomp::resolve(text, caps)?;
        let listed = value["syscalls"].as_array().map(Vec::as_slice).unwrap_or_default();
        let indexes = (0..listed.len()).filter(|&index| takes_effect(&listed[index], caps));
        return Ok((explainer(resolved, "")?, "", indexes.collect()));
    }
    if value["annotations"].get(COMPILED).is_some() {
        let why = "the filter comes compiled, without rules that could be explained";
        Err(anyhow!(why)).at(format_args!("annotations[{COMPILED:?}]"))?;
    }
    let Some(profile) = value.pointer("/linux/seccomp").filter(|profile| !profile.is_null()) else {
        bail!("has no linux.seccomp: no system call is refused");
    };
    let count = profile["syscalls"].as_array().map_or(0, Vec::len);
    let prefix = "linux.seccomp.";
    Ok((explainer(profile.clone(), prefix)?, prefix, (0..count).collect()))
}

fn explainer(profile: Value, prefix: &str) -> Result<Explainer> {
    let profile: LinuxSeccomp = serde_json::from_value(profile)?;
    Explainer::new(&profile, NATIVE).map_err(|error| {
        let place = format!("{prefix}{}", error.path());
        anyhow!("{}", error.message()).context(At::new(place.trim_end_matches('.')))
    })
}

/// Whether a rule in docker's format takes effect with these capabilities, on this machine.
fn takes_effect(rule: &Value, caps: &[String]) -> bool {
    let alone = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule] }).to_string();
    let resolved = seccomp::resolve(alone.as_bytes(), caps);
    resolved
        .is_ok_and(|profile| profile["syscalls"].as_array().is_some_and(|list| !list.is_empty()))
}
