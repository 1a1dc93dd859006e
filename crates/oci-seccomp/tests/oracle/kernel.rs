//! Tests that the kernel accepts the filters and applies them. Each in a separate thread, because a filter
//! applies to a thread.

use crate::{NATIVE, profiles};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use oci_seccomp::Filter;
use std::ffi::c_long;
use std::os::fd::{FromRawFd, OwnedFd};

/// Installs the filter, and runs `work` under it.
fn filtered<T: Send + 'static>(
    filter: Filter,
    work: impl FnOnce(Option<OwnedFd>) -> T + Send + 'static,
) -> T {
    let thread = move || {
        // Without privileges, a filter requires it; it applies to the thread. SAFETY: takes integers only.
        let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(result, 0);
        work(install(&filter))
    };
    std::thread::Builder::new().spawn(thread).unwrap().join().unwrap()
}

/// Installs the filter; returns the listener, if it notifies.
fn install(filter: &Filter) -> Option<OwnedFd> {
    let length = filter.program.len().try_into().unwrap();
    let program = libc::sock_fprog { len: length, filter: filter.program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which copies it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            std::ptr::from_ref(&program),
        )
    };
    assert!(result >= 0, "{:?}", Errno::last());
    // SAFETY: a new descriptor, which has no other owner.
    filter.notifies.then(|| unsafe { OwnedFd::from_raw_fd(result.try_into().unwrap()) })
}

fn errno(number: c_long, args: [u64; 3]) -> Option<Errno> {
    // SAFETY: only called with numbers and arguments that change nothing and contain no addresses.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    (result < 0).then(Errno::last)
}

#[test]
fn engines_default_profiles_are_in_force() {
    for spec in [profiles::docker, profiles::containerd].map(|profile| profile(NATIVE)) {
        let filter = oci_seccomp::compile(&spec, NATIVE).unwrap();
        filtered(filter, |listener| {
            assert!(listener.is_none());
            assert_eq!(errno(libc::SYS_getpid, [0; 3]), None);
            assert_eq!(errno(libc::SYS_personality, [0xffff_ffff, 0, 0]), None);
            assert_eq!(errno(libc::SYS_personality, [0x1_0000_0000, 0, 0]), Some(Errno::EPERM));
            assert_eq!(errno(libc::SYS_socket, [40, 1, 0]), Some(Errno::EPERM), "AF_VSOCK");
            assert_eq!(errno(libc::SYS_clone3, [0; 3]), Some(Errno::ENOSYS), "by a rule");
            assert_eq!(errno(libc::SYS_setns, [u64::MAX, 0, 0]), Some(Errno::EPERM), "by default");
        });
    }
}

#[test]
fn who_notifies_gets_a_listener_that_execve_closes() {
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "/run/agent.sock",
        "syscalls": [{ "names": ["vhangup"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let spec = serde_json::from_value(profile).unwrap();
    filtered(oci_seccomp::compile(&spec, NATIVE).unwrap(), |listener| {
        let flags = fcntl(listener.unwrap(), FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    });
}
