//! The directory with a checkpoint: CRIU's files, and beside them `descriptors.json`, by which runc and crun know the
//! standard streams, and `brig.json`, with what brig has to know.

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
/// What CRIU writes when it has written all else.
const INVENTORY: &str = "inventory.img";
/// Its list of processes, which a pre-dump does not write.
const PROCESSES: &str = "pstree.img";

/// No chain of pre-dumps is longer.
const MAX_PARENTS: usize = 1000;

/// brig's own notes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// What the fields mean.
    pub(super) version: u32,
    /// The container's name.
    pub(super) id: String,
    /// Its bundle.
    pub(super) bundle: PathBuf,
    /// Its root filesystem.
    pub(super) rootfs: PathBuf,
    /// What that is made of.
    pub(super) layers: Option<Layers>,
    /// The bundle was made for the container, and has stayed because of the checkpoint.
    pub(super) own_bundle: bool,
    /// CRIU's version, as it counts itself.
    pub(super) criu: u32,
    /// The mounts that are not in the image.
    pub(super) external: Vec<External>,
    /// What CRIU calls the standard streams and preserved descriptors, where they are the host's and not the container's.
    pub(super) stdio: Vec<Option<String>>,
    /// How many bytes are in each of CRIU's files.
    pub(super) sizes: BTreeMap<String, u64>,
}

impl Record {
    /// The version that this brig writes.
    pub(super) const VERSION: u32 = 1;
}

/// Makes a directory, if there is none, that only root can look into: what a program had in its memory is in there. CRIU
/// does not say that it cannot write to it.
pub(super) fn make_dir(flag: &str, path: &Path) -> Result<File> {
    let open = || -> Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        access(path, AccessFlags::W_OK)?;
        Ok(File::open(path)?)
    };
    open().with_context(|| format!("{flag} {}", path.display()))
}

/// Whether there is a checkpoint in it.
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

/// How many bytes are in each of CRIU's files.
pub(super) fn sizes(path: &Path) -> Result<BTreeMap<String, u64>> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".img") {
            sizes.insert(name, entry.metadata()?.len());
        }
    }
    Ok(sizes)
}

/// Whether all is there that was written: of a file with memory that was cut CRIU would read the end forever.
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

/// Whatever checkpoint was there is none any more: CRIU is about to overwrite its files, and may fail halfway.
pub(super) fn invalidate(path: &Path) -> Result<()> {
    let path = path.join(INVENTORY);
    std::fs::remove_file(&path).if_exists().with_context(|| path.display().to_string())?;
    Ok(())
}

/// Lets the group of a user namespace's root read a checkpoint, and those before it: CRIU reads the first parts as the
/// host's root, without its rights, and the last ones as the namespace's.
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

/// Writes what is not CRIU's.
pub(super) fn write(path: &Path, streams: &[String], record: &Record) -> Result<()> {
    write_atomically(&path.join(DESCRIPTORS), &serde_json::to_vec(streams)?)?;
    write_atomically(&path.join(RECORD), &serde_json::to_vec(record)?)?;
    File::open(path)?.sync_all().with_context(|| path.display().to_string())
}

/// brig's notes; none in an image of another runtime.
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

/// What the standard streams were when the container was created, as runc and crun write it too.
pub(super) fn streams(path: &Path) -> Result<Vec<String>> {
    let path = path.join(DESCRIPTORS);
    let read = || -> Result<Vec<String>> {
        let Some(text) = std::fs::read(&path).if_exists()? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&text)?)
    };
    read().with_context(|| path.display().to_string())
}
