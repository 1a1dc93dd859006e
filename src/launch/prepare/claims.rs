//! A cgroup belongs to one container: what is done to it applies to everything in it and below it.

use crate::cgroup::Dir as CgroupDir;
use crate::spec::Place;
use crate::state::{self, Dir, ListedContainer, State, Status};
use anyhow::{Result, bail};

/// Refuses to join a cgroup in the record of another container: that container may have made it at this moment,
/// with no process in it yet, and would lose it to this one, or this one's processes to its own delete. The
/// record is written before the cgroup is made, so whoever finds the cgroup also finds the record.
///
/// # Errors
///
/// If there is such a container; the error names it.
pub fn ensure_free(dir: &Dir, own: &State) -> Result<()> {
    if !own.cgroup.joins() {
        return Ok(());
    }
    let same = |ours: &CgroupDir, theirs: &CgroupDir| ours.path == theirs.path;
    let Some((path, other)) = find(dir, own, &same, &|_| true)? else { return Ok(()) };
    let refused = || bail!("cgroup {path} is that of container {other}");
    refused().at("linux.cgroupsPath")
}

/// Refuses to end a container while the cgroup of another one is below its own: everything there would end, too.
///
/// # Errors
///
/// If there is such a container; the error names it.
pub fn ensure_none_below(dir: &Dir, own: &State) -> Result<()> {
    if !own.cgroup.has_children() {
        return Ok(());
    }
    let below = |ours: &CgroupDir, theirs: &CgroupDir| {
        theirs.path != ours.path && theirs.path.starts_with(&ours.path)
    };
    match find(dir, own, &below, &|status| status != Status::Stopped)? {
        None => Ok(()),
        Some((path, other)) => bail!(
            "cgroup {path} also contains the cgroup of container {other}: delete that container first"
        ),
    }
}

/// A container of the same root, other than `own`, whose cgroup `meets` one of own's: the path of this one, and
/// the other's id and status.
fn find(
    dir: &Dir,
    own: &State,
    meets: &dyn Fn(&CgroupDir, &CgroupDir) -> bool,
    counts: &dyn Fn(Status) -> bool,
) -> Result<Option<(String, String)>> {
    let Some(root) = dir.path.parent() else { return Ok(None) };
    for ListedContainer { state: other, status, .. } in state::all(root)? {
        if other.id == own.id || !counts(status) {
            continue;
        }
        let theirs = other.cgroup.dirs();
        let met = |ours: &&CgroupDir| theirs.iter().any(|theirs| meets(ours, theirs));
        if let Some(ours) = own.cgroup.dirs().iter().find(met) {
            let other = format!("{}, which is {status}", other.id);
            return Ok(Some((ours.path.display().to_string(), other)));
        }
    }
    Ok(None)
}
