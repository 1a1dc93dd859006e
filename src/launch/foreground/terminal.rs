//! Copies data between brig's own terminal and the container's while brig is in the foreground.
//!
//! ```text
//!   a person ── brig's terminal, raw ── brig ── master ═ peer ── the container's process
//! ```
//!
//! brig's stdin and stdout may also be files or pipes. Nothing here is an error of brig: if it cannot be read
//! or written any more, the container sees its terminal hang up.

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::unistd::{isatty, read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use sys::Errno;
use sys::fd::STANDARD_FDS;
use sys::signal::ABORT;
use sys::tty;

/// brig's side of the container's terminal, brig's own, and the data in transit.
pub struct Carrier {
    /// None: end of file.
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// None: it has hung up.
    container: Option<Container>,
    typed: Buffer,
    printed: Buffer,
    /// Why the output ended, if it did before the container exited.
    lost: Option<Errno>,
    /// Whether the input is a terminal.
    raw: Option<Raw>,
}

/// The container's terminal. The peer is kept open: otherwise the master would report hang-up whenever no
/// process has the terminal open, even temporarily.
struct Container {
    master: OwnedFd,
    peer: OwnedFd,
}

/// The poll(2) events of each descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ready {
    Input,
    Output,
    Master,
    Other,
}

/// The maximum number of bytes to read after the process has exited: the kernel's buffers are smaller.
/// Anything beyond comes from processes that outlive it.
const REST: usize = 64 << 10;

/// How often to check whether the end-of-file character must be typed again.
const REMIND: Duration = Duration::from_millis(100);

impl Carrier {
    /// Prepares both terminals before the process that uses the container's is started.
    pub fn new(master: OwnedFd) -> Result<Carrier> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("fcntl(O_NONBLOCK)")?;
        let peer = tty::open_peer(master.as_fd())?;
        // A reader of stdout that exits must not kill brig before the container has ended.
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
        // A size in the config takes precedence.
        if carrier.container.as_ref().is_some_and(Container::has_no_size) {
            carrier.resize();
        }
        Ok(carrier)
    }

    /// Sets the container's terminal to the size of brig's.
    pub fn resize(&self) {
        let own = STANDARD_FDS.into_iter().find_map(|fd| tty::size(fd).ok());
        if let (Some(size), Some(container)) = (own, &self.container) {
            // An error here is ignored: only the size is wrong.
            let _ = tty::set_size(container.master.as_fd(), size);
        }
    }

    /// After SIGCONT: a shell has changed the modes of brig's terminal in the meantime.
    pub fn resume(&self) {
        self.resize();
        if self.raw.is_some() {
            // If it no longer exists, reading from it will fail.
            let _ = tty::make_raw();
        }
    }

    /// The error that made the output incomplete, if any.
    pub fn lost(&self) -> Option<Errno> {
        self.lost
    }

    /// Copies data until one of `others` becomes readable.
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

    /// Copies what the process printed before it exited. A terminating signal stops this if the terminal does
    /// not accept output.
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

    /// Polls once for data to copy, and for `others`.
    fn wait(&self, others: &[BorrowedFd<'_>]) -> Result<Vec<Ready>> {
        let mut asked: Vec<(Ready, BorrowedFd<'_>, PollFlags)> =
            others.iter().map(|fd| (Ready::Other, *fd, PollFlags::POLLIN)).collect();
        let mut end = None;
        if let Some(container) = &self.container {
            let mut events = PollFlags::empty();
            match (&self.input, self.typed.is_empty()) {
                (Some(input), true) => asked.push((Ready::Input, input.as_fd(), PollFlags::POLLIN)),
                (None, true) => end = Some(Instant::now() + REMIND),
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
        sys::poll::wait(&mut fds, end)?;
        let ready = fds.iter().zip(&asked).filter(|(fd, _)| fd.any().unwrap_or(true));
        Ok(ready.map(|(_, (who, ..))| *who).collect())
    }

    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.typed.fill(input) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // In raw mode no key produces end of file: the terminal has hung up.
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
                // The reader has closed its end: it has what it wanted.
                self.lost = Some(errno).filter(|errno| *errno != Errno::EPIPE);
                self.switch_off();
            }
        }
    }

    /// From now on, the container's processes get SIGHUP, and end of file or EIO.
    fn switch_off(&mut self) {
        self.container = None;
        self.input = None;
        self.typed = Buffer::default();
        self.printed = Buffer::default();
    }

    /// At the end of the input, types the end-of-file character whenever everything typed before has been
    /// read, so that like a file, the terminal is at its end for every reader.
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

/// Duplicates `fd`. A terminal is reopened for non-blocking reads and writes, which does not affect others
/// who share the open file; any other file would lose its position that way, so it is only read and written
/// when poll(2) reports it as ready.
fn own(fd: BorrowedFd<'static>) -> Result<OwnedFd> {
    if isatty(fd).unwrap_or(false) {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        if let Ok(terminal) = open(path.as_str(), flags, Mode::empty()) {
            return Ok(terminal);
        }
        // For example another user's terminal: use it as it is.
    }
    fd.try_clone_to_owned().context("duplicate a standard descriptor")
}

/// brig's terminal is in raw mode while this exists.
struct Raw;

impl Raw {
    /// None if stdin is not a terminal.
    fn enter() -> Result<Option<Raw>> {
        if !isatty(STANDARD_FDS[0]).unwrap_or(false) {
            return Ok(None);
        }
        let raw = Raw;
        tty::make_raw().context("set brig's terminal to raw mode")?;
        Ok(Some(raw))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        tty::restore();
    }
}

/// Data that was read but not written yet. At most what a pipe accepts at once (`PIPE_BUF`).
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

    /// Reads into an empty buffer; 0 is end of file.
    fn fill(&mut self, from: &OwnedFd) -> Result<usize, Errno> {
        let length = read(from, self.bytes.as_mut_slice())?;
        (self.start, self.end) = (0, length);
        Ok(length)
    }

    /// Writes as much as is accepted.
    fn empty_into(&mut self, to: &OwnedFd) -> Result<(), Errno> {
        if !self.is_empty() {
            self.start += write(to, &self.bytes[self.start..self.end])?;
        }
        Ok(())
    }

    /// Puts one byte into an empty buffer.
    fn put(&mut self, byte: u8) {
        self.bytes[0] = byte;
        (self.start, self.end) = (0, 1);
    }
}
