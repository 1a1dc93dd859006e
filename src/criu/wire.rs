//! Protocol Buffers, as far as CRIU's messages need them: integers and length-delimited fields. Implemented
//! here because it is small: 130 lines with its tests, where a crate would add 28 KB of binary and a code generator.

use anyhow::{Context, Result, bail};

/// A message being written.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(Vec<u8>);

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Any integer type, or a boolean.
    Number(u64),
    /// A string, or an embedded message.
    Bytes(&'a [u8]),
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    /// Adds an integer. A negative one takes ten bytes, as the format requires.
    pub(super) fn number(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3 | VARINT);
        self.varint(value.cast_unsigned());
        self
    }

    /// Adds a boolean; an absent one means false.
    pub(super) fn flag(self, field: u32, set: bool) -> Self {
        if set { self.number(field, 1) } else { self }
    }

    /// Adds a string.
    pub(super) fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds an embedded message.
    pub(super) fn message(self, field: u32, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// The encoded message.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The fields of a message, in the order of the encoding.
///
/// # Errors
///
/// If the bytes are truncated or not a message.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = u32::try_from(tag >> 3).context("a field's number is too large")?;
        let value = match tag & 7 {
            VARINT => Value::Number(varint(&mut bytes)?),
            LENGTH => {
                let length = usize::try_from(varint(&mut bytes)?)?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            FIXED_64 => Value::Bytes(take(&mut bytes, 8)?),
            FIXED_32 => Value::Bytes(take(&mut bytes, 4)?),
            other => bail!("field {field} is of type {other}"),
        };
        found.push((field, value));
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take(bytes, 1)? else { break };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number is too long")
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).context("is cut")?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let inner = Message::default().number(1, 300).number(2, -1);
        let message = Message::default().flag(3, true).flag(4, false).bytes(25, b"a");
        let message = message.message(16, &inner);
        assert_eq!(message.encoded()[..5], [0x18, 1, 0xca, 1, 1]);
        let read = fields(message.encoded()).unwrap();
        assert_eq!(read[..2], [(3, Value::Number(1)), (25, Value::Bytes(b"a"))]);
        let (16, Value::Bytes(inner)) = read[2] else { panic!("{read:?}") };
        let minus_one = Value::Number(u64::MAX);
        assert_eq!(fields(inner).unwrap(), [(1, Value::Number(300)), (2, minus_one)]);
    }

    #[test]
    fn what_is_cut_is_an_error() {
        for bytes in [&[0x18][..], &[0x12, 2, 0], &[0x80; 11], &[0x0b], &[0x0d, 0]] {
            assert!(fields(bytes).is_err(), "{bytes:?}");
        }
    }
}
