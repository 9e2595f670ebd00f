//! Forwarding without an entry, when the table has no room (DESIGN §4).
//!
//! `dh`, `sh` and `mh` choose by the packet and the list of servers alone, so every packet of a flow is
//! sent to the server that its entry would name, and where replies pass us by nothing else would ask
//! for the entry. Such a flow need not fail because the table is full. All others do: what is chosen by
//! turn or by load, or has a template, would be chosen anew for the next packet, and replies that come
//! back through us have to find whose they are.
//!
//! The packets after the first are no SYNs, and which packets are of such flows nobody knows. So for as long
//! as a connection may be silent after the last packet that found no room, all that may be are taken, as with
//! `sloppy_tcp`: while there is no room they are forwarded, too, and as soon as there is some, the flow gets its
//! entry by whatever packet comes next; by the usual rules it would be reset. They never evict: whoever sends
//! strays must not cost others their connections. A reset goes to the server and makes no entry.
//!
//! Nothing is remembered, so the server's connection counts stay as they are; its packets and bytes are
//! counted.

use super::flow::Target;
use super::{Context, Pass, Spare, account};
use crate::address::{Address, Family, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Connection, Direction};
use crate::counters::Event;
use crate::packet::Headers;
use crate::scheduler::SchedulerKind;
use crate::service::{Forward, VirtualService};
use crate::verdict::Verdict;

impl Context<'_> {
    /// Forwards a client's packet that finds no room in the table; `None` if it needs an entry.
    #[cold]
    #[inline(never)]
    pub(super) fn without_entry<A: Address, P: PacketBuffer>(
        &mut self,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let connection = self.stand_in(service, headers, tuple)?;
        let verdict = self.forward(&connection, Direction::Input, packet, headers, spare);
        self.remember_choice(verdict, connection.binding().real);
        Some(verdict)
    }

    /// A packet that was forwarded without an entry and had to wait goes where it was to go, whether there
    /// is room by now or not: it is counted already, and may be no SYN. `None` if it is none, or its server
    /// is gone.
    #[cold]
    #[inline(never)]
    pub(super) fn without_entry_again<A: Address, P: PacketBuffer>(
        &mut self,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let real = self.chosen(packet)?;
        let target = self.chosen_before(service, real, tuple)?;
        if !needs_no_entry(service, target.forward) {
            return None;
        }
        let connection = Connection::new(target.binding(tuple).ok()?, self.now);
        let verdict = self.forward(&connection, Direction::Input, packet, headers, spare);
        self.remember_choice(verdict, real);
        Some(verdict)
    }

    /// Packets of this flow have to be expected that find no entry, for as long as a connection may be silent.
    pub(super) fn expect_more_without_entry<A: Address>(&mut self, tuple: &FiveTuple<A>) {
        // Any datagram may be the first.
        if tuple.protocol != Protocol::Udp {
            let until = self.now + self.services.timeouts.longest(tuple.protocol);
            let expected = &mut self.state.without_entry_until[A::FAMILY as usize];
            *expected = (*expected).max(until);
        }
    }

    /// True if a packet of no connection may be of a flow that found no room when it began.
    pub(super) fn may_have_begun_without_entry(&self, family: Family) -> bool {
        self.now < self.state.without_entry_until[family as usize]
    }

    /// True if such a flow can be given an entry, as far as service and server are concerned: what needs one
    /// did not begin without.
    #[cold]
    #[inline(never)]
    pub(super) fn can_have_entry<A: Address>(
        &self,
        service: &VirtualService,
        tuple: &FiveTuple<A>,
    ) -> bool {
        if !chooses_alike(service) {
            return false;
        }
        let server = self.pick(service, tuple, &[]);
        server.is_some_and(|server| needs_no_entry(service, server.forward))
    }

    /// The connection a packet of `tuple` would be of, which is in no table, with the packet accounted for;
    /// `None` if nobody takes it or the flow needs an entry.
    pub(super) fn stand_in<A: Address>(
        &mut self,
        service: &VirtualService,
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Option<Connection<A>> {
        if !chooses_alike(service) {
            return None;
        }
        let server = self.pick(service, tuple, &[])?;
        if !needs_no_entry(service, server.forward) {
            return None;
        }
        let target = Target {
            service: service.id,
            real: server.id,
            address: server.address,
            port: server.port,
            forward: server.forward,
            shared: &server.shared,
            thresholds: (0, 0),
            control: None,
        };
        let connection = Connection::new(target.binding(tuple).ok()?, self.now);
        // One that waited for its server's MAC address was counted before.
        if !matches!(self.pass, Pass::Retry(_)) {
            self.count(Event::ForwardedStateless);
            let cell = server.shared.cell(self.state.worker);
            account(cell, Direction::Input, headers.ip_length() as u64);
        }
        Some(connection)
    }
}

/// True if every packet of a flow gets the same server, as long as the servers are the same.
fn chooses_alike(service: &VirtualService) -> bool {
    matches!(
        service.scheduler,
        SchedulerKind::Dh | SchedulerKind::Sh | SchedulerKind::Mh
    ) && service.persistence.is_none()
}

/// True if flows of the service can do without an entry where their server is reached by `forward`.
fn needs_no_entry(service: &VirtualService, forward: Forward) -> bool {
    chooses_alike(service) && matches!(forward, Forward::Dr | Forward::Tunnel(_))
}
