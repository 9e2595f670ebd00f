//! ICMP errors about connections (spec 2.6): from the client's side about replies, to the server;
//! from the server's side about requests, to the client as if the VIP had sent it.
//!
//! An error names its flow only in the packet it quotes. Reversed, the quoted tuple is that of a
//! packet which travels as the error does, so one look-up finds the connection and the direction.
//! An error is believed if its checksum is right and it is addressed to whoever sent the quoted
//! packet. It does not refresh a connection, but its server's counters count it, as the kernel's do.
//! What matches nothing goes on as any other packet.
//!
//! With `schedule_icmp` an error from the client's side about a flow that has no connection makes one
//! ([`Context::schedule_related`]): several boxes with one VIP behind ECMP get a router's "fragmentation
//! needed" anywhere, and what chooses by the client alone chooses the same server on each.
//!
//! Errors about our own tunnel packets quote no balanced packet of a client; they are addressed to
//! us and reach [`Context::not_balanced`] from here.

use super::flow::Flow;
use super::search::Next;
use super::{Context, Pass, Spare, account};
use crate::address::{Address, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Binding, Connection, Direction, Slot, Table};
use crate::counters::Event;
use crate::ftp::DATA_PORT;
use crate::packet::Headers;
use crate::packet::quoted::{self, Quoted};
use crate::service::{Forward, VirtualService};
use crate::steering::{self, Errand};
use crate::verdict::{DropReason, Verdict};

impl Context<'_> {
    /// An ICMP error; `None` if it is about no connection.
    #[cold]
    pub(super) fn related<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let frame = packet.data();
        let quoted = Quoted::<A>::read(frame, headers)?;
        // As a packet that travels with the error.
        let tuple = quoted.tuple.reversed();
        let mut flow = Flow::find(table, tuple);
        let found = flow.found.filter(|(slot, _)| {
            let connection = table.get(*slot);
            !self.is_over(connection) && self.services.real(connection.binding().real).is_some()
        });
        let whereabouts = match found {
            Some(_) => None,
            // Foreign to every service and server: nobody's but the kernel's.
            None => Some(self.whereabouts(&tuple)?),
        };
        if headers.destination::<A>(frame) != Some(quoted.tuple.source.address) {
            self.count(Event::IcmpUnrelated);
            return None;
        }
        let again = matches!(self.pass, Pass::Retry(_));
        if !again && !quoted::checksum_is_good(frame, headers) {
            return Some(Verdict::Drop(DropReason::TransportChecksum));
        }
        if let Some((slot, direction)) = found {
            return Some(self.belongs(table, slot, direction, packet, headers, &quoted, spare));
        }
        let service = whereabouts.and_then(|whereabouts| whereabouts.service);
        let service = service.filter(|_| self.services.ipvs.schedule_icmp);
        if self.state.workers > 1
            && !again
            && let Some(whereabouts) = whereabouts
        {
            let errand = self.errand_of(packet);
            match self.next(&whereabouts, errand) {
                Next::Ask(verdict) => return Some(verdict),
                // On a round the owner was among the first to be asked; but it may make a connection.
                Next::Owner(owner)
                    if service.is_some() || !matches!(errand, Errand::Search { .. }) =>
                {
                    return Some(self.hand_over(owner, Errand::Own));
                }
                Next::Owner(_) | Next::Here => {}
            }
        }
        if let Some(service) = service
            && tuple.source.port != DATA_PORT
        {
            if let Some((slot, _)) = flow.found.take() {
                self.end(table, slot);
            }
            return Some(
                self.schedule_related(table, service, packet, headers, &flow, &quoted, spare),
            );
        }
        self.count(Event::IcmpUnrelated);
        None
    }

    /// Makes the connection of a client's flow, for an error about one of its replies. As in the kernel
    /// no packet of the flow was seen: it is inactive, and ends after three seconds unless one comes.
    #[expect(clippy::too_many_arguments, reason = "all of them are the packet's")]
    fn schedule_related<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        quoted: &Quoted<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let tuple = &flow.tuple;
        let (client, vip) = (
            tuple.source.address.into(),
            tuple.destination.address.into(),
        );
        if self.forwarding.is_local(client) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if self.state.defence.drops_packet(A::FAMILY) {
            return Verdict::Drop(DropReason::DropPacket);
        }
        let made = if service.one_packet && tuple.protocol == Protocol::Udp {
            self.schedule_once(service, packet.data(), headers, tuple)
        } else {
            let made = self.schedule(table, service, packet.data(), headers, flow, None);
            made.map(|slot| {
                self.count(Event::ConnectionsCreated);
                let (worker, workers) = (self.state.worker, self.state.workers);
                if workers > 1 {
                    // It is where it is computed to be, which is not where devices deliver the rest.
                    if !service.ever_translated {
                        let timeouts = &self.services.timeouts;
                        service.shared.deal(tuple.protocol, self.now, timeouts);
                    }
                    let owned = || steering::owner(tuple.source, workers) == worker;
                    service.shared.made(owned);
                }
                self.attach(table, slot);
                *table.get(slot)
            })
        };
        // No room: the error goes where the flow's own packets go.
        let made = match made {
            Err(DropReason::TableFull) => self
                .stand_in(service, headers, tuple)
                .ok_or(DropReason::TableFull),
            made => made,
        };
        match made {
            Ok(connection) => {
                if !matches!(self.pass, Pass::Retry(_)) {
                    self.count(Event::IcmpScheduled);
                }
                let direction = Direction::Input;
                self.pass_on(&connection, direction, packet, headers, quoted, spare)
            }
            Err(DropReason::NoServer) => {
                if let Some(verdict) = self.bypass(service, packet, headers, vip, spare) {
                    return verdict;
                }
                // An error is never answered by another.
                service.shared.unserved(self.state.worker).add(1);
                Verdict::Drop(DropReason::NoServer)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// An error about the connection in `slot`.
    #[expect(clippy::too_many_arguments, reason = "all of them are the packet's")]
    fn belongs<A: Address, P: PacketBuffer>(
        &mut self,
        table: &Table<A>,
        slot: Slot,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
        quoted: &Quoted<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let connection = table.get(slot);
        self.account_related(connection.binding(), direction, headers);
        self.pass_on(connection, direction, packet, headers, quoted, spare)
    }

    /// Counts an error about a connection, once.
    pub(super) fn account_related<A: Address>(
        &mut self,
        binding: &Binding<A>,
        direction: Direction,
        headers: &Headers,
    ) {
        if matches!(self.pass, Pass::Retry(_)) {
            return;
        }
        self.count(Event::IcmpRelated);
        if let Some(real) = self.services.real(binding.real) {
            let cell = real.shared.cell(self.state.worker);
            account(cell, direction, headers.ip_length() as u64);
        }
    }

    /// Sends an error on, by the method of its connection.
    fn pass_on<A: Address, P: PacketBuffer>(
        &mut self,
        connection: &Connection<A>,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
        quoted: &Quoted<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let binding = connection.binding();
        match binding.forward {
            Forward::Nat => {
                self.translate_error(binding, direction, packet, headers, quoted, spare)
            }
            // To the server as it is, by the method of the connection.
            Forward::Dr | Forward::Tunnel(_) | Forward::Local | Forward::FullNat => {
                self.forward(connection, direction, packet, headers, spare)
            }
        }
    }

    fn translate_error<A: Address, P: PacketBuffer>(
        &mut self,
        binding: &Binding<A>,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
        quoted: &Quoted<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let (exit, to) = match direction {
            // A server on this very box.
            Direction::Input if self.forwarding.is_local(binding.destination.address.into()) => {
                let (frame, to) = (packet.data_mut(), binding.destination);
                return match quoted::translate(frame, headers, quoted, direction, to) {
                    Ok(()) => self.to_stack(packet, headers),
                    Err(reason) => Verdict::Drop(reason),
                };
            }
            Direction::Input => (
                self.exit_to_server(packet, headers, binding),
                binding.destination,
            ),
            Direction::Output => (
                self.exit(packet, headers, binding.client.address.into(), None),
                binding.vip,
            ),
        };
        let exit = match exit {
            Ok(exit) => exit,
            Err(verdict) => return verdict,
        };
        if let Err(reason) = quoted::translate(packet.data_mut(), headers, quoted, direction, to) {
            return Verdict::Drop(reason);
        }
        self.send(packet, headers, &exit, spare)
    }
}
