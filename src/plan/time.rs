//! The clock offsets of a new time namespace (time_namespaces(7)).

use super::Namespaces;
use crate::spec::{Place, Spec};
use anyhow::{Context, Result, bail, ensure};

/// crun's annotation: offsets that replace those of the config, one line per clock.
pub const ANNOTATION: &str = "run.oci.timens_offset";

/// Clock, seconds and nanoseconds.
pub type Offset = (&'static str, i64, u32);

/// Reads `linux.timeOffsets`, or the annotation.
pub fn offsets(
    spec: &Spec,
    namespaces: &Namespaces,
    warnings: &mut Vec<String>,
) -> Result<Vec<Offset>> {
    let new = namespaces.new & libc::CLONE_NEWTIME != 0;
    if let Some(text) = spec.annotations.get(ANNOTATION) {
        let place = format!("annotations[{ANNOTATION:?}]");
        if new {
            return of_annotation(text).at(place);
        }
        warnings.push(format!("{place}: has no effect without a new time namespace"));
    }
    let mut offsets = Vec::new();
    for (name, offset) in &spec.linux.time_offsets {
        let read = || {
            ensure!(new, "needs a new time namespace in linux.namespaces");
            let nanoseconds = offset.nanosecs().unwrap_or_default();
            checked(name, offset.secs().unwrap_or_default(), nanoseconds)
        };
        offsets.push(read().at(format_args!("linux.timeOffsets[\"{name}\"]"))?);
    }
    Ok(offsets)
}

/// Parses lines in the kernel's format, e.g. `monotonic 100 0`; also with the number of the clock.
fn of_annotation(text: &str) -> Result<Vec<Offset>> {
    ensure!(!text.trim().is_empty(), "is empty");
    let line = |line: &str| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [clock, seconds, nanoseconds] = words[..] else {
            bail!("is not CLOCK SECONDS NANOSECONDS")
        };
        checked(clock, seconds.parse()?, nanoseconds.parse()?)
    };
    text.lines().map(|text| line(text).with_context(|| format!("{text:?}"))).collect()
}

fn checked(clock: &str, seconds: i64, nanoseconds: u32) -> Result<Offset> {
    let clock = match clock {
        "monotonic" | "1" => "monotonic",
        "boottime" | "7" => "boottime",
        _ => bail!("unknown clock: only monotonic and boottime can have an offset"),
    };
    ensure!(nanoseconds < 1_000_000_000, "has {nanoseconds} nanoseconds, more than a second");
    Ok((clock, seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_has_a_line_for_each_clock() {
        assert_eq!(of_annotation("1 100 5").unwrap(), [("monotonic", 100, 5)]);
        let both = of_annotation("monotonic -1 0\nboottime 7 999999999\n").unwrap();
        assert_eq!(both, [("monotonic", -1, 0), ("boottime", 7, 999_999_999)]);
        for bad in [
            "",
            "\n",
            "monotonic 1",
            "realtime 1 0",
            "0 1 0",
            "monotonic x 0",
            "monotonic 1 1000000000",
        ] {
            assert!(of_annotation(bad).is_err(), "{bad:?}");
        }
    }
}
