//! Packets made cheaply: a buffer laid out like an mbuf, and frames that differ in their client only.
//!
//! A [`Template`] is built once with client `0.0.0.0:0` (or `[::]:0`). In one's complement zero
//! adds nothing, so each copy gets its client's words added to the checksums and is valid.

use dataplane::address::Endpoint;
use dataplane::buffer::PacketBuffer;
use dataplane::packet::MacAddress;
use dataplane::packet::builder::PacketBuilder;
use dataplane::packet::tcp;
use dataplane::steering::Errand;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room in front of a frame, as DPDK leaves it.
const HEADROOM: usize = 128;
const ROOM: usize = HEADROOM + 2048;
/// An mbuf has two cache lines of metadata before its room.
const METADATA: usize = 128;

/// A buffer that needs no EAL: metadata, then the frame, cache-aligned, as an mbuf.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Packet {
    start: u16,
    len: u16,
    port: u16,
    filler: [u8; METADATA - 6 - size_of::<Errand>()],
    errand: Errand,
    room: [u8; ROOM],
}

impl Packet {
    /// An empty one.
    pub(crate) const EMPTY: Self = Self {
        start: HEADROOM as u16,
        len: 0,
        port: 0,
        filler: [0; METADATA - 6 - size_of::<Errand>()],
        errand: Errand::Own,
        room: [0; ROOM],
    };
}

impl PacketBuffer for Packet {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        &self.room[usize::from(self.start)..][..usize::from(self.len)]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.room[usize::from(self.start)..][..usize::from(self.len)]
    }

    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        true
    }

    #[inline(always)]
    fn vlan(&self) -> Option<u16> {
        None
    }

    fn clear_vlan(&mut self) {}

    #[inline(always)]
    fn port(&self) -> u16 {
        self.port
    }

    #[inline]
    fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    fn errand(&self) -> Errand {
        self.errand
    }

    fn set_errand(&mut self, errand: Errand) {
        self.errand = errand;
    }

    fn prepend(&mut self, len: usize) -> bool {
        let Some(start) = usize::from(self.start).checked_sub(len) else {
            return false;
        };
        self.start = start as u16;
        self.len += len as u16;
        true
    }

    fn append(&mut self, len: usize) -> bool {
        if len > ROOM - usize::from(self.start + self.len) {
            return false;
        }
        self.len += len as u16;
        true
    }

    #[inline]
    fn trim_front(&mut self, len: usize) {
        let len = len.min(usize::from(self.len)) as u16;
        self.start += len;
        self.len -= len;
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len.min(ROOM) as u16);
    }
}

/// IP family of a benchmark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Where the client stands in a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// Client to VIP.
    Request,
    /// Server to client.
    Reply,
}

/// Frames that differ in their client only.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    port: u16,
    family: Family,
    way: Way,
}

/// Clients, all behind one gateway: flow `n` comes from address `n % ADDRESSES`.
const ADDRESSES: u32 = 240;
/// The first client port.
const FIRST_PORT: u32 = 1024;
/// How many flows there are at most.
pub(crate) const FLOWS: u32 = (65536 - FIRST_PORT) * ADDRESSES;
/// Shortest frame without its checksum.
const SHORTEST: usize = 60;

impl Template {
    /// TCP segments between `peer` (a VIP or a server) and any client, `length` bytes on the wire
    /// with the Ethernet checksum if the headers fit.
    pub(crate) fn new(peer: SocketAddr, way: Way, flags: u8, length: usize) -> Self {
        let (family, nobody, headers) = match peer.ip() {
            IpAddr::V4(_) => (Family::V4, IpAddr::V4(Ipv4Addr::UNSPECIFIED), 54),
            IpAddr::V6(_) => (Family::V6, IpAddr::V6(Ipv6Addr::UNSPECIFIED), 74),
        };
        let client = SocketAddr::new(nobody, 0);
        let (source, destination) = match way {
            Way::Request => (client, peer),
            Way::Reply => (peer, client),
        };
        let payload = if flags & tcp::SYN == 0 {
            length.saturating_sub(4).saturating_sub(headers)
        } else {
            0
        };
        // A bare acknowledgement is padded by its sender; anything longer carries data.
        let payload = if headers + payload <= SHORTEST {
            0
        } else {
            payload
        };
        let port = match way {
            Way::Request => 0,
            Way::Reply => 1,
        };
        let frame = PacketBuilder::tcp(source, destination)
            .link(
                MacAddress([2, 0, 0, 0, 0, 9]),
                dataplane::pipeline::world::port_mac(port),
            )
            .flags(flags)
            .payload(vec![0; payload])
            .padding(SHORTEST.saturating_sub(headers + payload))
            .build();
        Self {
            frame,
            port: u16::from(port),
            family,
            way,
        }
    }

    /// The same frames for another station.
    pub(crate) fn addressed(mut self, station: MacAddress) -> Self {
        self.frame[..6].copy_from_slice(&station.0);
        self
    }

    /// Bytes of each frame.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        self.frame.len()
    }

    /// Writes the packet of `flow` into `packet`.
    #[inline]
    pub(crate) fn write(&self, packet: &mut Packet, flow: u32) {
        packet.start = HEADROOM as u16;
        packet.len = self.frame.len() as u16;
        packet.port = self.port;
        self.write_to(&mut packet.room[HEADROOM..][..self.frame.len()], flow);
    }

    /// Writes the packet of `flow` over `frame`, which is as long as [`Self::length`] says.
    #[inline]
    pub(crate) fn write_to(&self, frame: &mut [u8], flow: u32) {
        frame.copy_from_slice(&self.frame);
        let (host, port) = host_and_port(flow);
        let (address, ports, sum) = match (self.family, self.way) {
            (Family::V4, Way::Request) => (26, 34, 50),
            (Family::V4, Way::Reply) => (30, 36, 50),
            (Family::V6, Way::Request) => (22, 54, 70),
            (Family::V6, Way::Reply) => (38, 56, 70),
        };
        let words = match self.family {
            Family::V4 => {
                let words = [0x0a00, 0x0900 | host];
                put(frame, address, words[0]);
                put(frame, address + 2, words[1]);
                add(frame, 24, &words);
                words
            }
            Family::V6 => {
                put(frame, address, 0xfd00);
                put(frame, address + 2, 9);
                put(frame, address + 14, host);
                // One sum of at most 0xfd00 + 9 + 241: no carry.
                [0xfd00 + 9, host]
            }
        };
        put(frame, ports, port);
        add(frame, sum, &[words[0], words[1], port]);
    }
}

/// The client of `flow`, with IPv4.
pub(crate) fn client(flow: u32) -> Endpoint<Ipv4Addr> {
    let (host, port) = host_and_port(flow);
    Endpoint::new(Ipv4Addr::new(10, 0, 9, host as u8), port)
}

/// The last part of the client's address, and its port.
#[inline]
fn host_and_port(flow: u32) -> (u16, u16) {
    (
        (flow % ADDRESSES + 2) as u16,
        (flow / ADDRESSES + FIRST_PORT) as u16,
    )
}

#[inline]
fn put(frame: &mut [u8], at: usize, word: u16) {
    frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
}

/// Adds `words` to what the checksum at `at` covers (RFC 1624 with old words of zero).
#[inline]
fn add(frame: &mut [u8], at: usize, words: &[u16]) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut sum = u32::from(!old);
    for word in words {
        sum += u32::from(*word);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put(frame, at, !(sum as u16));
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::packet::builder::verify;

    #[test]
    fn every_copy_is_a_valid_frame_of_its_own_flow() {
        for peer in ["10.0.1.50:80", "[fd00:1::50]:80"] {
            for way in [Way::Request, Way::Reply] {
                let template = Template::new(peer.parse().unwrap(), way, tcp::ACK, 64);
                let mut seen = std::collections::BTreeSet::new();
                for flow in (0..FLOWS).step_by(99_991) {
                    let mut packet = Packet::EMPTY;
                    template.write(&mut packet, flow);
                    assert_eq!(verify(packet.data()), Ok(()), "{peer} {way:?} {flow}");
                    assert!(seen.insert(packet.data().to_vec()));
                }
            }
        }
    }

    #[test]
    fn the_client_of_a_flow_is_the_sender_of_its_requests() {
        let vip = "10.0.1.50:80".parse().unwrap();
        let template = Template::new(vip, Way::Request, tcp::ACK, 64);
        for flow in [0, 239, 240, 1_000_000, FLOWS - 1] {
            let mut packet = Packet::EMPTY;
            template.write(&mut packet, flow);
            let client = client(flow);
            assert_eq!(packet.data()[26..30], client.address.octets());
            assert_eq!(packet.data()[34..36], client.port.to_be_bytes());
        }
    }

    #[test]
    fn a_frame_is_as_long_as_asked() {
        for length in [64, 65, 512, 1500] {
            let template = Template::new(
                "10.0.1.50:80".parse().unwrap(),
                Way::Request,
                tcp::ACK,
                length,
            );
            assert_eq!(template.frame.len() + 4, length);
        }
    }
}
