//! The state directory of a container, and the lock on it.

use super::{NotFound, State, Status, busy, check_id, in_use, summary};
use crate::deadline;
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::cell::Cell;
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
    /// Absolute, or relative if `--root` was.
    pub path: PathBuf,
    /// Whether this process has held the lock: since then, no create writes a first record.
    pub(super) was_locked: Cell<bool>,
}

/// The exclusive lock on a container. It belongs to the open file description, so a cloned child must drop
/// its copy too.
#[derive(Debug)]
pub struct Lock {
    _fd: OwnedFd,
}

/// The maximum size of a file of brig's: a config.json has at most 16 MiB, and JSON may need six bytes to
/// escape one.
const MAX_BYTES: usize = 128 << 20;

impl Dir {
    /// Reserves `id` and takes its lock.
    ///
    /// # Errors
    ///
    /// If the id is not valid or in use, or the state root cannot be written.
    pub fn create(root: &Path, id: &str) -> Result<(Dir, Lock)> {
        check_id(id)?;
        let end = Instant::now() + deadline::LOCK;
        loop {
            make_directory(root, id)?;
            match Dir::own(root, id) {
                // A `delete --force` has removed it while it was empty and not locked yet.
                Err(error) if error.is::<NotFound>() && Instant::now() < end => {}
                owned => return owned,
            }
        }
    }

    /// Takes the lock on the directory that was just created. Until then, `delete --force` can remove it and
    /// another create can create it again: if it contains a record, it belongs to that container.
    fn own(root: &Path, id: &str) -> Result<(Dir, Lock)> {
        let locked = Dir::open(root, id).and_then(|dir| {
            let lock = dir.lock()?;
            match dir.has("state.json")? {
                true => Err(in_use(root, id).unwrap_or_else(|| NotFound.into())),
                false => Ok((dir, lock)),
            }
        });
        locked.inspect_err(|error| {
            // If it belongs to another container by now, it is not empty and stays. The first error is the
            // one to report.
            if !error.is::<NotFound>() {
                let _ = unlinkat(AT_FDCWD, &root.join(id), UnlinkatFlags::RemoveDir);
            }
        })
    }

    /// Opens an existing state directory, or fails with [`NotFound`].
    pub fn open(root: &Path, id: &str) -> Result<Dir> {
        check_id(id)?;
        let path = root.join(id);
        // Symbolic links are not followed: they would lead to directories that are not brig's.
        match nix::fcntl::open(&path, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path, was_locked: Cell::new(false) }),
            Err(Errno::ENOENT) => Err(NotFound.into()),
            Err(errno) if path.is_symlink() => Err(errno)
                .context(format!("{} is a symbolic link, not a state directory", path.display())),
            Err(errno) => Err(errno).context(format!("state directory {}", path.display())),
        }
    }

    /// Waits until no other create, start, update or delete holds the lock, with a short deadline.
    ///
    /// # Errors
    ///
    /// If another brig holds the lock for too long ([`super::HeldByAncestor`]: one that waits for this
    /// process), or has deleted the container ([`NotFound`]).
    pub fn lock(&self) -> Result<Lock> {
        let fd = self.open_again()?;
        let start = Instant::now();
        let mut by_ancestor = None;
        while !fd::try_flock(fd.as_fd(), true)? {
            let ask = || busy::by_ancestor(fd.as_fd(), &self.path);
            let held: &mut Option<busy::HeldByAncestor> = by_ancestor.get_or_insert_with(ask);
            if start.elapsed() > deadline::LOCK_OF_ANCESTOR
                && let Some(held) = held.take()
            {
                return Err(held.into());
            }
            ensure!(
                start.elapsed() < deadline::LOCK,
                "{} is locked: another brig has been using this container for {} s",
                self.path.display(),
                deadline::LOCK.as_secs()
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // The previous holder of the lock may have deleted the container.
        ensure!(nix::sys::stat::fstat(&fd)?.st_nlink > 0, NotFound);
        self.was_locked.set(true);
        Ok(Lock { _fd: fd })
    }

    /// Like [`Dir::lock`]; None if another brig has deleted the container.
    pub fn lock_if_exists(&self) -> Result<Option<Lock>> {
        match self.lock() {
            Err(error) if error.is::<NotFound>() => Ok(None),
            lock => lock.map(Some),
        }
    }

    /// Whether it contains a file of this name.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match fstatat(self.fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno).with_context(|| format!("{}/{name}", self.path.display())),
        }
    }

    /// A descriptor for a lock of its own.
    fn open_again(&self) -> Result<OwnedFd> {
        openat(self.fd(), ".", DIRECTORY, Mode::empty()).or_else(|errno| match errno {
            Errno::ENOENT => Err(anyhow!(NotFound)),
            errno => Err(errno).context(format!("lock {}", self.path.display())),
        })
    }

    /// Whether another brig holds the lock. It is not kept: the caller may live as long as its container.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(!fd::try_flock(self.open_again()?.as_fd(), false)?)
    }

    /// The container's id.
    pub(super) fn id(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The directory itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes `state.json` for the first time. No rename is needed: no process has read an older one, and
    /// readers treat a truncated first record as missing.
    pub fn begin(&self, state: &State) -> Result<()> {
        self.write("state.json", &serde_json::to_vec(state)?)
    }

    /// Replaces `state.json` atomically.
    pub fn save(&self, state: &State) -> Result<()> {
        self.replace("state.json", &serde_json::to_vec(state)?)
    }

    /// Caches data that can be created again, unless another brig holds the lock: a concurrent delete would
    /// find an unexpected file.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if !fd::try_flock(self.fd(), false)? {
            return Ok(());
        }
        self.replace(name, bytes).inspect_err(|_| {
            // The first error is the one to report.
            let _ = unlinkat(self.fd(), &*format!("{name}.new"), UnlinkatFlags::NoRemoveDir);
        })
    }

    /// Replaces a file atomically.
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

    /// Opens a file written by create.
    pub fn open_file(&self, name: &str) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.fd(), name, flags, Mode::empty())
            .with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// Reads a file written by create.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        read(self.fd(), name).with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// The record and the current status of a container whose lock the caller does not hold.
    ///
    /// # Errors
    ///
    /// [`NotFound`], or the record or the status cannot be read.
    pub fn look(&self) -> Result<(State, Status)> {
        let state = self.existing()?;
        let status = self.status(&state)?;
        match state.creating && status != Status::Creating {
            true => Ok((self.existing()?, status)),
            false => Ok((state, status)),
        }
    }

    /// The current status of a container with this record.
    pub fn status(&self, state: &State) -> Result<Status> {
        // A running create holds the lock.
        if state.creating && self.is_locked()? {
            return Ok(Status::Creating);
        }
        // It has finished since the record was read, or died.
        let newer = state.creating.then(|| self.existing()).transpose()?;
        let state = newer.as_ref().unwrap_or(state);
        if state.creating {
            return Ok(Status::Stopped);
        }
        summary::status(&state.init(), || state.cgroup.paused(), self.fd(), "go")
    }
}

/// Reads a file of a state directory. These files are never appended to, so one read of its size at open is
/// complete.
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

/// Creates an empty state directory, and the state root if it does not exist.
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
            // Either the error has an explanation already, or it is an administrator's directory.
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

/// Where the default state root comes from, for a user who cannot write to it.
fn session_hint() -> &'static str {
    match std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|dir| dir.is_empty()) {
        true if !nix::unistd::geteuid().is_root() => {
            ": XDG_RUNTIME_DIR is not set, which holds the state of an unprivileged user"
        }
        _ => "",
    }
}
