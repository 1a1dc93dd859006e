//! seccomp: explains what a filter does with a system call and why, compares two filters, and records the
//! filter that a container needs.

mod profile;
mod record;

use super::command::ListFormat;
use super::table::table;
use crate::log;
use crate::plan::process::capability;
use crate::suggest;
use anyhow::{Context, Result, bail, ensure};
use oci_seccomp::Arch;
use oci_seccomp::explain::{Decision, Reason, action_name};
use oci_seccomp::syscalls::{self, Lookup, Syscall};
use profile::Profile;
pub use record::notify_of_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The options of seccomp.
#[derive(Debug)]
pub struct SeccompOptions {
    /// What to do.
    pub action: Action,
    /// Profiles; for explain followed by system calls, for record by a command.
    pub of: Vec<String>,
    /// Capabilities that conditional rules in docker's format depend on.
    pub caps: Vec<String>,
    /// The output format.
    pub format: ListFormat,
}

/// What to do with the profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Explain the decisions of a profile.
    Explain,
    /// Compare two profiles.
    Diff,
    /// Write a profile with the calls that a container makes.
    Record,
}

/// Prints the explanation or the difference. Returns 0, or 1 if two profiles differ; for record, the exit
/// code of its command.
///
/// # Errors
///
/// If a profile cannot be read or compiled, or a system call is unknown.
pub fn seccomp(options: &SeccompOptions) -> Result<i32> {
    match options.action {
        Action::Explain => explain(options).context("seccomp explain"),
        Action::Diff => diff(options).context("seccomp diff"),
        Action::Record => record::record(options).context("seccomp record"),
    }
}

/// The capabilities given by `--cap`.
fn caps(options: &SeccompOptions) -> Result<Vec<String>> {
    let one = |text: &String| capability(text).with_context(|| format!("--cap {text:?}"));
    options.caps.iter().map(one).collect()
}

/// A system call to explain.
struct Question {
    call: &'static Syscall,
    /// As given on the command line.
    text: String,
    /// Its arguments; None: any.
    args: Option<[u64; 6]>,
}

/// The decisions about a system call on an architecture; empty if it does not exist there.
struct Answer {
    call: String,
    arch: Arch,
    decisions: Vec<Decision>,
}

fn explain(options: &SeccompOptions) -> Result<i32> {
    let [of, calls @ ..] = options.of.as_slice() else { bail!("give a bundle or a profile") };
    let questions = calls.iter().map(|text| question(text));
    let questions = questions.collect::<Result<Vec<_>>>()?;
    let profile = Profile::read(Path::new(of), &caps(options)?)?;
    let answers = answers(&profile, &questions);
    let text = match options.format {
        ListFormat::Json => {
            json_text(&answers.iter().map(|answer| object(answer, &profile)).collect())
        }
        ListFormat::Table if questions.is_empty() => summary(&answers),
        ListFormat::Table => explanation(&answers, &profile),
    };
    log::out(text.as_bytes())?;
    Ok(0)
}

/// Parses e.g. `clone` or `clone(0x10000, 0)`.
fn question(text: &str) -> Result<Question> {
    let (name, args) = match text.split_once('(') {
        Some((name, rest)) => {
            let args =
                rest.strip_suffix(')').with_context(|| format!("{text:?}: give CALL(ARGS)"))?;
            (name.trim(), Some(arguments(args).with_context(|| format!("{text:?}"))?))
        }
        None => (text.trim(), None),
    };
    match syscalls::lookup(name) {
        Lookup::Found(call) => Ok(Question { call, text: text.to_owned(), args }),
        Lookup::Unknown => {
            let hint = suggest::hint(name, syscalls::all().iter().map(Syscall::name));
            bail!("{name:?} is not a system call of Linux{hint}")
        }
        _ => bail!("{name:?} is not a system call of any architecture of this machine"),
    }
}

/// Parses decimal or hexadecimal numbers; missing arguments are 0.
fn arguments(text: &str) -> Result<[u64; 6]> {
    let mut args = [0; 6];
    let given: Vec<&str> = text.split(',').map(str::trim).filter(|arg| !arg.is_empty()).collect();
    ensure!(given.len() <= args.len(), "a system call has 6 arguments at most");
    for (place, arg) in args.iter_mut().zip(given) {
        let number = match arg.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => arg.parse().ok().or_else(|| arg.parse().ok().map(i64::cast_unsigned)),
        };
        *place = number.with_context(|| format!("{arg:?} is not a number"))?;
    }
    Ok(args)
}

/// Answers all questions; without questions, for all system calls.
fn answers(profile: &Profile, questions: &[Question]) -> Vec<Answer> {
    let explainer = &profile.explainer;
    let mut answers = Vec::new();
    for question in questions {
        for &arch in explainer.architectures() {
            let decisions = match (question.call.number(arch), question.args) {
                (None, _) => Vec::new(),
                (Some(number), None) => explainer.decisions(arch, number),
                (Some(number), Some(args)) => vec![explainer.decide(arch, number, args)],
            };
            answers.push(Answer { call: question.text.clone(), arch, decisions });
        }
    }
    if questions.is_empty() {
        for &arch in explainer.architectures() {
            for call in syscalls::all() {
                let Some(number) = call.number(arch) else { continue };
                let decisions = explainer.decisions(arch, number);
                answers.push(Answer { call: call.name().into(), arch, decisions });
            }
        }
    }
    answers
}

/// The name of an architecture as in profiles, without prefix and in lower case.
fn name_of(arch: Arch) -> String {
    arch.spec().as_str().trim_start_matches("SCMP_ARCH_").to_lowercase()
}

fn reason(decision: &Decision, profile: &Profile) -> String {
    match (profile.rule(decision.reason), decision.reason) {
        (Some((place, line)), _) => format!("{place} (line {line})"),
        (None, Reason::Newer) => "newer than every call that the profile names".into(),
        (None, _) => "the architecture is not in architectures".into(),
    }
}

fn explanation(answers: &[Answer], profile: &Profile) -> String {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["CALL", "ARCHITECTURE", "ACTION", "IF", "RULE"])];
    for Answer { call, arch, decisions } in answers {
        let arch = name_of(*arch);
        if decisions.is_empty() {
            rows.push(row([call, &arch, "-", "-", "the call does not exist there"]));
        }
        for (index, decision) in decisions.iter().enumerate() {
            let condition = match decision.conditions.join(" && ") {
                none if none.is_empty() && index == 0 => "-".into(),
                none if none.is_empty() => "otherwise".into(),
                conditions => conditions,
            };
            let (action, why) = (action_name(decision.ret), reason(decision, profile));
            rows.push(row([call, &arch, &action, &condition, &why]));
        }
    }
    table(&rows, 2, 0)
}

/// The names of calls, grouped by outcome.
fn summary(answers: &[Answer]) -> String {
    let mut groups: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
    let mut archs: Vec<Arch> = Vec::new();
    for Answer { call, arch, decisions } in answers {
        if !archs.contains(arch) {
            archs.push(*arch);
        }
        let place = archs.iter().position(|known| known == arch).unwrap_or_default();
        let action = match decisions.as_slice() {
            [only] => action_name(only.ret),
            _ => "by arguments".into(),
        };
        groups.entry((place, action)).or_default().push(call);
    }
    let mut rows = vec![["ARCHITECTURE", "ACTION", "COUNT", "CALLS"].map(str::to_owned).to_vec()];
    for ((place, action), calls) in groups {
        rows.push(vec![name_of(archs[place]), action, calls.len().to_string(), calls.join(" ")]);
    }
    table(&rows, 2, 0)
}

fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

fn object(answer: &Answer, profile: &Profile) -> Value {
    json!({
        "call": answer.call,
        "architecture": name_of(answer.arch),
        "decisions": objects(&answer.decisions, profile),
    })
}

fn objects(decisions: &[Decision], profile: &Profile) -> Value {
    let object = |decision: &Decision| {
        let (rule, line) = profile.rule(decision.reason).unzip();
        json!({
            "action": action_name(decision.ret),
            "conditions": decision.conditions,
            "rule": rule,
            "line": line,
            "reason": match decision.reason {
                Reason::Rule(_) => "rule",
                Reason::Default => "default",
                Reason::Newer => "newer",
                _ => "architecture",
            },
        })
    };
    decisions.iter().map(object).collect()
}

/// The possible outcomes, without the rules that lead to them.
fn outcome(decisions: &[Decision]) -> String {
    let text = |decision: &Decision| match decision.conditions.join(" && ") {
        none if none.is_empty() => action_name(decision.ret),
        conditions => format!("{} if {conditions}", action_name(decision.ret)),
    };
    decisions.iter().map(text).collect::<Vec<_>>().join("; ")
}

fn diff(options: &SeccompOptions) -> Result<i32> {
    let [a, b] = options.of.as_slice() else { bail!("give two bundles or profiles") };
    let caps = caps(options)?;
    let read = |of: &String| Profile::read(Path::new(of), &caps);
    let (a, b) = (read(a)?, read(b)?);
    let both = answers(&a, &[]).into_iter().zip(answers(&b, &[]));
    let different: Vec<_> =
        both.filter(|(a, b)| outcome(&a.decisions) != outcome(&b.decisions)).collect();
    let text = match options.format {
        ListFormat::Json => {
            let object = |(one, other): &(Answer, Answer)| {
                json!({
                    "call": one.call,
                    "architecture": name_of(one.arch),
                    "a": objects(&one.decisions, &a),
                    "b": objects(&other.decisions, &b),
                })
            };
            json_text(&different.iter().map(object).collect())
        }
        ListFormat::Table if different.is_empty() => String::new(),
        ListFormat::Table => {
            let mut rows = vec![["CALL", "ARCHITECTURE", "A", "B"].map(str::to_owned).to_vec()];
            rows.extend(different.iter().map(|(one, other)| {
                let (a, b) = (outcome(&one.decisions), outcome(&other.decisions));
                vec![one.call.clone(), name_of(one.arch), a, b]
            }));
            table(&rows, 2, 0)
        }
    };
    log::out(text.as_bytes())?;
    Ok(i32::from(!different.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbers_of_which_there_are_six_at_most() {
        assert_eq!(arguments("0x10000000, 7,-1").unwrap(), [1 << 28, 7, u64::MAX, 0, 0, 0]);
        assert_eq!(arguments("").unwrap(), [0; 6]);
        for bad in ["x", "1,2,3,4,5,6,7", "0x", "1 2", "0xg"] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_misspelt_call_is_an_error_that_names_what_was_meant() {
        let error = |text: &str| format!("{:#}", question(text).map(|_| ()).unwrap_err());
        assert!(error("opneat(1)").contains("did you mean openat?"));
        assert!(error("read(").contains("give CALL(ARGS)"));
        assert!(question(" clone (1) ".trim()).is_ok());
    }
}
