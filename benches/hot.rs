//! `hot SYMBOLS PROGRAM ARG…`: single-steps a program and everything that it forks, and prints its functions
//! in the order in which they are first called: the input of `make hot` for the linker. SYMBOLS is the output
//! of `nm` for PROGRAM. Stops following a process that executes another program.

use anyhow::{Context, Result, ensure};
use libc::{PTRACE_EVENT_EXEC, user_regs_struct};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// The start address and name of each function, sorted.
type Functions<'a> = Vec<(u64, &'a str)>;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [symbols, program, args @ ..] = args.as_slice() else {
        anyhow::bail!("hot SYMBOLS PROGRAM ARG…")
    };
    let symbols = fs::read_to_string(symbols).context("SYMBOLS")?;
    let functions = functions(&symbols);
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null());
    let traceme = || ptrace::traceme().map_err(io::Error::from);
    #[expect(unsafe_code, reason = "std has no safe way to be traced from the start")]
    // SAFETY: one system call, which allocates nothing and takes no lock.
    let child = unsafe { command.pre_exec(traceme) }.spawn().context("PROGRAM")?;
    let first = Pid::from_raw(i32::try_from(child.id())?);
    let size = fs::metadata(program)?.len();
    for at in follow(first, size, &functions)? {
        // All names at that address: identical functions are merged.
        let same = functions.iter().filter(|(start, _)| *start == functions[at].0);
        same.for_each(|(_, name)| println!("{name}"));
    }
    Ok(())
}

/// Parses address and name of lines such as `0000000000401000 t <brig::log::Log>::open`.
fn functions(symbols: &str) -> Functions<'_> {
    let function = |line| {
        let mut words = str::splitn(line, 3, ' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        words.next().filter(|kind| "tTwWi".contains(kind))?;
        Some((address, words.next()?))
    };
    let mut functions: Functions<'_> = symbols.lines().filter_map(function).collect();
    functions.sort_unstable();
    functions
}

/// The called functions, as indexes of `functions`, until the `first` process exits; others are then
/// detached.
fn follow(first: Pid, size: u64, functions: &Functions<'_>) -> Result<Vec<usize>> {
    let mut called = vec![false; functions.len()];
    let (mut order, mut alive) = (Vec::new(), BTreeSet::new());
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC;
    waitpid(first, None).context("wait for the first execve")?;
    ptrace::setoptions(first, options)?;
    ptrace::step(first, None)?;
    loop {
        let (pid, signal) = match waitpid(None, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(pid, code) if pid == first => {
                ensure!(code == 0, "it exits with {code}");
                alive.into_iter().filter(|pid| *pid != first).try_for_each(let_go)?;
                return Ok(order);
            }
            WaitStatus::PtraceEvent(pid, _, PTRACE_EVENT_EXEC) if is_another(pid, size) => {
                alive.remove(&pid);
                ptrace::detach(pid, None)?;
                continue;
            }
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                alive.remove(&pid);
                continue;
            }
            WaitStatus::PtraceEvent(pid, ..)
            | WaitStatus::Stopped(pid, Signal::SIGTRAP | Signal::SIGSTOP) => (pid, None),
            WaitStatus::Stopped(pid, signal) => (pid, Some(signal)),
            _ => continue,
        };
        alive.insert(pid);
        // A process that was just killed by a signal has no registers.
        let Ok(registers) = ptrace::getregs(pid) else { continue };
        let after = functions.partition_point(|(start, _)| *start <= counter(&registers));
        if let Some(at) = after.checked_sub(1).filter(|at| !called[*at]) {
            called[at] = true;
            order.push(at);
        }
        let _ = ptrace::step(pid, signal);
    }
}

/// Detaches it. Only a stopped process can be detached: otherwise its next trap would kill it.
fn let_go(pid: Pid) -> Result<()> {
    kill(pid, Signal::SIGSTOP)?;
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(ptrace::detach(pid, None)?),
            WaitStatus::Stopped(..) | WaitStatus::PtraceEvent(..) => ptrace::step(pid, None)?,
            _ => return Ok(()),
        }
    }
}

/// Whether the process executes a program of another size by now.
fn is_another(pid: Pid, size: u64) -> bool {
    fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.len() != size)
}

/// The program counter, relative to the program.
fn counter(registers: &user_regs_struct) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return registers.rip;
    #[cfg(not(target_arch = "x86_64"))]
    return registers.pc;
}
