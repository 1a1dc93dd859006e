//! The one error type of a failed system call.

use std::fmt;

pub use nix::errno::Errno;

/// A failed system call: prints as `move_mount(fd 9, /dev/shm): Operation not permitted`.
#[derive(Debug)]
pub struct SysError {
    /// The call with its relevant arguments.
    pub call: String,
    /// The errno of the call.
    pub errno: Errno,
}

impl SysError {
    /// An error of `call` with `errno`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        SysError { call: call.into(), errno }
    }

    /// An error of `call`, which has just failed: takes errno from the thread.
    pub fn last(call: impl Into<String>) -> Self {
        SysError::new(call, Errno::last())
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno.desc())
    }
}

impl std::error::Error for SysError {}

/// An error whose exact text others match on, and its errno.
#[derive(Debug)]
pub struct VerbatimError {
    /// The complete text.
    pub text: String,
    /// The errno of the failed call.
    pub errno: Errno,
}

impl fmt::Display for VerbatimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for VerbatimError {}

/// The whole chain of an error, outermost first, like `{:#}`, except that an errno is its description
/// alone: without nix's name of it and std's "(os error 2)". ENOSYS gets its likely cause.
pub fn describe(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| {
        match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            Some(errno) => Errno::from_raw(errno).desc().to_owned(),
            None => {
                cause.downcast_ref::<Errno>().map_or(cause.to_string(), |e| e.desc().to_owned())
            }
        }
    });
    let mut text = causes.collect::<Vec<_>>().join(": ");
    if errno_of(error) == Some(Errno::ENOSYS) {
        text.push_str(": the kernel is older than Linux 5.12, or a seccomp filter around brig blocks the call");
    }
    text
}

/// The errno at the bottom of an error, whichever way it was wrapped.
pub fn errno_of(error: &anyhow::Error) -> Option<Errno> {
    error.chain().find_map(|cause| {
        if let Some(sys) = cause.downcast_ref::<SysError>() {
            return Some(sys.errno);
        }
        if let Some(worded) = cause.downcast_ref::<VerbatimError>() {
            return Some(worded.errno);
        }
        if let Some(errno) = cause.downcast_ref::<Errno>() {
            return Some(*errno);
        }
        let io = cause.downcast_ref::<std::io::Error>()?;
        io.raw_os_error().map(Errno::from_raw)
    })
}

/// Errors that can mean that a file does not exist.
pub trait Missing {
    /// Whether it is ENOENT.
    fn is_missing(&self) -> bool;
}

impl Missing for Errno {
    fn is_missing(&self) -> bool {
        *self == Errno::ENOENT
    }
}

impl Missing for SysError {
    fn is_missing(&self) -> bool {
        self.errno.is_missing()
    }
}

impl Missing for std::io::Error {
    fn is_missing(&self) -> bool {
        self.kind() == std::io::ErrorKind::NotFound
    }
}

impl Missing for anyhow::Error {
    fn is_missing(&self) -> bool {
        errno_of(self).is_some_and(|errno| errno.is_missing())
    }
}

/// For files that are optional.
pub trait IfExists<T, E> {
    /// None if the file does not exist.
    ///
    /// # Errors
    ///
    /// Every other error is returned.
    fn if_exists(self) -> Result<Option<T>, E>;
}

impl<T, E: Missing> IfExists<T, E> for Result<T, E> {
    fn if_exists(self) -> Result<Option<T>, E> {
        match self {
            Err(error) if error.is_missing() => Ok(None),
            other => other.map(Some),
        }
    }
}
