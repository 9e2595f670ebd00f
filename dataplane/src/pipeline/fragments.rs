//! Fragments of balanced flows (DESIGN §5, rule 5): all of a datagram go to one server, in order
//! from the first on, whatever order they come in and whichever workers receive them.
//!
//! ```text
//!   any worker ──► the one where the datagram's fragments meet ──► (owner ──► others ──►) the one
//!                  holds them until the first has come               that has the connection
//! ```
//!
//! The first fragment is decided on like a whole packet of its flow. If the connection is not here it
//! goes to the owner, or on a round (`search`), and every worker on the way remembers where it sent
//! it: the rest of the datagram follows over the same rings, so nothing overtakes anything. Meeting
//! and passing on are remembered apart (`Fragments::passed`), because a round may come back.
//!
//! From the first connection on that a fragment makes, all new ones of its service but TCP's belong
//! to the computed owner, as if it were translated: fragments cannot come where RSS delivers whole
//! packets. Connections made before stay where they are, and are found by the round. It ends when no
//! fragment has come and no packet had to be handed over for longer than any of them can live. Of TCP
//! no sender cuts the SYN, so fragments never change how a TCP service is dealt.

use super::flow::Flow;
use super::search::Next;
use super::{Context, Pass, Spare, account};
use crate::address::{Address, Family, Protocol};
use crate::aged_map::AgedMap;
use crate::buffer::PacketBuffer;
use crate::connection::{Binding, Connection, Direction, Millis, Table};
use crate::counters::Event;
use crate::fragment_table::{Arrival, DATAGRAMS, FragmentTable, MEMORY_MS, Seats};
use crate::packet::piece::{self, Datagram};
use crate::packet::{Fragment, Headers};
use crate::steering::{self, Errand};
use crate::verdict::{DropReason, Verdict, WorkerId};
use std::any::Any;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a datagram goes, as decided on its first fragment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<A> {
    /// With a connection, as it was then.
    Bound {
        binding: Binding<A>,
        direction: Direction,
        source_port: u16,
        destination_port: u16,
    },
    /// To the Linux stack.
    Stack,
    /// Wherever packets go that are neither a service's nor a server's.
    NotOurs,
    /// Nowhere.
    Dropped(DropReason),
    /// To another worker, with this errand.
    Handed(WorkerId, Errand),
}

/// A worker's fragments of one family.
#[derive(Debug)]
pub(super) struct Fragments<A> {
    met: FragmentTable<A, Way<A>>,
    /// Datagrams that met elsewhere, by how many workers the round had asked before this one; 0 if it
    /// was the end of the way, [`FROM_STACK`] if the Linux stack of this box sent it.
    passed: AgedMap<(Datagram<A>, u8), (Millis, Way<A>), 1>,
}

impl<A: Address> Fragments<A> {
    pub(super) fn new() -> Self {
        Self {
            met: FragmentTable::new(DATAGRAMS),
            passed: AgedMap::new(DATAGRAMS),
        }
    }

    /// Bytes of memory they take, whatever comes.
    pub(super) const fn bytes() -> usize {
        FragmentTable::<A, Way<A>>::bytes_for(DATAGRAMS)
            + AgedMap::<(Datagram<A>, u8), (Millis, Way<A>), 1>::bytes_for(DATAGRAMS)
    }

    /// Forgets what is over.
    pub(super) fn expire(&mut self, seats: &mut Seats, now: Millis, budget: usize) {
        self.met.expire(seats, now, budget);
        for _ in 0..budget {
            match self.passed.oldest(0) {
                Some(place) if now.since(self.passed.value(place).0) >= MEMORY_MS => {
                    self.passed.remove(place);
                }
                _ => break,
            }
        }
    }

    fn pass(&mut self, datagram: Datagram<A>, stop: u8, way: Way<A>, now: Millis) {
        let key = (datagram, stop);
        if let Some(place) = self.passed.find(&key) {
            *self.passed.value_mut(place) = (now, way);
            self.passed.move_to(place, 0);
            return;
        }
        if self.passed.len_of(0) == self.passed.capacity()
            && let Some(oldest) = self.passed.oldest(0)
        {
            self.passed.remove(oldest);
        }
        self.passed.insert(key, (now, way), 0);
    }

    /// Remembers where a datagram of the Linux stack goes.
    pub(super) fn pass_from_stack(&mut self, datagram: Datagram<A>, way: Way<A>, now: Millis) {
        self.pass(datagram, FROM_STACK, way, now);
    }

    /// Where a datagram of the Linux stack went.
    pub(super) fn way_from_stack(&self, datagram: &Datagram<A>) -> Option<Way<A>> {
        self.way_passed(datagram, FROM_STACK)
    }

    fn way_passed(&self, datagram: &Datagram<A>, stop: u8) -> Option<Way<A>> {
        let place = self.passed.find(&(*datagram, stop))?;
        Some(self.passed.value(place).1)
    }

    /// Where a datagram went that is with this worker.
    fn way_here(&self, datagram: &Datagram<A>, workers: u8) -> Option<Way<A>> {
        let passed = (0..=workers).filter_map(|stop| self.way_passed(datagram, stop));
        let ways = self.met.way(datagram).into_iter().chain(passed);
        ways.filter(|way| !matches!(way, Way::Handed(..))).last()
    }
}

/// In the place of a stop: the datagram came from the Linux stack, not from a wire.
const FROM_STACK: u8 = u8::MAX;

/// Seats for early fragments at each worker: about a sixteenth of the smallest pool of packet buffers
/// for all of them.
pub(super) fn seats(workers: u8) -> u16 {
    (1024 / u16::from(workers.max(1))).clamp(64, 512)
}

/// The connection that the first fragment in hand was forwarded with.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    v4: Option<(Binding<Ipv4Addr>, Direction)>,
    v6: Option<(Binding<Ipv6Addr>, Direction)>,
}

impl Forwarded {
    fn place<A: Address>(&mut self) -> Option<&mut Option<(Binding<A>, Direction)>> {
        let place: &mut dyn Any = match A::FAMILY {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        place.downcast_mut()
    }

    /// Remembers it for the other fragments.
    #[cold]
    pub(super) fn set<A: Address>(&mut self, binding: &Binding<A>, direction: Direction) {
        if let Some(place) = self.place() {
            *place = Some((*binding, direction));
        }
    }

    pub(super) fn take<A: Address>(&mut self) -> Option<(Binding<A>, Direction)> {
        self.place::<A>()?.take()
    }
}

impl Context<'_> {
    /// A fragment; `None` if it can belong to no balanced flow.
    #[cold]
    pub(super) fn fragment<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        fragments: &mut Fragments<A>,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Option<Verdict> {
        let (datagram, piece) = piece::read::<A>(packet.data(), headers)?;
        let (source, destination) = (datagram.source.into(), datagram.destination.into());
        if !piece.may_have_ports() || !self.services.may_be_balanced(source, destination) {
            return None;
        }
        if !piece.is_well_formed() {
            return Some(Verdict::Drop(DropReason::FragmentMalformed));
        }
        let workers = self.state.workers;
        let errand = self.errand_of(packet);
        let way = match (self.pass, errand) {
            (Pass::Retry(_), _) => match fragments.way_here(&datagram, workers) {
                Some(way) => way,
                // As for whole packets.
                None if headers.fragment == Fragment::First => return None,
                None => Way::Dropped(DropReason::FragmentTimeout),
            },
            (Pass::Held, _) => match fragments.met.left(&datagram) {
                Ok(way) => way,
                Err(reason) => Way::Dropped(reason),
            },
            (Pass::Redirected, Errand::Own | Errand::Search { .. }) => {
                let stop = match errand {
                    Errand::Search { stop, .. } => stop,
                    Errand::Own | Errand::Gather | Errand::Chosen(_) => 0,
                };
                if headers.fragment == Fragment::First {
                    let (verdict, way) = self.first(table, packet, headers, errand, spare);
                    fragments.pass(datagram, stop, way, self.now);
                    return Some(verdict);
                }
                let way = fragments.way_passed(&datagram, stop);
                way.unwrap_or(Way::Dropped(DropReason::Fragment))
            }
            (Pass::First | Pass::Redirected, _) => {
                let Datagram { source, id, .. } = datagram;
                let meeting = steering::fragment_owner(source, datagram.destination, id, workers);
                if self.pass == Pass::First && meeting != self.state.worker {
                    return Some(self.hand_over(meeting, Errand::Gather));
                }
                let seats = &mut self.state.seats;
                match fragments.met.arrive(seats, &datagram, piece, self.now) {
                    Arrival::Drop(reason) => Way::Dropped(reason),
                    Arrival::Hold(seat) => {
                        self.count(Event::FragmentsHeld);
                        return Some(Verdict::Hold(seat));
                    }
                    Arrival::Follow(way) => way,
                    Arrival::First => {
                        let errand = Errand::Gather;
                        let (verdict, way) = self.first(table, packet, headers, errand, spare);
                        let seats = &mut self.state.seats;
                        fragments.met.decide(seats, &datagram, way, self.now);
                        return Some(verdict);
                    }
                }
            }
        };
        Some(self.follow(table, way, packet, headers, spare))
    }

    /// Decides on a first fragment, and with it on its datagram.
    fn first<A: Address, P: PacketBuffer>(
        &mut self,
        table: &mut Table<A>,
        packet: &mut P,
        headers: &Headers,
        errand: Errand,
        spare: &mut impl Spare<P>,
    ) -> (Verdict, Way<A>) {
        let Some(tuple) = headers.five_tuple::<A>(packet.data()) else {
            return (self.passing(packet, headers, spare), Way::NotOurs);
        };
        let mut flow = Flow::find(table, tuple);
        if let Some((slot, _)) = flow.found
            && self.is_over(table.get(slot))
        {
            self.count(Event::ConnectionsExpired);
            self.end(table, slot);
            flow.found = None;
        }
        let whereabouts = self.whereabouts(&tuple);
        let service = whereabouts.and_then(|whereabouts| whereabouts.service);
        if self.state.workers > 1
            && flow.found.is_none()
            && let Some(whereabouts) = whereabouts
        {
            let handed = match self.next(&whereabouts, errand) {
                Next::Here => None,
                Next::Ask(verdict) => Some(verdict),
                Next::Owner(owner) => Some(self.hand_over(owner, Errand::Own)),
            };
            if let Some(verdict) = handed {
                let way = match verdict {
                    Verdict::Redirect(worker) => Way::Handed(worker, self.state.errand),
                    _ => Way::Dropped(DropReason::SearchLimited),
                };
                return (verdict, way);
            }
            if let Some(service) = service
                && !service.ever_translated
                && tuple.protocol != Protocol::Tcp
            {
                let timeouts = &self.services.timeouts;
                service.shared.deal(tuple.protocol, self.now, timeouts);
            }
        }
        // A connection that is here but over is the owner's to make anew, like that of a whole packet
        // fresh from a port. What was sent here to be decided on stays.
        let pass = self.pass;
        self.pass = match (flow.found, errand) {
            (Some(_), Errand::Gather | Errand::Search { .. }) => Pass::First,
            _ => Pass::Redirected,
        };
        self.state.forwarded = Forwarded::default();
        let verdict = self.flow(table, packet, headers, &flow, spare);
        self.pass = pass;
        let way = match (self.state.forwarded.take::<A>(), verdict) {
            (_, Verdict::Drop(reason)) => Way::Dropped(reason),
            (Some((binding, direction)), _) => Way::Bound {
                binding,
                direction,
                source_port: headers.source_port,
                destination_port: headers.destination_port,
            },
            (None, Verdict::Redirect(owner)) => Way::Handed(owner, Errand::Own),
            (None, Verdict::Punt(_)) => Way::Stack,
            // Answered in its place.
            (None, _) if flow.found.is_some() => Way::Dropped(DropReason::ServerGone),
            (None, _) if service.is_some() => Way::Dropped(DropReason::NoServer),
            (None, _) => Way::NotOurs,
        };
        (verdict, way)
    }

    /// Does with a fragment as was decided on the first.
    fn follow<A: Address, P: PacketBuffer>(
        &mut self,
        table: &Table<A>,
        way: Way<A>,
        packet: &mut P,
        headers: &Headers,
        spare: &mut impl Spare<P>,
    ) -> Verdict {
        let (binding, direction, source_port, destination_port) = match way {
            Way::Handed(worker, errand) => return self.hand_over(worker, errand),
            Way::Dropped(reason) => return Verdict::Drop(reason),
            Way::Stack => return self.to_stack(packet, headers),
            Way::NotOurs => return self.passing(packet, headers, spare),
            Way::Bound {
                binding,
                direction,
                source_port,
                destination_port,
            } => (binding, direction, source_port, destination_port),
        };
        let Some(real) = self.services.real(binding.real) else {
            return Verdict::Drop(DropReason::ServerGone);
        };
        if !matches!(self.pass, Pass::Retry(_)) {
            self.count(Event::ConnectionHits);
            let cell = real.shared.cell(self.state.worker);
            account(cell, direction, headers.ip_length() as u64);
        }
        // The next hop is chosen by the ports, also for fragments that have none.
        let headers = Headers {
            source_port,
            destination_port,
            ..*headers
        };
        // The connection itself if it is still that one; some have no entry at all.
        let key = match direction {
            Direction::Input => Some(binding.key()),
            Direction::Output => binding.reply_key(),
        };
        let living = key.and_then(|key| table.lookup(&key));
        let living = living.map(|(slot, _)| *table.get(slot));
        let connection = living
            .filter(|connection| *connection.binding() == binding)
            .unwrap_or_else(|| Connection::new(binding, self.now));
        self.forward(&connection, direction, packet, &headers, spare)
    }
}
