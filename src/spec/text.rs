//! JSON as text: how long it may be, how deep it may nest.

use super::place::{error_at, parse_error};
use anyhow::{Result, ensure};
use serde::de::DeserializeOwned;
use std::io::Read;

/// Longer texts, in bytes, are no honest ones.
const LONGEST: u64 = 16 << 20;

/// Ten times of what the specification needs.
const MOST: usize = 128;

/// All of a text that is not too long.
pub fn read(from: impl Read) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(32 << 10);
    from.take(LONGEST + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST, "is longer than {} MiB", LONGEST >> 20);
    Ok(text)
}

/// What a text says. Errors know their place in it.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    check(text)?;
    serde_json::from_slice(text).map_err(|error| parse_error(text, &error))
}

/// Refuses a text that nests deeper than any honest one: what brig does not know serde skips, and does
/// not look how deep that is.
fn check(text: &[u8]) -> Result<()> {
    match first_too_deep(text) {
        Some(offset) => {
            Err(error_at(text, offset, format!("nests deeper than {MOST} arrays and objects")))
        }
        None => Ok(()),
    }
}

/// Where the first value begins that is too deep. In a text that is no JSON: anything, serde will say so.
fn first_too_deep(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = end_of_string(text, at + 1),
            b'[' | b'{' => {
                depth += 1;
                if depth > MOST {
                    return Some(at);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quote is that ends a string, which begins here.
fn end_of_string(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
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

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn the_limit_is_exact_and_strings_do_not_count() {
        assert!(check(nested(128).as_bytes()).is_ok());
        let error = check(nested(129).as_bytes()).unwrap_err();
        let said = "config.json line 1, column 129: nests deeper than 128 arrays and objects";
        assert_eq!(format!("{error:#}"), said);
        assert!(check(format!("[\"{}\\\"[\"]", nested(500)).as_bytes()).is_ok());
        assert!(check(format!("[{}1]", "[1],".repeat(500)).as_bytes()).is_ok());
        for broken in ["\"", "\"\\", "]]]]", "{\"a\\"] {
            assert!(check(broken.as_bytes()).is_ok());
        }
    }
}
