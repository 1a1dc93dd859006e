//! `seccomp record`: determines the system calls that a container makes. A child brig runs the container with
//! a filter that notifies of every call, and this process is the agent, which lets every call continue. If
//! the agent dies, the container does not hang: its calls fail with ENOSYS.

use super::SeccompOptions;
use crate::seccomp::{COMPILED, NATIVE, NOT_RECORDED, recording};
use crate::spec::Spec;
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{AccessFlags, access};
use oci_seccomp::syscalls::{self, Syscall};
use oci_seccomp::{Arch, LinuxSeccompAction};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use sys::seccomp::{Call, go_on, next_call};
use sys::{IfExists, poll, signal, socket};

/// The reason for calls that brig itself makes between the filter and the program's execve, which a filter
/// must allow too.
const OWN: &str = "called by brig between the filter and execve";

/// The bit that marks the numbers of x32 system calls.
const X32_BIT: u32 = 0x4000_0000;

/// The recorded calls.
#[derive(Default)]
struct Calls {
    programs: BTreeSet<String>,
    brigs: BTreeSet<String>,
    architectures: BTreeSet<&'static str>,
    executed: bool,
}

/// Runs the command after `--`, and adds the calls that it makes to the profile.
///
/// # Errors
///
/// If the existing file is not a profile, the profile cannot be written, or the container failed before its
/// filter was installed.
pub(super) fn record(options: &SeccompOptions) -> Result<i32> {
    let [file, verb, rest @ ..] = options.of.as_slice() else {
        bail!("give a file for the profile, and after -- the command: run …")
    };
    ensure!(verb == "run", "{verb:?} cannot be recorded: give run …");
    let file = &writable(Path::new(file))?;
    let mut calls = Calls::read(file)?;
    let inbox = Inbox::make()?;
    // A ctrl-C is for the container: the child brig, in the same process group, forwards it.
    let mut interrupts = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        interrupts.add(signal);
    }
    interrupts.thread_block().context("block signals")?;
    let mut child = run(rest, &inbox.path)?;
    let filtered = inbox.listener(&child)?;
    if let Some(listener) = &filtered {
        calls.watch(listener.as_fd())?;
    }
    let ended = child.wait()?;
    let code = ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default());
    drop(inbox);
    if filtered.is_some() {
        let text = format!("{:#}\n", calls.profile());
        sys::file::write_atomically(file, text.as_bytes())?;
    }
    Ok(code)
}

/// Checks the output file at the beginning, so that errors do not occur only at the end.
fn writable(file: &Path) -> Result<PathBuf> {
    let what = || file.display().to_string();
    // Replace the target of a symbolic link, not the link.
    let path = match file.canonicalize().if_exists().with_context(what)? {
        Some(path) => path,
        None => std::path::absolute(file)?,
    };
    let is_other = path.symlink_metadata().is_ok_and(|meta| !meta.is_file());
    ensure!(!is_other, "{} is not a regular file", what());
    let directory = path.parent().unwrap_or(&path);
    access(directory, AccessFlags::W_OK).with_context(|| directory.display().to_string())?;
    Ok(path)
}

/// In the child brig: replaces the config's filter with one that allows everything and notifies.
///
/// # Errors
///
/// If the config contains a compiled filter, which would take precedence.
pub fn notify_of_all(spec: &mut Spec, agent: &Path) -> Result<()> {
    ensure!(
        !spec.annotations.contains_key(COMPILED),
        "cannot be recorded: the filter comes compiled, by {COMPILED}"
    );
    spec.linux.seccomp = Some(recording(agent));
    Ok(())
}

/// Runs this brig again, with its global options.
fn run(args: &[String], socket: &Path) -> Result<Child> {
    let globals = sys::process::args().into_iter().skip(1).take_while(|arg| arg != "seccomp");
    let mut command = Command::new("/proc/self/exe");
    command.args(globals).args(["run", "--record-calls"]).arg(socket).args(args);
    command.spawn().context("execute brig again")
}

/// The socket that receives the listener, in a directory of its own.
struct Inbox {
    directory: PathBuf,
    path: PathBuf,
    socket: UnixListener,
}

impl Inbox {
    fn make() -> Result<Inbox> {
        let template = std::env::temp_dir().join("brig-record.XXXXXX");
        let directory = nix::unistd::mkdtemp(&template)
            .with_context(|| format!("mkdtemp({})", template.display()))?;
        let path = directory.join("agent");
        let socket = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Inbox { directory, path, socket })
    }

    /// The listener of the container's filter; None if the container failed before.
    fn listener(&self, child: &Child) -> Result<Option<OwnedFd>> {
        let ended = signal::pidfd_open(child.id().cast_signed())?;
        let mut fds =
            [self.socket.as_fd(), ended.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll::wait(&mut fds, None)?;
        if !fds[0].any().unwrap_or(false) {
            return Ok(None);
        }
        let (connection, _) = self.socket.accept().context("accept")?;
        Ok(socket::receive_fds(connection.as_fd())?.into_iter().next())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // If this fails, an empty directory with a unique name remains.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(&self.directory);
    }
}

impl Calls {
    /// Reads the calls of an existing profile, written by an earlier recording.
    fn read(file: &Path) -> Result<Calls> {
        let mut calls = Calls::default();
        let Some(text) =
            std::fs::read(file).if_exists().with_context(|| file.display().to_string())?
        else {
            return Ok(calls);
        };
        let read = || -> Result<Value> {
            let value: Value = serde_json::from_slice(&text)?;
            ensure!(value["defaultAction"].is_string(), "is not a seccomp profile");
            Ok(value)
        };
        let value = read().with_context(|| file.display().to_string())?;
        for rule in value["syscalls"].as_array().into_iter().flatten() {
            let known = if rule["comment"] == OWN { &mut calls.brigs } else { &mut calls.programs };
            let names = rule["names"].as_array().into_iter().flatten().filter_map(Value::as_str);
            known.extend(names.map(str::to_owned));
        }
        let listed = value["architectures"].as_array().into_iter().flatten();
        let listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
        let own = NATIVE.family().iter().map(|arch| arch.spec().as_str());
        calls.architectures.extend(own.filter(|arch| listed.contains(arch)));
        Ok(calls)
    }

    /// Handles notifications until no process with the filter is left.
    fn watch(&mut self, listener: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(listener, PollFlags::POLLIN)];
            poll::wait(&mut fds, None)?;
            let told = fds[0].revents().unwrap_or(PollFlags::empty());
            if !told.contains(PollFlags::POLLIN) {
                return Ok(());
            }
            // None: the calling process was killed in the meantime.
            if let Some(call) = next_call(listener)? {
                self.add(&call);
                go_on(listener, &call)?;
            }
        }
    }

    fn add(&mut self, call: &Call) {
        let Some((arch, name)) = name_of(call) else { return };
        self.architectures.insert(arch.spec().as_str());
        match self.executed {
            true => self.programs.insert(name.to_owned()),
            false => self.brigs.insert(name.to_owned()),
        };
        self.executed |= name.starts_with("execve");
    }

    fn profile(&self) -> Value {
        let allow = LinuxSeccompAction::Allow.as_str();
        let mut programs = self.programs.clone();
        programs.extend(NOT_RECORDED.map(str::to_owned));
        let brigs = self.brigs.difference(&programs).collect::<Vec<_>>();
        let mut rules = vec![json!({ "names": programs, "action": allow })];
        if !brigs.is_empty() {
            rules.push(json!({ "names": brigs, "action": allow, "comment": OWN }));
        }
        json!({
            "defaultAction": LinuxSeccompAction::Errno.as_str(),
            "architectures": self.architectures,
            "syscalls": rules,
        })
    }
}

/// None for a number without a known name.
fn name_of(call: &Call) -> Option<(Arch, &'static str)> {
    let is_x32 = call.number & X32_BIT != 0;
    let mut family = NATIVE.family().iter().copied();
    let arch = family.find(|arch| {
        arch.audit() == call.arch
            && (*arch == Arch::X32) == (is_x32 && call.arch == Arch::X32.audit())
    })?;
    let number = if arch == Arch::X32 { call.number & !X32_BIT } else { call.number };
    let found = syscalls::all().iter().find(|known| known.number(arch) == Some(number));
    found.map(Syscall::name).map(|name| (arch, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brig_calls_before_execve_is_apart() {
        let mut calls = Calls::default();
        let number = |name: &str| {
            let found = syscalls::all().iter().find(|call| call.name() == name).unwrap();
            found.number(NATIVE).unwrap()
        };
        for name in ["setuid", "close", "execve", "close", "openat"] {
            let call = Call { id: 0, number: number(name), arch: NATIVE.audit() };
            calls.add(&call);
        }
        let profile = calls.profile();
        assert_eq!(
            profile["syscalls"][0]["names"],
            json!(["close", "exit", "exit_group", "openat", "rt_sigreturn", "sigreturn", "write"])
        );
        assert_eq!(profile["syscalls"][1]["names"], json!(["execve", "setuid"]));
        assert_eq!(profile["architectures"], json!([NATIVE.spec().as_str()]));
    }
}
