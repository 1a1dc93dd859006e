//! What is known of a container between two runs of brig: `<root>/<id>/`.
//!
//! * `state.json`: [`State`]; written before anything that must be undone exists, and again, by temp
//!   file and rename, once the container is created.
//! * `config.json`: the config as it was when the container was created.
//! * `go`, `result`: the start channel (see [`crate::launch::gate`]); `go` is there until `start`.
//!
//! Making the directory is what reserves the id. create, start, update and delete exclude each other by
//! a lock on it; state, list and kill never wait for one, because hooks call them.
//! The status is computed on each look, never stored.

mod extra_mounts;
mod init;
mod pid_file;
pub mod record;
mod removal;

pub use init::{open_init, own_start_time, pidfs_inode, start_time};
pub use pid_file::{PidFile, write_pid_file};
pub use record::{Found, NotBrigs, Record, VERSION, all};

use crate::cgroup::Cgroup;
use crate::deadline;
use crate::hooks::{Hook, Stdin};
use crate::plan::overlay::Layers;
use crate::plan::sched::Execution;
use crate::rdt::Rdt;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;
use sys::{Errno, misc};

pub use extra_mounts::{Added, Live};

/// What brig keeps of a container.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// What the fields mean: [`record::VERSION`].
    #[serde(default = "first_version")]
    pub version: u32,
    /// The container's name.
    pub id: String,
    /// create has not finished: whatever is there is to be removed if create dies.
    pub creating: bool,
    /// Host pid of its init; 0 until that is known.
    pub pid: i32,
    /// When that process started, in clock ticks after boot (proc_pid_stat(5)): a pid alone may be
    /// somebody else's by now.
    pub start_time: u64,
    /// The inode of its pidfd, where that is the process's alone (pidfs, Linux 6.9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidfs_inode: Option<u64>,
    /// Absolute path of the bundle.
    pub bundle: PathBuf,
    /// Absolute path of the root filesystem.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Who created it.
    pub uid: u32,
    /// The bundle is in the store of layers, and goes with the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_bundle: bool,
    /// What its root filesystem is made of, if it is of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// The config's.
    pub annotations: BTreeMap<String, String>,
    /// `CLONE_NEW*` bits of the namespaces that it may not share with brig: exec joins them.
    pub namespaces: i32,
    /// Its pid namespace was made for it, so that its init's end is the end of all in there.
    #[serde(default)]
    pub own_pids: bool,
    /// It has a session keyring of its own.
    pub keyring: bool,
    /// What exec gives its processes as well.
    #[serde(default, skip_serializing_if = "Execution::is_empty")]
    pub execution: Execution,
    /// The hooks that run without the config at hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// The same, after delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
    /// The longest that start may take because of startContainer hooks, in seconds.
    #[serde(default)]
    pub start_seconds: u64,
    /// Memory and swap together, as last asked for: cgroup2 limits them apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_and_swap: Option<i64>,
    /// Its class of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Rdt>,
    /// What was mounted in it later.
    #[serde(default, skip_serializing_if = "Live::is_empty")]
    pub live: Live,
    /// Its cgroup, and which directories of it brig made.
    pub cgroup: Cgroup,
}

fn first_version() -> u32 {
    1
}

impl State {
    /// Whether it has this namespace, a `CLONE_NEW*` bit, perhaps to itself.
    pub fn has_namespace(&self, kind: i32) -> bool {
        self.namespaces & kind != 0
    }

    /// Every process of it: those in its cgroup, or where it has none, in its pid namespace.
    pub fn pids(&self) -> Result<Vec<i32>> {
        if !self.cgroup.is_none() {
            return self.cgroup.pids();
        }
        if open_init(self)?.is_none() {
            return Ok(Vec::new());
        }
        ensure!(
            self.own_pids,
            "container {} has neither a cgroup nor a pid namespace: nobody knows its processes",
            self.id
        );
        self.in_pid_namespace()
    }

    /// Every process in init's pid namespace, as far as brig may look at them.
    pub fn in_pid_namespace(&self) -> Result<Vec<i32>> {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
        let own = namespace(&self.pid.to_string()).context("its pid namespace")?;
        let mut pids = Vec::new();
        for entry in std::fs::read_dir("/proc").context("/proc")? {
            let name = entry?.file_name();
            let Some((name, pid)) = name.to_str().and_then(|name| Some((name, name.parse().ok()?)))
            else {
                continue;
            };
            // Gone meanwhile, or nobody brig may look at: not in there.
            if namespace(name).is_ok_and(|namespace| namespace == own) {
                pids.push(pid);
            }
        }
        Ok(pids)
    }

    /// What a hook gets to read.
    pub fn for_hooks(&self, status: Status, pid: i32) -> Stdin<'_> {
        Stdin {
            oci_version: crate::SPEC_VERSION,
            id: &self.id,
            status,
            pid: (pid != 0).then_some(pid),
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }
}

/// A container's status as runtime.md has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// create has not finished.
    Creating,
    /// Waiting for start.
    Created,
    /// The user's program runs.
    Running,
    /// Its processes are frozen, also those of a container that waits for start.
    Paused,
    /// There is no such process any more.
    Stopped,
    /// Its record cannot be read.
    Unknown,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
            Status::Unknown => "unknown",
        })
    }
}

/// No container has this id. The words are runc's: containerd looks for them.
#[derive(Debug)]
pub struct NotFound;

impl std::fmt::Display for NotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("container does not exist")
    }
}

impl std::error::Error for NotFound {}

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

/// The error for an id that is in use, if it is. In runc's words.
pub fn in_use(root: &Path, id: &str) -> Option<anyhow::Error> {
    let path = root.join(id);
    let text = || anyhow!("container with given ID already exists: {id} ({})", path.display());
    path.symlink_metadata().is_ok().then(text)
}

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// What is longer is none of brig's files: a config.json has 16 MiB at most, and JSON may take six bytes for one.
const MOST_BYTES: u64 = 128 << 20;

impl Dir {
    /// Reserves `id` and takes its lock.
    pub fn create(root: &Path, id: &str) -> Result<(Dir, Lock)> {
        check_id(id)?;
        let path = root.join(id);
        let mode = Mode::S_IRWXU;
        let made = nix::unistd::mkdir(&path, mode).or_else(|errno| match errno {
            Errno::ENOENT => {
                make_root(root)?;
                nix::unistd::mkdir(&path, mode).map_err(anyhow::Error::from)
            }
            errno => Err(errno.into()),
        });
        if let Err(error) = made {
            let hint = match sys::errno_of(&error) {
                // With its own words already, or an administrator's directory.
                Some(Errno::EACCES) if root.exists() => session_hint(),
                _ => "",
            };
            let directory = format!("state directory {}{hint}", path.display());
            return Err(in_use(root, id).unwrap_or_else(|| error.context(directory)));
        }
        let locked = || -> Result<(Dir, Lock)> {
            let dir = Dir::open(root, id)?;
            let lock = dir.lock()?;
            Ok((dir, lock))
        };
        locked().inspect_err(|error| {
            // Unless somebody has deleted it meanwhile: then another could have the name by now. The error that
            // matters is the first one.
            if !error.is::<NotFound>() {
                let _ = unlinkat(nix::fcntl::AT_FDCWD, &path, UnlinkatFlags::RemoveDir);
            }
        })
    }

    /// Opens an existing one, or fails with [`NotFound`].
    pub fn open(root: &Path, id: &str) -> Result<Dir> {
        check_id(id)?;
        let path = root.join(id);
        // No link: it would lead to what is not brig's.
        match nix::fcntl::open(&path, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Dir { fd, path }),
            Err(Errno::ENOENT) => Err(NotFound.into()),
            Err(errno) if path.is_symlink() => {
                Err(errno).context(format!("{} is a link, and no state directory", path.display()))
            }
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
        while !misc::try_flock(fd.as_fd(), true)? {
            ensure!(
                Instant::now() < end,
                "{} is locked: another brig has been working on this container for {} s",
                self.path.display(),
                deadline::LOCK.as_secs()
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        // Whoever held the lock may have deleted the container.
        ensure!(nix::sys::stat::fstat(&fd)?.st_nlink > 0, NotFound);
        Ok(Lock { _fd: fd })
    }

    /// Nobody holds the lock.
    fn try_lock_shared(&self) -> Result<bool> {
        Ok(misc::try_flock(self.fd(), false)?)
    }

    /// The name of the container.
    fn id(&self) -> String {
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
        self.write("state.json.new", &serde_json::to_vec(state)?)?;
        renameat(self.fd(), "state.json.new", self.fd(), "state.json")
            .with_context(|| format!("{}/state.json", self.path.display()))
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
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let read = || -> Result<Vec<u8>> {
            let mut bytes = Vec::with_capacity(4096);
            let fd = openat(self.fd(), name, flags, Mode::empty())?;
            let kind = nix::sys::stat::fstat(&fd)?.st_mode & libc::S_IFMT;
            ensure!(kind == libc::S_IFREG, "is no regular file");
            // Bounded, so that read_to_end does not ask for the size first.
            File::from(fd).take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
            ensure!(bytes.len() as u64 <= MOST_BYTES, "has more than {MOST_BYTES} bytes");
            Ok(bytes)
        };
        read().with_context(|| format!("{}/{name}", self.path.display()))
    }

    /// What the container is doing now.
    pub fn status(&self, state: &State) -> Result<Status> {
        if state.creating {
            // Whoever creates it holds the lock. If nobody does, they died half-way.
            return Ok(if self.try_lock_shared()? { Status::Stopped } else { Status::Creating });
        }
        if open_init(state)?.is_none() {
            return Ok(Status::Stopped);
        }
        if state.cgroup.paused()? {
            return Ok(Status::Paused);
        }
        let waits =
            nix::sys::stat::fstatat(self.fd(), "go", nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
        Ok(if waits.is_ok() { Status::Created } else { Status::Running })
    }
}

/// A container id, by runc's rule.
pub fn check_id(id: &str) -> Result<()> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_+,-.".contains(c);
    ensure!(!id.is_empty(), "container id cannot be empty");
    if !id.chars().all(sound) || id == "." || id == ".." {
        bail!(
            "invalid container id {id:?}: it is made of letters, digits, '_', '+', ',', '-' and '.', and is not \".\" or \"..\""
        );
    }
    ensure!(id.len() <= 255, "invalid container id: longer than 255 bytes");
    Ok(())
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
            ": XDG_RUNTIME_DIR is not set, below which an ordinary user's would be"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_runcs_rule() {
        for good in ["a", "A_b+c-d.e", ".x", "-x", "0"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\n"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
