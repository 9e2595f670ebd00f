//! `cache_bypass` (spec 3.6): what a mark brings to a service without a server goes where its sender
//! sent it, as long as that is somebody else's address.
//!
//! This is for transparent caches: a mark catches the clients' traffic to the world, and while no cache is
//! left the world itself answers. The kernel makes a connection entry for it; here nothing is
//! remembered: only SYN and INIT are ever scheduled, so a flow that has begun around the caches stays
//! there, while one of UDP comes back to them with its next datagram.

use super::{Context, Spare};
use crate::buffer::PacketBuffer;
use crate::counters::Event;
use crate::packet::Headers;
use crate::service::{ServiceKey, VirtualService};
use crate::verdict::Verdict;
use std::net::IpAddr;

impl Context<'_> {
    /// Forwards a packet to `destination` that `service` has no server for; `None` if it is not to be
    /// forwarded.
    #[cold]
    pub(super) fn bypass<P: PacketBuffer>(
        &mut self,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
        destination: IpAddr,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let marked = matches!(service.key, ServiceKey::Mark { .. });
        if !self.services.ipvs.cache_bypass || !marked || self.forwarding.is_local(destination) {
            return None;
        }
        self.count(Event::Bypassed);
        Some(self.transit(packet, headers, destination, spare))
    }
}
