//! Values of properties in GLib's text format for GVariant: `uint64 5`, `'text'`, `['a', 'b']`, `@as []`, as
//! in the annotations `org.systemd.property.NAME`.

use super::wire::Value;
use anyhow::{Context, Result, bail, ensure};

/// The maximum nesting depth: no property of systemd is deeper.
const MAX_DEPTH: usize = 8;

/// Parses all of `text`.
///
/// # Errors
///
/// If the text is not a value of a supported type, or is nested too deeply.
pub fn parse(text: &str) -> Result<Value> {
    let mut text = Text { rest: text, depth: 0 };
    let value = text.value(None)?;
    text.skip_space();
    ensure!(text.rest.is_empty(), "{:?} follows after the end of the value", text.rest);
    Ok(value)
}

struct Text<'a> {
    rest: &'a str,
    depth: usize,
}

/// Type names that can precede a value, and their signatures.
const WORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

impl Text<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, what: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// The next value; of this type, if it is known.
    fn value(&mut self, typ: Option<&str>) -> Result<Value> {
        self.skip_space();
        self.depth += 1;
        ensure!(self.depth <= MAX_DEPTH, "is nested too deeply");
        let first = self.rest.chars().next().context("a value is missing")?;
        let value = match first {
            '[' => self.array(typ)?,
            '(' => self.tuple(typ)?,
            '<' => {
                self.eat('<');
                let value = self.value(None)?;
                ensure!(self.eat('>'), "a > is missing");
                Value::Variant(Box::new(value))
            }
            '\'' | '"' => text_as(self.quoted(first)?, typ)?,
            'b' if self.rest[1..].starts_with(['\'', '"']) => {
                self.eat('b');
                let quote = self.rest.chars().next().unwrap_or_default();
                let mut bytes = self.quoted(quote)?.into_bytes();
                bytes.push(0);
                Value::Array("y".into(), bytes.into_iter().map(Value::Byte).collect())
            }
            '@' => {
                let (typ, rest) = self.rest[1..].split_once(' ').context("a value is missing")?;
                ensure!(typ.len() <= 255 && complete(typ) == Some(""), "@{typ} is not a type");
                self.rest = rest;
                return self.typed(typ);
            }
            '{' => bail!("is a dictionary, which no property of a unit accepts"),
            _ => {
                let word = self.word();
                if let Some((_, typ)) = WORDS.iter().find(|(name, _)| *name == word) {
                    return self.typed(typ);
                }
                plain(word, typ)?
            }
        };
        self.depth -= 1;
        if let Some(typ) = typ {
            let is = value.signature();
            ensure!(is == typ, "is of type {is:?}, not {typ:?}");
        }
        Ok(value)
    }

    fn typed(&mut self, typ: &str) -> Result<Value> {
        self.depth -= 1;
        self.value(Some(typ))
    }

    /// The text up to a space or a character that ends a value.
    fn word(&mut self) -> &str {
        let end = self.rest.find(|c: char| c.is_whitespace() || "[],<>'\"()".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn quoted(&mut self, quote: char) -> Result<String> {
        self.eat(quote);
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next().context("a string is not terminated")? {
                c if c == quote => break,
                '\\' => text.push(match chars.next().context("a string is not terminated")? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    c @ ('\\' | '\'' | '"') => c,
                    c => bail!("\\{c}: no such character"),
                }),
                '\0' => bail!("a text has no NUL in it"),
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    fn array(&mut self, typ: Option<&str>) -> Result<Value> {
        self.eat('[');
        let mut of = typ.and_then(|typ| typ.strip_prefix('a')).map(str::to_owned);
        let mut values = Vec::new();
        while !self.eat(']') {
            ensure!(values.is_empty() || self.eat(','), "a comma is missing");
            let value = self.value(of.as_deref())?;
            of.get_or_insert_with(|| value.signature());
            values.push(value);
        }
        let of = of.context("an empty array needs its type before it: @as []")?;
        Ok(Value::Array(of, values))
    }

    fn tuple(&mut self, typ: Option<&str>) -> Result<Value> {
        self.eat('(');
        let mut types =
            typ.and_then(|typ| typ.strip_prefix('(')).and_then(|typ| typ.strip_suffix(')'));
        let mut values = Vec::new();
        while !self.eat(')') {
            ensure!(values.is_empty() || self.eat(','), "a comma is missing");
            if !values.is_empty() && self.eat(')') {
                break;
            }
            let (first, rest) = match types.map(|types| (types, complete(types))) {
                Some((types, Some(rest))) => (Some(&types[..types.len() - rest.len()]), Some(rest)),
                Some((_, None)) => bail!("has more values than its type"),
                None => (None, None),
            };
            types = rest;
            values.push(self.value(first)?);
        }
        ensure!(types.is_none_or(str::is_empty), "has fewer values than its type");
        ensure!(!values.is_empty(), "an empty tuple is not a property");
        Ok(Value::Struct(values))
    }
}

/// The rest of a list of types after the first.
fn complete(types: &str) -> Option<&str> {
    let mut chars = types.chars();
    match chars.next()? {
        'y' | 'b' | 'n' | 'q' | 'i' | 'u' | 'x' | 't' | 'd' | 's' | 'o' | 'g' | 'v' => {
            Some(chars.as_str())
        }
        'a' => complete(chars.as_str()),
        '(' => {
            let mut rest = complete(chars.as_str())?;
            loop {
                match rest.strip_prefix(')') {
                    Some(rest) => return Some(rest),
                    None => rest = complete(rest)?,
                }
            }
        }
        _ => None,
    }
}

fn text_as(text: String, typ: Option<&str>) -> Result<Value> {
    Ok(match typ {
        None | Some("s") => Value::Text(text),
        Some("o") => Value::Path(text),
        Some("g") => Value::Signature(text),
        Some(typ) => bail!("{text:?} is a text, and not of type {typ:?}"),
    })
}

/// A number or a boolean. A number without a type is an int32, or a double if it looks like one.
fn plain(word: &str, typ: Option<&str>) -> Result<Value> {
    let wrong = || format!("{word:?} is not a value of type {:?}", typ.unwrap_or("i"));
    let integer = || -> Result<i128> {
        let (negative, digits) = match word.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        let sound = |byte: u8| byte.is_ascii_hexdigit() || byte == b'x';
        ensure!(
            digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(sound),
            wrong()
        );
        let value = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
            (Some(hex), _) => i128::from_str_radix(hex, 16),
            (_, Some(octal)) if !octal.is_empty() => i128::from_str_radix(octal, 8),
            _ => digits.parse(),
        };
        let value = value.ok().with_context(wrong)?;
        Ok(if negative { -value } else { value })
    };
    let float = word.contains('.') || !word.starts_with("0x") && word.contains(['e', 'E']);
    let typ = match (typ, word) {
        (Some(typ), _) => typ,
        (None, "true" | "false") => "b",
        (None, _) if float => "d",
        (None, _) => "i",
    };
    Ok(match typ {
        "b" if word == "true" => Value::Bool(true),
        "b" if word == "false" => Value::Bool(false),
        "y" => Value::Byte(integer()?.try_into().with_context(wrong)?),
        "n" => Value::I16(integer()?.try_into().with_context(wrong)?),
        "q" => Value::U16(integer()?.try_into().with_context(wrong)?),
        "i" => Value::I32(integer()?.try_into().with_context(wrong)?),
        "u" => Value::U32(integer()?.try_into().with_context(wrong)?),
        "x" => Value::I64(integer()?.try_into().with_context(wrong)?),
        "t" => Value::U64(integer()?.try_into().with_context(wrong)?),
        "d" => Value::Double(
            word.parse().ok().filter(|number: &f64| number.is_finite()).with_context(wrong)?,
        ),
        _ => bail!(wrong()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Value {
        Value::Array("s".into(), texts.iter().map(|&text| text.into()).collect())
    }

    #[test]
    fn values_are_read_as_glib_writes_them() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("5", Value::I32(5)),
            (" -5 ", Value::I32(-5)),
            ("0x10", Value::I32(16)),
            ("010", Value::I32(8)),
            ("1.5", Value::Double(1.5)),
            ("double 1", Value::Double(1.0)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("@t 7", Value::U64(7)),
            ("byte 0xff", Value::Byte(255)),
            ("'it\\'s'", "it's".into()),
            ("\"a b\"", "a b".into()),
            ("objectpath '/a'", Value::Path("/a".into())),
            ("['a', \"b\"]", texts(&["a", "b"])),
            ("@as []", texts(&[])),
            ("b'a'", Value::Array("y".into(), vec![Value::Byte(97), Value::Byte(0)])),
            ("<'x'>", Value::Variant(Box::new("x".into()))),
            ("('a', uint64 1)", Value::Struct(vec!["a".into(), Value::U64(1)])),
            (
                "@a(st) [('/dev/sda', 5)]",
                Value::Array(
                    "(st)".into(),
                    vec![Value::Struct(vec!["/dev/sda".into(), Value::U64(5)])],
                ),
            ),
            ("@ay [1, 0x2]", Value::Array("y".into(), vec![Value::Byte(1), Value::Byte(2)])),
        ] {
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_and_never_a_panic() {
        for bad in [
            "",
            " ",
            "x",
            "uint64",
            "uint64 -1",
            "uint64 'a'",
            "byte 256",
            "5 6",
            "'a",
            "\"",
            "[",
            "[1",
            "[1,",
            "[1 2]",
            "[1,'a']",
            "[]",
            "()",
            "(1",
            "<1",
            "{'a': 1}",
            "@",
            "@z 1",
            "@as",
            "@as [1]",
            "@(st) ('a')",
            "@(s) ('a', 1)",
            "b",
            "b'",
            "1e999",
            "true false",
            "2147483648",
            "0x",
            "0x-1",
            "--1",
            "'\\",
            "'\\x'",
            "[[[[[[[[[1]]]]]]]]]",
            "é",
            "@é 1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
