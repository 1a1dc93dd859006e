//! The position of a value in `config.json`.
//!
//! Only computed for errors and warnings: the text is scanned again to report one. The scanner accepts any
//! input (arbitrary bytes, any depth) and never recurses.

mod warning;

pub use warning::{leading_place, located_warning};

use crate::suggest;
use serde_json::error::Category;
use std::borrow::Cow;
use std::fmt;

/// The default name of the text in messages.
const CONFIG_NAME: &str = "config.json";

/// An error's context: the place in `config.json` that it refers to, e.g. `mounts[3].options[1]`, and after
/// [`At::locate`], line and column. Displays as `mounts[3].options[1] (config.json line 24, column 17)`.
#[derive(Debug)]
pub struct At {
    place: String,
    file: Option<String>,
    position: Option<(usize, usize)>,
}

impl At {
    /// A place without a position.
    pub fn new(place: impl fmt::Display) -> Self {
        At { place: place.to_string(), file: None, position: None }
    }

    /// A place whose file, line and column are known.
    pub fn found(place: &str, (file, line, column): (String, usize, usize)) -> Self {
        let mut at = At::new(place);
        at.name(&file);
        at.position = Some((line, column));
        at
    }

    /// The text is not config.json's but that of `file`, which contains only the part of config.json that
    /// `place` begins with (`process.`).
    pub fn locate_in_part(&mut self, file: String, part: &str, text: &[u8]) {
        if let Some(rest) = self.place.strip_prefix(part) {
            self.place = rest.to_owned();
        }
        self.file = Some(file);
        self.locate(text);
    }

    /// Sets the name of the text's file.
    pub fn name(&mut self, name: &str) {
        if name != CONFIG_NAME {
            self.file = Some(name.to_owned());
        }
    }

    /// The place of the key whose opening quote is at `offset`, with that position.
    pub(super) fn of_key(text: &[u8], offset: usize) -> At {
        let mut steps = path_at(text, offset.saturating_sub(1));
        if let Some(key) = (Cursor { text, at: offset }).string() {
            steps.push(Step::Key(key_text(key)));
        }
        At { place: render(&steps), file: None, position: Some(position(text, offset)) }
    }

    /// The place, without position.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Path, file, and line and column if they are known.
    pub fn position(&self) -> Option<(&str, &str, (usize, usize))> {
        let file = self.file.as_deref().unwrap_or(CONFIG_NAME);
        Some((&self.place, file, self.position?))
    }

    /// Finds line and column of the place in `text`, or of its nearest existing ancestor: only called to
    /// report an error.
    pub fn locate(&mut self, text: &[u8]) {
        // Already known if the text could not be parsed: a search would not find it again.
        self.position.get_or_insert_with(|| position(text, find(text, &parse_place(&self.place))));
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or(CONFIG_NAME);
        match (self.place.as_str(), self.position) {
            (place, None) => f.write_str(place),
            // The place is the whole file.
            ("", Some((line, column))) => write!(f, "{file} line {line}, column {column}"),
            (place, Some((line, column))) => {
                write!(f, "{place} ({file} line {line}, column {column})")
            }
        }
    }
}

/// Adds a place to an error: `parse(option).at("mounts[3].options[1]")?`.
pub trait Place<T> {
    /// Adds the place in `config.json` that the error refers to.
    fn at(self, place: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Place<T> for Result<T, E> {
    fn at(self, place: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| error.into().context(At::new(place)))
    }
}

/// serde's error about `text`, with the place that it refers to instead of the byte up to which serde had
/// read: `mounts[3] (config.json line 24, column 17): missing field "destination"`.
pub fn parse_error(text: &[u8], error: &serde_json::Error) -> anyhow::Error {
    let read_up_to = offset(text, error.line(), error.column());
    let (place, at, words) = match error.classify() {
        Category::Data => {
            let steps = path_at(text, read_up_to);
            (render(&steps), find(text, &steps), plain_words(error))
        }
        Category::Syntax | Category::Eof | Category::Io => {
            (String::new(), read_up_to, plain_words(error))
        }
    };
    let context = At { place, file: None, position: Some(position(text, at)) };
    anyhow::Error::msg(words).context(context)
}

/// Converts an error about a rewritten text: its place in the original.
pub(super) fn relocated(mut error: anyhow::Error, original: &[u8]) -> anyhow::Error {
    if let Some(at) = error.downcast_mut::<At>() {
        at.position = None;
        at.locate(original);
    }
    error
}

/// An error about the value at this offset.
pub(super) fn error_at(text: &[u8], offset: usize, words: String) -> anyhow::Error {
    let position = Some(position(text, offset));
    anyhow::Error::msg(words).context(At { place: String::new(), file: None, position })
}

/// The error about the array at this offset, which is in the place of an object.
pub(super) fn not_an_object(text: &[u8], offset: usize) -> anyhow::Error {
    let steps = offset.checked_sub(1).map(|before| path_at(text, before)).unwrap_or_default();
    let position = Some(position(text, offset));
    anyhow::Error::msg("invalid type: array, expected an object").context(At {
        place: render(&steps),
        file: None,
        position,
    })
}

/// serde's message in terms of JSON instead of Rust, on one line, without its position.
fn plain_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let mut text = text.strip_suffix(&suffix).unwrap_or(&text).to_string();
    for (rust, json) in [
        ("invalid type: map,", "invalid type: object,"),
        ("invalid type: sequence,", "invalid type: array,"),
        ("missing field `", "missing field \""),
        ("duplicate field `", "duplicate field \""),
        ("unknown variant `", "unknown value \""),
    ] {
        if let Some(rest) = text.strip_prefix(rust) {
            text = format!(
                "{json}{}",
                if json.ends_with('"') { rest.replace('`', "\"") } else { rest.into() }
            );
        }
    }
    if let Some((found, expected)) = text.rsplit_once(", expected ") {
        let expected = match expected {
            "a sequence" => "an array",
            "a map" => "an object",
            "path string" => "a path",
            "u8" => "a whole number from 0 to 255",
            "u16" => "a whole number from 0 to 65535",
            "u32" => "a whole number from 0 to 4294967295",
            "u64" | "usize" => "a whole number, not negative",
            "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
            other if other.starts_with("struct ") => "an object",
            other => other,
        };
        text = format!("{found}, expected {expected}");
    }
    if let Some((found, variants)) =
        text.strip_prefix("unknown value \"").and_then(|rest| rest.split_once("\", expected "))
    {
        text.push_str(&suggest::hint(found, variants.split('"').skip(1).step_by(2)));
    }
    // serde quotes the offending text unescaped: a newline in it must not split the message.
    let escape =
        |c: char| if c.is_control() { c.escape_default().collect() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// One step of a path into a value.
#[derive(Debug, PartialEq)]
pub enum Step<'a> {
    /// The value of this key in an object.
    Key(Cow<'a, str>),
    /// The element at this index in an array.
    Index(usize),
}

/// Parses e.g. `mounts[3].options[1]` or `annotations["run.brig.x"]`; stops at anything not in this form.
pub fn parse_place(place: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = place;
    while !rest.is_empty() {
        let Some((step, after)) = parse_step(rest) else { break };
        steps.push(step);
        rest = after;
    }
    steps
}

fn parse_step(text: &str) -> Option<(Step<'_>, &str)> {
    if let Some(quoted) = text.strip_prefix("[\"") {
        let end = closing_quote(quoted.as_bytes())?;
        let key = quoted.get(..end)?;
        let key = match key.contains('\\') {
            true => Cow::Owned(key.replace("\\\"", "\"").replace("\\\\", "\\")),
            false => Cow::Borrowed(key),
        };
        return Some((Step::Key(key), quoted.get(end + 1..)?.strip_prefix(']')?));
    }
    if let Some(number) = text.strip_prefix('[') {
        let (number, rest) = number.split_once(']')?;
        return Some((Step::Index(number.parse().ok()?), rest));
    }
    let name = text.strip_prefix('.').unwrap_or(text);
    // A colon ends the place in a warning; a key that contains one is quoted.
    let end = name.find(['.', '[', ':']).unwrap_or(name.len());
    let (key, rest) = name.split_at(end);
    (!key.is_empty()).then_some((Step::Key(Cow::Borrowed(key)), rest))
}

/// Formats steps in the form that [`parse_place`] reads.
pub fn render(steps: &[Step<'_>]) -> String {
    let mut place = String::new();
    for step in steps {
        match step {
            Step::Index(index) => place.push_str(&format!("[{index}]")),
            Step::Key(key)
                if key.is_empty() || key.contains(|c: char| !c.is_alphanumeric() && c != '_') =>
            {
                place.push_str(&format!("[{key:?}]"));
            }
            Step::Key(key) if place.is_empty() => place.push_str(key),
            Step::Key(key) => place.push_str(&format!(".{key}")),
        }
    }
    place
}

/// The offset in `text` of the value at `steps`, or of its nearest existing ancestor.
fn find(text: &[u8], steps: &[Step<'_>]) -> usize {
    let mut cursor = Cursor { text, at: 0 };
    cursor.space();
    let mut found = cursor.at;
    for step in steps {
        match child(text, found, step) {
            Some(at) => found = at,
            None => break,
        }
    }
    found
}

/// The offset of the child `step` of the value at `at`. The last of duplicate keys; a key in other letter
/// case if there is no exact match.
fn child(text: &[u8], at: usize, step: &Step<'_>) -> Option<usize> {
    let mut cursor = Cursor { text, at };
    let wants = match step {
        Step::Key(_) => b'{',
        Step::Index(_) => b'[',
    };
    if cursor.next()? != wants {
        return None;
    }
    let (mut found, mut folded) = (None, None);
    for index in 0.. {
        cursor.space();
        let hit = match step {
            Step::Index(_) if cursor.peek()? == b']' => break,
            Step::Index(wanted) => *wanted == index,
            Step::Key(wanted) => {
                let Some(key) = cursor.string() else { break };
                cursor.space();
                if cursor.next() != Some(b':') {
                    break;
                }
                cursor.space();
                let key = key_text(key);
                if key.eq_ignore_ascii_case(wanted) {
                    folded = Some(cursor.at);
                }
                key == *wanted
            }
        };
        if hit {
            found = Some(cursor.at);
        }
        cursor.skip_value();
        cursor.space();
        if cursor.next() != Some(b',') {
            break;
        }
    }
    found.or(folded)
}

/// The path of the innermost value that contains byte `offset`, or that is expected there: reads all tokens
/// up to it.
fn path_at(text: &[u8], offset: usize) -> Vec<Step<'_>> {
    let mut cursor = Cursor { text, at: 0 };
    // One entry for each open object or array, with the current member; None before the first.
    let mut open: Vec<(u8, Option<Step<'_>>)> = Vec::new();
    let mut key_next = false;
    loop {
        cursor.space();
        if cursor.at > offset {
            break;
        }
        let Some(byte) = cursor.peek() else { break };
        match (byte, open.last_mut()) {
            (b'"', Some((b'{', member))) if key_next => {
                let Some(key) = cursor.string() else { break };
                *member = Some(Step::Key(key_text(key)));
                key_next = false;
                continue;
            }
            (b',', Some((b'{', member))) => {
                *member = None;
                key_next = true;
            }
            (b',', Some((_, Some(Step::Index(index))))) => *index += 1,
            (b'{', _) => {
                open.push((b'{', None));
                key_next = true;
            }
            (b'[', _) => open.push((b'[', Some(Step::Index(0)))),
            (b'}' | b']', _) => {
                open.pop();
                key_next = false;
            }
            (b',' | b':', _) => {}
            _ => {
                cursor.skip_value();
                continue;
            }
        }
        cursor.at += 1;
    }
    open.into_iter().filter_map(|(_, step)| step).collect()
}

/// A key without its quotes, and its escapes resolved.
fn key_text(raw: &[u8]) -> Cow<'_, str> {
    let plain = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if plain.contains(&b'\\')
        && let Ok(unescaped) = serde_json::from_slice::<String>(raw)
    {
        return Cow::Owned(unescaped);
    }
    String::from_utf8_lossy(plain)
}

/// The offset of the closing quote in the text after the opening one.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Reads a string with its quotes; None, without advancing, if the next token is not a string.
    fn string(&mut self) -> Option<&'a [u8]> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let rest = self.text.get(self.at + 1..)?;
        let start = self.at;
        // An unclosed string extends to the end of the text.
        self.at = start + 1 + closing_quote(rest).map_or(rest.len(), |end| end + 1);
        self.text.get(start..self.at)
    }

    /// Skips one value, or to the end of a broken text; always at least one byte.
    fn skip_value(&mut self) {
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => drop(self.string()),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                _ => self.scalar(),
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips a number, a word, or any other run of bytes between punctuation.
    fn scalar(&mut self) {
        while let Some(byte) = self.peek() {
            if b"\",:[]{} \t\r\n".contains(&byte) {
                return;
            }
            self.at += 1;
        }
    }
}

/// The offset of the last byte that serde had read, from its `line` and `column` (in bytes; column 0: the
/// newline).
fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let newlines =
        text.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
    let start =
        std::iter::once(0).chain(newlines).nth(line.saturating_sub(1)).unwrap_or(text.len());
    start.saturating_add(column).saturating_sub(1).min(text.len().saturating_sub(1))
}

/// Line and column of a byte, both starting at 1; columns count characters, as in editors.
fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let is_character = |byte: &&u8| **byte & 0xc0 != 0x80;
    (line, before.iter().skip(line_start).filter(is_character).count() + 1)
}

#[cfg(test)]
mod tests;
