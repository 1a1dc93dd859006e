//! What depends on several layers of a chain: attributes of directories that a layer uses but does not
//! contain an entry for, hard links to files of lower layers, and entries whose path leads through links of
//! lower layers. docs/layers.md, Patches.

use crate::bundle::parents::Parents;
use crate::source::digest::Digest;
use crate::source::manifest::chain_ids;
use crate::source::resolve::{Image, Layer};
use crate::store::{LayerRecord, Store, record_in};
use crate::tree;
use crate::tree::view::{Found, View};
use crate::unpack::Rights;
use crate::unpack::layers::join;
use anyhow::{Context, Result, bail};
use nix::fcntl::{AtFlags, open};
use nix::sys::stat::{Mode, SFlag, umask};
use nix::unistd::linkat;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::path::DIRECTORY;

/// The layers of a chain, as they are mounted.
#[derive(Debug)]
pub struct Chain {
    /// Their directories, lowest first.
    pub paths: Vec<PathBuf>,
    /// A merged view of them.
    pub view: View,
}

/// Hard links to other layers: name and target.
type Links = BTreeMap<Vec<u8>, Vec<u8>>;

/// A layer as part of this chain.
struct Link<'a> {
    layer: &'a Layer,
    /// Its directory in the store.
    dir: PathBuf,
    implied: BTreeSet<Vec<u8>>,
    links: Links,
    /// Directories that contain whiteouts.
    whiteouts: Vec<Vec<u8>>,
}

/// Opens the layers of an image, lowest first, and creates what their chain needs and is missing. `own_ids`:
/// everything is owned by brig's caller.
///
/// # Errors
///
/// If a layer cannot be read, or its links are not valid in this chain.
pub fn chain(
    store: &Store,
    image: &Image,
    records: &[LayerRecord],
    rights: Rights,
    own_ids: bool,
    warn: &mut dyn FnMut(&str),
) -> Result<Chain> {
    let ids = image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    let ids = chain_ids(&ids);
    let chain_id = ids.last().context("the image has no layers")?;
    // Layers below an opaque root are not visible.
    let lowest = records.iter().rposition(|record| record.opaque).unwrap_or(0);
    let patch = store.patch(chain_id);
    let known = patch.exists();
    let mut chain = Chain { paths: Vec::new(), view: View::default() };
    let mut links = Vec::new();
    for ((layer, record), id) in image.layers.iter().zip(records).zip(&ids).skip(lowest) {
        let (mut link, mut names_root) = read(store.layer(&layer.diff_id), layer, record)?;
        let joined = store.joined(id);
        let wanted = match known {
            true => record.open && joined.exists(),
            false => goes_through_link(&chain.view, &link)?,
        };
        if wanted {
            if record_in(&joined)?.is_none() {
                join(store, &image.source, layer, id, &chain.view, rights, warn)?;
            }
            let record = record_in(&joined)?.context("it has been removed in the meantime")?;
            (link, names_root) = read(joined, layer, &record)?;
        }
        let mut implied: BTreeSet<Vec<u8>> = link.implied.iter().cloned().collect();
        if !names_root {
            implied.insert(Vec::new());
        }
        let path = link.dir.join("fs");
        chain.view.add(&path, implied)?;
        // overlayfs does not accept a directory twice. A layer has the same contents at each position, so a
        // lower occurrence of the same layer is not visible below the higher one.
        chain.paths.retain(|below| *below != path);
        chain.paths.push(path);
        links.push(link);
    }
    let needs = |link: &Link<'_>| {
        !link.implied.is_empty() || !link.links.is_empty() || !link.whiteouts.is_empty()
    };
    // A single layer has nothing below it.
    let alone = links.len() == 1 && links[0].links.is_empty() && links[0].whiteouts.is_empty();
    if alone || !links.iter().any(needs) {
        return Ok(chain);
    }
    if !known {
        make(store, chain_id, &chain.view, &links, own_ids)?;
    }
    if patch.join("fs").exists() {
        chain.view.add(&patch.join("fs"), BTreeSet::new())?;
        chain.paths.push(patch.join("fs"));
    }
    Ok(chain)
}

/// The stored data of an unpacked layer; and whether its archive contains the root.
fn read<'a>(dir: PathBuf, layer: &'a Layer, record: &LayerRecord) -> Result<(Link<'a>, bool)> {
    let mut link =
        Link { layer, dir, implied: BTreeSet::new(), links: Links::new(), whiteouts: Vec::new() };
    if record.open {
        link.implied = list(&link.dir.join("implied"))?.into_iter().collect();
        let pairs = list(&link.dir.join("links"))?;
        let pairs = pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        link.links = pairs.collect();
        link.whiteouts = list(&link.dir.join("whiteouts"))?;
    }
    Ok((link, record.names_root))
}

/// Whether a layer contains files in a directory that it has no entry for and that is a link in lower layers,
/// e.g. /lib to usr/lib. Or that is a file: then only whiteouts can be in it, which hide nothing.
fn goes_through_link(below: &View, link: &Link<'_>) -> Result<bool> {
    for path in &link.implied {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let found = below.find(&parts, below.len())?;
        if found.is_some_and(|found| !found.is(SFlag::S_IFDIR)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn list(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| path.display().to_string())?,
    };
    Ok(text
        .split_inclusive(|&byte| byte == 0)
        .map(|path| path[..path.len() - 1].to_vec())
        .collect())
}

fn make(
    store: &Store,
    chain_id: &Digest,
    view: &View,
    layers: &[Link<'_>],
    own_ids: bool,
) -> Result<()> {
    let name = format!("patch-{}", chain_id.file_name());
    let _claim = store.claim(&name)?;
    let temp = store.temp(&name);
    if store.patch(chain_id).exists() {
        return tree::remove_path(&temp);
    }
    let before = umask(Mode::empty());
    let made = fill(&temp, view, layers, own_ids)
        .and_then(|()| store.publish(&temp, &store.patch(chain_id)));
    umask(before);
    if made.is_err() {
        // The first error is the one to report.
        let _ = tree::remove_path(&temp);
    }
    made
}

fn fill(temp: &Path, view: &View, layers: &[Link<'_>], own_ids: bool) -> Result<()> {
    tree::empty(open(temp, DIRECTORY, Mode::empty())?.as_fd())?;
    let mut patch = Patch { temp, parents: None, linked: BTreeSet::new(), view, layers };
    for (index, link) in layers.iter().enumerate() {
        for (path, target) in &link.links {
            let entry = || format!("{}: entry {}", link.layer.name(), path.escape_ascii());
            patch.link(path, target, index).with_context(entry)?;
        }
    }
    let all: BTreeSet<&Vec<u8>> = layers.iter().flat_map(|link| &link.implied).collect();
    for path in all {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        if patch.is_below_link(&parts) {
            continue;
        }
        if let Some((_, false)) = view.named_directory(&parts)? {
            patch.directory(&parts).with_context(|| path.escape_ascii().to_string())?;
        }
    }
    for (index, link) in layers.iter().enumerate() {
        for path in &link.whiteouts {
            patch.merge_whiteouts(path, index).with_context(|| path.escape_ascii().to_string())?;
        }
    }
    patch.parents.map_or(Ok(()), |parents| parents.finish(view, own_ids))
}

/// A patch being created.
struct Patch<'a> {
    temp: &'a Path,
    /// What it contains so far.
    parents: Option<Parents>,
    /// Hard links that already exist.
    linked: BTreeSet<Vec<u8>>,
    view: &'a View,
    layers: &'a [Link<'a>],
}

impl Patch<'_> {
    /// Creates a directory and its parents.
    fn directory(&mut self, parts: &[&[u8]]) -> Result<OwnedFd> {
        if self.parents.is_none() {
            self.parents = Some(Parents::new(&self.temp.join("fs"))?);
        }
        self.parents.as_mut().context("no root")?.directory(parts)
    }

    /// overlayfs lists the whiteouts in a directory that exists in no lower layer as names that do not exist.
    /// In merged directories it does not: so the patch contains the directory, too.
    fn merge_whiteouts(&mut self, path: &[u8], layer: usize) -> Result<()> {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        if self.is_below_link(&parts) {
            return Ok(());
        }
        let shown = self.view.find(&parts, self.view.len())?;
        if shown.is_some_and(|shown| shown.is(SFlag::S_IFDIR))
            && !self.view.merges(layer, &parts)?
        {
            self.directory(&parts)?;
        }
        Ok(())
    }

    /// Whether a hard link exists at this path or above it, which hides everything below it.
    fn is_below_link(&self, parts: &[&[u8]]) -> bool {
        (1..=parts.len()).any(|length| self.linked.contains(&parts[..length].join(&b'/')))
    }

    /// Creates a hard link to a file of a layer below `layer`.
    fn link(&mut self, path: &[u8], target: &[u8], layer: usize) -> Result<()> {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let what = || format!("a hard link to {}, which does not exist", target.escape_ascii());
        let found = self.target(target, layer)?.with_context(what)?;
        if found.is(SFlag::S_IFDIR) {
            bail!("a hard link to the directory {}", target.escape_ascii());
        }
        // A higher layer may have replaced or removed it.
        for (above, link) in self.layers.iter().enumerate().skip(layer + 1) {
            let links = (1..=parts.len()).map(|length| parts[..length].join(&b'/'));
            if links.into_iter().any(|path| link.links.contains_key(&path))
                || self.view.has_or_hides(above, &parts)?
            {
                return Ok(());
            }
        }
        let Some((&name, above)) = parts.split_last() else { bail!("a hard link without a name") };
        let dir = self.directory(above)?;
        linkat(&found.dir, found.name.as_slice(), &dir, name, AtFlags::empty()).context("link")?;
        self.linked.insert(path.to_vec());
        Ok(())
    }

    /// The target of a hard link, in `layer` and those below: symbolic links in its path are followed, and it
    /// may be a link itself, symbolic or hard.
    fn target(&self, target: &[u8], mut layer: usize) -> Result<Option<Found>> {
        let mut target = target;
        'links: loop {
            let at = target.iter().rposition(|&byte| byte == b'/');
            let (above, name) =
                at.map_or((&b""[..], target), |at| (&target[..at], &target[at + 1..]));
            let Some(way) = self.view.way(above, layer)? else { return Ok(None) };
            let way: Vec<&[u8]> = way.iter().map(Vec::as_slice).chain([name]).collect();
            let path = way.join(&b'/');
            // Through a link of a layer below, the path may lead to a file of this layer.
            let own = usize::from(path != target);
            for below in (0..layer + own).rev() {
                if let Some(next) = self.layers[below].links.get(&path).filter(|_| below < layer) {
                    (target, layer) = (next, below);
                    continue 'links;
                }
                if self.view.has_or_hides(below, &way)? {
                    return self.view.find(&way, below + 1);
                }
            }
            return Ok(None);
        }
    }
}
