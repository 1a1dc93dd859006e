//! Owners, permissions, extended attributes and times of unpacked files.

use super::Unpacker;
use crate::archive::tar_reader::{Entry, Kind};
use crate::tree::whiteout;
use crate::unpack::dirs::{Missing, is_directory, parts};
use anyhow::{Context, Result};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};
use std::ffi::CString;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use sys::{Errno, SysError, xattr};

impl Unpacker<'_> {
    /// Whether to set the owner in the archive.
    pub(super) fn gives_away(&mut self, entry: &Entry) -> bool {
        if !self.rights.chown && (entry.uid, entry.gid) != (0, 0) {
            let what = "files of other owners are owned by you, because you have no subordinate ids (see /etc/subuid)";
            self.warnings.add(what, &entry.path.escape_ascii().to_string());
        }
        self.rights.chown
    }

    /// Sets owner, permissions and attributes of everything except regular files.
    pub(super) fn attributes(
        &mut self,
        entry: &Entry,
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<()> {
        if self.gives_away(entry) {
            let (uid, gid) = owner(entry)?;
            fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| explained(errno, entry))?;
        }
        if entry.kind != Kind::Symlink {
            // It was just created here: not a link.
            fchmodat(dir, name, mode(entry), FchmodatFlags::FollowSymlink).context("chmod")?;
        }
        self.xattrs(entry, dir, name)
    }

    pub(super) fn xattrs(&mut self, entry: &Entry, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        for (key, value) in &entry.xattrs {
            let shown = || format!("{} of {}", key.escape_ascii(), entry.path.escape_ascii());
            if xattr::OVERLAYS.iter().any(|prefix| key.starts_with(prefix)) {
                self.warnings.add("ignored attributes that are reserved for overlayfs", &shown());
                continue;
            }
            let key = CString::new(key.as_slice())
                .context("the name of an attribute contains a NUL byte")?;
            match xattr::set_here(&whiteout::path_in(dir, name), &key, value) {
                Err(SysError { errno: Errno::EPERM | Errno::EOPNOTSUPP, .. }) => {
                    let what = "ignored attributes that the kernel does not permit brig to set";
                    self.warnings.add(what, &shown());
                }
                done => done.with_context(shown)?,
            }
        }
        Ok(())
    }

    /// Times of directories are set after their contents were created.
    pub(super) fn remember_times(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (seconds, nanoseconds) = entry.mtime;
        self.times.write_all(&seconds.to_ne_bytes())?;
        self.times.write_all(&nanoseconds.to_ne_bytes())?;
        self.times.write_all(&(path.len() as u64).to_ne_bytes())?;
        Ok(self.times.write_all(path)?)
    }

    /// Sets the remembered times.
    pub(super) fn set_all_times(&mut self) -> Result<()> {
        self.times.flush()?;
        let mut file: &File = self.times.get_ref();
        file.seek(SeekFrom::Start(0))?;
        let mut times = BufReader::new(file);
        let mut head = [0_u8; 24];
        while times.read(&mut head[..1])? == 1 {
            times.read_exact(&mut head[1..])?;
            let number = |at: usize| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(&head[at..at + 8]);
                i64::from_ne_bytes(bytes)
            };
            let mut path = vec![0; usize::try_from(number(16))?];
            times.read_exact(&mut path)?;
            self.set_times(&path, number(0), number(8))
                .with_context(|| format!("times of {}", path.escape_ascii()))?;
        }
        Ok(())
    }

    fn set_times(&mut self, path: &[u8], seconds: i64, nanoseconds: i64) -> Result<()> {
        let time = TimeSpec::new(seconds, nanoseconds);
        let names = parts(path)?;
        let nofollow = UtimensatFlags::NoFollowSymlink;
        let Some((&name, above)) = names.split_last() else {
            return Ok(utimensat(self.dirs.root(), ".", &time, &time, nofollow)?);
        };
        // The archive may have replaced it later.
        let Ok(dir) = self.dirs.enter(above, Missing::Fail) else { return Ok(()) };
        if is_directory(dir, name) {
            utimensat(dir, name, &time, &time, nofollow)?;
        }
        Ok(())
    }
}

/// Removes the extended attributes that an earlier entry has set.
pub(super) fn remove_all(dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let path = whiteout::path_in(dir, name);
    for key in xattr::list(&path)? {
        if xattr::OVERLAYS.iter().any(|own| key.starts_with(own)) {
            continue;
        }
        match xattr::remove_here(&path, &CString::new(key)?) {
            // Labels set by the kernel itself.
            Err(SysError { errno: Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP, .. }) => {}
            done => done?,
        }
    }
    Ok(())
}

pub(super) fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode)
}

pub(super) fn owner(entry: &Entry) -> Result<(Uid, Gid)> {
    // -1 would mean "unchanged".
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    let uid = id(entry.uid).with_context(|| format!("uid {} is not a valid id", entry.uid))?;
    let gid = id(entry.gid).with_context(|| format!("gid {} is not a valid id", entry.gid))?;
    Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
}

pub(super) fn explained(errno: Errno, entry: &Entry) -> anyhow::Error {
    let error = anyhow::Error::from(errno);
    match errno {
        Errno::EINVAL => error.context(format!(
            "its owner {}:{} is not among your ids of /etc/subuid and /etc/subgid",
            entry.uid, entry.gid
        )),
        _ => error.context("chown"),
    }
}

pub(super) fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, entry.mtime.1)
}
