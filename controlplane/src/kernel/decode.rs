//! rtnetlink messages to the values of a [`KernelView`](super::view::KernelView).
//!
//! Objects that forwarding has no use for (other tables, cached clones, families other than IP,
//! attributes nobody reads) give `None`, never an error.

use super::view::{
    InterfaceAddress, KernelHop, KernelNeighbour, KernelRoute, Link, NudState, RouteKind,
    RouteTable,
};
use dataplane::packet::MacAddress;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An interface.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let mut name = None;
    let mut mac = None;
    let mut alias = None;
    let mut mtu = 0;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Address(value) => mac = mac_address(value),
            LinkAttribute::IfAlias(value) => alias = Some(value.clone()),
            LinkAttribute::Mtu(value) => mtu = *value,
            _ => {}
        }
    }
    Some(Link {
        index: message.header.index,
        name: name?,
        mac,
        alias,
        mtu,
        up: message.header.flags.contains(LinkFlags::Up),
        lower_up: message.header.flags.contains(LinkFlags::LowerUp),
    })
}

/// An address.
pub(super) fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let mut local = None;
    let mut address = None;
    let mut flags = u32::from(message.header.flags.bits());
    let mut protocol = 0;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(value) => local = Some(*value),
            AddressAttribute::Address(value) => address = Some(*value),
            AddressAttribute::Flags(value) => flags = value.bits(),
            AddressAttribute::Protocol(value) => protocol = u8::from(*value),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer, IFA_LOCAL ours.
    let ip = local.or(address)?;
    Some(InterfaceAddress {
        interface: message.header.index,
        address: IpNet::new(ip, message.header.prefix_len).ok()?,
        flags,
        protocol,
    })
}

/// A route of the main or local table.
pub(super) fn route(message: &RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    if header.tos != 0
        || header.source_prefix_length != 0
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let mut prefix = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut preferred_source = None;
    let mut mtu = None;
    let mut interface = None;
    let mut gateway = None;
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(value) => prefix = ip(value)?,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::PrefSource(value) => preferred_source = ip(value),
            RouteAttribute::Oif(value) => interface = Some(*value),
            RouteAttribute::Gateway(value) => gateway = ip(value),
            RouteAttribute::Via(value) => gateway = via(value),
            RouteAttribute::Metrics(values) => {
                mtu = values.iter().find_map(|value| match value {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(values) => {
                hops.extend(
                    values
                        .iter()
                        .filter(|value| !value.flags.contains(RouteNextHopFlags::Dead))
                        .map(|value| KernelHop {
                            interface: value.interface_index,
                            gateway: value.attributes.iter().find_map(hop_gateway),
                            weight: u16::from(value.hops) + 1,
                        }),
                );
            }
            _ => {}
        }
    }
    let table = match table {
        TABLE_MAIN => RouteTable::Main,
        TABLE_LOCAL => RouteTable::Local,
        _ => return None,
    };
    let kind = kind(header.kind)?;
    if let (Some(interface), true) = (interface, hops.is_empty())
        && !header.flags.contains(RouteFlags::Dead)
    {
        hops.push(KernelHop {
            interface,
            gateway,
            weight: 1,
        });
    }
    // Every next hop is dead: Linux looks for a less specific route.
    if kind == RouteKind::Unicast && hops.is_empty() {
        return None;
    }
    Some(KernelRoute {
        table,
        prefix: IpNet::new(prefix, header.destination_prefix_length).ok()?,
        kind,
        hops,
        metric,
        preferred_source,
        mtu,
        protocol: u8::from(header.protocol),
    })
}

/// A neighbour; `None` also for the kernel's fixed entries of multicast groups.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), KernelNeighbour)> {
    if !matches!(
        message.header.family,
        AddressFamily::Inet | AddressFamily::Inet6
    ) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    let mut managed = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(value)) => {
                address = Some(IpAddr::V4(*value));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(value)) => {
                address = Some(IpAddr::V6(*value));
            }
            NeighbourAttribute::LinkLocalAddress(value) => mac = mac_address(value),
            NeighbourAttribute::ExtFlags(value) => {
                managed = value.contains(NeighbourExtFlags::Managed);
            }
            _ => {}
        }
    }
    let address = address.filter(|address| !address.is_multicast())?;
    let state = match message.header.state {
        NeighbourState::Incomplete => NudState::Incomplete,
        NeighbourState::Reachable => NudState::Reachable,
        NeighbourState::Stale => NudState::Stale,
        NeighbourState::Delay => NudState::Delay,
        NeighbourState::Probe => NudState::Probe,
        NeighbourState::Failed => NudState::Failed,
        NeighbourState::Noarp => NudState::Noarp,
        NeighbourState::Permanent => NudState::Permanent,
        _ => NudState::None,
    };
    let neighbour = KernelNeighbour {
        mac,
        state,
        managed,
    };
    Some(((message.header.ifindex, address), neighbour))
}

/// Of several routes to one prefix of one table keeps the one with the lowest metric, the first of
/// equals. IPv6 link-local prefixes exist once per interface and are all kept.
pub(super) fn preferred(mut routes: Vec<KernelRoute>) -> Vec<KernelRoute> {
    let key = |route: &KernelRoute| {
        let link_local = match route.prefix {
            IpNet::V6(prefix) => prefix.addr().is_unicast_link_local(),
            IpNet::V4(_) => false,
        };
        let scope = route.hops.first().map_or(0, |hop| hop.interface);
        (
            route.table,
            route.prefix.trunc(),
            if link_local { scope } else { 0 },
        )
    };
    // The sort is stable: the kernel's order decides among equals.
    routes.sort_by_key(|route| (key(route), route.metric));
    routes.dedup_by_key(|route| key(route));
    routes
}

fn kind(kind: RouteType) -> Option<RouteKind> {
    Some(match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Anycast => RouteKind::Anycast,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        RouteType::Throw => RouteKind::Throw,
        _ => return None,
    })
}

fn hop_gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(value) => ip(value),
        RouteAttribute::Via(value) => via(value),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// RFC 5549: an IPv4 route through an IPv6 gateway.
fn via(via: &RouteVia) -> Option<IpAddr> {
    match via {
        RouteVia::Inet(address) => Some(IpAddr::V4(*address)),
        RouteVia::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn mac_address(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteNextHop;

    fn message(prefix: [u8; 4], length: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = length;
        message.header.table = TABLE_MAIN as u8;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(
            prefix.into(),
        ))];
        message.attributes.extend(attributes);
        message
    }

    fn hop(interface: u32, last: u8, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = interface;
        hop.hops = 2;
        hop.flags = flags;
        hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(
            [10, 0, 0, last].into(),
        ))];
        hop
    }

    #[test]
    fn dead_next_hops_of_a_multipath_route_are_left_out() {
        let hops = vec![
            hop(3, 1, RouteNextHopFlags::empty()),
            hop(4, 2, RouteNextHopFlags::Dead),
        ];
        let decoded = route(&message(
            [10, 1, 0, 0],
            16,
            vec![RouteAttribute::MultiPath(hops)],
        ))
        .unwrap();
        assert_eq!(
            decoded.hops,
            [KernelHop {
                interface: 3,
                gateway: Some([10, 0, 0, 1].into()),
                weight: 3
            }]
        );
        let all_dead = vec![hop(4, 2, RouteNextHopFlags::Dead)];
        assert_eq!(
            route(&message(
                [10, 1, 0, 0],
                16,
                vec![RouteAttribute::MultiPath(all_dead)]
            )),
            None
        );
    }

    #[test]
    fn of_equal_prefixes_the_lowest_metric_wins_and_then_the_first() {
        let with = |metric, interface| {
            route(&message(
                [10, 1, 0, 0],
                16,
                vec![
                    RouteAttribute::Priority(metric),
                    RouteAttribute::Oif(interface),
                ],
            ))
            .unwrap()
        };
        let kept = preferred(vec![with(20, 1), with(10, 2), with(10, 3)]);
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].metric, kept[0].hops[0].interface), (10, 2));
    }

    #[test]
    fn an_ipv4_route_through_an_ipv6_gateway_keeps_the_gateway() {
        let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
        let decoded = route(&message(
            [10, 1, 0, 0],
            16,
            vec![
                RouteAttribute::Oif(3),
                RouteAttribute::Via(RouteVia::Inet6(gateway)),
            ],
        ))
        .unwrap();
        assert_eq!(decoded.hops[0].gateway, Some(gateway.into()));
    }
}
