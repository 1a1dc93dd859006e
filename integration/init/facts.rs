//! What can be seen from inside, one fact per line: its name, then its value.

use crate::{Words, say};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd;
use std::ffi::CStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Prints the fact `name`; false if it is unknown.
pub fn tell(name: &str, words: &Words<'_>) -> bool {
    match name {
        "args" => {
            let args = sys::process::args();
            args.iter().enumerate().for_each(|(i, arg)| say!("arg {i} {}", arg.display()));
        }
        "env" => environment(),
        "ids" => ids(),
        "pid" => say!("pid {} ppid {}", unistd::getpid(), unistd::getppid()),
        "group" => say!(
            "pgid {} sid {}",
            unistd::getpgrp(),
            unistd::getsid(None).map_or(-1, |sid| sid.as_raw())
        ),
        "umask" => umask(),
        // SAFETY: takes integers only.
        "securebits" => say!("securebits {}", unsafe { libc::prctl(libc::PR_GET_SECUREBITS) }),
        "lsm" => lines("lsm", "/proc/self/attr/current"),
        "label" => label(words.path(0)),
        "status" => status(words),
        "rlimits" => rlimits(),
        "fds" => fds(),
        "cwd" => match std::env::current_dir() {
            Ok(cwd) => say!("cwd {}", cwd.display()),
            Err(error) => say!("cwd {}", errno(&error)),
        },
        "uname" => uname(),
        "ns" => namespaces(),
        "mounts" => lines("mount", "/proc/self/mountinfo"),
        "cgroups" => lines("cgroup", "/proc/self/cgroup"),
        "ifaces" => interfaces(),
        "affinity" => affinity(),
        "sched" => crate::sched::tell(),
        "keyring" => keyring(),
        "stat" => stat(words.path(0)),
        "list" => list(words.path(0)),
        "read" => match fs::read(words.path(0)) {
            Ok(bytes) => say!("read {} {:?}", words.text(0), String::from_utf8_lossy(&bytes)),
            Err(error) => say!("read {} {}", words.text(0), errno(&error)),
        },
        "link" => match fs::read_link(words.path(0)) {
            Ok(to) => say!("link {} {}", words.text(0), to.display()),
            Err(error) => say!("link {} {}", words.text(0), errno(&error)),
        },
        "statfs" => match nix::sys::statfs::statfs(words.path(0)) {
            Ok(fs) => {
                let size = fs.blocks().saturating_mul(u64::try_from(fs.block_size()).unwrap_or(0));
                say!("statfs {} type {:#x} size {size}", words.text(0), fs.filesystem_type().0);
            }
            Err(error) => say!("statfs {} {error:?}", words.text(0)),
        },
        _ => return false,
    }
    true
}

/// The name of the errno, as printed for every failed operation.
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => format!("{:?}", error.kind()),
    }
}

/// The environment as passed by the kernel, including duplicates: std would read the same array.
fn environment() {
    for (name, value) in std::env::vars_os() {
        say!("env {}={}", name.display(), value.display());
    }
}

fn ids() {
    if let (Ok(uid), Ok(gid)) = (unistd::getresuid(), unistd::getresgid()) {
        say!("uid {} {} {}", uid.real, uid.effective, uid.saved);
        say!("gid {} {} {}", gid.real, gid.effective, gid.saved);
    }
    let groups = unistd::getgroups().unwrap_or_default();
    let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
    say!("groups {}", groups.join(" "));
}

fn umask() {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    say!("umask {:04o}", mask.bits());
}

/// Fields of /proc/self/status, e.g. `CapEff`, `SigIgn` or `NoNewPrivs`.
fn status(words: &Words<'_>) {
    let text = match fs::read_to_string("/proc/self/status") {
        Ok(text) => text,
        Err(error) => return say!("status {}", errno(&error)),
    };
    for line in text.lines() {
        if let Some((field, value)) = line.split_once(':')
            && words.all().any(|wanted| wanted == field)
        {
            say!("{field} {}", value.trim());
        }
    }
}

fn rlimits() {
    let all = [
        ("AS", Resource::RLIMIT_AS),
        ("CORE", Resource::RLIMIT_CORE),
        ("CPU", Resource::RLIMIT_CPU),
        ("DATA", Resource::RLIMIT_DATA),
        ("FSIZE", Resource::RLIMIT_FSIZE),
        ("LOCKS", Resource::RLIMIT_LOCKS),
        ("MEMLOCK", Resource::RLIMIT_MEMLOCK),
        ("MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
        ("NICE", Resource::RLIMIT_NICE),
        ("NOFILE", Resource::RLIMIT_NOFILE),
        ("NPROC", Resource::RLIMIT_NPROC),
        ("RSS", Resource::RLIMIT_RSS),
        ("RTPRIO", Resource::RLIMIT_RTPRIO),
        ("RTTIME", Resource::RLIMIT_RTTIME),
        ("SIGPENDING", Resource::RLIMIT_SIGPENDING),
        ("STACK", Resource::RLIMIT_STACK),
    ];
    for (name, resource) in all {
        match getrlimit(resource) {
            Ok((soft, hard)) => say!("rlimit {name} {soft} {hard}"),
            Err(error) => say!("rlimit {name} {error:?}"),
        }
    }
}

/// Every open descriptor except the one used for reading them.
fn fds() {
    let listing = match fs::read_dir("/proc/self/fd") {
        Ok(listing) => listing,
        Err(error) => return say!("fds {}", errno(&error)),
    };
    let mut open: Vec<(u32, String)> = listing
        .flatten()
        .filter_map(|entry| {
            let to = fs::read_link(entry.path()).ok()?.display().to_string();
            Some((entry.file_name().to_str()?.parse().ok()?, to))
        })
        .filter(|(_, to)| !(to.starts_with("/proc/") && to.ends_with("/fd")))
        .collect();
    open.sort_unstable();
    open.iter().for_each(|(fd, to)| say!("fd {fd} {to}"));
}

fn uname() {
    match nix::sys::utsname::uname() {
        Ok(names) => {
            say!("hostname {}", names.nodename().display());
            say!("domainname {}", names.domainname().display());
        }
        Err(error) => say!("uname {error:?}"),
    }
}

fn namespaces() {
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        match fs::read_link(format!("/proc/self/ns/{name}")) {
            Ok(to) => say!("ns {name} {}", to.display()),
            Err(error) => say!("ns {name} {}", errno(&error)),
        }
    }
}

/// The SELinux label of a file.
fn label(path: &Path) {
    let mut text = [0_u8; 256];
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let (name, key) = (name.as_ptr(), c"security.selinux".as_ptr());
    // SAFETY: two C strings, and a buffer of the given size.
    let length = unsafe { libc::getxattr(name, key, text.as_mut_ptr().cast(), text.len()) };
    match usize::try_from(length) {
        Ok(length) => {
            let text = String::from_utf8_lossy(&text[..length]);
            say!("label {} {}", path.display(), text.trim_end_matches('\0'));
        }
        Err(_) => say!("label {} {}", path.display(), errno(&io::Error::last_os_error())),
    }
}

fn lines(fact: &str, path: &str) {
    match fs::read_to_string(path) {
        Ok(text) => text.lines().for_each(|line| say!("{fact} {line}")),
        Err(error) => say!("{fact} {}", errno(&error)),
    }
}

/// Interfaces with their flags, and their IPv4 addresses.
fn interfaces() {
    let Ok(addresses) = nix::ifaddrs::getifaddrs() else { return say!("iface none") };
    for address in addresses {
        let up = address.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP);
        let v4 = address.address.as_ref().and_then(|a| a.as_sockaddr_in().map(|v4| v4.ip()));
        let v4 = v4.map_or("-".to_string(), |v4| v4.to_string());
        say!("iface {} {} {v4}", address.interface_name, if up { "up" } else { "down" });
    }
}

fn affinity() {
    match nix::sched::sched_getaffinity(unistd::Pid::from_raw(0)) {
        Ok(set) => {
            let cpus =
                (0..nix::sched::CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false));
            let cpus: Vec<String> = cpus.map(|cpu| cpu.to_string()).collect();
            say!("affinity {}", cpus.join(","));
        }
        Err(error) => say!("affinity {error:?}"),
    }
}

/// The description of the session keyring: `keyring;0;0;3f3f0000;_ses.ID`.
fn keyring() {
    const KEYCTL_DESCRIBE: libc::c_long = 6;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    let mut buffer = [0_u8; 512];
    // SAFETY: the kernel writes at most the given length into the buffer, which outlives the call, including
    // a terminating NUL.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_DESCRIBE,
            KEY_SPEC_SESSION_KEYRING,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    match CStr::from_bytes_until_nul(&buffer) {
        Ok(text) if result >= 0 => say!("keyring {}", text.to_string_lossy()),
        _ => say!("keyring {:?}", nix::errno::Errno::last()),
    }
}

fn stat(path: &Path) {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return say!("stat {} {}", path.display(), errno(&error)),
    };
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let (major, minor) = (nix::sys::stat::major(meta.rdev()), nix::sys::stat::minor(meta.rdev()));
    say!(
        "stat {} {kind} {:04o} {} {} {major}:{minor} {}",
        path.display(),
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.size()
    );
}

fn list(path: &Path) {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
            names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
            say!("list {} {}", path.display(), names.len());
            names.iter().for_each(|name| say!("entry {} {}", path.display(), name.display()));
        }
        Err(error) => say!("list {} {}", path.display(), errno(&error)),
    }
}
