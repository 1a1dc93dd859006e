//! Decides: the spec becomes validated, resolved, plain data. Reads at most, changes nothing.

pub mod mount_options;
pub mod mounts;
pub mod resources;
pub mod rootfs;

use crate::spec::Place;
use anyhow::{Result, anyhow};

/// An error for the first place that is asked for and not supported.
fn refuse(asked: &[(&str, bool)]) -> Result<()> {
    match asked.iter().find(|(_, asked)| *asked) {
        Some((place, _)) => Err(anyhow!("not supported by this version of brig")).at(place),
        None => Ok(()),
    }
}
