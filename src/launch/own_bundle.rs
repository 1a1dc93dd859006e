//! The bundle of a container created directly from an image: it is in a layer store, and removed with its
//! container. And the layers of other containers in such a store.

use super::prepare::hints;
use crate::process::subids;
use crate::state::State;
use anyhow::Result;
use brig_layers::store::containers;
use std::path::Path;
use sys::idmap::UserNamespace;

/// The user namespace in which an unprivileged user's brig works on a store; None for root.
pub fn user_namespace() -> Option<UserNamespace> {
    let unprivileged = !nix::unistd::geteuid().is_root();
    unprivileged.then(|| UserNamespace { maps: subids::own_maps(), explain: hints::refused_ids })
}

/// Keeps the layers of a container whose bundle is not its own, whatever happens to that bundle.
pub fn hold_layers(state: &State, directory: &Path) -> Result<()> {
    match &state.layers {
        Some(layers) if !state.own_bundle => {
            containers::hold(&layers.lower, &std::path::absolute(directory)?)
        }
        _ => Ok(()),
    }
}

/// Ends that: the container is gone.
pub fn release_layers(state: &State, directory: &Path) {
    if let Some(layers) = &state.layers
        && let Ok(directory) = std::path::absolute(directory)
    {
        containers::release(&layers.lower, &directory);
    }
}

/// Keeps the bundle after its container is deleted, for as long as the checkpoint exists.
pub fn keep(bundle: &Path, checkpoint: &Path) -> Result<()> {
    containers::keep(bundle, checkpoint)
}

/// Removes the bundle with all changes of the container.
pub fn remove(bundle: &Path) -> Result<()> {
    containers::remove(bundle, user_namespace().as_ref())
}
