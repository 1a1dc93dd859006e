//! Warnings about a value in `config.json`: they begin with its place.

use super::{At, parse_step};

/// A warning that begins with its place, as `mounts[3].options[1]: …`, with line and column after that.
pub fn located_warning(warning: &str, locate: impl FnOnce(&mut At)) -> String {
    let (place, rest) = leading_place(warning);
    if place.is_empty() {
        return warning.to_owned();
    }
    let mut at = At::new(place);
    locate(&mut at);
    format!("{at}{rest}")
}

/// The place that a warning begins with, and the rest of it from the colon on. The place is empty where there is none.
pub fn leading_place(warning: &str) -> (&str, &str) {
    let mut rest = warning;
    while let Some((_, after)) = parse_step(rest) {
        rest = after;
    }
    // A space is in a sentence, or in a key between quotes.
    let place = warning.strip_suffix(rest).unwrap_or_default();
    match place.split('[').any(|step| !step.starts_with('"') && step.contains(' ')) {
        true => ("", warning),
        false => (place, rest),
    }
}
