//! doctor: tests what this host and user support, and reports why something is not possible.

use super::command::ListFormat;
use super::table::table;
use crate::doctor::{self, Finding, Question, Status};
use crate::log;
use anyhow::{Context, Result};

/// The options of doctor.
#[derive(Debug)]
pub struct DoctorOptions {
    /// What to test.
    pub question: Question,
    /// The output format.
    pub format: ListFormat,
}

/// Prints the findings. Returns 0 if all is well, 1 after a warning, 2 if something fails.
///
/// # Errors
///
/// If the bundle has no config.json.
pub fn doctor(options: &DoctorOptions) -> Result<i32> {
    let findings = doctor::examine(&options.question).context("doctor")?;
    let text = match options.format {
        ListFormat::Json => {
            let text = serde_json::to_string_pretty(&findings)?;
            format!("{}\n", log::printable_json(&text))
        }
        ListFormat::Table => lines(&findings),
    };
    log::out(text.as_bytes())?;
    Ok(match findings.iter().map(|finding| finding.status).max() {
        Some(Status::Fail) => 2,
        Some(Status::Warn) => 1,
        Some(Status::Ok) | None => 0,
    })
}

/// One row for each finding, followed by the command that fixes it.
fn lines(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        let row = [status, finding.check, &log::one_line(&finding.message)].map(str::to_owned);
        rows.push(row.to_vec());
        if let Some(mend) = &finding.mend {
            rows.push(["", "", &format!("-> {}", log::one_line(mend))].map(str::to_owned).to_vec());
        }
    }
    table(&rows, 2, 0)
}
