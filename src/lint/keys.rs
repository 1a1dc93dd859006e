//! Keys that are ignored, or read in another way than they are written.

use super::{Findings, Severity};
use crate::spec::KeyFault;
use crate::suggest;

/// Keys of runtime-spec for other platforms, by place.
const ELSEWHERE: [&str; 7] =
    ["freebsd", "process.commandLine", "process.user.username", "solaris", "vm", "windows", "zos"];

/// Adds findings about the keys of the text.
pub(super) fn check(findings: &mut Findings<'_>) {
    for (at, fault) in findings.document.key_faults() {
        let place = at.place().to_owned();
        match fault {
            KeyFault::Unknown(_) if ELSEWHERE.contains(&place.as_str()) => {
                findings.push(
                    Severity::Note,
                    "no-effect",
                    at,
                    "is for another platform and has no effect on Linux",
                );
            }
            KeyFault::Unknown(known) => {
                let name = place
                    .rsplit(['.', '"'])
                    .find(|part| !part.is_empty() && *part != "]")
                    .unwrap_or_default();
                let hint = suggest::hint(name, known.iter().copied());
                // Probably a misspelled key, whose value is ignored.
                let severity = if hint.is_empty() { Severity::Warning } else { Severity::Error };
                findings.push(severity, "unknown-key", at, format!("unknown key, ignored{hint}"));
            }
            KeyFault::OtherCase(known) => {
                let text = format!(
                    "is read as {known:?}: keys are case-sensitive, other runtimes may ignore it"
                );
                findings.push(Severity::Warning, "key-case", at, text);
            }
            KeyFault::Again => {
                findings.push(
                    Severity::Error,
                    "duplicate-key",
                    at,
                    "is given twice: only the last value counts",
                );
            }
        }
    }
}
