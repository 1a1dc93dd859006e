//! Layers and an upper with container ids: the parent creates id-mapped mounts of them, because the child, in
//! the user namespace, can neither create them nor access a private store.

use super::overlay::directory;
use super::source::map_ids;
use crate::plan::overlay::{Overlay, Upper};
use anyhow::{Context, Result, ensure};
use nix::fcntl::AT_FDCWD;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use sys::mount::{clone_tree, move_mount};

/// Detached mounts, id-mapped with the container's user namespace.
pub struct Mapped {
    /// The layers, lowest first.
    layers: Vec<OwnedFd>,
    /// The parent directory of upper and work directory, and their names in it.
    upper: Option<(OwnedFd, String, String)>,
}

impl Mapped {
    /// In the parent: creates them.
    pub fn open(overlay: &Overlay, user: BorrowedFd<'_>, modern: bool) -> Result<Mapped> {
        let layers = overlay.layers.iter().map(|layer| mapped(layer, user, modern));
        let layers = overlay.layers_from.with_origin(layers.collect())?;
        let upper = match &overlay.upper {
            Upper::Tmpfs { .. } => None,
            Upper::Directory { upper, work } => {
                let open = || -> Result<_> {
                    let ((dir, upper), (other, work)) = (split(upper)?, split(work)?);
                    ensure!(
                        dir == other,
                        "with id-mapped layers, upper and work directory must be in the same directory"
                    );
                    Ok((mapped(&dir, user, modern)?, upper, work))
                };
                Some(overlay.upper_from.with_origin(open())?)
            }
        };
        Ok(Mapped { layers, upper })
    }

    /// In the child: attaches all of them to `root`, on top of each other. Before Linux 6.15 overlayfs only
    /// accepts mounts attached in this mount namespace; the overlay then covers them.
    pub fn attach(&self, root: &CStr) -> Result<()> {
        let upper = self.upper.iter().map(|(dir, ..)| dir);
        for mount in self.layers.iter().chain(upper) {
            move_mount(mount.as_fd(), directory(root)?.as_fd())?;
        }
        Ok(())
    }

    /// The layers, highest first.
    pub fn layers(&self) -> Result<Vec<OwnedFd>> {
        self.layers.iter().rev().map(|layer| Ok(layer.try_clone()?)).collect()
    }

    /// The options for the upper.
    pub fn upper(&self) -> Option<String> {
        let (dir, upper, work) = self.upper.as_ref()?;
        let dir = dir.as_raw_fd();
        Some(format!("upperdir={dir}/{upper},workdir={dir}/{work}"))
    }
}

fn mapped(path: &CStr, user: BorrowedFd<'_>, modern: bool) -> Result<OwnedFd> {
    let what = || path.to_string_lossy().into_owned();
    let tree = clone_tree(AT_FDCWD, path, false).map_err(anyhow::Error::from).with_context(what)?;
    map_ids(tree.as_fd(), false, user, modern).with_context(what)?;
    Ok(tree)
}

/// The parent directory of a path, and its last component, if overlayfs options can contain it.
fn split(path: &CStr) -> Result<(CString, String)> {
    let text = path.to_str().context("its name is not UTF-8")?.trim_end_matches('/');
    let (dir, name) = text.rsplit_once('/').context("has no directory")?;
    let odd = |c: char| [',', ':', '\\'].contains(&c);
    ensure!(!name.is_empty() && !name.contains(odd), "{name:?}: a name without , : and \\");
    let dir = if dir.is_empty() { "/" } else { dir };
    Ok((CString::new(dir)?, name.to_owned()))
}
