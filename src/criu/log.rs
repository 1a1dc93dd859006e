//! Why CRIU failed: its response says little, the reason is in its log.

use std::path::Path;

/// Errors that are logged even on success, or that do not say more than that something failed.
const NOISE: [&str; 8] = [
    "Can't setup RLIMIT_NOFILE",
    "Unable to create tun",
    "exited, status=1",
    "failed with -1",
    "Namespaces dumping finished with error",
    "Dumping FAILED.",
    "Pre-dumping FAILED",
    "Restoring FAILED.",
];

/// The last meaningful error in a log, and its line.
pub(super) fn last_error(text: &str) -> Option<(usize, &str)> {
    let errors = text.lines().enumerate().filter(|(_, line)| line.contains("Error ("));
    let telling = errors.filter(|(_, line)| !NOISE.iter().any(|noise| line.contains(noise)));
    let (number, line) = telling.last()?;
    let start = line.find("Error (")?;
    Some((number + 1, line[start..].trim_end()))
}

/// Explains CRIU's failure: the last error of its log with file and line, or else the error in its response,
/// `answered`.
pub(super) fn explain(log: &Path, answered: &str) -> anyhow::Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    match last_error(&text) {
        Some((line, error)) => anyhow::anyhow!("criu: {error} ({}:{line})", log.display()),
        None if text.is_empty() => anyhow::anyhow!("criu: {answered}"),
        None => anyhow::anyhow!("criu: {answered} ({})", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_that_says_something_is_told() {
        let log = "(00.1) Dumping\n(00.2) Error (criu/tty.c:9): Found dangling tty\n\
                   (00.3) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(last_error(log), Some((2, "Error (criu/tty.c:9): Found dangling tty")));
        assert_eq!(last_error("(00.1) all is well\n"), None);
    }
}
