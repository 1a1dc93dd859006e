//! Resolves keys in other letter case, duplicate keys and `null` as Go's decoder does: only for texts that
//! contain any.

use super::shape::Shape;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The text with every key once and in its defined case: the last one of scalars and arrays, while objects
/// are merged key by key. A `null` is omitted from an object, and the zero value in a list or a map. Unknown
/// keys are omitted.
///
/// # Errors
///
/// If it is not JSON.
pub fn rewrite(text: &[u8], root: &'static Shape) -> serde_json::Result<Vec<u8>> {
    let mut whole = Value::Null;
    let mut reader = serde_json::Deserializer::from_slice(text);
    Merge { shape: root, into: &mut whole }.deserialize(&mut reader)?;
    reader.end()?;
    if whole.is_null() {
        whole = root.zero();
    }
    serde_json::to_vec(&whole)
}

/// The text with what decoders in Go read and serde does not: half of a surrogate pair is U+FFFD, and -0 is 0.
/// None if it contains neither. All offsets stay the same.
pub fn tolerated(text: &[u8]) -> Option<Vec<u8>> {
    let mut fixed = text.to_vec();
    let (mut at, mut quoted) = (0, false);
    while let Some(&byte) = text.get(at) {
        let rest = text.get(at + 1..).unwrap_or_default();
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => match (surrogate(text, at), surrogate(text, at + 6)) {
                (Some(0xd800..0xdc00), Some(0xdc00..)) => at += 11,
                (Some(_), _) => {
                    fixed.get_mut(at + 2..at + 6)?.copy_from_slice(b"fffd");
                    at += 5;
                }
                (None, _) => at += 1,
            },
            b'-' if !quoted && rest.starts_with(b"0") => {
                let more = rest
                    .get(1)
                    .is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E'));
                if !more {
                    *fixed.get_mut(at)? = b' ';
                }
            }
            _ => {}
        }
        at += 1;
    }
    (fixed != text).then_some(fixed)
}

/// The half of a surrogate pair whose escape begins at this offset.
fn surrogate(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xd800..0xe000).contains(&code).then_some(code)
}

/// Merges a value into the earlier one at its place.
struct Merge<'a> {
    shape: &'static Shape,
    into: &'a mut Value,
}

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        *self.into = value.into();
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        *self.into = value.into();
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        *self.into = value.into();
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        *self.into = value.into();
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        *self.into = value.into();
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        if !self.shape.outlives_null() {
            *self.into = Value::Null;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (shape, known) = match self.shape {
            Shape::List(shape) => (*shape, true),
            _ => (&Shape::Any, false),
        };
        let mut list = Vec::new();
        let mut item = Value::Null;
        while items.next_element_seed(Merge { shape, into: &mut item })?.is_some() {
            list.push(if known && item.is_null() { shape.zero() } else { item.take() });
        }
        *self.into = Value::Array(list);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let keyed = matches!(self.shape, Shape::Object(_) | Shape::Struct(_));
        if !(keyed || matches!(self.shape, Shape::Map(_))) || !self.into.is_object() {
            *self.into = Value::Object(Map::new());
        }
        let Value::Object(object) = self.into else { return Ok(()) };
        while let Some(name) = members.next_key::<String>()? {
            let (name, shape) = match (self.shape, self.shape.key(name.as_bytes())) {
                (_, Some((_, known, shape))) => (known.to_owned(), shape),
                (Shape::Map(shape), _) => (name, *shape),
                // A number of any size: a reader ignores it.
                _ if keyed => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => (name, &Shape::Any),
            };
            // The keys of a map are data: a later value replaces the earlier one.
            if matches!(self.shape, Shape::Map(_)) {
                object.insert(name.clone(), Value::Null);
            }
            members.next_value_seed(Merge {
                shape,
                into: object.entry(name).or_insert(Value::Null),
            })?;
        }
        match self.shape {
            _ if keyed => object.retain(|_, value| !value.is_null()),
            Shape::Map(shape) => {
                object
                    .values_mut()
                    .filter(|value| value.is_null())
                    .for_each(|value| *value = shape.zero());
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::CONFIG;
    use super::*;
    use serde_json::json;

    fn rewritten(text: &str) -> Value {
        serde_json::from_slice(&rewrite(text.as_bytes(), CONFIG).unwrap()).unwrap()
    }

    #[test]
    fn keys_are_folded_and_the_last_one_counts() {
        for (text, expected) in [
            (r#"{"Hostname":"a","hostname":"b"}"#, json!({"hostname": "b"})),
            (r#"{"hostname":"b","HOSTNAME":"a"}"#, json!({"hostname": "a"})),
            (
                r#"{"linux":{"seccomp":{"defaultAction":"x"}},"linux":{"maskedpaths":["/a"]}}"#,
                json!({"linux": {"seccomp": {"defaultAction": "x"}, "maskedPaths": ["/a"]}}),
            ),
            (
                r#"{"annotations":{"A":"1","x":"1"},"Annotations":{"a":"2","x":"3"}}"#,
                json!({"annotations": {"A": "1", "a": "2", "x": "3"}}),
            ),
            (
                r#"{"mounts":[{"Source":"a"},{}],"mounts":[{"destination":"b"}]}"#,
                json!({"mounts": [{"destination": "b"}]}),
            ),
            (
                r#"{"linux":{"rdma":{},"resources":{"rdma":{"m":{"hcahandles":1},"m":{"hcaObjects":2}}}}}"#,
                json!({"linux": {"resources": {"rdma": {"m": {"hcaObjects": 2}}}}}),
            ),
            (r#"{"process":{"cwd":"/"},"process":null}"#, json!({})),
            (
                r#"{"hostname":null,"process":{"args":["a",null],"user":{"additionalGids":[null]}},"x":[null]}"#,
                json!({"process": {"args": ["a", ""], "user": {"additionalGids": [0]}}}),
            ),
            (
                r#"{"annotations":{"a":null},"mounts":[null],"linux":{"timeOffsets":{"monotonic":null}}}"#,
                json!({"annotations": {"a": ""}, "mounts": [{}], "linux": {"timeOffsets": {"monotonic": {}}}}),
            ),
            (
                "{\"Ho\\u017ftname\":\"a\",\"lin\u{212a}\":1,\"linu\u{78}\":{\"mas\u{212a}edPath\u{17f}\":[]}}",
                json!({"hostname": "a", "linux": {"maskedPaths": []}}),
            ),
            ("null", json!({})),
            (r#"{"x":{"a":1},"x":{"B":2}}"#, json!({})),
            (
                r#"{"x":1e999,"root":{"x":-1e999},"hostname":"a","hostname":"b"}"#,
                json!({"root": {}, "hostname": "b"}),
            ),
            (
                r#"{"hostname":"a","hostname":null,"process":{"cwd":"/","noNewPrivileges":true,"umask":1,
                    "user":{"uid":5,"umask":7},"noNewPrivileges":null,"cwd":null,"user":null,"user":{"uid":null,"umask":null}}}"#,
                json!({"hostname": "a", "process": {"cwd": "/", "noNewPrivileges": true, "user": {"uid": 5}}}),
            ),
            (
                r#"{"linux":{"seccomp":{}},"mounts":[{}],"mounts":null,"linux":{"seccomp":null,"resources":{
                    "unified":{"a":"1","a":null},"pids":{"limit":1},"pids":{"limit":null}}}}"#,
                json!({"linux": {"resources": {"unified": {"a": ""}, "pids": {}}}}),
            ),
            (
                r#"{"process":[],"process":{"args":[1.5,-2]}}"#,
                json!({"process": {"args": [1.5, -2]}}),
            ),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
        }
        assert!(rewrite(b"{\"a\":1}x", CONFIG).is_err());
    }
}
