//! The connection table of one worker and one IP family.
//!
//! Fixed capacity; all memory is allocated and touched by [`Table::new`] and nothing allocates
//! afterwards. Every connection is found under its key and, if replies come back through us,
//! under its reply key. Only its worker ever touches a table, and slots are not kept across a
//! burst, so a slot needs no generation number: between the lookup that yields one and its use
//! the same thread does nothing that could give it to another connection.

use super::entry::{Connection, Transition};
use super::eviction::{Class, Evicted, Eviction, IDLE};
use super::hash::TupleHasher;
use super::index::{Index, Reference};
use super::lists::Lists;
use super::prefetch::prefetch;
use super::state::{Direction, Signal};
use super::tcp::TcpTable;
use super::time::Millis;
use super::timeouts::Timeouts;
use super::wheel::Wheel;
use crate::address::{Address, FiveTuple};
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
    /// The connection in this slot has the key already (it may have expired).
    #[error("the key is in use")]
    KeyInUse(Slot),
    /// The connection in this slot has the reply key already (it may have expired).
    #[error("the reply key is in use")]
    ReplyKeyInUse(Slot),
}

/// Connections of one worker and family.
#[derive(Debug)]
pub struct Table<A> {
    hasher: TupleHasher,
    index: Index,
    lines: Box<[Line<A>]>,
    wheel: Wheel,
    /// A FIFO for each [`Class`], and the free slots.
    queues: Lists,
    len: usize,
}

impl<A: Address> Table<A> {
    /// A table for `capacity` connections (less than 2^31). Allocates and touches all its memory.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity < 1 << 31, "slots have 31 bits");
        let mut queues = Lists::new(FREE + 1, capacity);
        for slot in 0..capacity as u32 {
            queues.push_back(FREE, slot);
        }
        Self {
            hasher: TupleHasher::random(),
            index: Index::new(capacity * 2),
            lines: vec![Line(None); capacity].into(),
            wheel: Wheel::new(capacity),
            queues,
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

    /// Second stage: asks for the entry that is probably meant.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if let Some(candidate) = self.index.first_candidate(hash) {
            prefetch(&self.lines[candidate.slot as usize]);
        }
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
        let found = self.index.find(hash, |reference| {
            let line = &self.lines[reference.slot as usize];
            line.0.as_ref().is_some_and(|connection| {
                let binding = connection.binding();
                let (source, destination) = if reference.reply {
                    (&binding.destination, &binding.local)
                } else {
                    (&binding.client, &binding.vip)
                };
                binding.protocol == tuple.protocol
                    && *source == tuple.source
                    && *destination == tuple.destination
            })
        })?;
        let direction = if found.reply {
            Direction::Output
        } else {
            Direction::Input
        };
        Some((Slot(found.slot), direction))
    }

    /// The connection in `slot`.
    ///
    /// # Panics
    ///
    /// If it was removed: slots come from lookups and insertions of the same burst only.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Connection<A> {
        self.lines[slot.0 as usize].0.as_ref().expect(LIVE)
    }

    /// Adds a connection, which starts its timer at `now`.
    pub fn insert(&mut self, connection: Connection<A>, now: Millis) -> Result<Slot, InsertError> {
        let key = connection.key();
        let hash = self.hash(&key);
        if let Some((holder, _)) = self.lookup_hashed(hash, &key) {
            return Err(InsertError::KeyInUse(holder));
        }
        let reply = connection.reply_key().map(|key| (self.hash(&key), key));
        if let Some((reply_hash, reply_key)) = &reply
            && let Some((holder, _)) = self.lookup_hashed(*reply_hash, reply_key)
        {
            return Err(InsertError::ReplyKeyInUse(holder));
        }
        let slot = self.queues.pop_front(FREE).ok_or(InsertError::Full)?;
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
        if let Some(class) = Class::of(&connection) {
            self.queues.push_back(class as u32, slot);
        }
        self.lines[slot as usize].0 = Some(connection);
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
        let connection = self.lines[slot.0 as usize].0.as_mut().expect(LIVE);
        let (state, timeout) = (connection.state(), connection.timeout());
        let transition = connection.on_packet(direction, signal, now, timeouts, table);
        let rearm = connection.timeout() < timeout;
        if rearm
            || connection.state() != state
            || (direction == Direction::Input && Class::may_change_at(connection))
        {
            let connection = *connection;
            self.requeue(slot, &connection, rearm, now);
        }
        transition
    }

    /// Starts the timer of the connection in `slot` again without a state transition (ICMP errors
    /// that belong to it).
    #[inline]
    pub fn touch(&mut self, slot: Slot, now: Millis) {
        self.lines[slot.0 as usize]
            .0
            .as_mut()
            .expect(LIVE)
            .touch(now);
    }

    /// Gives the connection in `slot` another timeout in milliseconds, until its next packet, and
    /// starts its timer again.
    pub fn set_timeout(&mut self, slot: Slot, timeout: u32, now: Millis) {
        let connection = self.lines[slot.0 as usize].0.as_mut().expect(LIVE);
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
        for (class, why) in [
            (Class::Embryonic, Eviction::Embryonic),
            (Class::Closing, Eviction::Closing),
        ] {
            if let Some(slot) = self.queues.first(class as u32) {
                let connection = self.remove(Slot(slot));
                return Some(Evicted { connection, why });
            }
        }
        for _ in 0..TRIES {
            let slot = self.queues.first(Class::Young as u32)?;
            if self.get(Slot(slot)).idle(now) > IDLE {
                return Some(Evicted {
                    connection: self.remove(Slot(slot)),
                    why: Eviction::Idle,
                });
            }
            self.queues.unlink(slot);
            self.queues.push_back(Class::Young as u32, slot);
        }
        None
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
            if let Some(connection) = &line.0 {
                show(Slot(slot), connection);
            }
        }
        (end < self.lines.len()).then_some(end as u32)
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
    fn requeue(&mut self, slot: Slot, connection: &Connection<A>, rearm: bool, now: Millis) {
        if rearm {
            self.wheel.disarm(slot.0);
            self.wheel.arm(slot.0, now + connection.timeout());
        }
        self.queues.unlink(slot.0);
        if let Some(class) = Class::of(connection) {
            self.queues.push_back(class as u32, slot.0);
        }
    }

    /// Frees a slot whose timer is disarmed.
    fn forget(&mut self, slot: u32) -> Connection<A> {
        let connection = self.lines[slot as usize].0.take().expect(LIVE);
        let hash = self.hash(&connection.key());
        self.index.remove(hash, Reference { slot, reply: false });
        if let Some(key) = connection.reply_key() {
            let hash = self.hash(&key);
            self.index.remove(hash, Reference { slot, reply: true });
        }
        self.queues.unlink(slot);
        // The slot freed last is the one most likely in cache.
        self.queues.push_front(FREE, slot);
        self.len -= 1;
        connection
    }
}

enum Timer<A> {
    Expired(Connection<A>),
    Rearmed,
    NoneDue,
}

/// An entry on cache lines of its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line<A>(Option<Connection<A>>);

/// The list of free slots, after those of the classes.
const FREE: u32 = 3;
/// Entries an eviction looks at, per class, before it gives up.
const TRIES: usize = 8;
const LIVE: &str = "a slot is used only while its connection lives";

#[cfg(test)]
mod tests;
