//! A terminal with brig on it, and the test as its user.

use crate::facts::Facts;
use crate::host::wait_until;
use crate::sandbox::{Sandbox, before_exec};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, read, write};
use serde_json::json;
use std::cell::RefCell;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Stdio};
use std::time::Duration;

/// The time limit of immediate reactions.
pub const SOON: Duration = Duration::from_secs(10);

/// A sandbox whose process gets a terminal.
pub fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(script).patch(|config| config["process"]["terminal"] = json!(true));
    sandbox
}

/// The master of a terminal, as seen and used by a person.
pub struct Screen {
    master: OwnedFd,
    seen: RefCell<Vec<u8>>,
}

impl Screen {
    pub fn new(master: OwnedFd) -> Screen {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Screen { master, seen: RefCell::default() }
    }

    pub fn look(&self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = read(&self.master, &mut buffer) {
            self.seen.borrow_mut().extend_from_slice(&buffer[..length]);
        }
    }

    /// Everything printed so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.look();
        self.seen.borrow().clone()
    }

    /// Everything printed so far, with the newlines of a file.
    pub fn text(&self) -> String {
        self.look();
        String::from_utf8_lossy(&self.seen.borrow()).replace("\r\n", "\n")
    }

    #[track_caller]
    pub fn expect(&self, text: &str) {
        let found = wait_until(SOON, || self.text().contains(text));
        assert!(found, "no {text:?} in {:?}", self.text());
    }

    /// The facts up to and including the line `last`.
    #[track_caller]
    pub fn facts(&self, last: &str) -> Facts {
        self.expect(&format!("{last}\n"));
        Facts::parse(&self.text())
    }

    pub fn type_in(&self, keys: &[u8]) {
        let mut left = keys;
        let typed = wait_until(SOON, || {
            self.look();
            if let Ok(length) = write(&self.master, left) {
                left = &left[length..];
            }
            left.is_empty()
        });
        assert!(typed, "{} bytes of {} are not taken", left.len(), keys.len());
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
        let done =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }
}

/// A new terminal, whose master is not inherited.
pub fn open() -> (Screen, OwnedFd) {
    let master =
        fs::File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ptmx");
    let master = OwnedFd::from(master.unwrap());
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which outlives the call.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    assert_eq!(done, 0);
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument of TIOCGPTPEER is an integer.
    let peer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    assert!(peer >= 0);
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    (Screen::new(master), unsafe { OwnedFd::from_raw_fd(peer) })
}

/// A terminal with brig on it.
pub struct Terminal {
    pub screen: Screen,
    pub peer: OwnedFd,
    pub before: Termios,
    pub brig: Child,
}

impl Terminal {
    /// Foreground `run` on a terminal of 30 rows and 90 columns, as session leader.
    pub fn run(sandbox: &Sandbox) -> Terminal {
        Terminal::with(sandbox, |stdio| stdio)
    }

    /// `redirect` changes stdin, stdout and stderr.
    pub fn with(sandbox: &Sandbox, redirect: impl FnOnce([Stdio; 3]) -> [Stdio; 3]) -> Terminal {
        let bundle = sandbox.bundle();
        let args = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        Terminal::start(sandbox.command(&args), redirect)
    }

    /// Foreground `exec --tty`.
    pub fn exec(sandbox: &Sandbox, script: &str) -> Terminal {
        let words: Vec<&str> = script.split_whitespace().collect();
        let args = [&["exec", "--tty", &sandbox.id, "/init"], &words[..]].concat();
        Terminal::start(sandbox.command(&args), |stdio| stdio)
    }

    pub fn start(
        mut command: std::process::Command,
        redirect: impl FnOnce([Stdio; 3]) -> [Stdio; 3],
    ) -> Terminal {
        let (screen, peer) = open();
        screen.resize(30, 90);
        let before = tcgetattr(&peer).unwrap();
        let stdio = || Stdio::from(peer.try_clone().unwrap());
        let [stdin, stdout, stderr] = redirect([stdio(), stdio(), stdio()]);
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        let terminal = peer.as_raw_fd();
        before_exec(&mut command, move || {
            nix::unistd::setsid()?;
            // SAFETY: takes integers only.
            match unsafe { libc::ioctl(terminal, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
        let brig = command.spawn().unwrap();
        drop(command);
        Terminal { screen, peer, before, brig }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.brig.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until brig has exited, and reads the screen meanwhile.
    #[track_caller]
    pub fn end(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        let ended = wait_until(Duration::from_secs(30), || {
            self.screen.look();
            status = self.brig.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            // If this fails, it has exited.
            _ = self.brig.kill();
            _ = self.brig.wait();
            panic!("hangs: {:?}", self.screen.text());
        }
        status.unwrap()
    }

    pub fn is_raw(&self) -> bool {
        !tcgetattr(&self.peer).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    #[track_caller]
    pub fn assert_restored(&self) {
        assert_eq!(tcgetattr(&self.peer).unwrap(), self.before);
    }
}
