//! The state directory of a container, and the lock on it.

use super::{NotFound, State, Status, check_id, in_use, summary};
use crate::deadline;
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;
use sys::path::DIRECTORY;
use sys::{Errno, fd};

/// A container's state directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Absolute or as `--root` was given.
    pub path: PathBuf,
}

/// No other brig changes this container while this is held. It belongs to the open file, so that a
/// copy in a cloned child must be dropped too.
#[derive(Debug)]
pub struct Lock {
    _fd: OwnedFd,
}

/// What is longer is none of brig's files: a config.json has 16 MiB at most, and JSON may take six bytes for one.
const MAX_BYTES: usize = 128 << 20;

impl Dir {
    /// Reserves `id` and takes its lock.
    pub fn create(root: &Path, id: &str) -> Result<(Dir, Lock)> {
        check_id(id)?;
        let end = Instant::now() + deadline::LOCK;
        loop {
            make_directory(root, id)?;
            match Dir::own(root, id) {
                // A delete by force has found it empty before it was locked.
                Err(error) if error.is::<NotFound>() && Instant::now() < end => {}
                owned => return owned,
            }
        }
    }

    /// Takes the lock on the directory that has just been made. Until then a delete by force can remove it, and another
    /// create make it anew: with a record in it, it is that container's.
    fn own(root: &Path, id: &str) -> Result<(Dir, Lock)> {
        let locked = Dir::open(root, id).and_then(|dir| {
            let lock = dir.lock()?;
            match dir.has_record()? {
                true => Err(in_use(root, id).unwrap_or_else(|| NotFound.into())),
                false => Ok((dir, lock)),
            }
        });
        locked.inspect_err(|error| {
            // If it is somebody else's by now, it is not empty. The error that matters is the first one.
            if !error.is::<NotFound>() {
                let _ = unlinkat(AT_FDCWD, &root.join(id), UnlinkatFlags::RemoveDir);
            }
        })
    }

    /// Opens an existing one, or fails with [`NotFound`].
    pub fn open(root: &Path, id: &str) -> Result<Dir> {
        check_id(id)?;
        let path = root.join(id);
        // No link: it would lead to what is not brig's.
        match nix::fcntl::open(&path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(Errno::ENOENT) => Err(NotFound.into()),
            Err(errno) if path.is_symlink() => Err(errno)
                .context(format!("{} is a symbolic link, not a state directory", path.display())),
            Err(errno) => Err(errno).context(format!("state directory {}", path.display())),
        }
    }

    /// Waits, not for long, until no other create, start or delete works on this container.
    pub fn lock(&self) -> Result<Lock> {
        let fd = openat(self.fd(), ".", DIRECTORY, Mode::empty()).or_else(|errno| match errno {
            Errno::ENOENT => Err(anyhow!(NotFound)),
            errno => Err(errno).context(format!("lock {}", self.path.display())),
        })?;
        let end = Instant::now() + deadline::LOCK;
        while !fd::try_flock(fd.as_fd(), true)? {
            ensure!(
                Instant::now() < end,
                "{} is locked: another brig has been using this container for {} s",
                self.path.display(),
                deadline::LOCK.as_secs()
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // Whoever held the lock may have deleted the container.
        ensure!(nix::sys::stat::fstat(&fd)?.st_nlink > 0, NotFound);
        Ok(Lock { _fd: fd })
    }

    /// Whether somebody has begun a container in it.
    fn has_record(&self) -> Result<bool> {
        match fstatat(self.fd(), "state.json", AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("{}/state.json", self.path.display())),
        }
    }

    /// Nobody holds the lock.
    pub(super) fn try_lock_shared(&self) -> Result<bool> {
        Ok(fd::try_flock(self.fd(), false)?)
    }

    /// The name of the container.
    pub(super) fn id(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The first write: nobody can have seen an older one, and a reader takes half a file for none.
    pub fn begin(&self, state: &State) -> Result<()> {
        self.write("state.json", &serde_json::to_vec(state)?)
    }

    /// Replaces `state.json` as a whole.
    pub fn save(&self, state: &State) -> Result<()> {
        self.replace("state.json", &serde_json::to_vec(state)?)
    }

    /// Keeps something that can be made again, unless somebody works on this container: a delete would find a file
    /// more than it has removed.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if !self.try_lock_shared()? {
            return Ok(());
        }
        self.replace(name, bytes).inspect_err(|_| {
            // The error that matters is the first one.
            let _ = unlinkat(self.fd(), &*format!("{name}.new"), UnlinkatFlags::NoRemoveDir);
        })
    }

    /// Writes a file that appears as a whole, in the place of the one before.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let new = format!("{name}.new");
        self.write(&new, bytes)?;
        renameat(self.fd(), &*new, self.fd(), name)
            .with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// Writes a new file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
        let write = || -> Result<()> {
            let fd =
                openat(self.fd(), name, flags | OFlag::O_NOFOLLOW, Mode::S_IRUSR | Mode::S_IWUSR)?;
            Ok(File::from(fd).write_all(bytes)?)
        };
        write().with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// Reads a file that create wrote.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(self.fd(), name).with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// What the container is doing now.
    pub fn status(&self, state: &State) -> Result<Status> {
        if state.creating {
            // Whoever creates it holds the lock. If nobody does, they died half-way.
            return Ok(if self.try_lock_shared()? { Status::Stopped } else { Status::Creating });
        }
        summary::status(&state.init(), || state.cgroup.paused(), self.fd(), "go")
    }
}

/// Reads a file of a state directory. None is ever added to: what it has when it is opened is all.
pub(super) fn read(at: BorrowedFd<'_>, name: &str) -> Result<Vec<u8>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = openat(at, name, flags, Mode::empty())?;
    let stat = nix::sys::stat::fstat(&fd)?;
    ensure!(sys::file::kind(stat.st_mode) == SFlag::S_IFREG, "is not a regular file");
    let size = usize::try_from(stat.st_size)?;
    ensure!(size <= MAX_BYTES, "has more than {MAX_BYTES} bytes");
    let mut bytes = Vec::with_capacity(size);
    File::from(fd).take(size as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Makes an empty state directory, and the state root where there is none.
fn make_directory(root: &Path, id: &str) -> Result<()> {
    let (path, mode) = (root.join(id), Mode::S_IRWXU);
    let made = mkdir(&path, mode).or_else(|errno| match errno {
        Errno::ENOENT => {
            make_root(root)?;
            mkdir(&path, mode).map_err(anyhow::Error::from)
        }
        errno => Err(errno.into()),
    });
    made.map_err(|error| {
        let hint = match sys::errno_of(&error) {
            // With its own words already, or an administrator's directory.
            Some(Errno::EACCES) if root.exists() => session_hint(),
            _ => "",
        };
        let directory = format!("state directory {}{hint}", path.display());
        in_use(root, id).unwrap_or_else(|| error.context(directory))
    })
}

fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root);
    made.with_context(|| format!("state root {}{}", root.display(), session_hint()))
}

/// Where the default state root comes from, for who cannot write to it.
fn session_hint() -> &'static str {
    match std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| dir.is_empty()) {
        true if !nix::unistd::geteuid().is_root() => {
            ": XDG_RUNTIME_DIR is not set, which holds the state of an unprivileged user"
        }
        _ => "",
    }
}
