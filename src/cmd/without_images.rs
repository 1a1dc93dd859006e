//! Stands in for `images` in a brig without that feature: no such commands, and no `--image`.

use crate::launch::create::{Created, Options};
use crate::log::Log;
use anyhow::Result;
use std::path::Path;

/// Has no values.
#[derive(Debug)]
pub enum ImageCommand {}

/// Has no values.
#[derive(Debug)]
pub enum FromImage {}

impl ImageCommand {
    pub(crate) fn name(&self) -> &'static str {
        match *self {}
    }

    pub(crate) fn container(&self) -> Option<&str> {
        match *self {}
    }
}

/// Not callable, because the command has no values.
///
/// # Errors
///
/// None.
pub fn run(_: &Path, _: Option<&Path>, command: &ImageCommand, _: &mut Log) -> Result<()> {
    match *command {}
}

pub(crate) fn create(from: &FromImage, _: &Options, _: &mut Log) -> Result<Created> {
    match *from {}
}

pub(crate) fn prints_id(from: &FromImage) -> bool {
    match *from {}
}
