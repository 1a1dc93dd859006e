//! System calls, counted by strace, and the time that the kernel spends in each phase of a `run`.

use crate::bundle::World;
use crate::measure;
use crate::peer::{Peer, Verb};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

/// The number of system calls, by operation and peer.
pub type Calls = BTreeMap<(&'static str, String), usize>;

/// Calls and ms, by phase and peer.
pub type Phases = BTreeMap<(&'static str, String), (usize, f64)>;

const STRACE: &str = "/usr/bin/strace";

/// Counts those of `run` and of operations on a container that do not fork. Empty without strace.
pub fn count(world: &World) -> Result<Calls> {
    let mut calls = Calls::new();
    if !Path::new(STRACE).exists() {
        eprintln!("no {STRACE}: no system calls are counted");
        return Ok(calls);
    }
    eprintln!("system calls");
    for peer in &world.peers {
        let mut count = |operation, verb, config| match counted(world, peer, verb, config) {
            Ok(found) => drop(calls.insert((operation, peer.name.clone()), found)),
            Err(error) => eprintln!("{} {operation}: {error:#}", peer.name),
        };
        count("run-minimal", Verb::Run, "minimal");
        count("run-full", Verb::Run, "full");
        world.clear(peer)?;
        // Not create: strace would wait for the container's init.
        if measure::call(world, peer, Verb::Create, "full-pause", "bench").is_ok() {
            count("state", Verb::State, "full-pause");
            count("start", Verb::Start, "full-pause");
            count("delete-force", Verb::Force, "full-pause");
        }
        world.clear(peer)?;
        world.host.check_interrupt()?;
    }
    Ok(calls)
}

fn strace(world: &World, peer: &Peer, flags: &[&str], verb: Verb, config: &str) -> Result<String> {
    let out = peer.dir.join("strace");
    let mut argv: Vec<OsString> = vec![STRACE.into(), "-f".into(), "-o".into(), out.clone().into()];
    argv.extend(flags.iter().map(Into::into));
    argv.extend(peer.command(verb, config, "bench", &world.host));
    measure::run(world, peer, &argv, "30").context("strace")?;
    Ok(fs::read_to_string(out)?)
}

fn counted(world: &World, peer: &Peer, verb: Verb, config: &str) -> Result<usize> {
    let text = strace(world, peer, &["-c"], verb, config)?;
    let total = text.lines().find(|line| line.ends_with(" total")).context("strace: no total")?;
    let calls = total.split_whitespace().nth(3).context("strace: no count")?;
    calls.parse().with_context(|| format!("strace: {total}"))
}

/// The phases in the order of the table. The phase of a call is determined by its name, or by paths in its
/// arguments.
pub const PHASES: [&str; 11] = [
    "start-up and memory",
    "cgroup directories",
    "cgroup limits",
    "entering cgroups",
    "clone and namespaces",
    "mounts and pivot",
    "files, devices, links",
    "ids and capabilities",
    "execve and exit",
    "signals and waiting",
    "other",
];

fn phase(name: &str, line: &str) -> &'static str {
    match name {
        "mkdir" | "mkdirat" | "rmdir" | "unlinkat"
            if line.contains("/sys/fs/cgroup/") && line.contains("brig-bench") =>
        {
            PHASES[1]
        }
        "brk" | "mmap" | "munmap" | "mprotect" | "mremap" | "madvise" | "arch_prctl"
        | "set_tid_address" | "rseq" | "set_robust_list" | "getrandom" | "prlimit64"
        | "readlink" | "futex" | "sched_getaffinity" => PHASES[0],
        "clone" | "clone3" | "fork" | "vfork" | "unshare" | "setns" | "sethostname"
        | "setdomainname" => PHASES[4],
        "mount" | "umount2" | "pivot_root" | "chroot" | "fsopen" | "fsconfig" | "fsmount"
        | "open_tree" | "move_mount" | "mount_setattr" | "fspick" | "statfs" | "fstatfs"
        | "statmount" => PHASES[5],
        "capget" | "capset" | "prctl" | "setuid" | "setgid" | "setresuid" | "setresgid"
        | "setgroups" | "setsid" | "keyctl" | "setrlimit" | "umask" | "getuid" | "geteuid"
        | "getgid" | "getegid" => PHASES[7],
        "execve" | "execveat" | "exit" | "exit_group" | "close_range" => PHASES[8],
        "wait4" | "waitid" | "poll" | "ppoll" | "select" | "epoll_wait" | "epoll_pwait"
        | "nanosleep" | "clock_nanosleep" | "recvmsg" | "recvfrom" | "rt_sigprocmask"
        | "rt_sigaction" | "sigaltstack" | "signalfd4" | "pidfd_open" => PHASES[9],
        _ if line.contains("/tasks") || line.contains("cgroup.procs") => PHASES[3],
        _ if line.contains("/sys/fs/cgroup") => PHASES[2],
        "close" | "read" | "write" | "lseek" | "fcntl" | "getdents64" | "flock" | "mknod"
        | "mknodat" | "symlink" | "symlinkat" | "mkdir" | "mkdirat" | "openat2" | "open"
        | "openat" | "chmod" | "fchmod" | "fchmodat" | "fchown" | "fchownat" | "stat" | "lstat"
        | "fstat" | "newfstatat" | "statx" | "access" | "faccessat" | "faccessat2"
        | "readlinkat" | "chdir" | "fchdir" | "unlink" | "unlinkat" | "rename" | "renameat2" => {
            PHASES[6]
        }
        _ => PHASES[10],
    }
}

/// The phases of `run` with the full configuration, for the floor, brig and crun.
pub fn phases(world: &World) -> Result<Phases> {
    let mut phases = Phases::new();
    eprintln!("phases");
    if !Path::new(STRACE).exists() {
        return Ok(phases);
    }
    for peer in
        world.peers.iter().filter(|peer| ["floor", "brig", "crun"].contains(&peer.name.as_str()))
    {
        let mut times: BTreeMap<&'static str, Vec<(usize, f64)>> = BTreeMap::new();
        for _ in 0..9 {
            let text = strace(world, peer, &["-T", "-y", "-s", "200"], Verb::Run, "full")?;
            for (phase, found) in one(&text) {
                times.entry(phase).or_default().push(found);
            }
        }
        for (phase, mut found) in times {
            found.sort_by(|a, b| a.1.total_cmp(&b.1));
            phases.insert((phase, peer.name.clone()), found[found.len() / 2]);
        }
    }
    Ok(phases)
}

/// Calls and ms of one traced run. strace's own overhead, that of a cheap call, is subtracted.
fn one(text: &str) -> BTreeMap<&'static str, (usize, f64)> {
    let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found: Vec<(&'static str, f64)> = Vec::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.ends_with("<unfinished ...>") {
            unfinished.insert(pid, rest);
            continue;
        }
        let Some(seconds) = seconds(rest) else { continue };
        let call =
            if rest.starts_with("<... ") { unfinished.remove(pid).unwrap_or(rest) } else { rest };
        let name = call.split('(').next().unwrap_or_default();
        // Reading and writing pipes and sockets includes waiting for the other side.
        let blocks = ["read", "write", "sendmsg", "sendto"].contains(&name)
            && ["<pipe:", "<socket:", "<UNIX", "<anon_inode"]
                .iter()
                .any(|kind| call.contains(kind));
        found.push((if blocks { PHASES[9] } else { phase(name, call) }, seconds));
    }
    let mut all: Vec<f64> = found.iter().map(|&(_, seconds)| seconds).collect();
    all.sort_by(f64::total_cmp);
    let cheap = all.get(all.len() / 4).copied().unwrap_or_default();
    let mut phases: BTreeMap<&'static str, (usize, f64)> = BTreeMap::new();
    for (phase, seconds) in found {
        let sum = phases.entry(phase).or_default();
        sum.0 += 1;
        // The duration of waits is not a cost.
        sum.1 += if phase == PHASES[9] { 0.0 } else { (seconds - cheap).max(0.0) * 1000.0 };
    }
    phases
}

/// `… = 0 <0.000012>`
fn seconds(line: &str) -> Option<f64> {
    line.strip_suffix('>')?.rsplit('<').next()?.parse().ok()
}
