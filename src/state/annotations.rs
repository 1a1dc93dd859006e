//! A container's annotations in its record: stored as written there. They can be as large as a megabyte, and
//! most commands need none of them.

use anyhow::{Context, Result};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The config's annotations, as raw JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Annotations(Box<RawValue>);

impl Default for Annotations {
    fn default() -> Annotations {
        Annotations(RawValue::from_string("{}".to_owned()).unwrap_or_default())
    }
}

impl Annotations {
    /// Stores these annotations.
    ///
    /// # Errors
    ///
    /// If serialization fails, which it does not for strings.
    pub fn new(annotations: &BTreeMap<String, String>) -> Result<Annotations> {
        Ok(Annotations(to_raw_value(annotations)?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        ["{}", "null"].contains(&self.0.get())
    }

    /// The annotations that concern brig or CRIU: those whose names begin with `run.` or `org.criu.`.
    ///
    /// # Errors
    ///
    /// If the record contains something other than annotations here.
    pub fn for_runtimes(&self) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let keep = |name: &str, value: &str| {
            if name.starts_with("run.") || name.starts_with("org.criu.") {
                found.insert(name.to_owned(), value.to_owned());
            }
            Ok(())
        };
        self.each(keep).context("the record's annotations")?;
        Ok(found)
    }

    /// Serializes them one by one, so that they are indented like the text around them.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn print<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = Vec::new();
        let keep = |name: &str, value: &str| {
            entries.push((name.to_owned(), value.to_owned()));
            Ok(())
        };
        match self.each(keep) {
            Ok(()) => serializer.collect_map(entries),
            // Damaged: print them as stored.
            Err(_) => self.0.serialize(serializer),
        }
    }

    fn each(
        &self,
        each: impl FnMut(&str, &str) -> serde_json::Result<()>,
    ) -> serde_json::Result<()> {
        serde_json::Deserializer::from_str(self.0.get()).deserialize_any(Each(each))
    }
}

/// Calls a function for each entry of an object.
struct Each<F>(F);

impl<'de, F: FnMut(&str, &str) -> serde_json::Result<()>> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("annotations")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            (self.0)(&name, &value).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A string, borrowed unless it contains escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(text: &str) -> Annotations {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn they_are_kept_as_they_are_and_printed_as_the_same_value() {
        let text = r#"{"run.a":"b\n\u00e9","org":"\"","run":"x"}"#;
        let kept = annotations(text);
        assert_eq!(serde_json::to_string(&kept).unwrap(), text);
        #[derive(Serialize)]
        struct Printed(#[serde(serialize_with = "Annotations::print")] Annotations);
        let printed = serde_json::to_string_pretty(&Printed(kept.clone())).unwrap();
        let map: BTreeMap<String, String> = serde_json::from_str(text).unwrap();
        let again: BTreeMap<String, String> = serde_json::from_str(&printed).unwrap();
        assert_eq!((again, printed.lines().count()), (map.clone(), 5));
        assert_eq!(serde_json::to_value(&kept).unwrap(), serde_json::to_value(&map).unwrap());
        let ours = kept.for_runtimes().unwrap();
        assert_eq!(ours, BTreeMap::from([("run.a".to_owned(), "b\n\u{e9}".to_owned())]));
    }

    #[test]
    fn none_are_none_and_what_is_no_text_is_an_error() {
        assert!(Annotations::default().is_empty() && annotations("null").is_empty());
        assert!(annotations("null").for_runtimes().unwrap().is_empty());
        assert!(!annotations("7").is_empty());
        for bad in ["7", "[]", r#"{"run.a":7}"#] {
            assert!(annotations(bad).for_runtimes().is_err(), "{bad}");
        }
    }
}
