//! The floor: the minimum cost of the benchmark's two configurations on this kernel. A program that makes the
//! system calls that they require, in brig's order, without parsing, checks, logs or state. What a runtime
//! needs beyond that is its own overhead.
//!
//! `floor run|create|start|delete|force min|full ROOTFS NAME HIERARCHIES WORK`: HIERARCHIES are the mount
//! points of cgroup v1, joined by `:`, or `v2=` and that of cgroup v2; WORK is a directory for the start fifo
//! and the pid. `min-honest` and `full-honest`: including what `honest` does.

#![no_main]
#![expect(unsafe_code, reason = "a C main, and raw system calls: what they cost is the point")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "arguments of system calls are words, whatever their type"
)]

mod config;
mod honest;

use std::ffi::{CString, c_long};
use std::fmt::Display;
use std::{env, mem, process, str};

type Word = usize;

/// Device rules in the format of v1's devices.allow: docker's list.
const DEVICES: [&str; 9] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
];

/// One system call: returns its result, or the negated errno.
fn sys<const N: usize>(number: c_long, given: [Word; N]) -> isize {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    let [a, b, c, d, e, f] = args;
    // SAFETY: every pointer passed by the callers is to a value that outlives the call; this program is
    // single-threaded, so a clone's child may continue like its parent.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { -(errno() as isize) } else { result as isize }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn must(what: impl Display, result: isize) -> usize {
    usize::try_from(result).unwrap_or_else(|_| {
        eprintln!("floor: {what}: errno {}", -result);
        leave(1)
    })
}

fn leave(code: i32) -> ! {
    sys(libc::SYS_exit_group, [code as Word]);
    process::abort()
}

fn c(text: impl Display) -> CString {
    CString::new(text.to_string()).unwrap_or_default()
}

fn at(text: &CString) -> Word {
    text.as_ptr() as Word
}

const CWD: Word = libc::AT_FDCWD as Word;

fn open(path: impl Display, flags: i32) -> usize {
    let path = c(path);
    must("open", sys(libc::SYS_openat, [CWD, at(&path), (flags | libc::O_CLOEXEC) as Word, 0]))
}

fn put(path: impl Display, value: &str) {
    let fd = open(&path, libc::O_WRONLY);
    must(&path, sys(libc::SYS_write, [fd, value.as_ptr() as Word, value.len()]));
    sys(libc::SYS_close, [fd]);
}

fn get(path: impl Display) -> String {
    let mut text = [0u8; 256];
    let fd = open(path, libc::O_RDONLY);
    let count = must("read", sys(libc::SYS_read, [fd, text.as_mut_ptr() as Word, text.len()]));
    sys(libc::SYS_close, [fd]);
    str::from_utf8(&text[..count]).unwrap_or_default().trim().to_owned()
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) {
    let (source, path, kind, data) = (c(source), c(target), c(kind), c(data));
    let args = [at(&source), at(&path), at(&kind), flags as Word, at(&data)];
    must(format_args!("mount {target}"), sys(libc::SYS_mount, args));
}

struct Job {
    full: bool,
    honest: bool,
    rootfs: String,
    name: String,
    v1: Vec<String>,
    v2: Option<String>,
    work: String,
}

#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    let args: Vec<String> = env::args().collect();
    let [_, verb, config, rootfs, name, hierarchies, work] = args.as_slice() else {
        eprintln!("floor VERB CONFIG ROOTFS NAME HIERARCHIES WORK");
        return 2;
    };
    let v2 = hierarchies.strip_prefix("v2=").map(str::to_owned);
    let v1 = match v2 {
        Some(_) => Vec::new(),
        None => hierarchies.split(':').map(str::to_owned).collect(),
    };
    let (rootfs, name, work) = (rootfs.clone(), name.clone(), work.clone());
    let (full, honest) = (config.starts_with("full"), config.ends_with("-honest"));
    let job = Job { full, honest, rootfs, name, v1, v2, work };
    if honest {
        match verb.as_str() {
            "run" | "create" => honest::seal(),
            _ => honest::look(&job),
        }
    }
    match verb.as_str() {
        "run" => run(&job),
        "create" => create(&job),
        "start" => put(format_args!("{}/go", job.work), "1"),
        "delete" => remove(&job),
        _ => force(&job),
    }
    leave(0)
}

fn run(job: &Job) {
    let groups = begin(job);
    let pid = spawn(job, &groups, None);
    if job.honest {
        honest::made(job);
    }
    must("wait4", sys(libc::SYS_wait4, [pid, 0, 0, 0]));
    remove(job);
}

fn begin(job: &Job) -> Groups {
    if job.honest {
        honest::begin(job);
    }
    make_cgroups(job)
}

fn remove(job: &Job) {
    remove_cgroups(job);
    if job.honest {
        honest::end(job);
    }
}

/// Creates the container; returns when it waits for start.
fn create(job: &Job) {
    let fifo = c(format_args!("{}/go", job.work));
    must("mkfifo", sys(libc::SYS_mknodat, [CWD, at(&fifo), (libc::S_IFIFO | 0o600) as Word, 0]));
    let go = open(format_args!("{}/go", job.work), libc::O_RDWR);
    let mut ready = [0i32; 2];
    must("pipe2", sys(libc::SYS_pipe2, [ready.as_mut_ptr() as Word, libc::O_CLOEXEC as Word]));
    let groups = begin(job);
    let pid = spawn(job, &groups, Some((go, ready[1] as usize)));
    let mut byte = [0u8];
    sys(libc::SYS_close, [ready[1] as usize]);
    must("ready", sys(libc::SYS_read, [ready[0] as usize, byte.as_mut_ptr() as Word, 1]) - 1);
    let (path, text) = (c(format_args!("{}/pid", job.work)), pid.to_string());
    let flags = (libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC) as Word;
    let file = must("pid file", sys(libc::SYS_openat, [CWD, at(&path), flags, 0o600]));
    must("pid file", sys(libc::SYS_write, [file, text.as_ptr() as Word, text.len()]));
    if job.honest {
        honest::made(job);
    }
}

/// Kills what runs and waits for its exit.
fn force(job: &Job) {
    let pid = get(format_args!("{}/pid", job.work)).parse().unwrap_or(0);
    let fd = must("pidfd_open", sys(libc::SYS_pidfd_open, [pid, 0]));
    sys(libc::SYS_pidfd_send_signal, [fd, libc::SIGKILL as Word, 0, 0]);
    let mut poll = libc::pollfd { fd: fd as i32, events: libc::POLLIN, revents: 0 };
    must("poll", sys(libc::SYS_poll, [(&raw mut poll) as Word, 1, 10_000]));
    remove(job);
}

/// How the child enters its cgroups: `tasks` files to write 0 to, or the directory for CLONE_INTO_CGROUP.
struct Groups {
    tasks: Vec<usize>,
    unified: Option<usize>,
}

fn make_cgroups(job: &Job) -> Groups {
    let mut tasks = Vec::new();
    for mounted in &job.v1 {
        let dir = make_dir(mounted, &job.name);
        for controller in mounted.rsplit('/').next().unwrap_or_default().split(',') {
            limit_v1(job, controller, mounted, &dir);
        }
        tasks.push(open(format_args!("{dir}/tasks"), libc::O_WRONLY));
    }
    let unified = job.v2.as_ref().map(|mounted| {
        let dir = make_dir(mounted, &job.name);
        if job.full {
            put(format_args!("{dir}/memory.max"), config::MEMORY);
            let quota = format!("{} {}", config::QUOTA, config::PERIOD);
            put(format_args!("{dir}/cpu.max"), &quota);
            put(format_args!("{dir}/pids.max"), config::PIDS);
        }
        open(&dir, libc::O_DIRECTORY)
    });
    Groups { tasks, unified }
}

fn make_dir(mounted: &str, name: &str) -> String {
    let dir = format!("{mounted}/{name}");
    let path = c(&dir);
    must(&dir, sys(libc::SYS_mkdirat, [CWD, at(&path), 0o755]));
    dir
}

fn limit_v1(job: &Job, controller: &str, mounted: &str, dir: &str) {
    match controller {
        "cpuset" => {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                put(format_args!("{dir}/{file}"), &get(format_args!("{mounted}/{file}")));
            }
        }
        // The default rules apply in both configurations.
        "devices" => {
            put(format_args!("{dir}/devices.deny"), "a");
            for rule in DEVICES {
                put(format_args!("{dir}/devices.allow"), rule);
            }
        }
        "memory" if job.full => {
            put(format_args!("{dir}/memory.limit_in_bytes"), config::MEMORY);
        }
        "cpu" if job.full => {
            put(format_args!("{dir}/cpu.cfs_period_us"), config::PERIOD);
            put(format_args!("{dir}/cpu.cfs_quota_us"), config::QUOTA);
        }
        "pids" if job.full => put(format_args!("{dir}/pids.max"), config::PIDS),
        _ => {}
    }
}

fn remove_cgroups(job: &Job) {
    for mounted in job.v1.iter().chain(&job.v2) {
        let dir = format!("{mounted}/{}", job.name);
        let path = c(&dir);
        must(&dir, sys(libc::SYS_unlinkat, [CWD, at(&path), libc::AT_REMOVEDIR as Word]));
    }
}

fn spawn(job: &Job, groups: &Groups, start: Option<(usize, usize)>) -> usize {
    let namespaces = libc::CLONE_NEWPID
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNET;
    let mut args = libc::clone_args {
        flags: u64::from(namespaces as u32),
        exit_signal: libc::SIGCHLD as u64,
        ..no_clone_args()
    };
    if let Some(dir) = groups.unified {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        args.cgroup = dir as u64;
    }
    let size = size_of::<libc::clone_args>();
    match must("clone3", sys(libc::SYS_clone3, [(&raw const args) as Word, size])) {
        0 => child(job, groups, start),
        pid => pid,
    }
}

fn no_clone_args() -> libc::clone_args {
    // SAFETY: integers only, for which zero is valid.
    unsafe { mem::zeroed() }
}

fn child(job: &Job, groups: &Groups, start: Option<(usize, usize)>) -> ! {
    for &tasks in &groups.tasks {
        must("tasks", sys(libc::SYS_write, [tasks, b"0".as_ptr() as Word, 1]));
    }
    if job.full {
        must("cgroupns", sys(libc::SYS_unshare, [libc::CLONE_NEWCGROUP as Word]));
    }
    sys(libc::SYS_setsid, []);
    loopback_up();
    mount("", "/", "", libc::MS_SLAVE | libc::MS_REC, "");
    mount(&job.rootfs, &job.rootfs, "", libc::MS_BIND | libc::MS_REC, "");
    let root = c(&job.rootfs);
    must("chdir", sys(libc::SYS_chdir, [at(&root)]));
    mount("proc", "proc", "proc", 0, "");
    let flags = libc::MS_NOSUID | libc::MS_STRICTATIME;
    mount("tmpfs", "dev", "tmpfs", flags, "mode=755,size=65536k");
    if job.full {
        mounts(job);
    }
    devices();
    pivot();
    if job.full {
        cover();
        finish();
    }
    if let Some((go, ready)) = start {
        let mut byte = [0u8];
        must("ready", sys(libc::SYS_write, [ready, b"1".as_ptr() as Word, 1]));
        sys(libc::SYS_close, [ready]);
        must("go", sys(libc::SYS_read, [go, byte.as_mut_ptr() as Word, 1]));
    }
    sys(libc::SYS_close_range, [3, u32::MAX as Word, 0]);
    let program = c(if start.is_some() { "/pause" } else { "/true" });
    let argv = [at(&program), 0];
    must(
        "execve",
        sys(libc::SYS_execve, [at(&program), argv.as_ptr() as Word, (&raw const argv[1]) as Word]),
    );
    leave(1)
}

fn loopback_up() {
    // SAFETY: integers and bytes only, for which zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as Word;
    let socket = must("socket", sys(libc::SYS_socket, [libc::AF_INET as Word, kind, 0]));
    let args = [socket, libc::SIOCSIFFLAGS as Word, (&raw const request) as Word];
    must("lo", sys(libc::SYS_ioctl, args));
    sys(libc::SYS_close, [socket]);
}

fn mounts(job: &Job) {
    let safe = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
    for dir in ["dev/pts", "dev/shm", "dev/mqueue"] {
        let path = c(dir);
        must(dir, sys(libc::SYS_mkdirat, [CWD, at(&path), 0o755]));
    }
    let data = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", libc::MS_NOSUID | libc::MS_NOEXEC, data);
    mount("shm", "dev/shm", "tmpfs", safe, "mode=1777,size=65536k");
    mount("mqueue", "dev/mqueue", "mqueue", safe, "");
    mount("sysfs", "sys", "sysfs", safe | libc::MS_RDONLY, "");
    match &job.v2 {
        Some(_) => mount("cgroup", "sys/fs/cgroup", "cgroup2", safe | libc::MS_RDONLY, ""),
        None => cgroup_mounts(job, safe),
    }
}

fn cgroup_mounts(job: &Job, safe: libc::c_ulong) {
    mount("tmpfs", "sys/fs/cgroup", "tmpfs", safe, "mode=755");
    for mounted in &job.v1 {
        let name = mounted.rsplit('/').next().unwrap_or_default();
        let target = format!("sys/fs/cgroup/{name}");
        let path = c(&target);
        must(name, sys(libc::SYS_mkdirat, [CWD, at(&path), 0o755]));
        let data = if name == "systemd" { "none,name=systemd" } else { name };
        mount("cgroup", &target, "cgroup", safe | libc::MS_RDONLY, data);
    }
    mount("", "sys/fs/cgroup", "", safe | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, "");
}

fn devices() {
    for (name, major, minor) in [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ] {
        let path = c(format_args!("dev/{name}"));
        let device = libc::makedev(major, minor) as Word;
        must(
            name,
            sys(libc::SYS_mknodat, [CWD, at(&path), (libc::S_IFCHR | 0o666) as Word, device]),
        );
        must(name, sys(libc::SYS_fchmodat, [CWD, at(&path), 0o666]));
    }
    for (target, name) in [
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
        ("pts/ptmx", "dev/ptmx"),
    ] {
        let (target, path) = (c(target), c(name));
        must(name, sys(libc::SYS_symlinkat, [at(&target), CWD, at(&path)]));
    }
}

fn pivot() {
    let here = c(".");
    must("pivot_root", sys(libc::SYS_pivot_root, [at(&here), at(&here)]));
    must("umount2", sys(libc::SYS_umount2, [at(&here), libc::MNT_DETACH as Word]));
    let top = c("/");
    must("chdir", sys(libc::SYS_chdir, [at(&top)]));
}

/// Masked and read-only paths. The first masked directory gets a read-only tmpfs, the others a bind mount of
/// it, which is read-only like its source.
fn cover() {
    let mut empty: Option<&str> = None;
    for target in config::MASKED {
        match (stat(target), empty) {
            (Kind::Absent, _) => {}
            (Kind::Other, _) => mount("/dev/null", target, "", libc::MS_BIND, ""),
            (Kind::Directory, Some(empty)) => mount(empty, target, "", libc::MS_BIND, ""),
            (Kind::Directory, None) => {
                mount("tmpfs", target, "tmpfs", libc::MS_RDONLY, "");
                empty = Some(target);
            }
        }
    }
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_RDONLY;
    for target in config::READONLY {
        if !matches!(stat(target), Kind::Absent) {
            mount(target, target, "", libc::MS_BIND | libc::MS_REC, "");
            mount("", target, "", libc::MS_REMOUNT | libc::MS_BIND | flags, "");
        }
    }
}

enum Kind {
    Absent,
    Directory,
    Other,
}

fn stat(path: &str) -> Kind {
    match std::fs::metadata(path) {
        Err(_) => Kind::Absent,
        Ok(metadata) if metadata.is_dir() => Kind::Directory,
        Ok(_) => Kind::Other,
    }
}

/// Hostname, limits, capabilities, ids.
fn finish() {
    let name = config::HOSTNAME;
    must("hostname", sys(libc::SYS_sethostname, [name.as_ptr() as Word, name.len()]));
    let limit = libc::rlimit { rlim_cur: config::NOFILE, rlim_max: config::NOFILE };
    let args = [0, libc::RLIMIT_NOFILE as Word, (&raw const limit) as Word, 0];
    must("prlimit", sys(libc::SYS_prlimit64, args));
    for number in 0..64 {
        let kept = config::CAPABILITIES.iter().any(|&(_, kept)| kept == number);
        let drop = [libc::PR_CAPBSET_DROP as Word, number as Word, 0, 0, 0];
        if !kept && sys(libc::SYS_prctl, drop) < 0 {
            break;
        }
    }
    must("groups", sys(libc::SYS_setgroups, [0, 0]));
    must("gid", sys(libc::SYS_setresgid, [0, 0, 0]));
    must("uid", sys(libc::SYS_setresuid, [0, 0, 0]));
    let kept: u32 = config::CAPABILITIES.iter().map(|&(_, number)| 1 << number).sum();
    let header: [u32; 2] = [0x2008_0522, 0];
    let sets: [u32; 6] = [kept, kept, 0, 0, 0, 0];
    let args = [header.as_ptr() as Word, sets.as_ptr() as Word];
    must("capset", sys(libc::SYS_capset, args));
    let args = [libc::PR_SET_NO_NEW_PRIVS as Word, 1, 0, 0, 0];
    must("no_new_privs", sys(libc::SYS_prctl, args));
}
