//! lint: reports mistakes in a config.json without running it.

use crate::lint::{self, Format, Severity};
use crate::log;
use crate::spec::{self, Document, Place, shape};
use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The options of lint.
#[derive(Debug)]
pub struct LintOptions {
    /// A bundle, a config.json, or `-` for stdin.
    pub of: PathBuf,
    /// Also check this host and the bundle's files.
    pub here: bool,
    /// The output format.
    pub format: Format,
}

/// Prints the findings. Returns 0 if there is nothing worse than a note, 1 after a warning, 2 after an error.
///
/// # Errors
///
/// If the file cannot be read.
pub fn lint(options: &LintOptions) -> Result<i32> {
    let (file, text) = read(&options.of).context("lint")?;
    let document = Document { name: &file, shape: shape::CONFIG, text: &text };
    let bundle =
        std::path::absolute(if options.of.is_dir() { &options.of } else { above(&options.of) })?;
    let findings = lint::lint(document, options.here.then_some(&bundle)).context("lint")?;
    log::out(lint::render(&findings, &file, options.format).as_bytes())?;
    Ok(match findings.iter().map(|finding| finding.severity).min() {
        Some(Severity::Error) => 2,
        Some(Severity::Warning) => 1,
        Some(Severity::Note) | None => 0,
    })
}

/// `create --strict`: fails with lint's first error.
///
/// # Errors
///
/// If lint reports an error.
pub(super) fn refuse_mistakes(config: Document<'_>) -> Result<()> {
    let findings = lint::lint(config, None)?;
    let mut errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    let Some(first) = errors.next() else { return Ok(()) };
    let more = match errors.count() {
        0 => String::new(),
        count => format!(", {count} more"),
    };
    let error = Err(anyhow!("{} (--strict{more}: see `brig lint`)", first.message));
    if first.place.is_empty() { error } else { error.at(first.place) }
}

/// The bundle that a config.json is in; the current directory for stdin.
fn above(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(of: &Path) -> Result<(String, Vec<u8>)> {
    if of.as_os_str() == "-" {
        return Ok(("stdin".into(), spec::read(std::io::stdin()).context("stdin")?));
    }
    let path = if of.is_dir() { of.join("config.json") } else { of.to_owned() };
    let open = || spec::read(File::open(&path)?);
    let text = open().with_context(|| path.display().to_string())?;
    Ok((path.display().to_string(), text))
}
