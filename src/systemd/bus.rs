//! A connection to systemd through its own socket or the bus, without a library: a few sequential calls, each
//! with a deadline.
//!
//! systemd's own socket (`private`) needs no Hello, match or subscription: it sends everything to all
//! connected clients. Only root, or the user of the instance, may connect to it; others use the bus.

use super::wire::{self, Call, FIXED, Message, Value};
use crate::deadline;
use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, connect, recv, send, socket};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sys::Errno;
use sys::socket::SocketAddress;

/// The instance of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instance {
    /// The system instance.
    System,
    /// The calling user's instance.
    User,
}

/// An error reply of systemd or the bus.
#[derive(Debug)]
pub struct BusError {
    /// The name of the error.
    pub name: String,
    /// The error message.
    text: String,
}

impl std::fmt::Display for BusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.name)
    }
}

impl std::error::Error for BusError {}

/// A connection.
#[derive(Debug)]
pub struct Bus {
    socket: OwnedFd,
    /// Its name in errors.
    name: String,
    /// Sent before the next message.
    outbox: Vec<u8>,
    /// Received and not parsed yet.
    inbox: Vec<u8>,
    serial: u32,
    /// Calls whose replies are ignored unless they are errors.
    silent: Vec<(u32, &'static str)>,
    /// Finished jobs: their objects and results.
    removed: Vec<(String, String)>,
    /// A bus: systemd's signals need a match.
    is_bus: bool,
    subscribed: bool,
    /// A wait ends when this becomes readable.
    pub interrupt: Option<OwnedFd>,
}

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MATCH: &str = "type='signal',sender='org.freedesktop.systemd1',\
     interface='org.freedesktop.systemd1.Manager',member='JobRemoved',\
     path='/org/freedesktop/systemd1'";

impl Bus {
    /// Connects to an instance of systemd; on a host without one, the error says so.
    ///
    /// # Errors
    ///
    /// If systemd is not running or cannot be reached; the error lists the addresses that were tried.
    pub fn connect(instance: Instance) -> Result<Bus> {
        let end = Instant::now() + deadline::BUS;
        let mut failures = Vec::new();
        for address in addresses(instance)? {
            match connect_to(&address.to, end) {
                Ok(socket) => return Bus::greet(socket, address, end),
                Err(error) => failures.push((address.name, error)),
            }
        }
        Err(not_reachable(instance, &failures))
    }

    fn greet(socket: OwnedFd, address: Address, end: Instant) -> Result<Bus> {
        let mut bus = Bus {
            socket,
            name: address.name,
            outbox: Vec::new(),
            inbox: Vec::new(),
            serial: 0,
            silent: Vec::new(),
            removed: Vec::new(),
            is_bus: address.is_bus,
            subscribed: !address.is_bus,
            interrupt: None,
        };
        bus.authenticate(end).with_context(|| bus.name.clone())?;
        if bus.is_bus {
            bus.silently("org.freedesktop.DBus", "Hello", &[])?;
        }
        Ok(bus)
    }

    /// The kernel passes brig's credentials to the other side: this also works from a user namespace, whose
    /// ids have no meaning outside. Everything is sent at once; but systemd does not process data that it
    /// reads together with BEGIN before it receives more.
    fn authenticate(&mut self, end: Instant) -> Result<()> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n", end)?;
        let mut line = self.line(end)?;
        if line == "DATA" {
            line = self.line(end)?;
        }
        ensure!(line.starts_with("OK "), "refuses authentication: {line:?}");
        Ok(())
    }

    /// An older systemd replies OK to AUTH already, and again to DATA.
    fn skip_second_ok(&mut self, end: Instant) -> Result<()> {
        while self.inbox.starts_with(b"O") {
            self.line(end)?;
        }
        Ok(())
    }

    /// Calls a method of systemd's manager: returns the serial number, to wait for the reply with.
    pub fn ask(&mut self, method: &str, arguments: &[Value]) -> Result<u32> {
        let end = Instant::now() + deadline::BUS;
        let serial = self.queue(SYSTEMD, method, arguments)?;
        let message = std::mem::take(&mut self.outbox);
        self.write(&message, end).with_context(|| format!("{}: {method}", self.name))?;
        Ok(serial)
    }

    /// Waits for a reply. The error is a [`BusError`] if that is the reply.
    pub fn answer(&mut self, serial: u32, method: &str) -> Result<String> {
        let end = Instant::now() + deadline::BUS;
        loop {
            let message = self.next(end);
            let what = || format!("{}: waiting for the answer to {method}", self.name);
            match message.with_context(what)? {
                Message::Reply(to, text) if to == serial => return Ok(text),
                Message::Error(to, name, text) if to == serial => {
                    return Err(BusError { name, text })
                        .with_context(|| format!("systemd: {method}"));
                }
                _ => {}
            }
        }
    }

    /// [`Bus::ask`] and [`Bus::answer`].
    pub fn call(&mut self, method: &str, arguments: &[Value]) -> Result<String> {
        let serial = self.ask(method, arguments)?;
        self.answer(serial, method)
    }

    /// Subscribes to the ends of jobs, before the call that creates one. systemd reports them to the client
    /// that requested the job, without a Subscribe, and the bus forwards matching signals.
    pub fn subscribe(&mut self) -> Result<()> {
        if !self.subscribed {
            self.subscribed = true;
            self.silently("org.freedesktop.DBus", "AddMatch", &[MATCH.into()])?;
        }
        Ok(())
    }

    /// Waits for the end of a job, the reply of the call that created it: `done`, or another result.
    ///
    /// # Errors
    ///
    /// If the job does not end in time, or brig is interrupted.
    pub fn job(&mut self, job: &str, what: &str) -> Result<String> {
        ensure!(job.starts_with('/'), "{}: invalid answer: {job:?} is not a job", self.name);
        let end = Instant::now() + deadline::JOB;
        loop {
            if let Some(at) = self.removed.iter().position(|(removed, _)| removed == job) {
                return Ok(self.removed.swap_remove(at).1);
            }
            let message = self.next(end);
            message.with_context(|| format!("{}: waiting for systemd to {what}", self.name))?;
        }
    }

    /// Queues a call whose reply only matters if it is an error.
    fn silently(
        &mut self,
        destination: &str,
        method: &'static str,
        arguments: &[Value],
    ) -> Result<()> {
        let serial = self.queue(destination, method, arguments)?;
        self.silent.push((serial, method));
        Ok(())
    }

    fn queue(&mut self, destination: &str, method: &str, arguments: &[Value]) -> Result<u32> {
        self.serial += 1;
        let (path, interface) = match destination {
            SYSTEMD => ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"),
            _ => ("/org/freedesktop/DBus", "org.freedesktop.DBus"),
        };
        let call = Call { destination, path, interface, method, arguments };
        self.outbox.append(&mut call.bytes(self.serial)?);
        Ok(self.serial)
    }

    /// The next message; ends of jobs are recorded.
    fn next(&mut self, end: Instant) -> Result<Message> {
        loop {
            self.skip_second_ok(end)?;
            let total = match self.inbox.get(..FIXED) {
                Some(fixed) => wire::total(fixed).context("garbage")?,
                None => usize::MAX,
            };
            if self.inbox.len() < total {
                self.read(end)?;
                continue;
            }
            let message: Vec<u8> = self.inbox.drain(..total).collect();
            match wire::parse(&message).context("garbage")? {
                Message::JobRemoved(job, result) => {
                    self.removed.push((job, result));
                    return Ok(Message::Other);
                }
                Message::Error(serial, name, text) => {
                    if let Some((_, method)) = self.silent.iter().find(|(own, _)| *own == serial) {
                        return Err(BusError { name, text }).context(*method);
                    }
                    return Ok(Message::Error(serial, name, text));
                }
                message => return Ok(message),
            }
        }
    }

    fn line(&mut self, end: Instant) -> Result<String> {
        loop {
            if let Some(at) = self.inbox.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            ensure!(self.inbox.len() < 4096, "invalid answer: a line without an end");
            self.read(end).context("waiting for authentication")?;
        }
    }

    fn read(&mut self, end: Instant) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::ECONNRESET) => bail!("the other side has closed the connection"),
                Ok(length) => {
                    self.inbox.extend_from_slice(&bytes[..length]);
                    return Ok(());
                }
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLIN, end)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("recv"),
            }
        }
    }

    fn write(&self, mut bytes: &[u8], end: Instant) -> Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while !bytes.is_empty() {
            match send(self.socket.as_raw_fd(), bytes, flags) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT, end)?,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    bail!("the other side has closed the connection")
                }
                Err(errno) => return Err(errno).context("send"),
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, end: Instant) -> Result<()> {
        // The socket twice, if nothing can interrupt the wait.
        let interrupt = self.interrupt.as_ref().map_or(self.socket.as_fd(), AsFd::as_fd);
        let mut fds = [
            PollFd::new(self.socket.as_fd(), events),
            PollFd::new(interrupt, events & PollFlags::POLLIN),
        ];
        ensure!(sys::poll::wait(&mut fds, end)?, "timed out");
        ensure!(fds[0].any().unwrap_or(true), "interrupted by a signal");
        Ok(())
    }
}

/// The address to connect to.
struct Address {
    to: Endpoint,
    name: String,
    is_bus: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Endpoint {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The addresses to try, in order.
fn addresses(instance: Instance) -> Result<Vec<Address>> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let usual = |private: PathBuf, bus: PathBuf| {
        [(private, false), (bus, true)].map(|(path, is_bus)| Address {
            name: path.display().to_string(),
            to: Endpoint::Path(path),
            is_bus,
        })
    };
    if instance == Instance::System {
        return match variable("DBUS_SYSTEM_BUS_ADDRESS") {
            Some(list) => parse(&list).with_context(|| format!("DBUS_SYSTEM_BUS_ADDRESS={list}")),
            None => {
                Ok(usual("/run/systemd/private".into(), "/run/dbus/system_bus_socket".into())
                    .into())
            }
        };
    }
    let own = || {
        let uid = nix::unistd::geteuid();
        (!uid.is_root()).then(|| format!("/run/user/{uid}"))
    };
    let runtime = variable("XDG_RUNTIME_DIR").or_else(own).map(PathBuf::from);
    let bus = runtime.as_ref().map(|runtime| runtime.join("bus"));
    match (variable("DBUS_SESSION_BUS_ADDRESS"), runtime, bus) {
        // The usual addresses of a session are not worth mentioning in errors.
        (Some(list), _, bus) if !parse(&list).is_ok_and(|list| usual_bus(&list, bus.as_ref())) => {
            parse(&list).with_context(|| format!("DBUS_SESSION_BUS_ADDRESS={list}"))
        }
        (_, Some(runtime), Some(bus)) => Ok(usual(runtime.join("systemd/private"), bus).into()),
        _ => bail!(
            "cannot find the user's systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set"
        ),
    }
}

fn usual_bus(list: &[Address], usual: Option<&PathBuf>) -> bool {
    matches!(list, [Address { to: Endpoint::Path(path), .. }] if Some(path) == usual)
}

/// Parses e.g. `unix:path=/run/x;unix:abstract=y`, the format of the D-Bus specification.
fn parse(list: &str) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    for address in list.split(';').filter(|address| !address.is_empty()) {
        let options = address.strip_prefix("unix:");
        let options = options.with_context(|| format!("{address:?} is not a unix socket"))?;
        let option = |name: &str| {
            let of = |option: &str| unescape(option.strip_prefix(name)?.strip_prefix('=')?);
            options.split(',').find_map(of)
        };
        let path = option("path").map(|path| Endpoint::Path(OsString::from_vec(path).into()));
        let to = path.or_else(|| option("abstract").map(Endpoint::Abstract));
        let to = to.with_context(|| format!("{address:?} has neither path nor abstract"))?;
        addresses.push(Address { to, name: address.to_owned(), is_bus: true });
    }
    ensure!(!addresses.is_empty(), "has no address");
    Ok(addresses)
}

/// Decodes percent-encoded bytes, e.g. `%20`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

fn connect_to(to: &Endpoint, end: Instant) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).context("socket")?;
    let address = match to {
        Endpoint::Path(path) => SocketAddress::of(path)?,
        Endpoint::Abstract(name) => SocketAddress::of_abstract(name)?,
    };
    loop {
        match connect(socket.as_raw_fd(), address.get()) {
            Ok(()) => return Ok(socket),
            // The listener's backlog is full.
            Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::EAGAIN) => {
                bail!(
                    "timed out after {} s waiting for it to accept the connection",
                    deadline::BUS.as_secs()
                )
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The error if no connection was possible.
fn not_reachable(instance: Instance, failures: &[(String, anyhow::Error)]) -> anyhow::Error {
    let tried: Vec<String> =
        failures.iter().map(|(name, error)| format!("{name}: {}", sys::describe(error))).collect();
    let hint = match instance {
        Instance::System => {
            "systemd is not running or cannot be reached: use --cgroup-manager=cgroupfs"
        }
        Instance::User => {
            "the user's systemd is not running or cannot be reached: log in, let root run `loginctl enable-linger`, or use --cgroup-manager=cgroupfs"
        }
    };
    anyhow!("{hint} ({})", tried.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_specification_has_them() {
        let to = |list: &str| -> Result<Vec<Endpoint>> {
            Ok(parse(list)?.into_iter().map(|address| address.to).collect())
        };
        let path = |path: &str| Endpoint::Path(path.into());
        assert_eq!(to("unix:path=/run/x,guid=00ff").unwrap(), [path("/run/x")]);
        let two = to("unix:guid=1,abstract=/tmp/dbus-X;unix:path=/a%20b;").unwrap();
        assert_eq!(two, [Endpoint::Abstract(b"/tmp/dbus-X".to_vec()), path("/a b")]);
        for bad in ["", ";", "tcp:host=x", "unix:tmpdir=/tmp", "unix:path=%2", "/run/x"] {
            assert!(to(bad).is_err(), "{bad}");
        }
    }
}
