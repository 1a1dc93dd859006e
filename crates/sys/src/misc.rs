//! System calls that nix does not have and that belong nowhere else.

use super::{SysError, check};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::ffi::{CStr, CString};
use std::fs::{File, Metadata};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// flock(2), without waiting: false when somebody else holds the lock. It belongs to the open file,
/// so a cloned child that holds a copy of `fd` holds the lock too.
pub fn try_flock(fd: BorrowedFd<'_>, exclusive: bool) -> Result<bool, SysError> {
    let how = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: takes integers only.
    let done = unsafe { libc::flock(fd.as_raw_fd(), how | libc::LOCK_NB) };
    match check(|| "flock".into(), done.into()) {
        Err(error) if error.errno == super::Errno::EWOULDBLOCK => Ok(false),
        done => done.map(|_| true),
    }
}

/// setdomainname(2).
pub fn setdomainname(name: &[u8]) -> Result<(), SysError> {
    // SAFETY: pointer and length are of one slice, which outlives the call.
    let done = unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) };
    check(|| format!("setdomainname({})", name.escape_ascii()), done.into()).map(drop)
}

/// Joins a new session keyring of this name, which the container's user may search
/// (keyctl(2), JOIN_SESSION_KEYRING, DESCRIBE and SETPERM).
pub fn join_session_keyring(name: &CStr) -> Result<(), SysError> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    const SETPERM: libc::c_int = 5;
    const DESCRIBE: libc::c_int = 6;
    const USER_SEARCH: u32 = 0x0008_0000;
    let what = || format!("keyctl(JOIN_SESSION_KEYRING, {})", name.to_string_lossy());
    // SAFETY: name is a C string that outlives the call.
    let ring = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
    let ring = check(what, ring)?;
    let mut text = [0_u8; 256];
    // SAFETY: the kernel writes at most text.len() bytes, and nothing where they do not suffice.
    let len =
        unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, ring, text.as_mut_ptr(), text.len()) };
    check(|| format!("keyctl(DESCRIBE, {ring})"), len)?;
    // "type;uid;gid;permissions in hex;name"
    let field = text.split(|&c| c == b';').nth(3).and_then(|hex| std::str::from_utf8(hex).ok());
    let permissions = field.and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let permissions = permissions | USER_SEARCH;
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, SETPERM, ring, permissions) };
    check(|| format!("keyctl(SETPERM, {ring}, {permissions:#x})"), done).map(drop)
}

/// Lets the process run on these CPUs only, a bit for each, the lowest first.
pub fn set_affinity(cpus: &[u8]) -> Result<(), SysError> {
    // The kernel takes whole words.
    let mut mask = cpus.to_vec();
    mask.resize(cpus.len().next_multiple_of(size_of::<libc::c_ulong>()), 0);
    // SAFETY: pointer and length are of one vector, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, mask.len(), mask.as_ptr()) };
    check(|| "sched_setaffinity".into(), done).map(drop)
}

/// Lets the process run on every CPU that its cpuset allows, whatever brig's caller was bound to.
pub fn reset_affinity() -> Result<(), SysError> {
    // 8192 CPUs: the most that Linux can be built for; the kernel cuts it to the cpuset.
    let all = [u8::MAX; 1024];
    // SAFETY: pointer and length are of one array, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    check(|| "sched_setaffinity(all)".into(), done).map(drop)
}

/// A name that no other container has: 12 random hexadecimal digits.
pub fn random_name() -> String {
    let mut bytes = [0_u8; 6];
    // SAFETY: getrandom(2) writes at most that many bytes into the buffer, which lives across the call.
    let done = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(done) != Ok(bytes.len()) {
        // Not before the kernel has any randomness: create says so where the name is taken.
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sets the loopback device of the current network namespace up.
pub fn loopback_up() -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(|| "socket(AF_INET)".into(), fd.into())?;
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[0x6c, 0x6f]); // "lo"
    request.ifr_ifru.ifru_flags = 0x41; // IFF_UP | IFF_RUNNING
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(|| "ioctl(lo, SIOCSIFFLAGS, up)".into(), done.into()).map(drop)
}

/// The mount namespace that this process is in belongs to the user namespace that it is in: only there
/// may its root mount something (ioctl_ns(2), NS_GET_USERNS).
pub fn owns_mount_namespace() -> std::io::Result<bool> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    let mounts = File::open("/proc/self/ns/mnt")?;
    // SAFETY: NS_GET_USERNS takes no argument.
    let owner = unsafe { libc::ioctl(mounts.as_raw_fd(), NS_GET_USERNS) };
    // Refused where the owner is none of the caller's namespaces, nor of those below (EPERM).
    if owner < 0 {
        return Ok(false);
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let owner = File::from(unsafe { OwnedFd::from_raw_fd(owner) });
    let identity = |file: Metadata| (file.dev(), file.ino());
    Ok(identity(owner.metadata()?) == identity(std::fs::metadata("/proc/self/ns/user")?))
}

/// The `CLONE_NEW*` type of the namespace that `fd` refers to (ioctl_ns(2), NS_GET_NSTYPE).
pub fn namespace_type(fd: BorrowedFd<'_>) -> Result<libc::c_int, SysError> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the request takes no argument; on a descriptor of another kind it is ENOTTY.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    check(|| "ioctl(NS_GET_NSTYPE)".into(), kind.into())?;
    Ok(kind)
}

/// Takes a message from a socket, and the descriptors that came with it, two at most.
pub fn receive_fds(socket: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, SysError> {
    let mut text = [0_u8; 4096];
    // The kernel passes no more than there is room for.
    let mut room = nix::cmsg_space!([RawFd; 2]);
    let failed = |errno| SysError::new("recvmsg", errno);
    let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
    let mut text = [std::io::IoSliceMut::new(&mut text)];
    let message = recvmsg::<()>(fd, &mut text, Some(&mut room), flags).map_err(failed)?;
    for part in message.cmsgs().map_err(failed)? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the kernel has just made this descriptor, which nobody else owns.
            let owned = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
            return Ok(fds.into_iter().map(owned).collect());
        }
    }
    Ok(Vec::new())
}

/// stdin, stdout and stderr, without std's buffers around them. [`fill_standard_fds`] has made sure
/// that they are open, and brig never closes them.
pub const STANDARD_FDS: [BorrowedFd<'static>; 3] = [standard(0), standard(1), standard(2)];

const fn standard(fd: libc::c_int) -> BorrowedFd<'static> {
    // SAFETY: open for the life of the process, see above.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Whether a descriptor is open and survives execve.
pub fn is_inherited(fd: u32) -> bool {
    // SAFETY: takes integers only; a number that is not open is an error.
    let flags = unsafe { libc::fcntl(fd.cast_signed(), libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Keeps anyhow from taking a backtrace of every error where the caller has set RUST_BACKTRACE. brig
/// shows none, and in a static binary the first one costs 8 million instructions.
pub fn take_no_backtraces() {
    // SAFETY: brig has one thread, and calls this before anything reads the environment.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}

/// Takes a variable out of brig's environment.
pub fn forget_variable(name: &str) {
    // SAFETY: brig has one thread, and nobody holds a pointer into the environment.
    unsafe { std::env::remove_var(name) };
}

/// What lists of processes call this one: prctl(2), PR_GET_NAME.
pub fn process_name() -> Result<CString, SysError> {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes 16 bytes, which is what there is, the last of them zero.
    let done = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    check(|| "prctl(PR_GET_NAME)".into(), done.into())?;
    Ok(CStr::from_bytes_until_nul(&name).unwrap_or_default().to_owned())
}

/// Changes it: prctl(2), PR_SET_NAME.
pub fn set_process_name(name: &CStr) -> Result<(), SysError> {
    // SAFETY: name is a C string that outlives the call.
    let done = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    check(|| "prctl(PR_SET_NAME)".into(), done.into()).map(drop)
}

/// Lets execve leave a descriptor open.
pub fn inherit(fd: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only; a number that is not open is an error.
    let done = unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, 0) };
    check(|| format!("fcntl({fd}, F_SETFD, 0)"), done.into()).map(drop)
}

/// Opens /dev/null until descriptors 0, 1 and 2 exist. Without std's start-up nobody else does, and
/// the first file that brig opens would become the container's stdin.
pub fn fill_standard_fds() {
    loop {
        // SAFETY: the path is a C string literal.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if fd > 2 {
            // SAFETY: the kernel has just made this descriptor, which nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            return;
        }
        if fd < 0 {
            return;
        }
    }
}
