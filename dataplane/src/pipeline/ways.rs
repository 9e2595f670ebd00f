//! The ways to the real servers, remembered: route, neighbour and port of each looked up once per
//! snapshot and not once per packet.
//!
//! A direct-mapped cache by real server. Ways that depend on the flow (ECMP) are not kept. Every
//! new snapshot empties it: one of forwarding, because the way may be another, and one of the
//! services, because the number may be another server's.

use crate::forwarding::{Adjacency, Forwarding, Resolution};
use crate::packet::MacAddress;
use crate::service::RealId;
use crate::verdict::PortId;
use std::net::IpAddr;

/// The cache of one worker.
#[derive(Debug)]
pub(super) struct Ways {
    kept: Box<[Kept; WAYS]>,
    /// Ways kept under another snapshot are void.
    snapshot: u32,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    snapshot: u32,
    real: RealId,
    adjacency: Adjacency,
}

impl Ways {
    pub(super) fn new() -> Self {
        let void = Kept {
            snapshot: 0,
            real: RealId(0),
            adjacency: Adjacency {
                port: PortId(0),
                destination: MacAddress::ZERO,
                source: MacAddress::ZERO,
                mtu: 0,
                by_flow: false,
            },
        };
        Self {
            kept: vec![void; WAYS]
                .try_into()
                .expect("a vector of this length"),
            snapshot: 1,
        }
    }

    /// Forgets everything: there is a new snapshot.
    pub(super) fn forget(&mut self) {
        self.snapshot = self.snapshot.wrapping_add(1);
        if self.snapshot == 0 {
            // Once in years. What was kept under the old numbers must not be taken for new.
            for kept in &mut self.kept[..] {
                kept.snapshot = 0;
            }
            self.snapshot = 1;
        }
    }

    /// The way to `address`, which is the address of `real`, for a flow of this hash; `None` if
    /// packets cannot go there now.
    #[inline]
    pub(super) fn towards(
        &mut self,
        forwarding: &Forwarding,
        real: RealId,
        address: impl Into<IpAddr>,
        flow: u32,
    ) -> Option<Adjacency> {
        let kept = &mut self.kept[real.0 as usize % WAYS];
        if kept.snapshot == self.snapshot && kept.real == real {
            return Some(kept.adjacency);
        }
        let Resolution::Ready(adjacency) = forwarding.resolve(address.into(), flow) else {
            return None;
        };
        if !adjacency.by_flow {
            *kept = Kept {
                snapshot: self.snapshot,
                real,
                adjacency,
            };
        }
        Some(adjacency)
    }
}

/// More than a usual box has servers.
const WAYS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::{NeighbourState, NextHop, PortInfo, Route};
    use crate::verdict::Neighbour;

    fn forwarding(mac: u8) -> Forwarding {
        let port = PortInfo {
            name: "lan".to_owned(),
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            queues: 1,
            up: true,
            kernel_interface: true,
            virtual_macs: Vec::new(),
            addresses: Vec::new(),
        };
        let on_link = Route::Via(vec![NextHop {
            port: PortId(0),
            gateway: None,
            weight: 1,
        }]);
        let neighbours = [11, 12].map(|host| {
            let address = IpAddr::from([10, 0, 1, host]);
            let at = MacAddress([2, 0, 0, 0, mac, host]);
            let port = PortId(0);
            (Neighbour { port, address }, NeighbourState::Reachable(at))
        });
        let routes = vec![("10.0.1.0/24".parse().unwrap(), on_link)];
        Forwarding::new(vec![port], [], routes, neighbours)
    }

    #[test]
    fn a_number_that_is_another_servers_leads_to_that_server_once_the_old_way_is_forgotten() {
        let mut ways = Ways::new();
        let (now, later) = (forwarding(1), forwarding(2));
        let mac = |ways: &mut Ways, forwarding, host: u8| {
            let way = ways.towards(forwarding, RealId(7), IpAddr::from([10, 0, 1, host]), 0);
            way.unwrap().destination.octets()[4..].to_vec()
        };
        assert_eq!(mac(&mut ways, &now, 11), [1, 11]);
        // Kept: nobody looks again.
        assert_eq!(mac(&mut ways, &later, 12), [1, 11]);
        ways.forget();
        assert_eq!(mac(&mut ways, &later, 12), [2, 12]);
    }

    #[test]
    fn servers_that_share_a_line_do_not_share_a_way() {
        let mut ways = Ways::new();
        let forwarding = forwarding(1);
        for round in 0..3 {
            for (real, host) in [(3, 11), (3 + WAYS as u32, 12)] {
                let address = IpAddr::from([10, 0, 1, host]);
                let way = ways.towards(&forwarding, RealId(real), address, round);
                assert_eq!(way.unwrap().destination.octets()[5], host);
            }
        }
    }
}
