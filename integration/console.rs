//! `process.terminal`: by `--console-socket`, and carried by brig in the foreground. Brig runs on a
//! terminal of the test's own then.

use crate::facts::Facts;
use crate::host::{wait_until, wait_until as eventually};
use crate::sandbox::{Sandbox, before_exec, brig_only, skip};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, read, write};
use serde_json::json;
use std::cell::RefCell;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// A sandbox whose process gets a terminal.
fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.script(script).patch(|config| config["process"]["terminal"] = json!(true));
    sandbox
}

/// The master of a terminal: what a person sees and types.
struct Screen {
    master: OwnedFd,
    seen: RefCell<Vec<u8>>,
}

impl Screen {
    fn new(master: OwnedFd) -> Screen {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        Screen { master, seen: RefCell::default() }
    }

    fn look(&self) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = read(&self.master, &mut buffer) {
            self.seen.borrow_mut().extend_from_slice(&buffer[..length]);
        }
    }

    /// All that was printed so far, with the line ends of a file.
    fn text(&self) -> String {
        self.look();
        String::from_utf8_lossy(&self.seen.borrow()).replace("\r\n", "\n")
    }

    #[track_caller]
    fn expect(&self, text: &str) {
        let found = eventually(SOON, || self.text().contains(text));
        assert!(found, "no {text:?} in {:?}", self.text());
    }

    /// The facts that were told, up to and with the line `last`.
    #[track_caller]
    fn facts(&self, last: &str) -> Facts {
        self.expect(&format!("{last}\n"));
        Facts::parse(&self.text())
    }

    fn type_in(&self, keys: &[u8]) {
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

    fn resize(&self, rows: u16, columns: u16) {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCSWINSZ reads a winsize, which outlives the call.
        let done =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }
}

/// A new terminal, which no other process inherits by accident.
fn open() -> (Screen, OwnedFd) {
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
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    (Screen::new(master), unsafe { OwnedFd::from_raw_fd(peer) })
}

/// A terminal with brig on it.
struct Terminal {
    screen: Screen,
    peer: OwnedFd,
    before: Termios,
    brig: Child,
}

impl Terminal {
    /// Foreground `run` on a terminal of 30 rows and 90 columns, as its session's leader.
    fn run(sandbox: &Sandbox) -> Terminal {
        Terminal::with(sandbox, |stdio| stdio)
    }

    /// `redirect` changes stdin, stdout and stderr.
    fn with(sandbox: &Sandbox, redirect: impl FnOnce([Stdio; 3]) -> [Stdio; 3]) -> Terminal {
        let bundle = sandbox.bundle();
        let args = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
        Terminal::start(sandbox.command(&args), redirect)
    }

    /// Foreground `exec --tty`.
    fn exec(sandbox: &Sandbox, script: &str) -> Terminal {
        let words: Vec<&str> = script.split_whitespace().collect();
        let args = [&["exec", "--tty", &sandbox.id, "/init"], &words[..]].concat();
        Terminal::start(sandbox.command(&args), |stdio| stdio)
    }

    fn start(
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

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.brig.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for brig's end, looking at the screen meanwhile.
    #[track_caller]
    fn end(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        let ended = wait_until(Duration::from_secs(30), || {
            self.screen.look();
            status = self.brig.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            // It is gone if this fails.
            _ = self.brig.kill();
            _ = self.brig.wait();
            panic!("hangs: {:?}", self.screen.text());
        }
        status.unwrap()
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.peer).unwrap().local_flags.contains(LocalFlags::ICANON)
    }

    #[track_caller]
    fn assert_restored(&self) {
        assert_eq!(tcgetattr(&self.peer).unwrap(), self.before);
    }
}

/// Listens for one master, and says what came with it.
fn listen(path: &Path) -> impl FnOnce() -> (String, Screen) + use<> {
    let listener = UnixListener::bind(path).unwrap();
    let listener = std::thread::spawn(move || receive(&listener.accept().unwrap().0));
    move || listener.join().unwrap()
}

fn receive(stream: &UnixStream) -> (String, Screen) {
    let mut text = [0; 8192];
    let (length, fd) = {
        let mut text = [IoSliceMut::new(&mut text)];
        let mut space = nix::cmsg_space!([RawFd; 4]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<()>(stream.as_raw_fd(), &mut text, Some(&mut space), flags).unwrap();
        let rights: Vec<_> = message.cmsgs().unwrap().collect();
        let [ControlMessageOwned::ScmRights(fds)] = &rights[..] else { panic!("{rights:?}") };
        assert_eq!(fds.len(), 1);
        (message.bytes, fds[0])
    };
    // SAFETY: the kernel has just made this descriptor, which nobody else owns.
    let master = unsafe { OwnedFd::from_raw_fd(fd) };
    (String::from_utf8(text[..length].to_vec()).unwrap(), Screen::new(master))
}

fn socket(sandbox: &Sandbox) -> PathBuf {
    // The sandbox's own directory has a long path.
    PathBuf::from(format!("/tmp/{}.sock", sandbox.id))
}

/// Creates the container with a console socket; its name and its master.
fn create(sandbox: &Sandbox) -> (String, Screen) {
    let path = socket(sandbox);
    let received = listen(&path);
    sandbox.create_with(&["--console-socket", path.to_str().unwrap()]).ok();
    fs::remove_file(&path).unwrap();
    received()
}

#[test]
fn the_socket_gets_the_master_and_the_ptys_name() {
    let sandbox = sandbox("line ; exit 3");
    let (name, screen) = create(&sandbox);
    if !crate::sandbox::is_peer() {
        assert_eq!(name, "/dev/pts/0");
    }
    sandbox.start();
    screen.type_in(b"hello\n");
    screen.expect("line \"hello\\n\"\n");
    sandbox.wait_for_status("stopped");
}

#[test]
fn the_terminal_is_the_processes_own() {
    let sandbox = sandbox(
        "controls ; fds ; stat /dev/pts/0 ; stat /dev/console ; mounts ; winsize ; open /dev/tty rw ; say done ; sleep 60",
    );
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 7, "gid": 8});
        config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    });
    let (_, screen) = create(&sandbox);
    sandbox.start();
    let facts = screen.facts("done");
    assert_eq!(facts.get("controls"), "true");
    assert_eq!(facts.all("fd"), ["0 /dev/pts/0", "1 /dev/pts/0", "2 /dev/pts/0"]);
    // The user's, and of the group that devpts is mounted with.
    assert_eq!(facts.get("stat /dev/pts/0"), "char 0620 7 5 136:0 0");
    assert_eq!(facts.get("stat /dev/console"), "char 0620 7 5 136:0 0");
    assert_eq!(facts.mount("/dev/console").fstype, "devpts");
    assert_eq!(facts.get("winsize"), "33 99");
    assert_eq!(facts.get("open /dev/tty"), "ok");
}

#[test]
fn the_path_of_the_socket_can_be_longer_than_an_address() {
    let sandbox = sandbox("say here ; sleep 60");
    let mut dir = sandbox.dir.clone();
    (0..3).for_each(|_| dir.push("d".repeat(80)));
    fs::create_dir_all(&dir).unwrap();
    // Bound under a short name.
    let short = format!("/tmp/{}.dir", sandbox.id);
    symlink(&dir, &short).unwrap();
    let received = listen(&Path::new(&short).join("s"));
    fs::remove_file(&short).unwrap();
    sandbox.create_with(&["--console-socket", dir.join("s").to_str().unwrap()]).ok();
    let (_, screen) = received();
    sandbox.start();
    screen.expect("here\n");
}

#[test]
fn a_detached_run_can_have_a_terminal() {
    let sandbox = sandbox("say here ; sleep 60");
    let path = socket(&sandbox);
    let received = listen(&path);
    let done = sandbox.run_with(&["--detach", "--console-socket", path.to_str().unwrap()]).ok();
    fs::remove_file(&path).unwrap();
    received().1.expect("here\n");
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
}

#[test]
fn a_read_only_root_has_its_console_too() {
    let sandbox = sandbox("stat /dev/console ; say done ; sleep 60");
    sandbox.patch(|config| {
        config["root"]["readonly"] = json!(true);
        config["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
    });
    let (_, screen) = create(&sandbox);
    sandbox.start();
    assert_eq!(screen.facts("done").word("stat /dev/console", 4), "136:0");
}

#[test]
fn a_terminal_is_the_same_on_an_old_kernel() {
    brig_only!();
    let sandbox = sandbox("mounts ; winsize ; stat /dev/console ; exit 2");
    let mut usual = None;
    for calls in [
        &[][..],
        &[libc::SYS_openat2],
        &[libc::SYS_open_tree],
        &[libc::SYS_openat2, libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr],
    ] {
        let bundle = sandbox.bundle();
        let mut command =
            sandbox.command(&["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
        for &call in calls {
            before_exec(&mut command, move || crate::tracer::without_syscall(call));
        }
        let done = sandbox.spawn(command).wait();
        assert_eq!(done.code, Some(2), "{done:?}");
        let facts = Facts::parse(&done.stdout);
        let console = facts.mount("/dev/console");
        let seen = (console.fstype, console.options, facts.get("stat /dev/console").to_string());
        assert_eq!(*usual.get_or_insert_with(|| seen.clone()), seen, "without {calls:?}");
    }
}

/// In a user namespace of its own, ids 100000 to 100999 of the host.
#[test]
fn a_terminal_belongs_to_a_user_of_the_user_namespace() {
    let sandbox = sandbox("controls ; stat /dev/console ; open /dev/tty rw ; exit 2");
    let owned = |path: PathBuf| std::os::unix::fs::chown(path, Some(100_000), Some(100_000));
    for dir in ["", "dev", "proc", "sys", "tmp"] {
        owned(sandbox.rootfs().join(dir)).unwrap();
    }
    sandbox.patch(|config| {
        config["process"]["user"] = json!({"uid": 7, "gid": 8});
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
    });
    let mut terminal = Terminal::run(&sandbox);
    assert_eq!(terminal.end().code(), Some(2));
    let facts = Facts::parse(&terminal.screen.text());
    assert_eq!(facts.get("controls"), "true");
    assert_eq!(facts.get("stat /dev/console"), "char 0620 7 5 136:0 0");
    assert_eq!(facts.get("open /dev/tty"), "ok");
    terminal.assert_restored();
}

#[test]
fn a_terminal_whose_master_is_gone_ends_its_process() {
    let sandbox = sandbox("line ; line");
    sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let (_, screen) = create(&sandbox);
    sandbox.start();
    drop(screen);
    sandbox.wait_for_status("stopped");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    brig_only!();
    let sandbox = sandbox("true");
    let needs = "a terminal of a detached container needs --console-socket";
    sandbox.create_with(&[]).fails_with(needs);
    sandbox.run_with(&["--detach"]).fails_with(needs);
    sandbox.run_with(&["--console-socket", "/s"]).fails_with(
        "--console-socket /s: is for detached containers: in the foreground, brig has the terminal",
    );
    sandbox.patch(|config| config["process"]["terminal"] = json!(false));
    for args in [&["--console-socket", "/s"][..], &["--detach", "--console-socket", "/s"]] {
        sandbox.run_with(args).fails_with(
            "--console-socket /s: process.terminal is false, so there is nothing to send",
        );
    }
    sandbox.assert_nothing_left();
}

#[test]
fn a_listener_that_does_not_accept_is_not_waited_for_for_ever() {
    brig_only!();
    let sandbox = sandbox("true");
    let path = socket(&sandbox);
    let listener = UnixListener::bind(&path).unwrap();
    // SAFETY: takes integers only.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let _only = UnixStream::connect(&path).unwrap();
    sandbox
        .create_with(&["--console-socket", path.to_str().unwrap()])
        .fails_with(&format!("{}: connect: not accepted within 10 s", path.display()));
    fs::remove_file(&path).unwrap();
    sandbox.assert_nothing_left();
}

/// What create says with a listener that is ready.
fn create_fails(sandbox: &Sandbox) -> String {
    let path = socket(sandbox);
    let listener = UnixListener::bind(&path).unwrap();
    let done = sandbox.create_with(&["--console-socket", path.to_str().unwrap()]);
    fs::remove_file(&path).unwrap();
    drop(listener);
    let error = done.fails();
    sandbox.assert_nothing_left();
    error
}

#[test]
fn a_container_without_devpts_cannot_have_a_terminal() {
    brig_only!();
    let sandbox = sandbox("true");
    sandbox.patch(|config| drop(config["mounts"].as_array_mut().unwrap().remove(2)));
    let error = create_fails(&sandbox);
    assert!(error.contains("process.terminal"), "{error}");
    assert!(error.contains("/dev/pts/ptmx: openat2"), "{error}");
    // Whatever an image has there is not opened.
    sandbox.patch(|config| {
        drop(config["mounts"].as_array_mut().unwrap().remove(1));
    });
    fs::create_dir(sandbox.rootfs().join("dev/pts")).unwrap();
    nix::unistd::mkfifo(&sandbox.rootfs().join("dev/pts/ptmx"), nix::sys::stat::Mode::S_IRWXU)
        .unwrap();
    let error = create_fails(&sandbox);
    assert!(error.contains("a terminal needs a mount of type devpts on /dev/pts"), "{error}");
}

#[test]
fn a_link_at_dev_console_does_not_choose_what_is_hidden() {
    brig_only!();
    let sandbox = sandbox("true");
    // The image's /dev, not one of the container's own.
    sandbox.patch(|config| drop(config["mounts"].as_array_mut().unwrap().remove(1)));
    fs::create_dir_all(sandbox.rootfs().join("dev/pts")).unwrap();
    symlink("../proc/self/attr/exec", sandbox.rootfs().join("dev/console")).unwrap();
    let error = create_fails(&sandbox);
    assert!(error.contains("mount the terminal on /dev/console: openat2"), "{error}");
    assert!(error.contains("ELOOP"), "{error}");
}

#[test]
fn run_has_its_terminal_carried_by_brig() {
    let sandbox = sandbox("controls ; winsize ; line ; exit 3");
    let mut terminal = Terminal::run(&sandbox);
    let facts = terminal.screen.facts("winsize 30 90");
    assert_eq!(facts.get("controls"), "true");
    assert!(terminal.is_raw());
    // Enter is a carriage return, echoed by the container's terminal.
    terminal.screen.type_in(b"typed\r");
    terminal.screen.expect("typed\nline \"typed\\n\"\n");
    assert_eq!(terminal.end().code(), Some(3));
    terminal.assert_restored();
    sandbox.assert_nothing_left();
}

#[test]
fn the_size_of_the_config_comes_before_that_of_brigs_terminal() {
    brig_only!();
    let sandbox = sandbox("winsize ; sigloop 1 ; winsize");
    sandbox.patch(|config| {
        config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    });
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("winsize 33 99\nready\n");
    terminal.screen.resize(40, 120);
    terminal.screen.expect("signal SIGWINCH\nwinsize 40 120\n");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn control_c_reaches_the_process_as_a_key_of_its_terminal() {
    let sandbox = sandbox("say ready ; sleep 60");
    sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("ready\n");
    terminal.screen.type_in(b"\x03");
    assert_eq!(terminal.end().code(), Some(128 + 2));
    terminal.assert_restored();
    sandbox.assert_nothing_left();
}

#[test]
fn every_key_is_carried_as_it_is() {
    let sandbox = sandbox(&format!("raw ; {}", "key ; ".repeat(6)));
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("raw ok\n");
    terminal.screen.type_in(b"\x1a\x04\x00\xff\r\x11");
    terminal.screen.expect("key 0x1a\nkey 0x04\nkey 0x00\nkey 0xff\nkey 0x0d\nkey 0x11\n");
    assert_eq!(terminal.end().code(), Some(0));
}

#[test]
fn signals_are_forwarded_and_the_terminal_is_restored() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let sandbox = sandbox("sigloop 1 ; exit 4");
        let mut terminal = Terminal::run(&sandbox);
        terminal.screen.expect("ready\n");
        terminal.signal(signal);
        terminal.screen.expect(&format!("signal {signal}\n"));
        assert_eq!(terminal.end().code(), Some(4));
        terminal.assert_restored();
        sandbox.assert_nothing_left();
    }
}

#[test]
fn a_brig_that_crashes_restores_its_terminal() {
    brig_only!();
    use std::os::unix::process::ExitStatusExt;
    for signal in [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGTRAP] {
        let sandbox = sandbox("say ready ; sleep 60");
        let mut terminal = Terminal::run(&sandbox);
        terminal.screen.expect("ready\n");
        assert!(terminal.is_raw());
        terminal.signal(signal);
        assert_eq!(terminal.end().signal(), Some(signal as i32));
        terminal.assert_restored();
    }
}

#[test]
fn a_run_that_fails_restores_its_terminal() {
    let sandbox = sandbox("true");
    sandbox.add_file("bin/broken", "#!/no/such/interpreter\n");
    crate::run::make_executable(&sandbox, "bin/broken");
    sandbox.args(&["/bin/broken"]);
    let mut terminal = Terminal::run(&sandbox);
    assert_eq!(terminal.end().code(), Some(1));
    assert!(terminal.screen.text().contains("no such file or directory"));
    terminal.assert_restored();
    sandbox.assert_nothing_left();
}

#[test]
fn a_stopped_brig_takes_its_terminal_back_when_it_goes_on() {
    brig_only!();
    let sandbox = sandbox("line");
    let mut terminal = Terminal::run(&sandbox);
    assert!(eventually(SOON, || terminal.is_raw()));
    terminal.signal(Signal::SIGSTOP);
    // As the shell does it, with another size meanwhile.
    tcsetattr(&terminal.peer, SetArg::TCSANOW, &terminal.before).unwrap();
    terminal.signal(Signal::SIGCONT);
    assert!(eventually(SOON, || terminal.is_raw()));
    terminal.screen.type_in(b"x\r");
    assert_eq!(terminal.end().code(), Some(0));
    terminal.assert_restored();
}

#[test]
fn a_hundred_thousand_lines_arrive_complete_and_in_order() {
    let sandbox = sandbox("count 100000");
    let mut terminal = Terminal::run(&sandbox);
    assert_eq!(terminal.end().code(), Some(0));
    let text = terminal.screen.text();
    let wanted: String = (0..100_000).map(|number| format!("number {number}\n")).collect();
    assert!(text == wanted, "{} bytes instead of {}", text.len(), wanted.len());
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let lines = 500;
    let sandbox = sandbox(&format!("quiet ; sleep 0.5 ; {}", "line ; ".repeat(lines)));
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("quiet ok\n");
    let line = "x".repeat(99);
    terminal.screen.type_in(format!("{line}\r").repeat(lines).as_bytes());
    assert_eq!(terminal.end().code(), Some(0));
    let text = terminal.screen.text();
    assert_eq!(text.matches(&format!("line \"{line}\\n\"\n")).count(), lines, "{text}");
}

#[test]
fn a_terminal_that_nobody_has_open_can_be_opened_again() {
    brig_only!();
    let sandbox = sandbox("say closing ; reopen ; exit 5");
    let mut terminal = Terminal::run(&sandbox);
    assert_eq!(terminal.end().code(), Some(5));
    assert!(terminal.screen.text().contains("closing\nreopened as 0\n"));
}

#[test]
fn brigs_terminal_going_away_is_the_containers_going_away() {
    brig_only!();
    let sandbox = sandbox("line ; line ; hungup ; exit 1");
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.type_in(b"one\r");
    terminal.screen.expect("line \"one\\n\"\n");
    (terminal.screen, terminal.peer) = open();
    assert_eq!(terminal.end().code(), Some(9));
    sandbox.assert_nothing_left();
}

#[test]
fn without_a_terminal_of_its_own_brig_carries_files_and_pipes() {
    brig_only!();
    let sandbox = sandbox("line ; line ; line ; exit 6");
    // From /dev/null, into a file.
    let done = sandbox.run();
    assert_eq!((done.code, done.stdout.as_str()), (Some(6), "line EOF\r\n".repeat(3).as_str()));
    let input = sandbox.dir.join("input");
    for (text, lines) in
        [("a\nb\n", ["\"a\\n\"", "\"b\\n\"", "EOF"]), ("a", ["\"a\"", "EOF", "EOF"])]
    {
        fs::write(&input, text).unwrap();
        let file = || fs::File::open(&input).unwrap();
        let mut terminal = Terminal::with(&sandbox, |[_, out, err]| [file().into(), out, err]);
        assert_eq!(terminal.end().code(), Some(6));
        let facts = Facts::parse(&terminal.screen.text());
        let told: Vec<_> = facts.0.iter().filter_map(|line| line.split_once("line ")).collect();
        let told: Vec<_> = told.into_iter().map(|(_, value)| value).collect();
        assert_eq!(told, lines, "{facts}");
        terminal.assert_restored();
    }
}

#[test]
fn a_reader_of_stdout_that_goes_away_is_a_terminal_that_goes_away() {
    brig_only!();
    let sandbox = sandbox("count 1000000 ; exit 7");
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    let mut terminal = Terminal::with(&sandbox, |[stdin, _, err]| [stdin, theirs.into(), err]);
    let mut first = [0; 9];
    read(&ours, &mut first).unwrap();
    assert_eq!(&first, b"number 0\r");
    drop(ours);
    assert_eq!(terminal.end().code(), Some(7));
    terminal.assert_restored();
    assert_eq!(terminal.screen.text(), "");
    sandbox.assert_nothing_left();
}

#[test]
fn a_full_disk_below_stdout_is_told() {
    brig_only!();
    let sandbox = sandbox("count 10 ; exit 8");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut terminal = Terminal::with(&sandbox, |[stdin, _, err]| [stdin, full.into(), err]);
    assert_eq!(terminal.end().code(), Some(8));
    let text = terminal.screen.text();
    assert!(text.contains("brig: warning: stdout: ENOSPC"), "{text}");
    sandbox.assert_nothing_left();
}

#[test]
fn a_screen_that_takes_nothing_does_not_keep_brig_from_ending() {
    brig_only!();
    let sandbox = sandbox("count 100000");
    sandbox.patch(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let mut terminal = Terminal::run(&sandbox);
    assert!(eventually(SOON, || terminal.is_raw()));
    std::thread::sleep(Duration::from_millis(300));
    // Both: the first for the process, the second for a brig that waits for the screen.
    terminal.signal(Signal::SIGTERM);
    let mut status = None;
    let ended = wait_until(SOON, || {
        if status.is_none() {
            std::thread::sleep(Duration::from_millis(100));
            terminal.signal(Signal::SIGTERM);
            status = terminal.brig.try_wait().unwrap();
        }
        status.is_some()
    });
    assert!(ended, "hangs");
    assert_eq!(status.unwrap().code(), Some(128 + 15));
    terminal.assert_restored();
}

#[test]
fn a_shell_has_job_control() {
    let busybox = Path::new("/usr/bin/busybox");
    let is_static = fs::read(busybox).is_ok_and(|elf| !crate::sandbox::is_dynamic(&elf));
    if !is_static {
        return skip("no busybox-static");
    }
    let sandbox = sandbox("true");
    fs::copy(busybox, sandbox.rootfs().join("bin/sh")).unwrap();
    sandbox.patch(|config| config["process"]["env"] = json!(["PS1=> ", "PATH=/bin", "TERM=dumb"]));
    sandbox.args(&["/bin/sh"]);
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("> ");
    terminal.screen.type_in(b"/init say begun ';' sleep 60\r");
    terminal.screen.expect("\nbegun\n");
    terminal.screen.type_in(b"\x1a");
    terminal.screen.expect("Stopped");
    terminal.screen.type_in(b"fg\r");
    std::thread::sleep(Duration::from_millis(200));
    terminal.screen.type_in(b"\x03");
    terminal.screen.expect("^C\n> ");
    terminal.screen.type_in(b"echo ended $?\r");
    terminal.screen.expect("ended 130\n");
    terminal.screen.type_in(b"exit 9\r");
    assert_eq!(terminal.end().code(), Some(9));
    let text = terminal.screen.text();
    assert!(!text.contains("can't access tty"), "{text}");
    terminal.assert_restored();
    sandbox.assert_nothing_left();
}

#[test]
fn exec_has_its_terminal_carried_by_brig() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let mut terminal = Terminal::exec(&sandbox, "controls ; winsize ; line ; exit 3");
    let facts = terminal.screen.facts("winsize 30 90");
    assert_eq!(facts.get("controls"), "true");
    assert!(terminal.is_raw());
    terminal.screen.type_in(b"typed\r");
    terminal.screen.expect("typed\nline \"typed\\n\"\n");
    assert_eq!(terminal.end().code(), Some(3));
    terminal.assert_restored();
}

#[test]
fn a_detached_exec_sends_its_terminal() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let path = socket(&sandbox);
    let received = listen(&path);
    let args = ["exec", "--tty", "--detach", "--console-socket", path.to_str().unwrap()];
    sandbox.brig(&[&args[..], &[&sandbox.id, "/init", "controls", ";", "fds"]].concat()).ok();
    fs::remove_file(&path).unwrap();
    let (_, screen) = received();
    let facts = screen.facts("fd 2 /dev/pts/0");
    assert_eq!(facts.get("controls"), "true");
}

#[test]
fn an_exec_that_fails_restores_its_terminal() {
    let sandbox = Sandbox::new();
    sandbox.script("sleep 60").create();
    sandbox.start();
    let args = ["exec", "--tty", &sandbox.id, "/no/such"];
    let mut terminal = Terminal::start(sandbox.command(&args), |stdio| stdio);
    assert_eq!(terminal.end().code(), Some(255));
    terminal.screen.expect("no such file or directory");
    terminal.assert_restored();
}
