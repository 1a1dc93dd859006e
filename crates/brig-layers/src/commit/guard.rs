//! A process that undoes what a commit leaves behind, however that ends: by a signal, a crash, a full
//! disk. It holds one end of a pipe, and acts when the other one is closed.

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::clone::{Side, clone3};
use sys::{Errno, exit};

/// The commit's side.
#[derive(Debug)]
pub struct Guard {
    pipe: Option<File>,
    pidfd: OwnedFd,
}

/// What is said through the pipe: a letter, and for [`REMOVE`] a path that ends with a NUL.
const FROZEN: u8 = b'F';
const THAWED: u8 = b'T';
const REMOVE: u8 = b'R';
const KEEP: u8 = b'K';

impl Guard {
    /// `thaw`: lets the container go on, if it is still frozen when the commit is gone.
    pub fn spawn(thaw: impl FnOnce() -> Result<()>) -> Result<Guard> {
        let (theirs, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("pipe")?;
        let (pidfd, ours) = match clone3(0, None)? {
            Side::Parent(_, pidfd) => (pidfd, ours),
            Side::Child(_) => {
                drop(ours);
                exit(i32::from(watch(File::from(theirs), thaw).is_err()))
            }
        };
        Ok(Guard { pipe: Some(File::from(ours)), pidfd })
    }

    fn say(&self, text: &[u8]) -> Result<()> {
        let mut pipe = self.pipe.as_ref().context("it is closed")?;
        pipe.write_all(text).context("say to brig's guard")
    }

    /// The container is about to be frozen.
    pub fn frozen(&self) -> Result<()> {
        self.say(&[FROZEN])
    }

    /// It goes on.
    pub fn thawed(&self) -> Result<()> {
        self.say(&[THAWED])
    }

    /// This file, or empty directory, is about to be made, and goes with the commit.
    pub fn remove(&self, path: &Path) -> Result<()> {
        self.say(&[&[REMOVE], path.as_os_str().as_bytes(), b"\0"].concat())
    }

    /// All that was made is of use now, and stays.
    pub fn keep(&self) -> Result<()> {
        self.say(&[KEEP])
    }
}

impl Drop for Guard {
    /// Waits until all is undone that was not kept.
    fn drop(&mut self) {
        drop(self.pipe.take());
        while waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) == Err(Errno::EINTR) {}
    }
}

/// The guard's life.
fn watch(mut pipe: File, thaw: impl FnOnce() -> Result<()>) -> Result<()> {
    // What ends the commit does not end this: not a terminal, nor a signal to the process group.
    nix::unistd::setsid()?;
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None)?;
    let mut text = Vec::new();
    pipe.read_to_end(&mut text)?;
    let (frozen, made) = heard(&text);
    let thawed = if frozen { thaw() } else { Ok(()) };
    for path in made.iter().rev() {
        // A directory that has something else in it by now stays.
        if fs::remove_file(path).is_err() {
            let _ = fs::remove_dir(path);
        }
    }
    thawed
}

/// Whether the container is still frozen, and what is to be removed.
fn heard(mut text: &[u8]) -> (bool, Vec<PathBuf>) {
    let (mut frozen, mut made) = (false, Vec::new());
    while let [letter, rest @ ..] = text {
        text = rest;
        match *letter {
            FROZEN => frozen = true,
            THAWED => frozen = false,
            KEEP => made.clear(),
            _ => {
                // Cut off, it names nothing that has been made.
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
