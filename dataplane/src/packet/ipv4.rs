//! IPv4 header (RFC 791 3.1), without its options.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version|  IHL  |Type of Service|          Total Length         |
//! |         Identification        |Flags|     Fragment Offset     |
//! |  Time to Live |    Protocol   |        Header Checksum        |
//! |                       Source Address                          |
//! |                    Destination Address                        |
//! ```

use super::bytes::{load, load16, store, store16};
use super::checksum::Sum;
use std::net::Ipv4Addr;

/// Length of the header without options.
pub const LEN: usize = 20;
/// Length of the longest header.
pub const MAX_LEN: usize = 60;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IGMP.
pub const IGMP: u8 = 2;

pub(super) mod field {
    pub(in crate::packet) const VERSION_IHL: usize = 0;
    pub(in crate::packet) const TOS: usize = 1;
    pub(in crate::packet) const TOTAL_LENGTH: usize = 2;
    pub(in crate::packet) const ID: usize = 4;
    pub(in crate::packet) const FRAGMENT: usize = 6;
    pub(in crate::packet) const TTL: usize = 8;
    pub(in crate::packet) const PROTOCOL: usize = 9;
    pub(in crate::packet) const CHECKSUM: usize = 10;
    pub(in crate::packet) const SOURCE: usize = 12;
    pub(in crate::packet) const DESTINATION: usize = 16;
}

pub(super) const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// The fixed part of the header; the checksum is not a value but a property of the bytes
/// ([`verify`], [`fill_checksum`]).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Version, 4 in a legal header.
    pub version: u8,
    /// Length of the header with options in bytes, 20 to 60 in a legal header.
    pub header_length: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Length of the datagram, header included.
    pub total_length: u16,
    /// Identification of the datagram that fragments belong to.
    pub id: u16,
    /// DF: routers may not fragment it.
    pub dont_fragment: bool,
    /// MF: a fragment, and not the last.
    pub more_fragments: bool,
    /// Where the fragment starts, in units of 8 bytes.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Transport protocol number.
    pub protocol: u8,
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Reads the fixed part of the header without judging it.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        let fragment = load16(header, field::FRAGMENT);
        Self {
            version: header[field::VERSION_IHL] >> 4,
            header_length: (header[field::VERSION_IHL] & 0xf) * 4,
            tos: header[field::TOS],
            total_length: load16(header, field::TOTAL_LENGTH),
            id: load16(header, field::ID),
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            more_fragments: fragment & MORE_FRAGMENTS != 0,
            fragment_offset: fragment & OFFSET,
            ttl: header[field::TTL],
            protocol: header[field::PROTOCOL],
            source: Ipv4Addr::from_octets(load(header, field::SOURCE)),
            destination: Ipv4Addr::from_octets(load(header, field::DESTINATION)),
        }
    }

    /// Writes the fixed part with a checksum that is right if no options follow; after writing
    /// options call [`fill_checksum`].
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        header[field::VERSION_IHL] = self.version << 4 | (self.header_length / 4);
        header[field::TOS] = self.tos;
        store16(header, field::TOTAL_LENGTH, self.total_length);
        store16(header, field::ID, self.id);
        store16(
            header,
            field::FRAGMENT,
            u16::from(self.dont_fragment) << 14
                | u16::from(self.more_fragments) << 13
                | self.fragment_offset & OFFSET,
        );
        header[field::TTL] = self.ttl;
        header[field::PROTOCOL] = self.protocol;
        store16(header, field::CHECKSUM, 0);
        store(header, field::SOURCE, self.source.octets());
        store(header, field::DESTINATION, self.destination.octets());
        let checksum = Sum::of(header).checksum();
        store16(header, field::CHECKSUM, checksum);
    }
}

/// Whether the checksum of a whole header, options included, is right.
#[inline]
pub fn verify(header: &[u8]) -> bool {
    Sum::of(header).checksum() == 0
}

/// Computes the checksum of a whole header, options included. Leaves alone what is shorter than
/// a header.
pub fn fill_checksum(header: &mut [u8]) {
    if let Some(fixed) = header.first_chunk_mut::<LEN>() {
        store16(fixed, field::CHECKSUM, 0);
        let checksum = Sum::of(header).checksum();
        if let Some(fixed) = header.first_chunk_mut::<LEN>() {
            store16(fixed, field::CHECKSUM, checksum);
        }
    }
}

/// Whether no single host can have this address: multicast, limited broadcast and class E, loopback,
/// and "this network" (RFC 1122 3.2.1.3).
#[inline]
pub fn never_a_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first >= 224 || first == 127 || first == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The outer header of the recorded IPIP packet.
    const BYTES: [u8; LEN] = [
        0x45, 0xb9, 0x00, 0x3e, 0x00, 0x00, 0x40, 0x00, 0x20, 0x04, 0x41, 0xf7, 0x0a, 0x00, 0x02,
        0x01, 0x0a, 0x00, 0x02, 0x0c,
    ];

    const HEADER: Header = Header {
        version: 4,
        header_length: 20,
        tos: 0xb9,
        total_length: 62,
        id: 0,
        dont_fragment: true,
        more_fragments: false,
        fragment_offset: 0,
        ttl: 32,
        protocol: 4,
        source: Ipv4Addr::new(10, 0, 2, 1),
        destination: Ipv4Addr::new(10, 0, 2, 12),
    };

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        assert_eq!(Header::read(&BYTES), HEADER);
        let mut written = [0xff; LEN];
        HEADER.write(&mut written);
        assert_eq!(written, BYTES);
        assert!(verify(&BYTES));
    }

    #[test]
    fn fragment_flags_and_offset_share_a_word() {
        let header = Header {
            dont_fragment: false,
            more_fragments: true,
            fragment_offset: 185,
            ..HEADER
        };
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written[6..8], [0x20, 0xb9]);
        assert_eq!(Header::read(&written), header);
    }

    #[test]
    fn options_are_part_of_the_checksum() {
        let mut header = [0; 24];
        let fixed = header.first_chunk_mut().unwrap();
        Header {
            header_length: 24,
            ..HEADER
        }
        .write(fixed);
        header[20..].copy_from_slice(&[0x94, 4, 0, 0]);
        assert!(!verify(&header));
        fill_checksum(&mut header);
        assert!(verify(&header));
    }

    #[test]
    fn groups_loopback_and_zero_are_no_hosts() {
        for bad in [
            "224.0.0.18",
            "255.255.255.255",
            "240.0.0.1",
            "127.0.0.1",
            "0.0.0.0",
        ] {
            assert!(never_a_host(bad.parse().unwrap()), "{bad}");
        }
        for good in [
            "1.0.0.1",
            "10.0.0.255",
            "126.1.1.1",
            "128.0.0.1",
            "223.255.255.254",
        ] {
            assert!(!never_a_host(good.parse().unwrap()), "{good}");
        }
    }
}
