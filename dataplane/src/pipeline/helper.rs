//! The FTP helper's place in the walk: control connections are read, data connections expected,
//! claimed and kept together (behaviour notes 6; see [`crate::ftp`]).
//!
//! Only the worker that owns a control connection has its state. What it expects, every worker may
//! get the first packet of; the owner is the one that the client's end says (DESIGN §5, rule 2), as
//! for all connections whose packets are translated.
//!
//! Only NAT is helped: with direct routing and tunnels the helper never sees the server's half. A NAT
//! server on this very box is helped like any other; what it says comes from the Linux stack
//! ([`super::local`]), the SYN of an active transfer too.

use super::listing::Listing;
use super::{Context, PER_LOOP, Pass, Spare, WorkerState, account};
use crate::address::{Address, Endpoint, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{
    Binding, Connection, Direction, InsertError, Millis, Signal, Slot, State, Table, TcpState,
    Transition,
};
use crate::counters::Event;
use crate::expected::{ClientKey, Expectation, Expected, ExpectedConnections};
use crate::ftp::control::Parties;
use crate::ftp::{Announced, CONTROL_PORT, Control};
use crate::job::{Action, ConnectionRow};
use crate::packet::segment::Segment;
use crate::packet::{Fragment, Headers, tcp};
use crate::service::{Forward, Services};
use crate::verdict::{DropReason, Verdict, WorkerId};
use arrayvec::ArrayVec;
use hashbrown::HashMap;
use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

/// Control connections one worker helps at a time.
const MAX_CONTROLS: usize = 16_384;
/// Announcements of one segment that are followed; nobody needs more than one.
const MAX_ANNOUNCED: usize = 4;
/// A packet is made longer only up to this, if it was not longer before: every link takes it.
const SAFE_LENGTH: usize = 1280;
/// How long a control connection lives on at a time for its data connections, in milliseconds.
const KEPT_FOR: u32 = 60_000;

/// The control connections of a worker.
#[derive(Debug)]
pub(super) struct Controls(HashMap<ClientKey, Control, RandomState>);

impl Controls {
    /// Bytes of memory they take at most: a slot and a tag in each bucket, of which 7 in 8 are used.
    pub(super) const BYTES: usize =
        (MAX_CONTROLS * 8 / 7).next_power_of_two() * (size_of::<(ClientKey, Control)>() + 1);

    pub(super) fn new() -> Self {
        Self(HashMap::with_capacity_and_hasher(
            MAX_CONTROLS,
            RandomState::new(),
        ))
    }

    /// The state of a control connection; it is made if there is none and `speaks` says that it
    /// may be, and there is room.
    fn of(&mut self, key: ClientKey, speaks: bool) -> Option<&mut Control> {
        if !speaks || self.0.len() >= MAX_CONTROLS {
            return self.0.get_mut(&key);
        }
        Some(self.0.entry(key).or_default())
    }
}

impl Context<'_> {
    /// A connection was just made: if it is to be helped, its packets are looked at from now on.
    pub(super) fn attach<A: Address>(&mut self, table: &mut Table<A>, slot: Slot) {
        let binding = table.get(slot).binding();
        if binding.protocol != Protocol::Tcp
            || binding.vip.port != CONTROL_PORT
            || binding.forward != Forward::Nat
            || self.services.expected.is_none()
        {
            return;
        }
        table.mark_helped(slot);
    }

    /// Sends a packet of a connection on its way, after the helper has read it, if there is one.
    #[inline]
    pub(super) fn deliver<A: Address, P: PacketBuffer>(
        &mut self,
        connection: &Connection<A>,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        // What comes back from the waiting room was read before it went there.
        if connection.is_helped() && !matches!(self.pass, Pass::Retry(_)) {
            return match self.help(connection, direction, packet, headers) {
                Ok(headers) => self.forward(connection, direction, packet, &headers, spare),
                Err(reason) => Verdict::Drop(reason),
            };
        }
        self.forward(connection, direction, packet, headers, spare)
    }

    /// Reads a packet of a control connection and changes what must be changed. Returns the headers
    /// it has then.
    #[cold]
    pub(super) fn help<A: Address, P: PacketBuffer>(
        &mut self,
        connection: &Connection<A>,
        direction: Direction,
        packet: &mut P,
        headers: &Headers,
    ) -> Result<Headers, DropReason> {
        let mut headers = *headers;
        let binding = connection.binding();
        if headers.fragment != Fragment::Whole {
            return Err(DropReason::Fragment);
        }
        let frame = packet.data();
        let segment = Segment::read(frame, &headers).ok_or(DropReason::TransportHeader)?;
        if header_opens(&segment) && connection.state() == State::Tcp(TcpState::SynRecv) {
            // Another stream on the same ports.
            self.state.controls.0.remove(&key(binding));
        }
        // Nothing is remembered of who has not said anything yet: not of a half-open connection.
        let speaks = connection.state() == State::Tcp(TcpState::Established)
            && !segment.payload(frame).is_empty();
        let Some(control) = self.state.controls.of(key(binding), speaks) else {
            if speaks {
                self.count(Event::FtpUnhelped);
            }
            return Ok(headers);
        };
        let mut announced = ArrayVec::<Announced, MAX_ANNOUNCED>::new();
        let parties = Parties {
            client: binding.client.address.into(),
            vip: binding.vip.address.into(),
            server: binding.destination.address.into(),
        };
        match direction {
            Direction::Input => from_client(control, &segment, packet, &parties, &mut announced)?,
            Direction::Output => {
                from_server(
                    control,
                    &segment,
                    packet,
                    &mut headers,
                    &parties,
                    &mut announced,
                )?;
            }
        }
        for announced in announced {
            self.announced(binding, announced);
        }
        Ok(headers)
    }

    fn announced<A: Address>(&mut self, binding: &Binding<A>, announced: Announced) {
        let (client, vip) = (socket(binding.client), socket(binding.vip));
        let server = socket(binding.destination);
        let with = |mut address: SocketAddr, port| {
            address.set_port(port);
            address
        };
        let (key_, server) = match announced {
            Announced::Passive(port) => (
                ClientKey {
                    client: with(client, 0),
                    vip: with(vip, port),
                },
                with(server, port),
            ),
            // A server sends data from the port below the one it listens on.
            Announced::Active(port) => (
                ClientKey {
                    client: with(client, port),
                    vip: with(vip, vip.port() - 1),
                },
                with(server, server.port().wrapping_sub(1)),
            ),
            Announced::Refused => return self.count(Event::FtpRefused),
        };
        let expected = Expected {
            control: key(binding),
            key: key_,
            server,
            real: binding.real,
            service: binding.service,
        };
        let Some(table) = &self.services.expected else {
            return;
        };
        let (state, services) = (&*self.state, self.services);
        let replaced = |old: &Expected| state.uncount(services, old);
        match table.expect(expected, self.now, replaced) {
            Expectation::New => {
                // It counts from here on, as the kernel's does.
                if let Some(real) = self.services.real(binding.real) {
                    real.shared.counts(self.state.worker).bind(false);
                    real.evaluate_overload();
                }
                self.count(Event::FtpExpected);
            }
            Expectation::Again => {}
            Expectation::Refused => self.count(Event::FtpRefused),
        }
    }

    /// True if the connection's timer has run out and nothing depends on it.
    #[inline]
    pub(super) fn is_over<A: Address>(&self, connection: &Connection<A>) -> bool {
        connection.is_expired(self.now) && !is_needed(self.services, connection)
    }

    /// The client's end of the data connection the packet belongs to, if it is expected or under
    /// way at any worker.
    #[inline]
    pub(super) fn data_client<A: Address>(&self, tuple: &FiveTuple<A>) -> Option<Endpoint<A>> {
        let expected = self.services.expected.as_ref()?;
        if expected.is_empty() || tuple.protocol != Protocol::Tcp {
            return None;
        }
        let found = expected.find(tuple)?;
        Some(if found.is_reply {
            tuple.destination
        } else {
            tuple.source
        })
    }

    /// The first packet of an expected connection makes it, and is sent on its way.
    pub(super) fn claim_expected<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        Some(match self.claim_data(table, headers, tuple)? {
            Ok((slot, direction)) => {
                self.forward(table.get(slot), direction, packet, headers, spare)
            }
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// Makes the connection that was expected of a packet with this tuple, accounted for it; `None` if
    /// none was.
    pub(super) fn claim_data<A: Address>(
        &mut self,
        table: &mut Table<A>,
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Option<Result<(Slot, Direction), DropReason>> {
        let services = self.services;
        let expected = services.expected.as_deref()?;
        if expected.is_empty()
            || tuple.protocol != Protocol::Tcp
            || headers.tcp_flags & (tcp::SYN | tcp::RST) != tcp::SYN
        {
            return None;
        }
        let (claimed, found) = expected.claim(tuple, self.now)?;
        let direction = if found.is_reply {
            Direction::Output
        } else {
            Direction::Input
        };
        let binding = Binding {
            protocol: Protocol::Tcp,
            client: endpoint(claimed.key.client)?,
            vip: endpoint(claimed.key.vip)?,
            local: endpoint(claimed.key.client)?,
            destination: endpoint(claimed.server)?,
            real: claimed.real,
            service: claimed.service,
            forward: Forward::Nat,
        };
        let mut connection = Connection::expected(binding, self.now);
        let transition = connection.on_packet(
            direction,
            Signal::Tcp(headers.tcp_flags),
            self.now,
            &services.timeouts,
            self.state.defence.tcp_table(A::FAMILY),
        );
        let real = services.real(claimed.real);
        // It counts already, as one that is not active.
        if transition == Transition::BecameActive
            && let Some(real) = real
        {
            real.shared.counts(self.state.worker).turn(true);
        }
        let hash = table.hash(&connection.key());
        let mut inserted = self.insert(table, hash, connection);
        if let Err(InsertError::ReplyKeyInUse(holder)) = inserted
            && self.is_over(table.get(holder))
        {
            self.count(Event::ConnectionsExpired);
            self.end(table, holder);
            inserted = self.insert(table, hash, connection);
        }
        let slot = match inserted {
            Ok(slot) => slot,
            Err(error) => {
                self.state.unbind(services, &connection);
                return Some(Err(match error {
                    InsertError::Full => DropReason::TableFull,
                    InsertError::ReplyKeyInUse(_) => DropReason::ReplyKeyInUse,
                }));
            }
        };
        self.count(Event::ConnectionsCreated);
        if let Some(real) = real {
            let bytes = headers.ip_length() as u64;
            account(real.shared.cell(self.state.worker), direction, bytes);
        }
        Some(Ok((slot, direction)))
    }
}

impl WorkerState {
    /// Forgets what is known of a connection that has ended.
    #[inline]
    pub(super) fn detach<A: Address>(&mut self, services: &Services, connection: &Connection<A>) {
        if connection.is_helped() {
            self.controls.0.remove(&key(connection.binding()));
        }
        if connection.is_expected()
            && let Some(expected) = &services.expected
        {
            expected.release(&key(connection.binding()));
        }
    }

    /// Gives up expected connections nobody came for. One worker does it, once per millisecond.
    pub(super) fn sweep_expected(&self, services: &Services, now: Millis) {
        let Some(table) = services.expected.as_deref() else {
            return;
        };
        if self.worker.0 == 0 && !ExpectedConnections::is_empty(table) {
            table.sweep(now.0, now, |expected| self.uncount(services, expected));
        }
    }
}

impl WorkerState {
    /// One round of a job over this worker's share of what is expected and nobody came for yet; the
    /// next cursor, or `None` at its end.
    pub(super) fn visit_expected(
        &self,
        services: &Services,
        listing: &Listing,
        budget: usize,
    ) -> Option<u32> {
        let job = &listing.job;
        let visit = |expected: &Expected, left| {
            let row = row(self.worker, expected, left);
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
                Action::Delete => {
                    self.uncount(services, expected);
                    true
                }
            }
        };
        let share = (self.worker.0, self.workers);
        let at = (listing.cursor, budget.min(PER_LOOP));
        (services.expected.as_deref()?).visit(share, at, self.now, visit)
    }

    /// An expected connection was given up: it counted as one that is not active.
    fn uncount(&self, services: &Services, expected: &Expected) {
        if let Some(real) = services.real(expected.real) {
            real.shared.counts(self.worker).unbind(false);
            real.evaluate_overload();
        }
    }
}

/// An expected connection as listings show it.
fn row(worker: WorkerId, expected: &Expected, left: u64) -> ConnectionRow {
    ConnectionRow {
        worker,
        protocol: Protocol::Tcp,
        state: State::Tcp(TcpState::Listen),
        template: None,
        expires_ms: left,
        client: expected.key.client,
        virtual_address: expected.key.vip,
        destination: expected.server,
        service: expected.service,
        real: expected.real,
        forward: Forward::Nat,
        packets: 0,
    }
}

/// True if a connection whose timer has run out must live on for others that depend on it.
pub(super) fn is_needed<A: Address>(services: &Services, connection: &Connection<A>) -> bool {
    connection.is_helped()
        && (services.expected.as_ref())
            .is_some_and(|expected| expected.has_children(&key(connection.binding())))
}

/// Notes that a connection that was expected is closing: others may have its place.
#[inline]
pub(super) fn note_closing<A: Address>(services: &Services, connection: &Connection<A>) {
    if has_ended(connection.state())
        && connection.is_expected()
        && let Some(expected) = &services.expected
    {
        expected.close(&key(connection.binding()));
    }
}

/// A connection in this state is over but for its timer.
fn has_ended(state: State) -> bool {
    matches!(state, State::Tcp(TcpState::TimeWait | TcpState::Close))
}

/// True if a data connection has ended and another one was announced for its ports, so that a
/// first packet on them begins that one.
#[inline]
pub(super) fn is_succeeded<A: Address>(services: &Services, connection: &Connection<A>) -> bool {
    connection.is_expected()
        && has_ended(connection.state())
        && (services.expected.as_ref())
            .is_some_and(|expected| expected.is_awaited(&key(connection.binding())))
}

/// How long a connection that is needed lives on.
pub(super) fn kept<A: Address>(mut connection: Connection<A>) -> Connection<A> {
    connection.keep_for(KEPT_FOR);
    connection
}

/// True of a client's first segment.
fn header_opens(segment: &Segment) -> bool {
    segment.header.flags & (tcp::SYN | tcp::ACK) == tcp::SYN
}

fn from_client<P: PacketBuffer>(
    control: &mut Control,
    segment: &Segment,
    packet: &mut P,
    parties: &Parties,
    announced: &mut ArrayVec<Announced, MAX_ANNOUNCED>,
) -> Result<(), DropReason> {
    let header = &segment.header;
    let start = segment.payload_sequence();
    if header.flags & tcp::SYN != 0 {
        control.client_begins(start);
    }
    let acknowledged = (header.flags & tcp::ACK != 0)
        .then(|| control.shift().acknowledgment(header.acknowledgment));
    let payload = segment.payload(packet.data());
    control
        .client_segment(start, payload, acknowledged, parties, |announcement| {
            let _ = announced.try_push(announcement);
        })
        .map_err(|_| DropReason::FtpOutOfOrder)?;
    let shift = control.shift();
    if !shift.is_none() {
        let frame = packet.data_mut();
        segment.renumber(frame, header.sequence, |number| {
            shift.acknowledgment(number)
        });
    }
    Ok(())
}

fn from_server<P: PacketBuffer>(
    control: &mut Control,
    segment: &Segment,
    packet: &mut P,
    headers: &mut Headers,
    parties: &Parties,
    announced: &mut ArrayVec<Announced, MAX_ANNOUNCED>,
) -> Result<(), DropReason> {
    let header = &segment.header;
    let start = segment.payload_sequence();
    if header.flags & tcp::SYN != 0 {
        control.server_begins(start);
    }
    let payload = segment.payload(packet.data());
    let length = payload.len();
    let mut keep = control
        .server_segment(start, payload, parties, |announcement| {
            let _ = announced.try_push(announcement);
        })
        .map_err(|_| DropReason::FtpOutOfOrder)?;
    let shift = control.shift();
    if shift.is_none() {
        return Ok(());
    }
    let change = shift.change(start, keep);
    if change.is_some() || keep < length {
        let (offset, remove, insert) = change.map_or((0, 0, ""), |change| {
            (change.offset, change.remove, change.insert)
        });
        let before = headers.ip_length();
        let after = before - (length - keep) - remove + insert.len();
        let excess = after.saturating_sub(before.max(SAFE_LENGTH));
        // The server sends again what the client does not acknowledge.
        if keep - excess.min(keep) >= offset + remove {
            keep -= excess.min(keep);
        }
        segment.splice(packet, headers, keep, (offset, remove, insert.as_bytes()))?;
    }
    let sequence = shift.sequence(header.sequence);
    if sequence != header.sequence {
        segment.renumber(packet.data_mut(), sequence, |number| number);
    }
    Ok(())
}

/// The name of a connection in the shared tables.
fn key<A: Address>(binding: &Binding<A>) -> ClientKey {
    ClientKey {
        client: socket(binding.client),
        vip: socket(binding.vip),
    }
}

fn socket<A: Address>(endpoint: Endpoint<A>) -> SocketAddr {
    SocketAddr::new(endpoint.address.into(), endpoint.port)
}

fn endpoint<A: Address>(address: SocketAddr) -> Option<Endpoint<A>> {
    let ip: IpAddr = address.ip();
    Some(Endpoint::new(A::from_ip(ip)?, address.port()))
}
