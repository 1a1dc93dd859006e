//! Everything brig prints besides results: the final error, warnings and debug messages; to stderr, and to
//! `--log` if given.
//!
//! podman expects the log of a failed command to be exactly one JSON object, and stdout and stderr of
//! `create` belong to the container: so warnings are buffered until the command has succeeded or failed.

use crate::phases::{Phases, Span};
use crate::trace::{BRIG, CONTAINER, Recording};
use anyhow::{Context, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// The log format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=error msg="…"`.
    #[default]
    Text,
    /// One JSON object per line: level, msg, time.
    Json,
}

/// The log level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only the error that brig exits with.
    Error,
    /// Also warnings: something differs from the config.
    #[default]
    Warning,
    /// Also debug messages.
    Debug,
}

/// The destination of `--log`.
#[derive(Debug)]
enum Sink {
    File(File),
    /// The socket of syslog(3), and the name to log under.
    Syslog(UnixDatagram, String),
    /// journald's native socket (systemd.journal-fields(7)).
    Journal(UnixDatagram, String),
}

impl Sink {
    /// A file, or as in crun `file:PATH`, `syslog:NAME`, `journald:NAME`.
    fn open(to: &Path) -> Result<Sink> {
        let text = to.to_string_lossy();
        let socket = |path: &str| -> Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path).with_context(|| format!("connect({path})"))?;
            Ok(socket)
        };
        let named = |name: &str| if name.is_empty() { "brig" } else { name }.to_owned();
        if let Some(name) = text.strip_prefix("syslog:") {
            return Ok(Sink::Syslog(socket("/dev/log")?, named(name)));
        }
        if let Some(name) = text.strip_prefix("journald:") {
            return Ok(Sink::Journal(socket("/run/systemd/journal/socket")?, named(name)));
        }
        let bytes = to.as_os_str().as_bytes();
        let path = OsStr::from_bytes(bytes.strip_prefix(b"file:").unwrap_or(bytes));
        Ok(Sink::File(File::options().append(true).create(true).open(path)?))
    }
}

/// The logger.
#[derive(Debug, Default)]
pub struct Log {
    sink: Option<Sink>,
    format: Format,
    level: Level,
    warnings: Vec<String>,
    phases: Phases,
    /// When the container's process was cloned; its phases are counted from there.
    cloned: Duration,
    /// When the last phase that it reported ended.
    childs_last: Duration,
    /// For `--trace` and `--timings`.
    recording: Option<Box<Recording>>,
    /// The command, and its container.
    about: Vec<(&'static str, Value)>,
}

impl Log {
    /// Opens `--log`.
    pub fn open(to: Option<&Path>, format: Format, level: Level) -> Result<Log> {
        let open = |to: &Path| Sink::open(to).with_context(|| format!("--log {}", to.display()));
        let sink = to.map(open).transpose()?;
        let phases = if level == Level::Debug { Phases::recording() } else { Phases::default() };
        Ok(Log { sink, format, level, phases, ..Log::default() })
    }

    /// Records the phases for `--trace` and `--timings`, if given.
    ///
    /// # Errors
    ///
    /// If the file of `--trace` cannot be written.
    pub fn record(&mut self, trace: Option<&Path>, timings: bool) -> Result<()> {
        if trace.is_none() && !timings {
            return Ok(());
        }
        let about = || format!("--trace {}", trace.unwrap_or(Path::new("")).display());
        self.recording = Some(Box::new(Recording::open(trace, timings).with_context(about)?));
        self.phases = Phases::recording();
        Ok(())
    }

    /// Sets the command and container of an error in the JSON log.
    pub fn is_about(&mut self, command: &'static str, container: Option<&str>) {
        self.about = vec![("command", command.into())];
        self.about.extend(container.map(|id| ("container", id.into())));
    }

    /// Warns that something in the config will not take effect, while the command continues. Each warning is
    /// shown once.
    pub fn warn(&mut self, text: &str) {
        if self.level >= Level::Warning && !self.warnings.iter().any(|said| said == text) {
            self.warnings.push(text.to_owned());
        }
    }

    /// Whether debug messages are shown.
    pub fn debugs(&self) -> bool {
        self.level == Level::Debug
    }

    /// Only shown with `--debug`.
    pub fn debug(&mut self, text: fmt::Arguments<'_>) {
        if self.level == Level::Debug {
            self.write_line("debug", &text.to_string());
        }
    }

    /// The same for several messages, which are only made with `--debug`.
    pub fn debug_each(&mut self, texts: impl FnOnce() -> Vec<String>) {
        if self.debugs() {
            texts().iter().for_each(|text| self.debug(format_args!("{text}")));
        }
    }

    /// Ends the current phase and begins the next. Reads no clock without `--debug`, `--trace` or
    /// `--timings`.
    pub fn phase(&mut self, name: &str) {
        if let Some(span) = self.phases.end() {
            self.write_phase(BRIG, name, span);
        }
    }

    /// Records that the container's process exists.
    pub fn cloned(&mut self, pid: i32) {
        if let Some(recording) = &mut self.recording {
            recording.cloned(pid);
        }
        self.debug(format_args!("made: process {pid}"));
    }

    /// The recorder for the process that is cloned at the beginning of the current phase.
    pub fn phases_of_child(&mut self) -> Phases {
        let Some(began) = self.phases.began() else { return Phases::default() };
        (self.cloned, self.childs_last) = (began, began);
        Phases::recording()
    }

    /// Adds a phase of that process, as packed by [`Span::pack`].
    pub fn phase_of_child(&mut self, packed: &str) {
        if let Some((span, name)) = Span::unpack(packed) {
            let began = self.cloned + span.began;
            self.childs_last = began + span.took;
            self.write_phase(CONTAINER, &one_line(name), Span { began, ..span });
        }
    }

    /// Records that the process is ready. It cannot report its last phase itself, because of its filter.
    pub fn child_is_ready(&mut self) {
        if let Some(now) = self.phases.elapsed() {
            let (began, took) = (self.childs_last, now.saturating_sub(self.childs_last));
            self.write_phase(CONTAINER, "ids, capabilities and filter", Span { began, took });
        }
    }

    fn write_phase(&mut self, process: &'static str, name: &str, span: Span) {
        if let Some(recording) = &mut self.recording {
            recording.add(process, name, span);
        }
        if self.debugs() {
            self.debug_phase(process, name, span);
        }
    }

    fn debug_phase(&mut self, process: &str, name: &str, Span { began, took }: Span) {
        let (from, micros) = (began.as_micros(), took.as_micros());
        let text = format!("phase of {process}: {name}: at {from} us, took {micros} us");
        let keys = [
            ("process", process.into()),
            ("phase", name.into()),
            ("beganMicros", u64::try_from(from).unwrap_or(u64::MAX).into()),
            ("tookMicros", u64::try_from(micros).unwrap_or(u64::MAX).into()),
        ];
        self.write_with("debug", &text, &keys);
    }

    /// Writes the trace, and shows the timings.
    fn end_recording(&mut self) {
        let Some(recording) = self.recording.take() else { return };
        let took = self.phases.elapsed().unwrap_or_default();
        let words: Vec<_> = self.about.iter().filter_map(|(_, value)| value.as_str()).collect();
        if let Err(error) = recording.write(&words.join(" "), took) {
            self.warn(&format!("--trace: {}", sys::describe(&error)));
        }
        if let Some(table) = recording.table(took) {
            err(table.as_bytes());
        }
    }

    /// The command has succeeded: shows the buffered warnings.
    pub fn finish(&mut self) {
        self.end_recording();
        for warning in std::mem::take(&mut self.warnings) {
            self.write_line("warning", &warning);
        }
    }

    /// The command has failed: the log gets the error and nothing else. Error and warnings also go to stderr,
    /// in case the log cannot be written; as JSON only if there is no other log, as in runc.
    pub fn fail(&mut self, error: &anyhow::Error) {
        if self.recording.is_some() {
            self.phase("until it failed");
            self.end_recording();
        }
        let text = one_line(&sys::describe(error));
        if self.sink.is_some() || self.format == Format::Json {
            let mut keys = crate::fault::keys(error);
            keys.append(&mut self.about);
            self.write_with("error", &text, &keys);
        }
        if self.sink.is_some() {
            (self.sink, self.format) = (None, Format::Text);
        }
        if self.format == Format::Text {
            err(format!("brig: error: {text}\n").as_bytes());
        }
        self.finish();
    }

    fn write_line(&mut self, level: &str, text: &str) {
        self.write_with(level, text, &[]);
    }

    fn write_with(&mut self, level: &str, text: &str, keys: &[(&str, Value)]) {
        let text = one_line(text);
        let json = || {
            let keys: String =
                keys.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
            let (msg, time) = (Value::from(text.as_str()), sys::time::now());
            format!("{{\"level\":\"{level}\",\"msg\":{msg},\"time\":\"{time}\"{keys}}}\n")
        };
        let pid = std::process::id();
        let priority = match level {
            "error" => 3,
            "warning" => 4,
            _ => 7,
        };
        // A log that cannot be written cannot be reported anywhere either.
        match (&mut self.sink, self.format) {
            (None, Format::Text) => err(format!("brig: {level}: {text}\n").as_bytes()),
            (None, Format::Json) => err(json().as_bytes()),
            (Some(Sink::File(file)), Format::Text) => {
                let line = format!("time=\"{}\" level={level} msg={text:?}\n", sys::time::now());
                deliver(|| file.write_all(line.as_bytes()));
            }
            (Some(Sink::File(file)), Format::Json) => deliver(|| file.write_all(json().as_bytes())),
            // 24: facility "daemon".
            (Some(Sink::Syslog(socket, name)), _) => {
                let line = format!("<{}>{name}[{pid}]: {text}", 24 + priority);
                drop(socket.send(line.as_bytes()));
            }
            (Some(Sink::Journal(socket, name)), _) => {
                let fields =
                    format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={name}\nMESSAGE={text}\n");
                drop(socket.send(fields.as_bytes()));
            }
        }
    }
}

/// Writes a result to stdout. EPIPE is not an error: the reader has closed its end.
pub fn out(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("write to stdout"),
    }
}

fn err(bytes: &[u8]) {
    deliver(|| std::io::stderr().write_all(bytes));
}

/// Writes a message, which is lost if nobody reads it. Whatever fails, the command goes on.
fn deliver(write: impl FnOnce() -> std::io::Result<()>) {
    let _ = sys::signal::without_sigpipe(write);
}

/// One line of printable text, whatever names it contains: no C0 or C1 control characters, and no characters
/// that change the direction of text or break lines (CWE-150, CVE-2021-42574).
pub fn one_line(text: &str) -> String {
    let text = text.trim_end();
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unprintable(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// JSON with the same characters escaped, as those below 32 already are. They occur in strings only.
pub fn printable_json(text: &str) -> Cow<'_, str> {
    // Usually there are none: characters below 32 are escaped already, or are newlines.
    if text.is_ascii() && !text.contains('\x7f') {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => printable.push(c),
            c if is_unprintable(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    printable.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => printable.push(c),
        }
    }
    Cow::Owned(printable)
}

fn is_unprintable(c: char) -> bool {
    if matches!(c, ' '..='~') {
        return false;
    }
    // Directional marks, embeddings, overrides and isolates; line and paragraph separators; invisible
    // characters.
    let turns = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    c.is_control()
        || turns
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Reports a bug (panic) in one line; never aborts, which in a PID 1 would look like a SIGSEGV.
pub fn panic(info: &std::panic::PanicHookInfo<'_>) {
    err(format!("brig: error: internal, please report it: {}\n", one_line(&info.to_string()))
        .as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        assert_eq!(one_line("a\nb\x1b[1m\n"), "a\\nb\\u{1b}[1m");
        assert_eq!(
            one_line("\x7f\u{9b}2J\u{202e}\u{2066}é"),
            "\\u{7f}\\u{9b}2J\\u{202e}\\u{2066}é"
        );
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({"a\u{9b}": "\x1b\x7f\u{202e}\u{e0041}é\u{1f600}"});
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let text = printable_json(&pretty);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        assert!(text.chars().all(|c| c == '\n' || !is_unprintable(c)), "{text:?}");
    }
}
