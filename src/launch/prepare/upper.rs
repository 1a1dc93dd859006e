//! An upper directory belongs to one container at a time: two overlays with the same upper corrupt each
//! other's files, and the kernel only logs a warning (unless overlayfs has index=on).

use crate::plan::Plan;
use crate::state::{self, State, Status};
use anyhow::{Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Checks that no other container below this root uses the upper of this one, whose state is written: if two
/// are created at the same time, at least one of them sees the other.
///
/// # Errors
///
/// If another container uses it; the error names the container.
pub fn ensure_unused(root: &Path, own: &State, plan: &Plan) -> Result<()> {
    let (Some(overlay), Some(upper)) = (&plan.rootfs.overlay, upper_of(own)) else { return Ok(()) };
    let identity = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let found = || -> Result<()> {
        // None if it does not exist yet.
        let ours = identity(upper);
        for state::ListedContainer { state: other, status, .. } in state::all(root)? {
            let same = |theirs| theirs == upper || ours.is_some() && identity(theirs) == ours;
            let shared = upper_of(&other).is_some_and(same);
            if shared && other.id != own.id && status != Status::Stopped {
                bail!(
                    "{} is the upper of container {}, which is {status}: two overlays with \
                     the same upper corrupt each other's files",
                    upper.display(),
                    other.id
                );
            }
        }
        Ok(())
    };
    overlay.upper_from.with_origin(found())
}

fn upper_of(state: &State) -> Option<&Path> {
    state.layers.as_ref()?.upper.as_deref()
}
