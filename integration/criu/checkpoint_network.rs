//! Joined namespaces, connections, network devices, and the host name.

use super::with::{
    Piped, answers, brig, checkpoint, criu_only, images, is_old, restored, restored_as, running,
};
use crate::host;
use crate::netdev::{in_own_network, ip, ip_in, seen, veth};
use crate::sandbox::{Sandbox, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

/// Replaces the namespace of this type with one to join, or adds it.
fn join(sandbox: &Sandbox, kind: &str, path: &str) {
    sandbox.patch(|config| {
        let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.retain(|namespace| namespace["type"] != kind);
        kinds.push(json!({"type": kind, "path": path}));
    });
}

#[test]
fn namespaces_that_were_joined_are_joined_again() {
    criu_only!();
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let holder = Sandbox::new();
        holder.script("sleep 100").run_with(&["--detach"]).ok();
        let path = format!("/proc/{}/ns/{name}", holder.pid());
        let sandbox = Sandbox::new();
        if kind == "uts" {
            sandbox.patch(|config| drop(config.as_object_mut().unwrap().remove("hostname")));
        }
        if kind == "ipc" {
            sandbox.patch(|config| {
                let mounts = config["mounts"].as_array_mut().unwrap();
                mounts.retain(|mount| mount["type"] != "mqueue");
            });
        }
        join(&sandbox, kind, &path);
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        let mut piped = restored(&sandbox, &[]);
        let own = format!("/proc/{}/ns/{name}", sandbox.pid());
        assert_eq!(fs::read_link(own).unwrap(), fs::read_link(&path).unwrap(), "{kind}");
        answers(&sandbox, &sandbox.id, &mut piped);
        sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
        assert_eq!(holder.status(), "running");
    }
}

/// A process that holds a namespace; killed with the test.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            // If this fails, they have exited.
            _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
        }
        _ = self.0.wait();
    }
}

#[test]
fn a_pid_namespace_that_was_joined_is_joined_again() {
    criu_only!();
    let mut holder = Command::new("unshare");
    holder.args(["-p", "-f", "sh", "-c", "while sleep 0.05; do :; done"]);
    let holder = Holder(holder.spawn().unwrap());
    let path = format!("/proc/{}/ns/pid_for_children", holder.0.id());
    let made =
        || fs::read_link(&path).is_ok_and(|it| it != fs::read_link("/proc/self/ns/pid").unwrap());
    assert!(host::wait_until(Duration::from_secs(10), made));
    let sandbox = Sandbox::new();
    join(&sandbox, "pid", &path);
    running(&sandbox);
    let inside = |sandbox: &Sandbox| host::status_of(sandbox.pid(), "NSpid").unwrap();
    let number = inside(&sandbox).split_whitespace().last().unwrap().to_string();
    let before = format!("/proc/{}", sandbox.pid());
    checkpoint(&sandbox, &[]).ok();
    // Its new parent reaps it; then the pid is free.
    assert!(host::wait_until(Duration::from_secs(20), || !fs::exists(&before).unwrap()));
    let mut piped = restored(&sandbox, &[]);
    let own = format!("/proc/{}/ns/pid", sandbox.pid());
    assert_eq!(fs::read_link(own).unwrap(), fs::read_link(&path).unwrap());
    assert_eq!(inside(&sandbox).split_whitespace().last(), Some(number.as_str()));
    answers(&sandbox, &sandbox.id, &mut piped);
    sandbox.brig(&["delete", "-f", &sandbox.id]).ok();
}

#[test]
fn what_cannot_be_joined_again_is_refused_before_it_is_frozen() {
    criu_only!();
    let holder = Sandbox::new();
    holder.script("sleep 100").run_with(&["--detach"]).ok();
    let sandbox = Sandbox::new();
    join(&sandbox, "cgroup", &format!("/proc/{}/ns/cgroup", holder.pid()));
    let mut piped = running(&sandbox);
    checkpoint(&sandbox, &[]).fails_with("CRIU cannot restore a container that joins a cgroup");
    answers(&sandbox, &sandbox.id, &mut piped);
}

/// A container that sends data to itself over lo, once for each signal.
fn talking(sandbox: &Sandbox) -> Piped {
    sandbox.script("tcp 100");
    let bundle = sandbox.bundle();
    let run = ["run", "--detach", "--bundle", bundle.to_str().unwrap(), &sandbox.id];
    let (mut piped, status) = Piped::run(sandbox, &run);
    if !status.success() {
        piped.wait_for("never");
    }
    piped.wait_for("ready\n");
    piped
}

fn expect(sandbox: &Sandbox, piped: &mut Piped, said: &str) {
    sandbox.brig(&["kill", &sandbox.id, "USR1"]).ok();
    piped.wait_for(said);
}

/// Whether it is an incompatibility of CRIU 4.1 and Linux 6.16 or later: a socket option that is then limited
/// to Unix sockets.
fn cannot_dump_tcp(said: &str) -> bool {
    let cannot = said.contains("Can't get 1:34 opt");
    if cannot {
        skip(&format!("this CRIU cannot dump TCP sockets of this kernel: {}", said.trim()));
    }
    cannot
}

#[test]
fn connections_are_kept_with_tcp_established_and_refused_without() {
    criu_only!();
    let sandbox = Sandbox::new();
    let mut piped = talking(&sandbox);
    expect(&sandbox, &mut piped, "tcp ok\n");
    let said = checkpoint(&sandbox, &[]).fails();
    if cannot_dump_tcp(&said) {
        return expect(&sandbox, &mut piped, "tcp ok\ntcp ok\n");
    }
    assert!(said.contains("tcp-established"), "{said}");
    expect(&sandbox, &mut piped, "tcp ok\ntcp ok\n");
    for lock in ["skip", "nftables", "iptables"] {
        let flags = ["--tcp-established", "--network-lock", lock];
        let done = checkpoint(&sandbox, &[&flags[..], &["--leave-running"]].concat());
        if cannot_dump_tcp(&done.stderr) {
            return;
        }
        if (lock != "skip" || done.stderr.contains("needs CRIU 3.19")) && done.code != Some(0) {
            skip(&format!("--network-lock {lock}: {}", done.stderr.trim()));
            assert_eq!(sandbox.status(), "running");
            continue;
        }
        done.ok();
        checkpoint(&sandbox, &flags).ok();
        let mut piped = restored(&sandbox, &flags);
        expect(&sandbox, &mut piped, "tcp ok\n");
    }
}

#[test]
fn connections_are_closed_with_tcp_close() {
    criu_only!();
    let sandbox = Sandbox::new();
    talking(&sandbox);
    let flags = ["--tcp-established", "--network-lock", "skip"];
    let done = checkpoint(&sandbox, if is_old() { &flags[..1] } else { &flags });
    if cannot_dump_tcp(&done.stderr) {
        return;
    }
    done.ok();
    let mut piped = restored(&sandbox, &["--tcp-close"]);
    expect(&sandbox, &mut piped, "tcp E");
}

#[test]
fn network_devices_are_given_again() {
    criu_only!();
    in_own_network(|| {
        // CRIU uses it to test the kernel's features.
        ip("link set lo up");
        veth("left");
        ip("addr add 10.7.0.1/24 dev left");
        let sandbox = Sandbox::new();
        sandbox.patch(|config| config["linux"]["netDevices"] = json!({"left": {"name": "eth0"}}));
        running(&sandbox);
        checkpoint(&sandbox, &[]).ok();
        // The device was removed with its namespace.
        let gone = || !crate::netdev::is_here("left-peer");
        assert!(host::wait_until(Duration::from_secs(20), gone));
        let (images, bundle) = (images(&sandbox), sandbox.bundle());
        let bundle = bundle.to_str().unwrap();
        let args = ["restore", "-d", "--image-path", &images, "--bundle", bundle, &sandbox.id];
        brig(&sandbox, &args).fails_with("linux.netDevices[\"left\"]");
        sandbox.assert_nothing_left();
        veth("left");
        ip("addr add 10.7.0.2/24 dev left");
        let mut piped = restored(&sandbox, &[]);
        assert_eq!(seen(&ip_in(&sandbox, "addr show eth0")), (true, vec!["10.7.0.2/24".into()]));
        answers(&sandbox, &sandbox.id, &mut piped);
    });
}

#[test]
fn a_restored_container_can_have_another_host_name() {
    criu_only!();
    let sandbox = Sandbox::new();
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let named = |id: &str| {
        let args = ["exec", id, "/init", "uname"];
        let facts = crate::facts::Facts::parse(&sandbox.brig(&args).ok().stdout);
        facts.get("hostname").to_string()
    };
    let clone = format!("{}-b", sandbox.id);
    restored(&sandbox, &[]);
    restored_as(&sandbox, &clone, &["--hostname", "other"]);
    assert_eq!((named(&sandbox.id).as_str(), named(&clone).as_str()), ("brig", "other"));
    let host = nix::unistd::gethostname().unwrap();
    assert_ne!(host.to_str(), Some("other"));
}

#[test]
fn a_host_name_needs_a_namespace_of_its_own() {
    criu_only!();
    let sandbox = Sandbox::new();
    let without = |config: &mut Value| {
        config.as_object_mut().unwrap().remove("hostname");
        let kinds = config["linux"]["namespaces"].as_array_mut().unwrap();
        kinds.retain(|namespace| namespace["type"] != "uts");
    };
    sandbox.patch(without);
    running(&sandbox);
    checkpoint(&sandbox, &[]).ok();
    let (images, bundle) = (images(&sandbox), sandbox.bundle());
    let bundle = bundle.to_str().unwrap();
    let args = [
        "restore",
        "-d",
        "--hostname",
        "x",
        "--image-path",
        &images,
        "--bundle",
        bundle,
        &sandbox.id,
    ];
    brig(&sandbox, &args).fails_with("--hostname x: needs a UTS namespace");
    sandbox.assert_nothing_left();
}
