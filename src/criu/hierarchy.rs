//! The mount options of cgroup2 (`nsdelegate`, `memory_recursiveprot`), which apply to the whole host: a
//! mount in the initial cgroup namespace, as CRIU makes to read cgroups, sets the given ones and clears all
//! others.
//!
//! Several brigs may run a CRIU each, so one may start while another's CRIU has cleared them. While any of
//! them runs, an attribute of the hierarchy's root has the options that were set, and each brig holds a shared
//! lock on it; the last one removes the attribute. One that a killed brig has left behind still counts.

use crate::deadline;
use anyhow::Result;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::mount::Filesystem;
use sys::mountinfo::mounts;
use sys::{fd, xattr};

/// The options before the first of several CRIUs was started, separated by commas. Only root can write it.
const BEFORE: &CStr = c"trusted.brig.options";

/// The options while a CRIU runs.
#[derive(Default)]
pub(super) struct Kept {
    before: Vec<String>,
    /// The root of the hierarchy, and the lock on it; None without cgroup2.
    root: Option<(PathBuf, File)>,
}

impl Kept {
    /// Notes the options that are set. Must be called before CRIU is started.
    ///
    /// # Errors
    ///
    /// If the root of the hierarchy cannot be opened.
    pub(super) fn new() -> Result<Kept> {
        let Some((path, _)) = hierarchy() else { return Ok(Kept::default()) };
        let root = File::open(&path)?;
        let end = Instant::now() + deadline::OPTIONS;
        // Without the lock, if any user of the host holds it, another brig may remove the attribute too early.
        while !fd::try_flock(root.as_fd(), false)? && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        // In this order: whoever clears the options has stored them before.
        let now = options();
        let stored = xattr::get(&path, BEFORE).ok().flatten().unwrap_or_default();
        let stored = String::from_utf8_lossy(&stored).into_owned();
        let mut before = split(&stored);
        before.extend(now.into_iter().filter(|option| !split(&stored).contains(option)));
        if before.join(",") != stored {
            // Without the right to do this, CRIU cannot clear the options either.
            let _ = xattr::set_here(&path, BEFORE, before.join(",").as_bytes());
        }
        Ok(Kept { before, root: Some((path, root)) })
    }

    /// Sets the lost options again, with a mount that is not attached anywhere.
    ///
    /// # Errors
    ///
    /// If cgroup2 cannot be mounted.
    pub(super) fn put_back(&mut self) -> Result<()> {
        let Some((path, root)) = self.root.take() else { return Ok(()) };
        let now = options();
        if self.before.iter().any(|option| !now.contains(option)) {
            let filesystem = Filesystem::open(c"cgroup2")?;
            let added = now.iter().filter(|option| !self.before.contains(option));
            for option in self.before.iter().chain(added) {
                filesystem.set(&CString::new(option.as_str())?, None)?;
            }
            filesystem.mount(0)?;
        }
        // No other brig's CRIU runs.
        if !self.before.is_empty() && fd::try_flock(root.as_fd(), true)? {
            let _ = xattr::remove_here(&path, BEFORE);
        }
        Ok(())
    }
}

/// The root of cgroup2, and its options; None without cgroup2.
fn hierarchy() -> Option<(PathBuf, String)> {
    let own = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let found = mounts(&own).find(|mount| mount.is_type("cgroup2"))?;
    Some((found.point(), String::from_utf8_lossy(found.super_options()).into_owned()))
}

/// The options that are set.
fn options() -> Vec<String> {
    hierarchy().map(|(_, options)| split(&options)).unwrap_or_default()
}

fn split(options: &str) -> Vec<String> {
    let set = options.split(',').filter(|option| !matches!(*option, "" | "rw" | "ro"));
    set.map(str::to_owned).collect()
}
