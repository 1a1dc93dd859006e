//! User, groups and capabilities, in the order that the kernel requires.

use crate::plan::process::Process;
use crate::spec::Place;
use anyhow::{Context, Result};
use sys::{Errno, SysError, cred};

/// Becomes root of the user namespace of this process, and so the owner of everything created in it. If the
/// namespace maps no id 0, the user of `process` is used: set-up needs capabilities, and a change of ids
/// within the namespace keeps them unless it is one from root.
pub fn become_root(process: &Process) -> Result<()> {
    if !process.original_groups {
        leave_groups(&[], true)?;
    }
    become_first(process.uid, process.gid)
}

/// Becomes id 0 of the user namespace, or these ids if 0 is not mapped.
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

/// The kernel does not permit setgroups in a user namespace of a single id: then only the groups of the
/// caller remain (CVE-2014-8989).
fn leave_groups(groups: &[u32], may_keep: bool) -> Result<()> {
    match cred::setgroups(groups) {
        Err(error) if error.errno == Errno::EPERM && may_keep && groups.is_empty() => Ok(()),
        done => Ok(done?),
    }
}

/// Becomes the user of `process`, with its capabilities and no others.
pub fn become_user(process: &Process) -> Result<()> {
    let capabilities = &process.capabilities;
    // Needs CAP_SETPCAP, so it comes before the sets are reduced.
    cred::limit_bounding(capabilities.bounding).at("process.capabilities.bounding")?;
    // Otherwise the change of uid from 0 would clear the permitted set.
    cred::keep_capabilities(true)?;
    if !process.original_groups {
        leave_groups(&process.groups, process.keeps_groups).at("process.user.additionalGids")?;
    }
    cred::setgid(process.gid).at("process.user.gid")?;
    cred::setuid(process.uid).at("process.user.uid")?;
    cred::keep_capabilities(false)?;
    // setuid from 0 clears the ambient set, but brig may have been called with one and uid 0.
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
