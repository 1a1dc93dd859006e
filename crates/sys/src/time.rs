//! Times as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, as RFC 3339 in UTC with nanoseconds.
pub fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A time as RFC 3339 in UTC, with nanoseconds.
pub fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, second) = (seconds / 86400, seconds % 86400);
    // Days counted from 0000-03-01, in eras of 400 years: leap days then end each year.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) =
        (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since_epoch.subsec_nanos();
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339() {
        let at = |seconds| rfc3339(Duration::new(seconds, 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000007Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000007Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000000007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000007Z");
    }
}
