//! `process.terminal`: a pseudoterminal of the container's own devpts. The process uses its peer; the master
//! goes to an engine or to brig itself, which forwards the data.

use super::socket::Socket;
use crate::plan::process::Terminal;
use crate::spec::Place;
use anyhow::{Context, Result, anyhow, ensure};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat, makedev};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use sys::path::{Links, open_in};
use sys::{Errno, tty};

/// The socket that a terminal's master is sent over.
#[derive(Default)]
pub struct MasterRoute {
    /// The child's end, if there is a terminal.
    pub child: Option<Socket>,
    /// The other end, if it is brig's.
    pub own: Option<OwnedFd>,
}

/// Opens it before anything is created. `detach`: brig will exit and cannot forward data.
///
/// # Errors
///
/// If nothing would hold the terminal's master, or a socket is given without a terminal or for the
/// foreground.
pub fn master_route(terminal: bool, socket: Option<&Path>, detach: bool) -> Result<MasterRoute> {
    const FLAG: &str = "--console-socket";
    match (terminal, socket, detach) {
        (false, None, _) => Ok(MasterRoute::default()),
        (true, Some(path), true) => {
            Ok(MasterRoute { child: Some(Socket::connect(FLAG, path)?), own: None })
        }
        (true, None, false) => {
            let (child, own) = Socket::pair()?;
            Ok(MasterRoute { child: Some(child), own: Some(own) })
        }
        (true, None, true) => Err(anyhow!(
            "the terminal of a detached container needs {FLAG}: another process must hold its master"
        ))
        .at("process.terminal"),
        (false, Some(path), _) => {
            Err(anyhow!("process.terminal is false, so there is no terminal to send"))
                .with_context(|| format!("{FLAG} {}", path.display()))
        }
        (true, Some(path), false) => {
            Err(anyhow!("only valid with --detach: in the foreground, brig holds the terminal"))
                .with_context(|| format!("{FLAG} {}", path.display()))
        }
    }
}

/// Both ends of a terminal.
pub struct Pty {
    master: OwnedFd,
    peer: OwnedFd,
}

impl Pty {
    /// Creates one in the devpts of the current root.
    pub fn open(terminal: &Terminal, uid: u32) -> Result<Pty> {
        let master = multiplexer().context("/dev/pts/ptmx")?;
        tty::unlock(master.as_fd())?;
        // Not by its name: that could be replaced in the meantime (CVE-2025-52565).
        let peer = tty::open_peer(master.as_fd())?;
        if let Some(size) = terminal.size {
            tty::set_size(master.as_fd(), size).at("process.consoleSize")?;
        }
        if terminal.carried {
            tty::keep_newlines(peer.as_fd())?;
        }
        match fchown(&peer, Some(Uid::from_raw(uid)), None) {
            // A devpts of another user namespace: processes that have it open can use it as it is.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(errno) => Err(errno).with_context(|| format!("chown of the terminal to {uid}"))?,
        }
        Ok(Pty { master, peer })
    }

    /// The terminal of the process.
    pub fn peer(&self) -> BorrowedFd<'_> {
        self.peer.as_fd()
    }

    /// Sends the master; the peer becomes stdin, stdout, stderr and the controlling terminal of this process,
    /// a session leader without one.
    pub fn hand_over(self, socket: &Socket) -> Result<()> {
        let Pty { master, peer } = self;
        let name = format!("/dev/pts/{}", tty::number(master.as_fd())?);
        socket.send(master.as_fd(), &name)?;
        tty::make_controlling(peer.as_fd())?;
        dup2_stdin(&peer).and_then(|()| dup2_stdout(&peer)).context("dup2")?;
        dup2_stderr(&peer).context("dup2")
    }
}

/// Opens a new master, on a devpts only: its ptmx can be trusted, and no file of an image is opened to check
/// that.
fn multiplexer() -> Result<OwnedFd> {
    const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
    let root = open("/", DIRECTORY, Mode::empty())?;
    let directory = open_in(root.as_fd(), c"/dev/pts", DIRECTORY, Links::Follow)?;
    ensure!(is_devpts(&directory)?, "a terminal needs a mount of type devpts on /dev/pts");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = open_in(directory.as_fd(), c"/ptmx", flags, Links::Refuse)?;
    // Another file could be mounted on it.
    let stat = fstat(&master).context("fstat")?;
    let ours = is_devpts(&master)? && stat.st_rdev == makedev(5, 2);
    ensure!(ours, "not the ptmx of this devpts");
    Ok(master)
}

fn is_devpts(fd: &OwnedFd) -> Result<bool> {
    Ok(fstatfs(fd).context("fstatfs")?.filesystem_type() == DEVPTS_SUPER_MAGIC)
}
