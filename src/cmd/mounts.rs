//! mounts: adds or removes mounts of an existing container.

use crate::launch::extra_mounts;
use crate::log::Log;
use crate::plan;
use crate::rootfs;
use crate::spec::{self, At, Spec};
use crate::state::{Dir, Status};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use sys::describe;

/// The options of mounts.
#[derive(Debug)]
pub struct MountsOptions {
    /// Whether to add, or to remove.
    pub add: bool,
    /// The container's id.
    pub id: String,
    /// JSON: an array of mounts, or an object with the array as `mounts`, like config.json.
    pub file: PathBuf,
}

/// Adds the mounts of a file, or removes them.
pub fn mounts(root: &Path, options: &MountsOptions, log: &mut Log) -> Result<()> {
    let what = if options.add { "add" } else { "remove" };
    change_mounts(root, options, log).with_context(|| format!("mounts {what} {}", options.id))
}

fn change_mounts(root: &Path, options: &MountsOptions, log: &mut Log) -> Result<()> {
    let read = || -> Result<_> {
        let text = spec::read(File::open(&options.file)?)?;
        Ok(text)
    };
    let name = options.file.display().to_string();
    let text = read().with_context(|| name.clone())?;
    let shape = if is_array(&text) { spec::shape::MOUNTS } else { spec::shape::WITH_MOUNTS };
    let document = spec::Document { name: &name, shape, text: &text };
    log.debug_each(|| document.unknown_keys());
    let mut warnings = Vec::new();
    let mounts = parse(document, &mut warnings)?;
    warnings.iter().for_each(|warning| log.warn(warning));
    let part = if is_array(&text) { "mounts" } else { "" };
    let locate = |at: &mut At| at.locate_in_part(name.clone(), part, &text);
    apply(root, options, &mounts, &locate, log).map_err(|mut error| {
        error.downcast_mut::<At>().map(locate);
        error
    })
}

fn is_array(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"[")
}

fn parse(document: spec::Document<'_>, warnings: &mut Vec<String>) -> Result<Vec<spec::Mount>> {
    #[derive(Deserialize)]
    struct Part {
        mounts: Vec<spec::Mount>,
    }
    match is_array(document.text) {
        true => Ok(document.parse(warnings)?.0),
        false => Ok(document.parse::<Part>(warnings)?.0.mounts),
    }
}

fn apply(
    root: &Path,
    options: &MountsOptions,
    mounts: &[spec::Mount],
    locate: &dyn Fn(&mut At),
    log: &mut Log,
) -> Result<()> {
    let dir = Dir::open(root, &options.id)?;
    let _lock = dir.lock()?;
    let mut state = dir.existing()?;
    let there = [Status::Created, Status::Running, Status::Paused];
    ensure!(there.contains(&dir.status(&state)?), "container not running");
    let config: Spec = serde_json::from_slice(&dir.read("config.json")?)?;
    if !options.add {
        let targets = plan::extra_mounts::remove(mounts, &config, &state.bundle)?;
        return extra_mounts::remove(&dir, &mut state, &targets);
    }
    let (host, mut warnings) = (plan::Host::default(), Vec::new());
    let mounts = plan::extra_mounts::add(mounts, &config, &state.bundle, &host, &mut warnings)?;
    let opened = rootfs::extra_mounts::open(&mounts, &extra_mounts::users(&mounts, &state)?)?;
    extra_mounts::add(&dir, &mut state, &mounts, &opened, &|mut error| {
        error.downcast_mut::<At>().map(locate);
        describe(&error)
    })?;
    warnings.iter().for_each(|warning| log.warn(&spec::located_warning(warning, locate)));
    Ok(())
}
