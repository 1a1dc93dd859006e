//! Waiting for descriptors, with a deadline.

use super::Errno;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// The time until `end` in milliseconds for poll(2), rounded up; 0 after it.
fn left(end: Instant) -> u16 {
    let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    u16::try_from(left).unwrap_or(u16::MAX)
}

/// Waits for an event of `fds`; false if the deadline passes first. Without a deadline it waits indefinitely:
/// for a container in the foreground.
///
/// # Errors
///
/// If poll(2) fails.
pub fn wait(fds: &mut [PollFd<'_>], end: impl Into<Option<Instant>>) -> Result<bool> {
    let end = end.into();
    loop {
        match poll(fds, end.map_or(PollTimeout::NONE, |end| left(end).into())) {
            Ok(0) if end.is_some_and(|end| Instant::now() >= end) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// Waits until `fd` is readable (a pidfd: its process has exited); false if the deadline passes.
///
/// # Errors
///
/// If poll(2) fails.
pub fn readable(fd: BorrowedFd<'_>, end: Instant) -> Result<bool> {
    wait(&mut [PollFd::new(fd, PollFlags::POLLIN)], end)
}
