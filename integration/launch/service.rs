//! What service managers and engines pass: sockets, readiness, pidfds; and hooks get none of it.

use crate::facts::Facts;
use crate::host;
use crate::sandbox::{Sandbox, before_exec, brig_only};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde_json::json;
use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::Duration;

/// The command with its own pid as `LISTEN_PID`, as called by a service manager.
fn activated(command: &Command, variables: &[(&str, &str)]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"LISTEN_PID=$$ exec "$@""#, "sh"]).arg(command.get_program());
    shell.args(command.get_args()).env_clear().current_dir(command.get_current_dir().unwrap());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.envs(variables.iter().copied());
    shell
}

/// Opens descriptors 3 to 2 + `count` in the new process; each is another file of `sandbox`.
fn with_descriptors(sandbox: &Sandbox, command: &mut Command, count: i32) {
    for number in 3..3 + count {
        let file = File::create(sandbox.dir.join(format!("handed-{number}"))).unwrap();
        // Far above the requested numbers.
        let number_from =
            nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100)).unwrap();
        before_exec(command, move || {
            // SAFETY: takes integers only.
            if unsafe { libc::dup2(number_from, number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Number and name of every descriptor above 2.
fn descriptors(facts: &Facts) -> Vec<(String, String)> {
    let pair = |line: &str| {
        let (number, path) = line.split_once(' ').unwrap();
        (number.to_string(), path.rsplit('/').next().unwrap().to_string())
    };
    let all = facts.all("fd").into_iter().map(pair);
    all.filter(|(number, _)| !["0", "1", "2"].contains(&number.as_str())).collect()
}

fn handed(numbers: &[i32]) -> Vec<(String, String)> {
    numbers.iter().map(|number| (number.to_string(), format!("handed-{number}"))).collect()
}

/// `run`, with more arguments, not started.
fn run(sandbox: &Sandbox, args: &[&str]) -> Command {
    let bundle = sandbox.bundle();
    let bundle = bundle.to_str().unwrap();
    sandbox.command(&[&["run", "--bundle", bundle], args, &[&sandbox.id]].concat())
}

#[test]
fn sockets_of_a_service_manager_come_before_those_to_preserve() {
    let sandbox = Sandbox::new();
    sandbox.script("fds ; env");
    let variables = [("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "http:https")];
    let mut command = activated(&run(&sandbox, &["--preserve-fds", "1"]), &variables);
    with_descriptors(&sandbox, &mut command, 5);
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(descriptors(&facts), handed(&[3, 4, 5]), "{facts}");
    let env = facts.all("env");
    assert!(env.contains(&"LISTEN_PID=1") && env.contains(&"LISTEN_FDS=2"), "{facts}");
    assert!(crate::sandbox::is_peer() || env.contains(&"LISTEN_FDNAMES=http:https"), "{facts}");
}

#[test]
fn sockets_for_another_process_are_not_passed_on() {
    for variables in [[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")], [("LISTEN_FDS", "1"), ("X", "")]]
    {
        let sandbox = Sandbox::new();
        sandbox.script("fds ; env");
        let mut command = run(&sandbox, &[]);
        command.envs(variables);
        with_descriptors(&sandbox, &mut command, 1);
        let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
        assert!(descriptors(&facts).is_empty(), "{facts}");
        assert!(
            !facts.all("env").iter().any(|variable| variable.starts_with("LISTEN_")),
            "{facts}"
        );
    }
}

#[test]
fn without_a_pid_namespace_the_variable_names_the_real_pid() {
    brig_only!();
    let sandbox = Sandbox::minimal();
    sandbox.patch(|config| config["linux"]["namespaces"] = json!([{"type": "mount"}]));
    sandbox.script("pid ; env");
    let mut command = activated(&run(&sandbox, &[]), &[("LISTEN_FDS", "1")]);
    with_descriptors(&sandbox, &mut command, 1);
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    let variable = format!("LISTEN_PID={}", facts.word("pid", 0));
    assert!(facts.all("env").contains(&variable.as_str()), "{facts}");
}

#[test]
fn sockets_that_are_not_open_are_an_error() {
    brig_only!();
    for (count, text) in [("3", "LISTEN_FDS=3: descriptor 5 is not open"), ("x", "LISTEN_FDS=x")] {
        let sandbox = Sandbox::new();
        let mut command = activated(&run(&sandbox, &[]), &[("LISTEN_FDS", count)]);
        with_descriptors(&sandbox, &mut command, 2);
        sandbox.spawn(command).wait().fails_with(text);
        sandbox.assert_nothing_left();
    }
}

#[test]
fn hooks_inherit_no_descriptor() {
    brig_only!();
    let sandbox = Sandbox::new();
    let told = sandbox.dir.join("told");
    let script = format!("ls /proc/self/fd > {}", told.display());
    let tell = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    sandbox.patch(|config| config["hooks"] = json!({"createRuntime": tell}));
    sandbox.script("fds");
    let mut command = activated(&run(&sandbox, &["--preserve-fds", "2"]), &[("LISTEN_FDS", "1")]);
    with_descriptors(&sandbox, &mut command, 6);
    let facts = Facts::parse(&sandbox.spawn(command).wait().ok().stdout);
    assert_eq!(descriptors(&facts), handed(&[3, 4, 5]), "{facts}");
    // The fourth is the directory that ls reads.
    assert_eq!(fs::read_to_string(told).unwrap(), "0\n1\n2\n3\n");
}

/// The text and descriptor sent to the socket.
pub fn receive(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().unwrap();
    let (mut text, mut space) = ([0; 64], cmsg_space!([i32; 1]));
    let mut buffers = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut buffers, Some(&mut space), flags).unwrap();
    let length = message.bytes;
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor")
    };
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    (String::from_utf8_lossy(&text[..length]).into_owned(), fd)
}

/// The process of a pidfd.
pub fn process_of(pidfd: &OwnedFd) -> i64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap();
    pid.trim().parse().unwrap()
}

#[test]
fn a_pidfd_is_sent_of_init_and_of_what_is_execd() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (listener, path) = listener(&sandbox);
    let flag = ["--pidfd-socket", path.to_str().unwrap()];
    sandbox.script("sleep 60").create_with(&flag).ok();
    let (text, pidfd) = receive(&listener);
    assert_eq!((text.as_str(), process_of(&pidfd)), ("standard", sandbox.pid()));
    sandbox.start();
    let pid_file = sandbox.dir.join("pid");
    let args = ["exec", "--detach", "--pid-file", pid_file.to_str().unwrap()];
    sandbox.brig(&[&args[..], &flag, &[&sandbox.id, "/init", "sleep", "60"]].concat()).ok();
    let (text, pidfd) = receive(&listener);
    let pid: i64 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert_eq!((text.as_str(), process_of(&pidfd)), ("setns", pid));
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.run_with(&[&flag[..], &["--detach"]].concat()).ok();
    assert_eq!(process_of(&receive(&listener).1), sandbox.pid());
    fs::remove_file(path).unwrap();
}

/// A socket whose path is short: sockaddr_un is limited to 107 bytes.
fn listener(sandbox: &Sandbox) -> (UnixListener, std::path::PathBuf) {
    let path = std::env::temp_dir().join(format!("{}.pidfd", sandbox.id));
    (UnixListener::bind(&path).unwrap(), path)
}

#[test]
fn a_pidfd_socket_that_nobody_listens_at_is_refused_before_anything_is_made() {
    brig_only!();
    let sandbox = Sandbox::new();
    for path in ["nowhere.sock", "bundle/config.json"] {
        let path = sandbox.dir.join(path);
        let path = path.to_str().unwrap();
        sandbox.create_with(&["--pidfd-socket", path]).fails_with("--pidfd-socket");
        sandbox.assert_nothing_left();
    }
    sandbox.script("sleep 60").run_with(&["--detach"]).ok();
    let before = host::processes_of(&sandbox.id).len();
    let exec = sandbox.brig(&["exec", "--pidfd-socket", "/nowhere", &sandbox.id, "/init", "true"]);
    assert_eq!(exec.code, Some(255), "{exec:?}");
    assert_eq!(host::processes_of(&sandbox.id).len(), before);
}

#[test]
fn a_create_that_cannot_send_its_pidfd_leaves_no_pid_file() {
    brig_only!();
    let sandbox = Sandbox::new();
    let (listener, path) = listener(&sandbox);
    let hanging_up = std::thread::spawn(move || drop(listener.accept()));
    let pid_file = sandbox.dir.join("pid");
    let (socket, file) = (path.to_str().unwrap(), pid_file.to_str().unwrap());
    sandbox
        .create_with(&["--pid-file", file, "--pidfd-socket", socket])
        .fails_with("--pidfd-socket");
    hanging_up.join().unwrap();
    fs::remove_file(path).unwrap();
    assert!(!pid_file.exists());
    sandbox.assert_nothing_left();
}

/// The service manager: receives messages packet by packet.
struct Manager(UnixDatagram, std::path::PathBuf);

impl Manager {
    fn new(sandbox: &Sandbox) -> Manager {
        // Short, because sockaddr_un is limited to 107 bytes.
        let path = std::env::temp_dir().join(format!("{}.notify", sandbox.id));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Manager(socket, path)
    }

    fn tell_of(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.1);
        command
    }

    #[track_caller]
    fn hears(&self, text: &str) {
        let mut packet = [0; 512];
        let length = self.0.recv(&mut packet).unwrap();
        assert_eq!(String::from_utf8_lossy(&packet[..length]), text);
    }

    #[track_caller]
    fn hears_nothing_more(&self) {
        self.0.set_nonblocking(true).unwrap();
        assert!(self.0.recv(&mut [0; 512]).is_err());
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        fs::remove_file(&self.1).unwrap();
    }
}

#[test]
fn readiness_is_passed_on_by_run_for_as_long_as_it_runs() {
    brig_only!();
    let sandbox = Sandbox::new();
    let manager = Manager::new(&sandbox);
    let script = "env ; notify STATUS=up ; notify MAINPID=5 ; notify READY=1 ; notify WATCHDOG=1 ; \
                  list /run/notify ; write /run/notify/x y";
    sandbox.patch(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    sandbox.script(script);
    let running = sandbox.spawn(manager.tell_of(run(&sandbox, &[])));
    let brig = running.child.id();
    let facts = Facts::parse(&running.wait().ok().stdout);
    manager.hears("STATUS=up\n");
    manager.hears(&format!("READY=1\nMAINPID={brig}\n"));
    manager.hears("WATCHDOG=1\n");
    manager.hears_nothing_more();
    assert!(facts.all("env").contains(&"NOTIFY_SOCKET=/run/notify/notify.sock"), "{facts}");
    assert_eq!(facts.all("notify").len(), 4, "{facts}");
    assert_eq!(facts.get("write /run/notify/x"), "EROFS");
    assert_eq!(facts.get("list /run/notify"), "1");
    sandbox.assert_nothing_left();
}

#[test]
fn detached_brig_stays_until_the_container_is_ready() {
    brig_only!();
    let sandbox = Sandbox::new();
    let manager = Manager::new(&sandbox);
    sandbox.script("sleep 0.3 ; notify READY=1 ; sleep 60");
    sandbox.spawn(manager.tell_of(run(&sandbox, &["--detach"]))).wait().ok();
    manager.hears(&format!("READY=1\nMAINPID={}\n", sandbox.pid()));
    // Nothing listens any more, and nothing blocks.
    let own = ["exec", "--env", "NOTIFY_SOCKET=/run/notify/notify.sock", &sandbox.id];
    let said = sandbox.brig(&[&own[..], &["/init", "notify", "STATUS=alone"]].concat()).ok().stdout;
    assert_eq!(said, "notify STATUS=alone ECONNREFUSED\n");
    manager.hears_nothing_more();
}

#[test]
fn create_makes_the_place_and_start_passes_readiness_on() {
    brig_only!();
    let sandbox = Sandbox::new();
    let manager = Manager::new(&sandbox);
    sandbox.script("sleep 0.3 ; notify READY=1 ; sleep 60");
    let bundle = sandbox.bundle();
    let create = sandbox.command(&["create", "--bundle", bundle.to_str().unwrap(), &sandbox.id]);
    sandbox.spawn(manager.tell_of(create)).wait().ok();
    let start = sandbox.spawn(manager.tell_of(sandbox.command(&["start", &sandbox.id])));
    // While it waits, it does not block other commands.
    sandbox.wait_for_status("running");
    start.wait().ok();
    manager.hears(&format!("READY=1\nMAINPID={}\n", sandbox.pid()));
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}

#[test]
fn a_container_that_dies_unready_keeps_nobody_waiting() {
    brig_only!();
    let sandbox = Sandbox::new();
    let manager = Manager::new(&sandbox);
    sandbox.script("notify STATUS=failing ; exit 3");
    sandbox.spawn(manager.tell_of(run(&sandbox, &["--detach"]))).wait().ok();
    manager.hears("STATUS=failing\n");
    manager.hears_nothing_more();
    assert_eq!(sandbox.status(), "stopped");
}

#[test]
fn without_a_mount_namespace_there_is_a_warning() {
    brig_only!();
    let sandbox = Sandbox::minimal();
    sandbox.patch(|config| {
        config["linux"]["namespaces"] = json!([{"type": "pid"}]);
        config["mounts"] = json!([]);
    });
    let manager = Manager::new(&sandbox);
    sandbox.script("env");
    let done = sandbox.spawn(manager.tell_of(run(&sandbox, &[]))).wait().ok();
    assert!(done.stderr.contains("NOTIFY_SOCKET is not passed on"), "{done:?}");
    assert!(!done.stdout.contains("NOTIFY_SOCKET"), "{done:?}");
    let mut command = run(&sandbox, &[]);
    command.env("NOTIFY_SOCKET", "vsock:2:1234");
    sandbox.spawn(command).wait().fails_with("NOTIFY_SOCKET=vsock:2:1234");
}
