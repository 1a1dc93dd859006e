//! `process.terminal` in the foreground: brig forwards input and output.

use crate::facts::Facts;
use crate::host::{self, wait_until};
use crate::sandbox::{Sandbox, brig_only, copy_program, skip};
use crate::screen::{SOON, Terminal, open, sandbox};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::termios::{SetArg, tcsetattr};
use nix::unistd::{Pid, read};
use serde_json::json;
use std::fs;
use std::path::Path;

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

/// Scripts read the output of `run` and `exec --tty` through pipes.
#[test]
fn what_is_printed_into_a_pipe_has_newlines_without_carriage_returns() {
    let sandbox = sandbox("say first ; say second ; sleep 60");
    let bundle = sandbox.bundle();
    let run = ["run", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let exec = ["exec", "--tty", &sandbox.id, "/init", "say", "first", ";", "say", "second"];
    let mut terminals = Vec::new();
    for (name, args) in [("run", &run[..]), ("exec", &exec[..])] {
        let file = sandbox.dir.join(name);
        let out = fs::File::create(&file).unwrap();
        let redirect = |[stdin, _, stderr]: [_; 3]| [stdin, out.into(), stderr];
        terminals.push(Terminal::start(sandbox.command(args), redirect));
        let text = || fs::read_to_string(&file).unwrap();
        let printed = wait_until(SOON, || text() == "first\nsecond\n");
        assert!(printed, "{name}: {:?}", text());
    }
    assert_eq!(terminals.pop().unwrap().end().code(), Some(0));
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    terminals.pop().unwrap().end();
}

/// brig's own terminal translates their output, and continues to do so.
#[test]
fn brigs_own_terminal_still_translates_newlines_while_it_is_raw() {
    let sandbox = sandbox("say first ; sleep 60");
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("first\n");
    let modes = nix::sys::termios::tcgetattr(&terminal.peer).unwrap();
    assert!(terminal.is_raw());
    assert!(modes.output_flags.contains(nix::sys::termios::OutputFlags::OPOST), "{modes:?}");
    assert!(terminal.screen.bytes().starts_with(b"first\r\n"), "{:?}", terminal.screen.bytes());
    sandbox.brig(&["kill", &sandbox.id, "KILL"]).ok();
    terminal.end();
    terminal.assert_restored();
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
    assert!(wait_until(SOON, || terminal.is_raw()));
    terminal.signal(Signal::SIGSTOP);
    // Like a shell, with another size in the meantime.
    tcsetattr(&terminal.peer, SetArg::TCSANOW, &terminal.before).unwrap();
    terminal.signal(Signal::SIGCONT);
    assert!(wait_until(SOON, || terminal.is_raw()));
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
    // From /dev/null, to a file.
    let done = sandbox.run();
    assert_eq!((done.code, done.stdout.as_str()), (Some(6), "line EOF\n".repeat(3).as_str()));
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
    assert_eq!(&first, b"number 0\n");
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
    assert!(text.contains("brig: warning: write to stdout: No space left on device"), "{text}");
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
    assert!(wait_until(SOON, || terminal.is_raw()));
    // The screen accepts no more output: both wait for it.
    host::wait_until_asleep(sandbox.pid());
    host::wait_until_asleep(terminal.brig.id().into());
    // Both signals: the first for the process, the second for a brig that waits for the screen.
    terminal.signal(Signal::SIGTERM);
    let mut status = None;
    let ended = wait_until(SOON, || {
        if status.is_none() {
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
    copy_program(busybox, &sandbox.rootfs().join("bin/sh"));
    sandbox.patch(|config| config["process"]["env"] = json!(["PS1=> ", "PATH=/bin", "TERM=dumb"]));
    sandbox.args(&["/bin/sh"]);
    let mut terminal = Terminal::run(&sandbox);
    terminal.screen.expect("> ");
    terminal.screen.type_in(b"/init say begun ';' sleep 60\r");
    terminal.screen.expect("\nbegun\n");
    terminal.screen.type_in(b"\x1a");
    terminal.screen.expect("Stopped");
    let state = |pid: &Pid| host::status_of(pid.as_raw().into(), "State").unwrap_or_default();
    let processes = host::processes_of(&sandbox.id);
    let job = *processes.iter().find(|&pid| state(pid).starts_with('T')).expect("nothing stopped");
    terminal.screen.type_in(b"fg\r");
    assert!(wait_until(SOON, || state(&job).starts_with('S')), "{}", state(&job));
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

/// CVE-2016-10124: input inserted into the caller's terminal (TIOCSTI) becomes the caller's next command. The
/// kernel permits that only for a process's own controlling terminal.
#[test]
fn cve_2016_10124_the_callers_terminal_is_not_the_containers() {
    let sandbox = Sandbox::new();
    let own = |mut terminal: Terminal| {
        let facts = terminal.screen.facts("typed-in EPERM");
        assert_eq!(facts.get("controls"), "false");
        assert_eq!(terminal.end().code(), Some(0));
        assert!(!terminal.screen.text().contains('#'));
    };
    sandbox.script("controls ; type-in #");
    own(Terminal::run(&sandbox));
    sandbox.script("sleep 60").create();
    sandbox.start();
    let args = ["exec", &sandbox.id, "/init", "controls", ";", "type-in", "#"];
    own(Terminal::start(sandbox.command(&args), |stdio| stdio));
}
