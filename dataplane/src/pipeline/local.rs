//! Real servers on this very box (spec 2.3, "local node"): the Linux stack is one of the servers.
//!
//! Whatever method is configured, packets to such a server go to the stack through the TAP. With
//! direct routing or a tunnel they stay as they are, for the stack has the VIP; NAT puts the server's
//! address and port in, but takes no hop off. What the stack answers then comes out of the inject
//! ring, with the server's address as its source: it is looked up as any reply is, by the worker that
//! owns the connection, and leaves as the VIP's by the way Linux chose. So do the fragments of a large
//! answer: Linux sends the first one first, and the others follow what was decided on it, over the same
//! rings. So does an ICMP error about a client's packet (spec 2.6). All else the stack sends passes
//! untouched, but for a fragment of which nobody can tell whose it is: it is dropped, for it may be
//! part of an answer.

use super::flow::{Flow, Known};
use super::fragments::{Forwarded, Fragments, Way};
use super::{Context, Pass, account};
use crate::address::{Address, Endpoint, Family, FiveTuple};
use crate::buffer::PacketBuffer;
use crate::connection::{Binding, Direction, Table};
use crate::counters::Event;
use crate::packet::quoted::{self, Quoted};
use crate::packet::{Fragment, Headers, Offloads, Parsed, parse, piece, rewrite};
use crate::steering::{self, Errand};
use crate::verdict::{DropReason, PortId, Verdict, WorkerId};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Set in a packet's port index by the worker that takes it out of the inject ring: the Linux stack
/// sends it on that port. A packet so marked is never taken for one from the wire, also when another
/// worker owns its connection.
pub const FROM_STACK: u16 = 1 << 8;

impl Context<'_> {
    /// Gives a client's packet to the server on this box: NAT.
    #[cold]
    pub(super) fn deliver_here<A: Address, P: PacketBuffer>(
        &self,
        packet: &mut P,
        headers: &Headers,
        server: Endpoint<A>,
    ) -> Verdict {
        // What Linux gets has a right class whatever its ports were before.
        match rewrite::translate_destination(packet.data_mut(), headers, server) {
            Ok(()) => self.to_stack(packet, headers),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// A frame of the Linux stack, ready to be sent.
    pub(super) fn sent_by_stack<P: PacketBuffer>(
        &mut self,
        (v4, fragments_v4): (&mut Table<Ipv4Addr>, &mut Fragments<Ipv4Addr>),
        (v6, fragments_v6): (&mut Table<Ipv6Addr>, &mut Fragments<Ipv6Addr>),
        packet: &mut P,
    ) -> Verdict {
        let port = PortId(packet.port() as u8);
        let offloads = Offloads {
            vlan: packet.vlan(),
            ipv4_checksum_good: false,
        };
        // Linux may send what we would not accept.
        let Ok(Parsed::Ip(headers)) = parse(packet.data(), offloads) else {
            return Verdict::Tx(port);
        };
        let frame = packet.data();
        if quoted::is_related(frame, &headers) {
            return match headers.family {
                Family::V4 => self.error_from_stack(v4, packet, &headers, port),
                Family::V6 => self.error_from_stack(v6, packet, &headers, port),
            };
        }
        if headers.fragment != Fragment::Whole {
            return match headers.family {
                Family::V4 => self.fragment_from_stack(v4, fragments_v4, packet, &headers, port),
                Family::V6 => self.fragment_from_stack(v6, fragments_v6, packet, &headers, port),
            };
        }
        if let Some(tuple) = headers.five_tuple::<Ipv4Addr>(frame) {
            let flow = Flow::find(v4, tuple);
            self.reply_from_stack(v4, packet, &headers, &flow, port)
        } else if let Some(tuple) = headers.five_tuple::<Ipv6Addr>(frame) {
            let flow = Flow::find(v6, tuple);
            self.reply_from_stack(v6, packet, &headers, &flow, port)
        } else {
            Verdict::Tx(port)
        }
    }

    /// A fragment that the stack sends. All of a datagram come this way, the first one first.
    fn fragment_from_stack<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        fragments: &mut Fragments<A>,
        packet: &mut P,
        headers: &Headers,
        port: PortId,
    ) -> Verdict {
        let Some((datagram, piece)) = piece::read::<A>(packet.data(), headers) else {
            return Verdict::Tx(port);
        };
        if !piece.may_have_ports() || !self.services.may_answer(datagram.source.into()) {
            return Verdict::Tx(port);
        }
        if headers.fragment == Fragment::First {
            self.state.forwarded = Forwarded::default();
            let verdict = match headers.five_tuple::<A>(packet.data()) {
                Some(tuple) => {
                    let flow = Flow::find(table, tuple);
                    self.reply_from_stack(table, packet, headers, &flow, port)
                }
                None => Verdict::Tx(port),
            };
            let way = match (verdict, self.state.forwarded.take::<A>()) {
                (Verdict::Drop(reason), _) => Way::Dropped(reason),
                (Verdict::Redirect(worker), _) => Way::Handed(worker, Errand::Own),
                (_, Some((binding, direction))) => Way::Bound {
                    binding,
                    direction,
                    source_port: headers.source_port,
                    destination_port: headers.destination_port,
                },
                (_, None) => Way::NotOurs,
            };
            fragments.pass_from_stack(datagram, way, self.now);
            return verdict;
        }
        match fragments.way_from_stack(&datagram) {
            Some(Way::Bound { binding, .. }) => {
                let Some(real) = self.services.real(binding.real) else {
                    return Verdict::Drop(DropReason::ServerGone);
                };
                self.count(Event::ConnectionHits);
                let cell = real.shared.cell(self.state.worker);
                account(cell, Direction::Output, headers.ip_length() as u64);
                self.send_as(packet, headers, &binding, port)
            }
            Some(Way::Handed(worker, errand)) => self.hand_over(worker, errand),
            Some(Way::Stack | Way::NotOurs) => Verdict::Tx(port),
            Some(Way::Dropped(reason)) => Verdict::Drop(reason),
            None => Verdict::Drop(DropReason::Fragment),
        }
    }

    /// The worker that has the connection which the stack's packet of this tuple, or of the reversed
    /// tuple that its error quotes, is of, if it is another one.
    fn worker_of_stack<A: Address>(&self, tuple: &FiveTuple<A>) -> Option<WorkerId> {
        let FiveTuple {
            protocol,
            source,
            destination,
        } = *tuple;
        let address = source.address.into();
        if self.state.workers == 1 || self.pass != Pass::First || !self.forwarding.is_local(address)
        {
            return None;
        }
        let of_a_server = || {
            let services = self.services;
            let known = services.is_real(protocol, address, source.port);
            known.then_some(destination)
        };
        let client = self.data_client(tuple).or_else(of_a_server)?;
        let owner = steering::owner(client, self.state.workers);
        (owner != self.state.worker).then_some(owner)
    }

    /// What the stack says of a client's packet, which it got with the server's address.
    fn error_from_stack<A: Address, P: PacketBuffer>(
        &mut self,
        table: &Table<A>,
        packet: &mut P,
        headers: &Headers,
        port: PortId,
    ) -> Verdict {
        let frame = packet.data();
        let Some(quoted) = Quoted::<A>::read(frame, headers) else {
            return Verdict::Tx(port);
        };
        let tuple = quoted.tuple.reversed();
        let Some((slot, Direction::Output)) = table.lookup(&tuple) else {
            let elsewhere = self.worker_of_stack(&tuple);
            return elsewhere.map_or(Verdict::Tx(port), Verdict::Redirect);
        };
        let connection = table.get(slot);
        let binding = connection.binding();
        if connection.is_expired(self.now)
            || self.services.real(binding.real).is_none()
            || headers.destination::<A>(frame) != Some(quoted.tuple.source.address)
            || !quoted::checksum_is_good(frame, headers)
        {
            return Verdict::Tx(port);
        }
        let direction = Direction::Output;
        self.account_related(binding, direction, headers);
        let frame = packet.data_mut();
        match quoted::translate(frame, headers, &quoted, direction, binding.vip) {
            Ok(()) => Verdict::Tx(port),
            Err(reason) => Verdict::Drop(reason),
        }
    }

    fn reply_from_stack<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        port: PortId,
    ) -> Verdict {
        let slot = match flow.found {
            Some((slot, Direction::Output)) => slot,
            Some((_, Direction::Input)) => return Verdict::Tx(port),
            None => {
                if let Some(worker) = self.worker_of_stack(&flow.tuple) {
                    return Verdict::Redirect(worker);
                }
                return match self.claim_data(table, headers, &flow.tuple) {
                    Some(Ok((slot, Direction::Output))) => {
                        self.send_as(packet, headers, table.get(slot).binding(), port)
                    }
                    Some(Ok((_, Direction::Input))) | None => Verdict::Tx(port),
                    Some(Err(reason)) => Verdict::Drop(reason),
                };
            }
        };
        match self.known(table, slot, Direction::Output, packet.data(), headers) {
            Known::Forward => {
                let connection = table.get(slot);
                let binding = connection.binding();
                if !connection.is_helped() {
                    return self.send_as(packet, headers, binding, port);
                }
                match self.help(connection, Direction::Output, packet, headers) {
                    Ok(headers) => self.send_as(packet, &headers, binding, port),
                    Err(reason) => Verdict::Drop(reason),
                }
            }
            Known::Over | Known::Reset => {
                self.end(table, slot);
                Verdict::Tx(port)
            }
            Known::Decided(verdict) => verdict,
        }
    }

    /// The stack's packet leaves as the VIP's, by the way that Linux chose.
    fn send_as<A: Address, P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        binding: &Binding<A>,
        port: PortId,
    ) -> Verdict {
        if headers.fragment == Fragment::First {
            self.state.forwarded.set(binding, Direction::Output);
        }
        match rewrite::translate_source(packet.data_mut(), headers, binding.vip) {
            Ok(()) => Verdict::Tx(port),
            Err(reason) => Verdict::Drop(reason),
        }
    }
}
