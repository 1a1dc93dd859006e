//! A container straight from an image: its bundle is in the store, belongs to it, and goes with it.

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
    /// As a person names it.
    pub image: String,
    /// Instead of the image's Cmd.
    pub args: Vec<String>,
    /// `--platform`.
    pub platform: Option<String>,
    /// `--store`.
    pub store: Option<PathBuf>,
    /// What the command line changes.
    pub flags: Flags,
    /// The id is the command line's first word, and not brig's or `--name`'s.
    pub id_is_word: bool,
}

impl FromImage {
    /// The error, and where a program is not found what to write, if the id is meant for one.
    pub fn meant(&self, error: Error, id: &str) -> Error {
        let text = describe(&error);
        let is_about_program = text.contains("executable file not found")
            || text.contains("exec: ") && text.contains("no such file or directory");
        if !self.id_is_word || !is_about_program {
            return error;
        }
        anyhow!("{text}; {}", request::run_instead(&self.image, id))
    }
}

/// The host name has at most so many bytes.
const MAX_HOSTNAME: usize = 63;

/// Makes the bundle of a container that is about to be created.
/// `template`: what `brig spec` writes.
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
    // What is reserved is given back: by unpacking, which looks for them, or by create.
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
        // What the command line says about it goes before, and stands in no config.
        upper: (rootfs.upper.is_none() && !in_memory).then_some(("data/upper", "data/work")),
        container: Some((&root, &options.id)),
    };
    match request::make(&store.path, &request, warn) {
        Ok(()) => Ok(own),
        Err(error) => {
            // The error that matters is the first one.
            let _ = own_bundle::remove(&own.bundle);
            Err(error)
        }
    }
}

fn is_terminal(fd: &std::os::fd::BorrowedFd<'_>) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}
