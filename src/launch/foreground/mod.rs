//! brig after start when it stays in the foreground: it forwards signals, reaps orphans, and exits with the
//! container's init.

pub mod notify;
pub mod terminal;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use notify::Forwarder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::{Errno, cred, signal, tty};
use terminal::Carrier;

/// All signals that can be caught, as in runc: whoever sends SIGABRT (a systemd whose watchdog has expired) or
/// SIGPIPE means the container. Faults of brig's own end it nevertheless, because the kernel does not let them be
/// blocked. The exceptions are those of job control, which brig must obey itself, and with a terminal those of
/// faults, whose handlers restore it.
pub fn forwarded() -> SigSet {
    let mut set = SigSet::all();
    set.remove(Signal::SIGTTIN);
    set.remove(Signal::SIGTTOU);
    set
}

/// How a container's init has ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// The exit code: that of init, or 128 plus the number of the signal that killed it.
    pub code: i32,
    /// The wait(2) status.
    pub status: i32,
}

/// Waits for the container's init, a child of brig, which stays a zombie until [`reap`]: other commands can
/// tell from that how it has ended. `carrier` forwards its terminal, if any; `forwarder` its messages to a
/// service manager.
pub fn wait(
    init: &OwnedFd,
    mut carrier: Option<&mut Carrier>,
    forwarder: Option<&Forwarder>,
) -> Result<End> {
    let mut forwarded = forwarded();
    if carrier.is_some() {
        let faults = tty::FAULTS.iter().filter_map(|&signal| signal.try_into().ok());
        let faults: SigSet = faults.inspect(|&signal| forwarded.remove(signal)).collect();
        faults.thread_unblock().context("unblock signals")?;
    }
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&forwarded, flags).context("signalfd")?;
    let end = loop {
        let mut fds = vec![init.as_fd(), signals.as_fd()];
        fds.extend(forwarder.map(Forwarder::fd));
        match &mut carrier {
            Some(carrier) => carrier.copy_until(&fds)?,
            None => until_readable(&fds)?,
        }
        if let Some(forwarder) = forwarder {
            // A service manager that does not respond is not a reason to stop a container.
            let _ = forwarder.pass_on(std::process::id().cast_signed());
        }
        while let Some(info) = signals.read_signal().context("read from the signalfd")? {
            let signal = info.ssi_signo.cast_signed();
            let own = info.ssi_pid == std::process::id();
            match (signal, &carrier) {
                (libc::SIGCHLD, _) => reap_orphans(init)?,
                // The reader of brig's own output has closed it.
                (libc::SIGPIPE, _) if own => {}
                (libc::SIGWINCH, Some(carrier)) => carrier.resize(),
                (signal, carrier) => {
                    if let (libc::SIGCONT, Some(carrier)) = (signal, carrier) {
                        carrier.resume();
                    }
                    // It may have exited in the meantime.
                    drop(signal::pidfd_send_signal(init.as_fd(), signal));
                }
            }
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::PIDFd(init.as_fd()), flags).context("waitid")? {
            WaitStatus::Exited(_, code) => break End { code, status: code << 8 },
            WaitStatus::Signaled(_, signal, _) => {
                break End { code: 128 + signal as i32, status: signal as i32 };
            }
            _ => {}
        }
    };
    carrier.map_or(Ok(()), |carrier| carrier.finish(&signals))?;
    Ok(end)
}

/// Reaps an init for which [`wait`] has waited.
pub fn reap(init: &OwnedFd) -> Result<()> {
    waitid(Id::PIDFd(init.as_fd()), WaitPidFlag::WEXITED).context("waitid").map(drop)
}

fn until_readable(fds: &[BorrowedFd<'_>]) -> Result<()> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    sys::poll::wait(&mut fds, None).map(drop)
}

/// Makes brig the parent of processes that outlive the container's init if it has no pid namespace.
pub fn adopt_orphans() -> Result<()> {
    Ok(cred::become_subreaper()?)
}

/// Reaps every dead child except init, whose status the caller reads.
fn reap_orphans(init: &OwnedFd) -> Result<()> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let dead = match waitid(Id::All, flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            dead => dead.context("waitid")?.pid(),
        };
        let is_init =
            waitid(Id::PIDFd(init.as_fd()), flags).is_ok_and(|status| status.pid() == dead);
        match dead {
            Some(pid) if !is_init => drop(waitid(Id::Pid(pid), WaitPidFlag::WEXITED)),
            // Init is the next to be reaped: by the caller.
            _ => return Ok(()),
        }
    }
}

/// Blocks all signals that a foreground run forwards, and SIGCHLD, before there is anything to undo or to
/// forward to.
pub fn block_signals() -> Result<SignalFd> {
    forwarded().thread_block().context("block signals")?;
    let abort: SigSet = signal::ABORT.iter().filter_map(|&signal| signal.try_into().ok()).collect();
    SignalFd::with_flags(&abort, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")
}
