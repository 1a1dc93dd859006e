//! A process that undoes an incomplete commit, however the commit ended: by a signal, a crash, a full disk.
//! It holds one end of a socket pair, and acts when the other end is closed.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, send, sendmsg,
    socketpair,
};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use sys::clone::{Side, clone3};
use sys::socket::receive_message;
use sys::{Errno, exit};

/// The commit's side.
#[derive(Debug)]
pub struct Guard {
    socket: Option<OwnedFd>,
    pidfd: OwnedFd,
    /// Everything sent so far: needed to undo it without the guard, if that has been killed.
    said: RefCell<Vec<u8>>,
}

/// Messages on the socket: a letter, for [`REMOVE`] and [`UNLESS`] a path that ends with a NUL, for [`UNLESS`] a
/// text that ends with a NUL, and for [`LOCK`] a descriptor.
const FROZEN: u8 = b'F';
const THAWED: u8 = b'T';
const REMOVE: u8 = b'R';
const UNLESS: u8 = b'U';
const LOCK: u8 = b'L';

/// What the messages say.
#[derive(Default)]
struct Said {
    /// Whether the container is still frozen.
    frozen: bool,
    /// What must be removed.
    made: Vec<PathBuf>,
    /// The file and the text in it by which the commit has succeeded.
    unless: Option<(PathBuf, Vec<u8>)>,
}

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
                exit(i32::from(watch(theirs.as_fd(), thaw).is_err()))
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

    /// Nothing is removed if this file contains this text in the end: the write that puts it there is the moment at
    /// which the commit succeeds. A message afterwards could fail, or not be sent any more.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub(crate) fn unless(&self, path: &Path, text: &str) -> Result<()> {
        let path = path.as_os_str().as_bytes();
        self.send(&[&[UNLESS], path, b"\0", text.as_bytes(), b"\0"].concat())
    }

    /// The guard keeps this lock, which flock(2) gives to all descriptors of one open file, until it has undone what
    /// is to be undone: the next commit would count on files that are about to be removed.
    ///
    /// # Errors
    ///
    /// If the guard has exited.
    pub fn keep(&self, lock: BorrowedFd<'_>) -> Result<()> {
        let socket = self.socket.as_ref().context("it is closed")?;
        let (fds, text) = ([lock.as_raw_fd()], [IoSlice::new(&[LOCK])]);
        let rights = [ControlMessage::ScmRights(&fds)];
        loop {
            let flags = MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<UnixAddr>(socket.as_raw_fd(), &text, &rights, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).context("pass a lock to brig's guard process"),
            }
        }
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
            undo(&decode(&self.said.borrow()));
        }
    }
}

/// The guard process.
fn watch(socket: BorrowedFd<'_>, thaw: impl FnOnce() -> Result<()>) -> Result<()> {
    // Signals that end the commit, from a terminal or to the process group, must not end the guard.
    nix::unistd::setsid()?;
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None)?;
    let (mut text, mut part, mut locks) = (Vec::new(), [0_u8; 4096], Vec::new());
    loop {
        let (length, fds) = receive_message(socket, &mut part)?;
        if length == 0 {
            break;
        }
        text.extend_from_slice(&part[..length]);
        locks.extend(fds);
    }
    let said = decode(&text);
    let thawed = if said.frozen { thaw() } else { Ok(()) };
    undo(&said);
    thawed
}

/// Whether the file exists and contains the text. One that cannot be read may contain it.
fn contains(path: &Path, text: &[u8]) -> bool {
    match fs::read(path) {
        Ok(read) => read.windows(text.len()).any(|window| window == text),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Removes what was created, in reverse order, unless the commit has succeeded.
fn undo(said: &Said) {
    if said.unless.as_ref().is_some_and(|(path, text)| contains(path, text)) {
        return;
    }
    for path in said.made.iter().rev() {
        // A directory that contains other files by now is kept.
        if fs::remove_file(path).is_err() {
            let _ = fs::remove_dir(path);
        }
    }
}

fn decode(mut text: &[u8]) -> Said {
    let mut said = Said::default();
    while let [letter, rest @ ..] = text {
        text = rest;
        match *letter {
            FROZEN => said.frozen = true,
            THAWED => said.frozen = false,
            LOCK => {}
            letter => {
                // An incomplete message: what it announces was not done.
                let Some(path) = word(&mut text) else { break };
                let path = PathBuf::from(OsString::from_vec(path));
                match letter {
                    UNLESS => said.unless = word(&mut text).map(|text| (path, text)),
                    _ => said.made.push(path),
                }
            }
        }
    }
    said
}

/// Takes the bytes up to a NUL.
fn word(text: &mut &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|&byte| byte == 0)?;
    let word = text[..end].to_vec();
    *text = &text[end + 1..];
    Some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_was_made_is_undone_unless_the_file_that_names_it_is_written() {
        let dir = std::env::temp_dir().join(format!("brig-guard-{}", std::process::id()));
        let (index, made) = (dir.join("index"), dir.join("made"));
        fs::create_dir(&dir).unwrap();
        let thaw = dir.join("thawed");
        for (text, kept) in [(None, false), (Some("another"), false), (Some("an image"), true)] {
            let guard = Guard::spawn(|| Ok(File::create(&thaw).map(drop)?)).unwrap();
            guard.frozen().unwrap();
            guard.remove(&made).unwrap();
            File::create(&made).unwrap();
            guard.unless(&index, "image").unwrap();
            if let Some(text) = text {
                sys::file::write_atomically(&index, text.as_bytes()).unwrap();
            }
            drop(guard);
            assert_eq!((made.exists(), thaw.exists()), (kept, true), "{text:?}");
            fs::remove_file(&thaw).unwrap();
        }
        File::create(&thaw).unwrap();
        let guard = Guard::spawn(|| Ok(fs::remove_file(&thaw)?)).unwrap();
        guard.frozen().and_then(|()| guard.thawed()).unwrap();
        drop(guard);
        assert!(thaw.exists());
        crate::tree::remove_path(&dir).unwrap();
    }
}
