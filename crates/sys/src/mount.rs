//! Mounts by file descriptor: the system calls behind fsopen(2), open_tree(2) and mount_setattr(2).

use super::{Errno, SysError, calls, check};
use nix::fcntl::AT_FDCWD;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The changes made by mount_setattr(2): `MOUNT_ATTR_*` bits to set and to clear, and one of `MS_PRIVATE`,
/// `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 to keep the propagation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear; the access time modes are one field, which must be cleared completely to set one.
    pub clear: u64,
    /// The new propagation.
    pub propagation: u64,
}

/// A detached copy of the mount at `path` below `dir`, or of `dir` itself if `path` is empty: open_tree(2)
/// with `OPEN_TREE_CLONE`.
///
/// # Errors
///
/// If open_tree(2) fails.
pub fn clone_tree(dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<OwnedFd, SysError> {
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    flags |= at_flags(path.is_empty(), recursive);
    // SAFETY: path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), path.as_ptr(), flags) };
    let call = || format!("open_tree({}, clone)", name(dir, path));
    descriptor(check(call, fd)?)
}

/// Opens `path` like `O_PATH`, but triggers automounts: open_tree(2) without `OPEN_TREE_CLONE`.
///
/// # Errors
///
/// If open_tree(2) fails.
pub fn open_tree(path: &CStr) -> Result<OwnedFd, SysError> {
    let (dir, flags) = (AT_FDCWD.as_raw_fd(), libc::OPEN_TREE_CLOEXEC);
    // SAFETY: path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) };
    let call = || format!("open_tree({})", name(AT_FDCWD, path));
    descriptor(check(call, fd)?)
}

/// Attaches a detached mount, or moves an attached one, to the file or directory `target`.
///
/// # Errors
///
/// move_mount(2) failed.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), SysError> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    move_to(mount, target, c"", flags)
}

/// Like [`move_mount`], to a path of the host.
///
/// # Errors
///
/// If move_mount(2) fails.
pub fn move_mount_to(mount: BorrowedFd<'_>, path: &CStr) -> Result<(), SysError> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS;
    move_to(mount, AT_FDCWD, path, flags)
}

fn move_to(
    mount: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_uint,
) -> Result<(), SysError> {
    let (from, to) = (mount.as_raw_fd(), dir.as_raw_fd());
    // SAFETY: both paths are C strings that outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, path.as_ptr(), flags)
    };
    check(|| format!("move_mount(fd {from}, {})", name(dir, path)), done).map(drop)
}

/// mount_setattr(2) of the mount itself, or also of all mounts below it.
///
/// # Errors
///
/// If mount_setattr(2) fails.
pub fn set_attr(mount: BorrowedFd<'_>, recursive: bool, attr: Attr) -> Result<(), SysError> {
    let args = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    let flags = at_flags(true, recursive);
    // SAFETY: the path is a C string; args outlives the call and its size is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const args,
            size_of_val(&args),
        )
    };
    let call = || {
        let Attr { set, clear, propagation } = attr;
        let fd = mount.as_raw_fd();
        format!("mount_setattr(fd {fd}, set {set:#x}, clear {clear:#x}, {propagation:#x})")
    };
    check(call, done).map(drop)
}

/// Id-maps a detached mount with the maps of a user namespace: mount_setattr(2), `MOUNT_ATTR_IDMAP`.
///
/// # Errors
///
/// If mount_setattr(2) fails: EINVAL for a filesystem that cannot be id-mapped.
pub fn set_id_map(
    mount: BorrowedFd<'_>,
    recursive: bool,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), SysError> {
    let args = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(user_namespace.as_raw_fd().cast_unsigned()),
    };
    let flags = at_flags(true, recursive);
    let (fd, path) = (mount.as_raw_fd(), c"".as_ptr());
    let size = size_of_val(&args);
    // SAFETY: the path is a C string; args outlives the call and its size is passed.
    let done =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path, flags, &raw const args, size) };
    check(|| format!("mount_setattr(fd {fd}, idmap)"), done).map(drop)
}

/// A filesystem being configured: fsopen(2).
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Begins to configure a new filesystem of this type.
    ///
    /// # Errors
    ///
    /// If fsopen(2) fails: ENODEV for a type that the kernel does not support.
    pub fn open(fstype: &CStr) -> Result<Self, SysError> {
        let flags = libc::FSOPEN_CLOEXEC;
        // SAFETY: fstype is a C string that outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), flags) };
        let call = || format!("fsopen({})", fstype.to_string_lossy());
        descriptor(check(call, fd)?).map(Filesystem)
    }

    /// Sets `key`, or `key=value`.
    ///
    /// # Errors
    ///
    /// If fsconfig(2) fails; includes the message in the context's log.
    pub fn set(&self, key: &CStr, value: Option<&CStr>) -> Result<(), SysError> {
        let command = match value {
            Some(_) => libc::FSCONFIG_SET_STRING,
            None => libc::FSCONFIG_SET_FLAG,
        };
        self.config(command, Some(key), value)
    }

    /// Creates the filesystem, and a detached mount of it with these `MOUNT_ATTR_*` bits.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the mount; includes the message in the context's log.
    pub fn mount(self, attr: u64) -> Result<OwnedFd, SysError> {
        self.config(libc::FSCONFIG_CMD_CREATE, None, None)?;
        let (fd, flags) = (self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC);
        // SAFETY: takes integers only.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, fd, flags, attr) };
        let mount = check(|| "fsmount".into(), mount).map_err(|error| self.explained(error))?;
        descriptor(mount)
    }

    fn config(
        &self,
        command: libc::fsconfig_command,
        key: Option<&CStr>,
        value: Option<&CStr>,
    ) -> Result<(), SysError> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        let fd = self.0.as_raw_fd();
        // SAFETY: key and value are C strings that outlive the call, or null if the command does not read
        // them.
        let done = unsafe {
            libc::syscall(libc::SYS_fsconfig, fd, command, pointer(key), pointer(value), 0)
        };
        let call = || match (key, value) {
            (None, _) => "fsconfig(create)".into(),
            (Some(key), None) => format!("fsconfig({})", key.to_string_lossy()),
            (Some(key), Some(value)) => {
                format!("fsconfig({}={})", key.to_string_lossy(), value.to_string_lossy())
            }
        };
        check(call, done).map_err(|error| self.explained(error)).map(drop)
    }

    /// Adds the kernel's message in the context's log, e.g. "tmpfs: Bad value for 'size'".
    fn explained(&self, mut error: SysError) -> SysError {
        let mut line = [0; 256];
        while let Ok(length) = nix::unistd::read(&self.0, &mut line) {
            let text = line[..length].trim_ascii_end();
            // "e " for an error, "w " for a warning, "i " for information
            if let Some(text) = text.strip_prefix(b"e ") {
                error.call = format!("{} ({})", error.call, String::from_utf8_lossy(text));
                break;
            }
        }
        error
    }
}

/// mount(2).
///
/// # Errors
///
/// If the kernel refuses the mount.
pub fn mount(
    source: Option<&CStr>,
    target: &CStr,
    fstype: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<(), SysError> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a C string that outlives the call, as mount(2) requires; the kernel
    // copies data only up to its terminating zero or one page.
    let done = unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(fstype), flags, pointer(data).cast())
    };
    let call = || {
        let text = |text: Option<&CStr>| text.unwrap_or_default().to_string_lossy().into_owned();
        let target = target.to_string_lossy();
        format!("mount({:?}, {target}, {:?}, {flags:#x})", text(source), text(fstype))
    };
    check(call, done.into()).map(drop)
}

/// The identity of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id in mountinfo. It can be reused after the mount was removed.
    pub id: u64,
    /// An id that is never reused, since Linux 6.8.
    unique: Option<u64>,
    /// Major and minor number of its filesystem.
    device: (u32, u32),
    /// The inode of its root.
    root: u64,
    /// The type of its filesystem in statfs(2).
    fstype: i64,
}

/// The identity of the mount whose root `fd` is; None if it is not the root of a mount.
///
/// # Errors
///
/// If statx(2) or fstatfs(2) fails.
pub fn identity(fd: BorrowedFd<'_>) -> Result<Option<Identity>, SysError> {
    const WANTED: libc::c_uint = libc::STATX_INO | libc::STATX_MNT_ID;
    let stat = statx(fd, WANTED)?;
    // One of the two bits replaces the other.
    let newer = statx(fd, libc::STATX_MNT_ID_UNIQUE)?;
    let is_unique = newer.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0;
    let fstype = nix::sys::statfs::fstatfs(fd);
    let fstype = fstype.map_err(|errno| SysError::new("fstatfs", errno))?.filesystem_type();
    let is_root = stat.stx_attributes & u64::from(libc::STATX_ATTR_MOUNT_ROOT.cast_unsigned());
    Ok((is_root != 0).then_some(Identity {
        id: stat.stx_mnt_id,
        unique: is_unique.then_some(newer.stx_mnt_id),
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        root: stat.stx_ino,
        #[allow(clippy::unnecessary_cast, reason = "not on all architectures")]
        fstype: fstype.0 as i64,
    }))
}

/// The id in mountinfo of the mount that contains `fd`. `own` is brig's directory in the host's /proc, which
/// is needed before Linux 5.8.
///
/// # Errors
///
/// If statx(2) fails, and fdinfo cannot be read instead.
pub fn mount_id(fd: BorrowedFd<'_>, own: BorrowedFd<'_>) -> Result<u64, SysError> {
    if let Ok(stat) = statx(fd, libc::STATX_MNT_ID)
        && stat.stx_mask & libc::STATX_MNT_ID != 0
    {
        return Ok(stat.stx_mnt_id);
    }
    let path = format!("fdinfo/{}", fd.as_raw_fd());
    let failed = |errno| SysError::new(format!("read {path}"), errno);
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(own, path.as_str(), flags, nix::sys::stat::Mode::empty());
    let mut text = [0; 512];
    let length = nix::unistd::read(file.map_err(failed)?, &mut text).map_err(failed)?;
    let text = String::from_utf8_lossy(&text[..length]);
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| failed(Errno::ENODATA))
}

/// statx(2) of an open file or directory. By number: std refers to the C function with a weak symbol, which
/// can be unresolved in a static binary that links both (seen with lld and fat LTO).
fn statx(fd: BorrowedFd<'_>, wanted: libc::c_uint) -> Result<libc::statx, SysError> {
    // SAFETY: statx is plain integers, for which zero is valid.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    // SAFETY: the path is a C string; the call fills in a statx, which outlives it.
    let done = unsafe {
        libc::syscall(libc::SYS_statx, fd.as_raw_fd(), c"".as_ptr(), flags, wanted, &raw mut stat)
    };
    check(|| "statx".into(), done)?;
    Ok(stat)
}

/// The attributes of the mount that contains `fd`, as `ST_*` bits: fstatvfs(3).
///
/// # Errors
///
/// If fstatvfs(3) fails.
pub fn flags(fd: BorrowedFd<'_>) -> Result<libc::c_ulong, SysError> {
    // SAFETY: statvfs is plain integers, for which zero is valid.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the call fills in a statvfs, which outlives it.
    let done = unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut stat) };
    check(|| "fstatvfs".into(), done.into())?;
    Ok(stat.f_flag)
}

/// Whether all calls of this module are available: Linux 5.12 or newer, and no filter hides one. Filters of older
/// engines refuse calls that they do not know with EPERM.
pub fn is_complete() -> bool {
    calls::MOUNTS.iter().all(|call| call.answer() != Errno::ENOSYS)
        && calls::NEVER_EPERM.iter().all(|call| call.answer() != Errno::EPERM)
}

fn at_flags(empty_path: bool, recursive: bool) -> libc::c_uint {
    let empty = if empty_path { libc::AT_EMPTY_PATH } else { 0 };
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    (empty | recursive).cast_unsigned()
}

fn descriptor(fd: libc::c_long) -> Result<OwnedFd, SysError> {
    let fd = i32::try_from(fd).map_err(|_| SysError::new("descriptor", Errno::EBADF))?;
    // SAFETY: every caller passes a new descriptor just returned by a system call, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn name(dir: BorrowedFd<'_>, path: &CStr) -> String {
    match path.is_empty() {
        true => format!("fd {}", dir.as_raw_fd()),
        false => path.to_string_lossy().into_owned(),
    }
}
