//! The protocol of `criu swrk`: a request, CRIU's notifications, each of which is acknowledged, and a
//! response.
//!
//! CRIU is brig's child, so that restored processes become brig's children as well (`rst_sibling`). It opens
//! the directories of a request through brig's descriptors in /proc, and determines brig's pid from the
//! socket's credentials.
//!
//! There is no deadline: the duration of a dump depends on the amount of memory to write. After a signal to
//! brig, CRIU's next notification gets a negative response: CRIU then undoes everything itself, which it
//! could not do if it were killed.

use super::hierarchy::Kept;
use super::wire::{Message, Value, fields};
use crate::deadline;
use crate::launch::protocol::{self, Message as Told};
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execvp, setpgid};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;
use sys::clone::{Side, clone3};
use sys::{Errno, describe, fd, signal, socket};

/// The oldest supported CRIU, 3.15: the first that reports when its page server is ready.
pub(super) const OLDEST: u32 = 31_500;

/// Types of requests (`criu_req_type`).
pub(super) const DUMP: i64 = 1;
pub(super) const RESTORE: i64 = 2;
pub(super) const PRE_DUMP: i64 = 4;
const NOTIFY: i64 = 6;
const FEATURE_CHECK: i64 = 9;
const VERSION: i64 = 10;
pub(super) const SINGLE_PRE_DUMP: i64 = 13;

/// A running CRIU that waits for requests.
pub(super) struct Criu<'a> {
    socket: OwnedFd,
    process: OwnedFd,
    /// Its pid.
    pub(super) pid: i32,
    signals: &'a SignalFd,
    interrupted: Option<Instant>,
    /// Why a notification got a negative response.
    pub(super) refused: Option<anyhow::Error>,
    reaped: bool,
    /// The options of cgroup2 before CRIU was started.
    hierarchy: Kept,
}

/// How to start CRIU.
pub(super) struct Start<'a> {
    /// `criu`, or a path.
    pub(super) program: &'a Path,
    /// `CLONE_NEW*` bits of the namespaces to create for it.
    pub(super) namespaces: libc::c_int,
    /// The descriptors that it inherits, with the same numbers as in brig.
    pub(super) inherits: Vec<BorrowedFd<'a>>,
    /// It stays in brig's session and process group, and so does what it restores.
    pub(super) same_job: bool,
    /// Becomes readable when brig is interrupted.
    pub(super) signals: &'a SignalFd,
}

/// A notification of CRIU.
#[derive(Debug)]
pub(super) struct Notice {
    /// The name of the step.
    pub(super) script: String,
    /// The pid of the restored root process, if known.
    pub(super) pid: i32,
    /// The descriptor attached to the message.
    pub(super) descriptor: Option<OwnedFd>,
}

/// CRIU's response.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Whether it succeeded.
    pub(super) success: bool,
    /// The error message otherwise.
    pub(super) text: String,
    /// The pid of the restored root process.
    pub(super) pid: i32,
    version: u32,
    tracks_memory: bool,
    lazy_pages: bool,
}

enum Said {
    Notice(Notice),
    Answer(Answer),
}

impl<'a> Criu<'a> {
    /// Executes CRIU. `prepare` is called in the new process before execve.
    ///
    /// # Errors
    ///
    /// If CRIU cannot be executed, or `prepare` fails.
    pub(super) fn start(start: &Start<'a>, prepare: impl FnOnce() -> Result<()>) -> Result<Self> {
        let kind = SockType::SeqPacket;
        let (socket, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .context("socketpair")?;
        let (channel, childs) = protocol::pair()?;
        let hierarchy = Kept::new().context("keep the mount options of cgroup2")?;
        let (pid, process) = match clone3(start.namespaces, None)? {
            Side::Parent(pid, process) => (pid, process),
            Side::Child(_) => {
                let Err(error) = prepare().and_then(|()| become_criu(start, theirs.as_fd()));
                // If brig has exited, there is nobody to report to.
                let _ = childs.send(&Told::Failed(crate::fault::pack(&error)));
                sys::exit(1)
            }
        };
        drop((theirs, childs));
        let mut criu = Criu {
            socket,
            process,
            pid,
            signals: start.signals,
            interrupted: None,
            refused: None,
            reaped: false,
            hierarchy,
        };
        // End of file: execve has succeeded.
        channel.wait(start.signals.as_fd(), Instant::now() + deadline::SETUP)?;
        match channel.receive()? {
            None => Ok(criu),
            Some(Told::Failed(text)) => {
                criu.reap();
                Err(crate::fault::unpack(&text))
            }
            Some(said) => bail!("criu's process says {said:?}"),
        }
    }

    /// CRIU's version as one number: 3.17.1 is 31701.
    ///
    /// # Errors
    ///
    /// If it is older than brig requires.
    pub(super) fn version(&mut self) -> Result<u32> {
        let request = Message::default().number(1, VERSION).flag(4, true);
        let answer = self.ask(&request, "", &mut |_| Ok(()))?;
        ensure!(answer.success && answer.version > 0, "criu does not tell its version");
        let version = answer.version;
        let (major, minor, patch) = (version / 10_000, version / 100 % 100, version % 100);
        ensure!(
            version >= OLDEST,
            "criu {major}.{minor}.{patch} is too old: 3.15 or later is needed"
        );
        Ok(version)
    }

    /// Checks that CRIU and the kernel can track changes of memory (`mem_track`), or restore memory lazily.
    pub(super) fn check_features(&mut self, memory: bool, lazy: bool) -> Result<()> {
        if !memory && !lazy {
            return Ok(());
        }
        let features = Message::default().flag(1, memory).flag(2, lazy);
        let request = Message::default().number(1, FEATURE_CHECK).flag(4, true);
        let answer = self.ask(&request.message(5, &features), "", &mut |_| Ok(()))?;
        ensure!(answer.success, "criu: feature check: {}", answer.text);
        ensure!(
            !memory || answer.tracks_memory,
            "--pre-dump: the kernel does not tell which memory has changed (CONFIG_MEM_SOFT_DIRTY)"
        );
        ensure!(
            !lazy || answer.lazy_pages,
            "--lazy-pages: the kernel does not support userfaultfd"
        );
        Ok(())
    }

    /// Sends a request. `notified` decides whether CRIU may continue. After it has agreed to the notification
    /// `last`, a signal only kills a CRIU that does not exit soon by itself, e.g. because nobody fetches
    /// pages from it.
    pub(super) fn ask(
        &mut self,
        request: &Message,
        last: &str,
        notified: &mut dyn FnMut(Notice) -> Result<()>,
    ) -> Result<Answer> {
        self.send(request)?;
        // A query has nothing to undo, so it has a deadline.
        let end = last.is_empty().then(|| Instant::now() + deadline::SETUP);
        let mut decided = false;
        loop {
            self.wait(end)?;
            match self.receive()? {
                Said::Answer(answer) => return Ok(answer),
                Said::Notice(notice) => {
                    let is_last = notice.script == last;
                    let interrupted = self.interrupted.is_some() && !decided;
                    let may = match interrupted {
                        true => Err(anyhow!("interrupted by a signal")),
                        false => notified(notice),
                    };
                    if decided {
                        // CRIU ignores a negative response at this point, and would wait for threads that
                        // have been killed.
                        may?;
                        self.send(&approval(true))?;
                        continue;
                    }
                    decided = is_last && may.is_ok();
                    let reply = approval(may.is_ok());
                    if let Err(error) = may {
                        self.refused.get_or_insert(error);
                    }
                    self.send(&reply)?;
                }
            }
        }
    }

    fn send(&mut self, message: &Message) -> Result<()> {
        let sent = send(self.socket.as_raw_fd(), message.encoded(), MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).or_else(|errno| match errno {
            Errno::EPIPE | Errno::ECONNRESET => Err(self.post_mortem()),
            errno => Err(errno).context("send to criu"),
        })
    }

    /// Waits until CRIU sends something or exits. With a deadline, also until that, or until a signal.
    fn wait(&mut self, answer: Option<Instant>) -> Result<()> {
        loop {
            let patience = self.interrupted.map(|at| at + deadline::CRIU);
            let end = answer.or(patience);
            let mut fds = vec![self.socket.as_fd(), self.process.as_fd()];
            if self.interrupted.is_none() {
                fds.push(self.signals.as_fd());
            }
            let mut fds: Vec<_> =
                fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match end {
                None => match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) => {}
                    Err(Errno::EINTR) => continue,
                    Err(errno) => return Err(errno).context("poll"),
                },
                Some(end) => {
                    let ready = sys::poll::wait(&mut fds, end)?;
                    ensure!(
                        ready || answer.is_none(),
                        "timed out waiting for criu to say what it can do"
                    );
                    ensure!(
                        ready,
                        "interrupted by a signal; criu has said nothing for {} s and is killed",
                        deadline::CRIU.as_secs()
                    );
                }
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            if ready[0] {
                return Ok(());
            }
            if ready[1] {
                return Err(self.post_mortem());
            }
            if self.signals.read_signal().context("read from the signalfd")?.is_some() {
                ensure!(answer.is_none(), "interrupted by a signal");
                self.interrupted = Some(Instant::now());
            }
        }
    }

    fn receive(&mut self) -> Result<Said> {
        let mut buffer = vec![0; 64 << 10];
        let (length, mut descriptors) =
            match socket::receive_message(self.socket.as_fd(), &mut buffer) {
                Err(error) if error.errno == Errno::ECONNRESET => (0, Vec::new()),
                received => received?,
            };
        if length == 0 {
            return Err(self.post_mortem());
        }
        let said = parse(&buffer[..length], descriptors.pop());
        said.context("criu's answer")
    }

    /// Why CRIU died without a response.
    fn post_mortem(&mut self) -> anyhow::Error {
        match self.reap() {
            Some(WaitStatus::Signaled(_, signal, _)) => anyhow!("criu was killed by {signal}"),
            Some(WaitStatus::Exited(_, code)) => anyhow!("criu has ended with exit status {code}"),
            _ => anyhow!("criu has gone away"),
        }
    }

    /// Waits until it exits, which it does when it has nothing more to do.
    fn reap(&mut self) -> Option<WaitStatus> {
        let end = Instant::now() + deadline::KILL;
        let ended = sys::poll::readable(self.process.as_fd(), end).unwrap_or(false);
        if !ended {
            let _ = signal::pidfd_send_signal(self.process.as_fd(), libc::SIGKILL);
        }
        self.reaped = true;
        let status = waitid(Id::PIDFd(self.process.as_fd()), WaitPidFlag::WEXITED).ok();
        // If CRIU could mount cgroup2, brig can; otherwise nothing could be done about it.
        let _ = self.hierarchy.put_back();
        status
    }

    /// Stops CRIU when it is not needed any more.
    pub(super) fn finish(mut self) {
        let end = shutdown(self.socket.as_fd());
        drop(end);
        self.reap();
    }
}

impl Drop for Criu<'_> {
    fn drop(&mut self) {
        if !self.reaped {
            // If it is dead already, that is fine.
            let _ = signal::pidfd_send_signal(self.process.as_fd(), libc::SIGKILL);
            self.reap();
        }
    }
}

/// The response to a notification.
fn approval(given: bool) -> Message {
    Message::default().number(1, NOTIFY).flag(3, given)
}

/// CRIU then reads end of file.
fn shutdown(socket: BorrowedFd<'_>) -> Result<()> {
    let how = nix::sys::socket::Shutdown::Both;
    nix::sys::socket::shutdown(socket.as_raw_fd(), how).context("shutdown")
}

/// In the child: becomes CRIU.
fn become_criu(start: &Start<'_>, socket: BorrowedFd<'_>) -> Result<std::convert::Infallible> {
    signal::reset_all()?;
    if !start.same_job {
        // A ctrl-C at brig's terminal must not kill CRIU: brig makes it stop, and then it undoes everything
        // itself.
        setpgid(Pid::from_raw(0), Pid::from_raw(0)).context("setpgid")?;
    }
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty());
    let null = null.context("open /dev/null")?;
    if !start.same_job {
        dup2_stdin(&null).context("dup2")?;
    }
    dup2_stdout(&null).and_then(|()| dup2_stderr(&null)).context("dup2")?;
    for kept in start.inherits.iter().chain([&socket]) {
        fd::inherit(number(kept.as_raw_fd()))?;
    }
    let program = CString::new(start.program.as_os_str().as_bytes())?;
    let args =
        [c"criu".to_owned(), c"swrk".to_owned(), CString::new(socket.as_raw_fd().to_string())?];
    let Err(errno) = execvp(&program, &args);
    let name = start.program.display();
    Err(match errno {
        Errno::ENOENT => anyhow!(
            "{name} is not installed: checkpoint and restore need CRIU, 3.15 or later, in PATH"
        ),
        errno => anyhow!(errno).context(format!("execute {name}")),
    })
}

fn number(fd: RawFd) -> u32 {
    fd.cast_unsigned()
}

fn parse(bytes: &[u8], descriptor: Option<OwnedFd>) -> Result<Said> {
    let mut answer = Answer::default();
    let mut notice = None;
    let (mut kind, mut errno) = (0, 0);
    for (field, value) in fields(bytes)? {
        match (field, value) {
            (1, Value::Number(number)) => kind = number,
            (2, Value::Number(number)) => answer.success = number != 0,
            (4, Value::Bytes(restored)) => answer.pid = pid(restored, 1)?,
            (5, Value::Bytes(told)) => notice = Some((text(told, 1)?, pid(told, 2)?)),
            (7, Value::Number(number)) => errno = i32::try_from(number).unwrap_or(0),
            (8, Value::Bytes(features)) => {
                let has = |wanted: u32, found: &[(u32, Value<'_>)]| {
                    found
                        .iter()
                        .any(|(field, value)| *field == wanted && *value == Value::Number(1))
                };
                let found = fields(features)?;
                (answer.tracks_memory, answer.lazy_pages) = (has(1, &found), has(2, &found));
            }
            (9, Value::Bytes(said)) => {
                answer.text = String::from_utf8_lossy(said).trim().to_owned()
            }
            (10, Value::Bytes(version)) => answer.version = version_number(version)?,
            _ => {}
        }
    }
    if i64::try_from(kind) == Ok(NOTIFY) {
        let (script, pid) = notice.context("a notification of nothing")?;
        return Ok(Said::Notice(Notice { script, pid, descriptor }));
    }
    if answer.text.is_empty() && !answer.success {
        answer.text = match errno {
            0 => "failed without saying why".to_owned(),
            errno => describe(&Errno::from_raw(errno).into()),
        };
    }
    Ok(Said::Answer(answer))
}

fn text(message: &[u8], wanted: u32) -> Result<String> {
    let found = fields(message)?.into_iter().find_map(|(field, value)| match value {
        Value::Bytes(bytes) if field == wanted => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    Ok(found.unwrap_or_default())
}

fn pid(message: &[u8], wanted: u32) -> Result<i32> {
    let found = fields(message)?.into_iter().find_map(|(field, value)| match value {
        Value::Number(number) if field == wanted => i32::try_from(number).ok(),
        _ => None,
    });
    Ok(found.unwrap_or_default())
}

/// Combines major, minor and, in a separate field, the patch level. A git id marks a development version
/// before the next minor version.
fn version_number(message: &[u8]) -> Result<u32> {
    let (mut version, mut git) = (0, false);
    for (field, value) in fields(message)? {
        match (field, value) {
            (1, Value::Number(major)) => version += u32::try_from(major)? * 10_000,
            (2, Value::Number(minor)) => version += u32::try_from(minor)? * 100,
            (4, Value::Number(patch)) => version += u32::try_from(patch)?,
            (3, Value::Bytes(_)) => git = true,
            _ => {}
        }
    }
    Ok(if git { version / 100 * 100 + 100 } else { version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let version = Message::default().number(1, 3).number(2, 17).number(4, 1);
        let message = Message::default().number(1, VERSION).flag(2, true).message(10, &version);
        let Said::Answer(answer) = parse(message.encoded(), None).unwrap() else { panic!() };
        assert_eq!((answer.success, answer.version), (true, 31_701));
        let failed = Message::default().number(1, DUMP).number(2, 0).number(7, 3);
        let Said::Answer(answer) = parse(failed.encoded(), None).unwrap() else { panic!() };
        assert_eq!((answer.success, answer.text.as_str()), (false, "No such process"));
        let notice = Message::default().bytes(1, b"post-restore").number(2, 7);
        let notice = Message::default().number(1, NOTIFY).flag(2, true).message(5, &notice);
        let Said::Notice(notice) = parse(notice.encoded(), None).unwrap() else { panic!() };
        assert_eq!((notice.script.as_str(), notice.pid), ("post-restore", 7));
    }
}
