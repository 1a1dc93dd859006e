//! Reads `state.json`, including records written by other versions of brig or damaged by a crash: of those,
//! as much as possible is read. Such a record does not hide other containers from `list`, and `delete
//! --force` removes it.

use super::{Dir, NotFound, State, Status, ids};
use anyhow::{Result, anyhow, bail};
use serde_json::{Map, Value};
use std::path::Path;
use sys::{Errno, Missing, errno_of};

/// The version of the records that this brig writes. Fields may be added without a new version as long as
/// their absence keeps its meaning.
pub const VERSION: u32 = 1;

/// The fields that every version has written.
const REQUIRED: [&str; 7] =
    ["id", "creating", "pid", "start_time", "bundle", "namespaces", "cgroup"];

/// The result of reading `state.json`.
#[derive(Debug)]
pub enum Record {
    /// A complete record.
    Whole(Box<State>),
    /// The readable part, and why the rest is not readable.
    Partial(Box<State>, anyhow::Error),
}

/// An entry of a state root with the name of a container.
#[derive(Debug)]
pub struct ListedContainer {
    /// The known part of its state; the id is the directory's name, whatever the record contains.
    pub state: State,
    /// Its current status.
    pub status: Status,
    /// Why its state is incomplete, if it is.
    pub trouble: Option<anyhow::Error>,
}

/// Parses the record of container `id`.
pub fn parse(id: &str, bytes: &[u8]) -> Record {
    match serde_json::from_slice::<State>(bytes) {
        Ok(state) if state.id == id => Record::Whole(Box::new(state)),
        Ok(state) => foreign(id, &state.id),
        Err(error) => salvage(id, bytes, error),
    }
}

/// The record of another container: nothing in it must be acted upon.
fn foreign(id: &str, other: &str) -> Record {
    let blank = State { id: id.to_owned(), ..State::default() };
    Record::Partial(Box::new(blank), anyhow!("is the record of another container, {other:?}"))
}

/// A container of another runtime.
#[derive(Debug)]
pub struct NotBrigs;

impl std::fmt::Display for NotBrigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("is a record of runc: --root is a state directory of runc")
    }
}

impl std::error::Error for NotBrigs {}

/// Reads field by field those whose meaning is the same in every version.
fn salvage(id: &str, bytes: &[u8], error: serde_json::Error) -> Record {
    let mut state = State { id: id.to_owned(), ..State::default() };
    let whole = serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let is_whole = whole.is_some();
    let Some(fields) = whole.or_else(|| beginning(bytes)) else {
        return Record::Partial(Box::new(state), error.into());
    };
    match fields.get("id").and_then(Value::as_str) {
        Some(other) if other != id => return foreign(id, other),
        _ => {}
    }
    if fields.contains_key("init_process_pid") {
        return Record::Partial(Box::new(state), NotBrigs.into());
    }
    let mut error = anyhow::Error::from(error);
    if let Ok(Value::Object(mut known)) = serde_json::to_value(&state) {
        for (name, value) in &fields {
            let before = known.insert(name.clone(), value.clone());
            match serde_json::from_value(Value::Object(known.clone())) {
                Ok(more) => state = more,
                Err(unfit) => {
                    error = anyhow::Error::from(unfit).context(name.clone());
                    match before {
                        Some(before) => known.insert(name.clone(), before),
                        None => known.remove(name),
                    };
                }
            }
        }
    }
    let missing = REQUIRED.iter().find(|name| !fields.contains_key(**name));
    if let Some(missing) = missing.filter(|_| is_whole) {
        error = anyhow!("does not contain {missing:?}");
    }
    if let Some(version) = fields.get("version").filter(|version| **version != VERSION) {
        error = error.context(format!("has version {version}, and this brig supports {VERSION}"));
    }
    Record::Partial(Box::new(state), error)
}

/// The fields before the end of a cut record.
fn beginning(bytes: &[u8]) -> Option<Map<String, Value>> {
    let ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b',');
    ends.take(1000)
        .find_map(|(end, _)| serde_json::from_slice(&[&bytes[..end], b"}"].concat()).ok())
}

impl Dir {
    /// Reads `state.json`; None before create has written it.
    pub fn record(&self) -> Result<Option<Record>> {
        match self.parsed()? {
            // A partial first record, which is being written with the lock held, or was when it was read.
            Some(Record::Partial(_, error)) if is_cut(&error) && !self.was_locked.get() => {
                if self.is_locked()? { Ok(None) } else { self.parsed() }
            }
            // A create has died while writing its first record, before there was anything else.
            Some(Record::Partial(_, error)) if is_cut(&error) && !self.has("config.json")? => {
                Ok(None)
            }
            record => Ok(record),
        }
    }

    fn parsed(&self) -> Result<Option<Record>> {
        let id = self.id();
        let bytes = match self.read("state.json") {
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => {
                let blank = State { id, ..State::default() };
                return Ok(Some(Record::Partial(Box::new(blank), error)));
            }
            Ok(bytes) => bytes,
        };
        Ok(match parse(&id, &bytes) {
            Record::Partial(state, error) => {
                let path = self.path.join("state.json");
                Some(Record::Partial(state, error.context(path.display().to_string())))
            }
            whole => Some(whole),
        })
    }

    /// Like [`Dir::record`], but a partial record is an error.
    ///
    /// # Errors
    ///
    /// If the record is damaged, or of another version or runtime.
    pub fn load(&self) -> Result<Option<State>> {
        match self.record()? {
            None => Ok(None),
            Some(Record::Whole(state)) => Ok(Some(*state)),
            Some(Record::Partial(_, error)) => {
                let id = self.id();
                bail!(
                    "{}: use `brig delete --force {id}` to remove what it names",
                    sys::describe(&error)
                )
            }
        }
    }

    /// Like [`Dir::load`], but a missing record is [`NotFound`].
    pub fn existing(&self) -> Result<State> {
        self.load()?.ok_or_else(|| anyhow!(NotFound))
    }
}

fn is_cut(error: &anyhow::Error) -> bool {
    error.downcast_ref::<serde_json::Error>().is_some_and(serde_json::Error::is_eof)
}

/// All containers, by name. Omits entries without a record, and those that disappear during the call.
pub fn all(root: &Path) -> Result<Vec<ListedContainer>> {
    Ok(ids(root)?.iter().filter_map(|id| listed(root, id)).collect())
}

/// The entry with this name.
pub(super) fn listed(root: &Path, id: &str) -> Option<ListedContainer> {
    match look(root, id) {
        Err(error) if error.is::<NotFound>() => None,
        Err(error) if errno_of(&error) == Some(Errno::ENOTDIR) => None,
        Err(error) => {
            let state = State { id: id.to_owned(), ..State::default() };
            Some(ListedContainer { state, status: Status::Unknown, trouble: Some(error) })
        }
        Ok(one) => one,
    }
}

/// Reads an entry; None if its create has not written the record yet.
fn look(root: &Path, id: &str) -> Result<Option<ListedContainer>> {
    let dir = Dir::open(root, id)?;
    let (state, trouble) = match dir.record()? {
        None => return Ok(None),
        Some(Record::Whole(state)) => (*state, None),
        Some(Record::Partial(state, error)) => (*state, Some(error)),
    };
    // The status cannot be determined without a pid.
    let known = trouble.is_none() || state.pid != 0 && state.start_time != 0;
    Ok(Some(match known.then(|| dir.status(&state)) {
        None => ListedContainer { state, status: Status::Unknown, trouble },
        // A create has finished or died since the record was read.
        Some(Ok(status)) if state.creating && status != Status::Creating && trouble.is_none() => {
            ListedContainer { state: dir.existing()?, status, trouble }
        }
        Some(Ok(status)) => ListedContainer { state, status, trouble },
        Some(Err(error)) => {
            let trouble = trouble.or_else(|| Some(error.context(format!("container {id}"))));
            ListedContainer { state, status: Status::Unknown, trouble }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = include_str!("../../fixtures/states/0.1/plain.json");
    const FULL: &str = include_str!("../../fixtures/states/0.1/full.json");

    fn whole(text: &str) -> State {
        match parse("old", text.as_bytes()) {
            Record::Whole(state) => *state,
            Record::Partial(_, error) => panic!("{error:#}"),
        }
    }

    fn partial(text: &str) -> (State, String) {
        match parse("old", text.as_bytes()) {
            Record::Whole(state) => panic!("{state:?}"),
            Record::Partial(state, error) => (*state, format!("{error:#}")),
        }
    }

    #[test]
    fn records_of_0_1_are_read_and_what_they_do_not_say_has_a_default() {
        let state = whole(PLAIN);
        assert_eq!((state.pid, state.start_time, state.creating), (4242, 123_456, false));
        assert_eq!(state.bundle, Path::new("/bundles/old"));
        assert!(!state.cgroup.is_none() && state.own_pids && state.keyring);
        let state = whole(FULL);
        let annotations = serde_json::to_value(&state.annotations).unwrap();
        assert_eq!(annotations["org.example.a"], "b");
        assert_eq!(state.memory_and_swap, Some(64 << 20));
        assert_eq!((state.poststart.len(), state.poststop.len()), (1, 1));
        assert!(state.layers.is_some_and(|layers| layers.lower.len() == 1));
    }

    #[test]
    fn of_another_versions_record_all_is_read_that_means_the_same() {
        let mut fields: Map<String, Value> = serde_json::from_str(PLAIN).unwrap();
        fields.insert("version".into(), 9.into());
        fields.insert("bundle".into(), 7.into());
        fields.insert("new".into(), "and unknown".into());
        let (state, why) = partial(&Value::Object(fields).to_string());
        assert_eq!((state.pid, state.start_time), (4242, 123_456));
        assert_eq!(state.bundle, Path::new(""));
        assert!(!state.cgroup.is_none());
        assert!(why.starts_with("has version 9, and this brig supports 1: bundle: "), "{why}");
    }

    #[test]
    fn the_beginning_of_a_cut_record_is_read() {
        let cut = PLAIN.find("\"cgroup\"").unwrap() + 30;
        let (state, why) = partial(&PLAIN[..cut]);
        assert_eq!((state.pid, state.start_time), (4242, 123_456));
        assert!(state.cgroup.is_none() && why.starts_with("EOF"), "{why}");
    }

    #[test]
    fn of_what_is_no_record_nothing_is_believed() {
        for text in ["", "{", "\0\0\0", "[]", "7", r#"{"id":5}"#, &PLAIN[..20]] {
            let (state, why) = partial(text);
            assert_eq!((state.id.as_str(), state.pid), ("old", 0), "{text:?}: {why}");
        }
        let (state, why) = partial(&PLAIN.replace("\"id\":\"old\"", "\"id\":\"other\""));
        assert_eq!((state.pid, state.cgroup.is_none()), (0, true), "{why}");
        assert_eq!(why, "is the record of another container, \"other\"");
    }
}
