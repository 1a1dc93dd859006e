//! Terminals: the ioctls of pseudoterminals, and the raw mode of brig's own terminal.

use super::{SysError, check};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// A size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

/// Unlocks a new master's peer, so that it can be opened (ioctl_tty(2), TIOCSPTLCK).
///
/// # Errors
///
/// If ioctl(TIOCSPTLCK) fails.
pub fn unlock(master: BorrowedFd<'_>) -> Result<(), SysError> {
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which outlives the call.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    check(|| "ioctl(TIOCSPTLCK, 0)".into(), done.into()).map(drop)
}

/// The number of the peer, which is its name in devpts (TIOCGPTN).
///
/// # Errors
///
/// If ioctl(TIOCGPTN) fails.
pub fn number(master: BorrowedFd<'_>) -> Result<u32, SysError> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes an unsigned int, which outlives the call.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    check(|| "ioctl(TIOCGPTN)".into(), done.into())?;
    Ok(number)
}

/// Opens the peer of a master, independent of any path (TIOCGPTPEER).
///
/// # Errors
///
/// If ioctl(TIOCGPTPEER) fails.
pub fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument of TIOCGPTPEER is an integer.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check(|| "ioctl(TIOCGPTPEER)".into(), fd.into())?;
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The size of a terminal, 0 if unknown (TIOCGWINSZ).
///
/// # Errors
///
/// If ioctl(TIOCGWINSZ) fails.
pub fn size(terminal: BorrowedFd<'_>) -> Result<Size, SysError> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize, which outlives the call.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check(|| "ioctl(TIOCGWINSZ)".into(), done.into())?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of a terminal; its foreground processes get SIGWINCH if it changes (TIOCSWINSZ).
///
/// # Errors
///
/// ioctl(TIOCSWINSZ) failed.
pub fn set_size(terminal: BorrowedFd<'_>, size: Size) -> Result<(), SysError> {
    let Size { rows, columns } = size;
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check(|| format!("ioctl(TIOCSWINSZ, {rows} x {columns})"), done.into()).map(drop)
}

/// Makes a terminal the controlling terminal of this session leader, which has none (TIOCSCTTY).
///
/// # Errors
///
/// If ioctl(TIOCSCTTY) fails: EPERM if the process is not a session leader.
pub fn make_controlling(terminal: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: the argument of TIOCSCTTY is an integer.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(|| "ioctl(TIOCSCTTY)".into(), done.into()).map(drop)
}

/// The end-of-file character of a terminal, or of the peer of a master; 0 if disabled.
///
/// # Errors
///
/// If tcgetattr(3) fails.
pub fn end_of_file(terminal: BorrowedFd<'_>) -> Result<u8, SysError> {
    Ok(modes(terminal.as_raw_fd())?.c_cc[libc::VEOF])
}

fn modes(fd: libc::c_int) -> Result<libc::termios, SysError> {
    // SAFETY: termios is plain data, for which zero is valid.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: tcgetattr writes a termios, which outlives the call.
    let done = unsafe { libc::tcgetattr(fd, &raw mut modes) };
    check(|| format!("tcgetattr(fd {fd})"), done.into())?;
    Ok(modes)
}

/// Disables ONLCR: newlines are printed without a preceding carriage return.
///
/// # Errors
///
/// If tcgetattr(3) or tcsetattr(3) fails.
pub fn keep_newlines(terminal: BorrowedFd<'_>) -> Result<(), SysError> {
    let mut modes = modes(terminal.as_raw_fd())?;
    modes.c_oflag &= !libc::ONLCR;
    // SAFETY: tcsetattr reads a termios, which outlives the call.
    let done = unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &raw const modes) };
    check(|| "tcsetattr(-onlcr)".into(), done.into()).map(drop)
}

/// The modes of stdin before [`make_raw`].
static SAVED: OnceLock<libc::termios> = OnceLock::new();
/// Whether they must be restored.
static RAW: AtomicBool = AtomicBool::new(false);

/// Sets the terminal on stdin to raw mode: every key is passed on as a byte, without interpretation. Undone
/// by [`restore`], which is also called if one of brig's own faults kills it. A background process is stopped
/// here until it is in the foreground.
///
/// # Errors
///
/// If stdin is not a terminal, or its modes cannot be set.
pub fn make_raw() -> Result<(), SysError> {
    let current = modes(0)?;
    let mut raw = *SAVED.get_or_init(|| current);
    restore_on_faults()?;
    // SAFETY: cfmakeraw changes the given termios, which outlives the call.
    unsafe { libc::cfmakeraw(&raw mut raw) };
    // The container's terminal does not translate newlines: brig's own still does, as in runc.
    raw.c_oflag |= libc::OPOST;
    // Before the call, so that there is no gap: restoring unchanged modes is harmless.
    RAW.store(true, Ordering::SeqCst);
    // SAFETY: tcsetattr reads a termios, which outlives the call.
    let done = unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw const raw) };
    check(|| "tcsetattr(stdin, raw)".into(), done.into()).map(drop)
}

/// Restores the modes that the terminal on stdin had before [`make_raw`]. If brig is in the background, the
/// terminal is in use by another process, which has set the modes that it needs. Async-signal-safe.
pub fn restore() {
    let Some(saved) = SAVED.get().filter(|_| RAW.swap(false, Ordering::SeqCst)) else { return };
    // SAFETY: takes an integer only.
    let foreground = unsafe { libc::tcgetpgrp(0) };
    // SAFETY: has no arguments.
    let own = unsafe { libc::getpgrp() };
    // -1: not the terminal of this session, so there is no job control.
    if foreground == own || foreground < 0 {
        // If the terminal does not exist any more, neither do its modes. SAFETY: tcsetattr reads a termios;
        // this one is static.
        let _ = unsafe { libc::tcsetattr(0, libc::TCSANOW, saved) };
    }
}

/// The signals of brig's own faults, which cannot be handled later. As long as brig uses a terminal, their
/// handlers restore it.
pub const FAULTS: [libc::c_int; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

fn restore_on_faults() -> Result<(), SysError> {
    extern "C" fn restore_and_die(signal: libc::c_int) {
        restore();
        // SAFETY: takes an integer only; the signal has its default action again.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: sigaction is plain data, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = restore_and_die as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESETHAND | libc::SA_NODEFER;
    for signal in FAULTS {
        // SAFETY: the action outlives the call. Its handler is a static function of the type used without
        // SA_SIGINFO, and makes async-signal-safe calls only.
        let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        check(|| format!("sigaction({signal})"), done.into())?;
    }
    Ok(())
}
