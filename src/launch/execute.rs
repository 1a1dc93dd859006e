//! The common end of create and exec: from root in the container to the user's program.

use super::agent::courier::Courier;
use super::protocol::Channel;
use crate::plan::process::Process;
use crate::plan::sched::Execution;
use crate::process::proc::Proc;
use crate::process::{activation, command, ids, landlock, passwd, sched, stdio};
use crate::seccomp::Filter;
use crate::spec::Place;
use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, execve, getcwd};
use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::OwnedFd;
use sys::{Errno, VerbatimError, clone, cred, fd, seccomp};

/// The program to execute.
pub struct Program {
    path: CString,
    env: Vec<CString>,
}

/// From root to the configured user, in the only order in which every step still has the privileges it needs.
pub fn drop_privileges(
    process: &Process,
    execution: &Execution,
    channel: &Channel,
) -> Result<Program> {
    // In case one is not close-on-exec yet; the filter may not allow it later.
    clone::close_from_at_exec(3)?;
    sched::adopt(execution)?;
    stdio::give_to(process.uid)?;
    let env = environment(process);
    let ruleset = landlock::prepare(process.landlock.as_ref())?;
    let filter = || {
        let courier = process.notifies().then(|| Courier::start(channel)).transpose()?;
        match (install(process)?, courier) {
            (Some(listener), Some(courier)) => courier.deliver(listener, channel),
            _ => Ok(()),
        }
    };
    // As root first: the user may not be allowed to search a parent directory. Then as the user: root may be
    // refused on a network file system.
    let entered = chdir(process.cwd.as_str());
    if entered.is_ok() {
        inside_root().at("process.cwd")?;
    }
    // Both need CAP_SYS_ADMIN, which the next step drops. From here on, only system calls for changing ids,
    // finding the program, read, write and execve are used: the filter is the user's.
    if !process.no_new_privileges {
        landlock::enter(ruleset.as_ref())?;
        filter()?;
    }
    ids::become_user(process)?;
    // The change of ids has reset it to fs.suid_dumpable.
    cred::dumpable(false)?;
    if let Some(mask) = process.umask {
        umask(Mode::from_bits_truncate(mask));
    }
    if entered.is_err() {
        let chdir = chdir(process.cwd.as_str());
        chdir.with_context(|| format!("chdir({})", process.cwd)).at("process.cwd")?;
        inside_root().at("process.cwd")?;
    }
    let path = command::find(&process.args[0], &process.search)
        .context("unable to start container process")?;
    if process.no_new_privileges {
        landlock::enter(ruleset.as_ref())?;
    }
    // Later no process is left that could hand the listener to the agent.
    if process.no_new_privileges && process.notifies() {
        filter()?;
    }
    Ok(Program { path, env })
}

/// The environment of the process; HOME is added from the container's /etc/passwd if it is not set, else `/`.
fn environment(process: &Process) -> Vec<CString> {
    let mut env = process.env.clone();
    if process.needs_home {
        let mut home = b"HOME=".to_vec();
        home.extend(passwd::home_of(process.uid).unwrap_or_else(|| b"/".to_vec()));
        env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
        env.push(CString::new(home).unwrap_or_else(|_| c"HOME=/".to_owned()));
    }
    if let Some(activation) = &process.activation {
        for (name, value) in activation::variables(activation, std::process::id()) {
            let variable = [name.as_bytes(), b"=", &value].concat();
            env.retain(|entry| !entry.as_bytes().starts_with(&variable[..=name.len()]));
            // None contains a NUL byte: the value is a number, or was a C string before.
            env.extend(CString::new(variable));
        }
    }
    env
}

/// Checks that the working directory is below the root, and not that of a leaked descriptor (CVE-2024-21626).
fn inside_root() -> Result<()> {
    let cwd = getcwd().context("getcwd")?;
    ensure!(cwd.is_absolute(), "the working directory is outside the root: {}", cwd.display());
    Ok(())
}

/// Sets the OOM score adjustment of a child of brig. An unprivileged user cannot write that of an undumpable
/// process, but the relay may have set it already.
pub fn set_oom_score(proc: &Proc, pid: &str, score: i32) -> Result<()> {
    write_oom_score(proc, pid, score).or_else(|error| {
        let mut text = String::new();
        let found = proc.file(&format!("{pid}/oom_score_adj"), OFlag::O_RDONLY);
        let read = found.and_then(|mut file| Ok(file.read_to_string(&mut text)?));
        if read.is_ok() && text.trim() == score.to_string() { Ok(()) } else { Err(error) }
    })
}

/// Sets the OOM score adjustment of a process through the host's /proc.
pub fn write_oom_score(proc: &Proc, pid: &str, score: i32) -> Result<()> {
    let path = format!("{pid}/oom_score_adj");
    proc.write(&path, &score.to_string()).at("process.oomScoreAdj")
}

fn install(process: &Process) -> Result<Option<OwnedFd>> {
    let Some(filter) = &process.filter else { return Ok(None) };
    seccomp::install(&filter.program, filter.flags).at(filter.place)
}

/// The filter installed right before execve: it need not allow the set-up before it. Hooks executed until
/// then get it in the same way.
pub fn late_filter(process: &Process) -> Option<&Filter> {
    let late = process.no_new_privileges && !process.notifies();
    process.filter.as_ref().filter(|_| late)
}

impl Program {
    /// Its environment variables.
    pub fn environment(&self) -> &[CString] {
        &self.env
    }

    /// Executes the program. `announce` is called when only execve is left to do.
    pub fn execute(
        &self,
        process: &Process,
        announce: impl FnOnce() -> Result<()>,
    ) -> Result<Infallible> {
        (3..3 + process.preserved_fds).try_for_each(fd::inherit)?;
        if late_filter(process).is_some() {
            drop(install(process)?);
        }
        announce()?;
        let Err(errno) = execve(&self.path, &process.args, &self.env);
        // runc's words, which engines match on; the file itself existed a moment ago.
        let why = match errno {
            Errno::ENOENT => "no such file or directory: its interpreter is missing".to_owned(),
            Errno::ENOEXEC => "exec format error: neither a program for this machine nor a script \
                               that begins with #!"
                .into(),
            errno => errno.desc().to_lowercase(),
        };
        let text = format!("exec {}: {why}", self.path.to_string_lossy());
        Err(VerbatimError { text, errno }.into())
    }
}
