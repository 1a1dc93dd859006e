//! events: prints the resource usage of a container periodically, and out-of-memory events, as JSON in runc's
//! format, one object per line; see docs/output.md.

use crate::cgroup::oom::Watch;
use crate::cgroup::stat;
use crate::deadline;
use crate::log;
use crate::rdt;
use crate::state::{self, Dir, State};
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The options of events.
#[derive(Debug)]
pub struct EventsOptions {
    /// The container's id.
    pub id: String,
    /// Print the statistics once.
    pub once: bool,
    /// The interval between two statistics.
    pub interval: Option<String>,
}

/// One line of the output.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Data {
    #[serde(flatten)]
    cgroup: stat::Stats,
    intel_rdt: rdt::Stats,
    /// runc lists the interfaces that it created, and it creates none for a config of the specification:
    /// always null.
    network_interfaces: Option<()>,
}

/// Prints events until the container ends (with cgroup v1 until it is deleted) or the reader closes stdout.
pub fn events(root: &Path, options: &EventsOptions) -> Result<()> {
    report(root, options).with_context(|| format!("events {}", options.id))
}

fn report(root: &Path, options: &EventsOptions) -> Result<()> {
    let interval = interval(options.interval.as_deref(), Duration::from_secs(5))?;
    let state = Dir::open(root, &options.id)?.existing()?;
    let init = running(&state)?;
    if options.once {
        return emit(&state, "stats", Some(look(&state)?));
    }
    follow(&state, &init, interval)
}

/// A pidfd of the container's init, unless the container has stopped.
pub fn running(state: &State) -> Result<OwnedFd> {
    match state::open_init(state)? {
        Some(init) if !state.creating => Ok(init),
        // runc's words.
        _ => bail!("container with id {} is not running", state.id),
    }
}

fn follow(state: &State, init: &OwnedFd, interval: Duration) -> Result<()> {
    let mut watch = state.cgroup.watch_oom()?;
    // As in runc: with cgroup v1 the notification ends with the cgroup, which exists until delete.
    let until_deleted = watch.as_ref().is_some_and(Watch::is_v1);
    let mut init = Some(init);
    let mut next = Instant::now() + interval;
    loop {
        let ready = wait(init, watch.as_ref(), next)?;
        if ready.told {
            watch = handle_oom(state, watch)?;
            if until_deleted && watch.is_none() {
                return Ok(());
            }
        }
        if ready.ended {
            if !until_deleted {
                // The event of the out-of-memory kill may have arrived between the two.
                return handle_oom(state, watch).map(drop);
            }
            init = None;
        }
        if ready.unread {
            return Ok(());
        }
        if Instant::now() >= next {
            let data = match look(state) {
                // The container has just been deleted.
                Err(_) if init.is_none() => return Ok(()),
                data => data?,
            };
            // The statistics of a container that has just ended are meaningless.
            if until_deleted || !wait(init, None, Instant::now())?.ended {
                emit(state, "stats", Some(data))?;
            }
            next = (next + interval).max(Instant::now());
        }
    }
}

/// Requests out-of-memory notifications; returns the watch as long as it is usable.
fn handle_oom(state: &State, watch: Option<Watch>) -> Result<Option<Watch>> {
    let Some(mut watch) = watch else { return Ok(None) };
    let happened = watch.happened()?;
    if happened == Some(true) {
        emit(state, "oom", None)?;
    }
    Ok(happened.map(|_| watch))
}

/// The events that occurred.
#[derive(Default)]
struct Ready {
    ended: bool,
    unread: bool,
    told: bool,
}

/// Waits for an event until `end`. Without `init`: it has exited already.
fn wait(init: Option<&OwnedFd>, watch: Option<&Watch>, end: Instant) -> Result<Ready> {
    let stdout = std::io::stdout();
    // An error or hang-up: the reader has closed its end.
    let mut fds = vec![PollFd::new(stdout.as_fd(), PollFlags::empty())];
    fds.extend(init.map(|init| PollFd::new(init.as_fd(), PollFlags::POLLIN)));
    fds.extend(watch.map(Watch::poll_fd));
    sys::poll::wait(&mut fds, end)?;
    let any = |index: usize| fds.get(index).is_some_and(|fd| fd.any() != Some(false));
    let after_init = 1 + usize::from(init.is_some());
    Ok(Ready { ended: init.is_some() && any(1), unread: any(0), told: any(after_init) })
}

fn look(state: &State) -> Result<Data> {
    ensure!(
        !state.cgroup.dirs().is_empty(),
        "the container has no cgroups, so there are no statistics"
    );
    Ok(Data {
        cgroup: state.cgroup.stats()?,
        intel_rdt: state.rdt.as_ref().map_or(Ok(rdt::Stats::default()), rdt::Rdt::stats)?,
        network_interfaces: None,
    })
}

fn emit(state: &State, kind: &'static str, data: Option<Data>) -> Result<()> {
    let mut line = serde_json::to_vec(&Event { kind, id: &state.id, data })?;
    line.push(b'\n');
    log::out(&line)
}

/// Parses the value of `--interval`; `default` if absent.
pub fn interval(text: Option<&str>, default: Duration) -> Result<Duration> {
    duration_flag("interval", text, default)
}

/// Parses the duration of `--flag`; `default` if absent.
pub fn duration_flag(flag: &str, text: Option<&str>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let read = || -> Result<Duration> {
        let duration = duration(text).context("not a duration (e.g. 500ms or 1m30s)")?;
        ensure!(!duration.is_zero(), "must be greater than 0");
        Ok(duration.min(deadline::FOREVER))
    };
    read().with_context(|| format!("--{flag} {text:?}"))
}

/// A duration in Go's notation: numbers, each with a unit.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut sum = Duration::ZERO;
    if rest == "0" {
        return Some(sum);
    }
    while !rest.is_empty() || sum.is_zero() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(digits.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        rest = after;
        if part.is_zero() && rest.is_empty() {
            break;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m", 60_000),
            ("1h1m1s", 3_661_000),
            ("1.5s", 1500),
            (".5s", 500),
            ("2000us", 2),
            ("0", 0),
            ("0s", 0),
            ("0h5s", 5000),
        ] {
            let expected = Some(Duration::from_millis(milliseconds));
            assert_eq!(duration(text), expected, "{text}");
        }
        for bad in ["", "5", "s", "5x", "-1s", "1s5", "1..5s", "1 s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_longest_duration_can_be_added_to_the_current_time() {
        let given = duration_flag("timeout", Some("5000000000000000h"), Duration::ZERO).unwrap();
        assert!(Instant::now().checked_add(given).is_some());
    }

    #[test]
    fn no_time_at_all_is_no_interval() {
        let default = Duration::from_secs(5);
        assert_eq!(interval(None, default).unwrap(), default);
        let error = format!("{:#}", interval(Some("0s"), default).unwrap_err());
        assert_eq!(error, "--interval \"0s\": must be greater than 0");
    }

    /// The line is an interface: its format is runc's.
    #[test]
    fn a_line_has_runcs_shape() {
        let line = |kind, data| serde_json::to_string(&Event { kind, id: "x", data }).unwrap();
        assert_eq!(line("oom", None), r#"{"type":"oom","id":"x"}"#);
        let (cgroup, intel_rdt) = (stat::Stats::default(), rdt::Stats::default());
        let data = Data { cgroup: cgroup.clone(), intel_rdt, network_interfaces: None };
        let stats = serde_json::to_string(&cgroup).unwrap();
        let stats = stats.strip_suffix('}').unwrap();
        let expected = format!(
            r#"{{"type":"stats","id":"x","data":{stats},"intel_rdt":{{}},"network_interfaces":null}}}}"#
        );
        assert_eq!(line("stats", Some(data)), expected);
    }
}
