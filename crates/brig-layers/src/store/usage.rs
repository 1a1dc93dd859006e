//! The contents of the store, their users, and removal of what is unused: docs/layers.md, Users.

use crate::runtime::Runtime;
use crate::source::digest::Digest;
use crate::source::manifest::chain_ids;
use crate::store::containers::{BUNDLE, CHECKPOINT, CONTAINER, STATE};
use crate::store::{
    ImageRecord, LayerRecord, Store, UseRecord, is_temp_name, is_temp_record, read_record,
    record_in,
};
use crate::tree;
use anyhow::{Context, Result, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::fd;

/// The contents of a store.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its images.
    pub images: Vec<ImageRecord>,
    /// Its layers.
    pub layers: Vec<LayerRecord>,
    /// Existing bundles and containers.
    pub uses: Vec<UseRecord>,
    /// What is unused, or belongs to a deleted user.
    pub unused: Vec<Unused>,
    /// The names of directories that are in use, whatever the records say.
    held: BTreeSet<String>,
    /// There is a user whose layers are unknown: nothing is unused.
    unknown: bool,
}

const LAYER: &str = "layer";
const PATCH: &str = "patch";
const JOINED: &str = "joined layer";

const OF_BUNDLE: &str = "record of a bundle";
const DAMAGED: &str = "damaged record";

/// Something to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// Its kind: a layer, a patch, …
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The space that its removal frees, as far as known.
    pub bytes: u64,
    /// Its path.
    #[serde(skip)]
    pub path: PathBuf,
}

impl Contents {
    /// Reads everything. `all`: an image without bundles and containers counts as unused, too.
    ///
    /// # Errors
    ///
    /// If a directory of the store cannot be read.
    pub fn read(store: &Store, all: bool, runtime: &Runtime) -> Result<Contents> {
        let mut contents = Contents::default();
        contents.read_uses(store, runtime)?;
        let used: BTreeSet<&Digest> = contents.uses.iter().map(|used| &used.image).collect();
        let mut images = Vec::new();
        for path in entries(&store.path.join("images"))? {
            let Some(image) = record::<ImageRecord>(&path, &mut contents.unused)? else {
                continue;
            };
            if all && !used.contains(&image.id) {
                contents.unused.push(unused("image", &image.id.to_string(), 0, path));
            } else {
                images.push(image);
            }
        }
        contents.images = images;
        contents.read_layers(store)?;
        contents.read_chains(store)?;
        contents.read_tmp(store)?;
        Ok(contents)
    }

    fn read_uses(&mut self, store: &Store, runtime: &Runtime) -> Result<()> {
        for path in entries(&store.path.join("bundles"))? {
            match link_to(&path) {
                Some((CONTAINER, state)) => self.read_container(path, &state, runtime),
                // Read with its record.
                Some(_) if path.with_extension("json").exists() => {}
                Some((_, bundle)) => self.read_bundle(store, path, None, Some(&bundle), runtime)?,
                None => {
                    let before = self.unused.len();
                    let used = record::<UseRecord>(&path, &mut self.unused)?;
                    let damaged = self.unused.get(before).is_some_and(|left| left.what == DAMAGED);
                    if damaged {
                        self.unused.truncate(before);
                    }
                    if damaged || used.is_some() {
                        let bundle =
                            link_to(&path.with_extension(BUNDLE)).map(|(_, bundle)| bundle);
                        self.read_bundle(store, path, used, bundle.as_deref(), runtime)?;
                    }
                }
            }
        }
        for path in entries(&store.path.join("containers"))? {
            if !is_container(&path) {
                continue;
            }
            let used = match read_record::<UseRecord>(&path.join("use.json"))? {
                None if path.join("use.json").symlink_metadata().is_ok() => {
                    let state = fs::read_link(path.join(STATE)).ok();
                    let container = state.as_deref().and_then(container_of);
                    self.rebuilt(store, &path, container, runtime)?
                }
                used => used,
            };
            // It is being created or removed.
            let locked = is_locked(&path)?;
            match used {
                Some(used) if locked || may_live(&used, &path, runtime) => self.uses.push(used),
                _ if locked => {}
                _ => {
                    let name = file_name(&path);
                    self.unused.push(unused("directory of a container", &name, 0, path));
                }
            }
        }
        Ok(())
    }

    /// Reads a bundle outside the store: `path` is its record, or the link to it.
    fn read_bundle(
        &mut self,
        store: &Store,
        path: PathBuf,
        used: Option<UseRecord>,
        bundle: Option<&Path>,
        runtime: &Runtime,
    ) -> Result<()> {
        let used = match (used, bundle) {
            (None, Some(bundle)) => self.rebuilt(store, bundle, None, runtime)?,
            (used, _) => used,
        };
        let bundle = bundle.or(used.as_ref().map(|used| used.bundle.as_path()));
        let bundle = bundle.map(Path::to_owned);
        match used {
            Some(used) if exists_with(&used, runtime) => {
                self.held.extend(layers_of(&read_config(&used.bundle), runtime));
                self.uses.push(used);
            }
            None if bundle.as_ref().is_none_or(|bundle| bundle.join("init").is_dir()) => {
                self.unknown = true;
            }
            _ => {
                let name = bundle.unwrap_or_default().display().to_string();
                self.unused.push(unused(OF_BUNDLE, &name, 0, path));
            }
        }
        Ok(())
    }

    /// Reads the link to the state of a container whose bundle is outside the store.
    fn read_container(&mut self, link: PathBuf, state: &Path, runtime: &Runtime) {
        let lives = |(root, id): &(PathBuf, String)| (runtime.has_container)(root, id);
        let layers = match container_of(state).filter(lives) {
            Some((root, id)) => (runtime.layers)(&root, &id),
            None => Some(Vec::new()),
        };
        match layers {
            None => self.unknown = true,
            // Another container has its id.
            Some(layers) if layers.is_empty() => {
                let name = state.display().to_string();
                self.unused.push(unused("record of a container", &name, 0, link));
            }
            Some(layers) => {
                let names = layers.iter().flat_map(|layer| layer.iter());
                self.held.extend(names.map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }

    /// Restores an unreadable record from the bundle's config. None: there is no config, so the container was
    /// never created, or it does not name an image.
    fn rebuilt(
        &mut self,
        store: &Store,
        bundle: &Path,
        container: Option<(PathBuf, String)>,
        runtime: &Runtime,
    ) -> Result<Option<UseRecord>> {
        let config = read_config(bundle);
        let image = config["annotations"][runtime.annotations.image].as_str().unwrap_or_default();
        let Ok(image) = Digest::parse(image) else { return Ok(None) };
        let names = layers_of(&config, runtime);
        let layers = match store.image_record(&image)? {
            Some(known) => known.layers,
            None => names.iter().filter_map(|name| Digest::of_file_name(name)).collect(),
        };
        // Patches and joined layers are among them.
        self.held.extend(names);
        Ok(Some(UseRecord { bundle: bundle.to_owned(), container, image, layers }))
    }

    /// Whether a directory is in use.
    fn holds(&self, path: &Path) -> bool {
        self.unknown || self.held.contains(&file_name(path))
    }

    fn read_layers(&mut self, store: &Store) -> Result<()> {
        let of_images = self.images.iter().flat_map(|image| &image.layers);
        let of_uses = self.uses.iter().flat_map(|used| &used.layers);
        let used: BTreeSet<Digest> = of_images.chain(of_uses).cloned().collect();
        for path in entries(&store.path.join("layers"))? {
            let Some(diff_id) = Digest::of_file_name(&file_name(&path)) else { continue };
            let record = record_in(&path)?;
            match used.contains(&diff_id) || self.holds(&path) {
                true => self.layers.extend(record),
                false => {
                    let bytes = record.map_or(0, |record| record.bytes);
                    self.unused.push(unused(LAYER, &diff_id.to_string(), bytes, path));
                }
            }
        }
        Ok(())
    }

    /// Reads what belongs to chains of layers.
    fn read_chains(&mut self, store: &Store) -> Result<()> {
        let of_images = self.images.iter().map(|image| &image.layers);
        let chains = of_images.chain(self.uses.iter().map(|used| &used.layers));
        let used: BTreeSet<Digest> = chains.flat_map(|layers| chain_ids(layers)).collect();
        for (what, dir) in [(PATCH, "patches"), (JOINED, "joined")] {
            for path in entries(&store.path.join(dir))? {
                let name = file_name(&path);
                let Some(chain_id) = Digest::of_file_name(&name) else { continue };
                if !used.contains(&chain_id) && !self.holds(&path) {
                    let record = record_in(&path)?;
                    let bytes = record.map_or(0, |record| record.bytes);
                    self.unused.push(unused(what, &name, bytes, path));
                }
            }
        }
        Ok(())
    }

    fn read_tmp(&mut self, store: &Store) -> Result<()> {
        for path in entries(&store.path.join("tmp"))? {
            if is_temp_name(&file_name(&path)) && !is_locked(&path)? {
                self.unused.push(unused("interrupted work", &file_name(&path), 0, path));
            }
        }
        Ok(())
    }

    /// The users of each layer: bundles and containers.
    pub fn users(&self) -> BTreeMap<&Digest, Vec<String>> {
        let mut users: BTreeMap<&Digest, Vec<String>> = BTreeMap::new();
        for used in &self.uses {
            let name = match &used.container {
                Some((_, id)) => id.clone(),
                None => used.bundle.display().to_string(),
            };
            for layer in &used.layers {
                users.entry(layer).or_default().push(name.clone());
            }
        }
        users
    }
}

/// Removes what is unused, with the store locked exclusively; returns what was removed.
///
/// # Errors
///
/// If the store cannot be locked, or a file cannot be removed.
pub fn collect(store: &Store, all: bool, runtime: &Runtime) -> Result<Vec<Unused>> {
    let _lock = store.lock_exclusive()?;
    let mut removed = Contents::read(store, all, runtime)?.unused;
    // Records first, so that no image exists without its layers. The existence of a patch means that the
    // chain was examined, so it is removed before layers that were unpacked for the chain.
    removed.sort_by_key(|unused| (unused.path.is_dir(), unused.what != PATCH, unused.path.clone()));
    for unused in &removed {
        // The container's own brig may be removing it already.
        let locked = lock(&unused.path);
        if locked.is_err() {
            continue;
        }
        let what = || unused.path.display().to_string();
        // A partly removed layer or patch must never be used.
        let aside = match unused.what {
            LAYER | PATCH | JOINED => store.put_aside(&unused.path)?,
            _ => Some(unused.path.clone()),
        };
        aside.map_or(Ok(()), |path| tree::remove_path(&path)).with_context(what)?;
        if unused.what == OF_BUNDLE {
            tree::remove_path(&unused.path.with_extension(BUNDLE))?;
        }
    }
    Ok(removed)
}

fn unused(what: &'static str, name: &str, bytes: u64, path: PathBuf) -> Unused {
    Unused { what, name: name.to_owned(), bytes, path }
}

/// Whether the bundle still exists, and may still use its image: one whose config.json is being edited does.
fn exists_with(used: &UseRecord, runtime: &Runtime) -> bool {
    let config = read_config(&used.bundle);
    match config.is_object() {
        true => {
            config["annotations"][runtime.annotations.image] == used.image.to_string()
                || !layers_of(&config, runtime).is_empty()
        }
        false => used.bundle.join("init").is_dir(),
    }
}

/// A bundle's config; null if it cannot be read.
fn read_config(bundle: &Path) -> Value {
    let text = fs::read(bundle.join("config.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// The names of the directories in a store that a config names as layers.
fn layers_of(config: &Value, runtime: &Runtime) -> Vec<String> {
    let layers = config["annotations"][runtime.annotations.layers].as_str().unwrap_or_default();
    let names = layers.split([':', '/']).filter(|name| Digest::of_file_name(name).is_some());
    names.map(str::to_owned).collect()
}

/// The extension and target of a link that [`containers`](super::containers) or a bundle has made.
fn link_to(path: &Path) -> Option<(&'static str, PathBuf)> {
    let extension = path.extension()?;
    let own = [BUNDLE, CONTAINER].into_iter().find(|own| extension == *own)?;
    let name = path.file_stem()?.to_str()?;
    Digest::parse(&format!("sha256:{name}")).ok()?;
    Some((own, fs::read_link(path).ok()?))
}

/// The state root and id of a container.
fn container_of(state: &Path) -> Option<(PathBuf, String)> {
    Some((state.parent()?.to_owned(), state.file_name()?.to_str()?.to_owned()))
}

/// Reads a record; partial and damaged ones are unused.
fn record<T: DeserializeOwned>(path: &Path, left: &mut Vec<Unused>) -> Result<Option<T>> {
    let name = file_name(path);
    let is_record = |name: &str| name.ends_with(".json");
    if is_temp_record(&name).is_some_and(is_record) {
        left.push(unused("interrupted work", &name, 0, path.to_owned()));
        return Ok(None);
    }
    if !is_record(&name) {
        return Ok(None);
    }
    let found = read_record(path)?;
    if found.is_none() {
        left.push(unused(DAMAGED, &name, 0, path.to_owned()));
    }
    Ok(found)
}

/// Whether it is a directory that brig has created for a container: it contains nothing that brig does not
/// put there.
fn is_container(path: &Path) -> bool {
    let known = ["use.json", "config.json", "rootfs", "init", "data", STATE, CHECKPOINT];
    let own = |entry: &fs::DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        known.contains(&is_temp_record(&name).unwrap_or(&name))
    };
    let named = file_name(path).rsplit_once('-').is_some_and(|(_, n)| n.parse::<u32>().is_ok());
    let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    // One that is being removed concurrently does not matter.
    let listed = fs::read_dir(path).map(|entries| entries.flatten().all(|entry| own(&entry)));
    named && is_dir && listed.unwrap_or(false)
}

/// Whether its container, or a checkpoint of it, exists; true if it is unknown which container it is.
fn may_live(used: &UseRecord, path: &Path, runtime: &Runtime) -> bool {
    if path.join(CHECKPOINT).exists() {
        return true;
    }
    match &used.container {
        Some((root, id)) => (runtime.has_container)(root, id),
        None => path.join("use.json").exists(),
    }
}

fn is_locked(path: &Path) -> Result<bool> {
    Ok(lock(path).is_err())
}

/// Locks it; an error if another process holds the lock. None if it cannot be opened, e.g. because it does
/// not exist.
fn lock(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let Ok(fd) = open(path, flags, Mode::empty()) else { return Ok(None) };
    ensure!(fd::try_flock(fd.as_fd(), true)?, "{} is locked", path.display());
    Ok(Some(fd))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The entries of a directory of the store, sorted by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}
