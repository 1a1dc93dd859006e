//! User, groups and capabilities, in the order that the kernel's rules force.

use crate::plan::process::Process;
use crate::spec::Place;
use crate::sys::cred;
use anyhow::Result;

/// Becomes the user of `process`, with the capabilities it names and no others.
pub fn become_user(process: &Process) -> Result<()> {
    let capabilities = &process.capabilities;
    // Needs CAP_SETPCAP, so before the sets are cut.
    cred::limit_bounding(capabilities.bounding).at("process.capabilities.bounding")?;
    // Otherwise the change of uid from 0 would empty the permitted set.
    cred::keep_capabilities(true)?;
    cred::setgroups(&process.groups).at("process.user.additionalGids")?;
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
