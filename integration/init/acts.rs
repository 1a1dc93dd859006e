//! Actions inside the container: each prints its result, `ok` or the errno.

use crate::facts::errno;
use crate::{Words, say};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

/// Performs `name`; false if it is unknown.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    let outcome = match name {
        "true" => return true,
        "exit" => std::process::exit(i32::try_from(words.number(0)).unwrap_or(1)),
        "say" => {
            say!("{}", words.all().collect::<Vec<_>>().join(" "));
            return true;
        }
        "warn" => {
            // As for stdout: a closed stream does not matter.
            _ = writeln!(io::stderr(), "{}", words.all().collect::<Vec<_>>().join(" "));
            return true;
        }
        "sleep" => {
            std::thread::sleep(Duration::from_secs_f64(words.text(0).parse().unwrap_or(0.0)));
            return true;
        }
        "sigloop" => return sigloop(words.number(0)),
        "weaken" => return weaken(words.number(0)),
        "burn" => return burn(Duration::from_secs_f64(words.text(0).parse().unwrap_or(0.0))),
        "hog" => return hog(words.number(0), words.text(1) == "keep"),
        "forks" => return forks(words.number(0)),
        "adopted" => return adopted(),
        "orphans" => return orphans(words.number(0)),
        "hop" => return hop(Duration::from_secs(words.number(0))),
        "fill" => return fill(words.path(0), words.number(1)),
        "take" => return take(words.path(0), words.number(1)),
        "write" => fs::write(words.path(0), words.text(1)),
        "append" => OpenOptions::new()
            .append(true)
            .open(words.path(0))
            .and_then(|mut file| file.write_all(words.text(1).as_bytes())),
        "open" => open(words.path(0), words.text(1)),
        "bind" => bind(words.number(0)),
        "mkdir" => fs::create_dir(words.path(0)),
        "rmdir" => fs::remove_dir(words.path(0)),
        "unlink" => fs::remove_file(words.path(0)),
        "rename" => fs::rename(words.path(0), words.path(1)),
        "symlink" => symlink(words.text(0), words.path(1)),
        "mknod" => make_node(words),
        "umount" => umount2(words.path(0), MntFlags::empty()).map_err(io::Error::from),
        "remount-rw" => {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            mount(None::<&str>, words.path(0), None::<&str>, flags, None::<&str>)
                .map_err(io::Error::from)
        }
        "raise" => signal(words.text(0)).and_then(|signal| raise(signal).map_err(io::Error::from)),
        "kill" => send(words.number(0), words.text(1)),
        "exec" => exec(words),
        "notify" => notify(words.text(0)),
        "subreaper" => return subreaper(words),
        _ => return false,
    };
    match outcome {
        Ok(()) => say!("{name} {} ok", words.text(0)),
        Err(error) => say!("{name} {} {}", words.text(0), errno(&error)),
    }
    true
}

/// `r`, `w`, `rw`, `x` (access(2)): whether the kernel permits it, without blocking.
fn open(path: &Path, mode: &str) -> io::Result<()> {
    if mode == "x" {
        return nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).map_err(io::Error::from);
    }
    OpenOptions::new()
        .read(mode.contains('r'))
        .write(mode.contains('w'))
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map(drop)
}

/// `mknod PATH c|b|p MAJOR MINOR`.
fn make_node(words: &Words<'_>) -> io::Result<()> {
    let kind = match words.text(1) {
        "c" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        _ => SFlag::S_IFIFO,
    };
    let device = makedev(words.number(2), words.number(3));
    mknod(words.path(0), kind, Mode::from_bits_truncate(0o600), device).map_err(io::Error::from)
}

/// Listens on a TCP port for a moment.
fn bind(port: u64) -> io::Result<()> {
    let port = u16::try_from(port).map_err(io::Error::other)?;
    TcpListener::bind(("0.0.0.0", port)).map(drop)
}

fn send(pid: u64, name: &str) -> io::Result<()> {
    let pid = i32::try_from(pid).unwrap_or(i32::MAX);
    kill(Pid::from_raw(pid), signal(name)?).map_err(io::Error::from)
}

fn signal(name: &str) -> io::Result<Signal> {
    format!("SIG{name}").parse().map_err(io::Error::from)
}

/// Sends a message to a service manager, like sd_notify(3).
fn notify(text: &str) -> io::Result<()> {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(text.as_bytes(), socket).map(drop)
}

fn exec(words: &Words<'_>) -> io::Result<()> {
    let argv: Result<Vec<CString>, _> = words.all().map(CString::new).collect();
    let argv = argv.map_err(io::Error::other)?;
    let program = CString::new(words.path(0).as_os_str().as_bytes()).map_err(io::Error::other)?;
    match nix::unistd::execv(&program, &argv) {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

/// Runs a command as its subreaper, prints `ready` and its exit code, and reaps no orphans.
fn subreaper(words: &Words<'_>) -> bool {
    let mut words = words.all();
    let program = words.next().unwrap_or_default();
    let adopts = nix::sys::prctl::set_child_subreaper(true);
    match std::process::Command::new(program).args(words).status() {
        Ok(status) if adopts.is_ok() => say!("ready {}", status.code().unwrap_or(-1)),
        outcome => say!("subreaper {adopts:?} {outcome:?}"),
    }
    std::thread::sleep(Duration::from_secs(60));
    true
}

/// Prints `ready`, then every signal it gets; ends after `count` of them, or immediately after SIGTERM.
fn sigloop(count: u64) -> bool {
    let all = SigSet::all();
    if let Err(error) = all.thread_block() {
        say!("sigloop {error:?}");
        return true;
    }
    say!("ready");
    for _ in 0..count {
        // sigwait: a real-time signal has no place in nix's enum.
        let mut number: libc::c_int = 0;
        // SAFETY: both pointers are to valid values of the right types; sigwait writes one int.
        let result = unsafe { libc::sigwait(all.as_ref(), &raw mut number) };
        match Signal::try_from(number) {
            Ok(signal) if result == 0 => say!("signal {}", signal.as_str()),
            _ => say!("signal {number}"),
        }
    }
    true
}

/// Drops a capability, one of the first 32, in this thread; another thread keeps it.
fn weaken(capability: u64) -> bool {
    if let Err(error) = SigSet::all().thread_block() {
        say!("weaken {error:?}");
        return true;
    }
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    // SAFETY: takes integers only.
    let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    // Version 3, this thread; effective, permitted and inheritable of the first and the last 32.
    let (header, mut sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    // SAFETY: the kernel reads the header and writes six numbers; both outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) };
    sets[..3].iter_mut().for_each(|set| *set &= !(1 << capability));
    // SAFETY: the kernel reads both.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    if dropped != 0 || got != 0 || set != 0 {
        say!("weaken {}", io::Error::last_os_error());
    }
    true
}

/// Burns CPU for `wall` of real time and prints how much it got.
fn burn(wall: Duration) -> bool {
    let start = Instant::now();
    let mut round = 0_u64;
    while start.elapsed() < wall {
        (0..10_000_u64).for_each(|n| round = std::hint::black_box(round.wrapping_add(n)));
    }
    let wall = start.elapsed().as_millis();
    match nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        Ok(usage) => {
            let (user, system) = (usage.user_time(), usage.system_time());
            let micros =
                (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
            say!("burn cpu_ms {} wall_ms {wall}", micros / 1000);
        }
        Err(error) => say!("burn {error:?}"),
    }
    true
}

/// Allocates and touches memory, page by page.
fn hog(bytes: u64, keep: bool) -> bool {
    let pages = usize::try_from(bytes / 4096).unwrap_or(0);
    let mut taken: Vec<Box<[u8; 4096]>> = Vec::new();
    for page in 0..pages {
        taken.push(Box::new([u8::try_from(page % 251).unwrap_or(0) + 1; 4096]));
    }
    say!("hog {bytes} touched {}", std::hint::black_box(&taken).len() * 4096);
    if keep {
        std::mem::forget(taken);
    }
    true
}

/// Forks up to `count` processes (never more than 100) that wait, then kills them.
fn forks(count: u64) -> bool {
    let mut children = Vec::new();
    let mut outcome = "ok".to_string();
    for _ in 0..count.min(100) {
        // SAFETY: this program is single-threaded, so the child may continue normally.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { child }) => children.push(child),
            Ok(ForkResult::Child) => {
                std::thread::sleep(Duration::from_secs(60));
                std::process::exit(0);
            }
            Err(error) => {
                outcome = format!("{error:?}");
                break;
            }
        }
    }
    say!("forks {} {outcome}", children.len());
    for child in children {
        // If the child has exited, that is what is wanted.
        _ = kill(child, Signal::SIGKILL);
        _ = waitpid(child, None);
    }
    true
}

/// Leaves `count` processes running in new sessions.
fn orphans(count: u64) -> bool {
    for _ in 0..count.min(20) {
        // SAFETY: as in `forks`.
        match unsafe { fork() } {
            Ok(ForkResult::Parent { .. }) => {}
            Ok(ForkResult::Child) => {
                _ = nix::unistd::setsid();
                std::thread::sleep(Duration::from_secs(60));
                std::process::exit(0);
            }
            Err(error) => say!("orphans {error:?}"),
        }
    }
    say!("orphans {count} of {}", getpid());
    true
}

/// Leaves a process that constantly changes its pid: it forks and exits, for a limited time.
fn hop(longest: Duration) -> bool {
    let start = Instant::now();
    // SAFETY: as in `forks`.
    if let Ok(ForkResult::Child) = unsafe { fork() } {
        while start.elapsed() < longest {
            // SAFETY: as in `forks`.
            if let Ok(ForkResult::Parent { .. }) = unsafe { fork() } {
                std::process::exit(0);
            }
        }
        std::process::exit(0);
    }
    true
}

/// Prints which process becomes the parent of an orphaned grandchild.
fn adopted() -> bool {
    let Ok((mut reader, writer)) = io::pipe() else { panic!("no pipe") };
    // SAFETY: as in `forks`.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { child }) => _ = waitpid(child, None),
        Ok(ForkResult::Child) => {
            let parent = getpid();
            // SAFETY: as in `forks`.
            if let Ok(ForkResult::Child) = unsafe { fork() } {
                while nix::unistd::getppid() == parent {
                    std::thread::sleep(Duration::from_millis(1));
                }
                say!("adopted by {}", nix::unistd::getppid());
            }
            std::process::exit(0);
        }
        Err(error) => say!("adopted {error:?}"),
    }
    // Until the grandchild has exited, the last that holds the other end.
    drop(writer);
    _ = reader.read_to_end(&mut Vec::new());
    true
}

/// Writes up to `limit` bytes into a new file and prints after how many it failed.
fn fill(path: &Path, limit: u64) -> bool {
    let block = [0x55_u8; 65536];
    let (mut written, mut outcome) = (0, "ok".to_string());
    match fs::File::create(path) {
        Ok(mut file) => {
            while written < limit {
                match file.write(&block) {
                    Ok(count) => written += u64::try_from(count).unwrap_or(0),
                    Err(error) => {
                        outcome = error
                            .raw_os_error()
                            .map_or(String::new(), |n| format!("{:?}", Errno::from_raw(n)));
                        break;
                    }
                }
            }
        }
        Err(error) => outcome = errno(&error),
    }
    say!("fill {} {written} {outcome}", path.display());
    true
}

/// Reads up to `limit` bytes of a file and prints how many it got, and in what time.
fn take(path: &Path, limit: u64) -> bool {
    let start = Instant::now();
    let taken =
        fs::File::open(path).and_then(|file| io::copy(&mut file.take(limit), &mut io::sink()));
    match taken {
        Ok(count) => say!("take {} {count} in {} ms", path.display(), start.elapsed().as_millis()),
        Err(error) => say!("take {} {}", path.display(), errno(&error)),
    }
    true
}
