//! The address this box speaks from towards another, as Linux chooses it for packets of its own:
//! outer headers of tunnels carry it.

use super::{Forwarding, NextHop, PortInfo, Route, choose};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

impl Forwarding {
    /// The source address of packets to `address` over the way that [`Self::resolve`] chooses for
    /// `flow`: of the port they leave by, else of any other. `None` = the box has no address of the
    /// family, or there is no way.
    pub fn source_towards(&self, address: IpAddr, flow: u32) -> Option<IpAddr> {
        let Some(Route::Via(hops)) = self.routes.find(address) else {
            return None;
        };
        let NextHop { port, gateway, .. } = choose(hops, address, flow)?;
        let near = |port: &PortInfo| match address {
            // The address in the network of whoever the packet is handed to.
            IpAddr::V4(_) => {
                let next = gateway.filter(IpAddr::is_ipv4).unwrap_or(address);
                port.source_towards(next)
            }
            IpAddr::V6(destination) => global(port, destination),
        };
        let first = self.port(port).and_then(near);
        first.or_else(|| self.ports().iter().find_map(near))
    }
}

/// The IPv6 address in the destination's own network, else a global one that is more than a single
/// host's (a virtual one), else any global one (RFC 6724 5, rules 2 and 8).
fn global(port: &PortInfo, destination: Ipv6Addr) -> Option<IpAddr> {
    let addresses = || {
        port.addresses.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        })
    };
    let wide = |address: &Ipv6Addr| !address.is_unicast_link_local();
    addresses()
        .find(|net| net.prefix_len() < 128 && net.contains(&destination))
        .or_else(|| addresses().find(|net| wide(&net.addr()) && net.prefix_len() < 128))
        .or_else(|| addresses().find(|net| wide(&net.addr())))
        .map(|net| net.addr().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::MacAddress;
    use crate::verdict::PortId;

    fn port(addresses: &[&str]) -> PortInfo {
        PortInfo {
            name: "lan".into(),
            mac: MacAddress::ZERO,
            mtu: 1500,
            queues: 1,
            up: true,
            kernel_interface: true,
            virtual_macs: Vec::new(),
            addresses: addresses.iter().map(|net| net.parse().unwrap()).collect(),
        }
    }

    fn forwarding() -> Forwarding {
        let ports = vec![
            port(&["192.0.2.50/32", "192.0.2.1/24", "198.51.100.1/24"]),
            port(&[
                "fe80::1/64",
                "2001:db8:1::50/128",
                "2001:db8:1::1/64",
                "2001:db8:2::1/64",
            ]),
        ];
        let via = |port, gateway: Option<&str>| {
            Route::Via(vec![NextHop {
                port: PortId(port),
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
                weight: 1,
            }])
        };
        let routes = [
            ("192.0.2.0/24", via(0, None)),
            ("10.0.0.0/8", via(0, Some("198.51.100.254"))),
            ("10.1.0.0/16", via(1, Some("fe80::9"))),
            ("10.2.0.0/16", Route::Blackhole),
            ("2001:db8:1::/64", via(1, None)),
            ("2001:db8:2::/64", via(1, None)),
            ("2001:db8:9::/64", via(1, Some("fe80::9"))),
            ("2001:db8:8::/64", via(0, Some("fe80::9"))),
        ];
        let routes = routes.map(|(net, route)| (net.parse().unwrap(), route));
        Forwarding::new(ports, [], routes.to_vec(), [])
    }

    #[test]
    fn the_source_is_of_the_network_the_packet_leaves_into() {
        let forwarding = forwarding();
        let source = |address: &str| {
            let source = forwarding.source_towards(address.parse().unwrap(), 0);
            source.map(|source| source.to_string()).unwrap_or_default()
        };
        assert_eq!(source("192.0.2.12"), "192.0.2.1", "not the virtual one");
        assert_eq!(source("10.0.0.1"), "198.51.100.1", "the gateway's network");
        assert_eq!(source("2001:db8:1::12"), "2001:db8:1::1");
        assert_eq!(source("2001:db8:2::12"), "2001:db8:2::1");
        assert_eq!(source("2001:db8:9::12"), "2001:db8:1::1", "not link-local");
        // The port has no address of the family: the box speaks with another port's.
        assert_eq!(source("10.1.0.1"), "192.0.2.50");
        assert_eq!(source("2001:db8:8::12"), "2001:db8:1::1");
        assert_eq!(source("10.2.0.1"), "");
        assert_eq!(source("203.0.113.1"), "");
    }
}
