//! What identifies one IPVS service: an address and port, or a firewall mark.

use crate::address::{Family, Protocol};
use std::fmt::{Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Identity of one IPVS service: one listing line of `ipvsadm`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ServiceKey {
    /// Packets to an address.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// The VIP.
        address: IpAddr,
        /// Port in host order; 0 = all ports.
        port: u16,
    },
    /// Packets of any protocol that a rule of [`Marks`](super::Marks) marked.
    Mark {
        /// Family of the packets: a mark may be a service in each.
        family: Family,
        /// The mark, above 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// The service on an address; `port` in host order, 0 = all ports.
    pub fn new(protocol: Protocol, address: IpAddr, port: u16) -> Self {
        Self::Address {
            protocol,
            address,
            port,
        }
    }

    /// The service of a mark.
    pub fn of_mark(family: Family, mark: u32) -> Self {
        Self::Mark { family, mark }
    }

    /// Family of its packets.
    pub fn family(&self) -> Family {
        match self {
            Self::Address { address, .. } => Family::of(*address),
            Self::Mark { family, .. } => *family,
        }
    }

    /// Its transport protocol; `None` = all of them.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Address { protocol, .. } => Some(*protocol),
            Self::Mark { .. } => None,
        }
    }

    /// The VIP; `None` of a mark, which may have several.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address { address, .. } => Some(*address),
            Self::Mark { .. } => None,
        }
    }

    /// The VIP as listings show it: the unspecified address of its family for a mark.
    pub fn shown_address(&self) -> IpAddr {
        match self {
            Self::Address { address, .. } => *address,
            Self::Mark { family, .. } => match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            },
        }
    }

    /// Its port in host order; 0 = all, as those of a mark.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address { port, .. } => *port,
            Self::Mark { .. } => 0,
        }
    }

    /// The mark, if it is one's service.
    pub fn mark(&self) -> Option<u32> {
        match self {
            Self::Address { .. } => None,
            Self::Mark { mark, .. } => Some(*mark),
        }
    }
}

impl Display for ServiceKey {
    /// As the first words of a listing's line: `TCP 10.0.1.50:80`, `FWM 1`, `FWM 1 IPv6`.
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address {
                protocol,
                address,
                port,
            } => write!(f, "{protocol} {}", SocketAddr::new(*address, *port)),
            Self::Mark { family, mark } => match family {
                Family::V4 => write!(f, "FWM {mark}"),
                Family::V6 => write!(f, "FWM {mark} IPv6"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_the_listing_begins() {
        let vip = IpAddr::from([10, 0, 1, 50]);
        let address = ServiceKey::new(Protocol::Tcp, vip, 80);
        assert_eq!(address.to_string(), "TCP 10.0.1.50:80");
        assert_eq!((address.address(), address.port()), (Some(vip), 80));
        let mark = ServiceKey::of_mark(Family::V6, 7);
        assert_eq!(mark.to_string(), "FWM 7 IPv6");
        assert_eq!(
            (mark.protocol(), mark.port(), mark.mark()),
            (None, 0, Some(7))
        );
        assert_eq!(ServiceKey::of_mark(Family::V4, 1).to_string(), "FWM 1");
        assert_eq!(mark.shown_address().to_string(), "::");
    }
}
