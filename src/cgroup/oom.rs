//! Detects that the container runs out of memory: with `memory.events` on cgroup2, with an eventfd registered
//! for `memory.oom_control` on v1.

use super::{Cgroup, open_at};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::pread;
use nix::unistd::write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::{Errno, SysError};

/// A descriptor to poll for OOM events.
#[derive(Debug)]
pub enum Watch {
    /// An eventfd that counts OOM events.
    V1 {
        /// The eventfd.
        counter: EventFd,
        /// The file it is registered for; exists as long as the cgroup.
        control: PathBuf,
    },
    /// A file that is modified on each event.
    V2 {
        /// memory.events
        events: OwnedFd,
        /// The number of OOM kills at the last read.
        killed: u64,
    },
}

impl Cgroup {
    /// Starts watching; None if no memory controller is available.
    pub fn watch_oom(&self) -> Result<Option<Watch>> {
        if let Some(dir) = self.dir("memory") {
            return watch_v1(&dir.path).map(Some);
        }
        let Some(dir) = self.unified() else { return Ok(None) };
        let path = dir.path.join("memory.events");
        match open_at(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC) {
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            events => {
                let events = events?;
                // Reading the file once arms the notification.
                let killed = killed(&events)?.unwrap_or_default();
                Ok(Some(Watch::V2 { events, killed }))
            }
        }
    }
}

/// cgroup-v1/memory.rst, "OOM Control"
fn watch_v1(dir: &Path) -> Result<Watch> {
    let control = dir.join("memory.oom_control");
    let file = open_at(&control, OFlag::O_RDONLY | OFlag::O_CLOEXEC)?;
    let register = dir.join("cgroup.event_control");
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let counter = EventFd::from_flags(flags).context("eventfd")?;
    let line = format!("{} {}", counter.as_fd().as_raw_fd(), file.as_raw_fd());
    write(open_at(&register, OFlag::O_WRONLY | OFlag::O_CLOEXEC)?, line.as_bytes()).map_err(
        |errno| SysError::new(format!("write({}, {line:?})", register.display()), errno),
    )?;
    Ok(Watch::V1 { counter, control })
}

impl Watch {
    /// Whether it uses v1, where the removal of the cgroup ends it too.
    pub fn is_v1(&self) -> bool {
        matches!(self, Watch::V1 { .. })
    }

    /// The descriptor to poll.
    pub fn poll_fd(&self) -> PollFd<'_> {
        match self {
            Watch::V1 { counter, .. } => PollFd::new(counter.as_fd(), PollFlags::POLLIN),
            Watch::V2 { events, .. } => PollFd::new(events.as_fd(), PollFlags::POLLPRI),
        }
    }

    /// Whether the container has run out of memory since the last call; None after the cgroup was removed.
    pub fn happened(&mut self) -> Result<Option<bool>> {
        match self {
            Watch::V1 { counter, control } => {
                let times = match counter.read() {
                    Err(Errno::EAGAIN) => 0,
                    times => times.context("read eventfd")?,
                };
                // The removal of the cgroup also signals the eventfd.
                Ok(match super::missing(control) {
                    true if times <= 1 => None,
                    _ => Some(times > 0),
                })
            }
            Watch::V2 { events, killed: before } => Ok(killed(events)?.map(|now| {
                let more = now > *before;
                *before = now;
                more
            })),
        }
    }
}

/// The number of OOM kills in memory.events; None if the cgroup no longer exists.
fn killed(events: &OwnedFd) -> Result<Option<u64>> {
    let mut text = [0; 1024];
    match pread(events, &mut text, 0) {
        Err(Errno::ENODEV) => Ok(None),
        length => Ok(Some(parse(&text[..length.context("read memory.events")?]))),
    }
}

fn parse(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killed_processes_are_counted_and_not_near_misses() {
        let text = b"low 0\nhigh 3\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(parse(text), 1);
        assert_eq!(parse(b"low 0\nhigh 3\n"), 0);
    }
}
