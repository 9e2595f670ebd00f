//! Where lblc and lblcr keep which destination address is served by whom (behaviour notes 1.10).
//!
//! One map per service, shared by all workers, 16 shards with a lock each, touched only when a
//! connection is created (DESIGN §4). Control never takes a lock: sweeping is done by whoever comes
//! by, at most [`SWEPT`] entries at a time. No worker sleeps for a lock, nor calls the system: it
//! tries for a while ([`TRIES`]), and after that chooses without the map.
//!
//! A map takes its address space when the service is created and no memory from the heap
//! afterwards; pages become resident as they are first used (up to 2 MB). Of the kernel's figures
//! it keeps: 16384 entries are nominal, from 1.5 times that on new ones are refused; every minute
//! entries idle for six may go while there are more than nominal; every half hour those unused for
//! a day go. An entry unused for a day is never used again, swept or not.
//!
//! Invariant: a slot is in use exactly if it has members; it is in the chain of its key then.

use crate::connection::Millis;
use crossbeam_utils::CachePadded;
use std::hint::spin_loop;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Nominal number of entries: 16 for each of 1024 buckets.
pub(super) const NOMINAL: usize = 16 * 1024;
/// From here on new entries are refused.
pub(super) const REFUSED: usize = NOMINAL / 2 * 3;
/// `lblc_expiration`, `lblcr_expiration`: unused entries, and unchanged sets, last that long.
pub(super) const EXPIRATION: u64 = 24 * 60 * MINUTE;
/// In milliseconds.
const MINUTE: u64 = 60_000;
/// Idle for longer than this an entry goes while there are too many.
const IDLE: u64 = 6 * MINUTE;
/// Minutes between two sweeps for unused entries.
const FULL: u64 = 30;

const SHARDS: usize = 16;
/// Chains of a shard.
const CHAINS: usize = 1024;
/// Room of a shard: its share of [`REFUSED`] and an eighth, as destinations do not fall evenly.
const ROOM: usize = REFUSED / SHARDS * 9 / 8;
/// Entries looked at by each visitor.
const SWEPT: u32 = 8;
/// Tries for a lock: some ten microseconds, many times what anybody holds it.
const TRIES: u32 = 1000;

/// The map of one service.
#[derive(Debug)]
pub struct Localities {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    entries: CachePadded<AtomicUsize>,
    seed: u64,
}

#[derive(Debug)]
struct Shard {
    /// Index + 1 of the first slot of each chain; 0 = none. So are all links here.
    chains: Box<[u32]>,
    slots: Vec<Slot>,
    free_slot: u32,
    members: Vec<Member>,
    free_member: u32,
    sweep: Sweep,
}

/// What is known of one destination.
#[derive(Debug)]
struct Slot {
    address: u128,
    used: Millis,
    /// When its set changed last.
    changed: Millis,
    /// The next one of the chain, or of the free ones.
    next: u32,
    /// The first of its set.
    first: u32,
}

/// One server of a set.
#[derive(Debug)]
struct Member {
    /// As [`super::position::mark`] makes it.
    mark: u64,
    next: u32,
}

#[derive(Debug, Default)]
struct Sweep {
    minute: u64,
    /// Slots still to be looked at in this minute.
    left: u32,
    at: u32,
    /// Idle entries that shall go.
    goal: usize,
    /// Unused ones go.
    full: bool,
}

impl Localities {
    /// An empty map for sets of `members` servers on average; `seed` for its hash.
    pub fn new(members: usize, seed: u64) -> Self {
        let shard = || Shard {
            chains: vec![0; CHAINS].into(),
            slots: Vec::with_capacity(ROOM),
            free_slot: 0,
            members: Vec::with_capacity(members * ROOM),
            free_member: 0,
            sweep: Sweep::default(),
        };
        Self {
            shards: (0..SHARDS)
                .map(|_| CachePadded::new(Mutex::new(shard())))
                .collect(),
            entries: CachePadded::default(),
            seed,
        }
    }

    /// How many destinations it knows.
    pub fn entries(&self) -> usize {
        self.entries.load(Relaxed)
    }

    /// The place of `address`, to be used by nobody else meanwhile; `None` if that takes too long.
    pub(super) fn place(&self, address: IpAddr, now: Millis) -> Option<Place<'_>> {
        let address = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let hash = self.hash(address);
        let shard = lock(&self.shards[hash as usize % SHARDS])?;
        let mut place = Place {
            map: self,
            shard,
            address,
            chain: chain(hash),
            slot: None,
            now,
        };
        place.sweep();
        place.find();
        Some(place)
    }

    /// Distributes addresses chosen by others, so nobody shall foretell it.
    fn hash(&self, address: u128) -> u64 {
        let fold = (address >> 64) as u64 ^ (address as u64).rotate_left(29) ^ self.seed;
        let product = u128::from(fold) * 0x9E37_79B9_7F4A_7C15;
        (product >> 64) as u64 ^ product as u64
    }
}

/// The chain of a hash, in its shard.
fn chain(hash: u64) -> usize {
    hash as usize / SHARDS % CHAINS
}

fn lock(shard: &Mutex<Shard>) -> Option<MutexGuard<'_, Shard>> {
    for _ in 0..TRIES {
        match shard.try_lock() {
            Ok(shard) => return Some(shard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => spin_loop(),
        }
    }
    None
}

/// The place of one destination, whether it is known or not.
#[derive(Debug)]
pub(super) struct Place<'a> {
    map: &'a Localities,
    shard: MutexGuard<'a, Shard>,
    address: u128,
    chain: usize,
    slot: Option<usize>,
    now: Millis,
}

impl Place<'_> {
    /// How long its set has been the same, in milliseconds.
    pub(super) fn unchanged(&self) -> u64 {
        self.slot.map_or(0, |slot| {
            self.now.0.saturating_sub(self.shard.slots[slot].changed.0)
        })
    }

    /// The servers of its set, newest first.
    pub(super) fn members(&self) -> impl Iterator<Item = u64> {
        let mut link = self.slot.map_or(0, |slot| self.shard.slots[slot].first);
        std::iter::from_fn(move || {
            let member = self.shard.members.get(index(link)?)?;
            link = member.next;
            Some(member.mark)
        })
    }

    /// Has `mark` alone serve it from now on.
    pub(super) fn replace(&mut self, mark: u64) {
        match self.slot {
            Some(slot) => {
                let first = self.shard.slots[slot].first;
                if let Some(first) = index(first) {
                    self.shard.members[first].mark = mark;
                }
                self.shard.slots[slot].changed = self.now;
            }
            None => self.insert(mark),
        }
    }

    /// Has `mark` serve it too. False if there is no room for another.
    pub(super) fn add(&mut self, mark: u64) -> bool {
        let Some(slot) = self.slot else {
            self.insert(mark);
            return true;
        };
        let next = self.shard.slots[slot].first;
        let Some(member) = self.shard.take_member(Member { mark, next }) else {
            return false;
        };
        self.shard.slots[slot].first = member;
        self.shard.slots[slot].changed = self.now;
        true
    }

    /// Takes `mark` out of its set, unless it is the last one.
    pub(super) fn drop_member(&mut self, mark: u64) {
        let Some(slot) = self.slot else { return };
        let shard = &mut *self.shard;
        let first = shard.slots[slot].first;
        let (mut link, mut before) = (first, None::<usize>);
        while let Some(at) = index(link) {
            let next = shard.members[at].next;
            if shard.members[at].mark == mark {
                match before {
                    Some(before) => shard.members[before].next = next,
                    None if next == 0 => return,
                    None => shard.slots[slot].first = next,
                }
                shard.members[at].next = shard.free_member;
                shard.free_member = link;
                shard.slots[slot].changed = self.now;
                return;
            }
            before = index(link);
            link = next;
        }
    }

    fn find(&mut self) {
        let now = self.now;
        let mut link = self.shard.chains[self.chain];
        while let Some(at) = index(link) {
            let slot = &mut self.shard.slots[at];
            if slot.address == self.address {
                if now.0.saturating_sub(slot.used.0) >= EXPIRATION {
                    self.remove(at);
                } else {
                    slot.used = now;
                    self.slot = Some(at);
                }
                return;
            }
            link = slot.next;
        }
    }

    /// A new entry, if there is room.
    fn insert(&mut self, mark: u64) {
        if self.map.entries() >= REFUSED {
            return;
        }
        let shard = &mut *self.shard;
        let Some(first) = shard.take_member(Member { mark, next: 0 }) else {
            return;
        };
        let slot = Slot {
            address: self.address,
            used: self.now,
            changed: self.now,
            next: shard.chains[self.chain],
            first,
        };
        let link = match index(shard.free_slot) {
            Some(at) => {
                let link = shard.free_slot;
                shard.free_slot = shard.slots[at].next;
                shard.slots[at] = slot;
                link
            }
            None if shard.slots.len() < ROOM => {
                shard.slots.push(slot);
                shard.slots.len() as u32
            }
            None => {
                shard.give_back(first);
                return;
            }
        };
        shard.chains[self.chain] = link;
        self.slot = index(link);
        self.map.entries.fetch_add(1, Relaxed);
    }

    /// Forgets the entry in slot `at`.
    fn remove(&mut self, at: usize) {
        let chain = chain(self.map.hash(self.shard.slots[at].address));
        let shard = &mut *self.shard;
        let gone = at as u32 + 1;
        let next = shard.slots[at].next;
        let mut link = shard.chains[chain];
        if link == gone {
            shard.chains[chain] = next;
        } else {
            while let Some(before) = index(link) {
                link = shard.slots[before].next;
                if link == gone {
                    shard.slots[before].next = next;
                    break;
                }
            }
        }
        let members = std::mem::take(&mut shard.slots[at].first);
        shard.give_back(members);
        shard.slots[at].next = shard.free_slot;
        shard.free_slot = gone;
        self.map.entries.fetch_sub(1, Relaxed);
    }

    /// Looks at a few entries, if it is time to.
    fn sweep(&mut self) {
        let minute = self.now.0 / MINUTE;
        let sweep = &mut self.shard.sweep;
        if sweep.minute != minute {
            let surplus = self.map.entries().saturating_sub(NOMINAL);
            let full = sweep.minute / FULL != minute / FULL;
            *sweep = Sweep {
                minute,
                left: 0,
                at: sweep.at,
                goal: (surplus * 4 / 3).min(NOMINAL / 2).div_ceil(SHARDS),
                full,
            };
            if full || surplus > 0 {
                self.shard.sweep.left = self.shard.slots.len() as u32;
            }
        }
        for _ in 0..SWEPT.min(self.shard.sweep.left) {
            let Sweep { at, goal, full, .. } = self.shard.sweep;
            let at = at as usize % self.shard.slots.len();
            self.shard.sweep.at = at as u32 + 1;
            self.shard.sweep.left -= 1;
            let slot = &self.shard.slots[at];
            let idle = self.now.0.saturating_sub(slot.used.0);
            let surplus = goal > 0 && idle > IDLE;
            if slot.first != 0 && (surplus || (full && idle >= EXPIRATION)) {
                self.shard.sweep.goal = goal.saturating_sub(1);
                self.remove(at);
            }
        }
    }
}

impl Shard {
    /// The link to a member with this content.
    fn take_member(&mut self, member: Member) -> Option<u32> {
        if let Some(at) = index(self.free_member) {
            let link = self.free_member;
            self.free_member = self.members[at].next;
            self.members[at] = member;
            return Some(link);
        }
        (self.members.len() < self.members.capacity()).then(|| {
            self.members.push(member);
            self.members.len() as u32
        })
    }

    /// Frees a whole set.
    fn give_back(&mut self, mut link: u32) {
        while let Some(at) = index(link) {
            let next = std::mem::replace(&mut self.members[at].next, self.free_member);
            self.free_member = link;
            link = next;
        }
    }
}

/// What a link leads to.
fn index(link: u32) -> Option<usize> {
    link.checked_sub(1).map(|index| index as usize)
}
