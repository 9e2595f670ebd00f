//! What the virtual routers of a box want done. Whoever drives them does it, in this order.

use crate::event::Event;
use crate::settings::{Family, Name, VirtualRoute};
use ipnet::IpNet;
use std::net::IpAddr;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send an advertisement.
    Send(Transmission),
    /// Have the data plane forward for these addresses, and tell by
    /// [`Input::Claimed`](crate::Input::Claimed) when every worker does. Without a data plane that is at once.
    Claim {
        /// The router that became Active.
        router: Name,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// The interface with the virtual MAC that it answers by, if it has one.
        own: Option<VirtualInterface>,
    },
    /// The data plane need not forward for this router any more.
    Disclaim {
        /// The router.
        router: Name,
    },
    /// Put the address on the interface, unless it is there.
    AddAddress {
        /// Name of the interface.
        interface: Name,
        /// With prefix length. IPv6 without duplicate address detection.
        address: IpNet,
    },
    /// Take it away, if it is there.
    RemoveAddress {
        /// Name of the interface.
        interface: Name,
        /// With prefix length.
        address: IpNet,
    },
    /// Put the route into the kernel's main table, and again whenever it has gone from there.
    AddRoute {
        /// The router that wants it; others may want the same.
        router: Name,
        /// The route.
        route: VirtualRoute,
    },
    /// Take it away, unless another router wants it.
    RemoveRoute {
        /// The router that wanted it.
        router: Name,
        /// The route.
        route: VirtualRoute,
    },
    /// Tell the link where an address is: gratuitous ARP, or an unsolicited neighbour advertisement.
    Announce {
        /// Name of the interface.
        interface: Name,
        /// The address.
        address: IpAddr,
    },
    /// Make the interface that has the virtual MAC, on top of another.
    MakeInterface(VirtualInterface),
    /// Remove it.
    RemoveInterface {
        /// Its name.
        name: Name,
    },
    /// Drop (`true`) or accept packets to these addresses that are not for a service (`accept = no`).
    Refuse {
        /// The router.
        router: Name,
        /// Its addresses; empty = accept all again.
        addresses: Vec<IpAddr>,
    },
    /// Something an operator, a script or a mail reader wants to know.
    Tell(Event),
}

/// One advertisement, as it goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmission {
    /// Name of the interface; with a virtual MAC its own one.
    pub interface: Name,
    /// Source address.
    pub source: IpAddr,
    /// Destination: the group or a peer.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Identification of the IPv4 header; counts from 1 per router.
    pub identification: u16,
    /// The VRRP message with its checksum.
    pub message: Vec<u8>,
}

/// An interface with a virtual MAC (behaviour notes 8.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualInterface {
    /// `vrrp.VRID`, or `vrrp6.VRID` for IPv6.
    pub name: Name,
    /// The interface beneath.
    pub on: Name,
    /// 00:00:5e:00:01:VRID, or 00:00:5e:00:02:VRID for IPv6.
    pub mac: [u8; 6],
    /// The family it is for.
    pub family: Family,
}
