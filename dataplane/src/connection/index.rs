//! The hash index: 64-byte buckets of twelve one-byte tags and twelve slots.
//!
//! A lookup reads one line in nearly all cases. A key whose home bucket is full lives in the next
//! one that has room; each bucket counts the keys that passed over it, so a miss stops as soon as
//! that count is zero. Nothing is ever rehashed and there are no tombstones, hence no moment when
//! one insertion costs more than its neighbours (hashbrown has one: it rehashes in place, or
//! allocates, when tombstones have used up its growth).
//!
//! Sized for half full: at three quarters 3 % of the keys live beyond their bucket and as many share
//! a tag with a neighbour, which among 10 M flows made NAT a quarter slower.

use super::lists::NIL;
use super::pages::{Pages, TableMemory};
use super::prefetch::prefetch;
use super::tags::{WAYS, equal};

/// What finds the connections of a [`Table`](super::Table); public to be measured alone.
///
/// Keys are hashes; values are slots below 2^31 with the mark of the reply key in the top bit.
#[derive(Debug)]
pub struct Index {
    buckets: Pages<Bucket>,
}

/// What a key stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Below 2^31.
    pub slot: u32,
    /// The connection's reply key, not its key.
    pub reply: bool,
}

impl Index {
    /// Room for `keys` keys, all memory written once.
    pub fn new(keys: usize, memory: TableMemory) -> Self {
        let buckets = (keys * 2).div_ceil(WAYS).max(1);
        Self {
            buckets: Pages::filled(Bucket::EMPTY, buckets, memory),
        }
    }

    /// Bytes of memory it occupies.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Reads the line a lookup of `hash` will need and returns its first candidate.
    #[inline]
    pub fn first_candidate(&self, hash: u64) -> Option<Reference> {
        let bucket = &self.buckets[self.home(hash)];
        let way = bucket.matches(tag(hash)).next()?;
        Some(Reference::unpack(bucket.slots[way]))
    }

    /// Asks for the bucket of `hash`.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The first value under `hash` for which `is_it` holds.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(Reference) -> bool) -> Option<Reference> {
        let mut position = self.home(hash);
        // Bounded: however the keys fall, no lookup goes round twice.
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[position];
            for way in bucket.matches(tag(hash)) {
                let reference = Reference::unpack(bucket.slots[way]);
                if is_it(reference) {
                    return Some(reference);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
            position = self.next(position);
        }
        None
    }

    /// Adds a value under `hash`. The caller keeps the number of keys within what
    /// [`Index::new`] was told.
    pub fn insert(&mut self, hash: u64, reference: Reference) {
        let mut position = self.home(hash);
        loop {
            let bucket = &mut self.buckets[position];
            if let Some(way) = bucket.matches(FREE).next() {
                bucket.tags[way] = tag(hash);
                bucket.slots[way] = reference.pack();
                return;
            }
            bucket.passed += 1;
            position = self.next(position);
        }
    }

    /// Takes a value that was inserted under `hash` out.
    pub fn remove(&mut self, hash: u64, reference: Reference) {
        let value = reference.pack();
        let home = self.home(hash);
        let mut position = home;
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[position];
            let held = (0..WAYS).find(|way| bucket.slots[*way] == value);
            if let Some(way) = held {
                bucket.tags[way] = FREE;
                bucket.slots[way] = NIL;
                let mut passed = home;
                while passed != position {
                    self.buckets[passed].passed -= 1;
                    passed = self.next(passed);
                }
                return;
            }
            position = self.next(position);
        }
        debug_assert!(false, "removed a key that is not in the index");
    }

    /// High half of the hash, scaled: any number of buckets, no division.
    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, position: usize) -> usize {
        let next = position + 1;
        if next == self.buckets.len() { 0 } else { next }
    }
}

impl Reference {
    #[inline]
    pub(super) fn pack(self) -> u32 {
        self.slot | u32::from(self.reply) << 31
    }

    #[inline]
    pub(super) fn unpack(value: u32) -> Self {
        Self {
            slot: value & (u32::MAX >> 1),
            reply: value >> 31 != 0,
        }
    }
}

/// Tag of an empty way.
const FREE: u8 = 0;

/// Low byte of the hash; the bucket comes from the high half.
#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u8; WAYS],
    /// Keys at home here or before that live beyond.
    passed: u32,
    slots: [u32; WAYS],
}

impl Bucket {
    const EMPTY: Self = Self {
        tags: [FREE; WAYS],
        passed: 0,
        slots: [NIL; WAYS],
    };

    /// The ways whose tag is `tag`.
    #[inline]
    fn matches(&self, tag: u8) -> impl Iterator<Item = usize> + use<> {
        let mut mask = equal(self.tags, tag);
        std::iter::from_fn(move || {
            if mask == 0 {
                return None;
            }
            let way = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            Some(way)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_bucket_is_one_cache_line() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn matches_are_exactly_the_ways_with_the_tag() {
        let mut bucket = Bucket::EMPTY;
        bucket.tags = [1, 0, 1, 255, 0, 128, 129, 1, 0, 1, 127, 255];
        for tag in 0..=255 {
            let mut found: Vec<_> = bucket.matches(tag).collect();
            found.sort_unstable();
            let expected: Vec<_> = (0..WAYS).filter(|w| bucket.tags[*w] == tag).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn keys_of_one_bucket_overflow_and_come_back_without_leftovers() {
        let mut index = Index::new(100, TableMemory::default());
        let refer = |slot| Reference { slot, reply: false };
        // Same home, same tag: only the slot tells them apart.
        for slot in 0..100 {
            index.insert(7, refer(slot));
        }
        for slot in 0..100 {
            assert_eq!(index.find(7, |r| r.slot == slot), Some(refer(slot)));
        }
        for slot in (0..100).rev() {
            index.remove(7, refer(slot));
            assert_eq!(index.find(7, |r| r.slot == slot), None);
        }
        assert!(index.buckets.iter().all(|b| b.passed == 0));
    }

    proptest! {
        #[test]
        fn it_finds_exactly_what_is_in_it(
            steps in prop::collection::vec((any::<bool>(), 0u64..16, 0u32..8, any::<bool>()), 0..400),
        ) {
            let mut index = Index::new(256, TableMemory::default());
            let mut model = BTreeSet::new();
            for (insert, key, slot, reply) in steps {
                // Few homes and few tags, so that chains overlap.
                let hash = ((key / 2) << 60) | (key % 2);
                let reference = Reference { slot: slot + 8 * key as u32, reply };
                let entry = (hash, reference.pack());
                if insert && model.insert(entry) {
                    index.insert(hash, reference);
                } else if !insert && model.remove(&entry) {
                    index.remove(hash, reference);
                }
                for (hash, value) in &model {
                    prop_assert!(index.find(*hash, |r| r.pack() == *value).is_some());
                }
                prop_assert_eq!(
                    index.find(hash, |r| r == reference).is_some(),
                    model.contains(&entry)
                );
            }
            for (hash, value) in model {
                index.remove(hash, Reference::unpack(value));
            }
            prop_assert!(index.buckets.iter().all(|b| b.passed == 0));
        }
    }
}
