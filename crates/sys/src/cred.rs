//! Credentials: ids, groups, capabilities, and the process attributes that belong to them.
//! All of these act on the calling thread, which in brig is the process: no C library has to do the same to
//! other threads, for which musl would make more calls than a container's seccomp filter may allow.

use super::{SysError, check};

/// The three sets of capset(2), a bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: u64,
    /// Can be made effective.
    pub permitted: u64,
    /// Kept over execve of a file that has them inheritable.
    pub inheritable: u64,
}

const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The low and the high word of a set.
fn split(set: u64) -> [u32; 2] {
    let bytes = set.to_le_bytes();
    let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    [word(0), word(4)]
}

/// capget(2) of this process.
///
/// # Errors
///
/// capget(2) failed.
pub fn capget() -> Result<CapSets, SysError> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Half::default(); 2];
    // SAFETY: version 3 writes exactly two elements of this layout (linux/capability.h).
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    check(|| "capget".into(), done)?;
    Ok(CapSets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Has CAP_SYS_ADMIN: the rights of root, if only in brig's own user namespace.
///
/// # Errors
///
/// capget(2) failed.
pub fn is_privileged() -> Result<bool, SysError> {
    Ok(capget()?.effective & 1 << 21 != 0)
}

/// This process is in the user namespace that the kernel has started with: no other has this number
/// (linux/proc_ns.h, PROC_USER_INIT_INO).
pub fn in_first_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|to| to.as_os_str() == "user:[4026531837]")
}

/// capset(2) of this process.
///
/// # Errors
///
/// capset(2) failed: EPERM for what the permitted set does not have.
pub fn capset(sets: &CapSets) -> Result<(), SysError> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let (effective, permitted) = (split(sets.effective), split(sets.permitted));
    let inheritable = split(sets.inheritable);
    let data = [0, 1].map(|i| Half {
        effective: effective[i],
        permitted: permitted[i],
        inheritable: inheritable[i],
    });
    // SAFETY: version 3 reads exactly two elements of this layout (linux/capability.h).
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    check(|| format!("capset({sets:x?})"), done).map(drop)
}

fn prctl(name: &str, option: i32, a: u64, b: u64) -> Result<i64, SysError> {
    // SAFETY: the options passed by this module take integers only; unused ones must be 0.
    let done = unsafe { libc::prctl(option, a, b, 0_u64, 0_u64) };
    check(|| format!("prctl({name}, {a}, {b})"), done.into())
}

/// Drops every capability that is not in `keep` from the bounding set.
///
/// # Errors
///
/// prctl(PR_CAPBSET_DROP) failed: EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> Result<(), SysError> {
    for cap in (0..64).filter(|cap| keep & 1 << cap == 0) {
        match prctl("PR_CAPBSET_DROP", libc::PR_CAPBSET_DROP, cap, 0) {
            // The first number that the kernel does not know: there are no more.
            Err(error) if error.errno == super::Errno::EINVAL => break,
            done => done?,
        };
    }
    Ok(())
}

/// Raises one capability in the ambient set; it must be permitted and inheritable.
///
/// # Errors
///
/// prctl(PR_CAP_AMBIENT) failed: EPERM for what is not permitted and inheritable.
pub fn raise_ambient(cap: u32) -> Result<(), SysError> {
    let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
    prctl("PR_CAP_AMBIENT", libc::PR_CAP_AMBIENT, raise, cap.into()).map(drop)
}

/// Empties the ambient set.
///
/// # Errors
///
/// prctl(PR_CAP_AMBIENT) failed.
pub fn clear_ambient() -> Result<(), SysError> {
    let clear = u64::from(libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned());
    prctl("PR_CAP_AMBIENT", libc::PR_CAP_AMBIENT, clear, 0).map(drop)
}

/// Whether a change of uid leaves the permitted capabilities alone; execve resets it.
///
/// # Errors
///
/// prctl(PR_SET_KEEPCAPS) failed.
pub fn keep_capabilities(keep: bool) -> Result<(), SysError> {
    prctl("PR_SET_KEEPCAPS", libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// No execve will ever grant this process or its descendants anything.
///
/// # Errors
///
/// prctl(PR_SET_NO_NEW_PRIVS) failed.
pub fn no_new_privileges() -> Result<(), SysError> {
    prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// `signal` is sent to this process when its parent dies; 0: none. Any change of ids clears it.
///
/// # Errors
///
/// prctl(PR_SET_PDEATHSIG) failed.
pub fn parent_death_signal(signal: i32) -> Result<(), SysError> {
    let signal = u64::from(signal.cast_unsigned());
    prctl("PR_SET_PDEATHSIG", libc::PR_SET_PDEATHSIG, signal, 0).map(drop)
}

/// Orphans among this process's descendants become its children.
///
/// # Errors
///
/// prctl(PR_SET_CHILD_SUBREAPER) failed.
pub fn become_subreaper() -> Result<(), SysError> {
    prctl("PR_SET_CHILD_SUBREAPER", libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Makes a brig of uid 0 undumpable, and with it everything that it clones: only who has CAP_SYS_PTRACE
/// in the user namespace in which brig was executed may trace it or open its files in /proc. A brig of
/// another uid stays dumpable, because the id maps and the OOM score of an undumpable process belong to
/// root; it makes what it clones undumpable itself.
///
/// # Errors
///
/// prctl(PR_SET_DUMPABLE) failed.
pub fn hide_root() -> Result<(), SysError> {
    if nix::unistd::geteuid().is_root() { dumpable(false) } else { Ok(()) }
}

/// Whether other processes of the same user may look into this one. A change of ids resets it to
/// `fs.suid_dumpable`.
///
/// # Errors
///
/// prctl(PR_SET_DUMPABLE) failed.
pub fn dumpable(yes: bool) -> Result<(), SysError> {
    prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, yes.into(), 0).map(drop)
}

/// setgroups(2).
///
/// # Errors
///
/// setgroups(2) failed: EPERM without CAP_SETGID, or where the user namespace denies it.
pub fn setgroups(gids: &[u32]) -> Result<(), SysError> {
    // SAFETY: pointer and length are of one slice, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) };
    check(|| format!("setgroups({gids:?})"), done).map(drop)
}

/// Sets real, effective and saved group id.
///
/// # Errors
///
/// setresgid(2) failed: EINVAL for an id that the user namespace does not have.
pub fn setgid(gid: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    check(|| format!("setresgid({gid})"), done).map(drop)
}

/// Sets real, effective and saved user id.
///
/// # Errors
///
/// setresuid(2) failed: EINVAL for an id that the user namespace does not have.
pub fn setuid(uid: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    check(|| format!("setresuid({uid})"), done).map(drop)
}

/// prlimit(2); `u64::MAX` is no limit, pid 0 this process.
///
/// # Errors
///
/// prlimit64(2) failed: EPERM for a hard limit that would be raised without CAP_SYS_RESOURCE.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<(), SysError> {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    let none = std::ptr::null_mut::<libc::rlimit>();
    // SAFETY: rlimit is the kernel's rlimit64 on 64-bit architectures; limit outlives the call, and
    // nothing is written through the null pointer.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, none) };
    check(|| format!("prlimit({resource}, soft {soft}, hard {hard})"), done).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_its_two_words() {
        let [low, high] = split(0x1ff_feff_ffff);
        assert_eq!((low, high), (0xfeff_ffff, 0x1ff));
        assert_eq!(join(low, high), 0x1ff_feff_ffff);
    }
}
