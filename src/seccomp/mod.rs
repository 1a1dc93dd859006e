//! `linux.seccomp` becomes a BPF program: decided and compiled here, without a C library, and
//! installed by [`sys::seccomp`].
//!
//! What runtime-spec leaves open is libseccomp's way and runc's, for which profiles are written:
//! [`rules`] has the order of rules, [`program`] what happens to architectures and system calls
//! that the profile does not name. `integration/oracle/` compares the programs with libseccomp's.

pub mod arch;
pub mod default;
pub mod docker;
mod errno;
mod program;
pub mod raw;
mod rules;
pub mod syscalls;
mod table;

#[cfg(test)]
mod default_tests;
#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod tests;

use crate::spec::Place;
use anyhow::{Result, anyhow, bail, ensure};
use arch::Arch;
use libc::{
    ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG, SECCOMP_RET_TRACE, SECCOMP_RET_TRAP,
    SECCOMP_RET_USER_NOTIF,
};
use oci_spec::runtime::{
    Arch as SpecArch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg,
    LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use rules::{Condition, Entry, Table};
use seccompiler::{BpfProgram, SeccompCmpOp as Op};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use sys::seccomp;
use syscalls::{Lookup, Syscall};

/// A filter, ready to be installed.
#[derive(Debug)]
pub struct Filter {
    /// What the kernel runs at each system call.
    pub program: BpfProgram,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// Who gets the listener, if the filter notifies.
    pub listener: Option<Listener>,
    /// Where it stands in the config.
    pub place: &'static str,
}

/// Where the listener goes.
#[derive(Debug)]
pub struct Listener {
    /// The agent's socket.
    pub path: PathBuf,
    /// What the agent is told with it.
    pub metadata: Option<String>,
}

/// crun's annotation: the agent's socket, where `linux.seccomp.listenerPath` names none.
pub const RECEIVER: &str = "run.oci.seccomp.receiver";
/// The same in the environment of whoever calls.
const RECEIVER_VARIABLE: &str = "RUN_OCI_SECCOMP_RECEIVER";
/// crun's annotation: a system call that nobody knows is an error, unless its value is 0.
pub const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

impl Filter {
    /// The container's: `linux.seccomp`, or instead of its rules what an annotation says.
    pub fn of(
        spec: Option<&LinuxSeccomp>,
        annotations: &BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Filter>> {
        if let Some(text) = annotations.get(raw::ANNOTATION) {
            let flags = flags(spec.and_then(|spec| spec.flags().as_deref()), false)?;
            return raw::filter(text, flags).map(Some);
        }
        let Some(spec) = spec else { return Ok(None) };
        let mut unknown = Vec::new();
        let spec = with_receiver(spec, annotations)?;
        let filter = Filter::new(&spec, &mut unknown)?;
        let refused = annotations.get(FAIL_UNKNOWN).is_some_and(|value| value != "0");
        if let (Some(text), true) = (unknown.first(), refused) {
            bail!("{text}, which annotations[{FAIL_UNKNOWN:?}] forbids");
        }
        warnings.append(&mut unknown);
        Ok(Some(filter))
    }

    /// Validates `linux.seccomp` and compiles it for the machine that brig runs on. Names that no
    /// system call has become a warning.
    pub fn new(spec: &LinuxSeccomp, warnings: &mut Vec<String>) -> Result<Filter> {
        Filter::for_native(Arch::NATIVE, spec, warnings)
    }

    /// The same for another machine.
    pub fn for_native(
        native: Arch,
        spec: &LinuxSeccomp,
        warnings: &mut Vec<String>,
    ) -> Result<Filter> {
        let (filter, unknown) = Filter::compile(native, spec)?;
        warn_of(&unknown, warnings);
        Ok(filter)
    }

    /// The filter, and names in the spec that no system call has.
    fn compile(native: Arch, spec: &LinuxSeccomp) -> Result<(Filter, Vec<&str>)> {
        let mut unknown = Vec::new();
        let default = default_action(spec)?;
        let archs = architectures(native, spec)?;
        let listener = listener(spec)?;
        let flags = flags(spec.flags().as_deref(), listener.is_some())?;
        let entries = entries(spec, &mut unknown)?;
        let tables = archs.into_iter().map(|arch| Table::new(arch, &entries, default));
        let tables = tables.collect::<Result<Vec<_>>>()?;
        // A program that finds a new system call missing uses an older one, but gives up on EPERM.
        // Who allows, logs or traces by default does so with new ones too. Both as with runc.
        let newer = match spec.default_action() {
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace => default,
            _ => SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs(),
        };
        let program = program::assemble(&tables, default, newer).at("linux.seccomp.syscalls")?;
        Ok((Filter { program, flags, listener, place: "linux.seccomp" }, unknown))
    }
}

fn warn_of(unknown: &[&str], warnings: &mut Vec<String>) {
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        warnings.push(format!("linux.seccomp: unknown system calls ignored: {names}"));
    }
}

/// crun's other ways to name the agent's socket, where `listenerPath` does not.
fn with_receiver<'a>(
    spec: &'a LinuxSeccomp,
    annotations: &BTreeMap<String, String>,
) -> Result<Cow<'a, LinuxSeccomp>> {
    let given = spec.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let syscalls = spec.syscalls().as_deref().unwrap_or_default();
    if given || syscalls.iter().all(|entry| entry.action() != Action::ScmpActNotify) {
        return Ok(Cow::Borrowed(spec));
    }
    let (place, path) = match annotations.get(RECEIVER) {
        Some(path) => (format!("annotations[{RECEIVER:?}]"), Some(PathBuf::from(path))),
        None => (RECEIVER_VARIABLE.into(), std::env::var_os(RECEIVER_VARIABLE).map(PathBuf::from)),
    };
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(Cow::Borrowed(spec));
    };
    if !path.is_absolute() {
        Err(anyhow!("{path:?} is not an absolute path")).at(place)?;
    }
    let mut spec = spec.clone();
    spec.set_listener_path(Some(path));
    Ok(Cow::Owned(spec))
}

fn default_action(spec: &LinuxSeccomp) -> Result<u32> {
    if spec.default_action() == Action::ScmpActNotify {
        // Brig itself would wait for the agent before the agent has the listener.
        return Err(anyhow!("SCMP_ACT_NOTIFY cannot be the default action"))
            .at("linux.seccomp.defaultAction");
    }
    ret(spec.default_action(), spec.default_errno_ret()).at("linux.seccomp.defaultErrnoRet")
}

/// What the filter returns: the action in the upper half, its data in the lower.
fn ret(action: Action, errno: Option<u32>) -> Result<u32> {
    let (ret, highest) = match action {
        // The kernel takes a higher one for this.
        Action::ScmpActErrno => (SECCOMP_RET_ERRNO, 4095),
        Action::ScmpActTrace => (SECCOMP_RET_TRACE, 0xffff),
        _ if errno.is_some() => bail!("{action} has no errno"),
        Action::ScmpActKill | Action::ScmpActKillThread => return Ok(SECCOMP_RET_KILL_THREAD),
        Action::ScmpActKillProcess => return Ok(SECCOMP_RET_KILL_PROCESS),
        Action::ScmpActTrap => return Ok(SECCOMP_RET_TRAP),
        Action::ScmpActLog => return Ok(SECCOMP_RET_LOG),
        Action::ScmpActAllow => return Ok(SECCOMP_RET_ALLOW),
        Action::ScmpActNotify => return Ok(SECCOMP_RET_USER_NOTIF),
    };
    let errno = errno.unwrap_or(EPERM.unsigned_abs());
    ensure!(errno <= highest, "{errno} is more than {highest}");
    Ok(ret | errno)
}

/// Those that count on this machine, its native one first: it always counts, as with runc and crun.
fn architectures(native: Arch, spec: &LinuxSeccomp) -> Result<Vec<Arch>> {
    let listed = spec.architectures().as_deref().unwrap_or_default();
    if let Some(index) = listed.iter().position(|&arch| arch == SpecArch::ScmpArchNative) {
        return Err(anyhow!("SCMP_ARCH_NATIVE is not one of runtime-spec's"))
            .at(format_args!("linux.seccomp.architectures[{index}]"));
    }
    let listed: Vec<Arch> = listed.iter().filter_map(|&arch| Arch::from_spec(arch)).collect();
    let family = native.family().iter().copied();
    Ok(family.filter(|&arch| arch == native || listed.contains(&arch)).collect())
}

fn listener(spec: &LinuxSeccomp) -> Result<Option<Listener>> {
    let path = spec.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let metadata = spec.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
    let syscalls = spec.syscalls().as_deref().unwrap_or_default();
    let notifies = syscalls.iter().position(|entry| entry.action() == Action::ScmpActNotify);
    match (path, notifies) {
        (None, _) if metadata.is_some() => Err(anyhow!("there is no listenerPath to send it to"))
            .at("linux.seccomp.listenerMetadata"),
        (None, Some(index)) => Err(anyhow!("SCMP_ACT_NOTIFY needs a listenerPath"))
            .at(format_args!("linux.seccomp.syscalls[{index}].action")),
        (Some(path), Some(_)) => Ok(Some(Listener { path, metadata })),
        (_, None) => Ok(None),
    }
}

fn flags(listed: Option<&[Flag]>, notifies: bool) -> Result<u32> {
    // None given, not even an empty list: without speculative store bypass's mitigation, which
    // kernels before 5.16 put upon everything filtered. As with runc and crun.
    let listed = listed.unwrap_or(&[Flag::SeccompFilterFlagSpecAllow]);
    let mut flags = if notifies { seccomp::NEW_LISTENER } else { 0 };
    for (index, flag) in listed.iter().enumerate() {
        flags |= match flag {
            Flag::SeccompFilterFlagTsync => seccomp::TSYNC,
            Flag::SeccompFilterFlagLog => seccomp::LOG,
            Flag::SeccompFilterFlagSpecAllow => seccomp::SPEC_ALLOW,
            Flag::SeccompFilterFlagWaitKillableRecv if notifies => seccomp::WAIT_KILLABLE_RECV,
            Flag::SeccompFilterFlagWaitKillableRecv => {
                return Err(anyhow!("{flag} is for SCMP_ACT_NOTIFY, which no rule has"))
                    .at(format_args!("linux.seccomp.flags[{index}]"));
            }
        };
    }
    Ok(flags)
}

fn entries<'a>(spec: &'a LinuxSeccomp, unknown: &mut Vec<&'a str>) -> Result<Vec<Entry>> {
    let syscalls = spec.syscalls().as_deref().unwrap_or_default().iter().enumerate();
    let entries = syscalls.map(|(index, syscall)| {
        let place = format!("linux.seccomp.syscalls[{index}]");
        Ok(Entry {
            index,
            syscalls: names(syscall, &place, unknown)?,
            action: ret(syscall.action(), syscall.errno_ret())
                .at(format_args!("{place}.errnoRet"))?,
            alternatives: alternatives(syscall, &place)?,
        })
    });
    entries.collect()
}

fn names<'a>(
    entry: &'a LinuxSyscall,
    place: &str,
    unknown: &mut Vec<&'a str>,
) -> Result<Vec<&'static Syscall>> {
    if entry.names().is_empty() {
        return Err(anyhow!("there has to be at least one")).at(format_args!("{place}.names"));
    }
    let mut syscalls = Vec::with_capacity(entry.names().len());
    for (index, name) in entry.names().iter().enumerate() {
        if name == "write" && entry.action() == Action::ScmpActNotify {
            // As default_action() has it; runc refuses it too.
            return Err(anyhow!("SCMP_ACT_NOTIFY cannot be the action for write"))
                .at(format_args!("{place}.names[{index}]"));
        }
        match syscalls::lookup(name) {
            Lookup::Found(syscall) => syscalls.push(syscall),
            Lookup::Foreign => {}
            Lookup::Unknown if unknown.contains(&name.as_str()) => {}
            Lookup::Unknown => unknown.push(name),
        }
    }
    Ok(syscalls)
}

/// All of the conditions have to hold, but if two of them are about the same argument any one is
/// enough: runc's way from before it knew better, which crun and profiles have kept.
fn alternatives(entry: &LinuxSyscall, place: &str) -> Result<Vec<Vec<Condition>>> {
    let args = entry.args().as_deref().unwrap_or_default().iter().enumerate();
    let conditions =
        args.map(|(index, arg)| condition(arg).at(format_args!("{place}.args[{index}].index")));
    let mut conditions = conditions.collect::<Result<Vec<_>>>()?;
    let mut indices: Vec<u8> = conditions.iter().map(|condition| condition.index).collect();
    indices.sort_unstable();
    if indices.windows(2).any(|pair| pair[0] == pair[1]) {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    conditions.sort_by_key(|condition| condition.index);
    Ok(vec![conditions])
}

fn condition(arg: &LinuxSeccompArg) -> Result<Condition> {
    let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let index =
        index.ok_or_else(|| anyhow!("{}: system calls have the arguments 0 to 5", arg.index()))?;
    let (op, value) = match arg.op() {
        Operator::ScmpCmpNe => (Op::Ne, arg.value()),
        Operator::ScmpCmpLt => (Op::Lt, arg.value()),
        Operator::ScmpCmpLe => (Op::Le, arg.value()),
        Operator::ScmpCmpEq => (Op::Eq, arg.value()),
        Operator::ScmpCmpGe => (Op::Ge, arg.value()),
        Operator::ScmpCmpGt => (Op::Gt, arg.value()),
        Operator::ScmpCmpMaskedEq => {
            (Op::MaskedEq(arg.value()), arg.value_two().unwrap_or_default())
        }
    };
    Ok(Condition { index, op, value })
}
