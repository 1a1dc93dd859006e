//! A container straight from an image: its bundle is in the store, belongs to it, and goes with it.

use super::bundle::{self, Request};
use super::flags::Flags;
use super::store::{Store, default_path, wait_for_lock};
use super::whiteout;
use crate::cmd::spec::template;
use crate::deadline;
use crate::launch::create::Options;
use crate::state;
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::symlinkat;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::signal::ABORT;
use sys::{Errno, describe, misc};

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
        anyhow!("{text}; {}", bundle::run_instead(&self.image, id))
    }
}

/// A container's own bundle, which nobody takes for left over while this is held.
#[derive(Debug)]
pub struct Own {
    /// The bundle.
    pub bundle: PathBuf,
    lock: OwnedFd,
}

/// A link in a container's directory to its state directory.
pub const STATE: &str = "state";

/// The host name has at most so many bytes.
const MOST_HOSTNAME: usize = 63;

/// Makes the bundle of a container that is about to be created.
pub fn prepare(from: &FromImage, options: &Options, warn: &mut dyn FnMut(&str)) -> Result<Own> {
    let rootfs = &options.rootfs;
    ensure!(rootfs.layers.is_empty(), "--layer: the layers are those of --image");
    ensure!(options.config.is_none(), "--config: with --image the config is the image's");
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
    let own = reserve(&store, &root, &options.id)?;
    let terminal = match &options.console_socket {
        Some(_) => true,
        None => !options.detach && misc::STANDARD_FDS[..2].iter().all(is_terminal),
    };
    let id = &options.id[..options.id.len().min(MOST_HOSTNAME)];
    let ordinary = !nix::unistd::geteuid().is_root();
    let in_memory = whiteout::is_overlay(own.lock.as_fd());
    if in_memory && rootfs.upper.is_none() {
        warn(
            "the store is on overlayfs, which takes no container's changes: they are kept in memory, as \
             with --upper tmpfs (--store DIR on another filesystem keeps them)",
        );
    }
    let request = Request {
        image: &from.image,
        platform: from.platform.as_deref(),
        bundle: &own.bundle,
        template: &template(ordinary)?,
        args: &from.args,
        flags: &from.flags,
        word: (from.id_is_word && from.args.is_empty()).then_some(options.id.as_str()),
        terminal,
        hostname: Some(id.trim_end_matches(['-', '.'])),
        // What the command line says about it goes before, and stands in no config.
        upper: (rootfs.upper.is_none() && !in_memory).then_some(("data/upper", "data/work")),
        container: Some((&root, &options.id)),
    };
    match bundle::make(&store.path, &request, warn) {
        Ok(()) => Ok(own),
        Err(error) => {
            // The error that matters is the first one.
            let _ = bundle::remove_tree(&own.bundle);
            Err(error)
        }
    }
}

fn is_terminal(fd: &std::os::fd::BorrowedFd<'_>) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}

/// A directory of the container's own: no two have the same, whatever their state roots.
fn reserve(store: &Store, root: &Path, id: &str) -> Result<Own> {
    // Until it is locked `gc` would take it for left over.
    let _lock = store.lock_shared()?;
    let containers = store.path.join("containers");
    for number in 0..u32::MAX {
        let bundle = containers.join(format!("{id}-{number}"));
        match nix::unistd::mkdir(&bundle, Mode::from_bits_truncate(0o711)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => continue,
            Err(errno) => return Err(errno).with_context(|| bundle.display().to_string()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let lock = open(&bundle, flags, Mode::empty())?;
        // Who lists what there is tries the lock for a moment.
        let why = || format!("{} is locked", bundle.display());
        wait_for_lock(&lock, true, deadline::STORE, why)?;
        // use.json says it as well; a link is there whole or not at all.
        symlinkat(&root.join(id), &lock, STATE).context("symlink")?;
        return Ok(Own { bundle, lock });
    }
    bail!("{} is full", containers.display())
}

/// Removes it, with all that the container has changed.
pub fn discard(bundle: &Path) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let lock = match open(bundle, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        lock => lock.with_context(|| bundle.display().to_string())?,
    };
    // While it is locked `gc` does not take it for left over. If it is locked already, then by the brig
    // that has made it, which is this one, or by `gc`, which removes it as well.
    misc::try_flock(lock.as_fd(), true)?;
    bundle::remove_tree(bundle)
}
