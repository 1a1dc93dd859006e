//! Kills the processes in the container's cgroups, and removes the cgroups.

use super::{Cgroup, Dir, MARK, tree};
use crate::deadline;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};
use sys::hierarchy::read;
use sys::{Errno, SysError, signal, xattr};

/// The errors for a cgroup that brig must not or cannot remove.
const NOT_OURS: [Errno; 4] = [Errno::EBUSY, Errno::EACCES, Errno::EPERM, Errno::EROFS];

/// The maximum number of processes to hold pidfds of at once.
const AT_ONCE: usize = 200;

/// The longest pause between two attempts to remove a cgroup.
const PAUSE: Duration = Duration::from_millis(20);

impl Cgroup {
    /// Every process in the container's cgroups and those below them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        for dir in self.processes() {
            pids.append(&mut tree::processes(&dir.path)?);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Sends SIGKILL to every process in the container's cgroups and those below them, including frozen ones.
    /// Does not wait for their death.
    pub fn kill(&self) -> Result<()> {
        let killed = self.unified().map_or(Ok(false), Dir::kill)?;
        if !killed {
            // So that no process can escape by forking. Those that cannot be frozen are found in a later
            // round.
            drop(self.freeze(Instant::now() + deadline::FREEZE_TO_KILL));
        }
        let end = Instant::now() + deadline::SWEEP;
        loop {
            let pids = self.not_killed(killed);
            let sent = pids.and_then(|pids| {
                signal_each(&pids, libc::SIGKILL, &|| self.pids()).map(|_| pids.is_empty())
            });
            // Nothing must stay frozen after an error.
            self.thaw_dying()?;
            if sent? || Instant::now() >= end {
                return Ok(());
            }
            // Processes forked between reading and killing are found in the next round.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The processes that `cgroup.kill`, if used, has not reached.
    fn not_killed(&self, killed: bool) -> Result<Vec<i32>> {
        // A process that exits between the two reads appears in the first and not in the second, like one
        // that was never on cgroup2; so they are read again.
        let mut pids = self.pids()?;
        if let (true, Some(unified)) = (killed, self.unified()) {
            let dying = tree::processes(&unified.path)?;
            pids.retain(|pid| !dying.contains(pid));
        }
        Ok(pids)
    }

    /// Removes the directories that contain the container's processes if none is left in or below them, which
    /// is cheaper than reading the list. False if processes are left, or this method cannot determine it.
    pub fn removed_if_empty(&self) -> bool {
        self.unit.is_none() && self.processes().all(|dir| tree::remove_empty(&dir.path).is_ok())
    }

    /// Removes the directories created by brig, and those that the container has created in them. Directories
    /// of dying processes are retried until the deadline.
    ///
    /// # Errors
    ///
    /// If a directory still contains processes after the deadline, or systemd cannot stop the unit.
    pub fn remove(&self, deadline: Instant) -> Result<()> {
        // As long as its directory is unknown, it is not certain that the unit exists and belongs to brig.
        // Such a unit is removed by systemd after its last process has exited.
        if let Some(unit) = self.unit.as_ref().filter(|_| !self.dirs.is_empty()) {
            self.wait_until_empty(deadline)?;
            let stopped = unit.stop();
            // If the cgroup no longer exists, systemd has nothing left to stop, whether it can be reached or
            // not.
            if self.dirs.iter().any(|dir| dir.made == 0 && dir.path.exists()) {
                stopped?;
            }
        }
        let mut busy: Vec<&Dir> = self.dirs.iter().filter(|dir| dir.made > 0).collect();
        let mut pause = Duration::from_micros(500);
        loop {
            let mut error = None;
            busy.retain(|dir| match dir.remove() {
                Ok(()) => false,
                Err(failed) => {
                    error = Some(failed);
                    true
                }
            });
            let Some(error) = error else { return Ok(()) };
            if error.errno != Errno::EBUSY {
                return Err(error).context("remove cgroup");
            }
            if Instant::now() >= deadline {
                return still_used(&busy).context(error);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Waits until dying processes have left the cgroup: otherwise systemd would send them SIGTERM first, and
    /// wait for 90 s.
    fn wait_until_empty(&self, deadline: Instant) -> Result<()> {
        let mut pause = Duration::from_micros(500);
        while !self.pids()?.is_empty() {
            if Instant::now() >= deadline {
                return still_used(&self.dirs.iter().collect::<Vec<_>>());
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(PAUSE);
        }
        Ok(())
    }

    /// Whether brig has created it, or would have: then only the container's processes can be in it. A
    /// directory that existed before is known to be empty only after [`Cgroup::create`] has succeeded.
    pub fn is_own(&self) -> bool {
        self.processes().all(|dir| self.is_new(dir))
    }

    /// Whether there are cgroups below the container's.
    pub fn has_children(&self) -> bool {
        // A cgroup has two links of its own, and one for each child.
        let is_parent = |dir: &Dir| fs::metadata(&dir.path).is_ok_and(|found| found.nlink() > 2);
        self.processes().any(is_parent)
    }

    /// The directories that together contain all of the container's processes: one v1 hierarchy is enough for
    /// v1, but on cgroup2 processes can have been moved separately.
    fn processes(&self) -> impl Iterator<Item = &Dir> {
        self.dirs.iter().find(|dir| !dir.controllers.is_empty()).into_iter().chain(self.unified())
    }
}

impl Dir {
    /// Refuses a cgroup that existed before and contains processes, in itself or below. The limits would
    /// apply to them, and kill and delete must never affect them (runtime-spec, config-linux.md, Control
    /// groups).
    pub(super) fn ensure_unused(&self) -> Result<()> {
        if self.made > 0 {
            return Ok(());
        }
        let path = self.path.display();
        ensure!(self.path != self.mountpoint, "{path} is the root cgroup, not one of a container");
        if let Some(&pid) = tree::processes(&self.path)?.first() {
            bail!("cgroup {path} is not empty: {} is in it", describe(pid));
        }
        Ok(())
    }

    /// Kills all processes at once; false if the kernel does not support that.
    fn kill(&self) -> Result<bool> {
        let file = self.path.join("cgroup.kill");
        let open = fs::OpenOptions::new().write(true).open(&file);
        match open.and_then(|mut file| io::Write::write(&mut file, b"1")) {
            Ok(_) => Ok(true),
            // It no longer exists, the kernel is older than 5.14, or it is a threaded cgroup.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP)
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("write {}", file.display())),
        }
    }

    /// Removes the container's directory, and ancestors that some brig has created for it or for another
    /// container and that are not in use any more.
    fn remove(&self) -> Result<(), SysError> {
        match rmdir(&self.path) {
            Err(error) if error.errno == Errno::EBUSY => {
                tree::remove_below(&self.path)?;
                rmdir(&self.path)?;
            }
            removed => removed?,
        }
        let above = self.path.ancestors().enumerate().skip(1);
        for (level, above) in above.take_while(|(_, above)| *above != self.mountpoint) {
            // An ancestor whose mark cannot be read is not ours, or was removed.
            if level >= self.made && !xattr::is_marked(above, MARK).unwrap_or(false) {
                break;
            }
            match rmdir(above) {
                Ok(()) => {}
                // It is in use by another container, and so are all its ancestors; or another user has
                // created it meanwhile; or the hierarchy is read-only, and nothing in it was created by brig.
                Err(error) if NOT_OURS.contains(&error.errno) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Sends a signal to each of these processes, by pidfd. A process that has exited since the list was read,
/// and whose pid was reused, is detected because it is missing when the list is read `again`. False if there
/// was none.
pub fn signal_each(
    pids: &[i32],
    signal: i32,
    again: &dyn Fn() -> Result<Vec<i32>>,
) -> Result<bool> {
    let mut sent = false;
    // In chunks, because brig may have fewer descriptors than the container has processes.
    for pids in pids.chunks(AT_ONCE) {
        let mut opened = Vec::with_capacity(pids.len());
        for &pid in pids {
            match signal::pidfd_open(pid) {
                Ok(pidfd) => opened.push((pid, pidfd)),
                // It has exited, or is a thread's id.
                Err(error) if [Errno::ESRCH, Errno::EINVAL].contains(&error.errno) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let still = again()?;
        for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            match signal::pidfd_send_signal(pidfd.as_fd(), signal) {
                Err(error) if error.errno == Errno::ESRCH => {}
                done => {
                    done?;
                    sent = true;
                }
            }
        }
    }
    Ok(sent)
}

/// Removes one directory; a missing one is not an error.
fn rmdir(path: &Path) -> Result<(), SysError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if gone(&error) => Ok(()),
        // A read-only hierarchy returns this for missing directories, too.
        Err(error) if error.raw_os_error() == Some(libc::EROFS) && !path.exists() => Ok(()),
        Err(error) => Err(failed("rmdir", path, &error)),
    }
}

fn still_used(busy: &[&Dir]) -> Result<()> {
    let mut pids = Vec::new();
    for dir in busy {
        pids.append(&mut tree::processes(&dir.path)?);
    }
    pids.sort_unstable();
    pids.dedup();
    let processes: Vec<String> = pids.iter().map(|&pid| describe(pid)).collect();
    let first = busy.first().map(|dir| dir.path.display().to_string()).unwrap_or_default();
    match processes.is_empty() {
        true => bail!("cgroup {first} is still in use, by no visible process"),
        false => bail!("cgroup {first} is still in use by {}", processes.join(", ")),
    }
}

/// Describes a process, e.g. `1234 (sleep, state D in nfs_wait)`.
pub fn describe(pid: i32) -> String {
    let file = |name: &str| {
        let text = read(Path::new(&format!("/proc/{pid}/{name}"))).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().to_owned()
    };
    let state = run_state(pid);
    let channel = match file("wchan") {
        channel if channel.is_empty() || channel == "0" => String::new(),
        channel => format!(" in {channel}"),
    };
    format!("{pid} ({}, state {state}{channel})", file("comm"))
}

/// Whether it has exited, and only waits to be reaped. Before Linux 5.2 a cgroup lists such processes.
pub fn is_zombie(pid: i32) -> bool {
    ['Z', 'X', '?'].contains(&run_state(pid))
}

/// The state letter of proc_pid_stat(5); `?` if the process no longer exists.
pub(super) fn run_state(pid: i32) -> char {
    let stat = read(format!("/proc/{pid}/stat").as_ref()).unwrap_or_default();
    // The name is in parentheses and can contain any characters; the state follows it.
    let state = stat.windows(3).rev().find(|part| part.starts_with(b") "));
    state.map_or('?', |part| part[2].into())
}

/// It does not exist, or is a file of a cgroup, which disappears with it.
pub(super) fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV | libc::ENOTDIR))
}

fn failed(call: &str, path: &Path, error: &io::Error) -> SysError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
    SysError::new(format!("{call}({})", path.display()), errno)
}
