//! The kernel's links, addresses, routes and neighbours as plain values.
//!
//! A view is what one dump of rtnetlink(7) says, reduced to what forwarding needs: the main and
//! local tables only, of equal prefixes only the route Linux would take. Invariant: two views that
//! compare equal lead to equal forwarding snapshots.

use dataplane::packet::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The state of the network namespace at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KernelView {
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of all interfaces in the kernel's order: an interface's primary one comes first.
    pub addresses: Vec<InterfaceAddress>,
    /// Routes of the main and local tables, the preferred one per table and prefix.
    pub routes: Arc<[KernelRoute]>,
    /// Neighbours by (interface index, address).
    pub neighbours: BTreeMap<(u32, IpAddr), KernelNeighbour>,
}

impl KernelView {
    /// The interface of this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The addresses of one interface.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &InterfaceAddress> {
        self.addresses
            .iter()
            .filter(move |address| address.interface == index)
    }

    /// True if any interface has `address`.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|have| have.ip() == address)
    }
}

/// An interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address; `None` if it is not an Ethernet one.
    pub mac: Option<MacAddress>,
    /// Free text somebody gave it (`ip link set … alias`); see [`super::link::ALIAS`].
    pub alias: Option<String>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub lower_up: bool,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InterfaceAddress {
    /// Interface index.
    pub interface: u32,
    /// The address with its prefix length (host bits kept).
    pub address: IpNet,
    /// `IFA_F_*` bits.
    pub flags: u32,
    /// Who put it there (`IFA_PROTO`), [`super::PROTOCOL`] for Sluice; 0 = unknown.
    pub protocol: u8,
}

impl InterfaceAddress {
    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }
}

/// The tables that are mirrored.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum RouteTable {
    /// Consulted first: this box's own addresses.
    Local,
    /// Everything else.
    Main,
}

/// What a route does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum RouteKind {
    /// Sends through its next hops.
    Unicast,
    /// Delivers to this box.
    Local,
    /// A subnet's broadcast address.
    Broadcast,
    /// An anycast address of this box.
    Anycast,
    /// Multicast groups.
    Multicast,
    /// Drops silently.
    Blackhole,
    /// Answers with host unreachable.
    Unreachable,
    /// Answers with administratively prohibited.
    Prohibit,
    /// Ends the look-up in this table.
    Throw,
}

/// A route.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KernelRoute {
    /// The table it stands in.
    pub table: RouteTable,
    /// Destinations.
    pub prefix: IpNet,
    /// What it does.
    pub kind: RouteKind,
    /// Where it leads; empty unless [`RouteKind::Unicast`] or local kinds that name an interface.
    pub hops: Vec<KernelHop>,
    /// Metric; lower is preferred.
    pub metric: u32,
    /// Source address for packets of this box.
    pub preferred_source: Option<IpAddr>,
    /// MTU of the route in bytes, if it has one of its own.
    pub mtu: Option<u32>,
    /// Who put it there (`RTPROT_*`), [`super::PROTOCOL`] for Sluice.
    pub protocol: u8,
}

/// A next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KernelHop {
    /// Interface index.
    pub interface: u32,
    /// Gateway; `None` = on the link.
    pub gateway: Option<IpAddr>,
    /// Relative weight, at least 1.
    pub weight: u16,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelNeighbour {
    /// Its link-layer address if it is known.
    pub mac: Option<MacAddress>,
    /// State of the entry.
    pub state: NudState,
    /// The kernel keeps it resolved by itself (`NTF_EXT_MANAGED`).
    pub managed: bool,
}

impl KernelNeighbour {
    /// The MAC address to send to, if the entry is good for sending.
    pub fn reachable(&self) -> Option<MacAddress> {
        match self.state {
            NudState::Reachable
            | NudState::Stale
            | NudState::Delay
            | NudState::Probe
            | NudState::Noarp
            | NudState::Permanent => self.mac,
            NudState::None | NudState::Incomplete | NudState::Failed => None,
        }
    }
}

/// Neighbour unreachability detection state (`NUD_*`).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NudState {
    /// Nothing is known and nothing is done.
    None,
    /// Being resolved.
    Incomplete,
    /// Confirmed recently.
    Reachable,
    /// Not confirmed recently; still used.
    Stale,
    /// Used while stale; waiting for a confirmation.
    Delay,
    /// Being confirmed by probes.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    Noarp,
    /// Set by hand.
    Permanent,
}
