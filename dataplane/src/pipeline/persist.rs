//! Connections of persistent clients: the template first, then the server it leads to (spec 3.7).
//!
//! A connection does not remember its template. At its end it is found again by the key both have
//! (service, client) and by the server, which costs a look but no memory; only calls of a
//! persistence engine, whose key is in no connection, are remembered beside the table.

use super::flow::{FirstPacket, Target};
use super::listing::Listing;
use super::{Context, PER_LOOP, WorkerState};
use crate::address::{Address, Family, FiveTuple, Protocol};
use crate::connection::{Connection, Millis, Slot, State, Table};
use crate::counters::Event;
use crate::job::{Action, ConnectionRow, TemplateRow};
use crate::packet::{Fragment, Headers, sip};
use crate::service::{Engine, Persistence, Services, VirtualService};
use crate::template::{Calls, Claim, Ends, Handle, Server, Template, TemplateKey, Terms};
use crate::verdict::{DropReason, WorkerId};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

/// A client's server, and the template it is under, if there was room for one.
pub(super) struct Choice {
    pub(super) server: Server,
    pub(super) handle: Option<Handle>,
}

impl Context<'_> {
    /// Makes a connection to the server the client belongs to.
    pub(super) fn schedule_persistent<A: Address>(
        &mut self,
        table: &mut Table<A>,
        service: &VirtualService,
        persistence: Persistence,
        frame: &[u8],
        first: &FirstPacket<'_, A>,
    ) -> Result<Slot, DropReason> {
        let tuple = &first.flow.tuple;
        let call = call_id(persistence, frame, first.headers);
        let Choice { server, handle } =
            self.persistent_server(service, persistence, tuple, call, true)?;
        let control = handle.map(|_| persistence.generation);
        let result = match target(self.services, service, &server, tuple, control) {
            Some(target) => self.connect(table, &target, first),
            None => Err(DropReason::NoServer),
        };
        let Some(handle) = handle else {
            return result;
        };
        match result {
            Ok(slot) => {
                let connection = table.get(slot);
                if call.is_some() {
                    self.state.remember_call(connection, handle);
                }
                if !connection.is_unassured() {
                    self.state.templates.assure(handle);
                }
            }
            Err(_) => self.state.templates.release(handle, self.now),
        }
        result
    }

    /// The server a client belongs to: that of its template, which is made if there is none.
    pub(super) fn persistent_server<A: Address>(
        &self,
        service: &VirtualService,
        persistence: Persistence,
        tuple: &FiveTuple<A>,
        call: Option<&[u8]>,
        control: bool,
    ) -> Result<Choice, DropReason> {
        let key = TemplateKey::of(
            service,
            tuple.protocol,
            tuple.source.address.into(),
            tuple.destination.address.into(),
            tuple.destination.port,
            call,
        );
        let key = key.ok_or(DropReason::NoServer)?;
        let terms = Terms {
            service: service.id,
            persistence,
            control,
            services: self.services,
            now: self.now,
        };
        if let Some(held) = self.state.templates.hold(&key, &terms) {
            return Ok(Choice {
                server: held.server,
                handle: Some(held.handle),
            });
        }
        let picked = self.pick(service, tuple, &[]).ok_or(DropReason::NoServer)?;
        let record = self.services.real(picked.id).ok_or(DropReason::NoServer)?;
        let server = Server::of(picked.id, record);
        Ok(self.claim(&key, server, &terms))
    }

    /// Makes the template, unless another worker was first.
    pub(super) fn claim(&self, key: &TemplateKey<'_>, server: Server, terms: &Terms<'_>) -> Choice {
        match self.state.templates.claim(key, server, terms) {
            Claim::Made(held) => {
                self.count(Event::TemplatesCreated);
                Choice {
                    server: held.server,
                    handle: Some(held.handle),
                }
            }
            Claim::Taken(held) => Choice {
                server: held.server,
                handle: Some(held.handle),
            },
            // Better served by any server than by none.
            Claim::Full => {
                self.count(Event::TemplatesFull);
                Choice {
                    server,
                    handle: None,
                }
            }
        }
    }
}

impl WorkerState {
    /// Remembers the template of a connection whose key is a call's.
    pub(super) fn remember_call<A: Address>(&mut self, connection: &Connection<A>, handle: Handle) {
        if self.calls.capacity() == 0 {
            // Control has not reserved any: nobody published the services with an engine (tests).
            self.calls = Calls::new(self.connections);
        }
        if !self.calls.insert(ends(connection), handle) {
            // Nothing would find it again.
            self.templates.release(handle, self.now);
        }
    }

    /// Takes what control has reserved to remember calls in, once there is a service that has any.
    pub(super) fn prepare_calls(&mut self, services: &Services) {
        if self.calls.capacity() == 0
            && services.has_engine()
            && let Some(calls) = self.templates.take_calls()
        {
            self.calls = calls;
        }
    }

    /// A connection has ended: its template, if it has one, controls one less.
    pub(super) fn leave_template<A: Address>(
        &mut self,
        services: &Services,
        connection: &Connection<A>,
    ) {
        if connection.control().is_none() {
            return;
        }
        let called = self.calls.remove(&ends(connection));
        if !is_recognised(services, connection) {
            // Its template counts connections of another generation now.
            return;
        }
        if let Some(handle) = called.or_else(|| self.template_of(services, connection)) {
            self.templates.release(handle, self.now);
        }
    }

    /// Takes out a few templates that are over.
    pub(super) fn sweep(&mut self, services: &Services) {
        if self.templates.is_empty() {
            return;
        }
        if self.swept == 0 {
            self.sweep_drops = self.defence.joins_sweep(self.now);
        }
        let (share, at) = ((self.worker.0, self.workers), (self.swept, PER_LOOP));
        let (drops, defence, mut dropped) = (self.sweep_drops, &self.defence, 0);
        let doomed = |template: &Template| {
            let doomed = drops
                && defence.drops_entries(Family::of(template.client))
                && is_idle(services, template);
            dropped += u64::from(doomed);
            doomed
        };
        let (next, expired) = self.templates.visit(share, at, services, self.now, doomed);
        self.swept = next.unwrap_or(0);
        if dropped > 0 {
            self.counters.event(Event::TemplatesDropped).add(dropped);
        }
        if expired > 0 {
            self.counters.event(Event::TemplatesExpired).add(expired);
        }
    }

    /// One round of a job over this worker's share of the templates; the next cursor, or `None` at
    /// its end.
    pub(super) fn visit_templates(
        &mut self,
        services: &Services,
        listing: &Listing,
        budget: usize,
    ) -> Option<u32> {
        let job = &listing.job;
        let (worker, now) = (self.worker, self.now);
        let share = (worker.0, self.workers);
        let visit = |template: &Template| {
            let row = row(worker, template, now);
            if !job.filter.matches(&row) {
                return false;
            }
            job.handled.fetch_add(1, Relaxed);
            match job.action {
                Action::List => {
                    // Room for a whole round was made sure of, so this cannot fail.
                    drop(job.rows.push(row));
                    false
                }
                Action::Delete => true,
            }
        };
        let at = (listing.cursor, budget.min(PER_LOOP));
        let (next, expired) = self.templates.visit(share, at, services, now, visit);
        self.counters.event(Event::TemplatesExpired).add(expired);
        next
    }

    /// A connection is established, and its template with it.
    #[cold]
    pub(super) fn assure<A: Address>(&self, services: &Services, connection: &Connection<A>) {
        if !is_recognised(services, connection) {
            return;
        }
        let called = self.calls.get(&ends(connection));
        if let Some(handle) = called.or_else(|| self.template_of(services, connection)) {
            self.templates.assure(handle);
        }
    }

    /// The template a connection is under that no call leads to.
    fn template_of<A: Address>(
        &self,
        services: &Services,
        connection: &Connection<A>,
    ) -> Option<Handle> {
        let binding = connection.binding();
        let service = services.service(binding.service)?;
        let (client, vip) = (binding.client.address, binding.vip);
        let key = TemplateKey::of(
            service,
            binding.protocol,
            client.into(),
            vip.address.into(),
            vip.port,
            None,
        )?;
        self.templates.find(&key, binding.real)
    }
}

/// True of a template that `drop_entry` takes (spec 3.6): it was never assured and controls nothing.
/// Those of one-packet services control nothing ever; the kernel spares them.
fn is_idle(services: &Services, template: &Template) -> bool {
    let udp = matches!(template.protocol, None | Some(Protocol::Udp));
    let service = services.service(template.service);
    !template.assured
        && template.connections == 0
        && !service.is_some_and(|service| service.one_packet && udp)
}

/// Where a connection of this service under a template goes; `None` if its server is forgotten.
pub(super) fn target<'a, A: Address>(
    services: &'a Services,
    service: &VirtualService,
    server: &Server,
    tuple: &FiveTuple<A>,
    control: Option<u8>,
) -> Option<Target<'a>> {
    let record = server.record(services)?;
    // On another port than the service's, as those of a mark all are, the client's is kept.
    let own_port = service.key.port() == tuple.destination.port;
    Some(Target {
        service: service.id,
        real: server.real,
        address: record.address,
        port: if own_port { record.port } else { 0 },
        forward: record.forward,
        shared: &record.shared,
        thresholds: (record.upper_threshold, record.lower_threshold),
        control,
    })
}

/// What the persistence engine recognises the packet by. A packet it does not understand, and one
/// that is not whole, is like any other of its client.
pub(super) fn call_id<'a>(
    persistence: Persistence,
    frame: &'a [u8],
    headers: &Headers,
) -> Option<&'a [u8]> {
    const UDP: u8 = Protocol::Udp as u8;
    let Engine::Sip = persistence.engine?;
    if headers.protocol != UDP || headers.fragment != Fragment::Whole {
        return None;
    }
    sip::call_id(headers.transport(frame).get(crate::packet::udp::LEN..)?)
}

fn row(worker: WorkerId, template: &Template, now: Millis) -> ConnectionRow {
    let protocol = template.protocol.unwrap_or(Protocol::Udp);
    ConnectionRow {
        worker,
        protocol,
        state: State::initial(protocol),
        template: Some(TemplateRow {
            any_protocol: template.protocol.is_none(),
            assured: template.assured,
            call: template.call.clone(),
        }),
        expires_ms: template.expires_in(now),
        client: SocketAddr::new(template.client, 0),
        virtual_address: SocketAddr::new(template.vip, template.shown_port()),
        destination: SocketAddr::new(template.server.address, template.shown_server_port()),
        service: template.service,
        real: template.server.real,
        forward: template.server.forward,
        packets: 0,
    }
}

/// True if its service still recognises clients as it did when the connection was made.
fn is_recognised<A: Address>(services: &Services, connection: &Connection<A>) -> bool {
    let service = services.service(connection.binding().service);
    let persistence = service.and_then(|service| service.persistence);
    persistence.is_some_and(|now| connection.control() == Some(now.generation))
}

fn ends<A: Address>(connection: &Connection<A>) -> Ends {
    let binding = connection.binding();
    (binding.protocol, binding.client.into(), binding.vip.into())
}
