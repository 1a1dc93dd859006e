//! What the layers of one chain cannot say alone: attributes of directories that a layer has things
//! in but does not name, and hard links to files of layers below. docs/layers.md, Patches.

use super::digest::Digest;
use super::resolve::Layer;
use super::store::{LayerRecord, Store};
use super::tree;
use super::view::{Found, View};
use super::whiteout::path_in;
use crate::sys::{Errno, SysError, xattr};
use anyhow::{Context, Result, bail};
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, umask, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, linkat};
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The layers of a chain, as they are mounted.
#[derive(Debug)]
pub struct Chain {
    /// Their directories, the lowest first.
    pub paths: Vec<PathBuf>,
    /// As one tree.
    pub view: View,
    /// Which patch is among them, by chain id.
    pub patch: Option<Digest>,
}

/// Hard links of one layer to others: name and target.
type Links = Vec<(Vec<u8>, Vec<u8>)>;

/// Opens the layers of a chain, the lowest first, and makes its patch if it is missing.
/// `chain_id`: of the highest.
pub fn chain(
    store: &Store,
    chain_id: &Digest,
    layers: &[Layer],
    records: &[LayerRecord],
    own_ids: bool,
) -> Result<Chain> {
    // What is below an opaque root does not show.
    let lowest = records.iter().rposition(|record| record.opaque).unwrap_or(0);
    let mut chain = Chain { paths: Vec::new(), view: View::default(), patch: None };
    let mut open = Vec::new();
    for (layer, record) in layers.iter().zip(records).skip(lowest) {
        let mut implied = HashSet::new();
        let mut links = Vec::new();
        if record.open {
            implied = list(store, layer, "implied")?.into_iter().collect();
            let pairs = list(store, layer, "links")?;
            links = pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        }
        if !record.names_root {
            implied.insert(Vec::new());
        }
        open.push((layer, named(&implied), links));
        let path = store.layer_files(&layer.diff_id);
        chain.view.add(&path, implied)?;
        chain.paths.push(path);
    }
    let needs = |(_, implied, links): &(&Layer, BTreeSet<_>, Links)| {
        !implied.is_empty() || !links.is_empty()
    };
    // A layer that is alone has nothing below it.
    let alone = open.len() == 1 && open[0].2.is_empty();
    if alone || !open.iter().any(needs) {
        return Ok(chain);
    }
    let patch = store.patch(chain_id);
    if !patch.exists() {
        make(store, chain_id, &chain.view, &open, own_ids)?;
    }
    if patch.join("fs").exists() {
        chain.view.add(&patch.join("fs"), HashSet::new())?;
        chain.paths.push(patch.join("fs"));
    }
    chain.patch = Some(chain_id.clone());
    Ok(chain)
}

/// Without the root, which the bundle's own layer takes care of.
fn named(implied: &HashSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    implied.iter().filter(|path| !path.is_empty()).cloned().collect()
}

fn list(store: &Store, layer: &Layer, name: &str) -> Result<Vec<Vec<u8>>> {
    let path = store.layer(&layer.diff_id).join(name);
    let text = match std::fs::read(&path) {
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
    layers: &[(&Layer, BTreeSet<Vec<u8>>, Links)],
    own_ids: bool,
) -> Result<()> {
    let name = format!("patch-{}", chain_id.file_name());
    let _claim = store.claim(&name)?;
    let temp = store.temp(&name);
    if store.patch(chain_id).exists() {
        return tree::remove_path(&temp);
    }
    let before = umask(Mode::empty());
    let made = fill(store, &temp, view, layers, own_ids)
        .and_then(|()| store.publish(&temp, &store.patch(chain_id)));
    umask(before);
    if made.is_err() {
        // The error that matters is the first one.
        let _ = tree::remove_path(&temp);
    }
    made
}

fn fill(
    store: &Store,
    temp: &Path,
    view: &View,
    layers: &[(&Layer, BTreeSet<Vec<u8>>, Links)],
    own_ids: bool,
) -> Result<()> {
    tree::empty(open(temp, DIRECTORY, Mode::empty())?.as_fd())?;
    let mut patch = Patch { temp, root: None, made: BTreeSet::new(), view, own_ids };
    for (index, (layer, implied, links)) in layers.iter().enumerate() {
        for path in implied {
            check_way(view, path, index).with_context(|| {
                let entry = first_entry(&store.layer_files(&layer.diff_id), path);
                format!("{}: entry {}", layer.name(), entry.escape_ascii())
            })?;
        }
        for (path, target) in links {
            let entry = || format!("{}: entry {}", layer.name(), path.escape_ascii());
            patch.link(path, target, index).with_context(entry)?;
        }
    }
    let all: BTreeSet<&Vec<u8>> = layers.iter().flat_map(|(_, implied, _)| implied).collect();
    for path in all {
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        if let Some((_, false)) = view.named_directory(&parts)? {
            patch.directory(&parts).with_context(|| path.escape_ascii().to_string())?;
        }
    }
    patch.finish()
}

/// An entry of the layer in `files` that is in the directory `path`, for which there is none.
fn first_entry(files: &Path, path: &[u8]) -> Vec<u8> {
    let mut entry = files.join(OsStr::from_bytes(path));
    while entry.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        let inside = std::fs::read_dir(&entry).ok().and_then(|mut inside| inside.next()?.ok());
        let Some(inside) = inside else { break };
        entry = inside.path();
    }
    let entry = entry.strip_prefix(files).unwrap_or(&entry);
    entry.as_os_str().as_bytes().to_vec()
}

/// A directory that an archive has things in, without naming it, must not be a link in the layers
/// below: what is in it would have been written through that link.
fn check_way(view: &View, path: &[u8], layer: usize) -> Result<()> {
    let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    let Some(found) = view.find(&parts, layer)? else { return Ok(()) };
    if found.is(SFlag::S_IFLNK) {
        let link = readlinkat(&found.dir, found.name.as_slice())?;
        bail!(
            "its way goes through the symbolic link {} of a layer below, to {}",
            path.escape_ascii(),
            link.as_bytes().escape_ascii()
        );
    }
    if !found.is(SFlag::S_IFDIR) {
        bail!("{} is no directory in the layers below", path.escape_ascii());
    }
    Ok(())
}

/// A patch being made.
struct Patch<'a> {
    temp: &'a Path,
    root: Option<OwnedFd>,
    /// Directories that are there already.
    made: BTreeSet<Vec<u8>>,
    view: &'a View,
    /// Everything belongs to who calls brig.
    own_ids: bool,
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Patch<'_> {
    fn root(&mut self) -> Result<OwnedFd> {
        if self.root.is_none() {
            let path = self.temp.join("fs");
            nix::unistd::mkdir(&path, Mode::from_bits_truncate(0o755))?;
            self.root = Some(open(&path, DIRECTORY, Mode::empty())?);
        }
        Ok(self.root.as_ref().context("no root")?.try_clone()?)
    }

    /// Makes a directory, and those above it.
    fn directory(&mut self, parts: &[&[u8]]) -> Result<OwnedFd> {
        let mut dir = self.root()?;
        for length in 1..=parts.len() {
            let (path, name) = (parts[..length].join(&b'/'), parts[length - 1]);
            if self.made.insert(path) {
                mkdirat(&dir, name, Mode::S_IRWXU)?;
            }
            dir = openat(&dir, name, DIRECTORY, Mode::empty())?;
        }
        Ok(dir)
    }

    /// A hard link to a file of a layer below `layer`.
    fn link(&mut self, path: &[u8], target: &[u8], layer: usize) -> Result<()> {
        let split = |path| <[u8]>::split(path, |&byte| byte == b'/').collect::<Vec<&[u8]>>();
        let what = || format!("a hard link to {}, which is not there", target.escape_ascii());
        let found = self.view.find(&split(target), layer)?.with_context(what)?;
        if found.is(SFlag::S_IFDIR) {
            bail!("a hard link to the directory {}", target.escape_ascii());
        }
        // A higher layer may have something else there, or nothing.
        let parts = split(path);
        for above in layer + 1..self.view.len() {
            if self.view.says(above, &parts)? {
                return Ok(());
            }
        }
        let Some((&name, above)) = parts.split_last() else { bail!("a hard link without a name") };
        let dir = self.directory(above)?;
        linkat(&found.dir, found.name.as_slice(), &dir, name, AtFlags::empty()).context("link")
    }

    /// Gives every directory its attributes, the deepest first: to make something in one changes its
    /// times.
    fn finish(mut self) -> Result<()> {
        if self.root.is_none() {
            return Ok(());
        }
        let root = self.root()?;
        for path in self.made.iter().rev() {
            let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            let Some((&name, above)) = parts.split_last() else { continue };
            let mut dir = root.try_clone()?;
            for part in above {
                dir = openat(&dir, *part, DIRECTORY, Mode::empty())?;
            }
            let found = match self.view.named_directory(&parts)? {
                Some((found, _)) => Some(found),
                None => self.view.find(&parts, self.view.len())?,
            };
            if let Some(found) = found {
                copy_attributes(&found, dir.as_fd(), name, self.own_ids)
                    .with_context(|| path.escape_ascii().to_string())?;
            }
        }
        if let Some((found, _)) = self.view.named_directory(&[])? {
            copy_attributes(&found, root.as_fd(), b".", self.own_ids)?;
        }
        Ok(())
    }
}

/// Gives the directory `name` what `found` has: owner, permissions, attributes, times.
pub fn copy_attributes(
    found: &Found,
    dir: BorrowedFd<'_>,
    name: &[u8],
    own_ids: bool,
) -> Result<()> {
    let stat = &found.stat;
    if !own_ids {
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
    }
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink).context("chmod")?;
    let from = path_in(found.dir.as_fd(), &found.name);
    for key in xattr::list(&from)? {
        if [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|own| key.starts_with(own)) {
            continue;
        }
        let key = CString::new(key)?;
        let Some(value) = xattr::get(&from, &key)? else { continue };
        match xattr::set_here(&path_in(dir, name), &key, &value) {
            // As when the layer was unpacked.
            Err(SysError { errno: Errno::EPERM | Errno::EOPNOTSUPP, .. }) => {}
            done => done?,
        }
    }
    let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink).context("utimens")
}
