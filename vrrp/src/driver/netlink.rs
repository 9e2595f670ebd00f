//! A netlink(7) socket and the bytes that go through it: requests with acknowledgement, dumps, transactions of
//! nf_tables.
//!
//! Written by hand: the few messages that are needed are small, and an attribute of a newer kernel must not hide the
//! interface it stands in. Invariants: no answer can make a parser panic; an answer to an earlier request that was
//! given up is not taken for the present one's.

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
    recv, send, socket_with,
};
use std::io::{Error, ErrorKind, Result};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A channel for requests.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens one of a protocol: [`ROUTE`] or [`NETFILTER`].
    pub(super) fn open(protocol: Option<Protocol>) -> Result<Self> {
        let socket = open(protocol, SocketFlags::CLOEXEC, 0)?;
        // The kernel answers before `send` returns; this bounds what should not happen.
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends a change; returns when the kernel has taken or refused it.
    pub(super) fn change(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        let sequence = self.number();
        let mut request = Vec::new();
        frame(
            &mut request,
            kind,
            NLM_F_REQUEST | NLM_F_ACK | flags,
            sequence,
            body,
        );
        self.commit(&request, None, sequence, sequence)
    }

    /// Sends messages `first` to `last`, each of which wants an acknowledgement; returns the first refusal. One of
    /// `begin`, which wants none, is of all of them.
    fn commit(&mut self, request: &[u8], begin: Option<u32>, first: u32, last: u32) -> Result<()> {
        send(&self.socket, request, SendFlags::empty())?;
        let mut missing = last.wrapping_sub(first) + 1;
        let mut refusal = None;
        while missing > 0 {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]) {
                let is_of_all = begin == Some(message.sequence);
                let is_of_one = message.sequence.wrapping_sub(first) <= last.wrapping_sub(first);
                if message.kind == NLMSG_ERROR && (is_of_one || is_of_all) {
                    // Refusals are negative numbers, 0 is the acknowledgement.
                    let code = message.body.first_chunk().map(|b| i32::from_ne_bytes(*b));
                    missing = if is_of_all && code != Some(0) {
                        0
                    } else {
                        missing.saturating_sub(u32::from(is_of_one))
                    };
                    if let Some(code) = code.filter(|code| *code != 0) {
                        refusal.get_or_insert(Error::from_raw_os_error(code.wrapping_neg()));
                    }
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Sends `messages` (kind, flags, body) as one transaction of a netfilter subsystem: all or nothing.
    pub(super) fn transaction<'a>(
        &mut self,
        subsystem: u16,
        messages: impl IntoIterator<Item = (u16, u16, &'a [u8])>,
    ) -> Result<()> {
        // `struct nfgenmsg` with the subsystem as the resource.
        let of = [0, 0, 0, subsystem as u8];
        let mut batch = Vec::new();
        let begin = self.number();
        frame(&mut batch, BATCH_BEGIN, NLM_F_REQUEST, begin, &of);
        for (kind, flags, body) in messages {
            let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
            let sequence = self.number();
            frame(&mut batch, subsystem << 8 | kind, flags, sequence, body);
        }
        let last = self.sequence;
        let end = self.number();
        frame(&mut batch, BATCH_END, NLM_F_REQUEST, end, &of);
        self.commit(&batch, Some(begin), begin + 1, last)
    }

    /// Asks for one object; what it is.
    pub(super) fn ask(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>> {
        let sequence = self.number();
        let mut request = Vec::new();
        frame(&mut request, kind, NLM_F_REQUEST, sequence, body);
        send(&self.socket, &request, SendFlags::empty())?;
        loop {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]) {
                if message.sequence != sequence {
                    continue;
                }
                return match message.kind {
                    NLMSG_ERROR => Err(refusal(message.body)),
                    _ => Ok(message.body.to_vec()),
                };
            }
        }
    }

    /// The kernel's number of this socket, which no other socket of this protocol and network namespace has.
    pub(super) fn port(&self) -> Result<u32> {
        Ok(SocketAddrNetlink::try_from(getsockname(&self.socket)?)?.pid())
    }

    /// Hands `each` every object of a dump; `false` = it was interrupted by a change and has to be taken again.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<bool> {
        let sequence = self.number();
        let mut request = Vec::new();
        frame(
            &mut request,
            kind,
            NLM_F_REQUEST | NLM_F_DUMP,
            sequence,
            body,
        );
        send(&self.socket, &request, SendFlags::empty())?;
        let mut whole = true;
        loop {
            let length = self.receive()?;
            for message in Messages(&self.buffer[..length]) {
                if message.sequence != sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => return Err(refusal(message.body)),
                    kind => each(kind, message.body),
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize> {
        match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => Err(ErrorKind::UnexpectedEof.into()),
            Ok((length, _)) => Ok(length),
            Err(error) => Err(error.into()),
        }
    }

    fn number(&mut self) -> u32 {
        // Far from wrapping, so that ranges of a transaction are plain; 0 is the kernel's own.
        self.sequence = self.sequence % (u32::MAX / 2) + 1;
        self.sequence
    }
}

/// A socket that is told of changes, without blocking.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Joins multicast groups of rtnetlink, given as bits.
    pub(super) fn open(groups: u32) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = open(ROUTE, flags, groups)?;
        // As much as the system allows; more than that is found out by ENOBUFS.
        set_socket_recv_buffer_size(&socket, MONITOR_ROOM)?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// Hands `each` what has happened since. An error says that something was lost.
    pub(super) fn read(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        for _ in 0..READS {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC) {
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok((length, whole)) if length < whole => return Err(ErrorKind::InvalidData.into()),
                Ok((length, _)) => {
                    for message in Messages(&self.buffer[..length]) {
                        each(message.kind, message.body);
                    }
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(protocol: Option<Protocol>, flags: SocketFlags, groups: u32) -> Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// What `NLMSG_ERROR` says, a negative number.
fn refusal(body: &[u8]) -> Error {
    let code = body.first_chunk().map(|b| i32::from_ne_bytes(*b));
    Error::from_raw_os_error(code.unwrap_or(-5).wrapping_neg())
}

/// The messages of a datagram.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header: &[u8; HEADER] = self.0.first_chunk()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            body,
        })
    }
}

/// The attributes of a message: kind and value.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header: &[u8; 4] = self.0.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// An attribute.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An attribute that holds attributes.
pub(super) fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

/// An attribute that holds a string with its terminator.
pub(super) fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// An attribute that holds an IP address.
pub(super) fn address(kind: u16, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => attribute(kind, &ip.octets()),
        IpAddr::V6(ip) => attribute(kind, &ip.octets()),
    }
}

/// The IP address that an attribute holds.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(*value.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*value.first_chunk::<16>()?)),
        _ => None,
    }
}

/// The number of an address's family.
pub(super) fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => INET,
        IpAddr::V6(_) => INET6,
    }
}

fn frame(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    out.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// True if the kernel refused with this number.
pub(super) fn is(error: &Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}

/// rtnetlink(7); its number is 0.
pub(super) const ROUTE: Option<Protocol> = None;
/// Netfilter with nf_tables.
pub(super) const NETFILTER: Option<Protocol> = Some(rustix::net::netlink::NETFILTER);
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_APPEND: u16 = 0x800;
pub(super) const INET: u8 = 2;
pub(super) const INET6: u8 = 10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NESTED: u16 = 1 << 15;
const HEADER: usize = 16;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// The kernel fills at most 32 KiB at once.
const BUFFER: usize = 64 * 1024;
const MONITOR_ROOM: usize = 1 << 20;
const READS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let bytes = [text(3, "a"), attribute(7, &[1, 2, 3, 4])].concat();
        assert_eq!(bytes, [6, 0, 3, 0, b'a', 0, 0, 0, 8, 0, 7, 0, 1, 2, 3, 4]);
        let read: Vec<_> = Attributes(&bytes).collect();
        assert_eq!(read, [(3, &b"a\0"[..]), (7, &[1, 2, 3, 4][..])]);
    }

    #[test]
    fn a_subsystem_that_is_not_there_refuses_and_is_not_waited_for() {
        let mut netlink = Netlink::open(NETFILTER).unwrap();
        // Without privileges it is EPERM: of the beginning, too. An answer that was waited for in vain would be EAGAIN;
        // how long the kernel takes to refuse is its own affair, it may look for a module first.
        let error = netlink.transaction(255, [(0, 0, &[0; 4][..])]).unwrap_err();
        let refused = [Errno::INVAL, Errno::PERM].map(Errno::raw_os_error);
        assert!(
            error.raw_os_error().is_some_and(|it| refused.contains(&it)),
            "{error}"
        );
    }

    #[test]
    fn lengths_that_lie_end_the_parsing() {
        for length in 0..=255u8 {
            assert!(Attributes(&[length, 0, 1, 0, 9, 9]).count() <= 1);
            let mut message = [0; 24];
            message[0] = length;
            assert!(Messages(&message).count() <= 1);
        }
    }
}
