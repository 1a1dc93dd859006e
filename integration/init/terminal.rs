//! Actions on a terminal.

use crate::facts::errno;
use crate::{Words, say};
use nix::unistd::{getpgrp, getsid};
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::os::fd::AsRawFd;

/// Performs `name`; false if it is unknown.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    match name {
        "controls" => controls(),
        "winsize" => match winsize(0) {
            Ok((rows, columns)) => say!("winsize {rows} {columns}"),
            Err(error) => say!("winsize {}", errno(&error)),
        },
        "line" => {
            let mut line = String::new();
            match io::stdin().lock().read_line(&mut line) {
                Ok(0) => say!("line EOF"),
                Ok(_) => say!("line {line:?}"),
                Err(error) => say!("line {}", errno(&error)),
            }
        }
        "key" => {
            let mut key = [0];
            match nix::unistd::read(io::stdin(), &mut key) {
                Ok(0) => say!("key EOF"),
                Ok(_) => say!("key {:#04x}", key[0]),
                Err(errno) => say!("key {errno:?}"),
            }
        }
        "raw" => match change(|modes| {
            // SAFETY: cfmakeraw changes the given termios, which outlives the call.
            unsafe { libc::cfmakeraw(modes) };
            modes.c_oflag |= libc::OPOST;
        }) {
            Ok(()) => say!("raw ok"),
            Err(error) => say!("raw {}", errno(&error)),
        },
        "quiet" => match change(|modes| modes.c_lflag &= !libc::ECHO) {
            Ok(()) => say!("quiet ok"),
            Err(error) => say!("quiet {}", errno(&error)),
        },
        "hungup" => {
            if winsize(0).is_err_and(|error| error.raw_os_error() == Some(libc::EIO)) {
                std::process::exit(9);
            }
        }
        "count" => (0..words.number(0)).for_each(|number| say!("number {number}")),
        "reopen" => reopen(),
        "type-in" => type_in(words.text(0)),
        _ => return false,
    }
    true
}

/// Inserts a key into the input of the terminal on stdin (TIOCSTI).
fn type_in(keys: &str) {
    let key = keys.as_bytes().first().copied().unwrap_or_default();
    // SAFETY: the kernel reads one byte, which outlives the call.
    match unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const key) } {
        0 => say!("typed-in ok"),
        _ => say!("typed-in {}", errno(&io::Error::last_os_error())),
    }
}

/// Whether the terminal on stdin is this process's controlling terminal, and it is in the foreground group.
fn controls() {
    // SAFETY: takes an integer only.
    let session = unsafe { libc::tcgetsid(0) };
    // SAFETY: takes an integer only.
    let foreground = unsafe { libc::tcgetpgrp(0) };
    let own = (getsid(None).map_or(-1, |sid| sid.as_raw()), getpgrp().as_raw());
    say!("controls {}", (session, foreground) == own);
}

fn winsize(fd: libc::c_int) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes a winsize, which outlives the call.
    match unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) } {
        0 => Ok((size.ws_row, size.ws_col)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn change(how: impl FnOnce(&mut libc::termios)) -> io::Result<()> {
    // SAFETY: termios is plain data, for which zero is valid.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: tcgetattr writes a termios, which outlives the call.
    if unsafe { libc::tcgetattr(0, &raw mut modes) } != 0 {
        return Err(io::Error::last_os_error());
    }
    how(&mut modes);
    // SAFETY: tcsetattr reads a termios, which outlives the call.
    match unsafe { libc::tcsetattr(0, libc::TCSANOW, &raw const modes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Closes the terminal everywhere for a while, then opens it again as /dev/console.
fn reopen() {
    for fd in 0..3 {
        // SAFETY: they are this process's own, and nothing reads or writes them meanwhile.
        unsafe { libc::close(fd) };
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let again = OpenOptions::new().read(true).write(true).open("/dev/console");
    if let Ok(mut console) = again {
        // The test reads what arrived.
        _ = writeln!(console, "reopened as {}", console.as_raw_fd());
        std::mem::forget(console);
    }
}
