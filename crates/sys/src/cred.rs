//! Credentials: ids, groups, capabilities, and related process attributes. All functions act on the calling
//! thread, which in brig is the whole process. So the C library's functions, which synchronise all threads,
//! are not needed; musl's would make more system calls than a container's seccomp filter may allow.

use super::{SysError, check};

/// The three sets of capset(2), one bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: u64,
    /// Can be made effective.
    pub permitted: u64,
    /// Preserved over execve of a file with the same inheritable capability.
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

/// The low and high word of a set.
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

/// Whether this process has CAP_SYS_ADMIN: root privileges, possibly only in brig's own user namespace.
///
/// # Errors
///
/// If capget(2) fails.
pub fn is_privileged() -> Result<bool, SysError> {
    Ok(capget()?.effective & 1 << 21 != 0)
}

/// Whether this process is in the initial user namespace, which is identified by its inode number
/// (linux/proc_ns.h, PROC_USER_INIT_INO).
pub fn in_first_user_namespace() -> bool {
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|to| to.as_os_str() == "user:[4026531837]")
}

/// capset(2) of this process.
///
/// # Errors
///
/// If capset(2) fails: EPERM for capabilities that are not permitted.
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
    check(|| "capset".into(), done).map(drop)
}

fn prctl(name: &str, option: i32, a: u64, b: u64) -> Result<i64, SysError> {
    // SAFETY: the options used in this module take only integers; unused ones must be 0.
    let done = unsafe { libc::prctl(option, a, b, 0_u64, 0_u64) };
    check(|| format!("prctl({name}, {a}, {b})"), done.into())
}

/// Drops every capability that is not in `keep` from the bounding set.
///
/// # Errors
///
/// If prctl(PR_CAPBSET_DROP) fails: EPERM without CAP_SETPCAP.
pub fn limit_bounding(keep: u64) -> Result<(), SysError> {
    for cap in (0..64).filter(|cap| keep & 1 << cap == 0) {
        match prctl("PR_CAPBSET_DROP", libc::PR_CAPBSET_DROP, cap, 0) {
            // The first number that the kernel does not know: there are no more capabilities.
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
/// If prctl(PR_CAP_AMBIENT) fails: EPERM for a capability that is not both.
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

/// Sets whether a change of uid preserves the permitted capabilities; execve resets it.
///
/// # Errors
///
/// If prctl(PR_SET_KEEPCAPS) fails.
pub fn keep_capabilities(keep: bool) -> Result<(), SysError> {
    prctl("PR_SET_KEEPCAPS", libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// Sets no_new_privs: execve grants no privileges to this process and its descendants any more.
///
/// # Errors
///
/// If prctl(PR_SET_NO_NEW_PRIVS) fails.
pub fn no_new_privileges() -> Result<(), SysError> {
    prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Sets the signal that this process gets when its parent dies; 0: none. Any change of ids clears it.
///
/// # Errors
///
/// If prctl(PR_SET_PDEATHSIG) fails.
pub fn parent_death_signal(signal: i32) -> Result<(), SysError> {
    let signal = u64::from(signal.cast_unsigned());
    prctl("PR_SET_PDEATHSIG", libc::PR_SET_PDEATHSIG, signal, 0).map(drop)
}

/// Makes orphans among this process's descendants its children.
///
/// # Errors
///
/// If prctl(PR_SET_CHILD_SUBREAPER) fails.
pub fn become_subreaper() -> Result<(), SysError> {
    prctl("PR_SET_CHILD_SUBREAPER", libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Makes a brig of uid 0 undumpable, and thereby everything that it clones: only processes with
/// CAP_SYS_PTRACE in the user namespace in which brig was executed may trace it or open its files in /proc. A
/// brig of another uid stays dumpable, because the id maps and the OOM score of an undumpable process are
/// owned by root; its clones make themselves undumpable.
///
/// # Errors
///
/// If prctl(PR_SET_DUMPABLE) fails.
pub fn hide_root() -> Result<(), SysError> {
    if nix::unistd::geteuid().is_root() { dumpable(false) } else { Ok(()) }
}

/// Sets whether other processes of the same user may inspect this one. A change of ids resets it to
/// `fs.suid_dumpable`.
///
/// # Errors
///
/// If prctl(PR_SET_DUMPABLE) fails.
pub fn dumpable(yes: bool) -> Result<(), SysError> {
    prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, yes.into(), 0).map(drop)
}

/// setgroups(2).
///
/// # Errors
///
/// If setgroups(2) fails: EPERM without CAP_SETGID, or if the user namespace denies it.
pub fn setgroups(gids: &[u32]) -> Result<(), SysError> {
    // SAFETY: pointer and length are those of one slice, which outlives the call.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, gids.len(), gids.as_ptr()) };
    let what = || match gids.len() {
        0..=16 => format!("setgroups({gids:?})"),
        many => format!("setgroups({many} groups)"),
    };
    check(what, done).map(drop)
}

/// Sets real, effective and saved group id.
///
/// # Errors
///
/// If setresgid(2) fails: EINVAL for an id that is not mapped in the user namespace.
pub fn setgid(gid: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) };
    check(|| format!("setresgid({gid})"), done).map(drop)
}

/// Sets real, effective and saved user id.
///
/// # Errors
///
/// If setresuid(2) fails: EINVAL for an id that is not mapped in the user namespace.
pub fn setuid(uid: u32) -> Result<(), SysError> {
    // SAFETY: takes integers only.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
    check(|| format!("setresuid({uid})"), done).map(drop)
}

/// prlimit(2); `u64::MAX` is unlimited, pid 0 this process.
///
/// # Errors
///
/// If prlimit64(2) fails: EPERM for raising a hard limit without CAP_SYS_RESOURCE.
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
