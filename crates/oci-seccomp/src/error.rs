//! The error type for refused profiles.

use std::fmt;

/// A profile that cannot be compiled: what is wrong, and where.
///
/// ```
/// use oci_seccomp::{Arch, LinuxSeccomp, compile};
///
/// let profile: LinuxSeccomp = serde_json::from_str(
///     r#"{ "defaultAction": "SCMP_ACT_ERRNO",
///          "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 5 }] }"#,
/// )?;
/// let error = compile(&profile, Arch::X86_64).unwrap_err();
/// assert_eq!(error.path(), "syscalls[0].errnoRet");
/// assert_eq!(error.to_string(), "syscalls[0].errnoRet: SCMP_ACT_ALLOW has no errno");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: String,
    message: String,
}

/// The result of this crate's functions.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(path: impl fmt::Display, message: impl fmt::Display) -> Error {
        Error { path: path.to_string(), message: message.to_string() }
    }

    /// The path of the value that the error concerns, from the profile's root: `syscalls[3].args[0].op`.
    /// Empty for the profile as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The message, without the path.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}
