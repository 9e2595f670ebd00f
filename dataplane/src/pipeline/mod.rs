//! The packet walk of a worker (DESIGN §3), free of any device: packets in, verdicts out.
//!
//! [`Pipeline::process`] takes a burst through its stages: read and hash all plain packets (the
//! table's lines are prefetched on the way), then look up, account, rewrite each, leaving one
//! [`Verdict`] per packet. Packets of connections that go on take the short way (`established`), all
//! others the general one. Packets of our own making (fragments) come out through [`Spare`]. The caller moves the
//! packets. Nothing here blocks, and what happens to every packet neither locks nor allocates. When a
//! connection is made, established or ended, a small sharded lock may be taken for a few look-ups:
//! that of the client's persistence template, of lblc's and lblcr's destinations, of announced FTP
//! connections; a new SIP call's name is copied ([`crate::template`]).
//!
//! Accounting happens exactly once per packet: a packet that had to wait for a neighbour comes
//! back as [`Pass::Retry`] and is only forwarded then.

mod admit;
mod bypass;
mod defence;
mod established;
mod flow;
mod flush;
mod forward;
mod fragments;
mod helper;
mod limiter;
mod listing;
mod local;
mod one_packet;
mod path_mtu;
mod persist;
mod related;
mod reply;
mod search;
mod signal;
mod stateless;
mod stray;
mod tunnel;
mod tunnel_error;
mod waiting;
mod ways;
pub mod world;

#[cfg(test)]
mod tests;

pub use local::FROM_STACK;
pub use waiting::{Outcome, WaitingRoom};

use crate::address::{Address, Family};
use crate::buffer::PacketBuffer;
use crate::connection::{Candidate, Connection, Direction, Millis, Slot, Table, TableMemory};
use crate::counters::{Event, WorkerCounters};
use crate::epoch::Reader;
use crate::forwarding::Forwarding;
use crate::fragment_table::{Seat, Seats};
use crate::packet::{Fragment, Plain, quoted};
use crate::service::{RealCell, Services};
use crate::steering::Errand;
use crate::template::{Calls, Templates};
use crate::verdict::{DropReason, Neighbour, PortId, Verdict, WorkerId};
use arrayvec::ArrayVec;
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use defence::Defence;
use flow::Flow;
use flush::Flush;
use fragments::{Forwarded, Fragments};
use helper::Controls;
use limiter::{PuntPolice, TokenBucket};
use listing::Listing;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tunnel::Tunnels;
use ways::Ways;

/// Largest burst [`Pipeline::process`] takes.
pub const BURST: usize = 32;
/// Timer entries, job entries handled per loop.
const PER_LOOP: usize = 64;

/// Whether a packet is seen for the first time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pass {
    /// Fresh from a device.
    First,
    /// Handed over by another worker: this one owns it and hands it to nobody.
    Redirected,
    /// A fragment that was held until the first of its datagram came.
    Held,
    /// Back from the waiting room: already accounted.
    Retry(Outcome),
}

/// Where packets of our own making come from and go to.
pub trait Spare<P> {
    /// An empty packet buffer.
    fn allocate(&mut self) -> Option<P>;
    /// Sends a packet made here on `port`, after the burst it came from: a first fragment, which
    /// has the ports, then goes before the later ones.
    fn send(&mut self, port: PortId, packet: P);
}

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Parts {
    /// Which worker this is.
    pub worker: WorkerId,
    /// How many there are.
    pub workers: u8,
    /// Reader of the services snapshot.
    pub services: Reader<Services>,
    /// Reader of the forwarding snapshot.
    pub forwarding: Reader<Forwarding>,
    /// This worker's counters.
    pub counters: Arc<CachePadded<WorkerCounters>>,
    /// Neighbours control should have resolved.
    pub asks: Arc<ArrayQueue<Neighbour>>,
    /// Persistence templates, the box's.
    pub templates: Arc<Templates>,
    /// Connections the IPv4 table holds.
    pub connections_v4: usize,
    /// Connections the IPv6 table holds.
    pub connections_v6: usize,
    /// What the tables lie in. They are touched here, so call this on the CPU of the worker: the
    /// memory is then of its NUMA node.
    pub table_memory: TableMemory,
}

/// One worker's pipeline: its tables, its limits, its view of the snapshots.
#[derive(Debug)]
pub struct Pipeline {
    services: Reader<Services>,
    forwarding: Reader<Forwarding>,
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
    fragments_v4: Fragments<Ipv4Addr>,
    fragments_v6: Fragments<Ipv6Addr>,
    state: WorkerState,
    flush: Flush,
    job: Option<Listing>,
    /// When the timers were last looked at.
    maintained: Millis,
    /// Not all that were due were handled.
    behind: bool,
}

/// What the stages share besides tables and snapshots.
#[derive(Debug)]
struct WorkerState {
    worker: WorkerId,
    workers: u8,
    counters: Arc<CachePadded<WorkerCounters>>,
    asks: Arc<ArrayQueue<Neighbour>>,
    templates: Arc<Templates>,
    /// Templates of connections where a persistence engine made the key.
    calls: Calls,
    /// Room in both tables.
    connections: usize,
    /// Where the sweep of this worker's share of the templates is.
    swept: u32,
    /// The defence `drop_entry` takes part in this round of it.
    sweep_drops: bool,
    /// The clock of the caller.
    now: Millis,
    icmp: TokenBucket,
    ask: TokenBucket,
    punts: PuntPolice,
    ways: Ways,
    defence: Defence,
    tunnels: Tunnels,
    controls: Controls,
    /// How fast packets may be sent to look for their connection.
    searches: TokenBucket,
    /// What goes with the next verdict to redirect or to wait.
    errand: Errand,
    /// Fragments that wait for the first of their datagram.
    seats: Seats,
    /// Of the first fragment in hand.
    forwarded: Forwarded,
    /// By family: until when a packet of no connection may be of a flow that was forwarded without an entry.
    without_entry_until: [Millis; 2],
    /// Tests compare the short way with the general one, and see which was taken.
    short_way: bool,
    #[cfg(test)]
    general_packets: u64,
}

/// Everything a stage reads while it handles one packet.
struct Context<'a> {
    services: &'a Services,
    forwarding: &'a Forwarding,
    state: &'a mut WorkerState,
    now: Millis,
    pass: Pass,
}

/// A plain packet between the stages.
#[derive(Clone, Copy)]
struct Staged<A> {
    plain: Plain<A>,
    hash: u64,
    /// The entry it probably belongs to.
    candidate: Candidate,
}

/// Where the packet of a burst is staged.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    /// Nowhere: whatever it is, the general way finds out.
    General,
    V4,
    V6,
}

/// Bytes of memory a worker's pipeline takes besides the connection tables, at most: what it knows of
/// fragments and of FTP control connections.
pub const fn bytes_besides_tables() -> usize {
    Fragments::<Ipv4Addr>::bytes() + Fragments::<Ipv6Addr>::bytes() + Controls::BYTES
}

impl Pipeline {
    /// Allocates the tables.
    pub fn new(parts: Parts) -> Self {
        let mut pipeline = Self {
            services: parts.services,
            forwarding: parts.forwarding,
            v4: Table::new(parts.connections_v4, parts.table_memory),
            v6: Table::new(parts.connections_v6, parts.table_memory),
            fragments_v4: Fragments::new(),
            fragments_v6: Fragments::new(),
            state: WorkerState {
                worker: parts.worker,
                workers: parts.workers,
                counters: parts.counters,
                asks: parts.asks,
                templates: parts.templates,
                calls: Calls::default(),
                connections: parts.connections_v4 + parts.connections_v6,
                swept: 0,
                sweep_drops: false,
                now: Millis(0),
                icmp: TokenBucket::new(limiter::ICMP_ERRORS_PER_SECOND),
                ask: TokenBucket::new(limiter::ASKS_PER_SECOND),
                punts: PuntPolice::new(),
                ways: Ways::new(),
                defence: Defence::default(),
                tunnels: Tunnels::new(parts.worker, parts.workers),
                controls: Controls::new(),
                searches: TokenBucket::new(limiter::SEARCHES_PER_SECOND),
                errand: Errand::Own,
                seats: Seats::new(fragments::seats(parts.workers)),
                forwarded: Forwarded::default(),
                without_entry_until: [Millis(0); 2],
                short_way: true,
                #[cfg(test)]
                general_packets: 0,
            },
            flush: Flush::default(),
            job: None,
            maintained: Millis(0),
            behind: true,
        };
        pipeline.state.prepare_calls(&pipeline.services);
        pipeline
    }

    /// Takes the newest snapshots. Once per burst, before it; true if forwarding changed, so that
    /// the waiting room is worth a look.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        let services = self.services.refresh();
        let forwarding = self.forwarding.refresh();
        if services {
            self.state.prepare_calls(&self.services);
            self.flush.note(&self.state, &self.services);
        }
        // Also with new services: the number of a server long gone may be another's now.
        if services || forwarding {
            self.state.ways.forget();
            self.state.tunnels.forget();
        }
        forwarding
    }

    /// Decides on a burst of at most [`BURST`] packets and rewrites those that are sent.
    ///
    /// `verdicts[i]` is about `packets[i]`. Drops are counted here already; what becomes of the
    /// others the caller counts, who knows whether its ring or device took the packet.
    pub fn process<P: PacketBuffer>(
        &mut self,
        packets: &mut [P],
        verdicts: &mut [Verdict],
        now: Millis,
        pass: Pass,
        spare: &mut impl Spare<P>,
    ) {
        for (packets, verdicts) in packets.chunks_mut(BURST).zip(verdicts.chunks_mut(BURST)) {
            self.burst(packets, verdicts, now, pass, spare);
        }
    }

    fn burst<P: PacketBuffer>(
        &mut self,
        packets: &mut [P],
        verdicts: &mut [Verdict],
        now: Millis,
        pass: Pass,
        spare: &mut impl Spare<P>,
    ) {
        self.state.now = now;
        let mut context = Context {
            services: &self.services,
            forwarding: &self.forwarding,
            state: &mut self.state,
            now,
            pass,
        };
        let mut kinds = [Kind::General; BURST];
        let mut v4 = ArrayVec::<Staged<Ipv4Addr>, BURST>::new();
        let mut v6 = ArrayVec::<Staged<Ipv6Addr>, BURST>::new();
        for (packet, kind) in packets.iter().zip(&mut kinds) {
            if !context.is_for_us_untagged(packet) {
                continue;
            }
            if let Some(staged) = Staged::read(packet, &self.v4) {
                v4.push(staged);
                *kind = Kind::V4;
            } else if let Some(staged) = Staged::read(packet, &self.v6) {
                v6.push(staged);
                *kind = Kind::V6;
            }
        }
        find_candidates(&mut v4, &self.v4);
        find_candidates(&mut v6, &self.v6);
        let mut v4 = v4.iter();
        let mut v6 = v6.iter();
        // By reference: a copy of bytes that were written one by one a moment ago waits for all of them.
        for ((packet, kind), verdict) in packets.iter_mut().zip(&kinds).zip(verdicts) {
            if *kind == Kind::V4
                && let Some(staged) = v4.next()
            {
                context.plain(&mut self.v4, packet, staged, spare, verdict);
            } else if *kind == Kind::V6
                && let Some(staged) = v6.next()
            {
                context.plain(&mut self.v6, packet, staged, spare, verdict);
            } else {
                let v4 = (&mut self.v4, &mut self.fragments_v4);
                let v6 = (&mut self.v6, &mut self.fragments_v6);
                *verdict = context.general(v4, v6, packet, spare);
            }
        }
    }

    /// Expires due connections, and those of removed servers that are to end, a few per call. Call once
    /// per loop, also without traffic.
    pub fn maintain(&mut self, now: Millis) {
        // The clock ticks once in thousands of loops.
        if now != self.maintained {
            self.maintained = now;
            self.behind = true;
            self.state.now = now;
            self.state.sweep(&self.services);
            self.state.sweep_expected(&self.services, now);
            self.judge(now);
            let seats = &mut self.state.seats;
            self.fragments_v4.expire(seats, now, PER_LOOP);
            self.fragments_v6.expire(seats, now, PER_LOOP);
        }
        let Self {
            services,
            v4,
            v6,
            state,
            flush,
            ..
        } = self;
        if state.defence.walks() {
            state.drop_entries(services, v4, v6, now);
        }
        flush.step(state, services, v4, v6);
        if self.behind {
            self.behind = self.expire(now);
        }
        let counters = &self.state.counters;
        counters.connections_v4.set(self.v4.len() as u64);
        counters.connections_v6.set(self.v6.len() as u64);
    }

    /// Decides which defences are in effect.
    fn judge(&mut self, now: Millis) {
        let state = &mut self.state;
        let settings = &self.services.ipvs.defences;
        let (v4, v6, workers) = (&self.v4, &self.v6, state.workers);
        if let Some(in_effect) = state.defence.judge(settings, v4, v6, workers, now) {
            state.counters.defence.set(in_effect);
        }
    }

    /// Expires a few due connections; true if there may be more.
    fn expire(&mut self, now: Millis) -> bool {
        let Self {
            services,
            v4,
            v6,
            state,
            ..
        } = self;
        let (expired_v4, looked_at_v4) = expire_table(v4, state, services, now);
        let (expired_v6, looked_at_v6) = expire_table(v6, state, services, now);
        let expired = expired_v4 + expired_v6;
        if expired > 0 {
            let counters = &state.counters;
            counters.event(Event::ConnectionsExpired).add(expired);
        }
        looked_at_v4.max(looked_at_v6) == PER_LOOP
    }

    /// Seats for fragments that [`Verdict::Hold`] names: `0 ..` this.
    pub fn fragment_seats(&self) -> usize {
        self.state.seats.count()
    }

    /// The seat of the next fragment that has waited long enough because the first of its datagram has
    /// come. To be asked after every burst: what is in these seats must be processed, in this order, with
    /// [`Pass::Held`], before anything else is.
    #[inline]
    pub fn next_released(&mut self) -> Option<Seat> {
        if !self.state.seats.has_released() {
            return None;
        }
        self.state.seats.next_released()
    }

    /// The seat of the next fragment that has waited in vain: it is to be freed. Why is counted here.
    #[inline]
    pub fn next_discarded(&mut self) -> Option<(Seat, DropReason)> {
        if !self.state.seats.has_discarded() {
            return None;
        }
        let (seat, reason) = self.state.seats.next_discarded()?;
        self.state.counters.dropped(reason).add(1);
        Some((seat, reason))
    }

    /// Whose pipeline it is.
    pub fn worker(&self) -> WorkerId {
        self.state.worker
    }

    /// Connections in both tables.
    pub fn connections(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The forwarding snapshot in hand.
    pub fn forwarding(&self) -> &Forwarding {
        &self.forwarding
    }

    /// The services snapshot in hand.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// This worker's counters.
    pub fn counters(&self) -> &WorkerCounters {
        &self.state.counters
    }
}

impl<A: Address> Staged<A> {
    /// Reads a plain packet, hashes its tuple and asks for the line of the table it leads to.
    #[inline(always)]
    fn read<P: PacketBuffer>(packet: &P, table: &Table<A>) -> Option<Self> {
        let plain = Plain::read(packet.data())?;
        let hash = table.hash(&plain.tuple);
        table.prefetch(hash);
        Some(Self {
            plain,
            hash,
            candidate: Candidate::NONE,
        })
    }
}

/// Counts a packet of a known connection for its server.
#[inline(always)]
fn account(cell: &RealCell, direction: Direction, bytes: u64) {
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
}

/// Looks for the entries of a burst, and asks for their lines.
#[inline(always)]
fn find_candidates<A: Address>(burst: &mut [Staged<A>], table: &Table<A>) {
    for staged in burst {
        staged.candidate = table.candidate(staged.hash);
    }
}

/// Expires a few due connections of one table. How many, and how many timers were looked at.
fn expire_table<A: Address>(
    table: &mut Table<A>,
    state: &mut WorkerState,
    services: &Services,
    now: Millis,
) -> (u64, usize) {
    let mut expired = 0;
    let mut needed = ArrayVec::<Connection<A>, PER_LOOP>::new();
    let looked_at = table.expire(now, PER_LOOP, |connection| {
        if helper::is_needed(services, &connection) {
            needed.push(connection);
            return;
        }
        expired += 1;
        state.unbind(services, &connection);
    });
    for connection in needed {
        // Its place has just become free.
        let _ = table.insert(helper::kept(connection), now);
    }
    (expired, looked_at)
}

impl Context<'_> {
    /// The way of a plain packet: the short one, or the part of the general one that begins at its
    /// flow.
    #[inline(always)]
    fn plain<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        staged: &Staged<A>,
        spare: &mut impl Spare<P>,
        verdict: &mut Verdict,
    ) {
        let plain = &staged.plain;
        let found = match table.confirm(staged.candidate, &plain.tuple) {
            Some(found) => Some(found),
            // Rare: it lives beyond its bucket, or another one there has the same tag.
            None => table.lookup_hashed(staged.hash, &plain.tuple),
        };
        let short = found
            .and_then(|(slot, direction)| self.established(table, packet, plain, slot, direction));
        // Written in its place: a verdict that is passed on is copied byte by byte.
        match short {
            Some(Ok(port)) => *verdict = Verdict::Tx(port),
            Some(Err(reason)) => *verdict = Verdict::Drop(reason),
            None => *verdict = self.plain_flow(table, packet, staged, found, spare),
        }
    }

    /// The general way of a plain packet, which needs no parsing.
    #[inline(never)]
    fn plain_flow<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        staged: &Staged<A>,
        found: Option<(Slot, Direction)>,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        #[cfg(test)]
        {
            self.state.general_packets += 1;
        }
        let plain = &staged.plain;
        let verdict = match plain.headers() {
            Err(reason) => Verdict::Drop(reason),
            Ok(headers) => {
                packet.truncate(plain.end());
                let flow = Flow {
                    tuple: plain.tuple,
                    hash: staged.hash,
                    found,
                };
                self.flow(table, packet, &headers, &flow, spare)
            }
        };
        self.settle(packet, verdict)
    }

    /// The general way of a packet, from its first byte on.
    #[inline(never)]
    fn general<P: PacketBuffer>(
        &mut self,
        (v4, fragments_v4): (&mut Table<Ipv4Addr>, &mut Fragments<Ipv4Addr>),
        (v6, fragments_v6): (&mut Table<Ipv6Addr>, &mut Fragments<Ipv6Addr>),
        packet: &mut P,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        #[cfg(test)]
        {
            self.state.general_packets += 1;
        }
        if packet.port() & FROM_STACK != 0 {
            let verdict = self.sent_by_stack((v4, fragments_v4), (v6, fragments_v6), packet);
            return self.settle(packet, verdict);
        }
        let verdict = match self.admit(packet) {
            Err(verdict) => verdict,
            Ok(headers) => {
                let special = match (headers.fragment, headers.family) {
                    (Fragment::Whole, _) if !quoted::is_related(packet.data(), &headers) => None,
                    (Fragment::Whole, Family::V4) => self.related(v4, packet, &headers, spare),
                    (Fragment::Whole, Family::V6) => self.related(v6, packet, &headers, spare),
                    (_, Family::V4) => self.fragment(v4, fragments_v4, packet, &headers, spare),
                    (_, Family::V6) => self.fragment(v6, fragments_v6, packet, &headers, spare),
                };
                let frame = packet.data();
                if let Some(verdict) = special {
                    verdict
                } else if let Some(tuple) = headers.five_tuple::<Ipv4Addr>(frame) {
                    let flow = Flow::find(v4, tuple);
                    self.flow(v4, packet, &headers, &flow, spare)
                } else if let Some(tuple) = headers.five_tuple::<Ipv6Addr>(frame) {
                    let flow = Flow::find(v6, tuple);
                    self.flow(v6, packet, &headers, &flow, spare)
                } else {
                    self.not_balanced(v4, v6, packet, &headers, spare)
                }
            }
        };
        self.settle(packet, verdict)
    }

    /// Applies the punt limits and counts drops.
    #[inline]
    fn settle<P: PacketBuffer>(&mut self, packet: &mut P, verdict: Verdict) -> Verdict {
        let verdict = match verdict {
            Verdict::Punt(class) => self.police(packet, class),
            other => other,
        };
        match verdict {
            Verdict::Drop(reason) => self.state.counters.dropped(reason).add(1),
            Verdict::Redirect(_) | Verdict::Wait(_) => {
                packet.set_errand(std::mem::take(&mut self.state.errand));
            }
            _ => {}
        }
        verdict
    }

    /// What the worker asked that handed the packet over.
    fn errand_of<P: PacketBuffer>(&self, packet: &P) -> Errand {
        match self.pass {
            Pass::Redirected => packet.errand(),
            Pass::First | Pass::Held | Pass::Retry(_) => Errand::Own,
        }
    }

    fn is_redirected(&self) -> bool {
        self.pass == Pass::Redirected
    }

    fn count(&self, event: Event) {
        self.state.counters.event(event).add(1);
    }
}
