//! The connection table of one worker and one IP family.
//!
//! Fixed capacity; all memory is allocated and touched by [`Table::new`] and nothing allocates
//! afterwards. Every connection is found under its key and, if replies come back through us,
//! under its reply key. Only its worker ever touches a table, and slots are not kept across a
//! burst, so a slot needs no generation number: between the lookup that yields one and its use
//! the same thread does nothing that could give it to another connection.

use super::entry::{Connection, Transition};
use super::eviction::{CLASSES, Class, Evicted, Eviction, FEW_HALF_OPEN, IDLE};
use super::hash::TupleHasher;
use super::index::{Index, Reference};
use super::lists::{Link, Links, Lists, NIL};
use super::pages::{Pages, TableMemory};
use super::prefetch::prefetch;
use super::state::{Direction, Signal};
use super::tcp::TcpTable;
use super::time::Millis;
use super::timeouts::Timeouts;
use super::wheel::Wheel;
use crate::address::{Address, FiveTuple};
use std::ops::Deref;
use thiserror::Error;

/// Where a connection is in its table. Valid until the connection is removed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u32);

/// Why a connection could not be inserted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum InsertError {
    /// No free slot.
    #[error("the connection table is full")]
    Full,
    /// The connection in this slot has the reply key already (it may have expired).
    #[error("the reply key is in use")]
    ReplyKeyInUse(Slot),
}

/// Connections of one worker and family.
#[derive(Debug)]
pub struct Table<A> {
    hasher: TupleHasher,
    index: Index,
    lines: Pages<Line<A>>,
    wheel: Wheel,
    /// A FIFO for each [`Class`], and the free slots.
    queues: Lists,
    /// How many are in each class's.
    queued: [u32; CLASSES],
    len: usize,
}

impl<A: Address> Table<A> {
    /// A table for `capacity` connections (less than 2^31). Allocates and touches all its memory.
    pub fn new(capacity: usize, memory: TableMemory) -> Self {
        assert!(capacity < 1 << 31, "slots have 31 bits");
        let mut queues = Lists::new(FREE + 1);
        let mut lines = Pages::filled(Line::FREE, capacity, memory);
        for slot in 0..capacity as u32 {
            queues.push_back(&mut lines, FREE, slot);
        }
        Self {
            hasher: TupleHasher::random(),
            index: Index::new(capacity * 2, memory),
            lines,
            wheel: Wheel::new(capacity, memory),
            queues,
            queued: [0; CLASSES],
            len: 0,
        }
    }

    /// Connections in the table, expired ones not collected yet included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if another connection has to go before one can be added.
    pub fn is_full(&self) -> bool {
        self.len == self.capacity()
    }

    /// Connections it can hold.
    pub fn capacity(&self) -> usize {
        self.lines.len()
    }

    /// Bytes of memory it occupies, all in.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.lines) + self.index.bytes() + self.wheel.bytes() + self.queues.bytes()
    }

    /// The hash that [`Table::lookup_hashed`] and the stages before it take.
    #[inline]
    pub fn hash(&self, tuple: &FiveTuple<A>) -> u64 {
        self.hasher.hash(tuple)
    }

    /// First stage of a burst's lookups: asks for the bucket.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second stage: asks for the entry that is probably meant, and says which.
    #[inline(always)]
    pub fn candidate(&self, hash: u64) -> Candidate {
        let Some(reference) = self.index.first_candidate(hash) else {
            return Candidate::NONE;
        };
        if let Some(line) = self.lines.get(reference.slot as usize) {
            prefetch(line);
        }
        Candidate(reference.pack())
    }

    /// Third stage: as [`Table::lookup`], but only the candidate is asked, which belongs to nearly
    /// every packet of a connection there is.
    #[inline(always)]
    pub fn confirm(&self, candidate: Candidate, tuple: &FiveTuple<A>) -> Option<(Slot, Direction)> {
        let reference = Reference::unpack(candidate.0);
        self.has(reference, tuple).then(|| found(reference))
    }

    /// The connection `tuple` belongs to and the way such packets travel.
    ///
    /// An expired connection that was not collected yet is found too.
    #[inline]
    pub fn lookup(&self, tuple: &FiveTuple<A>) -> Option<(Slot, Direction)> {
        self.lookup_hashed(self.hash(tuple), tuple)
    }

    /// [`Table::lookup`] with the hash at hand.
    #[inline]
    pub fn lookup_hashed(&self, hash: u64, tuple: &FiveTuple<A>) -> Option<(Slot, Direction)> {
        let reference = self
            .index
            .find(hash, |reference| self.has(reference, tuple))?;
        Some(found(reference))
    }

    /// True if `tuple` is the key that `reference` stands for.
    #[inline(always)]
    fn has(&self, reference: Reference, tuple: &FiveTuple<A>) -> bool {
        let line = self.lines.get(reference.slot as usize);
        let connection = line.and_then(|line| line.connection.as_ref());
        connection.is_some_and(|connection| {
            let binding = connection.binding();
            let (source, destination) = if reference.reply {
                (&binding.destination, &binding.local)
            } else {
                (&binding.client, &binding.vip)
            };
            // A candidate found before the slot was given to another may name a key it has not.
            (!reference.reply || binding.forward.sees_replies())
                && binding.protocol == tuple.protocol
                && *source == tuple.source
                && *destination == tuple.destination
        })
    }

    /// The connection in `slot`.
    ///
    /// # Panics
    ///
    /// If it was removed: slots come from lookups and insertions of the same burst only.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Connection<A> {
        self.lines[slot.0 as usize].connection.as_ref().expect(LIVE)
    }

    /// Adds a connection, which starts its timer at `now`. Its key must not be in the table.
    pub fn insert(&mut self, connection: Connection<A>, now: Millis) -> Result<Slot, InsertError> {
        let hash = self.hash(&connection.key());
        self.insert_hashed(hash, connection, now)
    }

    /// [`Table::insert`] with the hash of the key at hand.
    pub fn insert_hashed(
        &mut self,
        hash: u64,
        connection: Connection<A>,
        now: Millis,
    ) -> Result<Slot, InsertError> {
        debug_assert_eq!(hash, self.hash(&connection.key()));
        debug_assert_eq!(self.lookup(&connection.key()), None);
        let reply = connection.reply_key().map(|key| (self.hash(&key), key));
        if let Some((reply_hash, reply_key)) = &reply
            && let Some((holder, _)) = self.lookup_hashed(*reply_hash, reply_key)
        {
            return Err(InsertError::ReplyKeyInUse(holder));
        }
        let slot = self
            .queues
            .pop_front(&mut self.lines, FREE)
            .ok_or(InsertError::Full)?;
        if let Some(next) = self.queues.first(FREE) {
            // The other memory of the next insertion has just been touched: its line.
            self.wheel.prefetch(next);
        }
        if self.len == 0 {
            self.wheel.restart(now);
        }
        self.len += 1;
        self.index.insert(hash, Reference { slot, reply: false });
        if let Some((hash, _)) = reply {
            self.index.insert(hash, Reference { slot, reply: true });
        }
        let mut connection = connection;
        connection.touch(now);
        self.wheel.arm(slot, now + connection.timeout());
        self.enqueue(slot, Class::of(&connection));
        self.lines[slot as usize].connection = Some(connection);
        Ok(Slot(slot))
    }

    /// Takes a connection out.
    ///
    /// # Panics
    ///
    /// If it was removed already, as [`Table::get`].
    pub fn remove(&mut self, slot: Slot) -> Connection<A> {
        self.wheel.disarm(slot.0);
        self.forget(slot.0)
    }

    /// Takes a packet of the connection in `slot` into account, see [`Connection::on_packet`].
    #[inline]
    pub fn on_packet(
        &mut self,
        slot: Slot,
        direction: Direction,
        signal: Signal,
        now: Millis,
        timeouts: &Timeouts,
        table: TcpTable,
    ) -> Transition {
        let connection = self.entry(slot);
        let (state, timeout) = (connection.state(), connection.timeout());
        let class = Class::of(connection);
        let transition = connection.on_packet(direction, signal, now, timeouts, table);
        let rearm = connection.timeout() < timeout;
        if rearm
            || connection.state() != state
            || (direction == Direction::Input && Class::may_change_at(connection))
        {
            let connection = *connection;
            self.requeue(slot, class, &connection, rearm, now);
        }
        transition
    }

    /// The connection in `slot`, to take a quiet packet into account: one look-up for all that is
    /// asked of it before.
    #[inline(always)]
    pub fn live(&mut self, slot: Slot) -> Live<'_, A> {
        Live(self.entry(slot))
    }

    /// Starts the timer of the connection in `slot` again without a state transition (ICMP errors
    /// that belong to it).
    #[inline]
    pub fn touch(&mut self, slot: Slot, now: Millis) {
        self.entry(slot).touch(now);
    }

    /// A helper reads the packets of the connection in `slot` from now on.
    pub fn mark_helped(&mut self, slot: Slot) {
        self.entry(slot).mark_helped();
    }

    /// Gives the connection in `slot` another timeout in milliseconds, until its next packet, and
    /// starts its timer again.
    pub fn set_timeout(&mut self, slot: Slot, timeout: u32, now: Millis) {
        let connection = self.entry(slot);
        connection.change_timeout(timeout);
        connection.touch(now);
        let due = now + connection.timeout();
        self.wheel.disarm(slot.0);
        self.wheel.arm(slot.0, due);
    }

    /// Hands out connections whose timer has run out, looking at no more than `budget` entries.
    ///
    /// Call it in every loop, with or without traffic. Returns how many entries it looked at;
    /// `budget` means there may be more.
    pub fn expire(
        &mut self,
        now: Millis,
        budget: usize,
        mut expired: impl FnMut(Connection<A>),
    ) -> usize {
        for looked_at in 0..budget {
            match self.next_timer(now) {
                Timer::Expired(connection) => expired(connection),
                Timer::Rearmed => {}
                Timer::NoneDue => return looked_at,
            }
        }
        budget
    }

    /// Takes out the connection whose loss hurts least, in the order of [`Eviction`]; `None` if
    /// there is none that may go, or the first few established ones asked were not idle (they are
    /// asked last next time).
    pub fn evict_one(&mut self, now: Millis) -> Option<Evicted<A>> {
        for _ in 0..TRIES {
            match self.next_timer(now) {
                Timer::Expired(connection) => {
                    return Some(Evicted {
                        connection,
                        why: Eviction::Expired,
                    });
                }
                Timer::Rearmed => {}
                Timer::NoneDue => break,
            }
        }
        let first = |class, why| Some((self.queues.first(class as u32)?, why));
        let embryonic = || first(Class::Embryonic, Eviction::Embryonic);
        let closing = || first(Class::Closing, Eviction::Closing);
        let [half_open, ended, _] = self.queued;
        let victim = if half_open < ended / FEW_HALF_OPEN {
            closing().or_else(embryonic)
        } else {
            embryonic().or_else(closing)
        };
        if let Some((slot, why)) = victim {
            let next = Lists::after(&mut self.lines, slot);
            let connection = self.remove(Slot(slot));
            if let Some(next) = next {
                self.foresee(next);
            }
            return Some(Evicted { connection, why });
        }
        for _ in 0..TRIES {
            let slot = self.queues.first(Class::Young as u32)?;
            if self.get(Slot(slot)).idle(now) > IDLE {
                return Some(Evicted {
                    connection: self.remove(Slot(slot)),
                    why: Eviction::Idle,
                });
            }
            self.queues.unlink(&mut self.lines, slot);
            self.queues
                .push_back(&mut self.lines, Class::Young as u32, slot);
        }
        None
    }

    /// Asks for what evicting `slot` will read, and for the line of the one after it: in a flood
    /// each new connection evicts one that nobody has looked at for long.
    fn foresee(&mut self, slot: u32) {
        if let Some(after) = Lists::after(&mut self.lines, slot) {
            prefetch(&self.lines[after as usize]);
        }
        self.wheel.prefetch(slot);
        let connection = self.get(Slot(slot));
        let (key, reply) = (connection.key(), connection.reply_key());
        self.index.prefetch(self.hash(&key));
        if let Some(key) = reply {
            self.index.prefetch(self.hash(&key));
        }
    }

    /// Shows the connections in up to `budget` slots from `cursor` on (0 to begin with) and
    /// returns where to go on; `None` at the end.
    ///
    /// A connection present during the whole of a listing is shown exactly once.
    pub fn scan(
        &self,
        cursor: u32,
        budget: usize,
        mut show: impl FnMut(Slot, &Connection<A>),
    ) -> Option<u32> {
        let start = (cursor as usize).min(self.lines.len());
        let end = start.saturating_add(budget).min(self.lines.len());
        for (slot, line) in (start as u32..).zip(&self.lines[start..end]) {
            if let Some(connection) = &line.connection {
                show(Slot(slot), connection);
            }
        }
        (end < self.lines.len()).then_some(end as u32)
    }

    /// As [`Table::get`], to be changed.
    #[inline(always)]
    fn entry(&mut self, slot: Slot) -> &mut Connection<A> {
        let line = &mut self.lines[slot.0 as usize];
        line.connection.as_mut().expect(LIVE)
    }

    /// Looks at the next timer that came up.
    fn next_timer(&mut self, now: Millis) -> Timer<A> {
        let Some(slot) = self.wheel.pop(now) else {
            return Timer::NoneDue;
        };
        let remaining = self.get(Slot(slot)).expires_in(now);
        if remaining > 0 {
            self.wheel.arm(slot, now + remaining);
            return Timer::Rearmed;
        }
        Timer::Expired(self.forget(slot))
    }

    /// Brings queue and timer in line with a connection that has changed.
    #[cold]
    fn requeue(
        &mut self,
        slot: Slot,
        before: Option<Class>,
        connection: &Connection<A>,
        rearm: bool,
        now: Millis,
    ) {
        if rearm {
            self.wheel.disarm(slot.0);
            self.wheel.arm(slot.0, now + connection.timeout());
        }
        self.dequeue(slot.0, before);
        self.enqueue(slot.0, Class::of(connection));
    }

    /// Puts a slot that is in no queue at the end of its class's.
    #[inline]
    fn enqueue(&mut self, slot: u32, class: Option<Class>) {
        if let Some(class) = class {
            self.queued[class as usize] += 1;
            self.queues.push_back(&mut self.lines, class as u32, slot);
        }
    }

    /// Takes a slot out of the queue of `class`, the class of its connection.
    #[inline]
    fn dequeue(&mut self, slot: u32, class: Option<Class>) {
        if let Some(class) = class {
            self.queued[class as usize] -= 1;
            self.queues.unlink(&mut self.lines, slot);
        }
    }

    /// Frees a slot whose timer is disarmed.
    fn forget(&mut self, slot: u32) -> Connection<A> {
        let connection = self.lines[slot as usize].connection.take().expect(LIVE);
        let hash = self.hash(&connection.key());
        self.index.remove(hash, Reference { slot, reply: false });
        if let Some(key) = connection.reply_key() {
            let hash = self.hash(&key);
            self.index.remove(hash, Reference { slot, reply: true });
        }
        self.dequeue(slot, Class::of(&connection));
        // The slot freed last is the one most likely in cache.
        self.queues.push_front(&mut self.lines, FREE, slot);
        self.len -= 1;
        connection
    }
}

/// The entry whose tag fits a hash first, if any does: a packed reference, or one to no entry.
#[derive(Clone, Copy, Debug)]
pub struct Candidate(u32);

impl Candidate {
    /// No entry's.
    pub const NONE: Self = Self(NIL);
}

/// A connection in its table. All that can be changed of it here concerns neither its key nor its
/// queue nor its timer.
#[derive(Debug)]
pub struct Live<'a, A: Address>(&'a mut Connection<A>);

impl<A: Address> Live<'_, A> {
    /// Takes a packet into account that changes nothing but the clock and the packet count, as
    /// [`Table::on_packet`] would. False, and nothing is done, if it would change more, or the
    /// connection has expired.
    #[inline(always)]
    pub fn on_quiet_packet(
        &mut self,
        direction: Direction,
        signal: Signal,
        now: Millis,
        timeouts: &Timeouts,
    ) -> bool {
        self.0.on_quiet_packet(direction, signal, now, timeouts)
    }
}

impl<A: Address> Deref for Live<'_, A> {
    type Target = Connection<A>;

    #[inline(always)]
    fn deref(&self) -> &Connection<A> {
        self.0
    }
}

#[inline]
fn found(reference: Reference) -> (Slot, Direction) {
    let direction = if reference.reply {
        Direction::Output
    } else {
        Direction::Input
    };
    (Slot(reference.slot), direction)
}

enum Timer<A> {
    Expired(Connection<A>),
    Rearmed,
    NoneDue,
}

/// An entry on cache lines of its own: one (IPv4) or two (IPv6).
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<A> {
    connection: Option<Connection<A>>,
    /// In the FIFO of its class, or among the free ones.
    queue: Link,
}

impl<A> Line<A> {
    const FREE: Self = Self {
        connection: None,
        queue: Link::NONE,
    };
}

impl<A> Links for Pages<Line<A>> {
    #[inline]
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self[slot as usize].queue
    }
}

/// The list of free slots, after those of the classes.
const FREE: u32 = CLASSES as u32;
/// Entries an eviction looks at, per class, before it gives up.
const TRIES: usize = 8;
const LIVE: &str = "a slot is used only while its connection lives";

#[cfg(test)]
mod tests;
