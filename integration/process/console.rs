//! `process.terminal` with `--console-socket`, and the process's view of its terminal.

use crate::facts::Facts;
use crate::sandbox::{Sandbox, before_exec, brig_only};
use crate::screen::{Screen, Terminal, sandbox};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;
use std::fs;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens for one master, and returns the message that came with it.
pub fn listen(path: &Path) -> impl FnOnce() -> (String, Screen) + use<> {
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
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    let master = unsafe { OwnedFd::from_raw_fd(fd) };
    (String::from_utf8(text[..length].to_vec()).unwrap(), Screen::new(master))
}

pub fn socket(sandbox: &Sandbox) -> PathBuf {
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
    // Owned by the user, with the group of the devpts mount.
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
    // Bound with a short name.
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

/// In a new user namespace, with the host's ids 100000 to 100999.
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
    let needs = "the terminal of a detached container needs --console-socket";
    sandbox.create_with(&[]).fails_with(needs);
    sandbox.run_with(&["--detach"]).fails_with(needs);
    sandbox.run_with(&["--console-socket", "/s"]).fails_with(
        "--console-socket /s: only valid with --detach: in the foreground, brig holds the terminal",
    );
    sandbox.patch(|config| config["process"]["terminal"] = json!(false));
    for args in [&["--console-socket", "/s"][..], &["--detach", "--console-socket", "/s"]] {
        sandbox.run_with(args).fails_with(
            "--console-socket /s: process.terminal is false, so there is no terminal to send",
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

/// The error of create with a ready listener.
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
    // Files of the image there are not opened.
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
    // The image's /dev, not the container's own.
    sandbox.patch(|config| drop(config["mounts"].as_array_mut().unwrap().remove(1)));
    fs::create_dir_all(sandbox.rootfs().join("dev/pts")).unwrap();
    symlink("../proc/self/attr/exec", sandbox.rootfs().join("dev/console")).unwrap();
    let error = create_fails(&sandbox);
    assert!(error.contains("mount the terminal on /dev/console: openat2"), "{error}");
    assert!(error.contains("Too many symbolic links"), "{error}");
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
