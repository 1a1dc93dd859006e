//! `tmpcopyup`: a tmpfs that starts with the contents of the directory it covers.

use super::target::proc_path;
use anyhow::{Context, Result, ensure};
use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchownat, linkat, lseek, symlinkat};
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use sys::{Errno, IfExists, file, xattr};

/// Trees deeper than this are only created to exhaust resources.
const MAX_DEPTH: usize = 64;

/// Which owners the directory itself gets.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// The user.
    pub uid: bool,
    /// The group.
    pub gid: bool,
}

/// Copies one directory, whose mode the other has already, and everything below it, with mode, owner, extended
/// attributes and times. Symbolic links are copied, never followed; what is changed concurrently is copied as
/// found.
pub fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    let (stat, before) = (fstat(from).context("fstat")?, fstat(to).context("fstat")?);
    Copy { top: to, linked: BTreeMap::new(), path: Vec::new() }.directory(from, to, 0)?;
    let uid = owner.uid.then(|| Uid::from_raw(stat.st_uid));
    let gid = owner.gid.then(|| Gid::from_raw(stat.st_gid));
    fchownat(to, c".", uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
    xattr::copy(&path_of(from, c"."), &path_of(to, c"."))?;
    // An ACL contains a mode, too.
    set_mode_and_times(to, c".", SFlag::S_IFDIR, before.st_mode, &stat)
}

/// A tree being copied.
struct Copy<'a> {
    /// The destination.
    top: BorrowedFd<'a>,
    /// Files with several names, by device and inode: the name that was copied already.
    linked: BTreeMap<(u64, u64), Vec<u8>>,
    /// The path relative to the top, with a slash after each component.
    path: Vec<u8>,
}

impl Copy<'_> {
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<()> {
        ensure!(depth < MAX_DEPTH, "directories are nested deeper than {MAX_DEPTH}");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(from, c".", flags, Mode::empty()).context("opendir")?;
        for entry in dir.iter() {
            let entry = entry.context("readdir")?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.one(from, to, name, depth)
                    .with_context(|| name.to_string_lossy().into_owned())?;
            }
        }
        Ok(())
    }

    /// Returns the directory that it has copied.
    fn subdirectory(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> Result<OwnedFd> {
        mkdirat(to, name, Mode::from_bits_truncate(0o700)).context("mkdir")?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let (from, to) = (open(from, name, flags)?, open(to, name, flags)?);
        let length = self.path.len();
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.directory(from.as_fd(), to.as_fd(), depth + 1)?;
        self.path.truncate(length);
        Ok(from)
    }

    fn one(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> Result<()> {
        let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).if_exists().context("stat")?;
        let Some(mut stat) = stat else { return Ok(()) };
        let kind = file::kind(stat.st_mode);
        if kind != SFlag::S_IFDIR && stat.st_nlink > 1 {
            // Separate copies would use memory for each name.
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&key) {
                match linkat(self.top, first.as_slice(), to, name, AtFlags::empty()) {
                    // Too deep for a path: copied once more.
                    Err(Errno::ENAMETOOLONG) => {}
                    linked => return linked.context("link"),
                }
            } else {
                self.linked.insert(key, [&self.path, name.to_bytes()].concat());
            }
        }
        // By now the name may be that of another file, e.g. of a setuid program, whose owner, mode and attributes must
        // not be those of this content.
        let mut opened = None;
        match kind {
            SFlag::S_IFDIR => {
                let source = self.subdirectory(from, to, name, depth)?;
                stat = fstat(&source).context("fstat")?;
                opened = Some(source);
            }
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name).context("readlink")?;
                symlinkat(target.as_os_str(), to, name).context("symlink")?;
            }
            SFlag::S_IFREG => {
                let (source, found) = copy_file(from, to, name)?;
                (opened, stat) = (Some(source.into()), found);
            }
            kind => match mknodat(to, name, kind, Mode::empty(), stat.st_rdev) {
                // In a user namespace, no device could be created, or used.
                Err(Errno::EPERM) if kind != SFlag::S_IFIFO => return Ok(()),
                made => made.context("mknod")?,
            },
        }
        // Owner first, because chown clears setuid bits and capabilities. The new filesystem is not visible to anyone
        // yet.
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
        match opened {
            Some(from) => xattr::copy_opened(from.as_fd(), &path_of(to, name))?,
            None => xattr::copy(&path_of(from, name), &path_of(to, name))?,
        }
        set_mode_and_times(to, name, kind, stat.st_mode, &stat)
    }
}

/// For calls that take paths only.
fn path_of(dir: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    let dir = PathBuf::from(OsString::from_vec(proc_path(dir).into_bytes()));
    dir.join(OsStr::from_bytes(name.to_bytes()))
}

/// Returns the file whose content it has copied.
fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(File, FileStat)> {
    // O_NONBLOCK: if it has been replaced by a fifo, do not wait for its other end.
    let mut source = File::from(open(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
    let stat = fstat(&source).context("fstat")?;
    ensure!(file::kind(stat.st_mode) == SFlag::S_IFREG, "is no longer a regular file");
    let mut made = File::from(open(to, name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?);
    copy_data(&mut source, &mut made, stat.st_size).context("copy")?;
    Ok((source, stat))
}

/// Copies the data and skips holes: a small file with gigabytes of holes must not use gigabytes of memory.
fn copy_data(from: &mut File, to: &mut File, size: i64) -> Result<()> {
    to.set_len(size.cast_unsigned())?;
    let mut at = 0;
    while at < size {
        let data = match lseek(&*from, at, Whence::SeekData) {
            // A hole up to the end.
            Err(Errno::ENXIO) => break,
            data => data?,
        };
        let hole = lseek(&*from, data, Whence::SeekHole)?.min(size);
        if hole <= data {
            break;
        }
        from.seek(SeekFrom::Start(data.cast_unsigned()))?;
        to.seek(SeekFrom::Start(data.cast_unsigned()))?;
        std::io::copy(&mut (&mut *from).take((hole - data).cast_unsigned()), to)?;
        at = hole;
    }
    Ok(())
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::from_bits_truncate(0o600)).context("open")
}

fn set_mode_and_times(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: SFlag,
    mode: u32,
    stat: &FileStat,
) -> Result<()> {
    if kind != SFlag::S_IFLNK {
        let mode = Mode::from_bits_truncate(mode & 0o7777);
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink).context("chmod")?;
    }
    let accessed = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(dir, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink).context("utimens")
}
