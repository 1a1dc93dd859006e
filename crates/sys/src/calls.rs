//! Tests which of the newer system calls the kernel supports, with arguments that cannot succeed.

use super::Errno;

/// A system call that not every kernel supports, and that a seccomp filter may hide.
pub struct Call {
    /// The name of its manual page.
    pub name: &'static str,
    /// The first version of Linux that supports it.
    pub since: &'static str,
    number: libc::c_long,
}

impl Call {
    const fn new(name: &'static str, since: &'static str, number: libc::c_long) -> Call {
        Call { name, since, number }
    }

    /// Its errno for arguments that no version of it accepts; ENOSYS if it does not exist.
    pub fn answer(&self) -> Errno {
        // SAFETY: descriptor, path or number -1, null pointers, no flags, and sizes of 0: each of these calls
        // fails immediately, with EFAULT, EBADF, EINVAL or EPERM, and accesses none of our memory.
        let done = unsafe { libc::syscall(self.number, -1_i64, 0_i64, 0_i64, 0_i64, 0_i64) };
        if done == -1 { Errno::last() } else { Errno::UnknownErrno }
    }
}

const OPEN_TREE: Call = Call::new("open_tree", "5.2", libc::SYS_open_tree);
const MOUNT_SETATTR: Call = Call::new("mount_setattr", "5.12", libc::SYS_mount_setattr);

/// Those that fail with EPERM only if a filter refuses them, even if the caller may not mount.
pub(crate) const NEVER_EPERM: [Call; 2] = [OPEN_TREE, MOUNT_SETATTR];

/// The calls used by [`super::mount`].
pub const MOUNTS: [Call; 6] = [
    OPEN_TREE,
    Call::new("move_mount", "5.2", libc::SYS_move_mount),
    Call::new("fsopen", "5.2", libc::SYS_fsopen),
    Call::new("fsconfig", "5.2", libc::SYS_fsconfig),
    Call::new("fsmount", "5.2", libc::SYS_fsmount),
    MOUNT_SETATTR,
];

/// Other calls for which brig has a slower fallback.
pub const OTHERS: [Call; 3] = [
    Call::new("clone3", "5.3", libc::SYS_clone3),
    Call::new("openat2", "5.6", libc::SYS_openat2),
    Call::new("close_range", "5.9", libc::SYS_close_range),
];

/// The call without which brig cannot work.
pub const PIDFD_OPEN: Call = Call::new("pidfd_open", "5.3", libc::SYS_pidfd_open);
