//! On the host, not in a container: a seccomp agent (seccomp_unotify(2)).

use crate::{Words, say};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, accept4, recvmsg};
use std::io::{self, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// `agent SOCKET [silent] [NUMBER=ERRNO]...`: prints `ready`, then for each connection `fds COUNT` and
/// `state` with the text, and for each notification `asked NUMBER`. Calls with an ERRNO fail with it, all
/// others continue. A silent agent never responds.
pub fn act(name: &str, words: &Words<'_>) -> bool {
    if name != "agent" {
        return false;
    }
    let answer = |word: &str| {
        let (number, errno) = word.split_once('=')?;
        Some((number.parse().ok()?, errno.parse().ok()?))
    };
    let answers: Vec<(i32, i32)> = words.all().skip(1).filter_map(answer).collect();
    if let Err(error) = listen(words, &answers) {
        say!("agent: {error}");
    }
    true
}

fn listen(words: &Words<'_>, answers: &[(i32, i32)]) -> io::Result<()> {
    let socket = UnixListener::bind(words.path(0))?;
    say!("ready");
    loop {
        let flags = nix::sys::socket::SockFlag::SOCK_CLOEXEC;
        let connection = accept4(socket.as_raw_fd(), flags)?;
        // SAFETY: the kernel has just created this descriptor, which has no other owner.
        let connection = UnixStream::from(unsafe { OwnedFd::from_raw_fd(connection) });
        let Some(listener) = receive(connection)? else { continue };
        if words.text(1) == "silent" {
            // Stays open as long as this process lives.
            std::mem::forget(listener);
            continue;
        }
        let answers = answers.to_vec();
        std::thread::spawn(move || {
            while decide(&listener, &answers) {}
            say!("done");
        });
    }
}

/// Receives one state, in any number of messages, and the descriptor attached to the first.
fn receive(mut connection: UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut text = vec![0; 1 << 20];
    let mut room = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(connection.as_raw_fd(), &mut parts, Some(&mut room), flags)?;
    let length = message.bytes;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(got) = part {
            fds.extend(got);
        }
    }
    text.truncate(length);
    // Until the other side closes: there is one state per connection.
    connection.read_to_end(&mut text)?;
    say!("fds {}", fds.len());
    say!("state {}", String::from_utf8_lossy(&text));
    // SAFETY: the kernel has just created this descriptor, which has no other owner.
    Ok(fds.first().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Prints one notification, and responds to it. False: no process with the filter is left.
fn decide(listener: &OwnedFd, answers: &[(i32, i32)]) -> bool {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
    if ready < 0 || poll.revents & libc::POLLIN == 0 {
        return false;
    }
    // SAFETY: plain data, for which zero is valid, and required by the kernel.
    let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    let (fd, receive) = (listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV);
    // SAFETY: the request writes a seccomp_notif, which outlives the call.
    if unsafe { libc::ioctl(fd, receive, &raw mut asked) } != 0 {
        // The calling process has died in the meantime.
        return true;
    }
    let number = asked.data.nr;
    // Before the response, after which the test may look.
    say!("asked {number}");
    let errno = answers.iter().find(|(of, _)| *of == number).map(|(_, errno)| *errno);
    let go_on = u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1);
    let answer = libc::seccomp_notif_resp {
        id: asked.id,
        val: 0,
        error: -errno.unwrap_or(0),
        flags: if errno.is_some() { 0 } else { go_on },
    };
    // SAFETY: the request reads a seccomp_notif_resp, which outlives the call. The calling process may have
    // exited by now, which does not matter.
    unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    true
}
