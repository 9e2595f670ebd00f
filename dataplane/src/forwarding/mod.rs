//! The *forwarding* snapshot: ports, local addresses, routes and neighbours as workers read them.
//!
//! Mirrored from the Linux stack by the control plane, apart from the services so that a flapping
//! neighbour never rebuilds a hundred thousand real servers (DESIGN §4). Read-only once built; its
//! [`RouteTable`] is shared between snapshots, so that the neighbour does not rebuild a full
//! Internet table either.

mod lpm;
mod source;
mod virtual_addresses;

pub use lpm::{Lpm, Prefix};
pub use virtual_addresses::VirtualAddresses;

use crate::packet::MacAddress;
use crate::verdict::{Neighbour, PortId};
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use rustc_hash::FxBuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What workers need to know of a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortInfo {
    /// Section name.
    pub name: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Largest IP datagram it sends, in bytes.
    pub mtu: u16,
    /// Receive queues of all its devices; with fewer than workers, connections are dealt out by
    /// redirects.
    pub queues: u16,
    /// False while the link or its kernel interface is down.
    pub up: bool,
    /// True if it has a TAP to punt to.
    pub kernel_interface: bool,
    /// Further MAC addresses it answers to (virtual routers that are Active here).
    pub virtual_macs: Vec<MacAddress>,
    /// The addresses of its kernel interface, in the kernel's order (primary first).
    pub addresses: Vec<IpNet>,
}

impl PortInfo {
    /// True if frames to `mac` are for this port.
    #[inline]
    pub fn owns(&self, mac: MacAddress) -> bool {
        mac == self.mac || self.virtual_macs.contains(&mac)
    }

    /// The address this box would use as source towards `destination` on this port: the one in
    /// the same subnet, else the first of the family.
    pub fn source_towards(&self, destination: IpAddr) -> Option<IpAddr> {
        let mut family = self
            .addresses
            .iter()
            .filter(|net| net.addr().is_ipv4() == destination.is_ipv4());
        family
            .clone()
            .find(|net| net.contains(&destination))
            .or_else(|| family.next())
            .map(IpNet::addr)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Route {
    /// Through one of these next hops (more than one: ECMP).
    Via(Vec<NextHop>),
    /// To this box.
    Local,
    /// Out of an interface that is not one of our ports: only Linux can take it there.
    Elsewhere,
    /// Dropped silently.
    Blackhole,
    /// Answered with ICMP administratively prohibited.
    Prohibited,
    /// Answered with ICMP unreachable.
    Unreachable,
}

/// One next hop of a route.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NextHop {
    /// The port it is behind.
    pub port: PortId,
    /// The gateway; `None` = the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Relative weight for ECMP, at least 1.
    pub weight: u16,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NeighbourState {
    /// It is at this MAC address.
    Reachable(MacAddress),
    /// It does not answer.
    Failed,
}

/// How to reach an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resolution {
    /// Send it there.
    Ready(Adjacency),
    /// The neighbour's MAC address is not known yet.
    Unresolved(Neighbour),
    /// The neighbour does not answer.
    Failed(Neighbour),
    /// The address is this box's own.
    Local,
    /// Linux must forward it.
    Elsewhere,
    /// A blackhole route.
    Blackhole,
    /// A prohibit route.
    Prohibited,
    /// No route, or an unreachable route.
    NoRoute,
    /// The port it leaves by is down.
    Down,
}

/// A resolved way out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Adjacency {
    /// Port to send on.
    pub port: PortId,
    /// Destination MAC.
    pub destination: MacAddress,
    /// Source MAC (the port's).
    pub source: MacAddress,
    /// Largest IP datagram, in bytes.
    pub mtu: u16,
    /// Another flow may take another way (ECMP).
    pub by_flow: bool,
}

/// Where every destination leads. A clone shares its memory.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    v4: Lpm<Ipv4Addr>,
    v6: Lpm<Ipv6Addr>,
    /// Each way once, however many prefixes lead there.
    ways: Arc<[Route]>,
}

impl RouteTable {
    /// Builds the table. Of two equal prefixes the later one wins.
    pub fn new(routes: impl IntoIterator<Item = (IpNet, Route)>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        let mut known: HashMap<Route, u32, FxBuildHasher> = HashMap::default();
        for (prefix, route) in routes {
            let next = known.len() as u32;
            let value = *known.entry(route).or_insert(next);
            match prefix {
                IpNet::V4(prefix) => v4.push(Prefix {
                    address: prefix.network(),
                    length: prefix.prefix_len(),
                    value,
                }),
                IpNet::V6(prefix) => v6.push(Prefix {
                    address: prefix.network(),
                    length: prefix.prefix_len(),
                    value,
                }),
            }
        }
        let mut ways: Vec<_> = known.into_iter().collect();
        ways.sort_unstable_by_key(|(_, value)| *value);
        Self {
            v4: Lpm::new(&v4),
            v6: Lpm::new(&v6),
            ways: ways.into_iter().map(|(route, _)| route).collect(),
        }
    }

    #[inline]
    fn find(&self, address: IpAddr) -> Option<&Route> {
        self.ways.get(self.index(address)?)
    }

    #[inline]
    fn index(&self, address: IpAddr) -> Option<usize> {
        let found = match address {
            IpAddr::V4(address) => self.v4.lookup(address),
            IpAddr::V6(address) => self.v6.lookup(address),
        };
        found.map(|index| index as usize)
    }
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Forwarding {
    ports: Box<[PortInfo]>,
    local: HashSet<IpAddr, FxBuildHasher>,
    virtual_addresses: Arc<VirtualAddresses>,
    routes: RouteTable,
    neighbours: HashMap<Neighbour, NeighbourState, FxBuildHasher>,
    /// By way: to its gateway, if it has just one and packets can go there. What most packets take
    /// is so found by its destination alone.
    through: Box<[Option<Adjacency>]>,
}

impl Forwarding {
    /// Builds the snapshot. `ports[i]` is `PortId(i)`; `local` holds every address of the box.
    pub fn new(
        ports: Vec<PortInfo>,
        local: impl IntoIterator<Item = IpAddr>,
        routes: Vec<(IpNet, Route)>,
        neighbours: impl IntoIterator<Item = (Neighbour, NeighbourState)>,
    ) -> Self {
        let routes = RouteTable::new(routes);
        Self::with_routes(ports, local, routes, neighbours)
    }

    /// The same with a table of routes that exists already.
    pub fn with_routes(
        ports: Vec<PortInfo>,
        local: impl IntoIterator<Item = IpAddr>,
        routes: RouteTable,
        neighbours: impl IntoIterator<Item = (Neighbour, NeighbourState)>,
    ) -> Self {
        let mut built = Self {
            ports: ports.into(),
            local: local.into_iter().collect(),
            virtual_addresses: Arc::default(),
            routes,
            neighbours: neighbours.into_iter().collect(),
            through: Box::default(),
        };
        let ways = built.routes.ways.iter();
        built.through = ways.map(|way| built.through(way)).collect();
        built
    }

    /// The same, with the addresses of virtual routers.
    #[must_use]
    pub fn with_virtual_addresses(self, virtual_addresses: Arc<VirtualAddresses>) -> Self {
        Self {
            virtual_addresses,
            ..self
        }
    }

    fn through(&self, way: &Route) -> Option<Adjacency> {
        let Route::Via(hops) = way else { return None };
        let [hop] = hops[..] else { return None };
        match self.towards(hop, hop.gateway?, false) {
            Resolution::Ready(adjacency) => Some(adjacency),
            _ => None,
        }
    }

    /// True if both share one table of routes; two that were built alike do not.
    pub fn shares_routes(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.routes.ways, &other.routes.ways)
    }

    /// The port, if it exists.
    #[inline]
    pub fn port(&self, port: PortId) -> Option<&PortInfo> {
        self.ports.get(usize::from(port.0))
    }

    /// All ports.
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// True if `address` is one of this box's own.
    #[inline]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains(&address)
    }

    /// True if services at `address` are served here: it is one of this box's own, or a virtual
    /// router's that this box forwards for.
    #[inline]
    pub fn serves(&self, address: IpAddr) -> bool {
        self.is_local(address) || self.virtual_addresses.is_claimed(address)
    }

    /// True if `address` belongs to a virtual router, Active here or not.
    #[inline]
    pub fn is_virtual(&self, address: IpAddr) -> bool {
        self.virtual_addresses.contains(address)
    }

    /// The state of a neighbour, if anything is known.
    pub fn neighbour(&self, neighbour: Neighbour) -> Option<NeighbourState> {
        self.neighbours.get(&neighbour).copied()
    }

    /// The neighbours through which `address` is reached: itself on a link, or the gateways of its
    /// route.
    pub fn neighbours_towards(&self, address: IpAddr) -> Vec<Neighbour> {
        match self.routes.find(address) {
            Some(Route::Via(hops)) => hops
                .iter()
                .map(|hop| Neighbour {
                    port: hop.port,
                    address: hop.gateway.unwrap_or(address),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Every gateway of every route.
    pub fn gateways(&self) -> impl Iterator<Item = Neighbour> {
        self.routes.ways.iter().flat_map(|route| {
            let hops: &[NextHop] = match route {
                Route::Via(hops) => hops,
                _ => &[],
            };
            hops.iter().filter_map(|hop| {
                Some(Neighbour {
                    port: hop.port,
                    address: hop.gateway?,
                })
            })
        })
    }

    /// How to reach `address`. Packets of one flow give the same `flow` (its ports, say) and so
    /// take the same next hop of an ECMP route; different flows are spread by the weights.
    #[inline]
    pub fn resolve(&self, address: IpAddr, flow: u32) -> Resolution {
        let Some(index) = self.routes.index(address) else {
            return Resolution::NoRoute;
        };
        if let Some(Some(adjacency)) = self.through.get(index) {
            return Resolution::Ready(*adjacency);
        }
        let Some(route) = self.routes.ways.get(index) else {
            return Resolution::NoRoute;
        };
        let (hop, by_flow) = match route {
            Route::Via(hops) => match choose(hops, address, flow) {
                Some(hop) => (hop, hops.len() > 1),
                None => return Resolution::NoRoute,
            },
            Route::Local => return Resolution::Local,
            Route::Elsewhere => return Resolution::Elsewhere,
            Route::Blackhole => return Resolution::Blackhole,
            Route::Prohibited => return Resolution::Prohibited,
            Route::Unreachable => return Resolution::NoRoute,
        };
        self.towards(hop, hop.gateway.unwrap_or(address), by_flow)
    }

    /// The way over `hop` to the neighbour `address`.
    #[inline]
    fn towards(&self, hop: NextHop, address: IpAddr, by_flow: bool) -> Resolution {
        let neighbour = Neighbour {
            port: hop.port,
            address,
        };
        let Some(port) = self.port(hop.port) else {
            return Resolution::NoRoute;
        };
        if !port.up {
            return Resolution::Down;
        }
        match self.neighbours.get(&neighbour) {
            Some(NeighbourState::Reachable(mac)) => Resolution::Ready(Adjacency {
                port: hop.port,
                destination: *mac,
                source: port.mac,
                mtu: port.mtu,
                by_flow,
            }),
            Some(NeighbourState::Failed) => Resolution::Failed(neighbour),
            None => Resolution::Unresolved(neighbour),
        }
    }
}

/// Weighted choice by hash; one hop is the common case.
#[inline]
fn choose(hops: &[NextHop], address: IpAddr, flow: u32) -> Option<NextHop> {
    if let [only] = hops {
        return Some(*only);
    }
    let total: u64 = hops.iter().map(|hop| u64::from(hop.weight.max(1))).sum();
    let mut point = (u64::from(spread(address, flow)) * total) >> 32;
    for hop in hops {
        let weight = u64::from(hop.weight.max(1));
        if point < weight {
            return Some(*hop);
        }
        point -= weight;
    }
    None
}

/// A hash every bit of which depends on every bit of what it is given: the ports of a service's
/// flows differ in a few bits only, and their servers' addresses in fewer.
fn spread(address: IpAddr, flow: u32) -> u32 {
    let address = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(29)
        }
    };
    // The finalizer of SplitMix64.
    let mut mixed = address
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::from(flow));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 100));
    const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 1, 254));

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    fn hop(gateway: Option<IpAddr>) -> NextHop {
        NextHop {
            port: PortId(0),
            gateway,
            weight: 1,
        }
    }

    fn table(neighbours: Vec<(Neighbour, NeighbourState)>) -> Forwarding {
        Forwarding::new(
            vec![PortInfo {
                name: "lan".into(),
                mac: mac(1),
                mtu: 1500,
                queues: 1,
                up: true,
                kernel_interface: true,
                virtual_macs: vec![],
                addresses: vec!["10.0.1.1/24".parse().unwrap()],
            }],
            [],
            vec![
                ("10.0.1.0/24".parse().unwrap(), Route::Via(vec![hop(None)])),
                (
                    "0.0.0.0/0".parse().unwrap(),
                    Route::Via(vec![hop(Some(GATEWAY))]),
                ),
                ("203.0.113.0/24".parse().unwrap(), Route::Blackhole),
            ],
            neighbours,
        )
    }

    #[test]
    fn a_neighbour_is_waited_for_until_it_is_known() {
        let wanted = Neighbour {
            port: PortId(0),
            address: CLIENT,
        };
        assert_eq!(
            table(vec![]).resolve(CLIENT, 0),
            Resolution::Unresolved(wanted)
        );
        let known = table(vec![(wanted, NeighbourState::Reachable(mac(9)))]);
        assert_eq!(
            known.resolve(CLIENT, 0),
            Resolution::Ready(Adjacency {
                port: PortId(0),
                destination: mac(9),
                source: mac(1),
                mtu: 1500,
                by_flow: false,
            })
        );
        let failed = table(vec![(wanted, NeighbourState::Failed)]);
        assert_eq!(failed.resolve(CLIENT, 0), Resolution::Failed(wanted));
    }

    #[test]
    fn addresses_behind_a_gateway_resolve_to_the_gateways_neighbour() {
        let gateway = Neighbour {
            port: PortId(0),
            address: GATEWAY,
        };
        assert_eq!(
            table(vec![]).resolve(FAR, 0),
            Resolution::Unresolved(gateway)
        );
        assert_eq!(
            table(vec![]).resolve("203.0.113.5".parse().unwrap(), 0),
            Resolution::Blackhole
        );
    }

    #[test]
    fn prefixes_that_lead_the_same_way_share_it_and_a_later_one_wins() {
        let way = |last| Route::Via(vec![hop(Some(IpAddr::from([10, 0, 1, last])))]);
        let prefixes = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];
        let mut routes: Vec<_> = prefixes
            .map(|prefix| (prefix.parse().unwrap(), way(1)))
            .into();
        routes.push(("192.0.2.0/24".parse().unwrap(), way(2)));
        let table = RouteTable::new(routes);
        assert_eq!(table.ways.len(), 2);
        assert_eq!(table.find(FAR), Some(&way(2)));
        assert_eq!(table.find("198.51.100.1".parse().unwrap()), Some(&way(1)));
        assert_eq!(table.find("2001:db8::1".parse().unwrap()), Some(&way(1)));
        assert_eq!(table.find(CLIENT), None);
    }

    #[test]
    fn ecmp_keeps_a_flow_on_its_hop_and_respects_weights() {
        let hop = |port, weight| NextHop {
            port: PortId(port),
            gateway: None,
            weight,
        };
        let hops = [hop(0, 1), hop(1, 3)];
        // The flows of one service: only the clients' ports differ, in the high half.
        let flows = || (1024..5024_u32).map(|port| (port << 16) + 80);
        let on_second = flows()
            .filter(|flow| choose(&hops, FAR, *flow).unwrap().port == PortId(1))
            .count();
        assert!((2850..3150).contains(&on_second), "{on_second} of 4000");
        for flow in flows() {
            assert_eq!(choose(&hops, FAR, flow), choose(&hops, FAR, flow));
        }
        assert_eq!(choose(&[], FAR, 7), None);
    }

    #[test]
    fn packets_without_ports_are_spread_by_their_destination() {
        let hops = [0, 1].map(|port| NextHop {
            port: PortId(port),
            gateway: None,
            weight: 1,
        });
        for base in [
            Ipv4Addr::new(192, 0, 2, 0).into(),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let on_first = (1..=200)
                .map(|host| match base {
                    IpAddr::V4(base) => IpAddr::from(Ipv4Addr::from_bits(base.to_bits() + host)),
                    IpAddr::V6(base) => {
                        IpAddr::from(Ipv6Addr::from_bits(base.to_bits() + u128::from(host)))
                    }
                })
                .filter(|address| choose(&hops, *address, 0).unwrap().port == PortId(0))
                .count();
            assert!((70..130).contains(&on_first), "{on_first} of 200");
        }
    }
}
