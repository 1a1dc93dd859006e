//! Settings in the container's namespaces that CRIU does not restore, or restores differently.

use crate::launch::aside::aside;
use crate::plan::sysctl::Sysctl;
use crate::plan::{Plan, namespaces};
use crate::process::proc::Proc;
use crate::rootfs::staged;
use crate::spec::Place;
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use sys::cred;
use sys::namespace::loopback_up;

/// Sets the loopback device of a new network namespace up, like create.
pub(super) fn set_loopback_up(pid: i32) -> Result<()> {
    inside(pid, "net", CloneFlags::CLONE_NEWNET, || Ok(loopback_up()?))
}

/// Sets the parameters of the network namespace: it is new, or was set up by someone who may not know them.
/// Parameters of other namespaces are in the checkpoint.
pub(super) fn set_sysctls(pid: i32, plan: &Plan) -> Result<()> {
    let mut sysctls =
        plan.sysctl.iter().filter(|sysctl| sysctl.path.starts_with("net/")).peekable();
    if sysctls.peek().is_none() {
        return Ok(());
    }
    let proc = Proc::open()?;
    // The kernel resolves a parameter in the namespaces of the process that opens it.
    inside(pid, "net", CloneFlags::CLONE_NEWNET, || {
        sysctls.try_for_each(|Sysctl { path, value, place }| {
            proc.write(&format!("sys/{path}"), value).at(place)
        })
    })
}

/// Replaces the checkpoint's host name in a new UTS namespace.
pub(super) fn set_hostname(pid: i32, name: &str) -> Result<()> {
    let set = || Ok(nix::unistd::sethostname(name)?);
    inside(pid, "uts", CloneFlags::CLONE_NEWUTS, set).with_context(|| format!("--hostname {name}"))
}

fn inside(pid: i32, name: &str, kind: CloneFlags, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let (host, container) = (namespace("self", name)?, namespace(&pid.to_string(), name)?);
    // The host's namespace must not be changed.
    let inode = |file: &File| Ok::<_, std::io::Error>(file.metadata()?.ino());
    ensure!(
        inode(&host)? != inode(&container)?,
        "the checkpoint is in the host's {} namespace, and linux.namespaces has another",
        namespaces::name(kind.bits())
    );
    setns(&container, kind).with_context(|| format!("into the container's {name} namespace"))?;
    let done = act();
    setns(&host, kind).with_context(|| format!("return to brig's {name} namespace"))?;
    done
}

fn namespace(process: &str, name: &str) -> Result<File> {
    let path = format!("/proc/{process}/ns/{name}");
    File::open(&path).context(path)
}

/// Makes the root mount read-only, which CRIU leaves writable because it creates a directory in it. In a
/// separate process, so that brig stays in the host's mount namespace.
pub(super) fn make_root_readonly(pid: i32) -> Result<()> {
    let mounts = namespace(&pid.to_string(), "mnt")?;
    let act = || -> Result<()> {
        cred::dumpable(false)?;
        setns(&mounts, CloneFlags::CLONE_NEWNS).context("setns")?;
        staged::make_root_readonly()
    };
    aside(0, "the process that protects the root", act, |_| Ok(()))
}
