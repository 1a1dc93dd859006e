//! A process that undoes an incomplete commit, however the commit ended: by a signal, a crash, a full disk.
//! It holds one end of a socket pair, and acts when the other end is closed.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::clone::{Side, clone3};
use sys::{Errno, exit};

/// The commit's side.
#[derive(Debug)]
pub struct Guard {
    socket: Option<OwnedFd>,
    pidfd: OwnedFd,
    /// Everything sent so far: needed to undo it without the guard, if that has been killed.
    said: RefCell<Vec<u8>>,
}

/// Messages on the socket: a letter, and for [`REMOVE`] a path that ends with a NUL.
const FROZEN: u8 = b'F';
const THAWED: u8 = b'T';
const REMOVE: u8 = b'R';
const KEEP: u8 = b'K';

impl Guard {
    /// `thaw`: resumes the container, if it is still frozen after the commit has ended.
    ///
    /// # Errors
    ///
    /// If the process cannot be created.
    pub fn spawn(thaw: impl FnOnce() -> Result<()>) -> Result<Guard> {
        let (theirs, ours) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .context("socketpair")?;
        let (pidfd, ours) = match clone3(0, None)? {
            Side::Parent(_, pidfd) => (pidfd, ours),
            Side::Child(_) => {
                drop(ours);
                exit(i32::from(watch(File::from(theirs), thaw).is_err()))
            }
        };
        Ok(Guard { socket: Some(ours), pidfd, said: RefCell::default() })
    }

    fn send(&self, text: &[u8]) -> Result<()> {
        self.said.borrow_mut().extend_from_slice(text);
        let socket = self.socket.as_ref().context("it is closed")?;
        let mut left = text;
        while !left.is_empty() {
            // A missing guard must be reported as an error, instead of killing the commit with SIGPIPE.
            match send(socket.as_raw_fd(), left, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                sent => left = &left[sent.context("write to brig's guard process")?..],
            }
        }
        Ok(())
    }

    /// The container is about to be frozen.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub fn frozen(&self) -> Result<()> {
        self.send(&[FROZEN])
    }

    /// The container was thawed.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub fn thawed(&self) -> Result<()> {
        self.send(&[THAWED])
    }

    /// This file, or empty directory, is about to be created, and is removed unless the commit succeeds.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub fn remove(&self, path: &Path) -> Result<()> {
        self.send(&[&[REMOVE], path.as_os_str().as_bytes(), b"\0"].concat())
    }

    /// Keeps everything created so far.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub fn keep(&self) -> Result<()> {
        self.send(&[KEEP])
    }
}

impl Drop for Guard {
    /// Waits until everything that was not kept is undone, and does that itself if the guard could not.
    fn drop(&mut self) {
        drop(self.socket.take());
        let ended = loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                ended => break ended,
            }
        };
        if !matches!(ended, Ok(WaitStatus::Exited(_, 0))) {
            undo(&decode(&self.said.borrow()).1);
        }
    }
}

/// The guard process.
fn watch(mut said: File, thaw: impl FnOnce() -> Result<()>) -> Result<()> {
    // Signals that end the commit, from a terminal or to the process group, must not end the guard.
    nix::unistd::setsid()?;
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None)?;
    let mut text = Vec::new();
    said.read_to_end(&mut text)?;
    let (frozen, made) = decode(&text);
    let thawed = if frozen { thaw() } else { Ok(()) };
    undo(&made);
    thawed
}

/// Removes what was created, in reverse order.
fn undo(made: &[PathBuf]) {
    for path in made.iter().rev() {
        // A directory that contains other files by now is kept.
        if fs::remove_file(path).is_err() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Whether the container is still frozen, and what must be removed.
fn decode(mut text: &[u8]) -> (bool, Vec<PathBuf>) {
    let (mut frozen, mut made) = (false, Vec::new());
    while let [letter, rest @ ..] = text {
        text = rest;
        match *letter {
            FROZEN => frozen = true,
            THAWED => frozen = false,
            KEEP => made.clear(),
            _ => {
                // An incomplete path: its file was not created.
                let Some(end) = text.iter().position(|&byte| byte == 0) else { break };
                let path = std::ffi::OsString::from_vec(text[..end].to_vec());
                made.push(PathBuf::from(path));
                text = &text[end + 1..];
            }
        }
    }
    (frozen, made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_is_undone_when_the_commit_is_gone() {
        let dir = std::env::temp_dir().join(format!("brig-guard-{}", std::process::id()));
        let (kept, gone) = (dir.join("kept"), dir.join("gone"));
        fs::create_dir(&dir).unwrap();
        let thaw = dir.join("thawed");
        let guard = Guard::spawn(|| Ok(File::create(&thaw).map(drop)?)).unwrap();
        guard.remove(&kept).unwrap();
        File::create(&kept).unwrap();
        guard.keep().unwrap();
        guard.frozen().unwrap();
        guard.remove(&gone).unwrap();
        fs::create_dir(&gone).unwrap();
        drop(guard);
        assert!(kept.exists() && thaw.exists() && !gone.exists());
        let guard = Guard::spawn(|| Ok(fs::remove_file(&thaw)?)).unwrap();
        guard.frozen().and_then(|()| guard.thawed()).unwrap();
        drop(guard);
        assert!(thaw.exists());
        crate::tree::remove_path(&dir).unwrap();
    }
}
