//! Carries bytes between brig's own terminal and the container's while brig is in the foreground.
//!
//! ```text
//!   a person ── brig's terminal, raw ── brig ── master ═ peer ── the container's process
//! ```
//!
//! Brig's stdin and stdout may as well be files or pipes. Nothing here is an error of brig: what
//! cannot be read or written any more is to the container as if its terminal were switched off.

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{isatty, read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use sys::Errno;
use sys::fd::STANDARD_FDS;
use sys::signal::ABORT;
use sys::tty;

/// Brig's side of the container's terminal, brig's own, and what is on its way between them.
pub struct Carrier {
    /// None: at its end.
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// None: switched off.
    container: Option<Container>,
    typed: Buffer,
    printed: Buffer,
    /// Why there is no output any more, if it ended before the container did.
    lost: Option<Errno>,
    /// The input is a terminal.
    raw: Option<Raw>,
}

/// The container's terminal. The peer is kept open: otherwise the master would be at its end whenever
/// no process has it open, which is not for ever.
struct Container {
    master: OwnedFd,
    peer: OwnedFd,
}

/// Who can be read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Input,
    Output,
    Master,
    Other,
}

/// After the process's end there is no more than this to be read, in bytes: the kernel's buffers are
/// smaller. More comes from processes that outlive it.
const REST: usize = 64 << 10;

/// How often is looked whether the end of the input is to be told again, in milliseconds.
const REMIND: u16 = 100;

impl Carrier {
    /// Prepares both terminals, before the process that uses the container's is started.
    pub fn new(master: OwnedFd) -> Result<Carrier> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl(O_NONBLOCK)")?;
        let peer = tty::open_peer(master.as_fd())?;
        // A reader of stdout that goes away is not to end brig before the container.
        SigSet::from(Signal::SIGPIPE).thread_block().context("block SIGPIPE")?;
        let carrier = Carrier {
            input: Some(own(STANDARD_FDS[0])?),
            output: own(STANDARD_FDS[1])?,
            container: Some(Container { master, peer }),
            typed: Buffer::default(),
            printed: Buffer::default(),
            lost: None,
            raw: Raw::enter()?,
        };
        // The config's size counts, if there is one.
        if carrier.container.as_ref().is_some_and(Container::has_no_size) {
            carrier.resize();
        }
        Ok(carrier)
    }

    /// The container's terminal gets the size of brig's.
    pub fn resize(&self) {
        let own = STANDARD_FDS.into_iter().find_map(|fd| tty::size(fd).ok());
        if let (Some(size), Some(container)) = (own, &self.container) {
            // It is only a size.
            let _ = tty::set_size(container.master.as_fd(), size);
        }
    }

    /// After SIGCONT: a shell has given brig's terminal other modes in the meantime.
    pub fn resume(&self) {
        self.resize();
        if self.raw.is_some() {
            // If it is gone, reading from it will tell.
            let _ = tty::make_raw();
        }
    }

    /// Why what the process printed is not complete, if that is so.
    pub fn lost(&self) -> Option<Errno> {
        self.lost
    }

    /// Carries bytes until one of `others` can be read.
    pub fn copy_until(&mut self, others: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            let ready = self.wait(others)?;
            for who in &ready {
                match who {
                    Ready::Input => self.read_input(),
                    Ready::Output => self.write_output(),
                    Ready::Master => self.use_master(),
                    Ready::Other => {}
                }
            }
            self.tell_end();
            if ready.contains(&Ready::Other) {
                return Ok(());
            }
        }
    }

    /// Carries what the process has printed before its end. A signal that ends others gives up on a
    /// terminal that does not take it.
    pub fn finish(&mut self, signals: &SignalFd) -> Result<()> {
        (self.input, self.typed) = (None, Buffer::default());
        let mut rest = REST;
        loop {
            while !self.printed.is_empty() {
                let ready = self.wait(&[signals.as_fd()])?;
                if ready.contains(&Ready::Output) {
                    self.write_output();
                }
                if ready.contains(&Ready::Other) && ends_brig(signals)? {
                    return Ok(());
                }
            }
            let Some(container) = self.container.as_ref().filter(|_| rest > 0) else {
                return Ok(());
            };
            match self.printed.fill(&container.master) {
                Ok(length) if length > 0 => rest = rest.saturating_sub(length),
                _ => return Ok(()),
            }
        }
    }

    /// One poll(2) for what there is to do, and for `others`.
    fn wait(&self, others: &[BorrowedFd<'_>]) -> Result<Vec<Ready>> {
        let mut asked: Vec<(Ready, BorrowedFd<'_>, PollFlags)> =
            others.iter().map(|fd| (Ready::Other, *fd, PollFlags::POLLIN)).collect();
        let mut timeout = PollTimeout::NONE;
        if let Some(container) = &self.container {
            let mut events = PollFlags::empty();
            match (&self.input, self.typed.is_empty()) {
                (Some(input), true) => asked.push((Ready::Input, input.as_fd(), PollFlags::POLLIN)),
                (None, true) => timeout = REMIND.into(),
                (_, false) => events |= PollFlags::POLLOUT,
            }
            match self.printed.is_empty() {
                true => events |= PollFlags::POLLIN,
                false => asked.push((Ready::Output, self.output.as_fd(), PollFlags::POLLOUT)),
            }
            if !events.is_empty() {
                asked.push((Ready::Master, container.master.as_fd(), events));
            }
        }
        let mut fds: Vec<_> = asked.iter().map(|(_, fd, want)| PollFd::new(*fd, *want)).collect();
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).context("poll"),
        }
        let ready = fds.iter().zip(&asked).filter(|(fd, _)| fd.any().unwrap_or(true));
        Ok(ready.map(|(_, (who, ..))| *who).collect())
    }

    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.typed.fill(input) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // In raw mode no key is an end of file: the terminal is gone.
            Ok(0) | Err(_) if self.raw.is_some() => self.switch_off(),
            Ok(0) | Err(_) => self.input = None,
            Ok(_) => {}
        }
    }

    fn use_master(&mut self) {
        let Some(container) = &self.container else { return };
        let typed = self.typed.empty_into(&container.master);
        let printed = match self.printed.is_empty() {
            true => self.printed.fill(&container.master).map(drop),
            false => Ok(()),
        };
        if typed.and(printed).is_err_and(|errno| ![Errno::EAGAIN, Errno::EINTR].contains(&errno)) {
            self.switch_off();
        }
    }

    fn write_output(&mut self) {
        match self.printed.empty_into(&self.output) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => {
                // A reader that has gone has read what it wanted.
                self.lost = Some(errno).filter(|errno| *errno != Errno::EPIPE);
                self.switch_off();
            }
        }
    }

    /// The container's processes get SIGHUP, and end of file or EIO from now on.
    fn switch_off(&mut self) {
        self.container = None;
        self.input = None;
        self.typed = Buffer::default();
        self.printed = Buffer::default();
    }

    /// At the end of the input, types the end of file character whenever all else that was typed has
    /// been read: like a file, a terminal then is at its end for every reader.
    fn tell_end(&mut self) {
        let Some(container) = &self.container else { return };
        if self.input.is_none() && self.typed.is_empty() && container.has_read_all() {
            let end = tty::end_of_file(container.master.as_fd()).unwrap_or(0);
            self.typed.put(end);
        }
    }
}

impl Container {
    fn has_no_size(&self) -> bool {
        tty::size(self.master.as_fd()).is_ok_and(|size| size == tty::Size::default())
    }

    fn has_read_all(&self) -> bool {
        let mut peer = [PollFd::new(self.peer.as_fd(), PollFlags::POLLIN)];
        poll(&mut peer, PollTimeout::ZERO) == Ok(0)
    }
}

fn ends_brig(signals: &SignalFd) -> Result<bool> {
    while let Some(info) = signals.read_signal().context("read from the signalfd")? {
        if ABORT.contains(&info.ssi_signo.cast_signed()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A descriptor for what `fd` is. A terminal is opened anew, for reads and writes that do not block
/// without others who share the open file noticing; another file would lose its position that way,
/// and is only read and written when poll(2) says that it can be.
fn own(fd: BorrowedFd<'static>) -> Result<OwnedFd> {
    if isatty(fd).unwrap_or(false) {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(terminal) = open(path.as_str(), flags, Mode::empty()) {
            return Ok(terminal);
        }
        // Of another user, say: then as it is.
    }
    fd.try_clone_to_owned().context("duplicate a standard descriptor")
}

/// As long as this lives brig's terminal is in raw mode.
struct Raw;

impl Raw {
    /// None where stdin is no terminal.
    fn enter() -> Result<Option<Raw>> {
        if !isatty(STANDARD_FDS[0]).unwrap_or(false) {
            return Ok(None);
        }
        let raw = Raw;
        tty::make_raw().context("brig's terminal")?;
        Ok(Some(raw))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tty::restore();
    }
}

/// What has been read and not yet been written. Not more than a pipe takes at once when it takes
/// something (`PIPE_BUF`).
struct Buffer {
    bytes: Box<[u8; 4096]>,
    start: usize,
    end: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer { bytes: Box::new([0; 4096]), start: 0, end: 0 }
    }
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads into an empty one; 0 is end of file.
    fn fill(&mut self, from: &OwnedFd) -> Result<usize, Errno> {
        let length = read(from, self.bytes.as_mut_slice())?;
        (self.start, self.end) = (0, length);
        Ok(length)
    }

    /// Writes as much as is taken.
    fn empty_into(&mut self, to: &OwnedFd) -> Result<(), Errno> {
        if !self.is_empty() {
            self.start += write(to, &self.bytes[self.start..self.end])?;
        }
        Ok(())
    }

    /// One byte into an empty one.
    fn put(&mut self, byte: u8) {
        self.bytes[0] = byte;
        (self.start, self.end) = (0, 1);
    }
}
