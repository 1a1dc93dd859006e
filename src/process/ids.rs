//! User, groups and capabilities, in the order that the kernel's rules force.

use crate::plan::process::Process;
use crate::spec::Place;
use crate::sys::{Errno, cred};
use anyhow::{Context, Result};

/// Becomes root of the user namespace that this process is in, and so of what is made in it.
pub fn become_root(process: &Process) -> Result<()> {
    let missing = "become root of the user namespace: does it map id 0?";
    if !process.original_groups {
        leave_groups(&[], true)?;
    }
    cred::setgid(0).context(missing)?;
    cred::setuid(0).context(missing)
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
