//! Static routes of ports: `routes` and `gateway` of the configuration (rtnetlink(7), `RTM_*ROUTE`).
//!
//! Invariant: only routes that carry [`PROTOCOL`] are replaced or removed; one of somebody else to
//! the same prefix with the same metric is a conflict that is reported.

use super::PROTOCOL;
use super::addresses::Put;
use super::decode;
use super::netlink::{ADD, PUT, Rtnl, is};
use super::view::{KernelHop, KernelRoute, KernelView, RouteTable};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route from the configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StaticRoute {
    /// Destinations.
    pub prefix: IpNet,
    /// The interface it leaves by.
    pub interface: u32,
    /// Gateway; `None` = on the link.
    pub gateway: Option<IpAddr>,
    /// Metric: 0 for IPv4 and 1024 for IPv6 are what `ip route add` uses.
    pub metric: u32,
}

impl StaticRoute {
    /// A route with the metric `ip route add` would give it.
    pub fn new(prefix: IpNet, interface: u32, gateway: Option<IpAddr>) -> Self {
        let metric = match prefix {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => 1024,
        };
        Self {
            prefix: prefix.trunc(),
            interface,
            gateway,
            metric,
        }
    }

    /// The default route through a gateway, in the gateway's family.
    pub fn default_through(gateway: IpAddr, interface: u32) -> Self {
        let any = match gateway {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let prefix = IpNet::new_assert(any, 0);
        Self::new(prefix, interface, Some(gateway))
    }

    fn is(&self, route: &KernelRoute) -> bool {
        let hop = KernelHop {
            interface: self.interface,
            gateway: self.gateway,
            weight: 1,
        };
        self.contends_with(route) && route.hops == [hop]
    }

    /// True if both cannot be in the table.
    fn contends_with(&self, route: &KernelRoute) -> bool {
        route.table == RouteTable::Main
            && route.prefix == self.prefix
            && route.metric == self.metric
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = match self.prefix {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.header.destination_prefix_length = self.prefix.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = PROTOCOL.into();
        message.header.kind = RouteType::Unicast;
        message.header.scope = if self.gateway.is_none() && self.prefix.addr().is_ipv4() {
            RouteScope::Link
        } else {
            RouteScope::Universe
        };
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::from(self.prefix.addr())),
            RouteAttribute::Oif(self.interface),
            RouteAttribute::Priority(self.metric),
        ];
        message
            .attributes
            .extend(match (self.prefix, self.gateway) {
                (_, None) => None,
                (IpNet::V4(_), Some(IpAddr::V6(gateway))) => {
                    Some(RouteAttribute::Via(RouteVia::Inet6(gateway)))
                }
                (_, Some(gateway)) => Some(RouteAttribute::Gateway(gateway.into())),
            });
        message
    }
}

impl Display for StaticRoute {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        write!(f, " (interface {})", self.interface)
    }
}

/// The routes this process has put into the main table.
#[derive(Debug)]
pub struct Routes {
    rtnl: Rtnl,
    ours: BTreeSet<StaticRoute>,
}

impl Routes {
    /// Nothing put yet.
    pub fn new(rtnl: Rtnl) -> Self {
        Self {
            rtnl,
            ours: BTreeSet::new(),
        }
    }

    /// Takes over the routes an earlier process left through `interfaces`.
    pub fn adopt(&mut self, view: &KernelView, interfaces: &[u32]) {
        for route in view.routes.iter() {
            if let (PROTOCOL, RouteTable::Main, [hop]) = (route.protocol, route.table, &*route.hops)
                && interfaces.contains(&hop.interface)
            {
                self.ours.insert(StaticRoute {
                    prefix: route.prefix,
                    interface: hop.interface,
                    gateway: hop.gateway,
                    metric: route.metric,
                });
            }
        }
    }

    /// Puts a route. One of ours to the same prefix and metric that leads elsewhere is replaced.
    pub async fn put(&mut self, route: StaticRoute) -> Result<Put> {
        let request = || RouteNetlinkMessage::NewRoute(route.message());
        match self.rtnl.change(request(), ADD).await {
            Ok(()) => {
                self.ours.insert(route);
                return Ok(Put::Added);
            }
            Err(error) if is(&error, Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let present = self.contenders(&route).await?;
        if let Some(same) = present.iter().find(|present| route.is(present)) {
            if same.protocol != PROTOCOL {
                return Ok(Put::Foreign);
            }
            self.ours.insert(route);
            return Ok(Put::Kept);
        }
        if present.iter().any(|present| present.protocol != PROTOCOL) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("another route to {} is in the kernel's table", route.prefix),
            ));
        }
        self.rtnl.change(request(), PUT).await?;
        self.ours
            .retain(|old| (old.prefix, old.metric) != (route.prefix, route.metric));
        self.ours.insert(route);
        Ok(Put::Added)
    }

    /// Removes a route if it is ours; `false` if it is not.
    pub async fn remove(&mut self, route: StaticRoute) -> Result<bool> {
        if !self.ours.contains(&route) {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::DelRoute(route.message());
        match self.rtnl.change(message, 0).await {
            // It, or the interface with it, is gone already.
            Err(error) if is(&error, Errno::SRCH) || is(&error, Errno::NODEV) => {}
            result => result?,
        }
        self.ours.remove(&route);
        Ok(true)
    }

    /// Makes ours exactly `wanted`. Returns what could not be done; the rest is done all the same.
    pub async fn apply(&mut self, wanted: &BTreeSet<StaticRoute>) -> Vec<(StaticRoute, Error)> {
        let mut failed = Vec::new();
        for route in wanted {
            if let Err(error) = self.put(*route).await {
                failed.push((*route, error));
            }
        }
        let unwanted: Vec<_> = self.ours.difference(wanted).copied().collect();
        for route in unwanted {
            if let Err(error) = self.remove(route).await {
                failed.push((route, error));
            }
        }
        failed
    }

    /// Removes all of ours.
    pub async fn clear(&mut self) -> Vec<(StaticRoute, Error)> {
        self.apply(&BTreeSet::new()).await
    }

    /// All of ours.
    pub fn ours(&self) -> &BTreeSet<StaticRoute> {
        &self.ours
    }

    async fn contenders(&self, route: &StaticRoute) -> Result<Vec<KernelRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = route.message().header.address_family;
        let request = RouteNetlinkMessage::GetRoute(message);
        let contenders = self.rtnl.dump(request, |object| match object {
            RouteNetlinkMessage::NewRoute(message) => {
                decode::route(&message).filter(|present| route.contends_with(present))
            }
            _ => None,
        });
        contenders.await
    }
}
