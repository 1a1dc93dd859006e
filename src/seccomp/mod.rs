//! The seccomp filter of a process: `linux.seccomp`, compiled by [`oci_seccomp`], or the filter of crun's
//! annotations. [`sys::seccomp`] installs it.

pub mod decide;
pub mod kept;
mod raw;

pub use raw::ANNOTATION as COMPILED;

#[cfg(test)]
mod tests;

use crate::spec::Place;
use anyhow::{Context, Result, anyhow, ensure};
use oci_seccomp::docker::{self, Target};
use oci_seccomp::syscalls::{self, Syscall};
use oci_seccomp::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFlag, LinuxSyscall, sock_filter,
};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A filter, ready to be installed.
#[derive(Debug)]
pub struct Filter {
    /// The BPF program that the kernel runs for each system call.
    pub program: Vec<sock_filter>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// The agent that gets the listener, if the filter notifies.
    pub listener: Option<Listener>,
    /// Its place in config.json.
    pub place: &'static str,
}

/// The destination of the listener.
#[derive(Debug)]
pub struct Listener {
    /// The agent's socket.
    pub path: PathBuf,
    /// The metadata for the agent.
    pub metadata: Option<String>,
    /// What has named the socket.
    pub receiver: Receiver,
}

/// What has named the agent's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// `linux.seccomp.listenerPath`.
    Config,
    /// [`RECEIVER`].
    Annotation,
    /// [`RECEIVER_VARIABLE`].
    Variable,
}

impl Receiver {
    /// Adds it to an error about the socket.
    ///
    /// # Errors
    ///
    /// Only that error.
    pub fn named<T>(self, done: Result<T>) -> Result<T> {
        match self {
            Receiver::Config => done.at("linux.seccomp.listenerPath"),
            Receiver::Annotation => done.at(format_args!("annotations[{RECEIVER:?}]")),
            Receiver::Variable => done.context(RECEIVER_VARIABLE),
        }
    }
}

/// The place of the profile in config.json.
const PLACE: &str = "linux.seccomp";

/// The architecture that brig is built for.
pub const NATIVE: Arch =
    Arch::NATIVE.expect("oci-seccomp knows the system calls of x86_64, aarch64 and riscv64");

/// crun's annotation: the agent's socket, if `linux.seccomp.listenerPath` is not set.
pub const RECEIVER: &str = "run.oci.seccomp.receiver";
/// The same setting as an environment variable of brig's caller.
const RECEIVER_VARIABLE: &str = "RUN_OCI_SECCOMP_RECEIVER";
/// crun's annotation: an unknown system call is an error, unless the value is 0.
pub const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";

/// What follows the place in a warning about unknown system calls.
pub const UNKNOWN_CALLS: &str = ": unknown system calls ignored: ";

/// The place of a name of a system call in config.json.
fn place_of(name: &str, spec: &LinuxSeccomp) -> String {
    let syscalls = spec.syscalls.as_deref().unwrap_or_default().iter().enumerate();
    let mut places = syscalls.filter_map(|(i, entry)| {
        let j = entry.names.iter().position(|other| other == name)?;
        Some(format!("{PLACE}.syscalls[{i}].names[{j}]"))
    });
    places.next().unwrap_or_else(|| PLACE.into())
}

impl Filter {
    /// The filter of an existing container, from the text of its `linux.seccomp`, or from the cache of an
    /// earlier exec; with the bytes to cache, if any.
    ///
    /// # Errors
    ///
    /// Those of [`Filter::of`].
    pub fn of_text(
        text: Option<&str>,
        annotations: &BTreeMap<String, String>,
        kept: &dyn Fn() -> Option<Vec<u8>>,
    ) -> Result<(Option<Filter>, Option<Vec<u8>>)> {
        let key = text.filter(|_| !annotations.contains_key(raw::ANNOTATION)).map(kept::key);
        let key = key.transpose()?;
        if let Some(filter) = key.and_then(|key| kept::read(&kept()?, key)) {
            return Ok((Some(filter), None));
        }
        let spec: Option<LinuxSeccomp> = text.map(serde_json::from_str).transpose()?;
        // create has already warned about what this process cannot have.
        let filter = Filter::of(spec.as_ref(), annotations, &mut Vec::new())?;
        let kept = filter.as_ref().zip(key).and_then(|(filter, key)| kept::write(filter, key));
        Ok((filter, kept))
    }

    /// The container's filter: `linux.seccomp`, or the rules of an annotation.
    ///
    /// # Errors
    ///
    /// If the profile or the annotation is not valid.
    pub fn of(
        spec: Option<&LinuxSeccomp>,
        annotations: &BTreeMap<String, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Filter>> {
        if let Some(text) = annotations.get(raw::ANNOTATION) {
            let listed = spec.and_then(|spec| spec.flags.as_deref());
            let flags = oci_seccomp::flags(listed, false).map_err(|error| placed(&error))?;
            return raw::filter(text, flags).map(Some);
        }
        let Some(spec) = spec else { return Ok(None) };
        let (spec, receiver) = with_receiver(spec, annotations)?;
        let (filter, unknown) = Filter::new(&spec, receiver)?;
        let Some(place) = unknown.first().map(|first| place_of(first, &spec)) else {
            return Ok(Some(filter));
        };
        let names = unknown.join(", ");
        if annotations.get(FAIL_UNKNOWN).is_some_and(|value| value != "0") {
            let why = format!("which annotations[{FAIL_UNKNOWN:?}] forbids");
            Err(anyhow!("unknown system calls: {names}, {why}")).at(place)?;
        } else {
            warnings.push(format!("{place}{UNKNOWN_CALLS}{names}"));
        }
        Ok(Some(filter))
    }

    /// Compiles `linux.seccomp` for this machine, and returns the names of unknown system calls.
    fn new(spec: &LinuxSeccomp, receiver: Receiver) -> Result<(Filter, Vec<String>)> {
        let oci_seccomp::Filter { program, flags, notifies, unknown, .. } =
            oci_seccomp::compile(spec, NATIVE).map_err(|error| placed(&error))?;
        let path = spec.listener_path.clone().filter(|_| notifies);
        let metadata = spec.listener_metadata.clone().filter(|metadata| !metadata.is_empty());
        let listener = path.map(|path| Listener { path, metadata, receiver });
        Ok((Filter { program, flags, listener, place: PLACE }, unknown))
    }
}

/// Calls that [`recording`] does not notify about: no filter can notify of write, because the listener is
/// sent with it, and without the others a process could not exit after its agent has.
pub const NOT_RECORDED: [&str; 5] = ["exit", "exit_group", "rt_sigreturn", "sigreturn", "write"];

/// A profile that allows everything and notifies an agent of every call.
pub fn recording(agent: &Path) -> LinuxSeccomp {
    let names = syscalls::all().iter().map(Syscall::name);
    let names = names.filter(|name| !NOT_RECORDED.contains(name));
    let mut profile = LinuxSeccomp::new(LinuxSeccompAction::Allow);
    profile.architectures = Some(NATIVE.family().iter().map(|arch| arch.spec()).collect());
    // Otherwise programs that receive signals all the time, e.g. Go's, would restart their calls again and
    // again.
    profile.flags = Some(vec![LinuxSeccompFlag::SpecAllow, LinuxSeccompFlag::WaitKillableRecv]);
    profile.listener_path = Some(agent.to_owned());
    profile.syscalls = Some(vec![LinuxSyscall::new(names, LinuxSeccompAction::Notify)]);
    profile
}

/// Resolves a profile in docker's format to `linux.seccomp`, for a container with this bounding set on this
/// machine.
///
/// # Errors
///
/// If the text is not a valid profile.
pub fn resolve(text: &[u8], bounding: &[String]) -> Result<Value> {
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut number = || numbers.next().and_then(Result::ok).context(release.clone());
    let target = Target::new(bounding, NATIVE, (number()?, number()?));
    let profile = docker::read(text, &target)?;
    ensure!(profile["defaultAction"].is_string(), "defaultAction: missing: not a seccomp profile");
    Ok(profile)
}

/// `struct sock_filter` (linux/filter.h), in native byte order.
fn instruction(&[c, d, jt, jf, k0, k1, k2, k3]: &[u8; 8]) -> sock_filter {
    let (code, k) = (u16::from_ne_bytes([c, d]), u32::from_ne_bytes([k0, k1, k2, k3]));
    sock_filter { code, jt, jf, k }
}

/// The error with its place in config.json.
fn placed(error: &oci_seccomp::Error) -> anyhow::Error {
    let place = match error.path() {
        "" => "linux.seccomp".into(),
        path => format!("linux.seccomp.{path}"),
    };
    anyhow!("{}", error.message()).context(crate::spec::At::new(place))
}

/// crun's other ways to name the agent's socket if `listenerPath` is not set.
fn with_receiver<'a>(
    spec: &'a LinuxSeccomp,
    annotations: &BTreeMap<String, String>,
) -> Result<(Cow<'a, LinuxSeccomp>, Receiver)> {
    let given = spec.listener_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let syscalls = spec.syscalls.as_deref().unwrap_or_default();
    if given || syscalls.iter().all(|entry| entry.action != LinuxSeccompAction::Notify) {
        return Ok((Cow::Borrowed(spec), Receiver::Config));
    }
    let (receiver, path) = match annotations.get(RECEIVER) {
        Some(path) => (Receiver::Annotation, Some(PathBuf::from(path))),
        None => (Receiver::Variable, std::env::var_os(RECEIVER_VARIABLE).map(PathBuf::from)),
    };
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
        return Ok((Cow::Borrowed(spec), Receiver::Config));
    };
    if !path.is_absolute() {
        receiver.named(Err(anyhow!("{path:?} is not an absolute path")))?;
    }
    let mut spec = spec.clone();
    spec.listener_path = Some(path);
    Ok((Cow::Owned(spec), receiver))
}
