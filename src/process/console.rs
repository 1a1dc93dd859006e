//! `process.terminal`: a pseudoterminal of the container's own devpts. Its peer is what the process
//! reads and writes; its master goes to whoever carries the bytes on, an engine or brig itself.

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

/// On which a terminal's master gets to whom it is for.
#[derive(Default)]
pub struct MasterRoute {
    /// The child's end, where there is a terminal at all.
    pub child: Option<Socket>,
    /// The other, where it is brig's.
    pub own: Option<OwnedFd>,
}

/// Opens it, before anything is made. `detach`: brig will not be there to carry the bytes.
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
            "a terminal of a detached container needs {FLAG}: somebody has to hold its other side"
        ))
        .at("process.terminal"),
        (false, Some(path), _) => {
            Err(anyhow!("process.terminal is false, so there is nothing to send"))
                .with_context(|| format!("{FLAG} {}", path.display()))
        }
        (true, Some(path), false) => {
            Err(anyhow!("is for detached containers: in the foreground, brig has the terminal"))
                .with_context(|| format!("{FLAG} {}", path.display()))
        }
    }
}

/// Both sides of a terminal.
pub struct Pty {
    master: OwnedFd,
    peer: OwnedFd,
}

impl Pty {
    /// Makes one, in the devpts of what is the root by now.
    pub fn open(terminal: &Terminal, uid: u32) -> Result<Pty> {
        let master = multiplexer().context("/dev/pts/ptmx")?;
        tty::unlock(master.as_fd())?;
        // Not by its name: that can be replaced in the meantime (CVE-2025-52565).
        let peer = tty::open_peer(master.as_fd())?;
        if let Some(size) = terminal.size {
            tty::set_size(master.as_fd(), size).at("process.consoleSize")?;
        }
        if terminal.carried {
            tty::keep_newlines(peer.as_fd())?;
        }
        match fchown(&peer, Some(Uid::from_raw(uid)), None) {
            // A devpts of somebody else: usable as it is, by who has it open.
            Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => {}
            Err(errno) => Err(errno).with_context(|| format!("chown of the terminal to {uid}"))?,
        }
        Ok(Pty { master, peer })
    }

    /// What the process has of it.
    pub fn peer(&self) -> BorrowedFd<'_> {
        self.peer.as_fd()
    }

    /// Sends the master away; the peer becomes stdin, stdout, stderr and the controlling terminal of
    /// this process, a session leader that has none.
    pub fn hand_over(self, socket: &Socket) -> Result<()> {
        let Pty { master, peer } = self;
        let name = format!("/dev/pts/{}", tty::number(master.as_fd())?);
        socket.send(master.as_fd(), &name)?;
        tty::make_controlling(peer.as_fd())?;
        dup2_stdin(&peer).and_then(|()| dup2_stdout(&peer)).context("dup2")?;
        dup2_stderr(&peer).context("dup2")
    }
}

/// Opens a new master. Only where a devpts is: its ptmx is what it seems, and nothing of an image is
/// opened to find that out.
fn multiplexer() -> Result<OwnedFd> {
    const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
    let root = open("/", DIRECTORY, Mode::empty())?;
    let directory = open_in(root.as_fd(), c"/dev/pts", DIRECTORY, Links::Follow)?;
    ensure!(is_devpts(&directory)?, "a terminal needs a mount of type devpts on /dev/pts");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = open_in(directory.as_fd(), c"/ptmx", flags, Links::Refuse)?;
    // Something else can be mounted on it.
    let stat = fstat(&master).context("fstat")?;
    let ours = is_devpts(&master)? && stat.st_rdev == makedev(5, 2);
    ensure!(ours, "is not the multiplexer of the devpts");
    Ok(master)
}

fn is_devpts(fd: &OwnedFd) -> Result<bool> {
    Ok(fstatfs(fd).context("fstatfs")?.filesystem_type() == DEVPTS_SUPER_MAGIC)
}
