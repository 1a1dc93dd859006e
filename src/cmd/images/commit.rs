//! commit and export: the changes of a container as an image layer, its whole tree as an archive.

use super::diff::with_rights;
use crate::deadline;
use crate::image::RUNTIME;
use crate::image::upper::{self, AsCaller};
use crate::log::{self, Log};
use crate::plan::overlay::IMAGE;
use crate::state::{Dir, State, Status};
use anyhow::{Context, Result, ensure};
use brig_layers::commit::change;
use brig_layers::commit::guard::Guard;
use brig_layers::commit::layout::{self, Layout};
use brig_layers::commit::written::Written;
use brig_layers::commit::{self, About, Packed};
use brig_layers::source::digest::Digest;
use brig_layers::store::{STORE_PATIENCE, Store, default_path, wait_for_lock};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The options of commit.
#[derive(Debug)]
pub struct CommitOptions {
    /// The container.
    pub id: String,
    /// The image to write: `DIR:TAG`.
    pub image: String,
    /// The compression of the new layer.
    pub packed: Packed,
    /// Author and message.
    pub about: About,
    /// Do not pause the container.
    pub no_pause: bool,
}

/// Writes the layer and prints the digest of the image's manifest.
pub fn commit(
    root: &Path,
    store: Option<&Path>,
    options: &CommitOptions,
    log: &mut Log,
) -> Result<()> {
    let (dir, state) = open(root, &options.id).with_context(|| format!("commit {}", options.id))?;
    let go = || -> Result<()> {
        let (path, tag) = layout::parse(&options.image)?;
        let path = std::path::absolute(path)?;
        let annotations = state.annotations.for_runtimes()?;
        let image = annotations.get(IMAGE).context(
            "not created from an image (with `brig bundle` or `brig run --image`), so there is no image to add a layer to",
        )?;
        let image = Digest::parse(image)?;
        let store = store.map_or_else(default_path, |path| Ok(path.to_owned()))?;
        let runs = dir.status(&state)? == Status::Running;
        if runs && !options.no_pause && state.cgroup.dirs().is_empty() {
            log.warn("the container has no cgroup, so it is not paused meanwhile: related files may not match");
        }
        let log = RefCell::new(log);
        let as_caller = AsCaller::new(&state, &dir)?;
        let ids = as_caller.ids()?;
        with_rights(|| {
            let store = Store::open(Some(&store))?;
            // Everything that can be missing is checked first, before anything is written.
            let mut base = commit::base(&store, &image, &RUNTIME.documents)?;
            base.record.config = change::apply(&base.record.config, &options.about.changes)?;
            let upper = upper::open_upper(&state, &dir, &as_caller)?;
            let layout = Layout::open(&path, Guard::spawn(|| state.cgroup.thaw())?)?;
            let layers = commit::copy_layers(&layout, &base.image)?;
            let mut warn = |text: &str| log.borrow_mut().warn(text);
            let write = || commit::layer(&layout, &upper, ids, options.packed, &mut warn);
            let top = while_paused(&dir, &state, options.no_pause, layout.guard(), write)?;
            let made = commit::finish(&layout, &tag, &base.record, layers, top, &options.about)?;
            let digest = made.manifest.clone().context("the new image has no manifest")?;
            // The image is complete and has its name: it can be run.
            let record = || -> Result<()> {
                let _lock = store.lock_shared()?;
                store.add_image(made)
            };
            if let Err(error) = record() {
                let why = sys::describe(&error);
                log.borrow_mut().warn(&format!("`brig images` will not list the image: {why}"));
            }
            log::out(format!("{digest}\n").as_bytes())
        })
    };
    go().with_context(|| format!("commit {}", options.id))
}

fn open(root: &Path, id: &str) -> Result<(Dir, State)> {
    let dir = Dir::open(root, id)?;
    let state = dir.existing()?;
    Ok((dir, state))
}

/// Runs an operation while the container is paused if it is running, like docker, so that related files are
/// consistent.
fn while_paused<T>(
    dir: &Dir,
    state: &State,
    no_pause: bool,
    guard: &Guard,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if no_pause {
        return act();
    }
    // Otherwise the end of another commit would resume the container. The guard resumes that of a killed one.
    let lock = dir.open_file("config.json")?;
    let why = || "another commit keeps the container paused".to_owned();
    wait_for_lock(&lock, true, STORE_PATIENCE, why)?;
    guard.keep(lock.as_fd())?;
    let runs = dir.status(state)? == Status::Running && !state.cgroup.dirs().is_empty();
    if !runs {
        return act();
    }
    guard.frozen()?;
    let frozen = state.cgroup.freeze(Instant::now() + deadline::FREEZE)?;
    let done = act();
    if frozen {
        state.cgroup.thaw()?;
    }
    guard.thawed()?;
    done
}

/// Writes the container's whole tree, without mounted filesystems, as a tar archive.
pub fn export(root: &Path, id: &str, output: Option<&PathBuf>, log: &mut Log) -> Result<()> {
    let mut go = || -> Result<()> {
        let (dir, state) = open(root, id)?;
        let as_caller = AsCaller::new(&state, &dir)?;
        let ids = as_caller.ids()?;
        with_rights(|| {
            let merged = upper::open_merged(&state, &dir, &as_caller)?;
            write_output(output.map(PathBuf::as_path), |name, file| {
                let (file, failure) = Written::new(file);
                let out = BufWriter::with_capacity(1 << 16, file);
                let mut warn = |text: &str| log.warn(text);
                let done = commit::export(&merged, ids, out, &mut warn);
                failure.of(name, done.and_then(|mut out| Ok(out.flush()?)))
            })
        })
    };
    go().with_context(|| format!("export {id}"))
}

/// Calls `write` with the output and its name. A file is complete or unchanged: it is written beside its place.
fn write_output(
    path: Option<&Path>,
    write: impl FnOnce(&str, Box<dyn Write>) -> Result<()>,
) -> Result<()> {
    let Some(path) = path else {
        let stdout = std::io::stdout();
        ensure!(
            !stdout.is_terminal(),
            "refusing to write an archive to a terminal: use -o FILE or redirect stdout"
        );
        return write("stdout", Box::new(stdout));
    };
    let name = path.display().to_string();
    let Some(place) = replaceable(path) else {
        let file = File::create(path).with_context(|| name.clone())?;
        return write(&name, Box::new(file));
    };
    // The time too: another container's brig may have the same pid.
    let unique = format!(".brig-{}-{}", std::process::id(), sys::time::now());
    let temp = std::path::absolute(&place)?.with_file_name(unique);
    let guard = Guard::spawn(|| Ok(()))?;
    guard.remove(&temp)?;
    let open = || -> Result<File> {
        let file = File::options().write(true).create_new(true).open(&temp)?;
        if let Ok(old) = fs::metadata(&place) {
            // Only root may give it away.
            let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            file.set_permissions(old.permissions())?;
        }
        Ok(file)
    };
    let file = open().with_context(|| name.clone())?;
    write(&name, Box::new(file))?;
    fs::rename(&temp, &place).with_context(|| name)
}

/// The file to replace, which a link leads to; None if it can only be written to: a device, a fifo, a descriptor.
fn replaceable(path: &Path) -> Option<PathBuf> {
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let is_other = fs::metadata(path).is_ok_and(|found| !found.is_file());
    match is_link {
        _ if is_other || path.file_name().is_none() => None,
        true if path.starts_with("/dev") || path.starts_with("/proc") => None,
        true => path.canonicalize().ok(),
        false => Some(path.to_owned()),
    }
}
