//! Looking for the worker that has a connection, when this one has not (DESIGN §5, rules 2, 3, 6).
//!
//! Whole packets need no search: a miss goes to the computed owner, or stays. But an ICMP error or
//! a first fragment may reach a worker that its connection never sees, and connections of DR and
//! tunnel services live where their first packet arrived. For such a packet the computed owner is
//! asked first; then, if a connection of the service was ever made elsewhere, every other worker
//! once. Searches are limited and counted.

use super::Context;
use crate::address::{Address, FiveTuple};
use crate::counters::Event;
use crate::service::VirtualService;
use crate::steering::{self, Errand, stop_of_round};
use crate::verdict::{DropReason, Verdict, WorkerId};

/// Where a connection that is not here may be.
#[derive(Clone, Copy)]
pub(super) struct Whereabouts<'a> {
    /// Who makes it if nobody has it.
    pub(super) owner: WorkerId,
    /// It may also be with any other worker.
    strays: bool,
    /// The service, if the tuple is a client's.
    pub(super) service: Option<&'a VirtualService>,
}

/// What to do with a packet whose connection is not here.
pub(super) enum Next {
    /// Nobody has it; if anybody makes it, this worker.
    Here,
    /// Another worker is to be asked.
    Ask(Verdict),
    /// Nobody has it, and it is another worker's to make.
    Owner(WorkerId),
}

impl<'a> Context<'a> {
    /// Where a connection of this tuple may be; `None`: it belongs to no service and no server.
    pub(super) fn whereabouts<A: Address>(&self, tuple: &FiveTuple<A>) -> Option<Whereabouts<'a>> {
        if let Some(client) = self.data_client(tuple) {
            return Some(Whereabouts {
                owner: steering::owner(client, self.state.workers),
                strays: false,
                service: None,
            });
        }
        let (source, destination) = (tuple.source, tuple.destination);
        let services = self.services;
        let (client, vip) = (source.address.into(), destination.address.into());
        if let Some(service) = services.find(tuple.protocol, client, vip, destination.port)
            && self.is_served(service, vip)
        {
            return Some(Whereabouts {
                owner: steering::owner(source, self.state.workers),
                strays: service.shared.has_strays(),
                service: Some(service),
            });
        }
        services
            .is_real(tuple.protocol, source.address.into(), source.port)
            .then(|| Whereabouts {
                owner: steering::owner(destination, self.state.workers),
                strays: false,
                service: None,
            })
    }

    /// The next worker to ask after this one. `errand` is what the packet came with; the round begins
    /// here if it is not on one.
    pub(super) fn next(&mut self, whereabouts: &Whereabouts<'_>, errand: Errand) -> Next {
        let Whereabouts { owner, strays, .. } = *whereabouts;
        let me = self.state.worker;
        let (start, stop) = match errand {
            Errand::Search { start, stop } => (start, stop),
            // Whoever sent it had reasons to send it here and nowhere else.
            Errand::Own if self.is_redirected() => return Next::Here,
            Errand::Own | Errand::Gather | Errand::Chosen(_) => (me, 0),
        };
        let asked = stop.saturating_add(1);
        let next = strays
            .then(|| stop_of_round(start, owner, self.state.workers, asked))
            .flatten();
        match next {
            Some(worker) => {
                if !self.state.searches.take(self.now) {
                    return Next::Ask(Verdict::Drop(DropReason::SearchLimited));
                }
                self.count(Event::OwnerSearches);
                let errand = Errand::Search { start, stop: asked };
                Next::Ask(self.hand_over(worker, errand))
            }
            None if owner == me => Next::Here,
            None => Next::Owner(owner),
        }
    }

    /// The verdict that takes the packet to another worker with this errand.
    pub(super) fn hand_over(&mut self, worker: WorkerId, errand: Errand) -> Verdict {
        self.state.errand = errand;
        Verdict::Redirect(worker)
    }
}
