//! User, groups and capabilities, in the order that the kernel's rules force.

use crate::plan::process::Process;
use crate::spec::Place;
use anyhow::{Context, Result};
use sys::{Errno, SysError, cred};

/// Becomes root of the user namespace that this process is in, and so of what is made in it. If the
/// namespace maps no id 0, the user of `process` has to do: what sets a container up are the
/// capabilities, and a change of ids within the namespace leaves them, unless it is one from root.
pub fn become_root(process: &Process) -> Result<()> {
    if !process.original_groups {
        leave_groups(&[], true)?;
    }
    become_first(process.uid, process.gid)
}

/// Becomes id 0 of the user namespace, or where that is not mapped, these.
pub fn become_first(uid: u32, gid: u32) -> Result<()> {
    let mapped = |done: Result<(), SysError>| match done {
        Err(error) if error.errno == Errno::EINVAL => Ok(false),
        done => done.map(|()| true),
    };
    let missing = "the user namespace maps neither id 0 nor the process's";
    if !mapped(cred::setgid(0))? {
        cred::setgid(gid).context(missing)?;
    }
    if !mapped(cred::setuid(0))? {
        cred::setuid(uid).context(missing)?;
    }
    Ok(())
}

/// In a user namespace of one id the kernel lets nobody change groups: then there are none to get
/// rid of but those that the caller has anyway (CVE-2014-8989).
fn leave_groups(groups: &[u32], may_keep: bool) -> Result<()> {
    match cred::setgroups(groups) {
        Err(error) if error.errno == Errno::EPERM && may_keep && groups.is_empty() => Ok(()),
        done => Ok(done?),
    }
}

/// Becomes the user of `process`, with the capabilities it names and no others.
pub fn become_user(process: &Process) -> Result<()> {
    let capabilities = &process.capabilities;
    // Needs CAP_SETPCAP, so before the sets are cut.
    cred::limit_bounding(capabilities.bounding).at("process.capabilities.bounding")?;
    // Otherwise the change of uid from 0 would empty the permitted set.
    cred::keep_capabilities(true)?;
    if !process.original_groups {
        leave_groups(&process.groups, process.keeps_groups).at("process.user.additionalGids")?;
    }
    cred::setgid(process.gid).at("process.user.gid")?;
    cred::setuid(process.uid).at("process.user.uid")?;
    cred::keep_capabilities(false)?;
    // Ambient is cleared by setuid from 0, but brig may have been called with some and uid 0.
    cred::clear_ambient()?;
    cred::capset(&capabilities.sets).at("process.capabilities")?;
    for cap in (0..64).filter(|cap| capabilities.ambient & 1 << cap != 0) {
        cred::raise_ambient(cap).at("process.capabilities.ambient")?;
    }
    if process.no_new_privileges {
        cred::no_new_privileges().at("process.noNewPrivileges")?;
    }
    Ok(())
}
