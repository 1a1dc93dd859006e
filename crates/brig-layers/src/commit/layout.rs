//! An OCI image layout opened for writing: blobs by digest, images by name. Existing contents are kept.

use crate::commit::guard::Guard;
use crate::source::digest::Digest;
use crate::source::manifest::{Descriptor, REF_NAME, entry};
use crate::source::reference::Kind;
use crate::source::{Source, regular_file};
use crate::store::{STORE_PATIENCE, wait_for_lock};
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat, stat};
use nix::unistd::syncfs;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use sys::Errno;
use sys::file::write_atomically;

/// A layout, locked as long as it is open.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    /// Removes new files unless an image needs them.
    guard: Guard,
    lock: OwnedFd,
}

/// A temporary file, deleted unless it is renamed.
#[derive(Debug)]
pub struct Temp(PathBuf);

impl Temp {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // It was renamed, or is not needed.
        let _ = fs::remove_file(&self.0);
    }
}

/// The prefix of temporary files.
const TEMP: &str = ".brig-";

const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Parses `oci:PATH:TAG`, `PATH:TAG` or `PATH`, with the default tag "latest".
///
/// # Errors
///
/// If the text names another kind of image, or the tag is not valid.
pub fn parse(text: &str) -> Result<(PathBuf, String)> {
    let rest = text.strip_prefix("oci:").unwrap_or(text);
    for other in ["oci-archive:", "docker-archive:", "docker:", "docker://"] {
        ensure!(
            !text.starts_with(other),
            "{text}: brig only writes OCI image layouts, oci:DIR:TAG"
        );
    }
    let after = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest[after..].find(':') {
        Some(at) => (&rest[..after + at], &rest[after + at + 1..]),
        None => (rest, "latest"),
    };
    ensure!(!path.is_empty(), "{text}: has no path");
    check_tag(tag).with_context(|| text.to_owned())?;
    Ok((path.into(), tag.into()))
}

/// Checks that an image in a layout can have this name.
///
/// # Errors
///
/// If the tag is not valid.
pub fn check_tag(tag: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@+".contains(c);
    ensure!(!tag.is_empty() && tag.chars().all(plain), "{tag:?} is not a valid tag");
    Ok(())
}

/// Creates a directory and its missing parents.
fn make_directories(path: &Path, guard: &Guard) -> Result<()> {
    let missing = path.ancestors().take_while(|dir| !dir.exists()).collect::<Vec<_>>();
    missing.iter().rev().try_for_each(|dir| guard.remove(dir))?;
    fs::create_dir_all(path).with_context(|| path.display().to_string())
}

/// Waits for other writers. The directory may not exist any more after another commit has failed.
fn lock(path: &Path, guard: &Guard) -> Result<OwnedFd> {
    let what = || path.display().to_string();
    let blobs = path.join("blobs/sha256");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    loop {
        make_directories(&blobs, guard)?;
        let lock = match open(path, flags, Mode::empty()) {
            Err(Errno::ENOENT) => continue,
            lock => lock.with_context(what)?,
        };
        let why = || format!("{}: another brig is writing to it", path.display());
        wait_for_lock(&lock, true, STORE_PATIENCE, why)?;
        let locked = fstat(&lock)?;
        let same = |there: FileStat| (there.st_dev, there.st_ino) == (locked.st_dev, locked.st_ino);
        if blobs.is_dir() && stat(path).is_ok_and(same) {
            guard.keep(lock.as_fd())?;
            return Ok(lock);
        }
    }
}

impl Layout {
    /// Opens a layout, created if it is missing or empty.
    ///
    /// # Errors
    ///
    /// If the directory contains something else, or another brig is writing to the layout.
    pub fn open(path: &Path, guard: Guard) -> Result<Layout> {
        let what = || path.display().to_string();
        let version = path.join("oci-layout");
        // Another commit may be creating it.
        let other = |entry: std::io::Result<fs::DirEntry>| {
            let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
            name != "blobs" && !name.as_bytes().starts_with(b".oci-layout.")
        };
        let others = fs::read_dir(path).is_ok_and(|mut entries| entries.any(other));
        ensure!(
            !others || version.exists(),
            "{}: is neither empty nor an OCI image layout",
            path.display()
        );
        let lock = lock(path, &guard)?;
        // Temporary files of a commit that was killed together with its guard.
        for entry in fs::read_dir(path.join("blobs")).with_context(what)?.flatten() {
            if entry.file_name().as_bytes().starts_with(TEMP.as_bytes()) {
                fs::remove_file(entry.path()).with_context(what)?;
            }
        }
        if version.exists() {
            // Fails before anything is written to a layout that could not be read again.
            Source::open(path, Kind::Layout)?;
        } else {
            guard.remove(&version)?;
            write_atomically(&version, VERSION.as_bytes())?;
        }
        Ok(Layout { path: path.to_owned(), guard, lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The guard that undoes an incomplete commit.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// A temporary file for a blob whose digest is not known yet.
    ///
    /// # Errors
    ///
    /// If the file cannot be created.
    pub fn temp(&self) -> Result<(Temp, File)> {
        // The guard of a commit that was killed before it had the lock may just have removed it, empty.
        make_directories(&self.path.join("blobs/sha256"), &self.guard)?;
        for number in 0..u32::MAX {
            let path = self.path.join(format!("blobs/{TEMP}{}-{number}", std::process::id()));
            self.guard.remove(&path)?;
            let file = File::options().read(true).write(true).create_new(true).open(&path);
            match file {
                Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => {}
                file => {
                    let file = file.with_context(|| path.display().to_string())?;
                    return Ok((Temp(path), file));
                }
            }
        }
        bail!("{}: no unused name found", self.path.display())
    }

    /// Whether it contains this blob completely: a truncated one is written again.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    fn new_blob(&self, path: &Path) -> Result<()> {
        if path.exists() { Ok(()) } else { self.guard.remove(path) }
    }

    /// Renames a complete temporary file to a blob.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed.
    pub(crate) fn publish(&self, temp: &Temp, digest: &Digest) -> Result<()> {
        let target = self.blob(digest);
        // Blobs of SHA-512 are in a separate directory.
        make_directories(target.parent().unwrap_or(&self.path), &self.guard)?;
        self.new_blob(&target)?;
        fs::rename(&temp.0, &target).with_context(|| target.display().to_string())
    }

    /// Adds a small blob.
    ///
    /// # Errors
    ///
    /// If the blob cannot be written.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        self.new_blob(&self.blob(&digest))?;
        write_atomically(&self.blob(&digest), bytes)?;
        Ok(Layout::descriptor(media_type, digest, bytes.len() as u64))
    }

    /// A descriptor of a blob.
    pub fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let annotations = BTreeMap::new();
        Descriptor { media_type: media_type.into(), digest, size, annotations, platform: None }
    }

    /// Tags an image; the tag is removed from other images.
    ///
    /// # Errors
    ///
    /// If index.json is not valid, or cannot be written.
    pub fn name(&self, tag: &str, manifest: &Descriptor) -> Result<()> {
        let path = self.path.join("index.json");
        let mut index: Value = match regular_file(&path) {
            Ok(mut file) => {
                let mut text = Vec::new();
                file.read_to_end(&mut text)?;
                serde_json::from_slice(&text).with_context(|| path.display().to_string())?
            }
            Err(error) if error.downcast_ref() == Some(&Errno::ENOENT) => json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            }),
            Err(error) => return Err(error),
        };
        // Only an object has members, and null is an empty list.
        if let Some(list @ Value::Null) = index.get_mut("manifests") {
            *list = json!([]);
        }
        let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
        let manifests = manifests.with_context(|| format!("{}: no manifests", path.display()))?;
        manifests.retain_mut(|known| {
            if known["annotations"][REF_NAME] != tag {
                return true;
            }
            // Something of another tool only loses the name.
            let other = entry(known).is_err();
            let annotations = known["annotations"].as_object_mut();
            annotations.and_then(|annotations| annotations.remove(REF_NAME));
            other
        });
        let mut named = manifest.clone();
        named.annotations.insert(REF_NAME.into(), tag.into());
        manifests.push(serde_json::to_value(&named)?);
        // A tag must not refer to a blob that is not on disk yet.
        syncfs(&self.lock).context("syncfs")?;
        if path.symlink_metadata().is_err() {
            self.guard.remove(&path)?;
        }
        self.guard.unless(&path, manifest.digest.hex())?;
        write_atomically(&path, &serde_json::to_vec(&index)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_stands_behind_the_first_colon_of_the_last_name() {
        let parsed =
            |text: &str| parse(text).map(|(path, tag)| format!("{} {tag}", path.display()));
        assert_eq!(parsed("/a:b/c").unwrap(), "/a:b/c latest");
        assert_eq!(parsed("oci:/a/c:v1").unwrap(), "/a/c v1");
        assert_eq!(parsed("c:v1").unwrap(), "c v1");
        for bad in ["", ":x", "a:", "a:b c", "docker-archive:x"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
