//! The *forwarding* snapshot: ports, local addresses, routes and neighbours as workers read them.
//!
//! Mirrored from the Linux stack by the control plane, apart from the services so that a flapping
//! neighbour never rebuilds a hundred thousand real servers (DESIGN §4). Read-only once built.

mod lpm;

pub use lpm::{Lpm, Prefix};

use crate::packet::MacAddress;
use crate::verdict::{Neighbour, PortId};
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;
use rustc_hash::FxBuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// Through one of these next hops (more than one: ECMP).
    Via(Vec<NextHop>),
    /// To this box.
    Local,
    /// Out of an interface that is not one of our ports: only Linux can take it there.
    Elsewhere,
    /// Dropped silently.
    Blackhole,
    /// Answered with ICMP unreachable.
    Unreachable,
}

/// One next hop of a route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Forwarding {
    ports: Box<[PortInfo]>,
    local: HashSet<IpAddr, FxBuildHasher>,
    v4: Lpm<Ipv4Addr>,
    v6: Lpm<Ipv6Addr>,
    routes: Box<[Route]>,
    neighbours: HashMap<Neighbour, NeighbourState, FxBuildHasher>,
}

impl Forwarding {
    /// Builds the snapshot. `ports[i]` is `PortId(i)`; `local` holds every address of the box.
    pub fn new(
        ports: Vec<PortInfo>,
        local: impl IntoIterator<Item = IpAddr>,
        routes: Vec<(IpNet, Route)>,
        neighbours: impl IntoIterator<Item = (Neighbour, NeighbourState)>,
    ) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for (value, (prefix, _)) in routes.iter().enumerate() {
            match prefix {
                IpNet::V4(prefix) => v4.push(Prefix {
                    address: prefix.network(),
                    length: prefix.prefix_len(),
                    value: value as u32,
                }),
                IpNet::V6(prefix) => v6.push(Prefix {
                    address: prefix.network(),
                    length: prefix.prefix_len(),
                    value: value as u32,
                }),
            }
        }
        Self {
            ports: ports.into(),
            local: local.into_iter().collect(),
            v4: Lpm::new(&v4),
            v6: Lpm::new(&v6),
            routes: routes.into_iter().map(|(_, route)| route).collect(),
            neighbours: neighbours.into_iter().collect(),
        }
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

    /// The state of a neighbour, if anything is known.
    pub fn neighbour(&self, neighbour: Neighbour) -> Option<NeighbourState> {
        self.neighbours.get(&neighbour).copied()
    }

    /// The neighbours through which `address` is reached: itself on a link, or the gateways of its
    /// route.
    pub fn neighbours_towards(&self, address: IpAddr) -> Vec<Neighbour> {
        let found = match address {
            IpAddr::V4(address) => self.v4.lookup(address),
            IpAddr::V6(address) => self.v6.lookup(address),
        };
        match found.and_then(|index| self.routes.get(index as usize)) {
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
        self.routes.iter().flat_map(|route| {
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

    /// How to reach `address`. Packets of one flow give the same `flow_hash` and so take the same
    /// next hop of an ECMP route.
    #[inline]
    pub fn resolve(&self, address: IpAddr, flow_hash: u32) -> Resolution {
        let found = match address {
            IpAddr::V4(address) => self.v4.lookup(address),
            IpAddr::V6(address) => self.v6.lookup(address),
        };
        let Some(route) = found.and_then(|index| self.routes.get(index as usize)) else {
            return Resolution::NoRoute;
        };
        let hop = match route {
            Route::Via(hops) => match choose(hops, flow_hash) {
                Some(hop) => hop,
                None => return Resolution::NoRoute,
            },
            Route::Local => return Resolution::Local,
            Route::Elsewhere => return Resolution::Elsewhere,
            Route::Blackhole => return Resolution::Blackhole,
            Route::Unreachable => return Resolution::NoRoute,
        };
        let neighbour = Neighbour {
            port: hop.port,
            address: hop.gateway.unwrap_or(address),
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
            }),
            Some(NeighbourState::Failed) => Resolution::Failed(neighbour),
            None => Resolution::Unresolved(neighbour),
        }
    }
}

/// Weighted choice by hash; one hop is the common case.
#[inline]
fn choose(hops: &[NextHop], flow_hash: u32) -> Option<NextHop> {
    if let [only] = hops {
        return Some(*only);
    }
    let total: u32 = hops.iter().map(|hop| u32::from(hop.weight.max(1))).sum();
    let mut point = flow_hash.checked_rem(total)?;
    for hop in hops {
        let weight = u32::from(hop.weight.max(1));
        if point < weight {
            return Some(*hop);
        }
        point -= weight;
    }
    None
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
                mtu: 1500
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
    fn ecmp_keeps_a_flow_on_its_hop_and_respects_weights() {
        let hops = [
            NextHop {
                port: PortId(0),
                gateway: None,
                weight: 1,
            },
            NextHop {
                port: PortId(1),
                gateway: None,
                weight: 3,
            },
        ];
        let on_second = (0..400)
            .filter(|hash| choose(&hops, *hash).unwrap().port == PortId(1))
            .count();
        assert_eq!(on_second, 300);
        assert_eq!(choose(&[], 7), None);
    }
}
