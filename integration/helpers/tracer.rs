//! Interferes with a process from its first instruction on.

use crate::host::Version;
use crate::sandbox::{Running, Sandbox, before_exec};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::io;
use std::process::Command;

/// From here on the system call returns ENOSYS, as on an older kernel. Called between fork and exec.
pub fn without_syscall(number: libc::c_long) -> io::Result<()> {
    fails(number, libc::ENOSYS)
}

/// From here on the system call returns this errno. Called between fork and exec.
pub fn fails(number: libc::c_long, errno: i32) -> io::Result<()> {
    let code = |code: u32| u16::try_from(code).unwrap_or_default();
    let statement = |class: u32, k: u32| libc::sock_filter { code: code(class), jt: 0, jf: 0, k };
    let mut program = [
        // The system call number is the first word of struct seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            jt: 0,
            jf: 1,
            k: u32::try_from(number).unwrap_or(u32::MAX),
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the four instructions that `program` points to during the call. root does not
    // need no_new_privs.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The process whose system calls are counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Whose {
    /// The command. What it clones is not traced.
    Parent,
    /// The first process that the command clones.
    Child,
}

/// The result of a traced command.
#[derive(Debug)]
pub struct Traced {
    /// The exit code of the command; None after a signal.
    pub code: Option<i32>,
    /// The counted system calls, in order; the last was stopped at its entry, if `reached`.
    pub calls: Vec<i64>,
    /// The first two arguments of each of them.
    pub arguments: Vec<[u64; 2]>,
    /// Whether there were as many calls as requested.
    pub reached: bool,
}

/// Starts a command that is traced and stopped right after its execve, including its children if requested.
fn spawn_traced(sandbox: &Sandbox, mut command: Command, whose: Whose) -> (Running, Pid) {
    before_exec(&mut command, || Ok(ptrace::traceme()?));
    let running = sandbox.spawn(command);
    let parent = Pid::from_raw(running.child.id().try_into().unwrap());
    assert!(matches!(wait(parent), WaitStatus::Stopped(_, Signal::SIGTRAP)), "no stop at exec");
    // Without TRACEEXEC, brig would get a SIGTRAP when it executes itself.
    let mut options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
    if whose == Whose::Child {
        options |= Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE;
    }
    ptrace::setoptions(parent, options).unwrap();
    (running, parent)
}

/// Runs a command, stops it (or its child) at the entry of its system call number `at`, which is not
/// executed, and kills according to `strike`. Afterwards both continue, untraced.
pub fn run(sandbox: &Sandbox, command: Command, whose: Whose, at: usize, strike: Strike) -> Traced {
    let (mut running, parent) = spawn_traced(sandbox, command, whose);
    let mut tracer = Tracer::new(parent, whose, at);
    tracer.go_on(parent, None);
    let code = loop {
        // Only children of this thread: other tests run in other threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::Exited(pid, code) if pid == parent => break Some(code),
            WaitStatus::Signaled(pid, ..) if pid == parent => break None,
            status => tracer.step(status, strike),
        }
    };
    let_go(&mut running);
    Traced { code, calls: tracer.calls, arguments: tracer.arguments, reached: tracer.reached }
}

/// What to kill at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strike {
    /// The command is killed. A stopped child continues.
    Parent,
    /// The command is killed. A stopped child stays stopped, with SIGSTOP.
    ParentAndFreezeChild,
    /// The child is killed.
    Child,
}

struct Tracer {
    parent: Pid,
    whose: Whose,
    at: usize,
    child: Option<Pid>,
    calls: Vec<i64>,
    arguments: Vec<[u64; 2]>,
    reached: bool,
}

impl Tracer {
    fn new(parent: Pid, whose: Whose, at: usize) -> Tracer {
        let (calls, arguments) = (Vec::new(), Vec::new());
        Tracer { parent, whose, at, child: None, calls, arguments, reached: false }
    }

    fn step(&mut self, status: WaitStatus, strike: Strike) {
        match status {
            WaitStatus::PtraceSyscall(pid) => match entered(pid) {
                Some((call, arguments)) => {
                    self.calls.push(call);
                    self.arguments.push(arguments);
                    self.reached = self.calls.len() == self.at;
                    if self.reached { self.strike(pid, strike) } else { self.go_on(pid, None) }
                }
                None => self.go_on(pid, None),
            },
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => self.go_on(pid, None),
            WaitStatus::PtraceEvent(pid, ..) => {
                if let Ok(new) = ptrace::getevent(pid) {
                    self.child.get_or_insert(Pid::from_raw(i32::try_from(new).unwrap()));
                }
                self.go_on(pid, None);
            }
            // A traced child begins with a SIGSTOP from ptrace, which can be reported before the parent's
            // event.
            WaitStatus::Stopped(pid, Signal::SIGSTOP) if pid != self.parent => {
                self.child.get_or_insert(pid);
                self.go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal)),
            // A child that ended before its parent.
            _ => {}
        }
    }

    /// Counted processes stop at every call; the others continue.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) {
        let counted = match self.whose {
            Whose::Parent => pid == self.parent,
            Whose::Child => Some(pid) == self.child,
        };
        // ESRCH: it was killed in the meantime.
        _ = match counted && !self.reached {
            true => ptrace::syscall(pid, signal),
            false => ptrace::cont(pid, signal),
        };
    }

    fn strike(&self, at: Pid, strike: Strike) {
        match strike {
            Strike::Child => kill(at, Signal::SIGKILL).unwrap(),
            Strike::Parent | Strike::ParentAndFreezeChild => {
                kill(self.parent, Signal::SIGKILL).unwrap();
                if at != self.parent {
                    // The parent must be dead before the child continues, and nothing may be left that only
                    // this tracer can resume.
                    peek_at_end(self.parent);
                    let freeze = strike == Strike::ParentAndFreezeChild && at_home(&self.calls);
                    let stop = freeze.then_some(Signal::SIGSTOP);
                    // ESRCH: it died with its parent.
                    _ = ptrace::detach(at, stop);
                }
            }
        }
    }
}

/// Whether the child has got far enough to be frozen. Its first calls close what it has inherited, including
/// brig's lock. Frozen before that, which only a tracer could do, it would hold the lock forever: so wait
/// until it has set PDEATHSIG.
///
/// Not necessary if it is cloned into its cgroup (cgroup2): there delete finds it.
fn at_home(calls: &[i64]) -> bool {
    let born_there =
        crate::host::controller("pids").is_some_and(|(version, _)| version == Version::V2);
    born_there || calls.contains(&libc::SYS_prctl)
}

/// Reaps the command, and detaches from all processes that this thread still traces: the command can end before
/// the stop of its child at execve is seen. The zombie of a traced process is left to its tracer, and its pid
/// namespace does not end.
fn let_go(ended: &mut Running) {
    // std has not reaped it: its pid must not be used any more.
    _ = ended.child.try_wait();
    let own = format!("TracerPid:\t{}", nix::unistd::gettid());
    let status = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/status"));
    let is_traced = |pid: &i32| status(*pid).is_ok_and(|text| text.lines().any(|line| line == own));
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids.filter(is_traced).map(Pid::from_raw) {
        // Only a stopped process can be detached from. Its SIGSTOP may be behind another stop. An error: it has
        // died.
        _ = kill(pid, Signal::SIGSTOP);
        if !matches!(wait(pid), WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
            _ = ptrace::detach(pid, None);
            _ = kill(pid, Signal::SIGCONT);
        }
    }
}

fn wait(pid: Pid) -> WaitStatus {
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap()
}

/// Waits until a process has exited, without reaping it.
fn peek_at_end(pid: Pid) {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    waitid(Id::Pid(pid), flags).unwrap();
}

/// The number and first arguments of the call at whose entry a process is stopped.
fn entered(pid: Pid) -> Option<(i64, [u64; 2])> {
    let info = ptrace::syscall_info(pid).ok()?;
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: at an entry, this is the variant written by the kernel.
    let entry = unsafe { info.u.entry };
    Some((i64::try_from(entry.nr).ok()?, [entry.args[0], entry.args[1]]))
}

/// Runs a command, stops it at the entry of its first call for whose number and first argument `at` returns
/// true, runs `meanwhile`, and continues it. Returns the exit code; None after a signal.
pub fn run_and_stop_at(
    sandbox: &Sandbox,
    mut command: Command,
    mut at: impl FnMut(i64, u64) -> bool,
    meanwhile: impl FnOnce(),
) -> Option<i32> {
    before_exec(&mut command, || Ok(ptrace::traceme()?));
    let mut running = sandbox.spawn(command);
    let pid = Pid::from_raw(running.child.id().try_into().unwrap());
    assert!(matches!(wait(pid), WaitStatus::Stopped(_, Signal::SIGTRAP)), "no stop at exec");
    let options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
    ptrace::setoptions(pid, options).unwrap();
    let (mut meanwhile, mut signal) = (Some(meanwhile), None);
    let code = loop {
        ptrace::syscall(pid, signal.take()).unwrap();
        match wait(pid) {
            WaitStatus::Exited(_, code) => break Some(code),
            WaitStatus::Signaled(..) => break None,
            WaitStatus::PtraceSyscall(_) => {
                let here = entered(pid).is_some_and(|(call, [first, _])| at(call, first));
                if let Some(meanwhile) = here.then(|| meanwhile.take()).flatten() {
                    meanwhile();
                }
            }
            WaitStatus::Stopped(_, stopped) => signal = Some(stopped),
            _ => {}
        }
    };
    // std has not reaped it: its pid must not be used any more.
    _ = running.child.try_wait();
    assert!(meanwhile.is_none(), "where to stop is never reached");
    code
}

/// A process with this pid, which does nothing until it is killed. EEXIST if the pid is in use.
pub fn process_of_number(pid: i32) -> nix::Result<Pid> {
    let numbers = [pid];
    let arguments = libc::clone_args {
        flags: 0,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: u64::try_from(libc::SIGCHLD).unwrap(),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: (&raw const numbers).addr() as u64,
        set_tid_size: 1,
        cgroup: 0,
    };
    // SAFETY: without flags this is fork(2); `arguments` and its pointers outlive the call, and the child,
    // which may have been cloned from a multi-threaded process, only makes system calls.
    let cloned = nix::errno::Errno::result(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    })?;
    if cloned == 0 {
        // The files of other tests, which they wait for or execute.
        // SAFETY: takes integers only; nothing in this process uses a descriptor.
        unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
        // SAFETY: takes integers only. It dies with the test.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: has no arguments.
            unsafe { libc::pause() };
        }
    }
    Ok(Pid::from_raw(i32::try_from(cloned).unwrap()))
}

/// The result of a command with one failed system call. Implemented by changing registers, which are specific
/// to the processor.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub struct Faulted {
    /// The exit code; None after a signal.
    pub code: Option<i32>,
    /// The call that failed; None if there were fewer calls.
    pub call: Option<i64>,
    /// The command's stderr.
    pub stderr: String,
}

/// Runs a command, whose system call number `at`, or its child's, fails with `errno` without being executed.
/// Calls in `spared` are not counted. A command that has not ended after [`MAX_DURATION`] fails the test.
#[cfg(target_arch = "x86_64")]
pub fn run_with_fault(
    sandbox: &Sandbox,
    command: Command,
    (whose, at): (Whose, usize),
    errno: i32,
    spared: &[i64],
) -> Faulted {
    let (mut running, parent) = spawn_traced(sandbox, command, whose);
    let mut tracer = Tracer::new(parent, whose, at);
    let (mut fault, mut failing) = (None, false);
    tracer.go_on(parent, None);
    let start = std::time::Instant::now();
    let code = loop {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
        match waitpid(None, Some(flags)).unwrap() {
            WaitStatus::StillAlive => {
                if start.elapsed() > MAX_DURATION {
                    _ = kill(parent, Signal::SIGKILL);
                    peek_at_end(parent);
                    panic!("hangs after call {fault:?} of {whose:?} failed with {errno}");
                }
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
            WaitStatus::Exited(pid, code) if pid == parent => break Some(code),
            WaitStatus::Signaled(pid, ..) if pid == parent => break None,
            WaitStatus::PtraceSyscall(pid) => {
                match entered(pid) {
                    Some((call, _)) if !spared.contains(&call) && fault.is_none() => {
                        tracer.calls.push(call);
                        if tracer.calls.len() == at {
                            (fault, failing) = (Some(call), true);
                            set(pid, |registers| registers.orig_rax = u64::MAX);
                        }
                    }
                    None if failing => {
                        set(pid, |registers| registers.rax = i64::from(-errno).cast_unsigned());
                        failing = false;
                        // From here on no process is traced.
                        tracer.reached = true;
                        if pid != parent {
                            _ = ptrace::detach(pid, None);
                            continue;
                        }
                    }
                    _ => {}
                }
                tracer.go_on(pid, None);
            }
            // It has become the container's program.
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) if pid != parent => {
                tracer.reached = true;
                _ = ptrace::detach(pid, None);
            }
            status => tracer.step(status, Strike::Parent),
        }
    };
    let_go(&mut running);
    let stderr = std::fs::read_to_string(&running.stderr).unwrap_or_default();
    Faulted { code, call: fault, stderr }
}

/// The time limit of commands.
#[cfg(target_arch = "x86_64")]
const MAX_DURATION: std::time::Duration = std::time::Duration::from_secs(40);

/// Changes the registers of a stopped process, which may have been killed in the meantime.
#[cfg(target_arch = "x86_64")]
fn set(pid: Pid, change: impl FnOnce(&mut libc::user_regs_struct)) {
    if let Ok(mut registers) = ptrace::getregs(pid) {
        change(&mut registers);
        _ = ptrace::setregs(pid, registers);
    }
}
