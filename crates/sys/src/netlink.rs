//! rtnetlink(7): the network devices of a network namespace and their addresses. Only what is needed to move
//! a device.
//!
//! A message is a header (length, type, flags, sequence number, port), a body of fixed length, and
//! attributes, each with length, type and value; all parts are aligned to 4 bytes.

use super::{Errno, SysError, check};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A socket in the network namespace in which it was opened.
pub struct Socket(OwnedFd);

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
}

/// An address of a device, as needed to add it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    /// Local and peer address, broadcast address, etc., as received.
    attributes: Vec<(u16, Vec<u8>)>,
}

// linux/netlink.h
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_NEW: u16 = 0x600;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
// linux/rtnetlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_ANYCAST: u16 = 5;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;
const IFA_F_PERMANENT: u32 = 0x80;
/// Flags that are chosen when an address is added: no duplicate detection, home address, managed temporary
/// addresses, no prefix route, multicast join. The kernel sets the others.
const IFA_F_CHOSEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;

/// The length of a header.
const HEADER: usize = 16;

impl Socket {
    /// Opens a socket in the current network namespace.
    ///
    /// # Errors
    ///
    /// If socket(2) or setsockopt(2) fails.
    pub fn open() -> Result<Socket, SysError> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        );
        let fd = fd.map_err(|errno| SysError::new("socket(NETLINK_ROUTE)", errno))?;
        // Request the kernel's error messages, and omit the refused request from the response.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
            // SAFETY: the value is an int that outlives the call, and its size is passed.
            let done = unsafe {
                let value = (&raw const on).cast();
                libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, value, length)
            };
            check(|| format!("setsockopt(SOL_NETLINK, {option})"), done.into())?;
        }
        Ok(Socket(fd))
    }

    /// The device of this name.
    ///
    /// # Errors
    ///
    /// If the device does not exist (ENODEV), or the response is not valid.
    pub fn link(&self, name: &str) -> Result<Link, SysError> {
        let mut request = Request::link(RTM_GETLINK, 0, 0, 0);
        request.name(name);
        let call = || format!("rtnetlink(get {name})");
        let replies = self.talk(request, NLM_F_ACK, call)?;
        let links = replies.iter().filter(|(kind, _)| *kind == RTM_NEWLINK);
        let link = links.filter_map(|(_, body)| read_link(body)).next();
        link.ok_or_else(|| SysError::new(call(), Errno::ENODEV))
    }

    /// The permanent addresses of a device whose scope is not limited to the host.
    ///
    /// # Errors
    ///
    /// If the kernel refuses, or the response is not valid.
    pub fn addresses(&self, index: u32) -> Result<Vec<Address>, SysError> {
        let mut request = Request::new(RTM_GETADDR);
        request.0.extend([0; 8]);
        let replies = self.talk(request, NLM_F_DUMP, || "rtnetlink(get addresses)".into())?;
        let addresses = replies.iter().filter(|(kind, _)| *kind == RTM_NEWADDR);
        Ok(addresses.filter_map(|(_, body)| read_address(body, index)).collect())
    }

    /// Moves a device into another namespace and renames it there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses: EEXIST if the name exists in the namespace.
    pub fn move_link(
        &self,
        index: u32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), SysError> {
        let mut request = Request::link(RTM_SETLINK, index, 0, 0);
        request.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        request.name(name);
        self.talk(request, NLM_F_ACK, || "rtnetlink(move device)".into()).map(drop)
    }

    /// Renames a device; `%d` in the name is replaced with the first number that makes it unique.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn rename(&self, index: u32, name: &str) -> Result<(), SysError> {
        let mut request = Request::link(RTM_SETLINK, index, 0, 0);
        request.name(name);
        self.talk(request, NLM_F_ACK, || format!("rtnetlink(name {name})")).map(drop)
    }

    /// Sets a device up.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set_up(&self, index: u32) -> Result<(), SysError> {
        let request = Request::link(RTM_SETLINK, index, IFF_UP, IFF_UP);
        self.talk(request, NLM_F_ACK, || "rtnetlink(set up)".into()).map(drop)
    }

    /// Adds an address to a device.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn add_address(&self, index: u32, address: &Address) -> Result<(), SysError> {
        let mut request = Request::new(RTM_NEWADDR);
        request.0.extend([address.family, address.prefix, 0, RT_SCOPE_UNIVERSE]);
        request.0.extend(index.to_ne_bytes());
        request.attribute(IFA_FLAGS, &(address.flags & IFA_F_CHOSEN).to_ne_bytes());
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        let flags = NLM_F_ACK | NLM_F_CREATE_NEW;
        self.talk(request, flags, || format!("rtnetlink(add address {address})")).map(drop)
    }

    /// Sends a request and collects the responses.
    fn talk(
        &self,
        request: Request,
        flags: u16,
        call: impl Fn() -> String,
    ) -> Result<Vec<(u16, Vec<u8>)>, SysError> {
        let failed = |errno| SysError::new(call(), errno);
        let fd = self.0.as_raw_fd();
        send(fd, &request.finish(flags), MsgFlags::empty()).map_err(failed)?;
        let mut replies = Vec::new();
        // The kernel's datagrams are at most this long.
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = match recv(fd, &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length.map_err(failed)?,
            };
            for (kind, flags, body) in messages(&buffer[..length]) {
                match kind {
                    NLMSG_DONE => return Ok(replies),
                    NLMSG_ERROR => {
                        return verdict(flags, body, &call).map(|()| replies);
                    }
                    kind => replies.push((kind, body.to_vec())),
                }
            }
        }
    }
}

/// The result in a response of type error, which is also sent on success.
fn verdict(flags: u16, body: &[u8], call: impl Fn() -> String) -> Result<(), SysError> {
    let errno = number(body, 0).cast_signed().wrapping_neg();
    if errno == 0 {
        return Ok(());
    }
    let mut call = call();
    // The errno is followed by the header of the request, and attributes.
    if flags & NLM_F_ACK_TLVS != 0
        && let Some((_, text)) = attributes(body.get(4 + HEADER..).unwrap_or_default())
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
    {
        let text = String::from_utf8_lossy(text.strip_suffix(b"\0").unwrap_or(text));
        call = format!("{call} ({text})");
    }
    Err(SysError::new(call, Errno::from_raw(errno)))
}

/// A request being built.
struct Request(Vec<u8>);

impl Request {
    fn new(kind: u16) -> Request {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        Request(bytes)
    }

    /// A request with the body of messages about devices.
    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Request {
        let mut request = Request::new(kind);
        for word in [0, index, flags, change] {
            request.0.extend(word.to_ne_bytes());
        }
        request
    }

    fn name(&mut self, name: &str) {
        self.attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        self.0
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => u16::from_ne_bytes([a, b]),
        _ => 0,
    }
}

/// Type, flags and body of each message of a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(number(bytes, 0)).unwrap_or(0);
        let message = bytes.get(..length).filter(|message| message.len() >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((half(message, 4), half(message, 6), &message[HEADER..]))
    })
}

/// Type and value of each attribute.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0));
        let attribute = bytes.get(..length).filter(|attribute| attribute.len() >= 4)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits are flags about the value's format.
        Some((half(attribute, 2) & 0x3fff, &attribute[4..]))
    })
}

fn read_link(body: &[u8]) -> Option<Link> {
    let (_, name) = attributes(body.get(16..)?).find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = std::ffi::CStr::from_bytes_until_nul(name).ok()?.to_str().ok()?.to_owned();
    Some(Link { index: number(body, 4), name, up: number(body, 8) & IFF_UP != 0 })
}

/// Parses an address of the device, if it is permanent and its scope is not limited to the host.
fn read_address(body: &[u8], index: u32) -> Option<Address> {
    let &[family, prefix, flags, scope, ..] = body else { return None };
    let mut address = Address { family, prefix, flags: flags.into(), attributes: Vec::new() };
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            IFA_FLAGS => address.flags = number(value, 0),
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_ANYCAST | IFA_RT_PRIORITY | IFA_PROTO => {
                address.attributes.push((kind, value.to_vec()))
            }
            _ => {}
        }
    }
    let kept = scope == RT_SCOPE_UNIVERSE && address.flags & IFA_F_PERMANENT != 0;
    (kept && number(body, 4) == index).then_some(address)
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |wanted| self.attributes.iter().find(|(kind, _)| *kind == wanted);
        let bytes = of(IFA_LOCAL).or_else(|| of(IFA_ADDRESS)).map_or(&[][..], |(_, value)| value);
        if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
            write!(f, "{}/{}", std::net::Ipv4Addr::from(v4), self.prefix)
        } else if let Ok(v6) = <[u8; 16]>::try_from(bytes) {
            write!(f, "{}/{}", std::net::Ipv6Addr::from(v6), self.prefix)
        } else {
            write!(f, "{bytes:02x?}/{}", self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(scope: u8, flags: u32, index: u32) -> Vec<u8> {
        let mut message = Request::new(RTM_NEWADDR);
        message.0.extend([2, 24, 0, scope]);
        message.0.extend(index.to_ne_bytes());
        message.attribute(IFA_LOCAL, &[10, 0, 0, 1]);
        message.attribute(3, b"label\0");
        message.attribute(IFA_FLAGS, &flags.to_ne_bytes());
        message.finish(0)
    }

    #[test]
    fn only_permanent_addresses_of_the_device_with_global_scope_are_kept() {
        let of = |scope, flags, index| {
            let message = address(scope, flags, index);
            let (_, _, body) = messages(&message).next().unwrap();
            read_address(body, 7)
        };
        let kept = of(0, IFA_F_PERMANENT, 7).unwrap();
        assert_eq!(kept.to_string(), "10.0.0.1/24");
        assert_eq!(kept.attributes, [(IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!(of(253, IFA_F_PERMANENT, 7), None);
        assert_eq!(of(0, 0, 7), None);
        assert_eq!(of(0, IFA_F_PERMANENT, 8), None);
    }

    #[test]
    fn messages_of_one_datagram_are_told_apart() {
        let mut name = Request::link(RTM_NEWLINK, 3, IFF_UP, 0);
        name.name("eth0");
        let datagram = [name.finish(0), address(0, 0, 1)].concat();
        let kinds: Vec<u16> = messages(&datagram).map(|(kind, ..)| kind).collect();
        assert_eq!(kinds, [RTM_NEWLINK, RTM_NEWADDR]);
        let (_, _, body) = messages(&datagram).next().unwrap();
        let link = Link { index: 3, name: "eth0".into(), up: true };
        assert_eq!(read_link(body), Some(link));
    }

    #[test]
    fn an_error_comes_with_the_kernels_words() {
        let mut body = (-17_i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER]);
        let mut words = Request(Vec::new());
        words.attribute(NLMSGERR_ATTR_MSG, b"no way\0");
        body.extend(words.0);
        let error = verdict(NLM_F_ACK_TLVS, &body, || "call".into()).unwrap_err();
        assert_eq!((error.errno, error.call.as_str()), (Errno::EEXIST, "call (no way)"));
        assert!(verdict(0, &[0; 20], || "call".into()).is_ok());
    }

    #[test]
    fn any_bytes_are_survived() {
        let message = address(0, IFA_F_PERMANENT, 7);
        for cut in 0..message.len() {
            let mut bytes = message[..cut].to_vec();
            messages(&bytes).for_each(|(_, _, body)| drop(read_address(body, 7)));
            let length = u32::try_from(cut).unwrap();
            if cut >= 4 {
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
            }
            messages(&bytes)
                .for_each(|(_, _, body)| drop((read_address(body, 7), read_link(body))));
        }
    }
}
