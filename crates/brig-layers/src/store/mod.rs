//! The layer store: directories, records, locks. docs/layers.md has its layout and its rules.

pub mod containers;
pub mod usage;

use crate::source::digest::Digest;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sys::file::rename_new;
use sys::{Errno, fd};

/// A layer store.
#[derive(Debug)]
pub struct Store {
    /// Its absolute path.
    pub path: PathBuf,
}

/// The record of an unpacked layer: `layers/<diff id>/layer.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The archive's digest without compression.
    pub diff_id: Digest,
    /// The total size of its files.
    pub bytes: u64,
    /// The number of entries in the archive.
    pub entries: u64,
    /// Its root is opaque: nothing below it is visible.
    pub opaque: bool,
    /// Whether the archive has an entry for its root.
    pub names_root: bool,
    /// Whether there are files `implied`, `links` or `whiteouts`: the layer depends on those below it.
    pub open: bool,
    /// When it was unpacked, in RFC 3339.
    pub unpacked: String,
}

/// The record of an image whose layers are in the store: `images/<id>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its config.
    pub id: Digest,
    /// The digest of its manifest, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The names it was found by, `path:tag`, the last one first.
    pub names: Vec<String>,
    /// The source where it was last found: `commit` reads the blobs of its layers there.
    pub source: PathBuf,
    /// The text of its config.
    pub config: String,
    /// The diff ids of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// The blobs of its layers: digest and size, if known from the source.
    pub blobs: Vec<crate::source::manifest::Descriptor>,
    /// The time of creation in its config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// A user of layers: a bundle, or a container of `run --image`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UseRecord {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The container of a bundle in the store: its state root and id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<(PathBuf, String)>,
    /// The image's id.
    pub image: Digest,
    /// The layers' diff ids, lowest first.
    pub layers: Vec<Digest>,
}

/// A lock, released when the descriptor is closed.
#[derive(Debug)]
pub struct Lock {
    _fd: OwnedFd,
}

/// The store's path without `--store`.
///
/// # Errors
///
/// If the home directory of an unprivileged user is unknown.
pub fn default_path() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/brig".into());
    }
    if let Some(dir) = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute())
    {
        return Ok(dir.join("brig"));
    }
    let home = variable("HOME").map(PathBuf::from);
    let home = home.context("--store is required because HOME is not set")?;
    Ok(home.join(".local/share/brig"))
}

impl Store {
    /// Opens a store, created if missing. `given`: `--store`.
    ///
    /// # Errors
    ///
    /// If the store cannot be created, or one of its directories is a link.
    pub fn open(given: Option<&Path>) -> Result<Store> {
        let path = given.map_or_else(default_path, |path| Ok(path.to_owned()))?;
        let path = std::path::absolute(&path)?;
        let make =
            |path: &Path, mode: u32| DirBuilder::new().recursive(true).mode(mode).create(path);
        let store = Store { path };
        store.check_directories()?;
        let made = make(&store.path, 0o711).and_then(|()| {
            for private in ["layers", "joined", "patches", "images", "bundles", "tmp"] {
                make(&store.path.join(private), 0o700)?;
            }
            make(&store.path.join("containers"), 0o711)
        });
        made.with_context(|| format!("store {}", store.path.display()))?;
        Ok(store)
    }

    /// Checks that the store's directories are not links: their contents are removed by name, and a link
    /// would lead elsewhere.
    fn check_directories(&self) -> Result<()> {
        for name in DIRECTORIES {
            let path = self.path.join(name);
            let linked = path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
            ensure!(!linked, "{} is not a directory", path.display());
        }
        Ok(())
    }

    /// The path of a layer.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.path.join("layers").join(diff_id.file_name())
    }

    /// The path of a layer unpacked on top of certain others: see [`crate::bundle::patch`]. `chain_id`: that
    /// of the layer and the others.
    pub fn joined(&self, chain_id: &Digest) -> PathBuf {
        self.path.join("joined").join(chain_id.file_name())
    }

    /// The path of a patch.
    pub fn patch(&self, chain_id: &Digest) -> PathBuf {
        self.path.join("patches").join(chain_id.file_name())
    }

    /// The path of a temporary directory, which is renamed when it is complete.
    pub fn temp(&self, name: &str) -> PathBuf {
        self.path.join("tmp").join(name)
    }

    /// The record of a layer; None if it is not in the store.
    pub(crate) fn layer_record(&self, diff_id: &Digest) -> Result<Option<LayerRecord>> {
        record_in(&self.layer(diff_id))
    }

    /// The path of an image's record.
    pub fn image_path(&self, id: &Digest) -> PathBuf {
        self.path.join("images").join(format!("{}.json", id.file_name()))
    }

    /// The record of an image; None if it is not in the store.
    ///
    /// # Errors
    ///
    /// If the record cannot be read.
    pub fn image_record(&self, id: &Digest) -> Result<Option<ImageRecord>> {
        read_record(&self.image_path(id))
    }

    /// Records an image, and keeps its earlier names. Its new name is removed from other images.
    ///
    /// # Errors
    ///
    /// If the record cannot be written, or another brig holds the lock on images/ for too long.
    pub fn add_image(&self, mut image: ImageRecord) -> Result<()> {
        // Others that add images hold the store's lock as well, because it is shared.
        let path = self.path.join("images");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let lock = open(&path, flags, Mode::empty()).with_context(|| path.display().to_string())?;
        let why = || format!("{} is locked by another brig", path.display());
        wait_for_lock(&lock, true, STORE_PATIENCE, why)?;
        let before = self.image_record(&image.id)?;
        let name = image.names.first().cloned();
        if let Some(known) = &before {
            let known = known.names.iter().filter(|name| !image.names.contains(name));
            image.names.extend(known.cloned().collect::<Vec<_>>());
        }
        let has_it = before.as_ref().is_some_and(|known| known.names.first() == name.as_ref());
        if let Some(name) = name.filter(|_| !has_it) {
            self.take_name(&name, &image.id)?;
        }
        match before {
            Some(before) if before == image => Ok(()),
            _ => write_record(&self.image_path(&image.id), &image),
        }
    }

    fn take_name(&self, name: &str, new: &Digest) -> Result<()> {
        let dir = self.path.join("images");
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let Some(mut other) = read_record::<ImageRecord>(&path)? else { continue };
            if other.id != *new && other.names.iter().any(|known| known == name) {
                other.names.retain(|known| known != name);
                write_record(&path, &other)?;
            }
        }
        Ok(())
    }

    /// The path of the record of a bundle outside the store.
    pub(crate) fn bundle_path(&self, bundle: &Path) -> PathBuf {
        let name = Digest::of(bundle.as_os_str().as_bytes());
        self.path.join("bundles").join(format!("{}.json", name.hex()))
    }

    /// While this is held, nothing is removed from the store.
    ///
    /// # Errors
    ///
    /// If another brig holds the lock for too long.
    pub fn lock_shared(&self) -> Result<Lock> {
        self.lock(false)
    }

    /// While this is held, nothing depends on files without a record.
    ///
    /// # Errors
    ///
    /// If another brig holds the lock for too long.
    pub fn lock_exclusive(&self) -> Result<Lock> {
        self.lock(true)
    }

    fn lock(&self, exclusive: bool) -> Result<Lock> {
        let path = self.path.join("lock");
        let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&path, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .with_context(|| path.display().to_string())?;
        let why = || format!("{} is locked by another brig", path.display());
        wait_for_lock(&fd, exclusive, STORE_PATIENCE, why)?;
        Ok(Lock { _fd: fd })
    }

    /// Creates the directory `tmp/<name>` and locks it, after waiting for an earlier owner. The caller must
    /// remove what an interrupted brig has left in it.
    pub(crate) fn claim(&self, name: &str) -> Result<Lock> {
        let path = self.temp(name);
        let what = || path.display().to_string();
        loop {
            match nix::unistd::mkdir(&path, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).with_context(what),
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let fd = match open(&path, flags, Mode::empty()) {
                // The earlier owner has finished.
                Err(Errno::ENOENT) => continue,
                fd => fd.with_context(what)?,
            };
            let why = || {
                format!(
                    "{}: timed out waiting for another brig that is unpacking it",
                    path.display()
                )
            };
            wait_for_lock(&fd, true, UNPACK_PATIENCE, why)?;
            // It is locked, but may have been removed or renamed in the meantime.
            let same = |a: &nix::sys::stat::FileStat, b: &nix::sys::stat::FileStat| {
                (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
            };
            match (nix::sys::stat::fstat(&fd), nix::sys::stat::lstat(&path)) {
                (Ok(locked), Ok(there)) if same(&locked, &there) => return Ok(Lock { _fd: fd }),
                _ => {}
            }
        }
    }

    /// Renames a complete directory of tmp/ to its final path. An existing one has a damaged record: it is
    /// moved aside, and later removed by `gc`.
    ///
    /// # Errors
    ///
    /// If the directory cannot be renamed.
    pub(crate) fn publish(&self, temp: &Path, target: &Path) -> Result<()> {
        loop {
            match rename_new(temp, target) {
                Err(Errno::EEXIST) => drop(self.put_aside(target)?),
                renamed => {
                    let what = || format!("rename {} to {}", temp.display(), target.display());
                    return renamed.with_context(what);
                }
            }
        }
    }

    /// Moves a directory to tmp/ before its removal, which may be interrupted: a partial one must not be
    /// used. None if it does not exist any more.
    pub(crate) fn put_aside(&self, path: &Path) -> Result<Option<PathBuf>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for number in 0..u32::MAX {
            let aside = self.temp(&format!("{ASIDE}{name}-{number}"));
            match rename_new(path, &aside) {
                Ok(()) => return Ok(Some(aside)),
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => return Ok(None),
                Err(errno) => {
                    let what = || format!("rename {} to {}", path.display(), aside.display());
                    return Err(errno).with_context(what);
                }
            }
        }
        bail!("{}: no unused name found", path.display())
    }
}

/// The time limit for another brig that lists the store or removes from it.
pub const STORE_PATIENCE: Duration = Duration::from_secs(600);
/// The time limit for another brig that unpacks a layer needed here, too.
const UNPACK_PATIENCE: Duration = Duration::from_secs(3600);

/// The directories of a store.
const DIRECTORIES: [&str; 7] =
    ["layers", "joined", "patches", "images", "bundles", "containers", "tmp"];
/// The prefix of names in tmp/ that were moved aside.
const ASIDE: &str = "damaged-";

/// Whether a name in tmp/ is one that brig uses.
pub(crate) fn is_temp_name(name: &str) -> bool {
    let digest = |name: &str| Digest::of_file_name(name).is_some();
    let rest = ["joined-", "patch-"].iter().find_map(|prefix| name.strip_prefix(prefix));
    let aside = name.strip_prefix(ASIDE).and_then(|rest| Some(rest.rsplit_once('-')?.0));
    digest(rest.or(aside).unwrap_or(name))
}

/// Waits for a lock that others hold only briefly.
///
/// # Errors
///
/// If another process holds it for too long.
pub fn wait_for_lock(
    fd: &OwnedFd,
    exclusive: bool,
    patience: Duration,
    why: impl Fn() -> String,
) -> Result<()> {
    let end = Instant::now() + patience;
    while !fd::try_flock(fd.as_fd(), exclusive)? {
        ensure!(Instant::now() < end, "{}, for {} s", why(), patience.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The record of the layer in a directory; None if the record or the layer's files do not exist.
pub(crate) fn record_in(dir: &Path) -> Result<Option<LayerRecord>> {
    let record = read_record(&dir.join("layer.json"))?;
    Ok(record.filter(|_| dir.join("fs").is_dir()))
}

/// Reads a record; None if it does not exist or is not readable. An empty record, or one of NULs, is the
/// result of a power failure while it was written: records are not synced to disk.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    const MISSING: [ErrorKind; 3] =
        [ErrorKind::NotFound, ErrorKind::IsADirectory, ErrorKind::NotADirectory];
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        // O_NONBLOCK: opening a fifo would wait for a writer.
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let mut text = Vec::new();
        let is_file = file.metadata()?.is_file();
        if is_file {
            file.read_to_end(&mut text)?;
        }
        Ok(Some(text).filter(|_| is_file))
    };
    match read() {
        Err(error) if MISSING.contains(&error.kind()) => Ok(None),
        text => {
            let text = text.with_context(|| path.display().to_string())?;
            Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
        }
    }
}

/// Writes a record atomically.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_record<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let what = || format!("write {}", path.display());
    let text = serde_json::to_vec(record)?;
    let (temp, mut file) = temp_file(path).with_context(what)?;
    let done = file.write_all(&text).and_then(|()| std::fs::rename(&temp, path));
    if done.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&temp);
    }
    done.with_context(what)
}

/// A temporary file beside its final path. A killed brig may have left one of the same process id.
fn temp_file(path: &Path) -> Result<(PathBuf, File)> {
    let name = path.file_name().context("is not a file name")?.to_string_lossy();
    for number in 0..u32::MAX {
        let temp = path.with_file_name(format!(".{name}.{}.{number}", std::process::id()));
        match File::options().write(true).create_new(true).open(&temp) {
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
            file => return Ok((temp, file?)),
        }
    }
    bail!("no unused name found")
}

/// If `temp` is a name of [`temp_file`], the name of its record.
pub(crate) fn is_temp_record(temp: &str) -> Option<&str> {
    let rest = temp.strip_prefix('.')?;
    let (rest, number) = rest.rsplit_once('.')?;
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Older ones end with the process id.
    match rest.rsplit_once('.') {
        Some((name, pid)) if numbers(pid) && numbers(number) => Some(name),
        _ if numbers(number) => Some(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_exclusive_and_goes_with_its_holder() {
        let path = std::env::temp_dir().join(format!("brig-store-{}", std::process::id()));
        let store = Store::open(Some(&path)).unwrap();
        let claimed = store.claim("x").unwrap();
        let again = open(&store.temp("x"), OFlag::O_RDONLY, Mode::empty()).unwrap();
        assert!(!fd::try_flock(again.as_fd(), true).unwrap());
        drop(claimed);
        assert!(fd::try_flock(again.as_fd(), true).unwrap());
        std::fs::remove_dir(store.temp("x")).unwrap();
        drop((again, store.claim("x").unwrap()));
        for dir in
            ["tmp/x", "tmp", "layers", "joined", "patches", "images", "bundles", "containers", ""]
        {
            std::fs::remove_dir(path.join(dir)).unwrap();
        }
    }
}
