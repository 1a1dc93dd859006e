//! A copy of the config from which every value that causes an error is removed, until there are no errors
//! left.

use super::{Findings, Severity};
use crate::spec::{At, Document, Spec, Step, parse_place, render};
use anyhow::Result;
use serde_json::Value;
use std::collections::BTreeMap;

/// The maximum number of errors: each requires parsing the whole text.
const MAX_ERRORS: usize = 200;

/// Replacements for required values: otherwise their absence would be the next error.
const REQUIRED: [(&str, &str); 5] = [
    ("ociVersion", "\"1.0.2\""),
    ("root.path", "\"rootfs\""),
    ("root", "{\"path\":\"rootfs\"}"),
    ("process.args", "[\"sh\"]"),
    ("process.cwd", "\"/\""),
];

/// The copy, and what has been removed from it.
pub(super) struct Copy<'a> {
    document: Document<'a>,
    value: Value,
    /// By the original place of an array: the original indexes that were removed, ascending.
    taken: BTreeMap<String, Vec<usize>>,
    /// The places of the last removed value and its ancestors: that it is missing now is not the author's
    /// mistake.
    lacking: Vec<String>,
}

impl<'a> Copy<'a> {
    /// # Errors
    ///
    /// If the text is not JSON, with the position.
    pub(super) fn of(document: Document<'a>) -> Result<Copy<'a>> {
        let (value, _) = document.parse(&mut Vec::new())?;
        Ok(Copy { document, value, taken: BTreeMap::new(), lacking: Vec::new() })
    }

    /// Parses the rest like create.
    pub(super) fn spec(&self) -> Result<Spec> {
        let text = self.value.to_string();
        let left = Document { text: text.as_bytes(), ..self.document };
        left.parse(&mut Vec::new()).map(|(spec, _)| spec)
    }

    /// Adds the errors of `judge`: the first one, that for the copy without the value it refers to, and so
    /// on.
    pub(super) fn errors(
        &mut self,
        findings: &mut Findings<'_>,
        judge: impl Fn(&Spec) -> Result<()>,
    ) {
        for _ in 0..MAX_ERRORS {
            let Err(error) = self.spec().and_then(|spec| judge(&spec)) else { return };
            let place = error.downcast_ref::<At>().map(At::place).unwrap_or_default();
            let text = message(&error);
            let lacks = self.lacking.iter().any(|lacking| lacking == place);
            let consequence = lacks && text.starts_with("missing");
            if !consequence {
                findings.add(Severity::Error, "config", self.original(place), text);
            }
            if !self.take_out(place) {
                return;
            }
        }
    }

    /// The place in the original text of `place` in the copy.
    pub(super) fn original(&self, place: &str) -> String {
        let mut original = Vec::new();
        for step in parse_place(place) {
            original.push(match step {
                Step::Index(index) => {
                    let gone = self.taken.get(&render(&original)).map_or(&[][..], Vec::as_slice);
                    Step::Index(
                        gone.iter().fold(index, |index, &gone| index + usize::from(gone <= index)),
                    )
                }
                key => key,
            });
        }
        render(&original)
    }

    /// Removes the value at `place`, or replaces it with a valid one. False if there is nothing to remove.
    fn take_out(&mut self, place: &str) -> bool {
        self.lacking.clear();
        let required = REQUIRED.iter().find(|(known, _)| *known == place);
        if let Some(default) =
            required.and_then(|(_, text)| serde_json::from_str::<Value>(text).ok())
            && let (Some(parent), Some(Step::Key(key))) = self.parent(place)
            && let Some(object) = parent.as_object_mut()
            && object.get(&*key) != Some(&default)
        {
            object.insert(key.into_owned(), default);
            return true;
        }
        let original_place = self.original(place);
        let original = parse_place(&original_place).pop();
        let above = place_above(place);
        let original_above = self.original(&above);
        let (Some(parent), Some(last)) = self.parent(place) else { return false };
        let done = match (last, parent) {
            (Step::Key(key), Value::Object(object)) => object.remove(&*key).is_some(),
            (Step::Index(index), Value::Array(array)) if index < array.len() => {
                array.remove(index);
                true
            }
            _ => false,
        };
        match original {
            Some(Step::Index(index)) if done => {
                let gone = self.taken.entry(original_above).or_default();
                gone.push(index);
                gone.sort_unstable();
            }
            _ if done => self.lacking = vec![place.to_owned(), above],
            // The value is missing: remove its parent.
            _ => return !above.is_empty() && self.take_out(&above),
        }
        true
    }

    /// The parent of `place`, and the last step to it.
    fn parent<'p>(&mut self, place: &'p str) -> (Option<&mut Value>, Option<Step<'p>>) {
        let mut steps = parse_place(place);
        let last = steps.pop();
        let mut value = Some(&mut self.value);
        for step in steps {
            value = value.and_then(|value| match step {
                Step::Key(key) => value.get_mut(&*key),
                Step::Index(index) => value.get_mut(index),
            });
        }
        (value, last)
    }
}

fn place_above(place: &str) -> String {
    let mut steps = parse_place(place);
    steps.pop();
    render(&steps)
}

/// An error without its place.
pub(super) fn message(error: &anyhow::Error) -> String {
    let text = sys::describe(error);
    let place = error.downcast_ref::<At>().map(ToString::to_string).unwrap_or_default();
    text.strip_prefix(&format!("{place}: ")).map_or(text.clone(), str::to_owned)
}
