//! The freezer: suspends a container's processes without their knowledge, and resumes them.
//!
//! Uses the v1 hierarchy `freezer` if it is mounted, otherwise `cgroup.freeze` of cgroup v2 (also of one
//! without controllers on a hybrid host). A container is paused if its own cgroup is frozen. If an ancestor
//! is frozen, someone else did it and has to undo it: that is not a pause (as in runc), but no process can be
//! started in it either.
//!
//! A process frozen by v1 does not die of SIGKILL before it is thawed; one frozen by cgroup v2 does.

use super::remove::{describe, gone, run_state};
use super::{Cgroup, Dir, tree};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use sys::hierarchy::read;
use sys::{Errno, errno_of};

/// The number of attempts to freeze a v1 cgroup before it is thawed for a moment: processes that are forked
/// in the meantime can prevent it from ever being frozen.
const INSISTENCE: u32 = 50;
/// The longest interval between two checks of a v1 freezer, which cannot be waited for.
const PAUSE: Duration = Duration::from_millis(10);
/// How long exec waits for a container to be thawed.
const THAW: Duration = Duration::from_secs(5);
/// Processes released by a v1 freezer run after this time.
const SETTLED: Duration = Duration::from_millis(20);
/// The kernel function in which a process frozen by cgroup v2 waits.
const TRAP: &[u8] = b"do_freezer_trap";

impl Cgroup {
    /// Whether the container's own cgroup is set to frozen: one small read.
    pub fn paused(&self) -> Result<bool> {
        self.freezer().map_or(Ok(false), Dir::is_freezing)
    }

    /// The first of the container's cgroups that is frozen, itself or by an ancestor.
    pub fn frozen(&self) -> Result<Option<&Path>> {
        let dirs = self.dir("freezer").into_iter().chain(self.unified());
        for dir in dirs {
            if dir.frozen()? {
                return Ok(Some(&dir.path));
            }
        }
        Ok(None)
    }

    /// Waits a while for the container to be thawed. v1 would stop a new process before it is executed, and a
    /// process stopped by v1 cannot even be killed.
    ///
    /// # Errors
    ///
    /// If it is still frozen after the time limit; the error names the frozen cgroup.
    pub fn wait_for_thaw(&self) -> Result<()> {
        let end = Instant::now() + THAW;
        let Some(dir) = self.dir("freezer") else { return Ok(()) };
        while dir.frozen()? {
            ensure!(
                Instant::now() < end,
                "the container is paused, and cgroup v1 stops every process in {} before it is executed: \
                 resume the container first",
                dir.path.display()
            );
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Freezes all processes of the container; false if its cgroup no longer exists. If they are not all
    /// frozen within the deadline, they are thawed, and the error names the remaining ones.
    pub fn freeze(&self, end: Instant) -> Result<bool> {
        let missing = || match self.dirs.is_empty() {
            true => "the container has no cgroup of its own",
            false => "this host has no v1 freezer and no cgroup2 mounted",
        };
        let dir = self.freezer().with_context(missing)?;
        let frozen = match &*dir.controllers {
            "" => dir.freeze_v2(end),
            _ => dir.freeze_v1(end),
        };
        if frozen.is_err() {
            // The error to report is that it cannot be frozen.
            drop(dir.set(false));
        }
        frozen.with_context(|| format!("freeze cgroup {}", dir.path.display()))
    }

    /// Thaws the container's processes.
    pub fn thaw(&self) -> Result<()> {
        self.freezer().map_or(Ok(()), |dir| dir.set(false).map(drop))
    }

    /// Thaws processes that must die of SIGKILL, also below the container's cgroup: a container can freeze
    /// its own.
    pub fn thaw_dying(&self) -> Result<()> {
        match self.freezer() {
            Some(dir) if dir.controllers.is_empty() => match dir.is_freezing()? {
                true => dir.set(false).map(drop),
                false => Ok(()),
            },
            Some(dir) => {
                thaw_tree(&dir.path)?;
                self.pids()?.into_iter().try_for_each(|pid| self.move_to_own_cgroup(pid))
            }
            None => Ok(()),
        }
    }

    /// Moves a process that must die of SIGKILL out of a frozen v1 cgroup that it was moved to, which is not
    /// the container's own and which brig must not thaw.
    pub fn move_to_own_cgroup(&self, pid: i32) -> Result<()> {
        let Some(dir) = self.dir("freezer") else { return Ok(()) };
        let Ok(text) = read(format!("/proc/{pid}/cgroup").as_ref()) else { return Ok(()) };
        let text = String::from_utf8_lossy(&text);
        let within = text.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == "freezer").then_some(path)
        });
        let Some(within) = within else { return Ok(()) };
        let elsewhere = dir.mountpoint.join(within.trim_start_matches('/'));
        if elsewhere.starts_with(&dir.path) {
            return Ok(());
        }
        let state = or_gone(read(&elsewhere.join("freezer.state")))?.unwrap_or_default();
        if state.trim_ascii() == b"THAWED" {
            return Ok(());
        }
        // If its own no longer exists, the nearest ancestor is used: the process is about to die anyway.
        for home in dir.path.ancestors().take_while(|home| home.starts_with(&dir.mountpoint)) {
            match write(home, "cgroup.procs", &pid.to_string()) {
                Ok(false) => {}
                Err(error) if errno_of(&error) == Some(Errno::ESRCH) => return Ok(()),
                moved => return moved.map(drop),
            }
        }
        Ok(())
    }

    /// The directory that freezes all processes of the container, and no others.
    pub fn own_freezer(&self) -> Option<&Path> {
        self.freezer().filter(|_| self.is_own()).map(|dir| dir.path.as_path())
    }

    fn freezer(&self) -> Option<&Dir> {
        self.dir("freezer").or_else(|| self.unified())
    }
}

/// The part of a stored [`Cgroup`] that [`Cgroup::paused`] needs.
#[derive(Debug, Deserialize)]
pub struct Freezer<'a> {
    #[serde(borrow)]
    dirs: Vec<Place<'a>>,
}

/// The part of a stored [`Dir`] that locates the freezer. The fields are in its order, because it is a list.
#[derive(Debug, Deserialize)]
struct Place<'a> {
    controllers: &'a str,
    #[serde(rename = "mountpoint")]
    _mountpoint: IgnoredAny,
    path: &'a str,
    #[serde(rename = "made")]
    _made: IgnoredAny,
}

impl Freezer<'_> {
    /// Like [`Cgroup::paused`].
    pub fn paused(&self) -> Result<bool> {
        let with = |wanted: &str| {
            self.dirs.iter().find(|dir| dir.controllers.split(',').any(|name| name == wanted))
        };
        match (with("freezer"), with("")) {
            (Some(dir), _) => is_freezing(Path::new(dir.path), V1),
            (None, Some(dir)) => is_freezing(Path::new(dir.path), V2),
            (None, None) => Ok(false),
        }
    }
}

impl Dir {
    /// Whether it is frozen, itself or by an ancestor. Always false for a hierarchy without a freezer.
    pub(super) fn frozen(&self) -> Result<bool> {
        let (file, frozen) = match &*self.controllers {
            "" => ("cgroup.events", &["frozen 1"][..]),
            _ if self.has("freezer") => ("freezer.state", &["FROZEN", "FREEZING"][..]),
            _ => return Ok(false),
        };
        let text = or_gone(read(&self.path.join(file)))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().any(|line| frozen.contains(&line)))
    }

    /// Also false if it no longer exists, and for a kernel without such a file (v1 before 3.8, cgroup v2
    /// before 5.2).
    fn is_freezing(&self) -> Result<bool> {
        is_freezing(&self.path, if self.controllers.is_empty() { V2 } else { V1 })
    }

    /// Writes to the freezer; false if the cgroup no longer exists.
    fn set(&self, freeze: bool) -> Result<bool> {
        match (&*self.controllers, freeze) {
            ("", true) => write(&self.path, "cgroup.freeze", "1"),
            ("", false) => write(&self.path, "cgroup.freeze", "0"),
            (_, true) => write(&self.path, "freezer.state", "FROZEN"),
            (_, false) => write(&self.path, "freezer.state", "THAWED"),
        }
    }

    /// v1's freezer must be polled: it only notices that all are frozen when it is read, and misses processes
    /// forked in the meantime (runc has met both).
    fn freeze_v1(&self, end: Instant) -> Result<bool> {
        let mut pause = Duration::from_micros(50);
        for tries in 1_u32.. {
            if !self.set(true)? {
                return Ok(false);
            }
            let Some(state) = or_gone(read(&self.path.join("freezer.state")))? else {
                return Ok(false);
            };
            if state.trim_ascii() == b"FROZEN" {
                break;
            }
            if Instant::now() >= end {
                // A process in any interruptible sleep can be frozen, and then looks like one in
                // uninterruptible sleep. The difference only shows after thawing.
                self.set(false)?;
                std::thread::sleep(SETTLED);
                return Err(self.not_frozen("tasks", &|thread| run_state(thread) == 'D'));
            }
            if tries % INSISTENCE == 0 {
                self.set(false)?;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
        Ok(true)
    }

    /// cgroup v2 also freezes forked processes, and reports when all are frozen.
    fn freeze_v2(&self, end: Instant) -> Result<bool> {
        if !self.set(true)? {
            // Before Linux 5.2 the cgroup exists, but not this file.
            return match self.path.join("cgroup.events").exists() {
                true => bail!("this kernel's cgroup2 has no freezer, and no v1 freezer is mounted"),
                false => Ok(false),
            };
        }
        let events = File::open(self.path.join("cgroup.events")).map_err(anyhow::Error::from);
        let Some(events) = or_gone(events)? else { return Ok(false) };
        loop {
            let mut text = [0; 256];
            let Some(length) = or_gone(events.read_at(&mut text, 0).map_err(Into::into))? else {
                return Ok(false);
            };
            if text[..length].split(|&byte| byte == b'\n').any(|line| line == b"frozen 1") {
                return Ok(true);
            }
            let change = PollFd::new(events.as_fd(), PollFlags::POLLPRI);
            if !sys::poll::wait(&mut [change], end).context("cgroup.events")? {
                let channel = |thread| read(format!("/proc/{thread}/wchan").as_ref());
                let awake = |thread| channel(thread).is_ok_and(|channel| channel != TRAP);
                return Err(self.not_frozen("cgroup.threads", &awake));
            }
        }
    }

    /// The threads that prevent it from being frozen.
    fn not_frozen(&self, file: &str, awake: &dyn Fn(i32) -> bool) -> anyhow::Error {
        let mut threads = Vec::new();
        collect(&self.path, file, &mut threads);
        threads.retain(|&thread| awake(thread));
        let threads: Vec<String> = threads.into_iter().map(describe).collect();
        let who =
            if threads.is_empty() { "no such process visible".into() } else { threads.join(", ") };
        anyhow!("timed out waiting for the cgroup to freeze; not frozen: {who}")
    }
}

/// The file that says whether the cgroup itself is set to frozen, independent of its ancestors.
const V1: &str = "freezer.self_freezing";
const V2: &str = "cgroup.freeze";

fn is_freezing(path: &Path, file: &str) -> Result<bool> {
    let mut text = [0];
    let read = File::open(path.join(file)).and_then(|file| file.read_at(&mut text, 0));
    match or_gone(read.map_err(Into::into)) {
        Ok(_) => Ok(text == *b"1"),
        Err(error) => Err(error).with_context(|| format!("read {}/{file}", path.display())),
    }
}

/// Below a frozen v1 cgroup, cgroups that are frozen themselves stay frozen.
fn thaw_tree(path: &Path) -> Result<()> {
    let mut enter = |dir: BorrowedFd<'_>| {
        if tree::read(dir, V1)?.first() == Some(&b'1') {
            tree::write(dir, "freezer.state", "THAWED")?;
        }
        Ok(())
    };
    tree::walk(path, &mut enter, &mut |_, _| Ok(()))
}

fn collect(path: &Path, file: &str, numbers: &mut Vec<i32>) {
    let mut enter = |dir: BorrowedFd<'_>| {
        numbers.append(&mut tree::numbers(dir, file)?);
        Ok(())
    };
    // Unreadable cgroups are skipped.
    let _ = tree::walk(path, &mut enter, &mut |_, _| Ok(()));
}

/// False if the file no longer exists.
fn write(path: &Path, file: &str, value: &str) -> Result<bool> {
    let open = OpenOptions::new().write(true).open(path.join(file));
    match open.and_then(|mut file| file.write_all(value.as_bytes())) {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("write {value} to {}/{file}", path.display()))
        }
    }
}

/// None if it no longer exists.
fn or_gone<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if matches!(errno_of(&error), Some(Errno::ENOENT | Errno::ENODEV)) => Ok(None),
        result => result.map(Some),
    }
}
