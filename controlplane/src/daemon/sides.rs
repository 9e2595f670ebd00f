//! Which end of a packet each port's device should hash, so that it delivers to the worker that
//! owns the connection (DESIGN §5).
//!
//! The owner follows from the client's end: the sender of a request, the receiver of a reply. A
//! port on which only requests arrive is on the clients' side, one on which only replies of
//! translated connections arrive is on the servers' side, and one on which both may arrive has to
//! hash both ends like any NIC. Where this guesses wrong workers hand packets over: it costs time,
//! nothing else.

use crate::config::{Config, Forward, VirtualServerConfig};
use dataplane::dpdk::HashInput;
use ipnet::IpNet;
use std::net::IpAddr;

/// What to hash on each port, in the order of the configuration.
pub(super) fn hash_inputs(config: &Config) -> Vec<HashInput> {
    let mut arrivals = vec![Arrivals::default(); config.ports.len()];
    let reach = Reach::new(config);
    let mut note = |address, what: Arrivals| match reach.port(address) {
        Some(port) => arrivals[port].add(what),
        // Linux may know the way, and know another one tomorrow.
        None => arrivals.iter_mut().for_each(|port| port.add(what)),
    };
    for service in &config.virtual_servers {
        let vips = config.vips(service);
        if vips.is_empty() {
            note(None, REQUESTS);
        }
        for vip in vips {
            note(Some(vip), REQUESTS);
        }
        for (address, forward) in servers(service) {
            match forward {
                Forward::Nat => note(Some(address), REPLIES),
                // Their replies go to an address of ours whose port names the worker.
                Forward::FullNat => note(Some(address), ANYTHING),
                // They reply to the client themselves.
                Forward::Dr | Forward::Tunnel => {}
            }
        }
    }
    arrivals.into_iter().map(Arrivals::hash_input).collect()
}

/// What may arrive on a port.
#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    requests: bool,
    replies: bool,
}

const REQUESTS: Arrivals = Arrivals {
    requests: true,
    replies: false,
};
const REPLIES: Arrivals = Arrivals {
    requests: false,
    replies: true,
};
const ANYTHING: Arrivals = Arrivals {
    requests: true,
    replies: true,
};

impl Arrivals {
    fn add(&mut self, other: Self) {
        self.requests |= other.requests;
        self.replies |= other.replies;
    }

    fn hash_input(self) -> HashInput {
        match (self.requests, self.replies) {
            (true, false) => HashInput::Source,
            (false, true) => HashInput::Destination,
            (true, true) | (false, false) => HashInput::Both,
        }
    }
}

/// The real servers of a service, the sorry server among them, and how they are reached.
fn servers(service: &VirtualServerConfig) -> impl Iterator<Item = (IpAddr, Forward)> {
    let sorry = service.sorry_server.map(|address| {
        let forward = service.sorry_server_forward.unwrap_or(service.forward);
        (address.ip(), forward)
    });
    let listed = service.real_servers.iter();
    listed.map(|real| (real.address, real.forward)).chain(sorry)
}

/// Where the configuration says that networks are: subnets, routes and default gateways of ports
/// and of the VLANs on them.
#[derive(Debug)]
struct Reach(Vec<(IpNet, usize)>);

impl Reach {
    fn new(config: &Config) -> Self {
        let mut networks = Vec::new();
        for (index, port) in config.ports.iter().enumerate() {
            let vlans = config.vlans.iter().filter(|vlan| vlan.port == port.name);
            let plain = (&port.addresses, &port.routes, &port.gateways);
            let all = vlans
                .map(|vlan| (&vlan.addresses, &vlan.routes, &vlan.gateways))
                .chain([plain]);
            for (addresses, routes, gateways) in all {
                let nets = addresses
                    .iter()
                    .map(|address| address.net.trunc())
                    .chain(routes.iter().map(|route| route.destination))
                    .chain(gateways.iter().map(|gateway| everything(*gateway)));
                networks.extend(nets.map(|net| (net, index)));
            }
        }
        Self(networks)
    }

    /// The port of the longest network with this address, if there is one and no other has it too.
    fn port(&self, address: Option<IpAddr>) -> Option<usize> {
        let address = address?;
        let with = || self.0.iter().filter(|(net, _)| net.contains(&address));
        let longest = with().map(|(net, _)| net.prefix_len()).max()?;
        let mut ports = with()
            .filter(|(net, _)| net.prefix_len() == longest)
            .map(|(_, port)| *port);
        let first = ports.next()?;
        ports.all(|port| port == first).then_some(first)
    }
}

/// The network of all addresses of this one's family.
fn everything(gateway: IpAddr) -> IpNet {
    IpNet::new(gateway, 0).map_or_else(|_| gateway.into(), |net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load};
    use std::fs;

    const BOTH: HashInput = HashInput::Both;
    const SOURCE: HashInput = HashInput::Source;
    const DESTINATION: HashInput = HashInput::Destination;

    /// Ports `front` (10.0.1.0/24) and `back` (10.0.2.0/24), each with further lines, and a service
    /// at `vip` with one server at `real`.
    fn two_arms([front, back]: [&str; 2], vip: &str, forward: &str, real: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sluice.ini");
        let text = format!(
            "[global]
             config_version = 1
             [port front]
             device = net_tap0
             addresses = 10.0.1.2/24, 2001:db8:1::2/64
             {front}
             [port back]
             device = net_tap1
             addresses = 10.0.2.2/24, 2001:db8:2::2/64
             {back}
             [virtual_server web]
             addresses = {vip}
             protocol = tcp
             scheduler = rr
             forward = {forward}
             [real_server web/a]
             address = {real}
             "
        );
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        load(&LoadOptions::new(&file)).unwrap().config
    }

    #[test]
    fn requests_are_hashed_by_their_source_and_replies_by_their_destination() {
        let none = ["", ""];
        let v4 = two_arms(none, "10.0.1.50:80", "nat", "10.0.2.11:80");
        assert_eq!(hash_inputs(&v4), [SOURCE, DESTINATION]);
        let v6 = two_arms(none, "[2001:db8:1::50]:80", "nat", "[2001:db8:2::11]:80");
        assert_eq!(hash_inputs(&v6), [SOURCE, DESTINATION]);
    }

    #[test]
    fn a_port_that_sees_both_hashes_both() {
        let one_arm = two_arms(["", ""], "10.0.1.50:80", "nat", "10.0.1.11:80");
        assert_eq!(hash_inputs(&one_arm), [BOTH, BOTH]);
    }

    #[test]
    fn servers_that_reply_to_clients_themselves_do_not_count() {
        let same = two_arms(["", ""], "10.0.1.50:80", "dr", "10.0.1.11");
        assert_eq!(hash_inputs(&same), [SOURCE, BOTH]);
        let mut sorry = same;
        sorry.virtual_servers[0].sorry_server = Some("10.0.2.12:80".parse().unwrap());
        sorry.virtual_servers[0].sorry_server_forward = Some(Forward::Nat);
        assert_eq!(hash_inputs(&sorry), [SOURCE, DESTINATION]);
    }

    #[test]
    fn routes_and_gateways_say_where_far_addresses_are() {
        let lines = ["gateway = 10.0.1.1", "routes = 10.9.0.0/16 via 10.0.2.1"];
        let far = two_arms(lines, "192.0.2.50:80", "nat", "10.9.0.11:80");
        assert_eq!(hash_inputs(&far), [SOURCE, DESTINATION]);
    }

    #[test]
    fn what_nobody_knows_the_way_to_may_arrive_anywhere() {
        let vip = two_arms(["", ""], "192.0.2.50:80", "nat", "10.0.2.11:80");
        assert_eq!(hash_inputs(&vip), [SOURCE, BOTH]);
        let server = two_arms(["", ""], "10.0.1.50:80", "nat", "10.9.0.11:80");
        assert_eq!(hash_inputs(&server), [BOTH, DESTINATION]);
        let mut twice = two_arms(["", ""], "10.0.1.50:80", "nat", "10.0.2.11:80");
        twice.ports[0].addresses = twice.ports[1].addresses.clone();
        assert_eq!(hash_inputs(&twice), [BOTH, BOTH]);
    }

    #[test]
    fn replies_to_our_own_addresses_have_no_side() {
        let mut config = two_arms(["", ""], "10.0.1.50:80", "nat", "10.0.2.11:80");
        config.virtual_servers[0].real_servers[0].forward = Forward::FullNat;
        assert_eq!(hash_inputs(&config), [SOURCE, BOTH]);
    }
}
