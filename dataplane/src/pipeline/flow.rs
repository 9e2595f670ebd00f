//! Connections: look-up, accounting, the rules for old ones, scheduling of new ones.
//!
//! The order of decisions and all exceptions follow the kernel's `ip_vs_in`/`ip_vs_out` as the
//! specification describes them (spec 2.2, 3.3, 3.5, 3.6).

use super::{Context, Pass, Spare, WorkerState};
use crate::address::{Address, Endpoint, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{
    Binding, Connection, Direction, Eviction, InsertError, Signal, Slot, State, Table, TcpState,
    Transition,
};
use crate::counters::Event;
use crate::packet::{Fragment, Headers, Parsed, punt_class, tcp};
use crate::scheduler::Request;
use crate::service::{Orphans, RealId, RealServer, Serve, Services, Standing, VirtualService};
use crate::steering;
use crate::verdict::{DropReason, PortId, PuntClass, Verdict, WorkerId};
use arrayvec::ArrayVec;

/// Servers that may be passed over for one connection because their reply key is taken.
const MAX_EXCLUDED: usize = 16;
/// A client using this source port is never scheduled: it would be the data end of active FTP.
const FTP_DATA: u16 = 20;

/// What to do with a packet of a known connection.
enum Known {
    /// Forward it.
    Forward,
    /// The connection has ended: treat the packet as one of no connection.
    Over,
    /// This verdict.
    Decided(Verdict),
    /// Tell the client that its connection is gone.
    Reset,
}

impl Context<'_> {
    /// A packet with ports.
    #[inline]
    pub(super) fn flow<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
        hash: u64,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        if let Some((slot, direction)) = table.lookup_hashed(hash, tuple) {
            match self.known(table, slot, direction, headers) {
                Known::Forward => {
                    return self.forward(table.get(slot), direction, packet, headers, spare);
                }
                Known::Over => self.end(table, slot),
                Known::Decided(verdict) => return verdict,
                Known::Reset => {
                    self.end(table, slot);
                    return self.reset(packet, headers);
                }
            }
        }
        if self.state.workers > 1
            && self.pass == Pass::First
            && let Some(owner) = self.owner(PortId(packet.port() as u8), tuple)
            && owner != self.state.worker
        {
            return Verdict::Redirect(owner);
        }
        self.unknown(table, packet, headers, tuple, spare)
    }

    /// The worker that must have a connection of this tuple, if it is not whoever receives it
    /// (DESIGN §5, rules 2 and 3).
    fn owner<A: Address>(&self, port: PortId, tuple: &FiveTuple<A>) -> Option<WorkerId> {
        let (source, destination) = (tuple.source, tuple.destination);
        let services = self.services;
        let vip = destination.address.into();
        if let Some(service) = services.find(tuple.protocol, vip, destination.port) {
            let few_queues = self
                .forwarding
                .port(port)
                .is_some_and(|port| port.queues < u16::from(self.state.workers));
            let dealt = service.ever_translated || few_queues;
            return dealt.then(|| steering::owner(source, self.state.workers));
        }
        services
            .is_real(tuple.protocol, source.address.into(), source.port)
            .then(|| steering::owner(destination, self.state.workers))
    }

    /// Applies the rules for packets of known connections and accounts for the packet.
    #[inline]
    fn known<A: Address>(
        &mut self,
        table: &mut Table<A>,
        slot: Slot,
        direction: Direction,
        headers: &Headers,
    ) -> Known {
        let connection = table.get(slot);
        let binding = connection.binding();
        let Some(real) = self.services.real(binding.real) else {
            return Known::Over;
        };
        if let Pass::Retry(_) = self.pass {
            return Known::Forward;
        }
        if connection.is_expired(self.now) {
            self.count(Event::ConnectionsExpired);
            return Known::Over;
        }
        // As long as fragments are not reassembled: the later ones find no connection, so the
        // first alone would be of no use to anyone.
        if headers.fragment != Fragment::Whole {
            return Known::Decided(Verdict::Drop(DropReason::Fragment));
        }
        let syn = binding.protocol == Protocol::Tcp && is_opening(headers.tcp_flags);
        if syn && direction == Direction::Input {
            let ipvs = &self.services.ipvs;
            if may_be_reused(connection, ipvs.conn_reuse_mode) {
                return Known::Over;
            }
            if ipvs.expire_nodest_conn && real.standing == Standing::Listed && real.weight == 0 {
                return Known::Over;
            }
        }
        if let Standing::Gone(orphans) = real.standing {
            match (orphans, direction) {
                // A removed server gets no new flows, also not one on the ports of an old one.
                (Orphans::Keep, Direction::Input) if syn && is_closing(connection.state()) => {
                    return Known::Over;
                }
                (Orphans::Keep, _) => {}
                (Orphans::Reschedule, Direction::Input) => return Known::Over,
                // A datagram may always be a first one, and cannot be answered by a reset.
                (Orphans::Expire | Orphans::Reset, Direction::Input)
                    if syn || binding.protocol != Protocol::Tcp =>
                {
                    return Known::Over;
                }
                (Orphans::Reset, Direction::Input) => return Known::Reset,
                // The kernel's switch is about client packets; replies it lets pass.
                (Orphans::Reschedule | Orphans::Silent, Direction::Output) => {}
                (
                    Orphans::Expire | Orphans::Reset | Orphans::Silent,
                    Direction::Input | Direction::Output,
                ) => return Known::Decided(Verdict::Drop(DropReason::ServerGone)),
            }
        }
        self.count(Event::ConnectionHits);
        let cell = real.shared.cell(self.state.worker);
        let bytes = headers.ip_length() as u64;
        match direction {
            Direction::Input => {
                cell.in_packets.add(1);
                cell.in_bytes.add(bytes);
            }
            Direction::Output => {
                cell.out_packets.add(1);
                cell.out_bytes.add(bytes);
            }
        }
        let transition = table.on_packet(
            slot,
            direction,
            signal(headers),
            self.now,
            &self.services.timeouts,
            self.services.ipvs.table,
        );
        match transition {
            Transition::None => {}
            Transition::BecameActive => {
                cell.inactive.sub(1);
                cell.active.add(1);
            }
            Transition::BecameInactive => {
                cell.active.sub(1);
                cell.inactive.add(1);
            }
        }
        Known::Forward
    }

    fn end<A: Address>(&mut self, table: &mut Table<A>, slot: Slot) {
        let connection = table.remove(slot);
        self.state.unbind(self.services, &connection);
    }

    /// A packet with ports that belongs to no connection.
    fn unknown<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        tuple: &FiveTuple<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        self.count(Event::ConnectionMisses);
        let vip = tuple.destination.address.into();
        let services = self.services;
        let Some(service) = services.find(tuple.protocol, vip, tuple.destination.port) else {
            return self.not_ours(packet, headers, vip, spare);
        };
        // Nobody else may speak for one of our addresses; a connection from one would loop.
        if self.forwarding.is_local(tuple.source.address.into()) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if service.serve == Serve::WhileLocal && !self.forwarding.is_local(vip) {
            return Verdict::Drop(DropReason::VipBackup);
        }
        if headers.fragment != Fragment::Whole {
            return Verdict::Drop(DropReason::Fragment);
        }
        let schedulable = match tuple.protocol {
            Protocol::Tcp => {
                let opening = headers.tcp_flags & tcp::SYN != 0 || services.ipvs.sloppy_tcp;
                opening && headers.tcp_flags & tcp::RST == 0
            }
            Protocol::Udp => true,
            Protocol::Sctp => return Verdict::Drop(DropReason::NotSupported),
        };
        if !schedulable || tuple.source.port == FTP_DATA {
            return self.to_stack(packet, headers);
        }
        match self.schedule(table, service, headers, tuple) {
            Ok(slot) => {
                self.count(Event::ConnectionsCreated);
                self.forward(table.get(slot), Direction::Input, packet, headers, spare)
            }
            Err(DropReason::NoServer) => {
                service.shared.unserved(self.state.worker).add(1);
                self.no_server(service, packet, headers)
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Chooses a server and makes the connection, accounted for its first packet.
    fn schedule<A: Address>(
        &mut self,
        table: &mut Table<A>,
        service: &VirtualService,
        headers: &Headers,
        tuple: &FiveTuple<A>,
    ) -> Result<Slot, DropReason> {
        let mut excluded = ArrayVec::<RealId, MAX_EXCLUDED>::new();
        loop {
            let request = Request {
                list: &service.list,
                cell: service.shared.scheduler(self.state.worker),
                worker: self.state.worker,
                workers: self.state.workers,
                source: (tuple.source.address.fold(), tuple.source.port),
                destination: (tuple.destination.address.fold(), tuple.destination.port),
                excluded: &excluded,
            };
            let none_left = if excluded.is_empty() {
                DropReason::NoServer
            } else {
                DropReason::ReplyKeyInUse
            };
            let server = service
                .scheduler
                .pick(&request)
                .and_then(|index| service.list.servers.get(index))
                .ok_or(none_left)?;
            let address = A::from_ip(server.address).ok_or(DropReason::NotSupported)?;
            // DR cannot map ports, and a port-0 service keeps the client's.
            let keeps_port = !server.forward.sees_replies() || server.port == 0;
            let port = if keeps_port {
                tuple.destination.port
            } else {
                server.port
            };
            let binding = Binding {
                protocol: tuple.protocol,
                client: tuple.source,
                vip: tuple.destination,
                local: tuple.source,
                destination: Endpoint::new(address, port),
                real: server.id,
                service: service.id,
                forward: server.forward,
            };
            let mut connection = Connection::new(binding, self.now);
            let transition = connection.on_packet(
                Direction::Input,
                signal(headers),
                self.now,
                &self.services.timeouts,
                self.services.ipvs.table,
            );
            match self.insert(table, connection) {
                Ok(slot) => return Ok(self.bound(server, headers, transition, slot)),
                Err(InsertError::ReplyKeyInUse(holder))
                    if table.get(holder).is_expired(self.now) =>
                {
                    // Dead, only not collected yet: out of the way, and the same server again.
                    self.count(Event::ConnectionsExpired);
                    self.end(table, holder);
                    if let Ok(slot) = self.insert(table, connection) {
                        return Ok(self.bound(server, headers, transition, slot));
                    }
                    return Err(DropReason::TableFull);
                }
                Err(InsertError::ReplyKeyInUse(_)) => {
                    if excluded.try_push(server.id).is_err() {
                        return Err(DropReason::ReplyKeyInUse);
                    }
                }
                // The look-up just missed, so only a table that is full is left.
                Err(InsertError::Full | InsertError::KeyInUse(_)) => {
                    return Err(DropReason::TableFull);
                }
            }
        }
    }

    /// Accounts a new connection and its first packet to its server.
    fn bound(
        &self,
        server: &RealServer,
        headers: &Headers,
        transition: Transition,
        slot: Slot,
    ) -> Slot {
        let cell = server.shared.cell(self.state.worker);
        cell.connections.add(1);
        cell.in_packets.add(1);
        cell.in_bytes.add(headers.ip_length() as u64);
        match transition {
            Transition::BecameActive => cell.active.add(1),
            Transition::None | Transition::BecameInactive => cell.inactive.add(1),
        }
        server.evaluate_overload();
        slot
    }

    /// Inserts, making room by eviction if need be.
    fn insert<A: Address>(
        &mut self,
        table: &mut Table<A>,
        connection: Connection<A>,
    ) -> Result<Slot, InsertError> {
        match table.insert(connection, self.now) {
            Err(InsertError::Full) => {
                let evicted = table.evict_one(self.now).ok_or(InsertError::Full)?;
                self.count(match evicted.why {
                    Eviction::Expired => Event::ConnectionsExpired,
                    Eviction::Embryonic | Eviction::Closing | Eviction::Idle => {
                        Event::ConnectionsEvicted
                    }
                });
                self.state.unbind(self.services, &evicted.connection);
                table.insert(connection, self.now)
            }
            result => result,
        }
    }

    /// Packets without ports: ICMP, later fragments, other protocols.
    pub(super) fn not_balanced<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let Some(destination) = headers.destination_ip(packet.data()) else {
            return Verdict::Drop(DropReason::Truncated);
        };
        if headers.fragment != Fragment::Whole && self.services.is_vip(destination) {
            return Verdict::Drop(DropReason::Fragment);
        }
        self.not_ours(packet, headers, destination, spare)
    }

    /// Unicast that no connection and no service claims.
    fn not_ours<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        destination: std::net::IpAddr,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        if self.forwarding.is_local(destination) {
            return self.to_stack(packet, headers);
        }
        if self.services.is_vip(destination) {
            return Verdict::Drop(DropReason::VipBackup);
        }
        self.transit(packet, headers, destination, spare)
    }

    /// The packet is for the Linux stack.
    pub(super) fn to_stack<P: PacketBuffer>(&self, packet: &P, headers: &Headers) -> Verdict {
        let class = punt_class(packet.data(), &Parsed::Ip(*headers));
        self.punt(PortId(packet.port() as u8), class)
    }

    /// As [`Self::to_stack`] for packets Linux must forward: no class above the last.
    pub(super) fn to_stack_as_transit<P: PacketBuffer>(&self, packet: &P) -> Verdict {
        self.punt(PortId(packet.port() as u8), PuntClass::Rest)
    }
}

impl WorkerState {
    /// Takes an ended connection out of its server's counts.
    pub(super) fn unbind<A: Address>(&self, services: &Services, connection: &Connection<A>) {
        // Control keeps the record of a server until no worker has connections of it.
        let Some(real) = services.real(connection.binding().real) else {
            return;
        };
        let cell = real.shared.cell(self.worker);
        if connection.is_active() {
            cell.active.sub(1);
        } else {
            cell.inactive.sub(1);
        }
        real.shared
            .evaluate_overload(real.upper_threshold, real.lower_threshold);
    }
}

/// A SYN that asks for a new connection (the kernel's `is_new_conn`: SYN set, whatever else).
fn is_opening(tcp_flags: u8) -> bool {
    tcp_flags & tcp::SYN != 0
}

/// What the packet tells the state machine.
fn signal(headers: &Headers) -> Signal {
    if headers.protocol == Protocol::Tcp.number() {
        Signal::Tcp(headers.tcp_flags)
    } else {
        Signal::Udp
    }
}

/// `conn_reuse_mode` (spec 3.6): any but 0 gives up connections that are over, bit 1 also
/// half-closed ones whose replies we do not see.
fn may_be_reused<A: Address>(connection: &Connection<A>, mode: u8) -> bool {
    match connection.state() {
        State::Tcp(TcpState::TimeWait | TcpState::Close) => mode != 0,
        State::Tcp(TcpState::FinWait) => mode & 2 != 0 && connection.is_no_output(),
        _ => false,
    }
}

/// The connection is over or about to be: a SYN on it can only ask for a new one.
fn is_closing(state: State) -> bool {
    matches!(
        state,
        State::Tcp(
            TcpState::FinWait
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck
        )
    )
}
