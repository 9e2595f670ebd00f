//! Valid frames from a few words, and a judge of frames: for tests, benchmarks and fuzzing.
//!
//! [`PacketBuilder`] computes every length and checksum. [`verify`] checks all of them; it shares
//! no code with the parser and the checksum module, so that a bug there cannot hide itself.

use super::bytes::store16;
use super::checksum::Sum;
use super::sctp::Crc32c;
use super::vlan::Tag;
use super::{MacAddress, ethernet, icmpv4, ipv4, ipv6, sctp, tcp, udp, vlan};
use std::net::{IpAddr, SocketAddr};

mod verify;

pub use verify::verify;

/// A frame to be built. The defaults are an untagged frame, TTL 64, DF clear, no payload.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    source_mac: MacAddress,
    destination_mac: MacAddress,
    tags: Vec<Tag>,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    tos: u8,
    id: u16,
    dont_fragment: bool,
    fragment: Option<(u16, bool)>,
    ipv4_options: Vec<u8>,
    extensions: Vec<(u8, Vec<u8>)>,
    transport: Transport,
    payload: Vec<u8>,
    padding: usize,
}

impl PacketBuilder {
    /// A TCP segment; flags ACK until [`Self::flags`] says otherwise.
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        let header = tcp::Header {
            source_port: source.port(),
            destination_port: destination.port(),
            sequence: 1,
            acknowledgment: 1,
            header_length: tcp::LEN as u8,
            flags: tcp::ACK,
            window: 64240,
            checksum: 0,
            urgent: 0,
        };
        let transport = Transport::Tcp(header, Vec::new());
        Self::new(source.ip(), destination.ip(), transport)
    }

    /// A UDP datagram.
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        let transport = Transport::Udp {
            source: source.port(),
            destination: destination.port(),
            checksum: true,
        };
        Self::new(source.ip(), destination.ip(), transport)
    }

    /// An SCTP packet; the payload is its chunks.
    pub fn sctp(source: SocketAddr, destination: SocketAddr) -> Self {
        let transport = Transport::Sctp {
            source: source.port(),
            destination: destination.port(),
        };
        Self::new(source.ip(), destination.ip(), transport)
    }

    /// An ICMP message, or an ICMPv6 message if the addresses are IPv6.
    pub fn icmp(source: IpAddr, destination: IpAddr, kind: u8, code: u8) -> Self {
        let transport = Transport::Icmp {
            kind,
            code,
            rest: [0; 4],
        };
        Self::new(source, destination, transport)
    }

    /// A packet of any other protocol; the payload is all it has.
    pub fn raw(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self::new(source, destination, Transport::Raw(protocol))
    }

    /// Sets the MAC addresses.
    pub fn link(mut self, source: MacAddress, destination: MacAddress) -> Self {
        self.source_mac = source;
        self.destination_mac = destination;
        self
    }

    /// Adds an 802.1Q tag inside the tags added so far.
    pub fn vlan(self, id: u16) -> Self {
        self.tag(Tag::new(id))
    }

    /// Adds a tag inside the tags added so far.
    pub fn tag(mut self, tag: Tag) -> Self {
        self.tags.push(tag);
        self
    }

    /// Sets TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets type of service or traffic class.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// Sets the identification, of IPv6 fragments too.
    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    /// Sets IPv4 DF.
    pub fn dont_fragment(mut self) -> Self {
        self.dont_fragment = true;
        self
    }

    /// Makes it a fragment that starts at `offset` (in units of 8 bytes). With an offset the payload
    /// follows the IP header directly. The transport checksum covers this fragment only.
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// Sets the IPv4 options, padded with end-of-options to a multiple of 4; at most 40 bytes.
    pub fn ipv4_options(mut self, options: &[u8]) -> Self {
        self.ipv4_options = options.to_vec();
        self.ipv4_options
            .resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an IPv6 extension header of this protocol number. `body` is all but the next-header byte
    /// and the length byte, which the builder computes; it is padded to the unit of the header.
    pub fn extension(mut self, kind: u8, body: &[u8]) -> Self {
        self.extensions.push((kind, body.to_vec()));
        self
    }

    /// Sets the TCP flags.
    pub fn flags(mut self, flags: u8) -> Self {
        if let Transport::Tcp(header, _) = &mut self.transport {
            header.flags = flags;
        }
        self
    }

    /// Sets TCP sequence and acknowledgment numbers.
    pub fn sequence(mut self, sequence: u32, acknowledgment: u32) -> Self {
        if let Transport::Tcp(header, _) = &mut self.transport {
            header.sequence = sequence;
            header.acknowledgment = acknowledgment;
        }
        self
    }

    /// Sets the TCP window.
    pub fn window(mut self, window: u16) -> Self {
        if let Transport::Tcp(header, _) = &mut self.transport {
            header.window = window;
        }
        self
    }

    /// Sets the TCP options, padded with end-of-options to a multiple of 4; at most 40 bytes.
    pub fn tcp_options(mut self, bytes: &[u8]) -> Self {
        if let Transport::Tcp(header, options) = &mut self.transport {
            *options = bytes.to_vec();
            options.resize(bytes.len().next_multiple_of(4), 0);
            header.header_length = (tcp::LEN + options.len()) as u8;
        }
        self
    }

    /// Sends UDP without a checksum.
    pub fn no_checksum(mut self) -> Self {
        if let Transport::Udp { checksum, .. } = &mut self.transport {
            *checksum = false;
        }
        self
    }

    /// Sets the ICMP word that depends on the type.
    pub fn icmp_rest(mut self, word: [u8; 4]) -> Self {
        if let Transport::Icmp { rest, .. } = &mut self.transport {
            *rest = word;
        }
        self
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Adds bytes behind the IP datagram, as Ethernet pads short frames.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// The frame.
    ///
    /// # Panics
    /// If the addresses are of different families or something is longer than its length field can
    /// say: both are mistakes in the test.
    pub fn build(&self) -> Vec<u8> {
        let protocol = self.protocol();
        let mut transport = match self.fragment {
            Some((1.., _)) => self.payload.clone(),
            _ => self.transport_bytes(),
        };
        let (ether_type, mut datagram) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_length = ipv4::LEN + self.ipv4_options.len();
                assert!(header_length <= ipv4::MAX_LEN, "too many IPv4 options");
                let (fragment_offset, more_fragments) = self.fragment.unwrap_or_default();
                let header = ipv4::Header {
                    version: 4,
                    header_length: header_length as u8,
                    tos: self.tos,
                    total_length: length(header_length + transport.len()),
                    id: self.id,
                    dont_fragment: self.dont_fragment,
                    more_fragments,
                    fragment_offset,
                    ttl: self.ttl,
                    protocol,
                    source,
                    destination,
                };
                let mut bytes = [0; ipv4::LEN];
                header.write(&mut bytes);
                let mut bytes = bytes.to_vec();
                bytes.extend(&self.ipv4_options);
                ipv4::fill_checksum(&mut bytes);
                (ethernet::IPV4, bytes)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (next_header, extensions) = self.extension_bytes(protocol);
                let header = ipv6::Header {
                    version: 6,
                    traffic_class: self.tos,
                    flow_label: 0,
                    payload_length: length(extensions.len() + transport.len()),
                    next_header,
                    hop_limit: self.ttl,
                    source,
                    destination,
                };
                let mut bytes = [0; ipv6::LEN];
                header.write(&mut bytes);
                let mut bytes = bytes.to_vec();
                bytes.extend(extensions);
                (ethernet::IPV6, bytes)
            }
            _ => panic!("source and destination are of different families"),
        };
        let mut frame = self.link_bytes(ether_type);
        frame.append(&mut datagram);
        frame.append(&mut transport);
        // Padding is whatever the sender had in its buffer.
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }

    fn new(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            tags: Vec::new(),
            source,
            destination,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            fragment: None,
            ipv4_options: Vec::new(),
            extensions: Vec::new(),
            transport,
            payload: Vec::new(),
            padding: 0,
        }
    }

    fn protocol(&self) -> u8 {
        match (&self.transport, self.source) {
            (Transport::Tcp(..), _) => 6,
            (Transport::Udp { .. }, _) => 17,
            (Transport::Sctp { .. }, _) => 132,
            (Transport::Icmp { .. }, IpAddr::V4(_)) => ipv4::ICMP,
            (Transport::Icmp { .. }, IpAddr::V6(_)) => ipv6::ICMPV6,
            (Transport::Raw(protocol), _) => *protocol,
        }
    }

    fn link_bytes(&self, ether_type: u16) -> Vec<u8> {
        let header = ethernet::Header {
            destination: self.destination_mac,
            source: self.source_mac,
            ether_type,
        };
        let mut bytes = [0; ethernet::LEN];
        header.write(&mut bytes);
        let (addresses, ether_type) = bytes.split_at(12);
        let mut frame = addresses.to_vec();
        for tag in &self.tags {
            let mut bytes = [0; vlan::LEN];
            tag.write(&mut bytes);
            frame.extend(bytes);
        }
        frame.extend(ether_type);
        frame
    }

    /// The next header of the IPv6 header, and the extension headers with `protocol` behind them.
    fn extension_bytes(&self, protocol: u8) -> (u8, Vec<u8>) {
        let mut headers = self.extensions.clone();
        if let Some((offset, more)) = self.fragment {
            let word = (offset << 3 | u16::from(more)).to_be_bytes();
            let id = self.id.to_be_bytes();
            headers.push((ipv6::FRAGMENT, vec![word[0], word[1], 0, 0, id[0], id[1]]));
        }
        let mut bytes = Vec::new();
        for (index, (kind, body)) in headers.iter().enumerate() {
            let next = headers.get(index + 1).map_or(protocol, |(kind, _)| *kind);
            let unit = if *kind == ipv6::AUTHENTICATION { 4 } else { 8 };
            let header_length = (body.len() + 2).next_multiple_of(unit);
            let length = match *kind {
                ipv6::FRAGMENT => 0,
                ipv6::AUTHENTICATION => header_length / 4 - 2,
                _ => header_length / 8 - 1,
            };
            let end = bytes.len() + header_length;
            bytes.extend([next, length as u8]);
            bytes.extend(body);
            bytes.resize(end, 0);
        }
        (headers.first().map_or(protocol, |(kind, _)| *kind), bytes)
    }

    fn transport_bytes(&self) -> Vec<u8> {
        match &self.transport {
            Transport::Tcp(header, options) => {
                let mut bytes = [0; tcp::LEN];
                header.write(&mut bytes);
                let mut bytes = [&bytes, options.as_slice(), &self.payload].concat();
                let checksum = self.pseudo(&bytes).bytes(&bytes).checksum();
                put_checksum::<{ tcp::LEN }>(&mut bytes, tcp::field::CHECKSUM, checksum);
                bytes
            }
            Transport::Udp {
                source,
                destination,
                checksum,
            } => {
                let header = udp::Header {
                    source_port: *source,
                    destination_port: *destination,
                    length: length(udp::LEN + self.payload.len()),
                    checksum: 0,
                };
                let mut bytes = [0; udp::LEN];
                header.write(&mut bytes);
                let mut bytes = [&bytes, self.payload.as_slice()].concat();
                if *checksum {
                    let checksum = self.pseudo(&bytes).bytes(&bytes).udp_checksum();
                    put_checksum::<{ udp::LEN }>(&mut bytes, udp::field::CHECKSUM, checksum);
                }
                bytes
            }
            Transport::Sctp {
                source,
                destination,
            } => {
                let mut header = sctp::Header {
                    source_port: *source,
                    destination_port: *destination,
                    verification_tag: 0x1234_5678,
                    checksum: 0,
                };
                let mut bytes = [0; sctp::LEN];
                header.write(&mut bytes);
                header.checksum = Crc32c::checksum(&[&bytes, &self.payload]);
                header.write(&mut bytes);
                [&bytes, self.payload.as_slice()].concat()
            }
            Transport::Icmp { kind, code, rest } => {
                let header = icmpv4::Header {
                    kind: *kind,
                    code: *code,
                    checksum: 0,
                    rest: *rest,
                };
                let mut bytes = [0; icmpv4::LEN];
                header.write(&mut bytes);
                let mut bytes = [&bytes, self.payload.as_slice()].concat();
                let pseudo = match self.source {
                    IpAddr::V4(_) => Sum::default(),
                    IpAddr::V6(_) => self.pseudo(&bytes),
                };
                let checksum = pseudo.bytes(&bytes).checksum();
                put_checksum::<{ icmpv4::LEN }>(&mut bytes, icmpv4::field::CHECKSUM, checksum);
                bytes
            }
            Transport::Raw(_) => self.payload.clone(),
        }
    }

    fn pseudo(&self, transport: &[u8]) -> Sum {
        let sum = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Sum::of(&source.octets()).bytes(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Sum::of(&source.octets()).bytes(&destination.octets())
            }
            _ => panic!("source and destination are of different families"),
        };
        sum.word(u16::from(self.protocol()))
            .word(length(transport.len()))
    }
}

#[derive(Clone, Debug)]
enum Transport {
    Tcp(tcp::Header, Vec<u8>),
    Udp {
        source: u16,
        destination: u16,
        checksum: bool,
    },
    Sctp {
        source: u16,
        destination: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    Raw(u8),
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a packet is at most 65535 bytes long")
}

fn put_checksum<const N: usize>(transport: &mut [u8], at: usize, checksum: u16) {
    if let Some(header) = transport.first_chunk_mut::<N>() {
        store16(header, at, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_built_like_the_recorded_one() {
        // The inner packet of the recorded IPIP packet.
        let frame = PacketBuilder::udp(
            "10.0.1.100:51387".parse().unwrap(),
            "10.0.1.50:99".parse().unwrap(),
        )
        .tos(0xb9)
        .id(0xd1be)
        .ttl(32)
        .dont_fragment()
        .payload("tunnel-payload")
        .build();
        let recorded = [
            0x45, 0xb9, 0x00, 0x2a, 0xd1, 0xbe, 0x40, 0x00, 0x20, 0x11, 0x71, 0xb6, 0x0a, 0x00,
            0x01, 0x64, 0x0a, 0x00, 0x01, 0x32, 0xc8, 0xbb, 0x00, 0x63, 0x00, 0x16, 0x7b, 0x00,
            0x74, 0x75, 0x6e, 0x6e, 0x65, 0x6c, 0x2d, 0x70, 0x61, 0x79, 0x6c, 0x6f, 0x61, 0x64,
        ];
        assert_eq!(frame[14..], recorded);
        assert_eq!(verify(&frame), Ok(()));
    }

    #[test]
    fn everything_that_is_built_verifies() {
        for (source, destination) in [
            ("10.0.1.100:1234", "10.0.1.50:80"),
            ("[2001:db8::1]:1234", "[2001:db8::2]:80"),
        ] {
            let source: SocketAddr = source.parse().unwrap();
            let destination: SocketAddr = destination.parse().unwrap();
            for builder in [
                PacketBuilder::tcp(source, destination).tcp_options(&[2, 4, 5, 0xb4]),
                PacketBuilder::udp(source, destination),
                PacketBuilder::sctp(source, destination),
                PacketBuilder::icmp(source.ip(), destination.ip(), 128, 0),
                PacketBuilder::raw(source.ip(), destination.ip(), 47),
            ] {
                let builder = builder
                    .payload("odd")
                    .padding(7)
                    .vlan(5)
                    .vlan(6)
                    .ipv4_options(&[0x94, 4, 0, 0])
                    .extension(ipv6::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
                    .extension(ipv6::AUTHENTICATION, &[0; 10])
                    .extension(ipv6::DESTINATION_OPTIONS, &[1, 4, 0, 0, 0, 0]);
                assert_eq!(verify(&builder.build()), Ok(()), "{builder:?}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_packet_does_not_verify() {
        let frame = PacketBuilder::tcp(
            "10.0.1.100:1234".parse().unwrap(),
            "10.0.1.50:80".parse().unwrap(),
        )
        .payload("payload")
        .build();
        for at in ethernet::LEN..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 0x01;
            assert!(verify(&bad).is_err(), "byte {at}");
        }
    }
}
