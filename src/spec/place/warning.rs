//! Warnings about a value in `config.json`: they begin with its place.

use super::{At, parse_step};

/// Adds line and column to the place at the start of a warning, e.g. `mounts[3].options[1]: …`.
pub fn located_warning(warning: &str, locate: impl FnOnce(&mut At)) -> String {
    let (place, rest) = leading_place(warning);
    if place.is_empty() {
        return warning.to_owned();
    }
    let mut at = At::new(place);
    locate(&mut at);
    format!("{at}{rest}")
}

/// Splits a warning into the place at its start and the rest, beginning with the colon. The place is empty if
/// there is none.
pub fn leading_place(warning: &str) -> (&str, &str) {
    let mut rest = warning;
    while let Some((_, after)) = parse_step(rest) {
        rest = after;
    }
    // Only a sentence, or a quoted key, contains a space.
    let place = warning.strip_suffix(rest).unwrap_or_default();
    match place.split('[').any(|step| !step.starts_with('"') && step.contains(' ')) {
        true => ("", warning),
        false => (place, rest),
    }
}
