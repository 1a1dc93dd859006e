//! Containers with terminals and preserved descriptors.

use super::with::{Piped, brig, checkpoint, command, criu_only, end_of, images, with_third};
use crate::process::console::{listen, socket};
use crate::sandbox::{Sandbox, wait_for_line};
use crate::screen::{Screen, Terminal, sandbox};
use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};

/// Starts it with a command that gets a console socket.
fn with_socket(sandbox: &Sandbox, args: &[&str]) -> (String, Screen) {
    let path = socket(sandbox);
    let received = listen(&path);
    let bundle = sandbox.bundle();
    let common =
        ["-d", "--console-socket", path.to_str().unwrap(), "--bundle", bundle.to_str().unwrap()];
    brig(sandbox, &[args, &common, &[&sandbox.id]].concat()).ok();
    fs::remove_file(&path).unwrap();
    received()
}

#[test]
fn a_restored_terminal_goes_to_the_console_socket() {
    criu_only!();
    let sandbox = sandbox("say ready ; line ; winsize ; sleep 60");
    let (_, screen) = with_socket(&sandbox, &["run"]);
    screen.expect("ready\n");
    checkpoint(&sandbox, &[]).ok();
    drop(screen);
    let images = images(&sandbox);
    let (name, screen) = with_socket(&sandbox, &["restore", "--image-path", &images]);
    assert!(name.starts_with("/dev/pts/"), "{name}");
    screen.type_in(b"typed\r");
    screen.expect("line \"typed\\n\"\n");
}

#[test]
fn a_restored_terminal_is_carried_in_the_foreground() {
    criu_only!();
    let sandbox = sandbox("say ready ; line ; exit 3");
    let (_, screen) = with_socket(&sandbox, &["run"]);
    screen.expect("ready\n");
    checkpoint(&sandbox, &[]).ok();
    drop(screen);
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    let mut terminal = Terminal::start(command(&sandbox, &args), |stdio| stdio);
    let raw = crate::host::wait_until(crate::screen::SOON, || terminal.is_raw());
    assert!(raw, "{:?}", terminal.screen.text());
    terminal.screen.type_in(b"typed\r");
    assert_eq!(terminal.end().code(), Some(3), "{:?}", terminal.screen.text());
    assert!(terminal.screen.text().contains("line \"typed\\n\"\n"), "{:?}", terminal.screen.text());
    terminal.assert_restored();
    sandbox.assert_nothing_left();
}

#[test]
fn a_detached_terminal_needs_a_console_socket() {
    criu_only!();
    let sandbox = sandbox("say ready ; sleep 60");
    let (_, screen) = with_socket(&sandbox, &["run"]);
    screen.expect("ready\n");
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
    brig(&sandbox, &args).fails_with("needs --console-socket");
    sandbox.assert_nothing_left();
}

/// Runs it with `--preserve-fds 1` and this descriptor.
fn keeping(sandbox: &Sandbox, args: &[&str], fd: RawFd) -> Piped {
    let bundle = sandbox.bundle();
    let more = ["-d", "--preserve-fds", "1", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let mut command = command(sandbox, &[args, &more].concat());
    with_third(&mut command, fd);
    let (mut piped, child) = Piped::start(command);
    if !end_of(child).success() {
        piped.wait_for("never");
    }
    piped
}

#[test]
fn a_pipe_that_was_preserved_is_replaced_by_restores() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 1 ; read /proc/self/fd/3 ; sleep 60");
    let (first, _writer) = std::io::pipe().unwrap();
    keeping(&sandbox, &["run"], first.as_raw_fd()).wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    let (second, mut writer) = std::io::pipe().unwrap();
    let images = images(&sandbox);
    let mut piped = keeping(&sandbox, &["restore", "--image-path", &images], second.as_raw_fd());
    writer.write_all(b"through").unwrap();
    drop(writer);
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    piped.wait_for("read /proc/self/fd/3 \"through\"\n");
}

#[test]
fn a_file_of_the_host_that_was_preserved_is_the_same_file_again() {
    criu_only!();
    let sandbox = Sandbox::new();
    sandbox.script("sigloop 1 ; append /proc/self/fd/3 after ; sleep 60");
    let path = sandbox.dir.join("kept");
    let file = fs::File::options().append(true).create(true).open(&path).unwrap();
    keeping(&sandbox, &["run"], file.as_raw_fd()).wait_for("ready\n");
    checkpoint(&sandbox, &[]).ok();
    let images = images(&sandbox);
    keeping(&sandbox, &["restore", "--image-path", &images], file.as_raw_fd());
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    wait_for_line(&path, "after");
}
