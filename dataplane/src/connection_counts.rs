//! How many connections each real server has: what the least-connection schedulers compare.
//!
//! The counts of a service's servers stand side by side in a [`CountBlock`], once per worker, 16
//! bytes per server, so that a choice among a hundred servers walks some 25 cache lines of the asking
//! worker's own and none of anybody else's. Of the two words per server
//!
//! - *own* is what the worker has itself, exact, written by it alone;
//! - *base* is what control knows of the others, written by it alone, every
//!   [`SHARE_INTERVAL`] (DESIGN §4): see [`WorkerCounts::estimate`].
//!
//! With one worker the base is always 0 and the estimate is the kernel's count.

use crate::verdict::WorkerId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often control tells each worker what the others have.
pub const SHARE_INTERVAL: Duration = Duration::from_millis(50);

/// Servers whose counts fill a pair of cache lines, which many CPUs load together.
const PER_LINE: usize = 8;
/// Servers of the first block of a service that has fewer.
const SMALLEST: usize = PER_LINE;
/// Servers of the largest block.
const LARGEST: usize = 4096;
/// One active connection; the low half of a word counts the inactive ones.
const ACTIVE: u64 = 1 << 32;
/// One inactive connection.
const INACTIVE: u64 = 1;

/// One worker's view of one server's connections.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    own: AtomicU64,
    base: AtomicU64,
}

/// Active and inactive connections (spec 3.2).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Connections {
    /// In an active state.
    pub active: u64,
    /// All others.
    pub inactive: u64,
}

impl WorkerCounts {
    /// A connection was bound. Only the worker itself may call this.
    #[inline]
    pub fn bind(&self, active: bool) {
        self.change(|own| own.wrapping_add(word(active)));
    }

    /// A connection ended. Only the worker itself may call this.
    #[inline]
    pub fn unbind(&self, active: bool) {
        self.change(|own| own.wrapping_sub(word(active)));
    }

    /// A connection became active, or inactive; it is in one of the two counts all the time. Only
    /// the worker itself may call this.
    #[inline]
    pub fn turn(&self, active: bool) {
        self.change(|own| own.wrapping_add(word(active)).wrapping_sub(word(!active)));
    }

    /// What this worker has.
    #[inline]
    pub fn own(&self) -> Connections {
        connections(self.own.load(Relaxed))
    }

    /// What all `workers` workers are taken to have.
    ///
    /// What this worker has won and lost since control last looked is taken for a fair sample of
    /// what all have: `others + own + (workers - 1) * (own - own then)`. Counting the own changes
    /// once only would have every worker fill the same gap whole: with four workers it would be
    /// filled four times, and the next gap be three times as large. Control folds everything it
    /// knows into `base = others - (workers - 1) * own then`, which leaves one multiplication.
    #[inline]
    pub fn estimate(&self, workers: u8) -> Connections {
        connections(self.estimated(workers))
    }

    /// What the least-connection schedulers weigh of the estimate: `256 * active + total` (1.0).
    #[inline]
    pub(crate) fn overhead(&self, workers: u8) -> u64 {
        let (active, inactive) = halves(self.estimated(workers));
        (active * 257 + inactive).max(0).cast_unsigned()
    }

    /// Active connections of the estimate: what sed, nq, ovf, lblc and lblcr ask for.
    #[inline]
    pub(crate) fn active(&self, workers: u8) -> u64 {
        match workers {
            1 => self.own.load(Relaxed) >> 32,
            workers => halves(self.estimated(workers)).0.max(0).cast_unsigned(),
        }
    }

    /// [`Self::overhead`] if there is one worker: nothing is estimated, and nothing below zero.
    #[inline]
    pub(crate) fn overhead_alone(&self) -> u64 {
        let own = self.own.load(Relaxed);
        (own >> 32) * 257 + (own & u64::from(u32::MAX))
    }

    #[inline]
    fn estimated(&self, workers: u8) -> u64 {
        let own = self.own.load(Relaxed).wrapping_mul(u64::from(workers));
        own.wrapping_add(self.base.load(Relaxed))
    }

    /// Has the worker have as many as that (tests).
    #[cfg(test)]
    pub(crate) fn set_own(&self, active: u64, inactive: u64) {
        self.own.store(active * ACTIVE + inactive, Relaxed);
    }

    #[inline]
    fn change(&self, change: impl Fn(u64) -> u64) {
        self.own.store(change(self.own.load(Relaxed)), Relaxed);
    }
}

#[inline]
fn word(active: bool) -> u64 {
    if active { ACTIVE } else { INACTIVE }
}

/// Active and inactive connections of a word. Sums and multiples of words are right as long as
/// each half is: one below zero borrows from the other, which is undone here.
#[inline]
fn halves(word: u64) -> (i64, i64) {
    let inactive = i64::from((word as u32).cast_signed());
    (word.cast_signed().wrapping_sub(inactive) >> 32, inactive)
}

/// The same as counts: an estimate below zero is shown as 0.
#[inline]
fn connections(word: u64) -> Connections {
    let (active, inactive) = halves(word);
    Connections {
        active: active.max(0).cast_unsigned(),
        inactive: inactive.max(0).cast_unsigned(),
    }
}

/// The counts of up to 4096 servers of one service, by worker, and who is overloaded.
#[derive(Debug)]
pub struct CountBlock {
    /// A multiple of [`PER_LINE`].
    capacity: usize,
    /// By worker, with a line pair between one's and the next one's.
    counts: Box<[WorkerCounts]>,
    overloaded: Box<[AtomicBool]>,
}

impl CountBlock {
    fn new(workers: usize, capacity: usize) -> Arc<Self> {
        let capacity = capacity.next_multiple_of(PER_LINE);
        let counts = workers * (capacity + PER_LINE);
        Arc::new(Self {
            capacity,
            counts: (0..counts).map(|_| WorkerCounts::default()).collect(),
            overloaded: (0..capacity).map(|_| AtomicBool::new(false)).collect(),
        })
    }

    /// The counts of `worker`, by place.
    #[inline]
    pub(crate) fn worker(&self, worker: WorkerId) -> &[WorkerCounts] {
        self.counts_of(usize::from(worker.0))
    }

    /// The OVERLOAD flag of the server in `place`.
    #[inline]
    pub(crate) fn is_overloaded(&self, place: u32) -> bool {
        self.overloaded[place as usize].load(Relaxed)
    }

    /// How many workers it has counts for.
    pub(crate) fn workers(&self) -> usize {
        self.counts.len() / (self.capacity + PER_LINE)
    }

    #[inline]
    fn counts_of(&self, worker: usize) -> &[WorkerCounts] {
        let start = worker * (self.capacity + PER_LINE);
        &self.counts[start..start + self.capacity]
    }

    /// The words of all workers for the server in `place`.
    fn all(&self, place: usize) -> impl Iterator<Item = &WorkerCounts> {
        (0..self.workers()).map(move |worker| &self.counts_of(worker)[place])
    }

    /// Tells every worker what the others have in `place`, where that has changed.
    pub(crate) fn share(&self, place: u32) {
        let workers = self.workers() as u64;
        let place = place as usize;
        let sum = self.all(place).fold(0, |sum: u64, counts| {
            sum.wrapping_add(counts.own.load(Relaxed))
        });
        for counts in self.all(place) {
            // others - (W - 1) * own = sum - W * own. The worker goes on meanwhile: what it wins
            // between the two loads is missed or counted twice until the next time, as is what
            // the others win.
            let own = counts.own.load(Relaxed);
            let base = sum.wrapping_sub(own.wrapping_mul(workers));
            if counts.base.load(Relaxed) != base {
                counts.base.store(base, Relaxed);
            }
        }
    }
}

/// A server's place in a block. It stays the server's for as long as its identity lives.
#[derive(Clone, Debug)]
pub struct CountPlace {
    pub(crate) block: Arc<CountBlock>,
    pub(crate) place: u32,
}

impl CountPlace {
    /// A place in a block of its own, for a server that belongs to no [`CountTable`].
    pub fn alone(workers: usize) -> Self {
        Self {
            block: CountBlock::new(workers, 1),
            place: 0,
        }
    }

    /// The counts `worker` sees.
    #[inline]
    pub fn worker(&self, worker: WorkerId) -> &WorkerCounts {
        &self.block.worker(worker)[self.place as usize]
    }

    /// The connections of all workers, by looking at each.
    ///
    /// A connection may begin at one worker and end at another (one that FTP announced), so that
    /// what a single worker has may be below zero: only the sum means something.
    #[inline]
    pub fn connections(&self) -> Connections {
        let words = self.block.all(self.place as usize);
        connections(words.fold(0, |sum, counts| sum.wrapping_add(counts.own.load(Relaxed))))
    }

    /// The kernel's OVERLOAD flag; any worker may flip it when it binds or frees a connection.
    #[inline]
    pub fn overloaded(&self) -> &AtomicBool {
        &self.block.overloaded[self.place as usize]
    }
}

/// Where control takes the places of one service's servers from.
///
/// Servers that come together lie together; a place that is given back goes to the next newcomer.
#[derive(Debug)]
pub struct CountTable {
    workers: usize,
    places: usize,
    /// The free places, the next one last.
    free: Vec<CountPlace>,
}

impl CountTable {
    /// A table without places, for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            places: 0,
            free: Vec::new(),
        }
    }

    /// Makes sure that the next `places` places need at most one more block per 4096.
    pub fn reserve(&mut self, places: usize) {
        while self.free.len() < places {
            let missing = places - self.free.len();
            self.grow(missing);
        }
    }

    /// A free place; its counts are 0.
    pub fn take(&mut self) -> CountPlace {
        loop {
            if let Some(place) = self.free.pop() {
                return place;
            }
            self.grow(1);
        }
    }

    /// Gives a place back whose server has no connections and is in no table of any worker.
    pub fn give_back(&mut self, place: CountPlace) {
        for counts in place.block.all(place.place as usize) {
            counts.base.store(0, Relaxed);
        }
        place.overloaded().store(false, Relaxed);
        self.free.push(place);
    }

    /// At least doubles, so that servers that come one by one make few blocks.
    fn grow(&mut self, missing: usize) {
        let capacity = missing.max(self.places).clamp(SMALLEST, LARGEST);
        let block = CountBlock::new(self.workers, capacity);
        self.places += block.capacity;
        let places = (0..block.capacity as u32).rev();
        self.free.extend(places.map(|place| CountPlace {
            block: Arc::clone(&block),
            place,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const W0: WorkerId = WorkerId(0);
    const W1: WorkerId = WorkerId(1);

    fn counted(active: u64, inactive: u64) -> Connections {
        Connections { active, inactive }
    }

    #[test]
    fn one_worker_estimates_what_it_has() {
        let place = CountPlace::alone(1);
        let counts = place.worker(W0);
        counts.bind(true);
        counts.bind(false);
        counts.bind(false);
        counts.turn(true);
        place.block.share(0);
        assert_eq!(counts.own(), counted(2, 1));
        assert_eq!(counts.estimate(1), counted(2, 1));
        counts.unbind(true);
        counts.turn(false);
        counts.unbind(false);
        assert_eq!(counts.estimate(1), counted(0, 1));
        assert_eq!(place.connections(), counted(0, 1));
    }

    #[test]
    fn after_control_has_looked_every_worker_sees_the_sum() {
        let place = CountPlace::alone(3);
        for worker in 0..3 {
            for _ in 0..10 * (worker + 1) {
                place.worker(WorkerId(worker)).bind(worker == 1);
            }
        }
        assert_eq!(place.worker(W1).estimate(3), counted(60, 0));
        place.block.share(0);
        for worker in 0..3 {
            assert_eq!(place.worker(WorkerId(worker)).estimate(3), counted(20, 40));
        }
        assert_eq!(place.connections(), counted(20, 40));
    }

    #[test]
    fn own_changes_since_then_stand_for_those_of_all() {
        let place = CountPlace::alone(2);
        for worker in [W0, W1] {
            for _ in 0..5 {
                place.worker(worker).bind(true);
            }
        }
        place.block.share(0);
        place.worker(W0).bind(true);
        assert_eq!(place.worker(W0).estimate(2), counted(12, 0));
        assert_eq!(place.worker(W1).estimate(2), counted(10, 0));
        place.worker(W1).unbind(true);
        assert_eq!(place.worker(W1).estimate(2), counted(8, 0));
    }

    #[test]
    fn an_estimate_never_falls_below_zero() {
        let place = CountPlace::alone(4);
        for _ in 0..4 {
            place.worker(W0).bind(false);
            place.worker(W0).bind(true);
        }
        place.block.share(0);
        for _ in 0..4 {
            place.worker(W0).unbind(false);
        }
        assert_eq!(place.worker(W0).estimate(4), counted(4, 0));
        for _ in 0..4 {
            place.worker(W0).unbind(true);
        }
        assert_eq!(place.worker(W0).estimate(4), counted(0, 0));
    }

    #[test]
    fn servers_that_come_together_lie_together_and_places_are_used_again() {
        let mut table = CountTable::new(2);
        table.reserve(100);
        let places: Vec<_> = (0..100).map(|_| table.take()).collect();
        for (index, place) in places.iter().enumerate() {
            assert!(Arc::ptr_eq(&place.block, &places[0].block));
            assert_eq!(place.place, index as u32);
        }
        let freed = places[7].clone();
        freed.worker(W0).bind(true);
        freed.overloaded().store(true, Relaxed);
        freed.block.share(freed.place);
        freed.worker(W0).unbind(true);
        table.give_back(freed);
        let again = table.take();
        assert_eq!(again.place, 7);
        assert_eq!(again.worker(W1).estimate(2), counted(0, 0));
        assert!(!again.overloaded().load(Relaxed));
        // One by one: few blocks.
        let more: Vec<_> = (0..300).map(|_| table.take()).collect();
        let mut blocks: Vec<_> = more.iter().map(|p| Arc::as_ptr(&p.block)).collect();
        blocks.dedup();
        assert!(blocks.len() <= 4, "{}", blocks.len());
    }

    proptest! {
        #[test]
        fn halves_are_told_apart_whatever_was_added_and_taken(
            active in -1_000_000i64..1_000_000_000,
            inactive in -1_000_000i64..1_000_000_000,
        ) {
            let word = (active << 32).wrapping_add(inactive).cast_unsigned();
            prop_assert_eq!(
                connections(word),
                counted(active.max(0).cast_unsigned(), inactive.max(0).cast_unsigned())
            );
        }
    }
}
