//! The VRRP message: RFC 3768 section 5.1 (version 2) and RFC 9568 section 5.1 (version 3).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |Version| Type  | Virtual Rtr ID|    Priority   |     Count     |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   v2: Auth Type | Adver Int (s)             |    Checksum     |
//! |   v3: Reserve(4) | Max Advertise Interval(12, centiseconds)   |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    Count addresses of 4 or 16 bytes           |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                    v2: authentication data (8)                |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! The length is compared with what version and count demand before anything is read, so nothing here can panic on
//! bytes from the wire. What stands behind the message (Ethernet padding) is left alone and not covered by the checksum.

use crate::settings::{Checksum, Family, Version};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Type of the only message there is.
pub(crate) const ADVERTISEMENT: u8 = 1;
/// Authentication type of version 2: none.
pub(crate) const AUTH_NONE: u8 = 0;
/// Authentication type of version 2: a password in clear.
pub(crate) const AUTH_PASS: u8 = 1;
/// Where IPv4 routers of a link listen.
pub(crate) const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 18));
/// Where IPv6 routers of a link listen.
pub(crate) const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12));

const HEADER: usize = 8;
const AUTH_DATA: usize = 8;
const PROTOCOL: u8 = 112;

/// A message whose length is right; nothing else of it has been judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    header: &'a [u8; HEADER],
    addresses: &'a [u8],
    password: Option<&'a [u8; AUTH_DATA]>,
    /// What the checksum covers.
    covered: &'a [u8],
    family: Family,
}

/// The message is shorter than its header, or than its version and count demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooShort;

impl<'a> Message<'a> {
    /// Reads a message of this family.
    pub(crate) fn decode(bytes: &'a [u8], family: Family) -> Result<Self, TooShort> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(TooShort)?;
        let width = width(family);
        let addresses_end = HEADER + usize::from(header[3]) * width;
        let is_v2 = header[0] >> 4 == 2;
        let end = addresses_end + if is_v2 { AUTH_DATA } else { 0 };
        let covered = bytes.get(..end).ok_or(TooShort)?;
        let password = if is_v2 {
            Some(covered.last_chunk().ok_or(TooShort)?)
        } else {
            None
        };
        Ok(Self {
            header,
            addresses: &covered[HEADER..addresses_end],
            password,
            covered,
            family,
        })
    }

    pub(crate) fn version(&self) -> u8 {
        self.header[0] >> 4
    }

    pub(crate) fn kind(&self) -> u8 {
        self.header[0] & 0x0f
    }

    pub(crate) fn priority(&self) -> u8 {
        self.header[2]
    }

    /// Version 2 only.
    pub(crate) fn auth_type(&self) -> u8 {
        self.header[4]
    }

    /// Version 2 only.
    pub(crate) fn password(&self) -> Option<&'a [u8; AUTH_DATA]> {
        self.password
    }

    /// The interval as it stands there: seconds in version 2, centiseconds in version 3.
    pub(crate) fn raw_interval(&self) -> u16 {
        if self.version() == 2 {
            u16::from(self.header[5])
        } else {
            u16::from_be_bytes([self.header[4], self.header[5]]) & 0x0fff
        }
    }

    /// How many addresses it names.
    pub(crate) fn count(&self) -> usize {
        usize::from(self.header[3])
    }

    /// The addresses, in their order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let family = self.family;
        self.addresses
            .chunks_exact(width(family))
            .filter_map(move |bytes| match family {
                Family::V4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
                Family::V6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
            })
    }

    /// Whether the checksum is one that some router computes for this version and family.
    ///
    /// Version 3 over IPv4 is accepted with and without a pseudo-header: RFC 9568 leaves it out, keepalived by default
    /// includes it. To a unicast peer, old keepalived computes it with the group's address.
    pub(crate) fn is_checksum_good(&self, source: IpAddr, destination: IpAddr) -> bool {
        if cfg!(fuzzing) {
            return true;
        }
        let plain = sum(self.covered);
        let with = |destination| {
            fold(plain + pseudo_header(source, destination, self.covered.len())) == 0xffff
        };
        match (self.version(), self.family) {
            (2, _) => fold(plain) == 0xffff,
            (_, Family::V4) => fold(plain) == 0xffff || with(destination) || with(GROUP_V4),
            (_, Family::V6) => with(destination) || with(GROUP_V6),
        }
    }
}

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) version: Version,
    pub(crate) vrid: u8,
    pub(crate) priority: u8,
    /// Seconds in version 2, centiseconds in version 3.
    pub(crate) raw_interval: u16,
    pub(crate) password: Option<&'a [u8; AUTH_DATA]>,
    pub(crate) checksum: Checksum,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}

impl Outgoing<'_> {
    /// The message with its checksum. Of more than 255 addresses the first 255 are named.
    pub(crate) fn encode(&self, addresses: impl Iterator<Item = IpAddr>) -> Vec<u8> {
        let [high, low] = self.raw_interval.to_be_bytes();
        let (first, interval) = match self.version {
            Version::V2 => {
                let auth_type = if self.password.is_some() {
                    AUTH_PASS
                } else {
                    AUTH_NONE
                };
                (0x20 | ADVERTISEMENT, [auth_type, low])
            }
            Version::V3 => (0x30 | ADVERTISEMENT, [high & 0x0f, low]),
        };
        let mut bytes = Vec::with_capacity(64);
        bytes.extend([first, self.vrid, self.priority, 0]);
        bytes.extend(interval);
        bytes.extend([0, 0]);
        let mut count = 0_u8;
        for address in addresses.take(usize::from(u8::MAX)) {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
            count += 1;
        }
        bytes[3] = count;
        if self.version == Version::V2 {
            bytes.extend(self.password.unwrap_or(&[0; AUTH_DATA]));
        }
        let mut total = sum(&bytes);
        let v3_covers_more = self.source.is_ipv6() || self.checksum == Checksum::PseudoHeader;
        if self.version == Version::V3 && v3_covers_more {
            total += pseudo_header(self.source, self.destination, bytes.len());
        }
        bytes[6..8].copy_from_slice(&(!fold(total)).to_be_bytes());
        bytes
    }
}

/// The VRID, which says whose message it is; it can be read of anything that has two bytes.
pub(crate) fn vrid(bytes: &[u8]) -> Option<u8> {
    bytes.get(1).copied()
}

const fn width(family: Family) -> usize {
    match family {
        Family::V4 => 4,
        Family::V6 => 16,
    }
}

/// Sum of 16-bit words (RFC 1071), not folded. 2 KiB fit many times into 32 bits.
fn sum(bytes: &[u8]) -> u32 {
    let pairs = bytes.chunks(2);
    pairs
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Source, destination, zero, protocol, length (RFC 9568 section 5.2.8).
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let address = |address| match address {
        IpAddr::V4(address) => sum(&Ipv4Addr::octets(&address)),
        IpAddr::V6(address) => sum(&Ipv6Addr::octets(&address)),
    };
    address(source) + address(destination) + u32::from(PROTOCOL) + length as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        digits
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const PASSWORD: [u8; 8] = *b"abcd1234";

    fn v2(priority: u8) -> Vec<u8> {
        Outgoing {
            version: Version::V2,
            vrid: 51,
            priority,
            raw_interval: 1,
            password: Some(&PASSWORD),
            checksum: Checksum::PseudoHeader,
            source: ip("10.0.1.100"),
            destination: GROUP_V4,
        }
        .encode([ip("10.0.1.60"), ip("10.0.1.61")].into_iter())
    }

    fn v3(priority: u8, source: &str, checksum: Checksum) -> Vec<u8> {
        Outgoing {
            version: Version::V3,
            vrid: 52,
            priority,
            raw_interval: 50,
            password: None,
            checksum,
            source: ip(source),
            destination: GROUP_V4,
        }
        .encode([ip("10.0.1.62")].into_iter())
    }

    #[test]
    fn version_2_is_written_as_keepalived_was_recorded_to_write_it() {
        let rest = "0a00013c 0a00013d 61626364 31323334";
        for (priority, head) in [
            (90, "21335a02 01014423"),
            (150, "21339602 01010823"),
            (0, "21330002 01019e23"),
        ] {
            assert_eq!(v2(priority), bytes(&format!("{head}{rest}")), "{priority}");
        }
    }

    #[test]
    fn version_3_is_written_as_keepalived_was_recorded_to_write_it() {
        for (priority, source, expected) in [
            (90, "10.0.1.100", "31345a01 00327d67 0a00013e"),
            (100, "10.0.1.1", "31346401 003273ca 0a00013e"),
            (0, "10.0.1.100", "31340001 0032d767 0a00013e"),
            (0, "10.0.1.1", "31340001 0032d7ca 0a00013e"),
        ] {
            let written = v3(priority, source, Checksum::PseudoHeader);
            assert_eq!(written, bytes(expected), "{priority} {source}");
        }
    }

    #[test]
    fn what_keepalived_sent_is_read() {
        let packet = bytes("21335a02 01014423 0a00013c 0a00013d 61626364 31323334");
        let message = Message::decode(&packet, Family::V4).unwrap();
        assert_eq!((message.version(), message.kind()), (2, ADVERTISEMENT));
        assert_eq!(vrid(&packet), Some(51));
        assert_eq!((message.priority(), message.raw_interval()), (90, 1));
        assert_eq!(message.auth_type(), AUTH_PASS);
        assert_eq!(message.password(), Some(&PASSWORD));
        let addresses: Vec<_> = message.addresses().collect();
        assert_eq!(addresses, [ip("10.0.1.60"), ip("10.0.1.61")]);
        assert!(message.is_checksum_good(ip("10.0.1.100"), GROUP_V4));

        let packet = bytes("31345a01 00327d67 0a00013e");
        let message = Message::decode(&packet, Family::V4).unwrap();
        assert_eq!((message.version(), message.raw_interval()), (3, 50));
        assert_eq!(message.password(), None);
        assert!(message.is_checksum_good(ip("10.0.1.100"), GROUP_V4));
        assert!(!message.is_checksum_good(ip("10.0.1.101"), GROUP_V4));
    }

    #[test]
    fn both_checksums_of_version_3_over_ipv4_are_accepted() {
        let alone = v3(90, "10.0.1.100", Checksum::MessageOnly);
        let with = v3(90, "10.0.1.100", Checksum::PseudoHeader);
        assert_ne!(alone, with);
        for packet in [alone, with] {
            let message = Message::decode(&packet, Family::V4).unwrap();
            assert!(message.is_checksum_good(ip("10.0.1.100"), GROUP_V4));
        }
    }

    #[test]
    fn the_checksum_of_old_keepalived_to_unicast_peers_is_accepted() {
        let packet = v3(90, "10.0.1.100", Checksum::PseudoHeader);
        let message = Message::decode(&packet, Family::V4).unwrap();
        assert!(message.is_checksum_good(ip("10.0.1.100"), ip("10.0.1.1")));
    }

    #[test]
    fn ipv6_always_covers_the_pseudo_header() {
        for checksum in [Checksum::PseudoHeader, Checksum::MessageOnly] {
            let packet = Outgoing {
                version: Version::V3,
                vrid: 53,
                priority: 100,
                raw_interval: 100,
                password: None,
                checksum,
                source: ip("fe80::1"),
                destination: GROUP_V6,
            }
            .encode([ip("fe80::53"), ip("2001:db8::53")].into_iter());
            assert_eq!(packet.len(), 8 + 32);
            let message = Message::decode(&packet, Family::V6).unwrap();
            assert!(message.is_checksum_good(ip("fe80::1"), GROUP_V6));
            assert!(!message.is_checksum_good(ip("fe80::2"), GROUP_V6));
            let addresses: Vec<_> = message.addresses().collect();
            assert_eq!(addresses, [ip("fe80::53"), ip("2001:db8::53")]);
        }
    }

    #[test]
    fn version_2_without_password_still_has_its_eight_bytes() {
        let packet = Outgoing {
            version: Version::V2,
            vrid: 1,
            priority: 100,
            raw_interval: 1,
            password: None,
            checksum: Checksum::PseudoHeader,
            source: ip("10.0.1.1"),
            destination: GROUP_V4,
        }
        .encode([ip("10.0.1.60")].into_iter());
        assert_eq!(packet.len(), 20);
        assert_eq!((packet[4], &packet[12..]), (AUTH_NONE, &[0; 8][..]));
        let message = Message::decode(&packet, Family::V4).unwrap();
        assert!(message.is_checksum_good(ip("10.0.1.1"), GROUP_V4));
    }

    #[test]
    fn every_truncation_is_too_short_and_padding_is_left_alone() {
        for packet in [v2(90), v3(90, "10.0.1.100", Checksum::PseudoHeader)] {
            for length in 0..packet.len() {
                let cut = Message::decode(&packet[..length], Family::V4);
                assert_eq!(cut.err(), Some(TooShort), "{length}");
            }
            let mut padded = packet.clone();
            padded.extend([0xaa; 26]);
            let message = Message::decode(&padded, Family::V4).unwrap();
            assert!(message.is_checksum_good(ip("10.0.1.100"), GROUP_V4));
        }
    }

    #[test]
    fn every_single_bit_error_is_seen_by_the_checksum() {
        let packet = v2(90);
        for bit in 0..packet.len() * 8 {
            let mut bad = packet.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let good = Message::decode(&bad, Family::V4)
                .is_ok_and(|message| message.is_checksum_good(ip("10.0.1.100"), GROUP_V4));
            // Another version is judged as what it says it is, another count by its length.
            assert!(!good, "{bit}");
        }
    }

    #[test]
    fn the_reserved_bits_of_version_3_are_no_part_of_the_interval() {
        let mut packet = v3(90, "10.0.1.100", Checksum::PseudoHeader);
        packet[4] |= 0xf0;
        let message = Message::decode(&packet, Family::V4).unwrap();
        assert_eq!(message.raw_interval(), 50);
    }
}
