//! Files that are written while others are read: an error of a write names the file that was written.

use crate::source::digest::{Algorithm, Digest, Hasher};
use anyhow::{Context, Result};
use std::cell::Cell;
use std::io::{self, ErrorKind, Write};
use std::rc::Rc;
use sys::Errno;

/// The error of a [`Written`], if it had one.
#[derive(Debug, Clone, Default)]
pub struct Failure(Rc<Cell<Option<Errno>>>);

impl Failure {
    /// The result of an operation that wrote this file: its own error has precedence over that of whatever
    /// was read at that moment.
    ///
    /// # Errors
    ///
    /// That of the file, or of `done`.
    pub fn of<T>(&self, file: &str, done: Result<T>) -> Result<T> {
        match (done, self.0.get()) {
            (Err(_), Some(errno)) => Err(errno).with_context(|| format!("write {file}")),
            (done, _) => done,
        }
    }
}

/// A file that is written.
pub struct Written {
    inner: Box<dyn Write>,
    failure: Failure,
}

impl Written {
    /// With its future error.
    pub fn new(inner: Box<dyn Write>) -> (Written, Failure) {
        let failure = Failure::default();
        (Written { inner, failure: failure.clone() }, failure)
    }

    fn note<T>(&self, done: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &done
            && error.kind() != ErrorKind::Interrupted
        {
            self.failure.0.set(error.raw_os_error().map(Errno::from_raw));
        }
        done
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.inner.write(bytes);
        self.note(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.inner.flush();
        self.note(done)
    }
}

/// Forwards bytes, and counts and hashes them.
pub(super) struct Digesting {
    inner: Written,
    hasher: Hasher,
    count: u64,
}

impl Digesting {
    pub(super) fn new(inner: Written) -> Self {
        Digesting { inner, hasher: Hasher::new(Algorithm::Sha256), count: 0 }
    }

    /// The digest and the number of all bytes.
    pub(super) fn finish(self) -> (Digest, u64) {
        (self.hasher.finish(), self.count)
    }
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.count += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
