//! The kernel's view to the snapshot workers forward by. Pure.
//!
//! A [`Builder`] keeps the table of routes while nothing that goes into it changes: with a full
//! Internet table a neighbour's change would cost a tenth of a second otherwise.
//!
//! Invariant: a destination gets here what Linux would do with it: the local table before the main
//! one whatever the prefix lengths, dead ways avoided, and what does not leave by a port is
//! `Elsewhere`.

use super::view::{
    InterfaceAddress, KernelHop, KernelRoute, KernelView, NudState, RouteKind, RouteTable,
};
use dataplane::forwarding::{
    Forwarding, NeighbourState, NextHop, PortInfo, Route, RouteTable as Routes,
};
use dataplane::packet::MacAddress;
use dataplane::verdict::{Neighbour, PortId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A port as the control plane knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortBinding {
    /// Its number; the bindings must be in order and without gaps.
    pub port: PortId,
    /// Section name.
    pub name: String,
    /// Interface index of its TAP; `None` = it has none.
    pub interface: Option<u32>,
    /// MAC address of the port.
    pub mac: MacAddress,
    /// MTU of the port in bytes.
    pub mtu: u16,
    /// The port's link is up.
    pub up: bool,
    /// Receive queues of all its devices.
    pub queues: u16,
    /// MAC addresses of the virtual routers that are Active here.
    pub virtual_macs: Vec<MacAddress>,
}

/// Builds snapshots, one after the other.
#[derive(Debug, Default)]
pub struct Builder {
    last: Option<Built>,
}

/// What depends on routes, and what it was built from.
#[derive(Debug)]
struct Built {
    interfaces: Interfaces,
    addresses: Vec<InterfaceAddress>,
    kernel: Arc<[KernelRoute]>,
    routes: Routes,
    local: Vec<IpAddr>,
}

impl Builder {
    /// Builds the snapshot. Entries of `static_neighbours` win over what the kernel says.
    pub fn build(
        &mut self,
        view: &KernelView,
        ports: &[PortBinding],
        static_neighbours: &[(Neighbour, MacAddress)],
    ) -> Forwarding {
        let interfaces = Interfaces::new(view, ports);
        let infos = ports.iter().map(|port| port_info(view, port)).collect();
        let neighbours = neighbours(view, &interfaces, static_neighbours);
        let same = self.last.take().filter(|last| {
            // The mirror keeps the array while the routes are the same.
            Arc::ptr_eq(&last.kernel, &view.routes)
                && last.addresses == view.addresses
                && last.interfaces == interfaces
        });
        let built = self.last.insert(same.unwrap_or_else(|| Built {
            routes: Routes::new(routes(view, &interfaces)),
            local: local_addresses(view).collect(),
            addresses: view.addresses.clone(),
            kernel: Arc::clone(&view.routes),
            interfaces,
        }));
        Forwarding::with_routes(
            infos,
            built.local.iter().copied(),
            built.routes.clone(),
            neighbours,
        )
    }
}

fn port_info(view: &KernelView, port: &PortBinding) -> PortInfo {
    let link = port.interface.and_then(|index| view.links.get(&index));
    let interface_mtu = link.map_or(u32::from(u16::MAX), |link| link.mtu);
    PortInfo {
        name: port.name.clone(),
        mac: port.mac,
        mtu: u16::try_from(interface_mtu).map_or(port.mtu, |mtu| mtu.min(port.mtu)),
        // An interface set down by hand takes the port out, as it would take out a NIC.
        up: port.up && (port.interface.is_none() || link.is_some_and(|link| link.up)),
        kernel_interface: port.interface.is_some(),
        queues: port.queues,
        virtual_macs: port.virtual_macs.clone(),
        addresses: port.interface.map_or_else(Vec::new, |index| {
            view.addresses_of(index)
                .map(|address| address.address)
                .collect()
        }),
    }
}

/// Which interface is whose.
#[derive(Debug, Eq, PartialEq)]
struct Interfaces {
    ports: BTreeMap<u32, PortId>,
    up: BTreeMap<u32, bool>,
}

impl Interfaces {
    fn new(view: &KernelView, ports: &[PortBinding]) -> Self {
        let bound = || {
            ports
                .iter()
                .filter_map(|port| Some((port.interface?, port)))
        };
        Self {
            ports: bound().map(|(index, port)| (index, port.port)).collect(),
            up: bound()
                .map(|(index, port)| (index, port_info(view, port).up))
                .collect(),
        }
    }

    fn is_up(&self, hop: &KernelHop) -> bool {
        self.up.get(&hop.interface).copied().unwrap_or(true)
    }
}

/// Every unicast address of the box: those of interfaces, and host routes of the local table.
fn local_addresses(view: &KernelView) -> impl Iterator<Item = IpAddr> {
    let of_interfaces = view.addresses.iter().map(InterfaceAddress::ip);
    let of_routes = view
        .routes
        .iter()
        .filter(|route| {
            route.table == RouteTable::Local
                && matches!(route.kind, RouteKind::Local | RouteKind::Anycast)
                && route.prefix.prefix_len() == route.prefix.max_prefix_len()
        })
        .map(|route| route.prefix.addr());
    of_interfaces.chain(of_routes)
}

fn routes(view: &KernelView, interfaces: &Interfaces) -> Vec<(IpNet, Route)> {
    let (local, main): (Vec<_>, Vec<_>) = view
        .routes
        .iter()
        .partition(|route| route.table == RouteTable::Local);
    // Linux asks the local table first, so that a short prefix there hides longer ones of main.
    // Host routes, which are many, hide only their equals, and those lose by coming first.
    let hiding: Vec<_> = local
        .iter()
        .filter(|route| route.prefix.prefix_len() < route.prefix.max_prefix_len())
        .filter(|route| route.kind != RouteKind::Throw)
        .map(|route| route.prefix)
        .collect();
    let hides = |prefix: &IpNet| hiding.iter().any(|hiding| hiding.contains(prefix));
    let mut found: Vec<(IpNet, Route)> = Vec::with_capacity(view.routes.len());
    for route in main {
        if hides(&route.prefix) {
            continue;
        }
        let built = convert(route, interfaces);
        // The link-local prefix exists once per interface: a port's is the useful one.
        match found
            .last_mut()
            .filter(|(prefix, _)| *prefix == route.prefix)
        {
            Some((_, kept)) => {
                if *kept == Route::Elsewhere {
                    *kept = built;
                }
            }
            None => found.push((route.prefix, built)),
        }
    }
    found.extend(
        local
            .iter()
            .filter(|route| route.kind != RouteKind::Throw)
            .map(|route| (route.prefix, convert(route, interfaces))),
    );
    // No table lists these; they must not fall through to the default route.
    found.extend(NEVER_FORWARDED.map(|prefix| (prefix, Route::Local)));
    // An address whose route is not there (yet) is local all the same.
    found.extend(
        view.addresses
            .iter()
            .map(|address| (IpNet::from(address.ip()), Route::Local)),
    );
    found
}

fn convert(route: &KernelRoute, interfaces: &Interfaces) -> Route {
    match route.kind {
        RouteKind::Unicast => through(&route.hops, interfaces),
        RouteKind::Local | RouteKind::Broadcast | RouteKind::Anycast | RouteKind::Multicast => {
            Route::Local
        }
        RouteKind::Blackhole => Route::Blackhole,
        RouteKind::Prohibit => Route::Prohibited,
        RouteKind::Unreachable | RouteKind::Throw => Route::Unreachable,
    }
}

/// Next hops through ports that are up, or through all of them if none is. A route with any hop
/// that is not a port's goes to Linux, which alone can share flows out over all of them.
fn through(hops: &[KernelHop], interfaces: &Interfaces) -> Route {
    let any_up = hops.iter().any(|hop| interfaces.is_up(hop));
    let chosen: Option<Vec<_>> = hops
        .iter()
        .filter(|hop| !any_up || interfaces.is_up(hop))
        .map(|hop| {
            Some(NextHop {
                port: *interfaces.ports.get(&hop.interface)?,
                gateway: hop.gateway,
                weight: hop.weight.max(1),
            })
        })
        .collect();
    match chosen {
        Some(chosen) if !chosen.is_empty() => Route::Via(chosen),
        _ => Route::Elsewhere,
    }
}

fn neighbours(
    view: &KernelView,
    interfaces: &Interfaces,
    static_neighbours: &[(Neighbour, MacAddress)],
) -> Vec<(Neighbour, NeighbourState)> {
    let learnt = view
        .neighbours
        .iter()
        .filter_map(|((interface, address), neighbour)| {
            let key = Neighbour {
                port: *interfaces.ports.get(interface)?,
                address: *address,
            };
            let state = match (neighbour.reachable(), neighbour.state) {
                (Some(mac), _) => NeighbourState::Reachable(mac),
                (None, NudState::Failed) => NeighbourState::Failed,
                (None, _) => return None,
            };
            Some((key, state))
        });
    let fixed = static_neighbours
        .iter()
        .map(|(key, mac)| (*key, NeighbourState::Reachable(*mac)));
    learnt.chain(fixed).collect()
}

/// Multicast and the limited broadcast address: for Linux to judge.
const NEVER_FORWARDED: [IpNet; 3] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32)),
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0),
        8,
    )),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::view::{KernelNeighbour, Link};
    use dataplane::forwarding::{Adjacency, Resolution};

    fn build(
        view: &KernelView,
        ports: &[PortBinding],
        static_neighbours: &[(Neighbour, MacAddress)],
    ) -> Forwarding {
        Builder::default().build(view, ports, static_neighbours)
    }

    const LAN: PortId = PortId(0);
    const WAN: PortId = PortId(1);

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    fn link(index: u32, mtu: u32) -> (u32, Link) {
        let link = Link {
            index,
            name: format!("if{index}"),
            mac: Some(mac(index as u8)),
            alias: None,
            mtu,
            up: true,
            lower_up: true,
        };
        (index, link)
    }

    fn ports() -> Vec<PortBinding> {
        let port = |port: PortId, interface: u32| PortBinding {
            port,
            name: format!("port{}", port.0),
            interface: Some(interface),
            mac: mac(interface as u8),
            mtu: 1500,
            up: true,
            queues: 1,
            virtual_macs: vec![],
        };
        vec![port(LAN, 10), port(WAN, 11)]
    }

    fn main(prefix: &str, hops: &[(u32, Option<&str>)]) -> KernelRoute {
        KernelRoute {
            table: RouteTable::Main,
            prefix: prefix.parse().unwrap(),
            kind: RouteKind::Unicast,
            hops: hops
                .iter()
                .map(|(interface, gateway)| KernelHop {
                    interface: *interface,
                    gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                    weight: 1,
                })
                .collect(),
            metric: 0,
            preferred_source: None,
            mtu: None,
            protocol: 0,
        }
    }

    fn local(prefix: &str) -> KernelRoute {
        KernelRoute {
            table: RouteTable::Local,
            kind: RouteKind::Local,
            ..main(prefix, &[(10, None)])
        }
    }

    fn view(routes: Vec<KernelRoute>) -> KernelView {
        KernelView {
            links: [link(10, 1500), link(11, 9000), link(12, 1500)].into(),
            routes: routes.into(),
            ..KernelView::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn unresolved(port: PortId, address: &str) -> Resolution {
        Resolution::Unresolved(Neighbour {
            port,
            address: ip(address),
        })
    }

    #[test]
    fn connected_and_gateway_routes_of_ports_are_forwarded_and_others_go_elsewhere() {
        let built = build(
            &view(vec![
                main("10.0.1.0/24", &[(10, None)]),
                main("10.9.0.0/16", &[(12, None)]),
                main("0.0.0.0/0", &[(11, Some("192.0.2.1"))]),
            ]),
            &ports(),
            &[],
        );
        assert_eq!(
            built.resolve(ip("10.0.1.7"), 0),
            unresolved(LAN, "10.0.1.7")
        );
        assert_eq!(built.resolve(ip("10.9.0.1"), 0), Resolution::Elsewhere);
        assert_eq!(
            built.resolve(ip("8.8.8.8"), 0),
            unresolved(WAN, "192.0.2.1")
        );
    }

    #[test]
    fn groups_and_the_limited_broadcast_never_follow_the_default_route() {
        let built = build(
            &view(vec![
                main("0.0.0.0/0", &[(11, Some("192.0.2.1"))]),
                main("::/0", &[(11, Some("fe80::1"))]),
            ]),
            &ports(),
            &[],
        );
        for group in ["224.0.0.18", "255.255.255.255", "ff02::12"] {
            assert_eq!(built.resolve(ip(group), 0), Resolution::Local, "{group}");
        }
        assert_eq!(
            built.resolve(ip("2001:db8::1"), 0),
            unresolved(WAN, "fe80::1")
        );
    }

    #[test]
    fn the_local_table_comes_first_whatever_the_prefix_lengths() {
        let built = build(
            &view(vec![
                main("10.0.1.0/24", &[(10, None)]),
                main("127.1.0.0/16", &[(10, None)]),
                local("127.0.0.0/8"),
                local("10.0.1.1/32"),
            ]),
            &ports(),
            &[],
        );
        assert_eq!(built.resolve(ip("127.1.2.3"), 0), Resolution::Local);
        assert_eq!(built.resolve(ip("10.0.1.1"), 0), Resolution::Local);
        assert!(built.is_local(ip("10.0.1.1")));
        assert!(!built.is_local(ip("127.1.2.3")));
    }

    #[test]
    fn addresses_are_local_even_link_local_ones_and_before_their_routes_appear() {
        let mut view = view(vec![main("fe80::/64", &[(10, None)])]);
        for address in ["fe80::1/64", "10.0.1.50/32"] {
            view.addresses.push(InterfaceAddress {
                interface: 10,
                address: address.parse().unwrap(),
                flags: 0,
                protocol: 0,
            });
        }
        let built = build(&view, &ports(), &[]);
        assert!(built.is_local(ip("fe80::1")));
        assert_eq!(built.resolve(ip("fe80::1"), 0), Resolution::Local);
        assert_eq!(built.resolve(ip("fe80::2"), 0), unresolved(LAN, "fe80::2"));
        assert_eq!(built.resolve(ip("10.0.1.50"), 0), Resolution::Local);
    }

    #[test]
    fn a_port_takes_the_link_local_prefix_from_an_interface_that_is_none() {
        let built = build(
            &view(vec![
                main("fe80::/64", &[(12, None)]),
                main("fe80::/64", &[(11, None)]),
            ]),
            &ports(),
            &[],
        );
        assert_eq!(built.resolve(ip("fe80::2"), 0), unresolved(WAN, "fe80::2"));
    }

    #[test]
    fn ecmp_avoids_a_port_that_is_down_while_another_is_up() {
        let hops = [(10, Some("10.0.1.254")), (11, Some("192.0.2.1"))];
        let routes = vec![main("0.0.0.0/0", &hops)];
        let both = build(&view(routes.clone()), &ports(), &[]);
        for way in [unresolved(LAN, "10.0.1.254"), unresolved(WAN, "192.0.2.1")] {
            let taken = (0..64).any(|flow| both.resolve(ip("8.8.8.8"), flow) == way);
            assert!(taken, "{way:?}");
        }
        let mut ports = ports();
        ports[0].up = false;
        let one = build(&view(routes), &ports, &[]);
        for flow in 0..64 {
            let way = one.resolve(ip("8.8.8.8"), flow);
            assert_eq!(way, unresolved(WAN, "192.0.2.1"));
        }
    }

    #[test]
    fn a_route_that_also_leaves_by_a_foreign_interface_is_left_to_linux() {
        let built = build(
            &view(vec![main("10.5.0.0/16", &[(10, None), (12, None)])]),
            &ports(),
            &[],
        );
        assert_eq!(built.resolve(ip("10.5.0.1"), 0), Resolution::Elsewhere);
    }

    #[test]
    fn blackholes_and_unreachable_routes_keep_their_meaning() {
        let of = |prefix: &str, kind| KernelRoute {
            kind,
            ..main(prefix, &[])
        };
        let built = build(
            &view(vec![
                of("10.1.0.0/16", RouteKind::Blackhole),
                of("10.2.0.0/16", RouteKind::Unreachable),
                of("10.3.0.0/16", RouteKind::Prohibit),
            ]),
            &ports(),
            &[],
        );
        assert_eq!(built.resolve(ip("10.1.0.1"), 0), Resolution::Blackhole);
        assert_eq!(built.resolve(ip("10.2.0.1"), 0), Resolution::NoRoute);
        assert_eq!(built.resolve(ip("10.3.0.1"), 0), Resolution::Prohibited);
    }

    #[test]
    fn routes_are_built_again_only_when_they_an_address_or_a_ports_state_changed() {
        let mut builder = Builder::default();
        let mut ports = ports();
        let mut view = view(vec![main("10.0.1.0/24", &[(10, None)])]);
        let mut last = builder.build(&view, &ports, &[]);
        let mut kept = |view: &KernelView, ports: &[PortBinding]| {
            let next = builder.build(view, ports, &[]);
            let kept = next.shares_routes(&last);
            last = next;
            (kept, last.resolve(ip("10.0.1.7"), 0))
        };
        let neighbour = KernelNeighbour {
            mac: Some(mac(7)),
            state: NudState::Reachable,
            managed: false,
        };
        view.neighbours.insert((10, ip("10.0.1.7")), neighbour);
        let (same, resolution) = kept(&view, &ports);
        assert!(
            same && matches!(resolution, Resolution::Ready(_)),
            "{resolution:?}"
        );
        ports[0].up = false;
        assert_eq!(kept(&view, &ports), (false, Resolution::Down));
        ports[0].up = true;
        assert!(!kept(&view, &ports).0);
        view.addresses.push(InterfaceAddress {
            interface: 12,
            address: "10.0.1.7/32".parse().unwrap(),
            flags: 0,
            protocol: 0,
        });
        assert_eq!(kept(&view, &ports), (false, Resolution::Local));
        view.addresses.clear();
        view.routes = vec![main("10.0.0.0/16", &[(12, None)])].into();
        assert_eq!(kept(&view, &ports), (false, Resolution::Elsewhere));
        assert!(kept(&view, &ports).0);
    }

    #[test]
    fn neighbour_states_map_to_reachable_failed_and_unknown() {
        let mut view = view(vec![main("10.0.1.0/24", &[(10, None)])]);
        let states = [
            (1, NudState::Reachable, true),
            (2, NudState::Stale, true),
            (3, NudState::Failed, false),
            (4, NudState::Incomplete, false),
            (5, NudState::Probe, true),
        ];
        for (last, state, has_mac) in states {
            let neighbour = KernelNeighbour {
                mac: has_mac.then(|| mac(100 + last)),
                state,
                managed: false,
            };
            view.neighbours
                .insert((10, IpAddr::from([10, 0, 1, last])), neighbour);
            // The same address behind an interface that is no port must not count.
            let foreign = KernelNeighbour {
                mac: Some(mac(200)),
                state: NudState::Reachable,
                managed: false,
            };
            view.neighbours
                .insert((12, IpAddr::from([10, 0, 1, last])), foreign);
        }
        let fixed = Neighbour {
            port: LAN,
            address: ip("10.0.1.3"),
        };
        let state_of = |built: &Forwarding, last| {
            built.neighbour(Neighbour {
                port: LAN,
                address: IpAddr::from([10, 0, 1, last]),
            })
        };
        let built = build(&view, &ports(), &[]);
        for last in [1, 2, 5] {
            let expected = NeighbourState::Reachable(mac(100 + last));
            assert_eq!(state_of(&built, last), Some(expected));
        }
        assert_eq!(state_of(&built, 3), Some(NeighbourState::Failed));
        assert_eq!(state_of(&built, 4), None);
        let built = build(&view, &ports(), &[(fixed, mac(7))]);
        assert_eq!(
            built.resolve(fixed.address, 0),
            Resolution::Ready(Adjacency {
                port: LAN,
                destination: mac(7),
                source: mac(10),
                mtu: 1500,
                by_flow: false,
            })
        );
    }

    #[test]
    fn a_port_is_as_large_and_as_up_as_the_lesser_of_nic_and_interface_and_has_its_addresses() {
        let mut view = view(vec![]);
        view.links.get_mut(&10).unwrap().mtu = 1400;
        view.links.get_mut(&11).unwrap().up = false;
        for (interface, address) in [
            (10, "10.0.1.9/24"),
            (10, "10.0.1.1/24"),
            (12, "10.9.0.1/16"),
        ] {
            view.addresses.push(InterfaceAddress {
                interface,
                address: address.parse().unwrap(),
                flags: 0,
                protocol: 0,
            });
        }
        let built = build(&view, &ports(), &[]);
        assert_eq!(built.ports()[0].mtu, 1400);
        assert_eq!(built.ports()[1].mtu, 1500);
        assert!(built.ports()[0].up);
        assert!(!built.ports()[1].up);
        let source = built.ports()[0].source_towards(ip("10.0.1.7"));
        assert_eq!(source, Some(ip("10.0.1.9")), "the primary address");
        assert!(built.ports()[1].addresses.is_empty());
    }
}
