//! Messages of the D-Bus specification, as bytes: brig's calls, and the parts of the replies that it needs.
//! Input is not trusted: every length is checked before it is used.

use anyhow::{Context, Result, bail, ensure};

/// A value of a type that a unit's property can have.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Text(String),
    Path(String),
    Signature(String),
    /// The signature of its elements, which an empty array has too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl Value {
    /// Its type in the notation of the specification.
    pub fn signature(&self) -> String {
        match self {
            Value::Byte(_) => "y".into(),
            Value::Bool(_) => "b".into(),
            Value::I16(_) => "n".into(),
            Value::U16(_) => "q".into(),
            Value::I32(_) => "i".into(),
            Value::U32(_) => "u".into(),
            Value::I64(_) => "x".into(),
            Value::U64(_) => "t".into(),
            Value::Double(_) => "d".into(),
            Value::Text(_) => "s".into(),
            Value::Path(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Array(of, _) => format!("a{of}"),
            Value::Struct(fields) => {
                format!("({})", fields.iter().map(Value::signature).collect::<String>())
            }
            Value::Variant(_) => "v".into(),
        }
    }

    /// Appends it to a message's body (or header).
    fn put(&self, to: &mut Vec<u8>) {
        match self {
            Value::Byte(byte) => to.push(*byte),
            Value::Bool(yes) => number(to, u32::from(*yes).to_ne_bytes()),
            Value::I16(n) => number(to, n.to_ne_bytes()),
            Value::U16(n) => number(to, n.to_ne_bytes()),
            Value::I32(n) => number(to, n.to_ne_bytes()),
            Value::U32(n) => number(to, n.to_ne_bytes()),
            Value::I64(n) => number(to, n.to_ne_bytes()),
            Value::U64(n) => number(to, n.to_ne_bytes()),
            Value::Double(n) => number(to, n.to_ne_bytes()),
            Value::Text(text) | Value::Path(text) => {
                number(to, length(text.len()));
                to.extend_from_slice(text.as_bytes());
                to.push(0);
            }
            Value::Signature(text) => signature(to, text),
            Value::Array(of, values) => array(to, of, values),
            Value::Struct(fields) => {
                align(to, 8);
                fields.iter().for_each(|field| field.put(to));
            }
            Value::Variant(value) => {
                signature(to, &value.signature());
                value.put(to);
            }
        }
    }
}

/// Lengths beyond the limit of a message are refused by [`Call::bytes`].
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes()
}

fn align(to: &mut Vec<u8>, to_multiple: usize) {
    to.resize(to.len().next_multiple_of(to_multiple), 0);
}

/// Numbers are aligned to their own size.
fn number<const SIZE: usize>(to: &mut Vec<u8>, bytes: [u8; SIZE]) {
    align(to, SIZE);
    to.extend_from_slice(&bytes);
}

fn signature(to: &mut Vec<u8>, text: &str) {
    to.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(text.as_bytes());
    to.push(0);
}

/// The length excludes the padding before the first element, which is present even if there is no element.
fn array(to: &mut Vec<u8>, of: &str, values: &[Value]) {
    number(to, [0; 4]);
    let at = to.len() - 4;
    align(to, alignment(of.as_bytes().first().copied()).unwrap_or(1));
    let start = to.len();
    values.iter().for_each(|value| value.put(to));
    let bytes = length(to.len() - start);
    to[at..at + 4].copy_from_slice(&bytes);
}

fn alignment(kind: Option<u8>) -> Option<usize> {
    Some(match kind? {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h' => 4,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => return None,
    })
}

/// A call of a method of systemd or of the bus.
#[derive(Debug)]
pub struct Call<'a> {
    /// The name on the bus whose method it is.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// Its name.
    pub method: &'a str,
    /// Its arguments.
    pub arguments: &'a [Value],
}

/// The maximum length of a message that systemd sends or accepts.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The fixed beginning of every header: type and lengths.
pub const FIXED: usize = 16;
const CALL: u8 = 1;

impl Call<'_> {
    /// The message with this serial number.
    pub fn bytes(&self, serial: u32) -> Result<Vec<u8>> {
        let mut body = Vec::with_capacity(512);
        self.arguments.iter().for_each(|argument| argument.put(&mut body));
        let signature: String = self.arguments.iter().map(Value::signature).collect();
        ensure!(
            body.len() < MAX_MESSAGE,
            "{}: more than {MAX_MESSAGE} bytes of arguments",
            self.method
        );
        ensure!(signature.len() < 256, "{}: a signature of more than 255 bytes", self.method);
        let endian = if cfg!(target_endian = "little") { b'l' } else { b'B' };
        let mut message = vec![endian, CALL, 0, 1];
        number(&mut message, length(body.len()));
        number(&mut message, serial.to_ne_bytes());
        let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::Variant(value)]);
        let mut fields = vec![
            field(1, Box::new(Value::Path(self.path.to_owned()))),
            field(2, Box::new(self.interface.into())),
            field(3, Box::new(self.method.into())),
            field(6, Box::new(self.destination.into())),
        ];
        if !signature.is_empty() {
            fields.push(field(8, Box::new(Value::Signature(signature))));
        }
        array(&mut message, "(yv)", &fields);
        align(&mut message, 8);
        message.append(&mut body);
        Ok(message)
    }
}

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The result of a call: the call's serial number, and its first string, object path or number, if it
    /// starts with one.
    Reply(u32, String),
    /// A call failed: its serial number, the error's name, and its text.
    Error(u32, String, String),
    /// A systemd job has finished: its object, and its result, `done` on success.
    JobRemoved(String, String),
    /// Not relevant.
    Other,
}

/// The total length of a message, from its first [`FIXED`] bytes.
///
/// # Errors
///
/// If the message is malformed, or longer than [`MAX_MESSAGE`].
pub fn total(fixed: &[u8]) -> Result<usize> {
    let mut read = Reader::new(fixed)?;
    read.at = 4;
    let body = read.length()?;
    read.at = 12;
    let fields = read.length()?;
    Ok((FIXED + fields).next_multiple_of(8) + body)
}

/// Parses a whole message.
pub fn parse(bytes: &[u8]) -> Result<Message> {
    let mut read = Reader::new(bytes)?;
    let kind = *bytes.get(1).context("cut short")?;
    read.at = 12;
    let end = read.length()? + FIXED;
    let (mut member, mut error, mut signature, mut replies_to) =
        (String::new(), String::new(), String::new(), None);
    while read.at < end {
        read.align(8)?;
        let code = read.byte()?;
        let typ = read.signature()?;
        match (code, typ.as_str()) {
            (3, "s") => member = read.text()?,
            (4, "s") => error = read.text()?,
            (5, "u") => replies_to = Some(read.number()?),
            (8, "g") => signature = read.signature()?,
            (_, "s" | "o") => drop(read.text()?),
            (_, "g") => drop(read.signature()?),
            (_, "u") => drop(read.number()?),
            (_, other) => bail!("its header has a field of type {other:?}"),
        }
    }
    ensure!(read.at == end, "its header is longer than it says");
    read.align(8)?;
    // The body starts at a multiple of 8.
    Ok(match (kind, replies_to) {
        (2, Some(serial)) => Message::Reply(serial, read.first(&signature)?),
        (3, Some(serial)) => Message::Error(serial, error, read.first(&signature)?),
        (4, _) if member == "JobRemoved" && signature == "uoss" => {
            read.number()?;
            let job = read.text()?;
            read.text()?;
            Message::JobRemoved(job, read.text()?)
        }
        (1..=4, _) => Message::Other,
        (kind, _) => bail!("it has unknown type {kind}"),
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl Reader<'_> {
    fn new(bytes: &[u8]) -> Result<Reader<'_>> {
        let big = match bytes {
            [b'l', _, _, 1, ..] => false,
            [b'B', _, _, 1, ..] => true,
            _ => bail!("not a D-Bus message"),
        };
        Ok(Reader { bytes, at: 0, big })
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let taken = &self.bytes[self.at..end.context("it is cut short")?];
        self.at += length;
        Ok(taken)
    }

    fn align(&mut self, to: usize) -> Result<()> {
        let padding = self.at.next_multiple_of(to) - self.at;
        self.take(padding).map(drop)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32> {
        self.align(4)?;
        let big = self.big;
        let bytes: [u8; 4] = self.take(4)?.try_into()?;
        Ok(if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn length(&mut self) -> Result<usize> {
        let length = usize::try_from(self.number()?)?;
        ensure!(length <= MAX_MESSAGE, "it has a length of {length} bytes");
        Ok(length)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.length()?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<String> {
        let length = self.byte()?;
        self.terminated(length.into())
    }

    fn terminated(&mut self, length: usize) -> Result<String> {
        let text = self.take(length + 1)?;
        let text = text.strip_suffix(&[0]).context("a string in it is not terminated")?;
        Ok(std::str::from_utf8(text).context("a string in it is not UTF-8")?.to_owned())
    }

    /// The first value of the body, if it has one of these types.
    fn first(&mut self, signature: &str) -> Result<String> {
        Ok(match signature.as_bytes() {
            [b's' | b'o', ..] => self.text()?,
            [b'u', ..] => self.number()?.to_string(),
            _ => String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.put(&mut bytes);
        bytes
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn values_are_aligned_as_the_specification_has_it() {
        let pids = Value::Array("u".into(), vec![Value::U32(7)]);
        let property = Value::Struct(vec!["PIDs".into(), Value::Variant(Box::new(pids))]);
        let all = Value::Array("(sv)".into(), vec![property]);
        assert_eq!(all.signature(), "a(sv)");
        let expected = b"\x18\0\0\0\0\0\0\0\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x07\0\0\0";
        assert_eq!(body(&all), expected);
        // An empty array with an alignment of 8 is padded as well.
        assert_eq!(body(&Value::Array("(sa(sv))".into(), vec![])), [0; 8]);
        assert_eq!(body(&Value::Array("s".into(), vec![])), [0; 4]);
    }

    /// A message as systemd would send it.
    fn message(kind: u8, fields: &[(u8, Value)], arguments: &[Value]) -> Vec<u8> {
        let mut body = Vec::new();
        arguments.iter().for_each(|argument| argument.put(&mut body));
        let endian = if cfg!(target_endian = "little") { b'l' } else { b'B' };
        let mut message = vec![endian, kind, 1, 1];
        number(&mut message, length(body.len()));
        number(&mut message, 9_u32.to_ne_bytes());
        let field = |(code, value): &(u8, Value)| {
            Value::Struct(vec![Value::Byte(*code), Value::Variant(Box::new(value.clone()))])
        };
        let signature = arguments.iter().map(Value::signature).collect();
        let mut fields: Vec<Value> = fields.iter().map(field).collect();
        fields.push(field(&(8, Value::Signature(signature))));
        array(&mut message, "(yv)", &fields);
        align(&mut message, 8);
        message.extend(body);
        message
    }

    fn removed() -> Vec<u8> {
        let job = Value::Path("/org/freedesktop/systemd1/job/5".into());
        let fields = [(1, Value::Path("/x".into())), (3, "JobRemoved".into())];
        message(4, &fields, &[Value::U32(5), job, "a.scope".into(), "done".into()])
    }

    #[test]
    fn what_systemd_says_is_understood() {
        let job = "/org/freedesktop/systemd1/job/5".to_owned();
        let reply = message(2, &[(5, Value::U32(3))], &[Value::Path(job.clone())]);
        assert_eq!(total(&reply[..FIXED]).unwrap(), reply.len());
        assert_eq!(parse(&reply).unwrap(), Message::Reply(3, job.clone()));
        let fields = [(5, Value::U32(3)), (4, "a.b.C".into()), (7, ":1.2".into())];
        let error = message(3, &fields, &["no".into()]);
        assert_eq!(parse(&error).unwrap(), Message::Error(3, "a.b.C".into(), "no".into()));
        assert_eq!(parse(&removed()).unwrap(), Message::JobRemoved(job, "done".into()));
        let other = message(4, &[(3, "UnitNew".into())], &["x".into()]);
        assert_eq!(parse(&other).unwrap(), Message::Other);
    }

    #[test]
    fn a_call_is_a_message_itself() {
        let call = Call {
            destination: "a.b",
            path: "/a",
            interface: "a.b.C",
            method: "JobRemoved",
            arguments: &["x".into(), Value::Bool(true)],
        };
        let bytes = call.bytes(1).unwrap();
        assert_eq!(total(&bytes[..FIXED]).unwrap(), bytes.len());
        assert_eq!(parse(&bytes).unwrap(), Message::Other);
    }

    #[test]
    fn no_cut_or_change_of_a_message_makes_the_reader_panic() {
        let good = removed();
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "{length}");
        }
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                let _ = (total(&bad[..FIXED]), parse(&bad));
            }
        }
    }
}
