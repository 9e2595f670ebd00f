//! Connections: look-up, accounting, the rules for old ones, scheduling of new ones.
//!
//! The order of decisions and all exceptions follow the kernel's `ip_vs_in`/`ip_vs_out` as the
//! specification describes them (spec 2.2, 3.3, 3.5, 3.6).

use super::signal::{is_ending, is_opening, signal};
use super::{Context, Pass, Spare, WorkerState, account, helper};
use crate::address::{Address, Endpoint, FiveTuple, Protocol};
use crate::buffer::PacketBuffer;
use crate::connection::{
    Binding, Connection, Direction, Eviction, InsertError, SctpState, Signal, Slot, State, Table,
    TcpState, Transition,
};
use crate::counters::Event;
use crate::ftp::DATA_PORT;
use crate::packet::{Headers, Parsed, punt_class, tcp};
use crate::scheduler::Request;
use crate::service::{
    Forward, Orphans, RealId, RealRecord, RealServer, RealShared, Serve, ServiceId, Services,
    Standing, VirtualService,
};
use crate::steering;
use crate::verdict::{DropReason, PortId, PuntClass, Verdict, WorkerId};
use arrayvec::ArrayVec;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Servers that may be passed over for one connection because their reply key is taken.
const MAX_EXCLUDED: usize = 16;

/// What to do with a packet of a known connection.
pub(super) enum Known {
    /// Forward it.
    Forward,
    /// The connection has ended: treat the packet as one of no connection.
    Over,
    /// This verdict.
    Decided(Verdict),
    /// Tell the client that its connection is gone.
    Reset,
}

/// The first packet of a connection to be.
pub(super) struct FirstPacket<'a, A> {
    pub(super) headers: &'a Headers,
    pub(super) flow: &'a Flow<A>,
    /// `None` = no packet of the flow itself: an ICMP error about it.
    pub(super) signal: Option<Signal>,
}

/// The server a connection is to be made to.
pub(super) struct Target<'a> {
    pub(super) service: ServiceId,
    pub(super) real: RealId,
    pub(super) address: IpAddr,
    /// 0 = the client's.
    pub(super) port: u16,
    pub(super) forward: Forward,
    pub(super) shared: &'a RealShared,
    /// Upper and lower.
    pub(super) thresholds: (u32, u32),
    /// Generation of the template it is under.
    pub(super) control: Option<u8>,
}

impl Target<'_> {
    /// What never changes of a connection of `tuple`.
    pub(super) fn binding<A: Address>(
        &self,
        tuple: &FiveTuple<A>,
    ) -> Result<Binding<A>, DropReason> {
        // A tunnel may lead to the other family; its other end is then in the server's record
        // only, and the connection holds nothing that looks like one.
        let address = match (A::from_ip(self.address), self.forward) {
            (Some(address), _) => address,
            (None, Forward::Tunnel(_)) => A::UNSPECIFIED,
            (None, _) => return Err(DropReason::NotSupported),
        };
        // DR cannot map ports, and a port-0 service keeps the client's.
        let keeps_port = !self.forward.sees_replies() || self.port == 0;
        let port = if keeps_port {
            tuple.destination.port
        } else {
            self.port
        };
        Ok(Binding {
            protocol: tuple.protocol,
            client: tuple.source,
            vip: tuple.destination,
            local: tuple.source,
            destination: Endpoint::new(address, port),
            real: self.real,
            service: self.service,
            forward: self.forward,
        })
    }
}

/// Whose packet it is.
pub(super) struct Flow<A> {
    pub(super) tuple: FiveTuple<A>,
    /// Of the tuple.
    pub(super) hash: u64,
    /// The connection, and which way the packet travels.
    pub(super) found: Option<(Slot, Direction)>,
}

impl<A: Address> Flow<A> {
    /// Looks for the connection of `tuple`.
    pub(super) fn find(table: &Table<A>, tuple: FiveTuple<A>) -> Self {
        let hash = table.hash(&tuple);
        Self {
            tuple,
            hash,
            found: table.lookup_hashed(hash, &tuple),
        }
    }
}

impl Context<'_> {
    /// A packet with ports.
    #[inline]
    pub(super) fn flow<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let mut replaced = None;
        if let Some((slot, direction)) = flow.found {
            // Linux looks at a reply's hops before IPVS sees it: one that ends here changes nothing.
            if direction == Direction::Output && headers.ttl <= 1 {
                return self.forward(table.get(slot), direction, packet, headers, spare);
            }
            match self.known(table, slot, direction, packet.data(), headers) {
                Known::Forward => {
                    return self.deliver(table.get(slot), direction, packet, headers, spare);
                }
                Known::Over if self.is_over(table.get(slot)) => self.end(table, slot),
                Known::Over => {
                    let old = table.remove(slot);
                    // Its name may be the new one's in a moment.
                    self.state.disown(self.services, &old);
                    replaced = Some(old);
                }
                Known::Decided(verdict) => return verdict,
                Known::Reset => {
                    self.end(table, slot);
                    return self.reset(packet, headers);
                }
            }
        }
        if self.state.workers > 1
            && self.pass == Pass::First
            && let Some(owner) = self.owner(PortId(packet.port() as u8), &flow.tuple)
            && owner != self.state.worker
        {
            if let Some(old) = replaced {
                self.state.discount(self.services, &old);
            }
            return Verdict::Redirect(owner);
        }
        let verdict = self.unknown(table, packet, headers, flow, spare);
        // The kernel's timers collect the old connection, so it still counts while the server of the
        // new one is chosen.
        if let Some(old) = replaced {
            self.state.discount(self.services, &old);
        }
        verdict
    }

    /// The worker that must have a connection of this tuple, if it is not whoever receives it
    /// (DESIGN §5, rules 2 and 3).
    pub(super) fn owner<A: Address>(&self, port: PortId, tuple: &FiveTuple<A>) -> Option<WorkerId> {
        if let Some(client) = self.data_client(tuple) {
            return Some(steering::owner(client, self.state.workers));
        }
        let (source, destination) = (tuple.source, tuple.destination);
        let services = self.services;
        let (client, vip) = (source.address.into(), destination.address.into());
        if let Some(service) = services.find(tuple.protocol, client, vip, destination.port)
            && self.is_served(service, vip)
        {
            let few_queues = self
                .forwarding
                .port(port)
                .is_some_and(|port| port.queues < u16::from(self.state.workers));
            let owner = || steering::owner(source, self.state.workers);
            if service.ever_translated || few_queues {
                return Some(owner());
            }
            if !service.shared.is_dealt(tuple.protocol, self.now) {
                return None;
            }
            let owner = owner();
            if owner != self.state.worker {
                // It may have a connection that was made under this rule.
                let timeouts = &services.timeouts;
                service.shared.deal(tuple.protocol, self.now, timeouts);
            }
            return Some(owner);
        }
        services
            .is_real(tuple.protocol, source.address.into(), source.port)
            .then(|| steering::owner(destination, self.state.workers))
    }

    /// True if the service is served here at `vip`, the destination of a packet.
    pub(super) fn is_served(&self, service: &VirtualService, vip: IpAddr) -> bool {
        service.serve == Serve::Always || self.forwarding.serves(vip)
    }

    /// Applies the rules for packets of known connections and accounts for the packet.
    #[inline]
    pub(super) fn known<A: Address>(
        &mut self,
        table: &mut Table<A>,
        slot: Slot,
        direction: Direction,
        frame: &[u8],
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
        if self.is_over(connection) {
            self.count(Event::ConnectionsExpired);
            return Known::Over;
        }
        let signal = match signal(frame, headers) {
            Ok(signal) => signal,
            Err(reason) => return Known::Decided(Verdict::Drop(reason)),
        };
        let opening = is_opening(signal);
        if opening && helper::is_succeeded(self.services, connection) {
            return Known::Over;
        }
        if opening && direction == Direction::Input {
            let ipvs = &self.services.ipvs;
            // Who is under a template or another connection stays with its server, and who has
            // others under itself.
            if connection.control().is_none()
                && !connection.is_expected()
                && may_be_reused(connection, ipvs.conn_reuse_mode)
                && !helper::is_needed(self.services, connection)
            {
                return Known::Over;
            }
            if ipvs.expire_nodest_conn && real.standing == Standing::Listed && real.weight == 0 {
                return Known::Over;
            }
        }
        if let Standing::Gone(orphans) = real.standing {
            match (orphans, direction) {
                // A removed server gets no new flows, also not one on the ports of an old one.
                (Orphans::Keep, Direction::Input) if opening && is_closing(connection.state()) => {
                    return Known::Over;
                }
                (Orphans::Keep, _) => {}
                (Orphans::Reschedule, Direction::Input) => return Known::Over,
                // A datagram may always be a first one, and cannot be answered by a reset.
                (Orphans::Expire | Orphans::Reset, Direction::Input)
                    if opening || binding.protocol == Protocol::Udp =>
                {
                    return Known::Over;
                }
                (Orphans::Reset, Direction::Input) if binding.protocol == Protocol::Tcp => {
                    return Known::Reset;
                }
                // The kernel's switch is about client packets; replies it lets pass.
                (Orphans::Reschedule | Orphans::Silent, Direction::Output) => {}
                (
                    Orphans::Expire | Orphans::Reset | Orphans::Silent,
                    Direction::Input | Direction::Output,
                ) => return Known::Decided(Verdict::Drop(DropReason::ServerGone)),
            }
        }
        self.count(Event::ConnectionHits);
        account(
            real.shared.cell(self.state.worker),
            direction,
            headers.ip_length() as u64,
        );
        self.account_state(table, slot, direction, signal, real);
        Known::Forward
    }

    /// Takes a packet of a connection into account, in its server's counts too.
    #[inline]
    pub(super) fn account_state<A: Address>(
        &self,
        table: &mut Table<A>,
        slot: Slot,
        direction: Direction,
        signal: Signal,
        real: &RealRecord,
    ) {
        let unassured = table.get(slot).is_unassured();
        let transition = table.on_packet(
            slot,
            direction,
            signal,
            self.now,
            &self.services.timeouts,
            self.state.defence.tcp_table(A::FAMILY),
        );
        match transition {
            Transition::None => {}
            Transition::BecameActive => real.shared.counts(self.state.worker).turn(true),
            Transition::BecameInactive => real.shared.counts(self.state.worker).turn(false),
        }
        let connection = table.get(slot);
        if unassured && !connection.is_unassured() {
            self.state.assure(self.services, connection);
        }
        helper::note_closing(self.services, connection);
    }

    pub(super) fn end<A: Address>(&mut self, table: &mut Table<A>, slot: Slot) {
        let connection = table.remove(slot);
        self.state.unbind(self.services, &connection);
    }

    /// A packet with ports that belongs to no connection.
    fn unknown<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        flow: &Flow<A>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        // A datagram that had to wait was counted, and has passed the defences, before.
        let again = self.chosen(packet).is_some();
        if !again {
            self.count(Event::ConnectionMisses);
        }
        let tuple = &flow.tuple;
        if let Some(verdict) = self.claim_expected(table, packet, headers, tuple, spare) {
            return verdict;
        }
        let vip = tuple.destination.address.into();
        let services = self.services;
        let client = tuple.source.address.into();
        let port = tuple.destination.port;
        let Some(service) = services.find(tuple.protocol, client, vip, port) else {
            if let Some(verdict) = self.spoken(table, packet, headers, flow, spare) {
                return verdict;
            }
            if services.ipvs.nat_icmp_send
                && let Some(verdict) = self.refuse_stray_reply(packet, headers, tuple)
            {
                return verdict;
            }
            return self.not_ours(packet, headers, vip, spare);
        };
        // Nobody else may speak for one of our addresses; a connection from one would loop.
        if self.forwarding.is_local(client) {
            return Verdict::Drop(DropReason::MartianSource);
        }
        if !self.is_served(service, vip) {
            // A mark's prefixes and ports also fit what only passes through this box.
            return self.not_ours(packet, headers, vip, spare);
        }
        if again
            && let Some(verdict) = self.without_entry_again(service, packet, headers, tuple, spare)
        {
            return verdict;
        }
        let signal = match signal(packet.data(), headers) {
            Ok(signal) => signal,
            Err(reason) => return Verdict::Drop(reason),
        };
        let begins = match signal {
            Signal::Tcp(flags) => {
                (is_opening(signal) || services.ipvs.sloppy_tcp) && flags & tcp::RST == 0
            }
            Signal::Udp => true,
            Signal::Sctp(_) => is_opening(signal) || services.ipvs.sloppy_sctp,
        };
        // Whoever sends from FTP's data port would be the server's end of active FTP. What an FTP
        // service does not take, its host may: other services are on such ports too.
        let taken = tuple.source.port != DATA_PORT && service.takes(port);
        let mut schedulable = taken && begins;
        if taken && !begins && self.may_have_begun_without_entry(A::FAMILY) {
            let ends = is_ending(signal);
            schedulable = !ends && !table.is_full() && self.can_have_entry(service, tuple);
            if !schedulable
                && let Some(verdict) = self.without_entry(service, packet, headers, tuple, spare)
            {
                if table.is_full() && !ends {
                    self.expect_more_without_entry(tuple);
                }
                return verdict;
            }
        }
        if !schedulable {
            let bypass = self.bypass(service, packet, headers, vip, spare);
            return bypass.unwrap_or_else(|| self.to_stack(packet, headers));
        }
        if begins && !again && self.state.defence.drops_packet(A::FAMILY) {
            return Verdict::Drop(DropReason::DropPacket);
        }
        if service.one_packet && signal == Signal::Udp {
            return self.one_packet(service, packet, headers, flow, spare);
        }
        match self.schedule(table, service, packet.data(), headers, flow, Some(signal)) {
            Ok(slot) => {
                self.count(Event::ConnectionsCreated);
                let (worker, workers) = (self.state.worker, self.state.workers);
                if workers > 1 {
                    let owned = || steering::owner(tuple.source, workers) == worker;
                    service.shared.made(owned);
                }
                self.attach(table, slot);
                self.deliver(table.get(slot), Direction::Input, packet, headers, spare)
            }
            Err(DropReason::NoServer) => {
                if let Some(verdict) = self.bypass(service, packet, headers, vip, spare) {
                    return verdict;
                }
                if service.is_data(port) {
                    return self.to_stack(packet, headers);
                }
                service.shared.unserved(self.state.worker).add(1);
                self.no_server(service, packet, headers)
            }
            Err(DropReason::TableFull) => {
                match self.without_entry(service, packet, headers, tuple, spare) {
                    Some(verdict) => {
                        self.expect_more_without_entry(tuple);
                        verdict
                    }
                    None => Verdict::Drop(DropReason::TableFull),
                }
            }
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// Chooses a server and makes the connection, accounted for its first packet.
    pub(super) fn schedule<A: Address>(
        &mut self,
        table: &mut Table<A>,
        service: &VirtualService,
        frame: &[u8],
        headers: &Headers,
        flow: &Flow<A>,
        signal: Option<Signal>,
    ) -> Result<Slot, DropReason> {
        if let Some(persistence) = service.persistence {
            let first = FirstPacket {
                headers,
                flow,
                signal,
            };
            return self.schedule_persistent(table, service, persistence, frame, &first);
        }
        let mut excluded = ArrayVec::<RealId, MAX_EXCLUDED>::new();
        loop {
            let none_left = if excluded.is_empty() {
                DropReason::NoServer
            } else {
                DropReason::ReplyKeyInUse
            };
            let server = self
                .pick(service, &flow.tuple, &excluded)
                .ok_or(none_left)?;
            let target = Target {
                service: service.id,
                real: server.id,
                address: server.address,
                port: server.port,
                forward: server.forward,
                shared: &server.shared,
                thresholds: (server.upper_threshold, server.lower_threshold),
                control: None,
            };
            let first = FirstPacket {
                headers,
                flow,
                signal,
            };
            match self.connect(table, &target, &first) {
                Err(DropReason::ReplyKeyInUse) => {
                    if excluded.try_push(server.id).is_err() {
                        return Err(DropReason::ReplyKeyInUse);
                    }
                }
                result => return result,
            }
        }
    }

    /// The scheduler's choice for a flow, none of the `excluded`.
    pub(super) fn pick<'s, A: Address>(
        &self,
        service: &'s VirtualService,
        tuple: &FiveTuple<A>,
        excluded: &[RealId],
    ) -> Option<&'s RealServer> {
        let request = Request {
            list: &service.list,
            cell: service.shared.scheduler(self.state.worker),
            worker: self.state.worker,
            workers: self.state.workers,
            source: (tuple.source.address.fold(), tuple.source.port),
            destination: (tuple.destination.address.fold(), tuple.destination.port),
            excluded,
            flags: service.scheduler_flags,
            address: tuple.destination.address.into(),
            localities: service.shared.localities(),
            now: self.now,
        };
        let index = service.scheduler.pick(&request)?;
        service.list.servers.get(index)
    }

    /// Makes the connection of a flow to `target`, accounted for its first packet.
    ///
    /// # Errors
    /// `ReplyKeyInUse` if a live connection has its reply key: another server may do.
    pub(super) fn connect<A: Address>(
        &mut self,
        table: &mut Table<A>,
        target: &Target<'_>,
        first: &FirstPacket<'_, A>,
    ) -> Result<Slot, DropReason> {
        let FirstPacket {
            headers,
            flow,
            signal,
        } = *first;
        let binding = target.binding(&flow.tuple)?;
        let mut connection = Connection::new(binding, self.now);
        if let Some(generation) = target.control {
            connection = connection.controlled(generation);
        }
        let transition = match signal {
            Some(signal) => connection.on_packet(
                Direction::Input,
                signal,
                self.now,
                &self.services.timeouts,
                self.state.defence.tcp_table(A::FAMILY),
            ),
            None => Transition::None,
        };
        let slot = match self.insert(table, flow.hash, connection) {
            Ok(slot) => slot,
            Err(InsertError::ReplyKeyInUse(holder)) if table.get(holder).is_expired(self.now) => {
                // Dead, only not collected yet: out of the way, and the same server again.
                self.count(Event::ConnectionsExpired);
                self.end(table, holder);
                let again = self.insert(table, flow.hash, connection);
                again.map_err(|_| DropReason::TableFull)?
            }
            Err(InsertError::ReplyKeyInUse(_)) => return Err(DropReason::ReplyKeyInUse),
            Err(InsertError::Full) => return Err(DropReason::TableFull),
        };
        let cell = target.shared.cell(self.state.worker);
        cell.connections.add(1);
        cell.in_packets.add(1);
        cell.in_bytes.add(headers.ip_length() as u64);
        let active = transition == Transition::BecameActive;
        target.shared.counts(self.state.worker).bind(active);
        let (upper, lower) = target.thresholds;
        target.shared.evaluate_overload(upper, lower);
        Ok(slot)
    }

    /// Inserts a connection whose key hashes to `hash`, making room by eviction if need be.
    pub(super) fn insert<A: Address>(
        &mut self,
        table: &mut Table<A>,
        hash: u64,
        connection: Connection<A>,
    ) -> Result<Slot, InsertError> {
        match table.insert_hashed(hash, connection, self.now) {
            Err(InsertError::Full) => {
                let evicted = table.evict_one(self.now).ok_or(InsertError::Full)?;
                self.count(match evicted.why {
                    Eviction::Expired => Event::ConnectionsExpired,
                    Eviction::Embryonic | Eviction::Closing | Eviction::Idle => {
                        Event::ConnectionsEvicted
                    }
                });
                self.state.unbind(self.services, &evicted.connection);
                table.insert_hashed(hash, connection, self.now)
            }
            result => result,
        }
    }

    /// Packets without ports: ICMP, later fragments, other protocols.
    pub(super) fn not_balanced<P: PacketBuffer>(
        &mut self,
        v4: &mut Table<Ipv4Addr>,
        v6: &mut Table<Ipv6Addr>,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        if let Some(verdict) = self.tunnel_error(v4, v6, packet, headers) {
            return verdict;
        }
        self.passing(packet, headers, spare)
    }

    /// A packet that is of no service and tells nothing about one.
    pub(super) fn passing<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let Some(destination) = headers.destination_ip(packet.data()) else {
            return Verdict::Drop(DropReason::Truncated);
        };
        self.not_ours(packet, headers, destination, spare)
    }

    /// Unicast that no connection and no service claims.
    fn not_ours<P: PacketBuffer>(
        &mut self,
        packet: &mut P,
        headers: &Headers,
        destination: IpAddr,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        if self.forwarding.is_local(destination) {
            return self.to_stack(packet, headers);
        }
        // Somebody else has it now, or it is between two boxes: never back to the LAN.
        if self.services.is_vip(destination) || self.forwarding.is_virtual(destination) {
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
    /// A connection has ended.
    pub(super) fn unbind<A: Address>(&mut self, services: &Services, connection: &Connection<A>) {
        self.disown(services, connection);
        self.discount(services, connection);
    }

    /// Takes an ended connection's name out of everything that knows it by its name.
    pub(super) fn disown<A: Address>(&mut self, services: &Services, connection: &Connection<A>) {
        self.detach(services, connection);
        self.leave_template(services, connection);
    }

    /// Takes an ended connection out of its server's counts.
    pub(super) fn discount<A: Address>(&mut self, services: &Services, connection: &Connection<A>) {
        // Control keeps the record of a server until no worker has connections of it.
        let Some(real) = services.real(connection.binding().real) else {
            return;
        };
        let counts = real.shared.counts(self.worker);
        counts.unbind(connection.is_active());
        real.evaluate_overload();
    }
}

/// `conn_reuse_mode` (spec 3.6): any but 0 gives up connections that are over, bit 1 also
/// half-closed ones whose replies we do not see.
fn may_be_reused<A: Address>(connection: &Connection<A>, mode: u8) -> bool {
    match connection.state() {
        State::Tcp(TcpState::TimeWait | TcpState::Close) | State::Sctp(SctpState::Closed) => {
            mode != 0
        }
        State::Tcp(TcpState::FinWait) => mode & 2 != 0 && connection.is_no_output(),
        _ => false,
    }
}

/// The connection is over or about to be: a SYN or INIT on it can only ask for a new one.
fn is_closing(state: State) -> bool {
    matches!(
        state,
        State::Tcp(
            TcpState::FinWait
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck
        ) | State::Sctp(
            SctpState::ShutdownSent
                | SctpState::ShutdownReceived
                | SctpState::ShutdownAckSent
                | SctpState::Rejected
                | SctpState::Closed
        )
    )
}
