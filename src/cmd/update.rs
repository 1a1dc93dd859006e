//! update: changes the resource limits of an existing container.

use crate::log::{self, Log};
use crate::plan::rdt::Rdt;
use crate::plan::resources::Resources;
use crate::plan::update::{KERNEL_MEMORY, prune, take_flag};
use crate::spec::{self, At};
use crate::state::{self, Dir, State};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The options of update.
#[derive(Debug)]
pub struct UpdateOptions {
    /// The container's id.
    pub id: String,
    /// The file with `linux.resources`; `-` is stdin.
    pub resources: Option<PathBuf>,
    /// Flags that set one limit each, and their values.
    pub limits: Vec<(&'static str, String)>,
    /// `l3CacheSchema`.
    pub l3_cache: Option<String>,
    /// `memBwSchema`.
    pub mem_bw: Option<String>,
    /// Print the writes without doing them.
    pub dry_run: bool,
}

/// Changes the given limits; all others stay as they are.
pub fn update(root: &Path, options: &UpdateOptions, log: &mut Log) -> Result<()> {
    change_limits(root, options, log).with_context(|| format!("update {}", options.id))
}

fn change_limits(root: &Path, options: &UpdateOptions, log: &mut Log) -> Result<()> {
    let dir = Dir::open(root, &options.id)?;
    let resources = resources(options, log)?;
    let rdt = rdt(options)?;
    let _lock = dir.lock()?;
    let mut state = dir.existing()?;
    if state.creating || state::open_init(&state)?.is_none() {
        bail!("container not running");
    }
    ensure!(
        rdt.is_none() || state.rdt.is_some(),
        "the container was created without linux.intelRdt, and an existing container cannot be added to a resctrl group"
    );
    match options.dry_run {
        true => print_writes(&state, resources, rdt.as_ref()),
        false => change(&dir, &mut state, resources, rdt.as_ref()),
    }
}

/// The limits of the file, overridden by those of the flags.
fn resources(options: &UpdateOptions, log: &mut Log) -> Result<Resources> {
    let mut warnings = Vec::new();
    let Some(path) = &options.resources else {
        let plan = with_flags(spec::Resources::default(), options, &mut warnings);
        warnings.iter().for_each(|warning| log.warn(warning));
        return plan;
    };
    let read = || match path.to_str() {
        Some("-") => spec::read(std::io::stdin()),
        _ => spec::read(std::fs::File::open(path)?),
    };
    let name = if path.as_os_str() == "-" { "stdin".into() } else { path.display().to_string() };
    let text = read().with_context(|| format!("--resources {name}"))?;
    let locate = |at: &mut At| at.locate_in_part(name.clone(), "linux.resources.", &text);
    let document = spec::Document { name: &name, shape: spec::shape::RESOURCES, text: &text };
    log.debug_each(|| document.unknown_keys());
    let (mut spec, _) = document.parse(&mut warnings)?;
    let mut obsolete = Vec::new();
    prune(&mut spec, KERNEL_MEMORY, &mut obsolete);
    warnings.extend(obsolete.iter().map(|warning| spec::located_warning(warning, locate)));
    let plan = with_flags(spec, options, &mut warnings);
    warnings.iter().for_each(|warning| log.warn(warning));
    plan.map_err(|mut error| {
        error.downcast_mut::<At>().map(locate);
        error
    })
}

fn with_flags(
    mut spec: spec::Resources,
    options: &UpdateOptions,
    warnings: &mut Vec<String>,
) -> Result<Resources> {
    for (flag, value) in &options.limits {
        take_flag(&mut spec, flag, value)?;
    }
    prune(&mut spec, ["--kernel-memory", "--kernel-memory-tcp"], warnings);
    Resources::new(&spec, warnings)
}

fn rdt(options: &UpdateOptions) -> Result<Option<Rdt>> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (l3_cache, mem_bw) = (given(&options.l3_cache), given(&options.mem_bw));
    if l3_cache.is_none() && mem_bw.is_none() {
        return Ok(None);
    }
    let spec = spec::IntelRdt {
        clos_id: None,
        l3_cache,
        mem_bw,
        schemata: Vec::new(),
        enable_monitoring: false,
    };
    Rdt::new(&spec).map(Some)
}

/// Prints the writes.
fn print_writes(state: &State, resources: Resources, rdt: Option<&Rdt>) -> Result<()> {
    let mut text = String::new();
    if !resources.is_empty() {
        for line in state.cgroup.update(resources, state.memory_and_swap)?.lines()? {
            text += &format!("{line}\n");
        }
    }
    if let (Some(have), Some(rdt)) = (&state.rdt, rdt) {
        for line in &rdt.schemata {
            text += &format!("{} {line}\n", have.schemata().display());
        }
    }
    log::out(text.as_bytes())
}

/// Performs the writes, and stores what cannot be read back from the files.
fn change(dir: &Dir, state: &mut State, resources: Resources, rdt: Option<&Rdt>) -> Result<()> {
    let swap = resources.memory.swap;
    let unlimited = (resources.memory.limit == Some(-1)).then_some(-1);
    let undo = match resources.is_empty() {
        true => None,
        false => Some(state.cgroup.update(resources, state.memory_and_swap)?.apply()?),
    };
    let mut rest = || -> Result<()> {
        if let (Some(have), Some(rdt)) = (&state.rdt, rdt) {
            have.update(rdt)?;
        }
        state.memory_and_swap = swap.or(unlimited).or(state.memory_and_swap);
        dir.save(state)
    };
    rest().map_err(|error| match undo {
        Some(undo) => undo.after(error),
        None => error,
    })
}
