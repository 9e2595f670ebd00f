//! One-packet scheduling (spec 2.7): every datagram is scheduled for itself and leaves no entry.
//!
//! Replies are not translated, because nothing remembers whose they are; only messages of servers
//! whose service has a persistence engine are: they tell by themselves what they belong to, also
//! those a server begins.

use super::flow::{Flow, Target};
use super::persist::{call_id, target};
use super::{Context, Pass, Spare};
use crate::address::{Address, Endpoint, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{Connection, Direction, InsertError, Signal, Table};
use crate::counters::Event;
use crate::packet::{Fragment, Headers};
use crate::service::{Forward, RealId, ServiceKey, VirtualService};
use crate::steering::Errand;
use crate::template::{Server, TemplateKey, Terms};
use crate::verdict::{DropReason, Verdict};

impl Context<'_> {
    /// A datagram of a client.
    pub(super) fn one_packet<A: Address, P: PacketBuffer>(
        &mut self,
        service: &VirtualService,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let tuple = &flow.tuple;
        let before = self.chosen(packet);
        let before = before.and_then(|real| self.chosen_before(service, real, tuple));
        let made = match before {
            Some(target) => target
                .binding(tuple)
                .map(|binding| Connection::new(binding, self.now)),
            None => self.schedule_once(service, packet.data(), headers, tuple),
        };
        match made {
            Ok(connection) => {
                let verdict = self.forward(&connection, Direction::Input, packet, headers, spare);
                self.remember_choice(verdict, connection.binding().real);
                verdict
            }
            Err(DropReason::NoServer) => {
                service.shared.unserved(self.state.worker).add(1);
                self.no_server(service, packet, headers)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Chooses a server for one packet of `tuple` and accounts for the packet; the connection is in no
    /// table.
    pub(super) fn schedule_once<A: Address>(
        &mut self,
        service: &VirtualService,
        frame: &[u8],
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Result<Connection<A>, DropReason> {
        let target = match service.persistence {
            Some(persistence) => {
                let call = call_id(persistence, frame, headers);
                let choice = self.persistent_server(service, persistence, tuple, call, false)?;
                target(self.services, service, &choice.server, tuple, None)
            }
            None => self.pick(service, tuple, &[]).map(|server| Target {
                service: service.id,
                real: server.id,
                address: server.address,
                port: server.port,
                forward: server.forward,
                shared: &server.shared,
                thresholds: (0, 0),
                control: None,
            }),
        };
        let target = target.ok_or(DropReason::NoServer)?;
        let connection = Connection::new(target.binding(tuple)?, self.now);
        // One that waited for its server's MAC address was counted before.
        if !matches!(self.pass, Pass::Retry(_)) {
            self.count(Event::OnePacketScheduled);
            let cell = target.shared.cell(self.state.worker);
            cell.connections.add(1);
            cell.in_packets.add(1);
            cell.in_bytes.add(headers.ip_length() as u64);
        }
        Ok(connection)
    }

    /// A datagram without a connection that has to wait tells itself who it was for.
    pub(super) fn remember_choice(&mut self, verdict: Verdict, real: RealId) {
        if let Verdict::Wait(_) = verdict {
            self.state.errand = Errand::Chosen(real);
        }
    }

    /// The server of a datagram without a connection that had to wait.
    pub(super) fn chosen<P: PacketBuffer>(&self, packet: &P) -> Option<RealId> {
        match (self.pass, packet.errand()) {
            (Pass::Retry(_), Errand::Chosen(real)) => Some(real),
            _ => None,
        }
    }

    /// The server that was chosen for a datagram before it had to wait; `None` if it is forgotten.
    pub(super) fn chosen_before<A: Address>(
        &self,
        service: &VirtualService,
        real: RealId,
        tuple: &FiveTuple<A>,
    ) -> Option<Target<'_>> {
        let record = self.services.real(real);
        let record = record.filter(|record| record.service == service.id)?;
        let server = Server::of(real, record);
        let target = target(self.services, service, &server, tuple, None)?;
        Some(match service.persistence {
            Some(_) => target,
            None => Target {
                port: record.port,
                ..target
            },
        })
    }

    /// A packet that no connection and no service claims, if it is a message of a server whose
    /// service has a persistence engine: it gets the VIP's address, and its call the server.
    pub(super) fn spoken<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let services = self.services;
        let tuple = &flow.tuple;
        let speaker = tuple.source;
        let real = services.speaker(tuple.protocol, speaker.address.into(), speaker.port)?;
        let record = services.real(real)?;
        let service = services.service(record.service)?;
        let persistence = service.persistence?;
        let ServiceKey::Address { address, port, .. } = service.key else {
            return None;
        };
        if record.forward != Forward::Nat
            || tuple.protocol != Protocol::Udp
            || headers.fragment != Fragment::Whole
            || !self.is_served(service, address)
        {
            return None;
        }
        let call = call_id(persistence, packet.data(), headers)?;
        let vip_port = if port == 0 { speaker.port } else { port };
        let key = TemplateKey::of(
            service,
            tuple.protocol,
            tuple.destination.address.into(),
            address,
            vip_port,
            Some(call),
        )?;
        let terms = Terms {
            service: service.id,
            persistence,
            control: !service.one_packet,
            services,
            now: self.now,
        };
        let held = self.state.templates.hold(&key, &terms);
        let handle = match held {
            Some(held) => Some(held.handle),
            None => self.claim(&key, Server::of(real, record), &terms).handle,
        };
        let target = Target {
            service: service.id,
            real,
            address: record.address,
            port: speaker.port,
            forward: Forward::Nat,
            shared: &record.shared,
            thresholds: (record.upper_threshold, record.lower_threshold),
            control: handle.map(|_| persistence.generation),
        };
        let vip = Endpoint::new(A::from_ip(address)?, vip_port);
        let from_client = FiveTuple {
            protocol: tuple.protocol,
            source: tuple.destination,
            destination: vip,
        };
        let binding = target.binding(&from_client).ok()?;
        let first = !matches!(self.pass, Pass::Retry(_));
        let cell = record.shared.cell(self.state.worker);
        let mut connection = Connection::new(binding, self.now);
        if service.one_packet {
            if first {
                self.count(Event::OnePacketScheduled);
                cell.connections.add(1);
                cell.out_packets.add(1);
                cell.out_bytes.add(headers.ip_length() as u64);
            }
            let verdict = self.forward(&connection, Direction::Output, packet, headers, spare);
            self.remember_choice(verdict, real);
            return Some(verdict);
        }
        if let Some(generation) = target.control {
            connection = connection.controlled(generation);
        }
        // A datagram changes no counts: UDP is never active.
        let _ = connection.on_packet(
            Direction::Output,
            Signal::Udp,
            self.now,
            &services.timeouts,
            self.state.defence.tcp_table(A::FAMILY),
        );
        let release = |context: &Self| {
            if let Some(handle) = handle {
                context.state.templates.release(handle, context.now);
            }
        };
        let hash = table.hash(&connection.key());
        if let Some((holder, _)) = table.lookup_hashed(hash, &connection.key()) {
            if !table.get(holder).is_expired(self.now) {
                // The client is in a call with another server by the same ports.
                release(self);
                return Some(Verdict::Drop(DropReason::ReplyKeyInUse));
            }
            self.count(Event::ConnectionsExpired);
            self.end(table, holder);
        }
        let inserted = match self.insert(table, hash, connection) {
            Err(InsertError::ReplyKeyInUse(holder)) if table.get(holder).is_expired(self.now) => {
                self.count(Event::ConnectionsExpired);
                self.end(table, holder);
                self.insert(table, hash, connection)
            }
            result => result,
        };
        let slot = match inserted {
            Ok(slot) => slot,
            Err(error) => {
                release(self);
                return Some(Verdict::Drop(match error {
                    InsertError::Full => DropReason::TableFull,
                    InsertError::ReplyKeyInUse(_) => DropReason::ReplyKeyInUse,
                }));
            }
        };
        if let Some(handle) = handle {
            self.state.remember_call(table.get(slot), handle);
            self.state.templates.assure(handle);
        }
        self.count(Event::ConnectionsCreated);
        cell.connections.add(1);
        cell.out_packets.add(1);
        cell.out_bytes.add(headers.ip_length() as u64);
        record.shared.counts(self.state.worker).bind(false);
        let (upper, lower) = target.thresholds;
        record.shared.evaluate_overload(upper, lower);
        Some(self.forward(table.get(slot), Direction::Output, packet, headers, spare))
    }
}
