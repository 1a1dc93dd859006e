//! A misbehaving D-Bus peer instead of systemd: a create that requests a scope from it fails in time, with
//! its name, and leaves nothing.

use crate::host::{self, wait_until};
use crate::sandbox::{Running, Sandbox, brig_only};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// brig's maximum wait for a response, 10 s, plus a margin for a busy machine: less than two such waits.
const ANSWER: Duration = Duration::from_secs(19);

/// Serves every connection with `behave`, which gets the number of earlier ones. A peer that wants to
/// continue keeps the stream.
fn serve(sandbox: &Sandbox, behave: fn(usize, &mut UnixStream) -> std::io::Result<()>) {
    let address = SocketAddr::from_abstract_name(&sandbox.id).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            // Whether brig still exists does not matter to this side.
            std::thread::spawn(move || _ = behave(count, &mut stream));
        }
    });
}

/// Begins to create a container with it.
fn begin(sandbox: &Sandbox) -> Running {
    let bundle = sandbox.bundle();
    let mut command = sandbox.command(&["--systemd-cgroup", "create", "--bundle"]);
    command.arg(bundle).arg(&sandbox.id);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:abstract={}", sandbox.id));
    sandbox.spawn(command)
}

/// Fails to create a container with it; returns stderr and the duration.
fn create(sandbox: &Sandbox) -> (String, Duration) {
    let start = Instant::now();
    let message = begin(sandbox).wait().fails();
    let took = start.elapsed();
    sandbox.assert_nothing_left();
    (message, took)
}

#[track_caller]
fn fails_with(
    behave: fn(usize, &mut UnixStream) -> std::io::Result<()>,
    words: &[&str],
    within: Duration,
) {
    let sandbox = Sandbox::new();
    serve(&sandbox, behave);
    let (message, took) = create(&sandbox);
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    assert!(took < within, "{took:?}: {message}");
}

fn forever(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes)? > 0 {}
    Ok(())
}

/// Authenticates brig.
fn greet(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut said = Vec::new();
    while !said.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        said.push(byte[0]);
    }
    assert!(said.starts_with(b"\0AUTH EXTERNAL\r\n"), "{said:?}");
    stream.write_all(b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n")
}

/// Reads one message from brig: its serial number, and the whole message as text.
fn hear(stream: &mut UnixStream) -> std::io::Result<(u32, String)> {
    let number = |bytes: &[u8], at: usize| {
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed)?;
    let (body, fields) = (number(&fixed, 4) as usize, number(&fixed, 12) as usize);
    let mut rest = vec![0; fields.next_multiple_of(8) + body];
    stream.read_exact(&mut rest)?;
    Ok((number(&fixed, 8), String::from_utf8_lossy(&rest).into_owned()))
}

/// Reads messages until one calls `method`, and sends empty replies to the others.
fn until_called(stream: &mut UnixStream, method: &str) -> std::io::Result<u32> {
    loop {
        let (serial, text) = hear(stream)?;
        if text.contains(method) {
            return Ok(serial);
        }
        stream.write_all(&message(2, serial, "", &[]))?;
    }
}

/// A reply (type 2) or an error (type 3, always with the same name) to a call.
fn message(kind: u8, serial: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(serial.to_ne_bytes());
    if kind == 3 {
        fields.extend(b"\x04\x01s\0\x14\0\0\0");
        fields.extend(b"brig.test.TestsError\0\0\0\0");
    }
    if !signature.is_empty() {
        fields.extend([8, 1, b'g', 0, 1, signature.as_bytes()[0], 0]);
    }
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let mut message = vec![order, kind, 1, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_ne_bytes());
    message.extend(7_u32.to_ne_bytes());
    message.extend(u32::try_from(fields.len()).unwrap().to_ne_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

/// A string in a message body.
fn text(text: &str) -> Vec<u8> {
    let mut body = u32::try_from(text.len()).unwrap().to_ne_bytes().to_vec();
    body.extend(text.as_bytes());
    body.push(0);
    body
}

#[test]
fn one_that_never_says_a_word() {
    brig_only!();
    fails_with(|_, stream| forever(stream), &["waiting for authentication", "timed out"], ANSWER);
}

#[test]
fn one_that_never_accepts() {
    brig_only!();
    let sandbox = Sandbox::new();
    let address = SocketAddr::from_abstract_name(&sandbox.id).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let (message, took) = create(&sandbox);
    assert!(message.contains("waiting for authentication"), "{message}");
    assert!(took < ANSWER, "{took:?}: {message}");
    drop(listener);
    let (message, _) = create(&sandbox);
    assert!(message.contains("Connection refused") && message.contains("cgroupfs"), "{message}");
}

#[test]
fn one_that_dies_in_the_middle_of_its_greeting() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| stream.write_all(b"DATA\r\nOK 01");
    fails_with(behave, &["has closed the connection"], ANSWER);
}

#[test]
fn one_that_does_not_let_brig_in() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| {
        stream.write_all(b"REJECTED EXTERNAL\r\n")?;
        forever(stream)
    };
    fails_with(behave, &["refuses authentication", "REJECTED"], ANSWER);
}

#[test]
fn one_that_greets_without_end() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| loop {
        stream.write_all(&[b'D'; 4096])?;
    };
    fails_with(behave, &["a line without an end"], ANSWER);
}

#[test]
fn one_that_never_answers_the_call() {
    brig_only!();
    let behave = |count, stream: &mut UnixStream| {
        if count > 0 {
            return Ok(());
        }
        greet(stream)?;
        forever(stream)
    };
    fails_with(behave, &["waiting for the answer to StartTransientUnit", "timed out"], ANSWER);
}

#[test]
fn one_that_dies_after_the_call() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| {
        greet(stream)?;
        until_called(stream, "StartTransientUnit").map(drop)
    };
    let words = ["waiting for the answer to StartTransientUnit", "has closed the connection"];
    fails_with(behave, &words, ANSWER);
}

#[test]
fn one_that_dies_in_the_middle_of_its_answer() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| {
        greet(stream)?;
        let serial = until_called(stream, "StartTransientUnit")?;
        stream.write_all(&message(2, serial, "o", &text("/job/1"))[..40])
    };
    fails_with(behave, &["StartTransientUnit", "has closed the connection"], ANSWER);
}

#[test]
fn one_that_answers_with_garbage() {
    brig_only!();
    let garbage: [fn(usize, &mut UnixStream) -> std::io::Result<()>; 3] = [
        |_, stream| {
            greet(stream)?;
            stream.write_all(&[0xff; 64])?;
            forever(stream)
        },
        // A message of 4 GiB.
        |_, stream| {
            greet(stream)?;
            stream.write_all(b"l\x02\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0")?;
            forever(stream)
        },
        // A string that is longer than its message.
        |_, stream| {
            greet(stream)?;
            let serial = until_called(stream, "StartTransientUnit")?;
            stream.write_all(&message(2, serial, "o", &[0xff, 0xff, 0, 0, b'/', 0]))?;
            forever(stream)
        },
    ];
    for behave in garbage {
        fails_with(behave, &["garbage"], ANSWER);
    }
}

#[test]
fn one_that_refuses() {
    brig_only!();
    let behave = |_, stream: &mut UnixStream| {
        greet(stream)?;
        let serial = until_called(stream, "StartTransientUnit")?;
        stream.write_all(&message(3, serial, "s", &text("no room for scopes")))?;
        let serial = until_called(stream, "StopUnit")?;
        stream.write_all(&message(3, serial, "s", &text("no")))
    };
    let words = ["start unit brig-bt", "no room for scopes", "brig.test.TestsError"];
    fails_with(behave, &words, ANSWER);
}

#[test]
fn one_whose_job_never_ends() {
    brig_only!();
    let behave = |count, stream: &mut UnixStream| {
        if count > 0 {
            return Ok(());
        }
        greet(stream)?;
        let serial = until_called(stream, "StartTransientUnit")?;
        stream.write_all(&message(2, serial, "o", &text("/job/1")))?;
        forever(stream)
    };
    let words = ["waiting for systemd to start unit brig-bt", "timed out"];
    fails_with(behave, &words, Duration::from_secs(50));
}

#[test]
fn one_that_says_done_of_a_process_it_has_not_moved() {
    brig_only!();
    let behave = |count, stream: &mut UnixStream| {
        if count > 0 {
            return Ok(());
        }
        greet(stream)?;
        let serial = until_called(stream, "StartTransientUnit")?;
        stream.write_all(&message(2, serial, "o", &text("/job/1")))?;
        stream.write_all(&job_removed())?;
        forever(stream)
    };
    fails_with(behave, &["the container's process is not in it"], ANSWER);
}

/// The signal that job /job/1 is done.
fn job_removed() -> Vec<u8> {
    let mut body = 1_u32.to_ne_bytes().to_vec();
    for part in ["/job/1", "x.scope", "done"] {
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(text(part));
    }
    let fields = b"\x03\x01s\0\x0a\0\0\0JobRemoved\0\0\0\0\0\0\x08\x01g\0\x04uoss\0";
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let mut message = vec![order, 4, 1, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_ne_bytes());
    message.extend(8_u32.to_ne_bytes());
    message.extend(u32::try_from(fields.len()).unwrap().to_ne_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

/// Authenticates brig, and never replies to its call.
fn silent(count: usize, stream: &mut UnixStream) -> std::io::Result<()> {
    if count > 0 {
        return Ok(());
    }
    greet(stream)?;
    forever(stream)
}

/// The container's process, which the running brig has cloned.
#[track_caller]
fn child(sandbox: &Sandbox, brig: &Running) -> Pid {
    let brig = Pid::from_raw(brig.child.id().cast_signed());
    let child = || host::processes_of(&sandbox.id).into_iter().find(|&pid| pid != brig);
    assert!(wait_until(Duration::from_secs(10), || child().is_some()), "there is no child");
    child().unwrap()
}

#[test]
fn the_child_mounts_meanwhile_but_copies_nothing() {
    brig_only!();
    let sandbox = Sandbox::new();
    sandbox.patch(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        let copied = json!({"destination": "/tmp", "type": "tmpfs", "options": ["tmpcopyup"]});
        mounts.insert(4, copied);
    });
    serve(&sandbox, silent);
    let mut brig = begin(&sandbox);
    let child = child(&sandbox, &brig);
    let mounted = |target: &str| {
        let mounts = fs::read_to_string(format!("/proc/{child}/mountinfo")).unwrap_or_default();
        mounts.lines().any(|line| line.contains(&format!("rootfs{target} ")))
    };
    assert!(wait_until(Duration::from_secs(5), || mounted("/dev/shm")), "it does not mount");
    host::wait_until_asleep(child.as_raw().into());
    assert!(!mounted("/tmp"), "what is copied is not charged to the container");
    assert!(brig.child.try_wait().unwrap().is_none());
    brig.wait().fails();
    sandbox.assert_nothing_left();
}

#[test]
fn a_signal_ends_the_wait() {
    brig_only!();
    let sandbox = Sandbox::new();
    serve(&sandbox, silent);
    let brig = begin(&sandbox);
    child(&sandbox, &brig);
    host::wait_until_asleep(brig.child.id().into());
    let start = Instant::now();
    kill(Pid::from_raw(brig.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    let message = brig.wait().fails();
    assert!(message.contains("interrupted by a signal"), "{message}");
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    sandbox.assert_nothing_left();
}

#[test]
fn a_brig_that_is_killed_in_the_wait_takes_the_child_with_it() {
    brig_only!();
    let sandbox = Sandbox::new();
    serve(&sandbox, silent);
    let mut brig = begin(&sandbox);
    child(&sandbox, &brig);
    brig.child.kill().unwrap();
    brig.child.wait().unwrap();
    let gone = || host::processes_of(&sandbox.id).is_empty();
    assert!(wait_until(Duration::from_secs(10), gone), "{:?}", sandbox.leftovers());
    sandbox.brig(&["delete", "--force", &sandbox.id]).ok();
    sandbox.assert_nothing_left();
}
