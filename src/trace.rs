//! `--trace` and `--timings`: the phases of one command, as Chrome trace events for programs, as a table for
//! people.

use crate::deadline;
use crate::phases::Span;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use sys::fd;

/// A trace is an array with one event per line (Trace Event Format, JSON Array Format). The next command
/// inserts its events before the end, so one file can contain the whole lifecycle of a container.
const BEGIN: &str = "[\n";
const END: &str = "\n]\n";

/// The process of a phase, named as in `--debug`.
pub const BRIG: &str = "brig";
/// The container's process, from its clone on.
pub const CONTAINER: &str = "container";

/// The recording of one command.
#[derive(Debug)]
pub struct Recording {
    trace: Option<(PathBuf, File)>,
    timings: bool,
    /// The start, relative to the Unix epoch.
    began: Duration,
    child: i32,
    spans: Vec<(&'static str, String, Span)>,
}

impl Recording {
    /// Opens the file of `--trace`, which must be new, empty, or a trace.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or is not a trace.
    pub fn open(path: Option<&Path>, timings: bool) -> Result<Recording> {
        let open = |path: &Path| Ok::<_, anyhow::Error>((path.to_owned(), open(path)?));
        let trace = path.map(open).transpose()?;
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Recording { trace, timings, began, child: 0, spans: Vec::new() })
    }

    /// Sets the pid of the container's process.
    pub fn cloned(&mut self, pid: i32) {
        self.child = pid;
    }

    /// Adds a phase that has ended.
    pub fn add(&mut self, process: &'static str, name: &str, span: Span) {
        self.spans.push((process, name.to_owned(), span));
    }

    /// Appends the events to the file. `command`: e.g. `create web`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(&self, command: &str, took: Duration) -> Result<()> {
        let Some((path, file)) = &self.trace else { return Ok(()) };
        let events = self.events(command, took).join(",\n");
        append(file, &events).with_context(|| format!("write {}", path.display()))
    }

    fn events(&self, command: &str, took: Duration) -> Vec<String> {
        let brig = std::process::id();
        let whole = Span { began: Duration::ZERO, took };
        let line: Value =
            sys::process::args().iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let mut events = vec![
            name_of_process(brig, &format!("brig {command}")),
            self.event(command, whole, brig, &json!({ "commandLine": line })),
        ];
        let child = self.child.unsigned_abs();
        if child != 0 {
            events.push(name_of_process(child, &format!("container's process of {command}")));
        }
        for (process, name, span) in &self.spans {
            let pid = if *process == CONTAINER { child } else { brig };
            events.push(self.event(name, *span, pid, &json!({})));
        }
        events
    }

    /// A complete event: times are in microseconds.
    fn event(&self, name: &str, span: Span, pid: u32, args: &Value) -> String {
        let micros = |time: Duration| format!("{}.{:03}", time.as_micros(), time.as_nanos() % 1000);
        let (name, from, took) =
            (Value::from(name), micros(self.began + span.began), micros(span.took));
        format!(
            "{{\"name\":{name},\"cat\":\"brig\",\"ph\":\"X\",\"ts\":{from},\"dur\":{took},\"pid\":{pid},\"tid\":{pid},\"args\":{args}}}"
        )
    }

    /// The table of `--timings`, if requested.
    pub fn table(mut self, took: Duration) -> Option<String> {
        if !self.timings {
            return None;
        }
        self.spans.sort_by_key(|(_, _, span)| span.began);
        self.spans.push((BRIG, "total".into(), Span { began: Duration::ZERO, took }));
        let mut table = format!("{:<9}  {:>12}  {:>12}  PHASE\n", "PROCESS", "BEGAN", "TOOK");
        for (process, name, Span { began, took }) in &self.spans {
            let (began, took) = (millis(*began), millis(*took));
            table += &format!("{process:<9}  {began:>12}  {took:>12}  {name}\n");
        }
        Some(table)
    }
}

fn millis(time: Duration) -> String {
    format!("{}.{:03} ms", time.as_millis(), time.as_micros() % 1000)
}

/// A metadata event with the name of a process, for viewers.
fn name_of_process(pid: u32, name: &str) -> String {
    let name = Value::from(name);
    format!(
        "{{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":{pid},\"tid\":{pid},\"args\":{{\"name\":{name}}}}}"
    )
}

/// Created readable for its owner only: a command line can contain secrets.
fn open(path: &Path) -> Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(path)?;
    end_of(&file)?;
    Ok(file)
}

/// The position for the next event; None if there is none yet.
fn end_of(file: &File) -> Result<Option<u64>> {
    let about = file.metadata()?;
    ensure!(about.is_file(), "is not a regular file");
    if about.len() == 0 {
        return Ok(None);
    }
    let (mut begin, mut end) = ([0; BEGIN.len()], [0; END.len()]);
    let place = about.len().saturating_sub(END.len() as u64);
    let read = file.read_exact_at(&mut begin, 0).and_then(|()| file.read_exact_at(&mut end, place));
    let is_trace = read.is_ok() && begin == BEGIN.as_bytes() && end == END.as_bytes();
    ensure!(is_trace, "exists and is not a trace of brig's: it is not overwritten");
    Ok(Some(place))
}

/// With a lock, because an engine runs several commands concurrently.
fn append(file: &File, events: &str) -> Result<()> {
    let end = Instant::now() + deadline::LOCK;
    while !fd::try_flock(file.as_fd(), true)? {
        ensure!(Instant::now() < end, "timed out waiting for another process that has locked it");
        std::thread::sleep(Duration::from_millis(5));
    }
    let (place, before) = end_of(file)?.map_or((0, BEGIN), |place| (place, ",\n"));
    Ok(file.write_all_at(format!("{before}{events}{END}").as_bytes(), place)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(began: u64, took: u64) -> Span {
        Span { began: Duration::from_micros(began), took: Duration::from_micros(took) }
    }

    #[test]
    fn times_are_in_milliseconds_and_in_the_order_of_their_beginnings() {
        let mut recording = Recording::open(None, true).unwrap();
        recording.add(CONTAINER, "mounts", span(1500, 12));
        recording.add(BRIG, "plan", span(0, 1500));
        let table = recording.table(Duration::from_micros(2001)).unwrap();
        let lines: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["brig", "0.000", "ms", "1.500", "ms", "plan"]);
        assert_eq!(lines[2], ["container", "1.500", "ms", "0.012", "ms", "mounts"]);
        assert_eq!(lines[3], ["brig", "0.000", "ms", "2.001", "ms", "total"]);
        assert!(Recording::open(None, false).unwrap().table(Duration::ZERO).is_none());
    }

    #[test]
    fn an_event_is_json_whatever_its_name_is() {
        let recording = Recording::open(None, true).unwrap();
        let event = recording.event("a \"b\"\n", span(1, 2), 7, &json!({}));
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!((&event["name"], &event["dur"]), (&json!("a \"b\"\n"), &json!(2.0)));
    }
}
