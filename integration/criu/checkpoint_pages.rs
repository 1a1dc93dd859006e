//! Memory through a page server, and labels of security modules.

use super::with::{
    Piped, answers, brig, checkpoint, command, criu, criu_only, end_of, images, restored, running,
};
use crate::host;
use crate::sandbox::{Sandbox, before_exec, skip};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// CRIU as a page server; killed with the test.
struct Server(Child);

impl Server {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Server {
        let mut command = Command::new(criu().as_ref().unwrap().join("criu"));
        command.args(args).current_dir(&sandbox.dir).env("BRIG_TEST", &sandbox.id);
        let log = fs::File::create(sandbox.dir.join("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Server(command.spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If this fails, it has exited.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A port that was free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a process listens on it.
fn is_listened_on(port: u16) -> bool {
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    text.lines().any(|line| line.contains(&format!(":{port:04X} 00000000:0000 0A")))
}

#[test]
fn memory_goes_to_a_page_server() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    let (images, port) = (images(&sandbox), free_port().to_string());
    fs::create_dir(&images).unwrap();
    let args = ["page-server", "-D", &images, "--address", "127.0.0.1", "--port", &port];
    let _server = Server::start(&sandbox, &args);
    let ready = || is_listened_on(port.parse().unwrap());
    assert!(host::wait_until(Duration::from_secs(20), ready));
    checkpoint(&sandbox, &["--page-server", &format!("127.0.0.1:{port}")]).ok();
    // The server may still be writing its files, in this directory or elsewhere.
    let record = fs::read(Path::new(&images).join("brig.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let sizes = record["sizes"].as_object().unwrap();
    assert!(sizes.contains_key("core-1.img"), "{record}");
    assert!(!sizes.keys().any(|name| name.starts_with("page")), "{record}");
    let mut piped = restored(&sandbox, &[]);
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn a_page_server_that_is_not_there_has_the_container_run_on() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &["--page-server", &format!("127.0.0.1:{}", free_port())])
        .fails_with("criu: Error");
    answers(&sandbox, &sandbox.id, &mut piped);
}

/// A running `checkpoint --lazy-pages`, which serves the pages that it has not written.
fn serving(sandbox: &Sandbox, port: u16) -> (std::io::PipeReader, Child) {
    let (reader, writer) = std::io::pipe().unwrap();
    let number = writer.as_raw_fd().to_string();
    let (images, server) = (images(sandbox), format!("127.0.0.1:{port}"));
    let args = [
        "checkpoint",
        "--lazy-pages",
        "--page-server",
        &server,
        "--status-fd",
        &number,
        "--image-path",
        &images,
        &sandbox.id,
    ];
    let mut serve = command(sandbox, &args);
    let fd = writer.as_raw_fd();
    before_exec(&mut serve, move || {
        // SAFETY: takes integers only; the descriptor is open in the child as it is here.
        match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    (reader, serve.stdin(Stdio::null()).spawn().unwrap())
}

#[test]
fn memory_is_loaded_when_it_is_needed() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    let port = free_port();
    let (mut ready, serve) = serving(&sandbox, port);
    let mut byte = [1];
    ready.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [0]);
    let (images, text) = (images(&sandbox), port.to_string());
    let args =
        ["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", &text, "-D", &images];
    let _daemon = Server::start(&sandbox, &args);
    let socket = format!("{images}/lazy-pages.socket");
    let there = || fs::exists(&socket).unwrap();
    assert!(host::wait_until(Duration::from_secs(20), there));
    let clone = format!("{}-b", sandbox.id);
    let bundle = sandbox.bundle();
    let before = ["restore", "-d", "--lazy-pages", "--image-path", &images, "--bundle"];
    let (mut piped, status) =
        Piped::run(&sandbox, &[&before[..], &[bundle.to_str().unwrap(), &clone]].concat());
    let served = end_of(serve).success();
    let log = fs::read_to_string(format!("{images}/dump.log")).unwrap();
    if !served && log.contains("page-pipe: splice: -1: Bad file descriptor") {
        assert_eq!(sandbox.status(), "running");
        return skip("CRIU's own page server fails here (as with runc): splice: -1");
    }
    assert!(served && status.success(), "{log}");
    answers(&sandbox, &clone, &mut piped);
    assert_ne!(sandbox.brig(&["state", &sandbox.id]).code, Some(0), "the original is still there");
}

#[test]
fn a_status_descriptor_has_to_be_open_for_writing() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &["--status-fd", "77"]).fails_with("--status-fd 77: is not open");
    checkpoint(&sandbox, &["--status-fd", "0"])
        .fails_with("--status-fd 0: is not open for writing");
    answers(&sandbox, &sandbox.id, &mut piped);
}

#[test]
fn labels_are_criu_s_to_give() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let before = ["restore", "-d", "--image-path", &images, "--bundle", bundle];
    let args = |more: &[&'static str]| {
        brig(&sandbox, &[&before[..], more, &[sandbox.id.as_str()]].concat())
    };
    args(&["--lsm-profile", "nonsense"]).fails_with("invalid argument nonsense for --lsm-profile");
    sandbox.assert_nothing_left();
    if host::has_lsm("apparmor") || host::has_lsm("selinux") {
        return skip("a security module is in force");
    }
    args(&["--lsm-profile", "selinux:system_u:system_r:x_t:s0"]).fails_with("criu: ");
    sandbox.assert_nothing_left();
    // Without SELinux, mounts have no context to change.
    let mut piped = restored(&sandbox, &["--lsm-mount-context", "system_u:object_r:x_t:s0"]);
    answers(&sandbox, &sandbox.id, &mut piped);
}
