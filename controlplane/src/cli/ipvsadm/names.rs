//! Names of hosts and ports, looked up as the C library does it for `ipvsadm`.
//!
//! Everything else in this module asks [`Names`], so that tests need neither a resolver nor a file.

use crate::admin::api::Protocol;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

/// Where names come from.
pub(super) trait Names {
    /// The first IPv4 address of a host.
    fn host_address(&self, name: &str) -> Option<Ipv4Addr>;
    /// The port of a service.
    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a host.
    fn host_name(&self, address: IpAddr) -> Option<String>;
    /// The name of a port.
    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The resolver and `/etc/services`.
#[derive(Debug)]
pub(super) struct System {
    services: Vec<(String, u16, String)>,
}

impl System {
    /// Reads the service names.
    pub(super) fn new() -> Self {
        let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
        Self {
            services: parse_services(&text),
        }
    }
}

impl Names for System {
    fn host_address(&self, name: &str) -> Option<Ipv4Addr> {
        let mut found = (name, 0).to_socket_addrs().ok()?;
        found.find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let of = protocol.to_string();
        let mut lines = self.services.iter();
        lines
            .find(|(known, _, protocol)| known == name && *protocol == of)
            .map(|(_, port, _)| *port)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        let (name, _) = dns_lookup::getnameinfo(&SocketAddr::new(address, 0), 0).ok()?;
        // Without a name it is the address in figures.
        Some(name).filter(|name| name.parse::<IpAddr>().is_err() && !name.contains('%'))
    }

    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        let of = protocol.to_string();
        let mut lines = self.services.iter();
        lines
            .find(|(_, known, protocol)| *known == port && *protocol == of)
            .map(|(name, ..)| name.clone())
    }
}

/// Name, port and protocol of each line of `services(5)`; aliases follow their line's name.
fn parse_services(text: &str) -> Vec<(String, u16, String)> {
    let mut services = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (Some(name), Some(port)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((port, protocol)) = port.split_once('/') else {
            continue;
        };
        let Ok(port) = port.parse() else { continue };
        for name in std::iter::once(name).chain(words) {
            services.push((name.to_owned(), port, protocol.to_owned()));
        }
    }
    services
}

/// Names that tests know: those of the machine the transcripts were recorded on.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Recorded;

#[cfg(test)]
impl Names for Recorded {
    fn host_address(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }

    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        (1..=9000).find(|port| {
            let found = self.service_name(*port, protocol);
            found.as_deref() == Some(name)
        })
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        (address == IpAddr::from([127, 0, 0, 1])).then(|| "localhost".to_owned())
    }

    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        let name = match (port, protocol) {
            (80, Protocol::Tcp) => "http",
            (8080, Protocol::Tcp) => "http-alt",
            (21, Protocol::Tcp) => "ftp",
            (53, Protocol::Tcp | Protocol::Udp) => "domain",
            (5060, Protocol::Tcp | Protocol::Udp) => "sip",
            _ => return None,
        };
        Some(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_a_port_per_protocol_and_aliases() {
        let services = parse_services(
            "# Network services\nhttp\t\t80/tcp\t\twww\t# WorldWideWeb HTTP\ndomain 53/udp\n\nbad line\n",
        );
        let expected = [
            ("http", 80, "tcp"),
            ("www", 80, "tcp"),
            ("domain", 53, "udp"),
        ];
        let expected = expected.map(|(name, port, of)| (name.to_owned(), port, of.to_owned()));
        assert_eq!(services, expected);
    }

    #[test]
    fn the_loopback_address_has_no_name_that_is_an_address() {
        let name = System::new().host_name(IpAddr::from([127, 0, 0, 1]));
        assert!(name.is_none_or(|name| name.parse::<IpAddr>().is_err()));
    }
}
