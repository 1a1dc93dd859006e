//! The directory of a checkpoint: CRIU's image files, and beside them `descriptors.json`, in which runc and
//! crun store the standard streams, and `brig.json`, with brig's own data.

use super::external::External;
use crate::plan::overlay::Layers;
use anyhow::{Context, Result, ensure};
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use sys::IfExists;
use sys::file::write_atomically;

const DESCRIPTORS: &str = "descriptors.json";
const RECORD: &str = "brig.json";
/// The file that CRIU writes last.
const INVENTORY: &str = "inventory.img";
/// CRIU's list of processes, which a pre-dump does not write.
const PROCESSES: &str = "pstree.img";

/// The maximum length of a chain of pre-dumps.
const MAX_PARENTS: usize = 1000;

/// brig's own data.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The version of the format.
    pub(super) version: u32,
    /// The container's id.
    pub(super) id: String,
    /// Its bundle.
    pub(super) bundle: PathBuf,
    /// Its root filesystem.
    pub(super) rootfs: PathBuf,
    /// Its layers, if any.
    pub(super) layers: Option<Layers>,
    /// The bundle was created for the container, and has been kept for the checkpoint.
    pub(super) own_bundle: bool,
    /// CRIU's version number.
    pub(super) criu: u32,
    /// The mounts that are not in the image.
    pub(super) external: Vec<External>,
    /// CRIU's names for the standard streams and preserved descriptors that are the host's, not the
    /// container's.
    pub(super) stdio: Vec<Option<String>>,
    /// The size of each of CRIU's files in bytes.
    pub(super) sizes: BTreeMap<String, u64>,
}

impl Record {
    /// The version that this brig writes.
    pub(super) const VERSION: u32 = 1;
}

/// Creates the directory if it does not exist, accessible only to root because the image contains the memory
/// of programs. CRIU does not report a directory that it cannot write to.
pub(super) fn make_dir(flag: &str, path: &Path) -> Result<File> {
    let open = || -> Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        access(path, AccessFlags::W_OK)?;
        Ok(File::open(path)?)
    };
    open().with_context(|| format!("{flag} {}", path.display()))
}

/// Checks that it contains a checkpoint.
pub(super) fn check(path: &Path) -> Result<()> {
    let what = || format!("--image-path {}", path.display());
    path.metadata().with_context(what)?;
    ensure!(
        path.join(INVENTORY).exists(),
        "{}: there is no complete checkpoint ({INVENTORY} is missing)",
        what()
    );
    ensure!(
        path.join(PROCESSES).exists(),
        "{}: there is only memory, as --pre-dump writes it, and no checkpoint ({PROCESSES} is missing)",
        what()
    );
    Ok(())
}

/// The size of each of CRIU's files in bytes. `served`: those with memory are written by a page server, which
/// may not have finished.
pub(super) fn sizes(path: &Path, served: bool) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let memory = ["pages-", "pagemap-"].iter().any(|start| name.starts_with(start));
        if name.ends_with(".img") && !(served && memory) {
            sizes.insert(name, entry.metadata()?.len());
        }
    }
    Ok(sizes)
}

/// Checks that all files are complete: CRIU would never stop reading at the end of a truncated memory file.
pub(super) fn check_sizes(path: &Path, record: &Record) -> Result<()> {
    for (name, size) in &record.sizes {
        let file = path.join(name);
        let found = file.metadata().with_context(|| file.display().to_string())?.len();
        ensure!(
            found == *size,
            "{}: {found} bytes, and {size} when it was written: the checkpoint is damaged",
            file.display()
        );
    }
    Ok(())
}

/// Makes an earlier checkpoint in the directory invalid: CRIU is about to overwrite its files, and may fail
/// before it has finished.
pub(super) fn invalidate(path: &Path) -> Result<()> {
    let path = path.join(INVENTORY);
    std::fs::remove_file(&path).if_exists().with_context(|| path.display().to_string())?;
    Ok(())
}

/// Makes a checkpoint and its parents readable for the group of a user namespace's root: CRIU opens some
/// files as root of the host but without capabilities, and the last ones as root of the namespace.
pub(super) fn show_to(path: &Path, gid: u32) -> Result<()> {
    let give = |path: &Path| -> Result<()> {
        let found = path.symlink_metadata().with_context(|| path.display().to_string())?;
        if found.is_symlink() {
            return Ok(());
        }
        let read = if found.is_dir() { 0o050 } else { 0o040 };
        let mode = Permissions::from_mode(found.mode() & 0o7777 | read);
        chown(path, None, Some(gid))
            .and_then(|()| std::fs::set_permissions(path, mode))
            .with_context(|| format!("let group {gid} read {}", path.display()))
    };
    let mut dir = path.to_owned();
    for _ in 0..MAX_PARENTS {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            give(&entry?.path())?;
        }
        give(&std::fs::canonicalize(&dir)?)?;
        dir.push("parent");
        if !dir.is_dir() {
            break;
        }
    }
    Ok(())
}

/// Writes the files that are not CRIU's.
pub(super) fn write(path: &Path, streams: &[String], record: &Record) -> Result<()> {
    write_atomically(&path.join(DESCRIPTORS), &serde_json::to_vec(streams)?)?;
    write_atomically(&path.join(RECORD), &serde_json::to_vec(record)?)?;
    File::open(path)?.sync_all().with_context(|| path.display().to_string())
}

/// Reads brig's data; None in an image of another runtime.
pub(super) fn read(path: &Path) -> Result<Option<Record>> {
    let path = path.join(RECORD);
    let read = || -> Result<Option<Record>> {
        let Some(text) = std::fs::read(&path).if_exists()? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&text)?;
        ensure!(record.version <= Record::VERSION, "is of version {}", record.version);
        Ok(Some(record))
    };
    read().with_context(|| path.display().to_string())
}

/// What the standard streams were when the container was created, in the format of runc and crun.
pub(super) fn streams(path: &Path) -> Result<Vec<String>> {
    let path = path.join(DESCRIPTORS);
    let read = || -> Result<Vec<String>> {
        let Some(text) = std::fs::read(&path).if_exists()? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&text)?)
    };
    read().with_context(|| path.display().to_string())
}
