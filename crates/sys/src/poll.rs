//! Waiting for descriptors, with a deadline.

use super::Errno;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// What is left until `end`, in milliseconds for poll(2), rounded up; 0 when it has passed.
fn left(end: Instant) -> u16 {
    let left = end.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    u16::try_from(left).unwrap_or(u16::MAX)
}

/// Waits until something has happened at one of `fds`; false when the deadline passes before.
///
/// # Errors
///
/// poll(2) failed.
pub fn wait(fds: &mut [PollFd<'_>], end: Instant) -> Result<bool> {
    loop {
        match poll(fds, left(end)) {
            Ok(0) if Instant::now() >= end => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno).context("poll"),
        }
    }
}

/// Waits until `fd` is readable (a pidfd: its process is dead); false when the deadline passes.
///
/// # Errors
///
/// poll(2) failed.
pub fn readable(fd: BorrowedFd<'_>, end: Instant) -> Result<bool> {
    wait(&mut [PollFd::new(fd, PollFlags::POLLIN)], end)
}
