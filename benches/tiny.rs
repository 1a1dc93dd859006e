//! Three tiny programs in one static file, selected by its name:
//!
//! * `true` exits immediately; `pause` waits for a signal: the programs of the benchmark's containers.
//! * any other name: `tiny OUT MNTNS SECONDS PROGRAM ARG…` runs a program in the mount namespace MNTNS (a
//!   file of /proc/PID/ns, or `-`), kills it after SECONDS, and writes a line to OUT: exit status, wall ns,
//!   user µs, system µs and peak RSS in KiB, including its descendants.
//!
//! Runtimes are started by this program and not by the benchmark, because the kernel's peak RSS of a process
//! begins with that of the process that forked it.

#![no_main]
#![expect(unsafe_code, reason = "a C main, and system calls without the start-up of std's main")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "the whole program is libc calls")]

use std::env::args_os;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::{fs, mem, ptr};

/// The exit code if the program under test could not be run.
const BROKEN: i32 = 125;

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let name = args_os().next().unwrap_or_default();
    match name.as_bytes().rsplit(|&byte| byte == b'/').next() {
        Some(b"true") => 0,
        Some(b"pause") => loop {
            // SAFETY: has no arguments and accesses no memory.
            unsafe { libc::pause() };
        },
        _ => spawn().unwrap_or_else(|what| {
            eprintln!("tiny: {what}: {}", std::io::Error::last_os_error());
            BROKEN
        }),
    }
}

fn spawn() -> Result<i32, &'static str> {
    let mut args = args_os().skip(1);
    let out = args.next().ok_or("arguments")?;
    enter(args.next().ok_or("arguments")?)?;
    unblock_signals();
    let seconds = args.next().and_then(|text| text.to_str()?.parse().ok()).ok_or("seconds")?;
    let argv: Vec<CString> = args
        .map(|arg| CString::new(arg.into_vec()).map_err(|_| "NUL"))
        .collect::<Result<_, _>>()?;
    let line = measure(&argv, seconds)?;
    #[expect(clippy::disallowed_methods, reason = "the benchmark reads it once, after we end")]
    fs::write(out, line).map_err(|_| "write")?;
    Ok(0)
}

fn enter(namespace: OsString) -> Result<(), &'static str> {
    if namespace == "-" {
        return Ok(());
    }
    let path = CString::new(namespace.into_vec()).map_err(|_| "NUL")?;
    // SAFETY: `path` is a C string that outlives the call; setns takes integers only.
    let result = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        libc::setns(fd, libc::CLONE_NEWNS)
    };
    if result == 0 { Ok(()) } else { Err("setns") }
}

/// The benchmark blocks some signals, and the mask is inherited.
fn unblock_signals() {
    // SAFETY: a zeroed signal set is an empty one, and it outlives the call.
    unsafe {
        let none: libc::sigset_t = mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn measure(argv: &[CString], seconds: i32) -> Result<String, &'static str> {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: single-threaded, so the child may do anything; `pointers` is a null-terminated array of valid C
    // strings; `status` and `usage` are plain integers, for which zero is valid.
    unsafe {
        let begin = now();
        let pid = libc::fork();
        if pid == 0 {
            libc::execv(pointers[0], pointers.as_ptr());
            libc::_exit(BROKEN);
        }
        let mut status = 0;
        let mut usage: libc::rusage = mem::zeroed();
        let ended = wait(pid, seconds, &raw mut status, &raw mut usage)?;
        let wall = now() - begin;
        let code = match () {
            () if !ended => "timeout".into(),
            () if libc::WIFEXITED(status) => libc::WEXITSTATUS(status).to_string(),
            () => format!("signal-{}", libc::WTERMSIG(status)),
        };
        let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
        let (user, system) = (micros(usage.ru_utime), micros(usage.ru_stime));
        Ok(format!("{code} {wall} {user} {system} {}\n", usage.ru_maxrss))
    }
}

/// Reaps `pid`; false if it had to be killed.
///
/// # Safety
///
/// `status` and `usage` must be valid for writes.
unsafe fn wait(
    pid: i32,
    seconds: i32,
    status: *mut i32,
    usage: *mut libc::rusage,
) -> Result<bool, &'static str> {
    // SAFETY: pidfd_open takes integers, poll one valid pollfd, wait4 pointers that the caller vouches for.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        let fd = i32::try_from(fd).map_err(|_| "pidfd_open")?;
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let ended = libc::poll(&raw mut poll, 1, seconds * 1000) == 1;
        if !ended {
            libc::kill(pid, libc::SIGKILL);
        }
        if libc::wait4(pid, status, 0, usage) == pid { Ok(ended) } else { Err("wait4") }
    }
}

fn now() -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
