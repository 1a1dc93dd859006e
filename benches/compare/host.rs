//! The machine: its cgroup hierarchies, and a mount namespace in which Debian's crun runs on it.

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// See the module documentation. Every mount made here ends with the benchmark.
pub struct Host {
    /// Mount points of cgroup v1 hierarchies.
    pub v1: Vec<PathBuf>,
    /// Mount point of cgroup v2, if there is no v1.
    pub v2: Option<PathBuf>,
    /// On a hybrid host, the mount namespace in which v2's part of it is mounted.
    pub hybrid: Option<File>,
    interrupts: RefCell<SignalFd>,
    interrupted: Cell<Option<u32>>,
}

impl Host {
    /// Enters a new mount namespace; `states` becomes a tmpfs, like /run. Debian's crun 1.8.1 refuses hybrid
    /// hosts, so every runtime sees the host without `unified`; the original is kept for brig.
    pub fn enter(states: &Path) -> Result<Host> {
        // Stops between two measurements, so that everything is removed.
        let mut ends = SigSet::empty();
        ends.extend([Signal::SIGINT, Signal::SIGTERM]);
        ends.thread_block()?;
        let interrupts = RefCell::new(SignalFd::with_flags(
            &ends,
            SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC,
        )?);
        leave_mount_namespace()?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("states"), states, Some("tmpfs"), flags, Some("mode=700"))
            .with_context(|| format!("tmpfs on {}", states.display()))?;
        let v1 = mounted("cgroup")?;
        let unified = mounted("cgroup2")?.into_iter().next();
        let (v2, hybrid) = match unified {
            Some(dir) if !v1.is_empty() => {
                let hybrid = File::open("/proc/self/ns/mnt")?;
                leave_mount_namespace()?;
                umount(&dir).with_context(|| format!("umount {}", dir.display()))?;
                (None, Some(hybrid))
            }
            other => (other, None),
        };
        Ok(Host { v1, v2, hybrid, interrupts, interrupted: Cell::new(None) })
    }

    /// An error after SIGINT or SIGTERM.
    pub fn check_interrupt(&self) -> Result<()> {
        if let Some(signal) = self.interrupts.borrow_mut().read_signal()? {
            self.interrupted.set(Some(signal.ssi_signo));
        }
        match self.interrupted.get() {
            Some(signal) => bail!("ended by signal {signal}"),
            None => Ok(()),
        }
    }

    /// For the removal after an interrupt.
    pub fn forget_interrupt(&self) {
        self.interrupted.set(None);
    }

    /// The path of the mount namespace for a child to run in.
    pub fn hybrid_path(&self) -> Option<PathBuf> {
        let fd = self.hybrid.as_ref()?.as_raw_fd();
        Some(format!("/proc/{}/fd/{fd}", std::process::id()).into())
    }

    /// Every hierarchy.
    pub fn hierarchies(&self) -> impl Iterator<Item = &PathBuf> {
        self.v1.iter().chain(&self.v2)
    }

    /// In the format of the floor's argument.
    pub fn for_floor(&self) -> String {
        match &self.v2 {
            Some(dir) => format!("v2={}", dir.display()),
            None => self.v1.iter().map(|dir| dir.to_string_lossy()).collect::<Vec<_>>().join(":"),
        }
    }

    /// Removes the cgroups of an earlier run, or at the end of this one those left by a runtime; returns
    /// them.
    pub fn remove_cgroups(&self, mine: bool) -> Vec<PathBuf> {
        let mut left = Vec::new();
        for hierarchy in self.hierarchies() {
            for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let Some(rest) = name.strip_prefix(PREFIX) else { continue };
                let pid = rest.split('-').next().unwrap_or_default();
                let is_mine = pid == std::process::id().to_string();
                if is_mine == mine && (mine || !Path::new("/proc").join(pid).exists()) {
                    remove_cgroup(&entry.path());
                    left.push(entry.path());
                }
            }
        }
        left
    }
}

/// The prefix of the benchmark's cgroups; its pid follows.
pub const PREFIX: &str = "brig-bench-";

/// The name of a cgroup of this run.
pub fn cgroup_name(of: &str) -> String {
    format!("{PREFIX}{}-{of}", std::process::id())
}

fn remove_cgroup(dir: &Path) {
    for _ in 0..100 {
        let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|line| line.parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // It may have exited by now; otherwise the next round finds it.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        }
        if fs::remove_dir(dir).is_ok() || !dir.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    eprintln!("left behind: {}", dir.display());
}

fn leave_mount_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("unshare a mount namespace (root?)")?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("make / private")
}

/// Mount points of a filesystem type.
fn mounted(kind: &str) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mounts")?;
    let rows = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of_kind = rows.filter(|row| row.get(2) == Some(&kind));
    Ok(of_kind.filter_map(|row| row.get(1).map(PathBuf::from)).collect())
}
