//! Formats findings as text, JSON, SARIF and GitHub workflow commands.

use super::{Finding, Severity};
use crate::log;
use serde_json::{Value, json};

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `FILE:LINE:COLUMN: SEVERITY: PLACE: MESSAGE [RULE]`, followed by a line with totals.
    Text,
    /// An array of objects (docs/output.md).
    Json,
    /// SARIF 2.1.0 (docs.oasis-open.org), for code scanners.
    Sarif,
    /// Workflow commands, which GitHub Actions displays beside the lines.
    Github,
}

/// Formats the findings about `file`.
pub fn render(findings: &[Finding], file: &str, format: Format) -> String {
    match format {
        Format::Text => text(findings, file),
        Format::Json => {
            with_newline(&findings.iter().map(|finding| object(finding, file)).collect())
        }
        Format::Sarif => with_newline(&sarif(findings, file)),
        Format::Github => findings.iter().map(|finding| command(finding, file)).collect(),
    }
}

fn with_newline(value: &Value) -> String {
    format!("{}\n", log::printable_json(&format!("{value:#}")))
}

/// The message, preceded by its place.
fn sentence(finding: &Finding) -> String {
    match finding.place.as_str() {
        "" => finding.message.clone(),
        place => format!("{place}: {}", finding.message),
    }
}

fn text(findings: &[Finding], file: &str) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding { severity, rule, line, column, .. } = finding;
        let said =
            format!("{file}:{line}:{column}: {}: {} [{rule}]", severity.name(), sentence(finding));
        text += &log::one_line(&said);
        text.push('\n');
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counted =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")];
    let counts = counted.map(|(severity, name)| match count(severity) {
        1 => format!("1 {name}"),
        count => format!("{count} {name}s"),
    });
    text + &log::one_line(&format!("{file}: {}", counts.join(", "))) + "\n"
}

fn object(finding: &Finding, file: &str) -> Value {
    let mut object = json!(finding);
    object["file"] = file.into();
    object
}

fn sarif(findings: &[Finding], file: &str) -> Value {
    let mut names: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
    names.sort_unstable();
    names.dedup();
    let results = findings.iter().map(|finding| {
        json!({
            "ruleId": finding.rule,
            "level": finding.severity.name(),
            "message": { "text": sentence(finding) },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": file },
                "region": { "startLine": finding.line, "startColumn": finding.column },
            } }],
        })
    });
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": { "driver": {
                "name": "brig lint",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": names.iter().map(|name| json!({ "id": name })).collect::<Value>(),
            } },
            "results": results.collect::<Value>(),
        }],
    })
}

/// `::error file=…,line=…,col=…,title=…::…`, in which `%`, line breaks, and in values `:` and `,` are escaped.
fn command(finding: &Finding, file: &str) -> String {
    let data = |text: &str| log::one_line(text).replace('%', "%25");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let kind = if finding.severity == Severity::Note { "notice" } else { finding.severity.name() };
    format!(
        "::{kind} file={},line={},col={},title={}::{}\n",
        property(file),
        finding.line,
        finding.column,
        finding.rule,
        data(&sentence(finding))
    )
}
