//! JSON as text: limits of its length and nesting depth.

use super::place::{At, error_at, located_warning, not_an_object, parse_error, relocated};
use super::rewrite::{rewrite, tolerated};
use super::shape::{Found, Shape, walk};
use anyhow::{Result, ensure};
use serde::de::DeserializeOwned;
use std::io::Read;

/// The maximum length of a text, in bytes.
const MAX_LENGTH: u64 = 16 << 20;

/// The maximum nesting depth of arrays and objects: ten times what the specification needs.
const MAX_DEPTH: usize = 128;

/// Reads a text within the length limit.
///
/// # Errors
///
/// If the text is longer than the limit.
pub fn read(from: impl Read) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(32 << 10);
    from.take(MAX_LENGTH + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= MAX_LENGTH, "is longer than {} MiB", MAX_LENGTH >> 20);
    Ok(text)
}

/// A JSON text with its name and shape.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    /// The file's name in messages.
    pub name: &'a str,
    /// The expected contents.
    pub shape: &'static Shape,
    /// The complete text.
    pub text: &'a [u8],
}

/// A problem with a key.
#[derive(Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// Not a key of the object, whose keys are these.
    Unknown(Vec<&'static str>),
    /// It is read as this key, which differs in letter case.
    OtherCase(&'static str),
    /// A duplicate.
    Again,
}

/// A [`Document`] that owns its text.
pub struct Owned {
    /// See [`Document`].
    pub name: String,
    /// See [`Document`].
    pub shape: &'static Shape,
    /// See [`Document`].
    pub text: Vec<u8>,
}

impl Owned {
    /// Borrows it.
    pub fn document(&self) -> Document<'_> {
        Document { name: &self.name, shape: self.shape, text: &self.text }
    }
}

impl Document<'_> {
    /// Parses the text, and returns the rewritten text if that was necessary: keys in other letter case are
    /// accepted with a warning; of duplicate keys the last value counts, and objects are merged; a `null` is
    /// the same as no value. Errors contain their place in the text.
    ///
    /// # Errors
    ///
    /// If the text is not JSON, nested too deeply, or a value has a wrong type; with its position.
    pub fn parse<T: DeserializeOwned>(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(T, Option<Vec<u8>>)> {
        self.read(warnings).map_err(|mut error| {
            if let Some(at) = error.downcast_mut::<At>() {
                at.name(self.name);
            }
            error
        })
    }

    fn read<T: DeserializeOwned>(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(T, Option<Vec<u8>>)> {
        let done = self.read_strictly(warnings);
        let Some(text) = done.is_err().then(|| tolerated(self.text)).flatten() else {
            return done;
        };
        let (value, rewritten) = Document { text: &text, ..*self }.read_strictly(warnings)?;
        Ok((value, rewritten.or(Some(text))))
    }

    fn read_strictly<T: DeserializeOwned>(
        &self,
        warnings: &mut Vec<String>,
    ) -> Result<(T, Option<Vec<u8>>)> {
        let (mut again, mut other_case, mut array) = (false, Vec::new(), None);
        let too_deep = walk(self.text, self.shape, MAX_DEPTH, &mut |at, found| match found {
            Found::Unknown(_) => {}
            Found::Again => again = true,
            Found::OtherCase(known) => other_case.push((at, known)),
            Found::Array => drop(array.get_or_insert(at)),
        });
        // serde skips unknown values without limiting their depth.
        if let Some(offset) = too_deep {
            let text = format!("nests deeper than {MAX_DEPTH} arrays and objects");
            return Err(error_at(self.text, offset, text));
        }
        if let Some(offset) = array {
            return Err(not_an_object(self.text, offset));
        }
        let parsed =
            |text: &[u8]| serde_json::from_slice(text).map_err(|error| parse_error(text, &error));
        if !again && other_case.is_empty() {
            match parsed(self.text) {
                Ok(value) => return Ok((value, None)),
                // A decoder in Go accepts null for a value of any type.
                Err(_) if self.text.windows(4).any(|word| word == b"null") => {}
                Err(error) => return Err(error),
            }
        }
        let text =
            rewrite(self.text, self.shape).map_err(|error| parse_error(self.text, &error))?;
        let value = parsed(&text).map_err(|error| relocated(error, self.text))?;
        warnings.extend(other_case.into_iter().map(|(at, known)| {
            format!(
                "{}: interpreted as {known:?}, although keys are case-sensitive",
                self.place(at)
            )
        }));
        Ok((value, Some(text)))
    }

    /// Adds line and column to an error that contains its place in the text.
    pub fn located(&self, mut error: anyhow::Error) -> anyhow::Error {
        if let Some(at) = error.downcast_mut::<At>() {
            at.name(self.name);
            at.locate(self.text);
        }
        error
    }

    /// The file, line and column of a place.
    pub fn position_of(&self, place: &str) -> Option<(String, usize, usize)> {
        let mut at = At::new(place);
        at.name(self.name);
        at.locate(self.text);
        let (_, file, (line, column)) = at.position()?;
        Some((file.to_owned(), line, column))
    }

    /// Adds line and column to a warning that begins with its place in the text.
    pub fn located_warning(&self, warning: &str) -> String {
        located_warning(warning, |at| {
            at.name(self.name);
            at.locate(self.text);
        })
    }

    /// The keys that brig does not know and therefore ignores, one line with its place for each.
    pub fn unknown_keys(&self) -> Vec<String> {
        let unknown = |(at, fault)| match fault {
            KeyFault::Unknown(_) => Some(format!("{at}: unknown key, ignored")),
            KeyFault::OtherCase(_) | KeyFault::Again => None,
        };
        self.key_faults().into_iter().filter_map(unknown).collect()
    }

    /// The keys that are unknown, in other letter case, or duplicates.
    pub fn key_faults(&self) -> Vec<(At, KeyFault)> {
        let mut found = Vec::new();
        walk(self.text, self.shape, MAX_DEPTH, &mut |at, what| {
            let fault = match what {
                Found::Unknown(object) => KeyFault::Unknown(object.keys()),
                Found::OtherCase(known) => KeyFault::OtherCase(known),
                Found::Again => KeyFault::Again,
                // An error of its own when the text is parsed.
                Found::Array => return,
            };
            found.push((self.place(at), fault));
        });
        found
    }

    /// The place of the key at `offset`.
    fn place(&self, offset: usize) -> At {
        let mut at = At::of_key(self.text, offset);
        at.name(self.name);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_text_has_sixteen_mebibytes() {
        let read_up = |bytes: u64| read(std::io::repeat(b' ').take(bytes)).map(|text| text.len());
        assert_eq!(read_up(16 << 20).unwrap(), 16 << 20);
        assert_eq!(read_up((16 << 20) + 1).unwrap_err().to_string(), "is longer than 16 MiB");
    }

    #[test]
    fn lone_surrogates_and_negative_zeros_are_read_as_in_go() {
        let read = |text: &str| read_value(text).map_err(|error| format!("{error:#}"));
        let done = read(
            r#"{"a": ["\udcff", "\ud800x", "\uD83D\uDE00", "\\\udcff\ud83d\ud83d\ude00", -0]}"#,
        );
        let expected = serde_json::json!({"a": ["\u{fffd}", "\u{fffd}x", "\u{1f600}", "\\\u{fffd}\u{fffd}\u{1f600}", 0]});
        assert_eq!(done, Ok(expected));
        for broken in [r#"{"a": "\udcff"#, r#"{"a": "\udc"}"#, r#"{"a": "\ud800"#, "{\"a\": -0"] {
            assert!(read(broken).is_err(), "{broken}");
        }
    }

    fn read_value(text: &str) -> Result<serde_json::Value> {
        let (text, shape) = (text.as_bytes(), &Shape::Any);
        Ok(Document { name: "config.json", shape, text }.parse(&mut Vec::new())?.0)
    }

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    fn read_text(text: &str) -> Result<(serde::de::IgnoredAny, Option<Vec<u8>>)> {
        let (text, shape) = (text.as_bytes(), &Shape::Any);
        Document { name: "config.json", shape, text }.parse(&mut Vec::new())
    }

    #[test]
    fn an_array_instead_of_an_object_is_told_as_such() {
        for (text, place) in [
            ("[]", "config.json line 1, column 1"),
            ("{\"linux\": [1]}", "linux (config.json line 1, column 11)"),
            ("{\"hooks\":\n[[]]}", "hooks (config.json line 2, column 1)"),
            ("{\"mounts\": [[\"/a\"]]}", "mounts[0] (config.json line 1, column 13)"),
            (
                "{\"process\": {\"capabilities\": [\"CAP_KILL\"]}}",
                "process.capabilities (config.json line 1, column 30)",
            ),
        ] {
            let (bytes, shape) = (text.as_bytes(), super::super::shape::CONFIG);
            let document = Document { name: "config.json", shape, text: bytes };
            let error = document.parse::<serde_json::Value>(&mut Vec::new()).unwrap_err();
            let expected = format!("{place}: invalid type: array, expected an object");
            assert_eq!(format!("{error:#}"), expected, "{text}");
        }
    }

    #[test]
    fn the_limit_is_exact_and_strings_do_not_count() {
        assert!(read_text(&nested(128)).is_ok());
        let error = read_text(&nested(129)).unwrap_err();
        let said = "config.json line 1, column 129: nests deeper than 128 arrays and objects";
        assert_eq!(format!("{error:#}"), said);
        assert!(read_text(&format!("[\"{}\\\"[\"]", nested(500))).is_ok());
        assert!(read_text(&format!("[{}1]", "[1],".repeat(500))).is_ok());
        for broken in ["\"", "\"\\", "]]]]", "{\"a\\"] {
            assert!(read_text(broken).is_err());
        }
    }

    #[test]
    fn keys_in_other_case_are_warned_of_with_their_place() {
        let text = b"{\"HostName\": \"a\",\n \"linux\": {\"maskedpaths\": [], \"maskedPath\": 1}}";
        let source = Document { name: "other.json", shape: super::super::shape::CONFIG, text };
        let mut warnings = Vec::new();
        let (spec, rewritten) = source.parse::<serde_json::Value>(&mut warnings).unwrap();
        assert_eq!(spec["hostname"], "a");
        assert!(rewritten.is_some());
        assert_eq!(
            warnings,
            [
                "HostName (other.json line 1, column 2): interpreted as \"hostname\", although keys are case-sensitive",
                "linux.maskedpaths (other.json line 2, column 12): interpreted as \"maskedPaths\", although keys are case-sensitive"
            ]
        );
        assert_eq!(
            source.unknown_keys(),
            ["linux.maskedPath (other.json line 2, column 31): unknown key, ignored"]
        );
    }

    #[test]
    fn what_is_wrong_in_a_rewritten_text_is_located_in_the_original() {
        let text = b"{\"ociVersion\": \"1.0.2\",\n\"HOSTNAME\": 5}";
        let source = Document { name: "config.json", shape: super::super::shape::CONFIG, text };
        let error = source.parse::<super::super::Spec>(&mut Vec::new()).unwrap_err();
        let said = "hostname (config.json line 2, column 13): invalid type: integer `5`, expected a string";
        assert_eq!(format!("{error:#}"), said);
    }
}
