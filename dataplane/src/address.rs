//! Addresses, endpoints and five-tuples, generic over the IP family.
//!
//! IPv4 and IPv6 run the same code: everything that depends on the family is a method or an
//! associated constant of [`Address`], so a table of IPv4 connections pays nothing for IPv6.

use std::fmt::{Debug, Display, Formatter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IP protocol family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// An IP address of one family known at compile time.
pub trait Address:
    Copy + Debug + Display + Eq + Hash + Into<IpAddr> + Ord + Send + Sync + 'static
{
    /// The family this address belongs to.
    const FAMILY: Family;
    /// Length on the wire in bytes.
    const LEN: usize;
    /// The all-zero address (`0.0.0.0`, `::`).
    const UNSPECIFIED: Self;

    /// Takes the address out of an [`IpAddr`] of the same family.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// Reads an address from exactly [`Self::LEN`] bytes in network order.
    ///
    /// Returns `None` if `bytes` has another length.
    fn from_wire(bytes: &[u8]) -> Option<Self>;

    /// The 32-bit word that the kernel's dh, sh and mh hash: IPv4 in host order, IPv6 the XOR of
    /// its four host-order words (spec 1.6).
    fn fold(self) -> u32;

    /// 64 bits for hash tables: every bit of the address reaches it.
    fn word(self) -> u64;

    /// Byte `index` in network order; 0 past the end.
    fn octet(self, index: usize) -> u8;
}

impl Address for Ipv4Addr {
    const FAMILY: Family = Family::V4;
    const LEN: usize = 4;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn from_wire(bytes: &[u8]) -> Option<Self> {
        <[u8; 4]>::try_from(bytes).ok().map(Self::from)
    }

    fn fold(self) -> u32 {
        self.to_bits()
    }

    fn word(self) -> u64 {
        u64::from(self.to_bits())
    }

    fn octet(self, index: usize) -> u8 {
        self.octets().get(index).copied().unwrap_or(0)
    }
}

impl Address for Ipv6Addr {
    const FAMILY: Family = Family::V6;
    const LEN: usize = 16;
    const UNSPECIFIED: Self = Self::UNSPECIFIED;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }
    }

    fn from_wire(bytes: &[u8]) -> Option<Self> {
        <[u8; 16]>::try_from(bytes).ok().map(Self::from)
    }

    fn fold(self) -> u32 {
        let bits = self.to_bits();
        (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
    }

    fn word(self) -> u64 {
        let bits = self.to_bits();
        // The odd multiplier keeps the two halves from cancelling out.
        (bits >> 64) as u64 ^ (bits as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn octet(self, index: usize) -> u8 {
        self.octets().get(index).copied().unwrap_or(0)
    }
}

/// Transport protocols that services balance.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp = 6,
    /// UDP, IP protocol 17.
    Udp = 17,
    /// SCTP, IP protocol 132.
    Sctp = 132,
}

impl Protocol {
    /// The protocol with this IP protocol number, if services can balance it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Upper-case name as `ipvsadm` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Endpoint<A> {
    /// Address.
    pub address: A,
    /// Port in host order.
    pub port: u16,
}

impl<A: Address> Endpoint<A> {
    /// Address `0` and port `0`.
    pub const UNSPECIFIED: Self = Self {
        address: A::UNSPECIFIED,
        port: 0,
    };

    /// Joins an address and a port (host order).
    pub fn new(address: A, port: u16) -> Self {
        Self { address, port }
    }
}

impl<A: Address> From<Endpoint<A>> for SocketAddr {
    fn from(endpoint: Endpoint<A>) -> Self {
        Self::new(endpoint.address.into(), endpoint.port)
    }
}

impl<A: Address> Display for Endpoint<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", SocketAddr::from(*self))
    }
}

/// The five-tuple of a packet exactly as it is on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FiveTuple<A> {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Sender.
    pub source: Endpoint<A>,
    /// Receiver.
    pub destination: Endpoint<A>,
}

impl<A: Address> FiveTuple<A> {
    /// The tuple of packets in the other direction.
    pub fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }
}

impl<A: Address> Display for FiveTuple<A> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} > {}",
            self.protocol, self.source, self.destination
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_an_ipv6_address_xors_its_four_words() {
        let address: Ipv6Addr = "2001:db8::1:2".parse().unwrap();
        assert_eq!(address.fold(), 0x2001_0db8 ^ 0x0001_0002);
        assert_eq!(Ipv4Addr::new(10, 0, 1, 50).fold(), 0x0a00_0132);
    }

    #[test]
    fn addresses_are_read_only_from_slices_of_their_length() {
        assert_eq!(
            Ipv4Addr::from_wire(&[10, 0, 0, 1]),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(Ipv4Addr::from_wire(&[10, 0, 0]), None);
        assert_eq!(Ipv6Addr::from_wire(&[0; 15]), None);
    }
}
