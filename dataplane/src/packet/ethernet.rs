//! Ethernet II (RFC 894) and MAC addresses.
//!
//! ```text
//!  0               6               12      14
//! | destination   | source        | type  | payload
//! ```

use super::bytes::{load, load16, store, store16};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Length of the header.
pub const LEN: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

mod field {
    pub(super) const DESTINATION: usize = 0;
    pub(super) const SOURCE: usize = 6;
    pub(super) const ETHER_TYPE: usize = 12;
}

/// A 48-bit link-layer address.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, no station's address.
    pub const ZERO: Self = Self([0; 6]);

    /// The six bytes as they are on the wire.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether it addresses a group of stations; broadcast is one.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether it addresses every station.
    #[inline]
    pub fn is_broadcast(self) -> bool {
        self == Self::BROADCAST
    }

    /// Whether it can be the address of one station.
    #[inline]
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl Display for MacAddress {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|octet| write!(f, ":{octet:02x}"))
    }
}

/// Text that is not six colon-separated hexadecimal bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a MAC address is six hexadecimal bytes such as 02:00:5e:00:01:0a")]
pub struct ParseMacAddressError;

impl FromStr for MacAddress {
    type Err = ParseMacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let mut octets = [0; 6];
        for octet in &mut octets {
            let part = parts.next().ok_or(ParseMacAddressError)?;
            // from_str_radix alone would take a sign.
            if !(1..=2).contains(&part.len()) || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(ParseMacAddressError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| ParseMacAddressError)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(ParseMacAddressError),
        }
    }
}

/// The Ethernet header; with VLAN tags, `ether_type` is that of the first tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Receiver.
    pub destination: MacAddress,
    /// Sender.
    pub source: MacAddress,
    /// EtherType in host order.
    pub ether_type: u16,
}

impl Header {
    /// Reads the header.
    #[inline]
    pub fn read(header: &[u8; LEN]) -> Self {
        Self {
            destination: MacAddress(load(header, field::DESTINATION)),
            source: MacAddress(load(header, field::SOURCE)),
            ether_type: load16(header, field::ETHER_TYPE),
        }
    }

    /// Writes the header.
    #[inline]
    pub fn write(self, header: &mut [u8; LEN]) {
        store(header, field::DESTINATION, self.destination.0);
        store(header, field::SOURCE, self.source.0);
        store16(header, field::ETHER_TYPE, self.ether_type);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; LEN] = [
        0x6a, 0x4f, 0xa8, 0x0d, 0x4a, 0x45, 0x26, 0xc6, 0x22, 0x8f, 0xd5, 0xac, 0x08, 0x00,
    ];

    #[test]
    fn the_header_reads_and_writes_literal_bytes() {
        let header = Header {
            destination: "6a:4f:a8:0d:4a:45".parse().unwrap(),
            source: "26:C6:22:8f:d5:ac".parse().unwrap(),
            ether_type: IPV4,
        };
        assert_eq!(Header::read(&BYTES), header);
        let mut written = [0; LEN];
        header.write(&mut written);
        assert_eq!(written, BYTES);
    }

    #[test]
    fn addresses_are_printed_as_they_are_read() {
        let address: MacAddress = "0:0:5e:0:1:a".parse().unwrap();
        assert_eq!(address.to_string(), "00:00:5e:00:01:0a");
        for bad in [
            "",
            "00:00:5e:00:01",
            "00:00:5e:00:01:0a:0b",
            "00:00:5e:00:01:0g",
            "00:00:5e:00:01:+a",
            "00:00:5e:00:01:00a",
            "00-00-5e-00-01-0a",
        ] {
            assert_eq!(
                bad.parse::<MacAddress>(),
                Err(ParseMacAddressError),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_group_bit_makes_an_address_multicast() {
        assert!(MacAddress([1, 0, 0x5e, 0, 0, 18]).is_multicast());
        assert!(MacAddress::BROADCAST.is_multicast());
        assert!(MacAddress::BROADCAST.is_broadcast());
        assert!(!MacAddress([2, 0, 0, 0, 0, 1]).is_multicast());
        assert!(MacAddress([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddress::ZERO.is_unicast());
    }
}
