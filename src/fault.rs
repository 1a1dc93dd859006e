//! What programs want to know about an error in addition to its text: the errno, and the place in
//! config.json. It is passed from the container's process to brig, and written to the JSON log
//! (docs/output.md).

use crate::spec::At;
use serde_json::{Value, json};
use std::fmt;
use sys::{Errno, SysError, describe, errno_of};

/// An error of another process, received as text.
#[derive(Debug, Default)]
pub struct Fault {
    text: String,
    errno: Option<Errno>,
    refused: bool,
    place: Option<Position>,
}

/// A position in config.json, or in the `file` that replaces all or part of it.
#[derive(Debug)]
struct Position {
    path: String,
    file: String,
    line: usize,
    column: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// Separates the fields of a packed error. The text is last because it can be truncated.
const SEPARATOR: char = '\0';

/// Serialises an error so that [`unpack`] can restore it.
pub fn pack(error: &anyhow::Error) -> String {
    let Fault { text, errno, refused, place } = Fault::of(error);
    let refused = if refused { "refused" } else { "" };
    let errno = errno.map_or(0, |errno| errno as i32);
    let place = place.map_or_else(
        || [const { String::new() }; 4],
        |place| [place.path, place.file, place.line.to_string(), place.column.to_string()],
    );
    let [path, file, line, column] = place.map(|part| part.replace(SEPARATOR, ""));
    [&errno.to_string(), refused, &path, &file, &line, &column, &text].join("\0")
}

/// Restores a packed error.
pub fn unpack(packed: &str) -> anyhow::Error {
    let mut parts = packed.splitn(7, SEPARATOR);
    let mut read = || -> Option<Fault> {
        let errno = parts.next()?.parse().ok()?;
        let refused = parts.next()? == "refused";
        let (path, file) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let (line, column) = (parts.next()?.parse().ok(), parts.next()?.parse().ok());
        let text = parts.next()?.to_owned();
        let place = line.zip(column).map(|(line, column)| Position { path, file, line, column });
        let errno = (errno != 0).then(|| Errno::from_raw(errno));
        Some(Fault { text, errno, refused, place })
    };
    match read() {
        Some(fault) => fault.into(),
        None => anyhow::Error::msg(packed.to_owned()),
    }
}

impl Fault {
    fn of(error: &anyhow::Error) -> Fault {
        let other = error.downcast_ref::<Fault>();
        let position = |at: &At| {
            let (path, file, (line, column)) = at.position()?;
            Some(Position { path: path.to_owned(), file: file.to_owned(), line, column })
        };
        let theirs = other.and_then(|fault| fault.place.as_ref()).map(|place| Position {
            path: place.path.clone(),
            file: place.file.clone(),
            ..*place
        });
        Fault {
            text: describe(error),
            errno: errno_of(error).or_else(|| other?.errno),
            refused: is_refused(error),
            place: error.downcast_ref::<At>().and_then(position).or(theirs),
        }
    }
}

/// Whether the kernel denied a system call for lack of privileges, here or in the process that reported the
/// error. A [`VerbatimError`](sys::VerbatimError) concerns the container's program and does not count.
pub fn is_refused(error: &anyhow::Error) -> bool {
    let refusal = |errno: &Errno| [Errno::EPERM, Errno::EACCES].contains(errno);
    error.chain().any(|cause| {
        if let Some(fault) = cause.downcast_ref::<Fault>() {
            return fault.refused;
        }
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let call = cause.downcast_ref::<SysError>().map(|call| &call.errno);
        call.or_else(|| cause.downcast_ref()).is_some_and(refusal)
            || io.map(Errno::from_raw).is_some_and(|errno| refusal(&errno))
    })
}

/// The keys of an error in the JSON log, as far as known, in addition to level, msg and time.
pub fn keys(error: &anyhow::Error) -> Vec<(&'static str, Value)> {
    let fault = Fault::of(error);
    let mut keys = Vec::new();
    if let Some(errno) = fault.errno {
        keys.push(("code", json!(format!("{errno:?}"))));
    }
    if let Some(Position { path, file, line, column }) = fault.place {
        let place = json!({"path": path, "file": file, "line": line, "column": column});
        keys.push(("place", place));
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_survives_the_way_to_another_process() {
        let mut error = Err::<(), _>(Errno::ENOENT).context(At::new("mounts[0]")).unwrap_err();
        error.downcast_mut::<At>().unwrap().locate(br#"{"mounts": [{}]}"#);
        let there = unpack(&pack(&error)).context("create x");
        assert_eq!(describe(&there), format!("create x: {}", describe(&error)));
        let place = json!({"path": "mounts[0]", "file": "config.json", "line": 1, "column": 13});
        assert_eq!(keys(&there), [("code", json!("ENOENT")), ("place", place)]);
        assert_eq!(unpack("as it is").to_string(), "as it is");
    }

    #[test]
    fn a_refusal_is_one_in_every_process_and_the_programs_own_is_none() {
        let wrapped = |errno: Errno| anyhow::Error::from(errno).context("mount");
        for errno in [Errno::EPERM, Errno::EACCES] {
            assert!(is_refused(&wrapped(errno)) && is_refused(&unpack(&pack(&wrapped(errno)))));
            assert!(is_refused(&std::io::Error::from_raw_os_error(errno as i32).into()));
            let verbatim = sys::VerbatimError { text: "exec /x: permission denied".into(), errno };
            assert!(!is_refused(&verbatim.into()));
        }
        assert!(!is_refused(&wrapped(Errno::ENOENT)));
        assert!(!is_refused(&unpack(&pack(&wrapped(Errno::ENOENT)))));
    }
}
