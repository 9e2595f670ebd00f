//! A hash map of fixed capacity whose entries also stand in lists by age.
//!
//! All memory is taken at construction; nothing allocates afterwards. Every entry is in one of the
//! lists, at whose front is the one that was put there first, so that what is oldest can be timed
//! out, or given up to make room, without looking at the rest. The hash is keyed by a secret:
//! keys may come from the wire.

use std::hash::{BuildHasher, Hash, RandomState};

/// Where an entry is. Valid until the entry is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place(u32);

/// The map; `LISTS` lists.
#[derive(Debug)]
pub struct AgedMap<K, V, const LISTS: usize> {
    hasher: RandomState,
    /// The first entry of each chain of equal hashes. A power of two of them.
    chains: Box<[u32]>,
    slots: Box<[Slot<K, V>]>,
    ends: [Ends; LISTS],
    /// The first free slot; they are chained by `next`.
    free: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    entry: Option<(K, V)>,
    /// The next of the same hash.
    chained: u32,
    list: usize,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
    len: usize,
}

const NIL: u32 = u32::MAX;

impl<K: Copy + Eq + Hash, V, const LISTS: usize> AgedMap<K, V, LISTS> {
    /// An empty map for `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        let slot = |index: usize| Slot {
            entry: None,
            chained: NIL,
            list: 0,
            previous: NIL,
            next: if index + 1 < capacity {
                index as u32 + 1
            } else {
                NIL
            },
        };
        let ends = Ends {
            first: NIL,
            last: NIL,
            len: 0,
        };
        Self {
            hasher: RandomState::new(),
            chains: vec![NIL; capacity.next_power_of_two()].into(),
            slots: (0..capacity).map(slot).collect(),
            ends: [ends; LISTS],
            free: if capacity == 0 { NIL } else { 0 },
        }
    }

    /// Bytes of memory that a map for `capacity` entries takes.
    pub const fn bytes_for(capacity: usize) -> usize {
        capacity.next_power_of_two() * size_of::<u32>() + capacity * size_of::<Slot<K, V>>()
    }

    /// How many entries it holds at most.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// How many entries are in `list`.
    pub fn len_of(&self, list: usize) -> usize {
        self.ends[list].len
    }

    /// The entry with this key.
    pub fn find(&self, key: &K) -> Option<Place> {
        let mut at = self.chains[self.chain(key)];
        while at != NIL {
            let slot = &self.slots[at as usize];
            if slot.entry.as_ref().is_some_and(|(found, _)| found == key) {
                return Some(Place(at));
            }
            at = slot.chained;
        }
        None
    }

    /// The value at `place`.
    ///
    /// # Panics
    /// If it was removed.
    pub fn value(&self, place: Place) -> &V {
        let entry = &self.slots[place.0 as usize].entry;
        &entry.as_ref().expect(LIVE).1
    }

    /// The value at `place`, to be changed.
    ///
    /// # Panics
    /// If it was removed.
    pub fn value_mut(&mut self, place: Place) -> &mut V {
        let entry = &mut self.slots[place.0 as usize].entry;
        &mut entry.as_mut().expect(LIVE).1
    }

    /// Adds an entry whose key is not in the map, as the youngest of `list`; `None` if it is full.
    pub fn insert(&mut self, key: K, value: V, list: usize) -> Option<Place> {
        debug_assert!(self.find(&key).is_none());
        let at = self.free;
        let chain = self.chain(&key);
        let slot = self.slots.get_mut(at as usize)?;
        self.free = slot.next;
        slot.entry = Some((key, value));
        slot.chained = std::mem::replace(&mut self.chains[chain], at);
        self.append(at, list);
        Some(Place(at))
    }

    /// Makes the entry the youngest of `list`.
    pub fn move_to(&mut self, place: Place, list: usize) {
        self.unlink(place.0);
        self.append(place.0, list);
    }

    /// The oldest entry of `list`.
    pub fn oldest(&self, list: usize) -> Option<Place> {
        let first = self.ends[list].first;
        (first != NIL).then_some(Place(first))
    }

    /// Takes an entry out.
    ///
    /// # Panics
    /// If it was removed already.
    pub fn remove(&mut self, place: Place) -> V {
        let at = place.0;
        let (key, value) = self.slots[at as usize].entry.take().expect(LIVE);
        let behind = self.slots[at as usize].chained;
        let chain = self.chain(&key);
        let mut link = &mut self.chains[chain];
        while *link != at {
            link = &mut self.slots[*link as usize].chained;
        }
        *link = behind;
        self.unlink(at);
        self.slots[at as usize].next = std::mem::replace(&mut self.free, at);
        value
    }

    fn chain(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize & (self.chains.len() - 1)
    }

    fn append(&mut self, at: u32, list: usize) {
        let ends = &mut self.ends[list];
        ends.len += 1;
        let last = std::mem::replace(&mut ends.last, at);
        if last == NIL {
            ends.first = at;
        } else {
            self.slots[last as usize].next = at;
        }
        let slot = &mut self.slots[at as usize];
        slot.list = list;
        slot.previous = last;
        slot.next = NIL;
    }

    fn unlink(&mut self, at: u32) {
        let Slot {
            list,
            previous,
            next,
            ..
        } = self.slots[at as usize];
        self.ends[list].len -= 1;
        if previous == NIL {
            self.ends[list].first = next;
        } else {
            self.slots[previous as usize].next = next;
        }
        if next == NIL {
            self.ends[list].last = previous;
        } else {
            self.slots[next as usize].previous = previous;
        }
    }
}

const LIVE: &str = "a place is used only while its entry is there";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_map_without_room_refuses_everything() {
        let mut map = AgedMap::<u8, (), 1>::new(0);
        assert_eq!((map.find(&1), map.insert(1, (), 0)), (None, None));
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_of_entries_does(
            steps in prop::collection::vec((0u8..4, 0u8..12, 0usize..2), 0..200),
        ) {
            const CAPACITY: usize = 5;
            let mut map = AgedMap::<u8, u8, 2>::new(CAPACITY);
            // (key, value, list), oldest first.
            let mut model: Vec<(u8, u8, usize)> = Vec::new();
            for (step, (action, key, list)) in (0_u8..).zip(steps) {
                let place = map.find(&key);
                let known = model.iter().position(|entry| entry.0 == key);
                prop_assert_eq!(place.is_some(), known.is_some());
                match (action, place, known) {
                    (0, None, None) => {
                        let inserted = map.insert(key, step, list).is_some();
                        prop_assert_eq!(inserted, model.len() < CAPACITY);
                        if inserted {
                            model.push((key, step, list));
                        }
                    }
                    (1, Some(place), Some(known)) => {
                        prop_assert_eq!(map.remove(place), model.remove(known).1);
                    }
                    (2, Some(place), Some(known)) => {
                        map.move_to(place, list);
                        let (key, value, _) = model.remove(known);
                        model.push((key, value, list));
                    }
                    (_, Some(place), Some(known)) => {
                        prop_assert_eq!(*map.value(place), model[known].1);
                        *map.value_mut(place) = step;
                        model[known].1 = step;
                    }
                    _ => {}
                }
                for list in 0..2 {
                    let mut of_list = model.iter().filter(|entry| entry.2 == list);
                    prop_assert_eq!(map.len_of(list), of_list.clone().count());
                    let oldest = map.oldest(list).map(|place| *map.value(place));
                    prop_assert_eq!(oldest, of_list.next().map(|entry| entry.1));
                }
            }
        }
    }
}
