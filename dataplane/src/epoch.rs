//! Publishing immutable tables to workers: one writer, many readers, reclamation by epochs.
//!
//! The publisher puts a new [`Arc`] into the slot and raises the epoch; a reader compares the
//! epoch once per burst (one acquire load), and only when it moved takes the new `Arc` out of the
//! slot with `try_lock` (never waiting: if the slot is busy the old table serves one burst more).
//! The reader then announces the epoch it has seen. The publisher keeps every table until all
//! readers have announced a later one, so the last reference is always dropped on the control
//! core and a worker never frees a table. At most [`MAX_UNRECLAIMED`] old tables exist: further
//! changes are merged by the caller, who asks [`Publisher::is_ready`] first.
//!
//! This is quiescent-state reclamation (as in DPDK's `rte_rcu_qsbr`) built from safe parts. What it
//! synchronises with comes from the module above, so that `tests/epoch_under_loom.rs` can put loom's in
//! its place and go through every interleaving.

use super::sync::{Arc, AtomicU64, Mutex, Ordering};
use crossbeam_utils::CachePadded;
use std::ops::Deref;

/// Old tables that may wait for readers; beyond it publishing waits and changes merge.
pub const MAX_UNRECLAIMED: usize = 2;

/// A published table as its holders share it.
pub type Published<T> = Arc<T>;

#[derive(Debug)]
struct Shared<T> {
    /// Epoch of the table in the slot; raised after the slot was filled.
    epoch: CachePadded<AtomicU64>,
    slot: Mutex<(u64, Arc<T>)>,
    /// Per reader: the epoch it has seen; older tables are not in its hands any more.
    seen: Box<[CachePadded<AtomicU64>]>,
}

/// The writing end, owned by control.
#[derive(Debug)]
pub struct Publisher<T> {
    shared: Arc<Shared<T>>,
    current: (u64, Arc<T>),
    /// Replaced tables with the epoch they had, oldest first.
    old: Vec<(u64, Arc<T>)>,
}

/// A worker's end.
#[derive(Debug)]
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    index: usize,
    epoch: u64,
    table: Arc<T>,
}

/// Creates a publisher and `readers` readers that all start with `initial` (epoch 1).
pub fn channel<T>(initial: T, readers: usize) -> (Publisher<T>, Vec<Reader<T>>) {
    let table = Arc::new(initial);
    let shared = Arc::new(Shared {
        epoch: CachePadded::new(AtomicU64::new(1)),
        slot: Mutex::new((1, Arc::clone(&table))),
        seen: (0..readers)
            .map(|_| CachePadded::new(AtomicU64::new(1)))
            .collect(),
    });
    let readers = (0..readers)
        .map(|index| Reader {
            shared: Arc::clone(&shared),
            index,
            epoch: 1,
            table: Arc::clone(&table),
        })
        .collect();
    let publisher = Publisher {
        shared,
        current: (1, table),
        old: Vec::new(),
    };
    (publisher, readers)
}

impl<T> Publisher<T> {
    /// Replaces the table and returns its epoch. Readers see it at their next burst.
    pub fn publish(&mut self, table: T) -> u64 {
        self.reclaim();
        let epoch = self.current.0 + 1;
        let table = Arc::new(table);
        {
            let mut slot = self
                .shared
                .slot
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            *slot = (epoch, Arc::clone(&table));
        }
        // Release: who sees the epoch finds the slot filled.
        self.shared.epoch.store(epoch, Ordering::Release);
        self.old
            .push(std::mem::replace(&mut self.current, (epoch, table)));
        epoch
    }

    /// True if another table may be published now; if not, a late reader holds an old one:
    /// merge changes and ask again.
    pub fn is_ready(&mut self) -> bool {
        self.reclaim();
        self.old.len() < MAX_UNRECLAIMED
    }

    /// Frees the tables no reader can hold any more.
    pub fn reclaim(&mut self) {
        let oldest = (0..self.shared.seen.len())
            .map(|reader| self.seen(reader))
            .min()
            .unwrap_or(u64::MAX);
        self.old.retain(|(epoch, _)| *epoch >= oldest);
    }

    /// The newest table.
    pub fn current(&self) -> &Published<T> {
        &self.current.1
    }

    /// The newest epoch.
    pub fn epoch(&self) -> u64 {
        self.current.0
    }

    /// The epoch reader `index` has announced.
    pub fn seen(&self, index: usize) -> u64 {
        // Acquire: pairs with the reader's release, so its drop of the old table is behind us.
        self.shared.seen[index].load(Ordering::Acquire)
    }

    /// True if every reader has announced `epoch` or a later one.
    pub fn all_seen(&self, epoch: u64) -> bool {
        (0..self.shared.seen.len()).all(|reader| self.seen(reader) >= epoch)
    }

    /// Old tables not freed yet.
    pub fn unreclaimed(&self) -> usize {
        self.old.len()
    }
}

impl<T> Reader<T> {
    /// Takes the newest table if there is one. Call once per burst; never blocks. Returns true
    /// if the table changed.
    #[inline]
    pub fn refresh(&mut self) -> bool {
        if self.shared.epoch.load(Ordering::Acquire) == self.epoch {
            return false;
        }
        self.take()
    }

    #[cold]
    fn take(&mut self) -> bool {
        let Ok(slot) = self.shared.slot.try_lock() else {
            return false;
        };
        let (epoch, table) = (slot.0, Arc::clone(&slot.1));
        drop(slot);
        self.epoch = epoch;
        // The publisher still holds the old table, so this drop never frees it.
        self.table = table;
        self.shared.seen[self.index].store(epoch, Ordering::Release);
        true
    }

    /// The epoch of the table in hand.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl<T> Deref for Reader<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.table
    }
}
