//! Compiles a profile to a filter: checks its values, and passes rules and architectures to [`crate::rules`]
//! and [`crate::program`].

use crate::arch::Arch;
use crate::error::{Error, Result};
use crate::program;
use crate::rules::{Condition, Entry, Table};
use crate::spec::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArch, LinuxSeccompArg,
    LinuxSeccompFlag as Flag, LinuxSeccompOperator as Operator, LinuxSyscall,
};
use crate::syscalls::{self, Lookup, Syscall};
use libc::{
    ENOSYS, EPERM, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_KILL_THREAD, SECCOMP_RET_LOG, SECCOMP_RET_TRACE, SECCOMP_RET_TRAP,
    SECCOMP_RET_USER_NOTIF, sock_filter,
};
use seccompiler::SeccompCmpOp as Op;
use std::fmt::Display;

/// `SECCOMP_FILTER_FLAG_*` of linux/seccomp.h.
const TSYNC: u32 = 1 << 0;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The arguments for seccomp(2).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Filter {
    /// The instructions, at most [`crate::MAX_INSTRUCTIONS`]: `filter` of `struct sock_fprog`.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`, with `NEW_LISTENER` if the filter notifies.
    pub flags: u32,
    /// Whether a rule has `SCMP_ACT_NOTIFY`: seccomp(2) then returns a listener for
    /// [`LinuxSeccomp::listener_path`].
    pub notifies: bool,
    /// Names in the profile that are not system calls: misspelt, or newer than this crate. Their rules are
    /// ignored, as by callers of libseccomp; so they are worth a warning.
    pub unknown: Vec<String>,
}

/// Checks a profile and compiles it for a machine with this native architecture.
///
/// # Errors
///
/// If the profile contains a value that the specification does not allow, an action that cannot work,
/// contradicting rules, or more rules than fit into a filter.
pub fn compile(profile: &LinuxSeccomp, native: Arch) -> Result<Filter> {
    let compiled = tables(profile, native)?;
    let program = compiled.assemble()?;
    let Compiled { flags, notifies, unknown, .. } = compiled;
    Ok(Filter { program, flags, notifies, unknown })
}

/// A validated profile, before the program is assembled.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The decisions for each architecture's system calls, the native one first.
    pub(crate) tables: Vec<Table>,
    /// The action for system calls without a rule.
    pub(crate) default: u32,
    /// The action for system calls newer than all in the profile.
    pub(crate) newer: u32,
    flags: u32,
    notifies: bool,
    unknown: Vec<String>,
}

impl Compiled {
    pub(crate) fn assemble(&self) -> Result<Vec<sock_filter>> {
        program::assemble(&self.tables, self.default, self.newer)
    }
}

pub(crate) fn tables(profile: &LinuxSeccomp, native: Arch) -> Result<Compiled> {
    let mut unknown = Vec::new();
    let default = default_action(profile)?;
    let archs = architectures(native, profile)?;
    let notifies = notifies(profile)?;
    let flags = flags(profile.flags.as_deref(), notifies)?;
    let entries = entries(profile, &mut unknown)?;
    let tables = archs.into_iter().map(|arch| Table::new(arch, &entries, default));
    let tables = tables.collect::<Result<Vec<_>>>()?;
    // Programs fall back to an older system call after ENOSYS, but give up after EPERM. A profile that
    // allows, logs or traces by default does so for new ones too. Both as in runc.
    let newer = match profile.default_action {
        Action::Allow | Action::Log | Action::Trace => default,
        _ => SECCOMP_RET_ERRNO | ENOSYS.unsigned_abs(),
    };
    let unknown = unknown.into_iter().map(str::to_owned).collect();
    Ok(Compiled { tables, default, newer, flags, notifies, unknown })
}

fn default_action(profile: &LinuxSeccomp) -> Result<u32> {
    if profile.default_action == Action::Notify {
        // The process itself would wait for the agent before the agent has the listener.
        return Err(Error::new("defaultAction", "SCMP_ACT_NOTIFY cannot be the default action"));
    }
    ret(profile.default_action, profile.default_errno_ret, "defaultErrnoRet")
}

/// The filter's return value: the action in the upper half, its data in the lower.
fn ret(action: Action, errno: Option<u32>, path: impl Display) -> Result<u32> {
    let (ret, highest) = match action {
        // The maximum that the kernel returns as an errno.
        Action::Errno => (SECCOMP_RET_ERRNO, 4095),
        Action::Trace => (SECCOMP_RET_TRACE, 0xffff),
        _ if errno.is_some() => {
            return Err(Error::new(path, format_args!("{action} has no errno")));
        }
        Action::Kill | Action::KillThread => return Ok(SECCOMP_RET_KILL_THREAD),
        Action::KillProcess => return Ok(SECCOMP_RET_KILL_PROCESS),
        Action::Trap => return Ok(SECCOMP_RET_TRAP),
        Action::Log => return Ok(SECCOMP_RET_LOG),
        Action::Allow => return Ok(SECCOMP_RET_ALLOW),
        Action::Notify => return Ok(SECCOMP_RET_USER_NOTIF),
    };
    let errno = errno.unwrap_or(EPERM.unsigned_abs());
    if errno > highest {
        return Err(Error::new(path, format_args!("{errno} is more than {highest}")));
    }
    Ok(ret | errno)
}

/// The listed architectures that this machine supports, the native one first: it is always included, as in
/// runc and crun.
fn architectures(native: Arch, profile: &LinuxSeccomp) -> Result<Vec<Arch>> {
    let listed = profile.architectures.as_deref().unwrap_or_default();
    if let Some(index) = listed.iter().position(|&arch| arch == LinuxSeccompArch::Native) {
        return Err(Error::new(
            format_args!("architectures[{index}]"),
            "SCMP_ARCH_NATIVE is not one of runtime-spec's",
        ));
    }
    let listed: Vec<Arch> = listed.iter().filter_map(|&arch| Arch::from_spec(arch)).collect();
    let family = native.family().iter().copied();
    Ok(family.filter(|&arch| arch == native || listed.contains(&arch)).collect())
}

/// Whether a rule notifies an agent; checks that its path is given.
fn notifies(profile: &LinuxSeccomp) -> Result<bool> {
    let path = profile.listener_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let metadata = profile.listener_metadata.as_ref().is_some_and(|text| !text.is_empty());
    let syscalls = profile.syscalls.as_deref().unwrap_or_default();
    let first = syscalls.iter().position(|entry| entry.action == Action::Notify);
    match (path, first) {
        (false, _) if metadata => {
            Err(Error::new("listenerMetadata", "there is no listenerPath to send it to"))
        }
        (false, Some(index)) => Err(Error::new(
            format_args!("syscalls[{index}].action"),
            "SCMP_ACT_NOTIFY needs a listenerPath",
        )),
        (_, first) => Ok(first.is_some()),
    }
}

/// `SECCOMP_FILTER_FLAG_*` for the profile's flags and a filter that notifies or does not; also for a program
/// that was compiled elsewhere.
///
/// # Errors
///
/// If `WAIT_KILLABLE_RECV` is given for a filter that does not notify, which the kernel refuses.
pub fn flags(listed: Option<&[Flag]>, notifies: bool) -> Result<u32> {
    // Without `flags`, i.e. not even an empty list: disable the mitigation of speculative store bypass, which
    // kernels before 5.16 enable for every filtered process. As in runc and crun.
    let listed = listed.unwrap_or(&[Flag::SpecAllow]);
    let mut flags = if notifies { NEW_LISTENER } else { 0 };
    for (index, flag) in listed.iter().enumerate() {
        flags |= match flag {
            Flag::Tsync => TSYNC,
            Flag::Log => LOG,
            Flag::SpecAllow => SPEC_ALLOW,
            Flag::WaitKillableRecv if notifies => WAIT_KILLABLE_RECV,
            Flag::WaitKillableRecv => {
                return Err(Error::new(
                    format_args!("flags[{index}]"),
                    format_args!("{flag} needs a rule with SCMP_ACT_NOTIFY"),
                ));
            }
        };
    }
    Ok(flags)
}

fn entries<'a>(profile: &'a LinuxSeccomp, unknown: &mut Vec<&'a str>) -> Result<Vec<Entry>> {
    let syscalls = profile.syscalls.as_deref().unwrap_or_default().iter().enumerate();
    let entries = syscalls.map(|(index, syscall)| {
        let path = format!("syscalls[{index}]");
        Ok(Entry {
            index,
            syscalls: names(syscall, &path, unknown)?,
            action: ret(syscall.action, syscall.errno_ret, format_args!("{path}.errnoRet"))?,
            alternatives: alternatives(syscall, &path)?,
        })
    });
    entries.collect()
}

fn names<'a>(
    entry: &'a LinuxSyscall,
    path: &str,
    unknown: &mut Vec<&'a str>,
) -> Result<Vec<&'static Syscall>> {
    if entry.names.is_empty() {
        return Err(Error::new(format_args!("{path}.names"), "at least one is required"));
    }
    let mut syscalls = Vec::with_capacity(entry.names.len());
    for (index, name) in entry.names.iter().enumerate() {
        if name == "write" && entry.action == Action::Notify {
            // For the same reason as in default_action(); runc refuses it too.
            return Err(Error::new(
                format_args!("{path}.names[{index}]"),
                "SCMP_ACT_NOTIFY cannot be the action for write",
            ));
        }
        if name.is_empty() {
            return Err(Error::new(format_args!("{path}.names[{index}]"), "is empty"));
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

/// All conditions must hold, but if two of them concern the same argument, any one is sufficient: runc's
/// early behaviour, which crun and profiles have kept.
fn alternatives(entry: &LinuxSyscall, path: &str) -> Result<Vec<Vec<Condition>>> {
    let args = entry.args.as_deref().unwrap_or_default().iter().enumerate();
    let conditions =
        args.map(|(index, arg)| condition(arg, format_args!("{path}.args[{index}].index")));
    let mut conditions = conditions.collect::<Result<Vec<_>>>()?;
    let mut indices: Vec<u8> = conditions.iter().map(|condition| condition.index).collect();
    indices.sort_unstable();
    if indices.windows(2).any(|pair| pair[0] == pair[1]) {
        return Ok(conditions.into_iter().map(|condition| vec![condition]).collect());
    }
    conditions.sort_by_key(|condition| condition.index);
    Ok(vec![conditions])
}

fn condition(arg: &LinuxSeccompArg, path: impl Display) -> Result<Condition> {
    let Some(index) = u8::try_from(arg.index).ok().filter(|index| *index < 6) else {
        return Err(Error::new(
            path,
            format_args!("{}: the arguments of system calls are 0 to 5", arg.index),
        ));
    };
    let (op, value) = match arg.op {
        Operator::Ne => (Op::Ne, arg.value),
        Operator::Lt => (Op::Lt, arg.value),
        Operator::Le => (Op::Le, arg.value),
        Operator::Eq => (Op::Eq, arg.value),
        Operator::Ge => (Op::Ge, arg.value),
        Operator::Gt => (Op::Gt, arg.value),
        Operator::MaskedEq => (Op::MaskedEq(arg.value), arg.value_two.unwrap_or_default()),
    };
    Ok(Condition { index, op, value })
}

#[cfg(test)]
mod tests;
