//! What the store holds, who uses it, and the removal of what nobody does: docs/layers.md, Users.

use super::digest::Digest;
use super::manifest::chain_ids;
use super::store::{ImageRecord, LayerRecord, Store, UseRecord, read_record, record_in};
use super::tree;
use crate::state;
use crate::sys::misc;
use anyhow::{Context, Result};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// All of a store.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its images.
    pub images: Vec<ImageRecord>,
    /// Its layers.
    pub layers: Vec<LayerRecord>,
    /// Bundles and containers that are there.
    pub uses: Vec<UseRecord>,
    /// What nobody uses, or that is of somebody who is gone.
    pub unused: Vec<Unused>,
}

/// Something to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// What it is: a layer, a patch, …
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What its removal gives back, as far as a record tells.
    pub bytes: u64,
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
}

impl Contents {
    /// Looks at all of it. `all`: an image that no bundle and no container uses is unused, too.
    pub fn read(store: &Store, all: bool) -> Result<Contents> {
        let mut contents = Contents::default();
        contents.read_uses(store)?;
        let used: BTreeSet<&Digest> = contents.uses.iter().map(|used| &used.image).collect();
        let mut images = Vec::new();
        for path in entries(&store.path.join("images"))? {
            let Some(image) = read_record::<ImageRecord>(&path)? else { continue };
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

    fn read_uses(&mut self, store: &Store) -> Result<()> {
        for path in entries(&store.path.join("bundles"))? {
            let Some(used) = read_record::<UseRecord>(&path)? else { continue };
            match names_image(&used) {
                true => self.uses.push(used),
                false => {
                    let name = used.bundle.display().to_string();
                    self.unused.push(unused("record of a bundle", &name, 0, path));
                }
            }
        }
        for path in entries(&store.path.join("containers"))? {
            let used = read_record::<UseRecord>(&path.join("use.json"))?;
            let lives = used.as_ref().and_then(|used| used.container.as_ref());
            let lives = lives.is_some_and(|(root, id)| state::in_use(root, id).is_some());
            match used {
                Some(used) if lives => self.uses.push(used),
                // Somebody is making it.
                Some(used) if is_locked(&path)? => self.uses.push(used),
                None if is_locked(&path)? => {}
                _ => {
                    let name = file_name(&path);
                    self.unused.push(unused("directory of a container", &name, 0, path));
                }
            }
        }
        Ok(())
    }

    fn read_layers(&mut self, store: &Store) -> Result<()> {
        let of_images = self.images.iter().flat_map(|image| &image.layers);
        let of_uses = self.uses.iter().flat_map(|used| &used.layers);
        let used: BTreeSet<Digest> = of_images.chain(of_uses).cloned().collect();
        for path in entries(&store.path.join("layers"))? {
            let Some(record) = read_record::<LayerRecord>(&path.join("layer.json"))? else {
                continue;
            };
            match used.contains(&record.diff_id) {
                true => self.layers.push(record),
                false => {
                    let name = record.diff_id.to_string();
                    self.unused.push(unused("layer", &name, record.bytes, path));
                }
            }
        }
        Ok(())
    }

    /// What belongs to chains of layers.
    fn read_chains(&mut self, store: &Store) -> Result<()> {
        let of_images = self.images.iter().map(|image| &image.layers);
        let chains = of_images.chain(self.uses.iter().map(|used| &used.layers));
        let used: BTreeSet<Digest> = chains.flat_map(|layers| chain_ids(layers)).collect();
        for (what, dir) in [("patch", "patches"), ("joined layer", "joined")] {
            for path in entries(&store.path.join(dir))? {
                let name = file_name(&path);
                if !Digest::of_file_name(&name).is_some_and(|digest| used.contains(&digest)) {
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
            if !is_locked(&path)? {
                self.unused.push(unused("interrupted work", &file_name(&path), 0, path));
            }
        }
        Ok(())
    }

    /// Who uses a layer: bundles and containers.
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

/// Removes what nobody uses, while nobody else can begin to; tells what it was.
pub fn collect(store: &Store, all: bool) -> Result<Vec<Unused>> {
    let _lock = store.lock_exclusive()?;
    let mut removed = Contents::read(store, all)?.unused;
    // Records first: an image without its layers must never be seen. A patch says that the chain has been
    // looked through: it goes before the layers that were joined for that.
    removed
        .sort_by_key(|unused| (unused.path.is_dir(), unused.what != "patch", unused.path.clone()));
    for unused in &removed {
        tree::remove_path(&unused.path).with_context(|| unused.path.display().to_string())?;
    }
    Ok(removed)
}

fn unused(what: &'static str, name: &str, bytes: u64, path: PathBuf) -> Unused {
    Unused { what, name: name.to_owned(), bytes, path }
}

/// The bundle is still there, and still of this image.
fn names_image(used: &UseRecord) -> bool {
    let config = fs::read(used.bundle.join("config.json")).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
    config["annotations"][crate::plan::overlay::IMAGE] == used.image.to_string()
}

fn is_locked(path: &Path) -> Result<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(!misc::try_flock(fd.as_fd(), true)?),
        // Just gone, or nothing that anybody locks.
        Err(_) => Ok(false),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What is in a directory of the store, by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut paths = Vec::new();
    for entry in read {
        paths.push(entry?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}
