//! The packet walk of a worker (DESIGN §3), free of any device: packets in, verdicts out.
//!
//! [`Pipeline::process`] takes a burst through its stages: admit and parse all, hash all (the
//! table's lines are prefetched), then look up, account, rewrite each, leaving one [`Verdict`] per
//! packet. Packets of our own making (fragments) come out through [`Spare`]. The caller moves the
//! packets; nothing here allocates, locks or blocks.
//!
//! Accounting happens exactly once per packet: a packet that had to wait for a neighbour comes
//! back as [`Pass::Retry`] and is only forwarded then.

mod admit;
mod flow;
mod forward;
mod limiter;
mod reply;
mod waiting;
pub mod world;

#[cfg(test)]
mod tests;

pub use waiting::{Outcome, WaitingRoom};

use crate::address::{Address, FiveTuple};
use crate::buffer::PacketBuffer;
use crate::connection::{Connection, Millis, Slot, Table};
use crate::counters::{Event, WorkerCounters};
use crate::epoch::Reader;
use crate::forwarding::Forwarding;
use crate::job::{Action, ConnectionRow, Job};
use crate::packet::Headers;
use crate::service::Services;
use crate::verdict::{DropReason, Neighbour, PortId, PuntClass, Verdict, WorkerId};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use limiter::TokenBucket;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// Connections the IPv4 table holds.
    pub connections_v4: usize,
    /// Connections the IPv6 table holds.
    pub connections_v6: usize,
}

/// One worker's pipeline: its tables, its limits, its view of the snapshots.
#[derive(Debug)]
pub struct Pipeline {
    services: Reader<Services>,
    forwarding: Reader<Forwarding>,
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
    state: WorkerState,
    job: Option<Listing>,
}

/// What the stages share besides tables and snapshots.
#[derive(Debug)]
struct WorkerState {
    worker: WorkerId,
    workers: u8,
    counters: Arc<CachePadded<WorkerCounters>>,
    asks: Arc<ArrayQueue<Neighbour>>,
    icmp: TokenBucket,
    ask: TokenBucket,
    punts: [TokenBucket; PuntClass::COUNT],
}

/// Everything a stage reads while it handles one packet.
struct Context<'a> {
    services: &'a Services,
    forwarding: &'a Forwarding,
    state: &'a mut WorkerState,
    now: Millis,
    pass: Pass,
}

/// A job under way: which table, and how far.
#[derive(Debug)]
struct Listing {
    job: Arc<Job>,
    v6: bool,
    cursor: u32,
}

/// A packet between the stages.
#[derive(Clone, Copy)]
enum Staged {
    Decided(Verdict),
    V4(Headers, FiveTuple<Ipv4Addr>, u64),
    V6(Headers, FiveTuple<Ipv6Addr>, u64),
    /// IP, but not of a protocol that is balanced (ICMP, later fragments, others).
    Other(Headers),
}

impl Pipeline {
    /// Allocates the tables.
    pub fn new(parts: Parts) -> Self {
        Self {
            services: parts.services,
            forwarding: parts.forwarding,
            v4: Table::new(parts.connections_v4),
            v6: Table::new(parts.connections_v6),
            state: WorkerState {
                worker: parts.worker,
                workers: parts.workers,
                counters: parts.counters,
                asks: parts.asks,
                icmp: TokenBucket::new(limiter::ICMP_ERRORS_PER_SECOND),
                ask: TokenBucket::new(limiter::ASKS_PER_SECOND),
                punts: limiter::punt_limiters(),
            },
            job: None,
        }
    }

    /// Takes the newest snapshots. Once per burst, before it; true if forwarding changed, so that
    /// the waiting room is worth a look.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        self.services.refresh();
        self.forwarding.refresh()
    }

    /// Decides on a burst of at most [`BURST`] packets and rewrites those that are sent.
    ///
    /// `verdicts[i]` is about `packets[i]`; drops and punts are counted here already, unless the
    /// caller's ring or device refuses later.
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
        let mut context = Context {
            services: &self.services,
            forwarding: &self.forwarding,
            state: &mut self.state,
            now,
            pass,
        };
        let mut staged = [Staged::Decided(Verdict::Drop(DropReason::Frame)); BURST];
        for (packet, staged) in packets.iter_mut().zip(&mut staged) {
            *staged = match context.admit(packet) {
                Ok(headers) => stage(packet, headers, &self.v4, &self.v6),
                Err(verdict) => Staged::Decided(verdict),
            };
        }
        for staged in &staged[..packets.len()] {
            match staged {
                Staged::V4(_, _, hash) => self.v4.prefetch(*hash),
                Staged::V6(_, _, hash) => self.v6.prefetch(*hash),
                Staged::Decided(_) | Staged::Other(_) => {}
            }
        }
        for staged in &staged[..packets.len()] {
            match staged {
                Staged::V4(_, _, hash) => self.v4.prefetch_entry(*hash),
                Staged::V6(_, _, hash) => self.v6.prefetch_entry(*hash),
                Staged::Decided(_) | Staged::Other(_) => {}
            }
        }
        for ((packet, staged), verdict) in packets.iter_mut().zip(&staged).zip(verdicts) {
            *verdict = match staged {
                Staged::Decided(verdict) => *verdict,
                Staged::V4(headers, tuple, hash) => {
                    context.flow(&mut self.v4, packet, headers, tuple, *hash, spare)
                }
                Staged::V6(headers, tuple, hash) => {
                    context.flow(&mut self.v6, packet, headers, tuple, *hash, spare)
                }
                Staged::Other(headers) => context.not_balanced(packet, headers, spare),
            };
            *verdict = context.settle(*verdict);
        }
    }

    /// Expires due connections, a few per call. Call once per loop, also without traffic.
    pub fn maintain(&mut self, now: Millis) {
        let Self {
            services,
            v4,
            v6,
            state,
            ..
        } = self;
        let mut expired = 0;
        v4.expire(now, PER_LOOP, |connection| {
            expired += 1;
            state.unbind(services, &connection);
        });
        v6.expire(now, PER_LOOP, |connection| {
            expired += 1;
            state.unbind(services, &connection);
        });
        let counters = &state.counters;
        if expired > 0 {
            counters.event(Event::ConnectionsExpired).add(expired);
        }
        counters.connections.set((v4.len() + v6.len()) as u64);
    }

    /// True if a job may be given to [`Self::start`].
    pub fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Begins a job; it is done by [`Self::work`].
    pub fn start(&mut self, job: Arc<Job>) {
        self.job = Some(Listing {
            job,
            v6: false,
            cursor: 0,
        });
    }

    /// Does a little of the job at hand, if there is one.
    pub fn work(&mut self, now: Millis) {
        let Some(mut listing) = self.job.take() else {
            return;
        };
        let job = &listing.job;
        if job.is_cancelled() {
            job.finish();
            return;
        }
        // Paused while the ring could not take a whole round.
        let room = job.rows.capacity() - job.rows.len();
        if job.action == Action::List && room < PER_LOOP.min(job.rows.capacity()) {
            self.job = Some(listing);
            return;
        }
        let budget = PER_LOOP.min(job.rows.capacity());
        let next = if listing.v6 {
            visit(
                &mut self.v6,
                &mut self.state,
                &self.services,
                &listing,
                budget,
                now,
            )
        } else {
            visit(
                &mut self.v4,
                &mut self.state,
                &self.services,
                &listing,
                budget,
                now,
            )
        };
        match next {
            Some(cursor) => listing.cursor = cursor,
            None if listing.v6 => {
                listing.job.finish();
                return;
            }
            None => {
                listing.v6 = true;
                listing.cursor = 0;
            }
        }
        self.job = Some(listing);
    }

    /// Lets go of the job at hand (at stop).
    pub fn abandon(&mut self) {
        if let Some(listing) = self.job.take() {
            listing.job.finish();
        }
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

/// Parses further what was admitted: the flow it belongs to and its hash.
#[inline]
fn stage<P: PacketBuffer>(
    packet: &P,
    headers: Headers,
    v4: &Table<Ipv4Addr>,
    v6: &Table<Ipv6Addr>,
) -> Staged {
    let frame = packet.data();
    if let Some(tuple) = headers.five_tuple::<Ipv4Addr>(frame) {
        let hash = v4.hash(&tuple);
        Staged::V4(headers, tuple, hash)
    } else if let Some(tuple) = headers.five_tuple::<Ipv6Addr>(frame) {
        let hash = v6.hash(&tuple);
        Staged::V6(headers, tuple, hash)
    } else {
        Staged::Other(headers)
    }
}

/// One round of a job over one table; the next cursor, or `None` at its end.
fn visit<A: Address>(
    table: &mut Table<A>,
    state: &mut WorkerState,
    services: &Services,
    listing: &Listing,
    budget: usize,
    now: Millis,
) -> Option<u32> {
    let job = &listing.job;
    let mut doomed = arrayvec::ArrayVec::<Slot, PER_LOOP>::new();
    let next = table.scan(listing.cursor, budget.min(PER_LOOP), |slot, connection| {
        let row = row(state.worker, connection, now);
        if !job.filter.matches(&row) {
            return;
        }
        match job.action {
            // Room for a whole round was made sure of, so this cannot fail.
            Action::List => drop(job.rows.push(row)),
            Action::Delete => drop(doomed.try_push(slot)),
        }
        job.handled.fetch_add(1, Ordering::Relaxed);
    });
    for slot in doomed {
        let connection = table.remove(slot);
        state.unbind(services, &connection);
    }
    next
}

fn row<A: Address>(worker: WorkerId, connection: &Connection<A>, now: Millis) -> ConnectionRow {
    let binding = connection.binding();
    ConnectionRow {
        worker,
        protocol: binding.protocol,
        state: connection.state(),
        expires_ms: u64::from(connection.expires_in(now)),
        client: binding.client.into(),
        virtual_address: binding.vip.into(),
        destination: binding.destination.into(),
        service: binding.service,
        real: binding.real,
        forward: binding.forward,
        packets: connection.client_packets(),
    }
}

impl Context<'_> {
    /// Counts a verdict and applies the punt limits.
    #[inline]
    fn settle(&mut self, verdict: Verdict) -> Verdict {
        match verdict {
            Verdict::Drop(reason) => self.state.counters.dropped(reason).add(1),
            Verdict::Punt(class) => {
                if !self.state.punts[class as usize].take(self.now) {
                    self.state.counters.dropped(DropReason::PuntPoliced).add(1);
                    return Verdict::Drop(DropReason::PuntPoliced);
                }
                self.state.counters.punted(class).add(1);
            }
            Verdict::Tx(_) | Verdict::Redirect(_) | Verdict::Wait(_) => {}
        }
        verdict
    }

    fn count(&self, event: Event) {
        self.state.counters.event(event).add(1);
    }
}
