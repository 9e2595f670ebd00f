//! For which virtual routers this box forwards, and which of them wait for the workers to know.
//!
//! Becoming Active goes in this order (DESIGN §6): the claim is published with the forwarding
//! table; when every worker has passed its epoch the router hears so, and only then puts its
//! addresses and announces them. Leaving ends the claim last.

use crate::tables::{self, Ticket};
use dataplane::forwarding::VirtualAddresses;
use dataplane::packet::MacAddress;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;
use vrrp::{CLAIM_BOUND, Name, VirtualInterface};

/// The claims of all routers.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: BTreeMap<Name, Held>,
    waiting: Vec<Waiting>,
}

/// What this box forwards for one router.
#[derive(Debug)]
struct Held {
    addresses: Vec<IpAddr>,
    /// The virtual MAC with its interface. It is the claim's, not the configuration's: neighbours go
    /// on using it until the claim ends.
    mac: Option<(String, MacAddress)>,
}

#[derive(Debug)]
struct Waiting {
    router: Name,
    ticket: Ticket,
    since: Instant,
}

impl Claims {
    /// Forwards for a router from now on.
    pub(super) fn hold(
        &mut self,
        router: Name,
        addresses: Vec<IpAddr>,
        own: Option<&VirtualInterface>,
    ) {
        let mac = own.map(|own| (own.on.to_string(), MacAddress(own.mac)));
        self.held.insert(router, Held { addresses, mac });
    }

    /// Its router hears of it when the workers have taken the table of `ticket`.
    pub(super) fn wait(&mut self, router: Name, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.router != router);
        self.waiting.push(Waiting {
            router,
            ticket,
            since: Instant::now(),
        });
    }

    /// Does not forward for a router any more.
    pub(super) fn release(&mut self, router: &Name) {
        self.held.remove(router);
        self.waiting.retain(|waiting| waiting.router != *router);
    }

    /// True if some router waits.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The routers whose waiting is over.
    pub(super) fn granted(&mut self, tables: &tables::Handle) -> Vec<Name> {
        let mut granted = Vec::new();
        self.waiting.retain(|waiting| {
            let taken = tables.is_taken(waiting.ticket);
            // The router has put its addresses without us by now.
            let late = waiting.since.elapsed() >= CLAIM_BOUND;
            if late && !taken {
                log::warn!(
                    "({}) not every worker has taken the new table within {} ms; the addresses went up all the same",
                    waiting.router,
                    CLAIM_BOUND.as_millis()
                );
            }
            if taken || late {
                granted.push(waiting.router.clone());
            }
            !(taken || late)
        });
        granted
    }

    /// For the workers.
    pub(super) fn virtual_addresses(
        &self,
        configured: impl IntoIterator<Item = IpAddr>,
    ) -> VirtualAddresses {
        let held = self.held.values().flat_map(|held| &held.addresses);
        VirtualAddresses::new(configured, held.copied())
    }

    /// The virtual MACs in use, each with its interface.
    pub(super) fn macs(&self) -> Vec<(String, MacAddress)> {
        let held = self.held.values();
        held.filter_map(|held| held.mac.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Desired, Publisher};
    use dataplane::forwarding::Forwarding;

    #[test]
    fn a_router_hears_of_its_claim_when_every_worker_has_the_table() {
        let start = Publisher::start(2, Desired::default(), Forwarding::default());
        let (handle, mut readers) = (start.handle, start.readers);
        let mut publisher = start.publisher;
        let thread = std::thread::spawn(move || publisher.run());
        let (a, b): (Name, Name) = ("a".into(), "b".into());
        let vip = IpAddr::from([10, 0, 0, 50]);
        let mut claims = Claims::default();
        claims.hold(a.clone(), vec![vip], None);
        let mut changes = handle.changes();
        let virtual_addresses = claims.virtual_addresses([]);
        assert!(virtual_addresses.is_claimed(vip));
        let ticket = handle.publish_forwarding(move || {
            Forwarding::default().with_virtual_addresses(virtual_addresses.into())
        });
        claims.wait(a.clone(), ticket);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(changes.changed()).unwrap();
        readers[0].1.refresh();
        assert_eq!(claims.granted(&handle), Vec::<Name>::new(), "one is late");
        readers[1].1.refresh();
        assert_eq!(claims.granted(&handle), std::slice::from_ref(&a));
        assert!(!claims.is_waiting());

        claims.hold(b.clone(), vec![vip], None);
        claims.wait(b.clone(), ticket);
        claims.release(&b);
        assert!(!claims.is_waiting(), "nobody waits for what was let go");
        claims.release(&a);
        assert!(!claims.virtual_addresses([vip]).is_claimed(vip));
        handle.stop();
        thread.join().unwrap();
    }

    #[test]
    fn a_virtual_mac_is_in_use_until_its_claim_ends_whatever_is_configured() {
        let mac = [0, 0, 0x5e, 0, 1, 51];
        let own = VirtualInterface {
            name: "vrrp.51".into(),
            on: "lan".into(),
            mac,
            family: vrrp::Family::V4,
        };
        let mut claims = Claims::default();
        assert_eq!(claims.macs(), []);
        claims.hold("a".into(), vec![], Some(&own));
        claims.hold("b".into(), vec![], None);
        assert_eq!(claims.macs(), [("lan".to_owned(), MacAddress(mac))]);
        claims.release(&"a".into());
        assert_eq!(claims.macs(), []);
    }
}
