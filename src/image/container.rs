//! A container created directly from an image: its bundle is in the store, belongs to the container, and is
//! removed with it.

use super::flags::Flags;
use super::request::{self, Request};
use crate::launch::create::Options;
use crate::launch::own_bundle;
use crate::state;
use anyhow::{Context, Error, Result, anyhow, ensure};
use brig_layers::store::containers::Reserved;
use brig_layers::store::{Store, default_path};
use brig_layers::tree::whiteout;
use nix::sys::signal::SigSet;
use std::path::PathBuf;
use sys::signal::ABORT;
use sys::{describe, fd};

/// `--image` of create and run.
#[derive(Debug, Default, Clone)]
pub struct FromImage {
    /// The image as given on the command line.
    pub image: String,
    /// Replaces the image's Cmd.
    pub args: Vec<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// `--store`.
    pub store: Option<PathBuf>,
    /// Flags that override the image's configuration.
    pub flags: Flags,
    /// Whether the id is the first argument, and neither generated nor from `--name`.
    pub id_is_word: bool,
}

impl FromImage {
    /// Adds a suggestion to the error if a program was not found because its name was taken as the id.
    pub fn with_suggestion(&self, error: Error, id: &str) -> Error {
        let text = describe(&error);
        let is_about_program = text.contains("executable file not found")
            || text.contains("exec: ") && text.contains("no such file or directory");
        if !self.id_is_word || !is_about_program {
            return error;
        }
        anyhow!("{text}; {}", request::run_instead(&self.image, id))
    }
}

/// The maximum length of a host name in bytes.
const MAX_HOSTNAME: usize = 63;

/// Creates the bundle of a new container. `template`: the output of `brig spec`.
pub fn prepare(
    from: &FromImage,
    options: &Options,
    template: &str,
    warn: &mut dyn FnMut(&str),
) -> Result<Reserved> {
    let rootfs = &options.rootfs;
    ensure!(
        rootfs.layers.is_empty(),
        "--layer: cannot be used with --image, which provides the layers"
    );
    ensure!(
        options.config.is_none(),
        "--config: cannot be used with --image, which provides the config"
    );
    state::check_id(&options.id)?;
    let root = std::path::absolute(&options.root)?;
    if let Some(error) = state::in_use(&root, &options.id) {
        return Err(error);
    }
    let path = from.store.clone().map_or_else(default_path, Ok)?;
    let store = Store::open(Some(&path))?;
    // Signals must not kill brig now: unpacking checks for them, and create undoes reservations.
    let wait: SigSet = ABORT.iter().filter_map(|&signal| signal.try_into().ok()).collect();
    wait.thread_block().context("block signals")?;
    let own = Reserved::new(&store, &root, &options.id)?;
    let terminal = match &options.console_socket {
        Some(_) => true,
        None => !options.detach && fd::STANDARD_FDS[..2].iter().all(is_terminal),
    };
    let id = &options.id[..options.id.len().min(MAX_HOSTNAME)];
    let in_memory = whiteout::is_overlay(own.dir());
    if in_memory && rootfs.upper.is_none() {
        warn(
            "the store is on overlayfs, which cannot hold the container's changes: they are kept in memory, as with --upper tmpfs (--store DIR on another filesystem keeps them)",
        );
    }
    let request = Request {
        image: &from.image,
        platform: from.platform.as_deref(),
        bundle: &own.bundle,
        template,
        args: &from.args,
        flags: &from.flags,
        word: (from.id_is_word && from.args.is_empty()).then_some(options.id.as_str()),
        terminal,
        hostname: Some(id.trim_end_matches(['-', '.'])),
        // Flags of the command line override this, and are not in the config.
        upper: (rootfs.upper.is_none() && !in_memory).then_some(("data/upper", "data/work")),
        container: Some((&root, &options.id)),
    };
    match request::make(&store.path, &request, warn) {
        Ok(()) => Ok(own),
        Err(error) => {
            // The first error is the one to report.
            let _ = own_bundle::remove(&own.bundle);
            Err(error)
        }
    }
}

fn is_terminal(fd: &std::os::fd::BorrowedFd<'_>) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}
