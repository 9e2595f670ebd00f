//! Numbered places found by hash: like [`AgedMap`](crate::aged_map::AgedMap), but entries have names
//! that outlive them, and there is no order.
//!
//! All memory is taken, and touched, at construction; nothing allocates afterwards, nothing is moved
//! or hashed again. The caller hashes, with a secret if keys come from the wire, and tells keys with
//! equal hashes apart. A place that was used before has another stamp, so a (place, stamp) pair names
//! one entry for ever.

/// Entries in places.
#[derive(Debug)]
pub(crate) struct Places<T> {
    slots: Box<[Place<T>]>,
    /// The first place of each chain of equal hashes. A power of two of them, or none.
    chains: Box<[u32]>,
    /// The first free place among those used before; they are chained by `next`.
    free: u32,
    /// Places from here on were never used.
    used: u32,
    len: usize,
    /// Where [`Self::look_around`] goes on.
    hand: u32,
}

#[derive(Debug)]
struct Place<T> {
    stamp: u32,
    /// The next of the same chain, or the next free one.
    next: u32,
    hash: u64,
    entry: Option<T>,
}

const NIL: u32 = u32::MAX;

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<T> Places<T> {
    /// Bytes a place takes with its share of the chains at most.
    pub(crate) const BYTES_EACH: usize = size_of::<Place<T>>() + 2 * size_of::<u32>();

    /// `capacity` free places.
    pub(crate) fn new(capacity: usize) -> Self {
        let chains = match capacity {
            0 => 0,
            capacity => capacity.next_power_of_two(),
        };
        let place = |_| Place {
            stamp: 0,
            next: NIL,
            hash: 0,
            entry: None,
        };
        Self {
            slots: (0..capacity).map(place).collect(),
            chains: vec![NIL; chains].into(),
            free: NIL,
            used: 0,
            len: 0,
            hand: 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == self.slots.len()
    }

    /// Places that were ever used; entries are in no others.
    pub(crate) fn used(&self) -> usize {
        self.used as usize
    }

    pub(crate) fn at(&self, place: u32) -> Option<&T> {
        self.slots.get(place as usize)?.entry.as_ref()
    }

    /// The entry that had this name; `None` once it is gone.
    pub(crate) fn named(&mut self, place: u32, stamp: u32) -> Option<&mut T> {
        let place = self.slots.get_mut(place as usize)?;
        place.entry.as_mut().filter(|_| place.stamp == stamp)
    }

    /// Place and stamp of an entry with this hash that `is` it.
    pub(crate) fn find(&self, hash: u64, mut is: impl FnMut(&T) -> bool) -> Option<(u32, u32)> {
        let mut at = *self.chains.get(self.chain(hash))?;
        loop {
            let place = self.slots.get(at as usize)?;
            if place.hash == hash && place.entry.as_ref().is_some_and(&mut is) {
                return Some((at, place.stamp));
            }
            at = place.next;
        }
    }

    /// Puts an entry in; its place and stamp, `None` if all places are taken.
    pub(crate) fn insert(&mut self, hash: u64, entry: T) -> Option<(u32, u32)> {
        let at = if self.free != NIL {
            self.free
        } else if self.used() < self.slots.len() {
            self.used += 1;
            self.used - 1
        } else {
            return None;
        };
        let chain = self.chain(hash);
        let place = &mut self.slots[at as usize];
        if self.free == at {
            self.free = place.next;
        }
        place.stamp = place.stamp.wrapping_add(1);
        place.hash = hash;
        place.entry = Some(entry);
        place.next = std::mem::replace(&mut self.chains[chain], at);
        self.len += 1;
        Some((at, place.stamp))
    }

    /// Takes an entry out of its place.
    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let place = self.slots.get_mut(at as usize)?;
        let entry = place.entry.take()?;
        let (hash, next) = (place.hash, std::mem::replace(&mut place.next, self.free));
        self.free = at;
        self.len -= 1;
        let chain = self.chain(hash);
        let mut before = self.chains[chain];
        if before == at {
            self.chains[chain] = next;
            return Some(entry);
        }
        while let Some(place) = self.slots.get_mut(before as usize) {
            if place.next == at {
                place.next = next;
                break;
            }
            before = place.next;
        }
        Some(entry)
    }

    /// The next few places, one after the other from call to call.
    pub(crate) fn look_around(&mut self, count: usize) -> impl Iterator<Item = u32> + use<T> {
        let used = self.used.max(1);
        let from = self.hand;
        self.hand = (from + count as u32) % used;
        (from..from + count as u32).map(move |place| place % used)
    }

    fn chain(&self, hash: u64) -> usize {
        hash as usize & self.chains.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_table_without_places_finds_nothing_and_takes_nothing() {
        let mut places = Places::<u8>::default();
        assert_eq!(places.find(7, |_| true), None);
        assert_eq!(places.insert(7, 1), None);
        assert!(places.is_full());
    }

    proptest! {
        #[test]
        fn places_hold_what_was_put_into_them(
            steps in prop::collection::vec((any::<bool>(), 0_u64..40), 1..300),
        ) {
            // Few hashes, so that chains are long.
            let mut places = Places::new(16);
            let mut model = HashMap::<u64, (u32, u32)>::new();
            for (put, key) in steps {
                let hash = ((key % 5) << 40) | (key % 3);
                let found = places.find(hash, |entry| *entry == key);
                prop_assert_eq!(found, model.get(&key).copied());
                match found {
                    None if put => match places.insert(hash, key) {
                        Some(name) => drop(model.insert(key, name)),
                        None => prop_assert!(places.is_full()),
                    },
                    Some((place, stamp)) if !put => {
                        prop_assert_eq!(places.remove(place), Some(key));
                        prop_assert_eq!(places.named(place, stamp), None);
                        model.remove(&key);
                    }
                    _ => {}
                }
                prop_assert_eq!(places.len(), model.len());
                for (key, (place, stamp)) in &model {
                    prop_assert_eq!(places.named(*place, *stamp), Some(&mut key.clone()));
                }
            }
        }
    }
}
