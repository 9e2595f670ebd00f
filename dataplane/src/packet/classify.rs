//! Which class a packet for the Linux stack is punted in.
//!
//! Matched on protocol and well-known port: whether a packet is for this box at all is decided before.
//! The classes that keep the box alive are for packets from the link alone, which nobody beyond it
//! can imitate: VRRP, BFD and discovery are sent with TTL 255 (RFC 9568 5.1.1.3, RFC 5881 5, RFC 4861
//! 11.2; the mechanism is RFC 5082's). With another TTL Linux still gets them, in a lesser class.

use super::{Headers, Parsed, icmpv6, ipv4, ipv6};
use crate::address::{Family, Protocol};
use crate::verdict::PuntClass;

/// The class to punt this packet in.
pub fn punt_class(frame: &[u8], parsed: &Parsed) -> PuntClass {
    match parsed {
        Parsed::Ip(headers) => ip_class(frame, headers),
        Parsed::Arp { .. } => PuntClass::Arp,
        Parsed::Other { .. } => PuntClass::Rest,
    }
}

/// Protocol number of VRRP (RFC 9568 5.1.1.5).
const VRRP: u8 = 112;
/// TTL of a packet that no router has forwarded.
const FROM_THE_LINK: u8 = 255;
/// Protocol number of OSPF (RFC 2328 A.1).
const OSPF: u8 = 89;

mod port {
    pub(super) const SSH: u16 = 22;
    pub(super) const BGP: u16 = 179;
    pub(super) const RIP: u16 = 520;
    pub(super) const RIPNG: u16 = 521;
    /// BFD control, echo (RFC 5881 4) and multihop (RFC 5883 5).
    pub(super) const BFD_CONTROL: u16 = 3784;
    pub(super) const BFD_ECHO: u16 = 3785;
    pub(super) const BFD_MULTIHOP: u16 = 4784;
    /// IPVS connection sync.
    pub(super) const SYNC: u16 = 8848;
}

fn ip_class(frame: &[u8], headers: &Headers) -> PuntClass {
    let from_the_link = headers.ttl == FROM_THE_LINK;
    if let Some((kind, _)) = headers.icmp(frame) {
        return match headers.family {
            Family::V6 if icmpv6::is_discovery(kind) && from_the_link => PuntClass::Arp,
            Family::V6 if icmpv6::is_listener(kind) => PuntClass::Routing,
            _ => PuntClass::Icmp,
        };
    }
    let is_port = |wanted: &[u16]| wanted.contains(&headers.destination_port);
    match headers.protocol {
        VRRP if from_the_link => PuntClass::Vrrp,
        // VRRPv2 with authentication type AH: the next header is the first byte of AH.
        ipv6::AUTHENTICATION
            if from_the_link && headers.transport(frame).first() == Some(&VRRP) =>
        {
            PuntClass::Vrrp
        }
        OSPF => PuntClass::Routing,
        ipv4::IGMP if headers.family == Family::V4 => PuntClass::Routing,
        ipv4::ICMP if headers.family == Family::V4 => PuntClass::Icmp,
        ipv6::ICMPV6 if headers.family == Family::V6 => PuntClass::Icmp,
        protocol if protocol == Protocol::Udp.number() => {
            if from_the_link && is_port(&[port::BFD_CONTROL, port::BFD_ECHO]) {
                PuntClass::Vrrp
            } else if is_port(&[port::BFD_MULTIHOP, port::RIP, port::RIPNG, port::SYNC]) {
                PuntClass::Routing
            } else {
                PuntClass::Rest
            }
        }
        protocol if protocol == Protocol::Tcp.number() => {
            // This box opens BGP sessions itself, then the well-known port is the source.
            if is_port(&[port::BGP, port::SSH]) || headers.source_port == port::BGP {
                PuntClass::Routing
            } else {
                PuntClass::Rest
            }
        }
        _ => PuntClass::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::builder::PacketBuilder;
    use crate::packet::{Offloads, parse};

    fn class(frame: &[u8]) -> PuntClass {
        punt_class(frame, &parse(frame, Offloads::default()).unwrap())
    }

    fn raw(destination: &str, protocol: u8) -> PacketBuilder {
        let destination = destination.parse().unwrap();
        PacketBuilder::raw("10.0.0.2".parse().unwrap(), destination, protocol).ttl(255)
    }

    fn icmpv6(kind: u8) -> PacketBuilder {
        PacketBuilder::icmp(
            "fe80::2".parse().unwrap(),
            "fe80::1".parse().unwrap(),
            kind,
            0,
        )
        .ttl(255)
    }

    #[test]
    fn nobody_beyond_the_link_gets_into_the_first_classes() {
        let far = |packet: PacketBuilder| class(&packet.ttl(254).build());
        assert_eq!(far(raw("10.0.0.1", 112)), PuntClass::Rest);
        assert_eq!(
            far(raw("10.0.0.1", 51).payload([112, 4, 0, 0])),
            PuntClass::Rest
        );
        let bfd = PacketBuilder::udp(([10, 9, 0, 2], 49152).into(), ([10, 0, 0, 1], 3784).into());
        assert_eq!(far(bfd), PuntClass::Rest);
        for kind in 133..=137 {
            assert_eq!(far(icmpv6(kind)), PuntClass::Icmp, "{kind}");
        }
    }

    #[test]
    fn failover_protocols_come_first() {
        assert_eq!(class(&raw("224.0.0.18", 112).build()), PuntClass::Vrrp);
        let ah = raw("224.0.0.18", 51).payload([112, 4, 0, 0]).build();
        assert_eq!(class(&ah), PuntClass::Vrrp);
        for port in [3784, 3785] {
            assert_eq!(class(&udp(port)), PuntClass::Vrrp, "{port}");
        }
    }

    fn udp(port: u16) -> Vec<u8> {
        let destination = ([10, 0, 0, 1], port).into();
        PacketBuilder::udp("10.0.0.2:49152".parse().unwrap(), destination)
            .ttl(255)
            .build()
    }

    fn tcp(source: u16, destination: u16) -> Vec<u8> {
        PacketBuilder::tcp(
            ([10, 0, 0, 2], source).into(),
            ([10, 0, 0, 1], destination).into(),
        )
        .build()
    }

    #[test]
    fn discovery_of_both_families_is_one_class() {
        let arp = Parsed::Arp { l3: 14, vlan: None };
        assert_eq!(punt_class(&[], &arp), PuntClass::Arp);
        for kind in 133..=137 {
            assert_eq!(class(&icmpv6(kind).build()), PuntClass::Arp, "{kind}");
        }
        assert_eq!(class(&icmpv6(128).build()), PuntClass::Icmp);
        assert_eq!(class(&icmpv6(143).build()), PuntClass::Routing);
    }

    #[test]
    fn routing_protocols_ssh_and_sync_are_one_class() {
        for port in [520, 521, 4784, 8848] {
            assert_eq!(class(&udp(port)), PuntClass::Routing, "{port}");
        }
        for (source, destination) in [(49152, 179), (179, 49152), (49152, 22)] {
            assert_eq!(class(&tcp(source, destination)), PuntClass::Routing);
        }
        assert_eq!(class(&raw("224.0.0.5", 89).build()), PuntClass::Routing);
        assert_eq!(class(&raw("224.0.0.22", 2).build()), PuntClass::Routing);
    }

    #[test]
    fn icmp_has_a_class_and_everything_else_is_the_rest() {
        let echo = PacketBuilder::icmp(
            "10.0.0.2".parse().unwrap(),
            "10.0.0.1".parse().unwrap(),
            8,
            0,
        );
        assert_eq!(class(&echo.build()), PuntClass::Icmp);
        assert_eq!(class(&udp(53)), PuntClass::Rest);
        assert_eq!(class(&tcp(49152, 80)), PuntClass::Rest);
        assert_eq!(class(&raw("10.0.0.1", 47).build()), PuntClass::Rest);
        let lldp = Parsed::Other { ether_type: 0x88cc };
        assert_eq!(punt_class(&[], &lldp), PuntClass::Rest);
    }
}
