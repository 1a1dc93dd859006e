//! Formats sizes and ages for people.

use crate::log;
use std::time::{SystemTime, UNIX_EPOCH};

/// Formats e.g. `17 B` or `12.3 MB`: three digits, in powers of 1000, as docker and podman show image sizes.
pub fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
    let mut amount = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // 999.5 would be rounded to 1000.
    while amount >= 999.5 {
        let Some(next) = units.next() else { break };
        (amount, unit) = (amount / 1000.0, next);
    }
    let digits = match amount {
        _ if unit == "B" => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let number = format!("{amount:.digits$}");
    let short = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => &number,
    };
    format!("{short} {unit}")
}

/// Formats e.g. `3 days ago`; a time that is not RFC 3339 is returned unchanged.
pub fn age(time: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match sys::time::seconds(time) {
        Some(then) => age_at(i64::try_from(now).unwrap_or_default().saturating_sub(then)),
        None => log::one_line(time),
    }
}

fn age_at(seconds: i64) -> String {
    const UNITS: [(&str, i64, i64); 7] = [
        ("second", 1, 60),
        ("minute", 60, 60 * 60),
        ("hour", 60 * 60, 24 * 60 * 60),
        ("day", DAY, 14 * DAY),
        ("week", 7 * DAY, 60 * DAY),
        ("month", 30 * DAY, 730 * DAY),
        ("year", 365 * DAY, i64::MAX),
    ];
    const DAY: i64 = 24 * 60 * 60;
    if seconds < 0 {
        return "in the future".into();
    }
    let unit = UNITS.iter().find(|(_, _, end)| seconds < *end);
    let Some((unit, length, _)) = unit else { return "-".into() };
    let number = seconds / length;
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1_982_268, "1.98 MB"),
            (12_345_678, "12.3 MB"),
            (64_000_000, "64 MB"),
            (999_400, "999 kB"),
            (999_600, "1 MB"),
            (100_000_000, "100 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn ages_are_in_the_unit_that_a_person_would_take() {
        let day = 24 * 60 * 60;
        for (seconds, text) in [
            (0, "0 seconds ago"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (2 * 60 * 60, "2 hours ago"),
            (3 * day + 5, "3 days ago"),
            (15 * day, "2 weeks ago"),
            (61 * day, "2 months ago"),
            (56 * 365 * day, "56 years ago"),
            (-1, "in the future"),
        ] {
            assert_eq!(age_at(seconds), text);
        }
        assert_eq!(age("yester\x1bday"), "yester\\u{1b}day");
    }
}
