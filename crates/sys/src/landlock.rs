//! Landlock (landlock(7)): a process gives up rights to files and ports, for itself and all its descendants.

use super::{Errno, SysError, check};
use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// linux/landlock.h.
const CREATE_RULESET_VERSION: u32 = 1 << 0;
const RULE_PATH_BENEATH: c_int = 1;
const RULE_NET_PORT: c_int = 2;

/// `struct landlock_ruleset_attr`. A kernel that does not know the last fields accepts them if they are 0.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: c_int,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct NetPortAttr {
    allowed_access: u64,
    port: u64,
}

/// The version of the kernel's Landlock ABI.
///
/// # Errors
///
/// ENOSYS if the kernel is built without it, EOPNOTSUPP if it is disabled.
pub fn abi() -> Result<u32, SysError> {
    // SAFETY: with this flag the call takes no pointer, and a size of 0.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    let call = || "landlock_create_ruleset(VERSION)".to_owned();
    let version = check(call, version)?;
    u32::try_from(version).map_err(|_| SysError::new(call(), Errno::EOVERFLOW))
}

/// A set of denied rights, and rules that allow some of them.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

impl Ruleset {
    /// Denies these rights to files (`LANDLOCK_ACCESS_FS_*`) and to ports (`_NET_*`), and operations that
    /// leave the domain (`LANDLOCK_SCOPE_*`).
    ///
    /// # Errors
    ///
    /// EINVAL or E2BIG for rights that this kernel's ABI does not have, ENOMSG if nothing is denied.
    pub fn new(files: u64, ports: u64, scoped: u64) -> Result<Ruleset, SysError> {
        let attr = RulesetAttr { handled_access_fs: files, handled_access_net: ports, scoped };
        // SAFETY: `attr` has the layout and the size that are passed, and outlives the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attr,
                size_of::<RulesetAttr>(),
                0_u32,
            )
        };
        let call = || format!("landlock_create_ruleset({files:#x}, {ports:#x}, {scoped:#x})");
        owned(check(call, fd)?).map(Ruleset)
    }

    /// Allows rights to a file, or to a directory and everything below it.
    ///
    /// # Errors
    ///
    /// EINVAL for rights that the ruleset does not deny, or that do not apply to files.
    pub fn allow_beneath(&self, file: BorrowedFd<'_>, rights: u64) -> Result<(), SysError> {
        let attr = PathBeneathAttr { allowed_access: rights, parent_fd: file.as_raw_fd() };
        self.add(RULE_PATH_BENEATH, (&raw const attr).cast(), || {
            format!("landlock_add_rule(PATH_BENEATH, {rights:#x})")
        })
    }

    /// Allows rights to a port.
    ///
    /// # Errors
    ///
    /// EINVAL for rights that the ruleset does not deny, or an invalid port.
    pub fn allow_port(&self, port: u64, rights: u64) -> Result<(), SysError> {
        let attr = NetPortAttr { allowed_access: rights, port };
        self.add(RULE_NET_PORT, (&raw const attr).cast(), || {
            format!("landlock_add_rule(NET_PORT {port}, {rights:#x})")
        })
    }

    /// Adds a rule; `attr` is the structure for its type.
    fn add(
        &self,
        kind: c_int,
        attr: *const u8,
        call: impl FnOnce() -> String,
    ) -> Result<(), SysError> {
        // SAFETY: both callers pass a pointer to the structure of this rule type, which outlives the call.
        let done = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.0.as_raw_fd(), kind, attr, 0_u32)
        };
        check(call, done).map(drop)
    }

    /// Restricts the calling thread permanently. Requires no_new_privs, or CAP_SYS_ADMIN in the user
    /// namespace.
    ///
    /// # Errors
    ///
    /// EPERM with neither of them, E2BIG if 16 rulesets apply already.
    pub fn enter(&self) -> Result<(), SysError> {
        // SAFETY: takes integers only.
        let done =
            unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0_u32) };
        check(|| "landlock_restrict_self".into(), done).map(drop)
    }
}

fn owned(fd: c_long) -> Result<OwnedFd, SysError> {
    let fd =
        c_int::try_from(fd).map_err(|_| SysError::new("landlock_create_ruleset", Errno::EBADF))?;
    // SAFETY: only called with a new descriptor just returned by landlock_create_ruleset(2), which is
    // close-on-exec and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
