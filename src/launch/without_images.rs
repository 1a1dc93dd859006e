//! Stands in for `own_bundle` in a brig without images: another brig has created the bundle.

use crate::state::State;
use anyhow::{Result, bail};
use std::path::Path;

/// Not supported without images.
///
/// # Errors
///
/// Always.
pub fn keep(bundle: &Path, _checkpoint: &Path) -> Result<()> {
    remove(bundle)
}

/// Not supported without images.
///
/// # Errors
///
/// Always.
pub fn remove(bundle: &Path) -> Result<()> {
    bail!(
        "bundle {} was made from an image, and this brig was built without images",
        bundle.display()
    )
}

/// Not known without images.
///
/// # Errors
///
/// Never.
pub fn hold_layers(_state: &State, _directory: &Path) -> Result<()> {
    Ok(())
}

/// Not known without images.
pub fn release_layers(_state: &State, _directory: &Path) {}
