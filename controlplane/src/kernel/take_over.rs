//! `--take-over`: the addresses and routes of the netdev beneath a port move to the port's TAP.
//!
//! Addresses are put on the new interface before they are removed from the old one, so that
//! connections to the box survive. Invariant: what was moved is not marked as Sluice's, so that no
//! reload and no later start removes it: it is the operator's.

use super::netlink::{ADD, PUT, Rtnl, is};
use super::underlying::is_link_local;
use super::view::{KernelRoute, KernelView, RouteKind, RouteTable};
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteScope, RouteType,
    RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::io::{Error, Result};
use std::net::IpAddr;

/// What was moved from one interface to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TakeOver {
    /// Where it was.
    pub from: u32,
    /// Where it is now.
    pub to: u32,
    /// The addresses.
    pub addresses: Vec<IpNet>,
    /// Routes with one next hop that led out of `from`.
    pub routes: Vec<KernelRoute>,
}

impl TakeOver {
    /// What has to be moved from one interface to the other: all addresses but link-local ones, and
    /// the routes through `from` that the kernel does not make by itself.
    pub fn plan(view: &KernelView, from: u32, to: u32) -> Self {
        Self {
            from,
            to,
            addresses: view
                .addresses_of(from)
                .map(|address| address.address)
                .filter(|address| !is_link_local(address.addr()))
                .collect(),
            routes: view
                .routes
                .iter()
                .filter(|route| is_static_through(route, from))
                .cloned()
                .collect(),
        }
    }

    /// Moves it. Both interfaces must be up; call it before `underlying::silence`, which takes IPv6
    /// away. If anything fails, what was moved is moved back.
    pub async fn begin(self, rtnl: &Rtnl) -> Result<Self> {
        let moved = self.shift(rtnl, self.from, self.to).await;
        if let Err(error) = moved {
            self.shift(rtnl, self.to, self.from).await?;
            return Err(error);
        }
        Ok(self)
    }

    /// Moves everything back. That the interface it was moved to is gone is no error.
    pub async fn give_back(self, rtnl: &Rtnl) -> Result<()> {
        self.shift(rtnl, self.to, self.from).await
    }

    /// Idempotent, so that half a move can be undone.
    async fn shift(&self, rtnl: &Rtnl, from: u32, to: u32) -> Result<()> {
        for address in &self.addresses {
            let put = RouteNetlinkMessage::NewAddress(address_message(to, *address));
            match rtnl.change(put, ADD).await {
                Err(error) if is(&error, Errno::EXIST) => {}
                result => result.map_err(|error| describe(address, &error))?,
            }
        }
        for address in &self.addresses {
            let remove = RouteNetlinkMessage::DelAddress(address_message(from, *address));
            match rtnl.change(remove, 0).await {
                Err(error) if is(&error, Errno::ADDRNOTAVAIL) || is(&error, Errno::NODEV) => {}
                result => result.map_err(|error| describe(address, &error))?,
            }
        }
        for route in &self.routes {
            let message = RouteNetlinkMessage::NewRoute(route_message(route, to));
            rtnl.change(message, PUT)
                .await
                .map_err(|error| describe(&route.prefix, &error))?;
        }
        Ok(())
    }
}

fn is_static_through(route: &KernelRoute, interface: u32) -> bool {
    route.table == RouteTable::Main
        && route.kind == RouteKind::Unicast
        && route.protocol != RTPROT_KERNEL
        && matches!(&*route.hops, [hop] if hop.interface == interface)
}

fn address_message(interface: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = interface;
    message.header.prefix_len = address.prefix_len();
    message.header.family = family(&address);
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    if let IpNet::V4(address) = address
        && address.prefix_len() < 31
    {
        message
            .attributes
            .push(AddressAttribute::Broadcast(address.broadcast()));
    }
    message
}

fn route_message(route: &KernelRoute, interface: u32) -> RouteMessage {
    let gateway = route.hops.first().and_then(|hop| hop.gateway);
    let mut message = RouteMessage::default();
    message.header.address_family = family(&route.prefix);
    message.header.destination_prefix_length = route.prefix.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = route.protocol.into();
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (&route.prefix, gateway) {
        (IpNet::V4(_), None) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(route.prefix.addr())),
        RouteAttribute::Oif(interface),
        RouteAttribute::Priority(route.metric),
    ];
    message
        .attributes
        .extend(gateway.map(|gateway| match (&route.prefix, gateway) {
            (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            _ => RouteAttribute::Gateway(gateway.into()),
        }));
    message.attributes.extend(
        route
            .preferred_source
            .map(|source| RouteAttribute::PrefSource(source.into())),
    );
    message.attributes.extend(
        route
            .mtu
            .map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])),
    );
    message
}

fn family(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

fn describe(what: &IpNet, error: &Error) -> Error {
    Error::new(error.kind(), format!("cannot move {what}: {error}"))
}

/// Connected routes, which come and go with their address.
const RTPROT_KERNEL: u8 = 2;
