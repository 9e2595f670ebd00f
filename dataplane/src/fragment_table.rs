//! Fragments of balanced datagrams: what has been seen of each, which wait for the first one, and
//! where the others went (DESIGN §5, rule 5).
//!
//! Nothing is put together: only the first fragment says whose the datagram is, and what is decided
//! about it holds for the rest. Fragments that come before it wait in a *seat* of the worker, at most
//! [`SEATS_PER_DATAGRAM`] of one datagram and [`Seats`] of all, for at most [`PATIENCE_MS`]; they
//! leave in the order of their offsets, and whatever comes meanwhile leaves behind them.
//!
//! A datagram whose fragments overlap, or disagree about its end, is given up: what waits of it is
//! dropped and so is what still comes (RFC 5722; IPv4 alike, as Linux does since 4.20). The same
//! fragment once more is a duplicate, and is dropped alone. A datagram seen whole
//! is over, its identification free for another.
//!
//! All memory is taken at construction. When it is used up, datagrams without their first fragment
//! give way first to others of their kind, the oldest first: a flood of them finds only half of the
//! table and all of the seats, and takes nothing from datagrams that come in order.

use crate::aged_map::{AgedMap, Place};
use crate::connection::Millis;
use crate::packet::piece::{Datagram, Piece};
use crate::verdict::DropReason;
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use std::hash::Hash;

/// Fragments of one datagram that may wait: one of 64 KiB over the usual MTU has 45.
pub const SEATS_PER_DATAGRAM: u16 = 64;
/// How long they wait for the first, in milliseconds.
pub const PATIENCE_MS: u64 = 1_000;
/// How long it is remembered where a datagram went, in milliseconds: longer than a packet may wait
/// for a neighbour.
pub const MEMORY_MS: u64 = 4_000;
/// Datagrams a table remembers.
pub const DATAGRAMS: usize = 1_024;
/// Pieces kept apart of one datagram; of more, and so many gaps between them, the rest is dropped.
const PIECES: usize = 64;

/// Where a waiting fragment is, at its worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seat(pub u16);

/// Which seats are taken, and which wait to be emptied by the worker.
#[derive(Debug)]
pub struct Seats {
    /// By seat: the next of its datagram or the next free one, and the offset of its fragment.
    links: Box<[(Option<Seat>, u16)]>,
    free: Option<Seat>,
    released: VecDeque<Seat>,
    discarded: VecDeque<(Seat, DropReason)>,
}

impl Seats {
    /// `count` free seats.
    pub fn new(count: u16) -> Self {
        let next = |seat: u16| (seat + 1 < count).then_some(Seat(seat + 1));
        Self {
            links: (0..count).map(|seat| (next(seat), 0)).collect(),
            free: (count > 0).then_some(Seat(0)),
            released: VecDeque::with_capacity(count.into()),
            discarded: VecDeque::with_capacity(count.into()),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// True if fragments have left their wait and must go through the pipeline again.
    #[inline]
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The next of those; its seat is free.
    pub fn next_released(&mut self) -> Option<Seat> {
        let seat = self.released.pop_front()?;
        self.give_back(seat);
        Some(seat)
    }

    /// True if fragments have waited in vain.
    #[inline]
    pub fn has_discarded(&self) -> bool {
        !self.discarded.is_empty()
    }

    /// The next of those and why it is dropped; its seat is free.
    pub fn next_discarded(&mut self) -> Option<(Seat, DropReason)> {
        let (seat, reason) = self.discarded.pop_front()?;
        self.give_back(seat);
        Some((seat, reason))
    }

    fn take(&mut self, offset: u16) -> Option<Seat> {
        let seat = self.free?;
        let link = &mut self.links[usize::from(seat.0)];
        self.free = link.0.take();
        link.1 = offset;
        Some(seat)
    }

    fn give_back(&mut self, seat: Seat) {
        self.links[usize::from(seat.0)].0 = self.free.replace(seat);
    }
}

/// What to do with a fragment that has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Arrival<W> {
    /// It is the first of its datagram: decide on it, then call [`FragmentTable::decide`].
    First,
    /// Do as was decided on the first.
    Follow(W),
    /// Put it in this seat.
    Hold(Seat),
    /// Drop it.
    Drop(DropReason),
}

/// Datagrams of one family; `W` is what is decided about one.
#[derive(Debug)]
pub struct FragmentTable<A, W> {
    map: AgedMap<Datagram<A>, Progress<W>, 2>,
}

/// List of the datagrams whose first fragment has not come.
const HEADLESS: usize = 0;
/// List of those that are decided or given up.
const SETTLED: usize = 1;

#[derive(Debug)]
struct Progress<W> {
    since: Millis,
    course: Course<W>,
    seen: Seen,
    /// Its length, once the last fragment has come.
    length: Option<u16>,
    /// The waiting fragment with the smallest offset; the others follow it.
    waiting: Option<Seat>,
    waiting_count: u16,
    /// Fragments that have left their wait but have not come by again.
    leaving: u16,
}

#[derive(Clone, Copy, Debug)]
enum Course<W> {
    Undecided,
    Decided(W),
    GivenUp,
}

impl<A: Copy + Eq + Hash, W: Copy> FragmentTable<A, W> {
    /// Bytes of memory that a table for `datagrams` datagrams takes.
    pub const fn bytes_for(datagrams: usize) -> usize {
        AgedMap::<Datagram<A>, Progress<W>, 2>::bytes_for(datagrams)
    }

    /// A table for `datagrams` datagrams.
    pub fn new(datagrams: usize) -> Self {
        Self {
            map: AgedMap::new(datagrams),
        }
    }

    /// Takes a well-formed fragment into account that was not seen before.
    pub fn arrive(
        &mut self,
        seats: &mut Seats,
        datagram: &Datagram<A>,
        piece: Piece,
        now: Millis,
    ) -> Arrival<W> {
        const FULL: DropReason = DropReason::FragmentTableFull;
        let Some(place) = self.place(seats, datagram, now) else {
            return Arrival::Drop(FULL);
        };
        let progress = self.map.value_mut(place);
        if matches!(progress.course, Course::GivenUp) {
            return Arrival::Drop(DropReason::FragmentOverlap);
        }
        match progress.add(piece) {
            Added::New => {}
            Added::Duplicate => return Arrival::Drop(DropReason::FragmentDuplicate),
            Added::TooMany => return Arrival::Drop(FULL),
            Added::Overlap => {
                progress.course = Course::GivenUp;
                progress.discard(seats, DropReason::FragmentOverlap);
                self.map.move_to(place, SETTLED);
                return Arrival::Drop(DropReason::FragmentOverlap);
            }
        }
        if piece.start == 0 {
            return Arrival::First;
        }
        match progress.course {
            Course::Decided(way) if progress.leaving == 0 => return Arrival::Follow(way),
            _ if progress.waiting_count + progress.leaving >= SEATS_PER_DATAGRAM => {
                return Arrival::Drop(FULL);
            }
            _ => {}
        }
        let Some(seat) = seats.take(piece.start) else {
            self.evict(seats, HEADLESS);
            return Arrival::Drop(FULL);
        };
        if let Course::Decided(_) = progress.course {
            // Behind those that have just left.
            seats.released.push_back(seat);
            progress.leaving += 1;
        } else {
            progress.wait(seats, seat, piece.start);
        }
        Arrival::Hold(seat)
    }

    /// The datagram's place; a new one if it was over, or not known.
    fn place(&mut self, seats: &mut Seats, datagram: &Datagram<A>, now: Millis) -> Option<Place> {
        let progress = Progress::new(now);
        let Some(place) = self.map.find(datagram) else {
            self.make_room(seats);
            return self.map.insert(*datagram, progress, HEADLESS);
        };
        if self.map.value(place).is_over() {
            *self.map.value_mut(place) = progress;
            self.map.move_to(place, HEADLESS);
        }
        Some(place)
    }

    /// What was decided on the first fragment; those that wait for it leave.
    pub fn decide(&mut self, seats: &mut Seats, datagram: &Datagram<A>, way: W, now: Millis) {
        let Some(place) = self.map.find(datagram) else {
            return;
        };
        self.map.move_to(place, SETTLED);
        let progress = self.map.value_mut(place);
        progress.since = now;
        progress.course = Course::Decided(way);
        progress.leaving = std::mem::take(&mut progress.waiting_count);
        let mut next = progress.waiting.take();
        while let Some(seat) = next {
            next = seats.links[usize::from(seat.0)].0.take();
            seats.released.push_back(seat);
        }
    }

    /// The way of a fragment that comes by after its wait.
    ///
    /// # Errors
    /// Why it has to be dropped.
    pub fn left(&mut self, datagram: &Datagram<A>) -> Result<W, DropReason> {
        let place = self.map.find(datagram);
        let progress = place.map(|place| self.map.value_mut(place));
        let progress = progress.ok_or(DropReason::FragmentTableFull)?;
        progress.leaving = progress.leaving.saturating_sub(1);
        match progress.course {
            Course::Decided(way) => Ok(way),
            Course::GivenUp => Err(DropReason::FragmentOverlap),
            Course::Undecided => Err(DropReason::FragmentTableFull),
        }
    }

    /// What was decided about a datagram, if anything.
    pub fn way(&self, datagram: &Datagram<A>) -> Option<W> {
        match self.map.value(self.map.find(datagram)?).course {
            Course::Decided(way) => Some(way),
            Course::GivenUp | Course::Undecided => None,
        }
    }

    /// Forgets datagrams whose time is over, at most `budget`.
    pub fn expire(&mut self, seats: &mut Seats, now: Millis, budget: usize) {
        for (list, lifetime) in [(HEADLESS, PATIENCE_MS), (SETTLED, MEMORY_MS)] {
            for _ in 0..budget {
                let Some(place) = self.map.oldest(list) else {
                    break;
                };
                if now.since(self.map.value(place).since) < lifetime {
                    break;
                }
                self.forget(seats, place, DropReason::FragmentTimeout);
            }
        }
    }

    fn make_room(&mut self, seats: &mut Seats) {
        let capacity = self.map.capacity();
        if self.map.len_of(HEADLESS) >= capacity / 2 {
            self.evict(seats, HEADLESS);
        } else if self.map.len_of(HEADLESS) + self.map.len_of(SETTLED) == capacity {
            self.evict(seats, SETTLED);
        }
    }

    fn evict(&mut self, seats: &mut Seats, list: usize) {
        if let Some(place) = self.map.oldest(list) {
            self.forget(seats, place, DropReason::FragmentTableFull);
        }
    }

    fn forget(&mut self, seats: &mut Seats, place: Place, reason: DropReason) {
        self.map.remove(place).discard(seats, reason);
    }
}

impl<W> Progress<W> {
    fn new(now: Millis) -> Self {
        Self {
            since: now,
            course: Course::Undecided,
            seen: Seen::default(),
            length: None,
            waiting: None,
            waiting_count: 0,
            leaving: 0,
        }
    }

    /// True if the datagram was seen whole and all of it has gone its way.
    fn is_over(&self) -> bool {
        matches!(self.course, Course::Decided(_))
            && self.leaving == 0
            && self.length == Some(self.seen.bytes)
    }

    fn add(&mut self, piece: Piece) -> Added {
        let Piece {
            start, end, more, ..
        } = piece;
        let added = self.seen.add(start, end);
        if added != Added::New {
            return added;
        }
        let beyond = match self.length {
            Some(length) => end > length || !more && end != length,
            None => !more && self.seen.end() > end,
        };
        if beyond {
            return Added::Overlap;
        }
        if !more {
            self.length = Some(end);
        }
        Added::New
    }

    /// Gives the fragment in `seat` its place among those that wait.
    fn wait(&mut self, seats: &mut Seats, seat: Seat, offset: u16) {
        self.waiting_count += 1;
        let mut before = None;
        let mut behind = self.waiting;
        while let Some(other) = behind {
            let (next, other_offset) = seats.links[usize::from(other.0)];
            if other_offset > offset {
                break;
            }
            before = Some(other);
            behind = next;
        }
        seats.links[usize::from(seat.0)].0 = behind;
        match before {
            Some(before) => seats.links[usize::from(before.0)].0 = Some(seat),
            None => self.waiting = Some(seat),
        }
    }

    fn discard(&mut self, seats: &mut Seats, reason: DropReason) {
        self.waiting_count = 0;
        let mut next = self.waiting.take();
        while let Some(seat) = next {
            next = seats.links[usize::from(seat.0)].0.take();
            seats.discarded.push_back((seat, reason));
        }
    }
}

/// What a fragment adds to the bytes seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Added {
    New,
    /// Nothing.
    Duplicate,
    /// Some of its bytes were seen, in another fragment.
    Overlap,
    TooMany,
}

/// The bytes seen of a datagram: pieces in order. Neighbours are joined when there are too many of
/// them.
#[derive(Debug, Default)]
struct Seen {
    pieces: ArrayVec<Run, PIECES>,
    /// Bytes in all.
    bytes: u16,
}

/// Bytes seen one behind the other.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: u16,
    /// One past the last.
    end: u16,
    /// In more than one fragment, whose borders are not known any more.
    joined: bool,
}

impl Seen {
    fn add(&mut self, start: u16, end: u16) -> Added {
        if self.pieces.is_full() {
            self.join();
        }
        // The first piece that ends behind the start: all before it are of no concern.
        let at = self.pieces.partition_point(|piece| piece.end <= start);
        if let Some(&other) = self.pieces.get(at)
            && end > other.start
        {
            // Of what was joined every part may be one of the fragments that came, as Linux takes it.
            let again = if other.joined {
                start >= other.start && end <= other.end
            } else {
                (start, end) == (other.start, other.end)
            };
            return if again {
                Added::Duplicate
            } else {
                Added::Overlap
            };
        }
        if self.pieces.is_full() {
            return Added::TooMany;
        }
        let run = Run {
            start,
            end,
            joined: false,
        };
        self.pieces.insert(at, run);
        self.bytes += end - start;
        Added::New
    }

    fn join(&mut self) {
        let mut joined = ArrayVec::<Run, PIECES>::new();
        for piece in &self.pieces {
            match joined.last_mut() {
                Some(last) if last.end == piece.start => {
                    (last.end, last.joined) = (piece.end, true);
                }
                _ => joined.push(*piece),
            }
        }
        self.pieces = joined;
    }

    /// One past the last byte seen.
    fn end(&self) -> u16 {
        self.pieces.last().map_or(0, |piece| piece.end)
    }
}

#[cfg(test)]
mod tests;
