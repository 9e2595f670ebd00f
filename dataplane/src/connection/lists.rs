//! Intrusive doubly linked lists over slots: a slot is in at most one list of a set.
//!
//! Links are kept apart from the entries (cold), eight bytes a slot. The outer link of the first
//! and the last element names its list, so that unlinking needs no record of where a slot is.

/// "No slot" and "in no list".
pub(super) const NIL: u32 = u32::MAX;

/// A set of lists.
#[derive(Debug)]
pub(super) struct Lists {
    ends: Box<[Ends]>,
    links: Box<[Link]>,
}

impl Lists {
    /// `lists` empty lists over slots `0..slots`, all memory written once.
    pub(super) fn new(lists: u32, slots: usize) -> Self {
        Self {
            ends: vec![Ends::EMPTY; lists as usize].into(),
            links: vec![Link::NONE; slots].into(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ends) + size_of_val(&*self.links)
    }

    /// The first slot of `list`.
    #[inline]
    pub(super) fn first(&self, list: u32) -> Option<u32> {
        let first = self.ends[list as usize].first;
        (first != NIL).then_some(first)
    }

    /// Appends `slot`, which must be in no list.
    #[inline]
    pub(super) fn push_back(&mut self, list: u32, slot: u32) {
        debug_assert_eq!(self.links[slot as usize], Link::NONE);
        let ends = &mut self.ends[list as usize];
        let last = std::mem::replace(&mut ends.last, slot);
        let prev = if last == NIL {
            ends.first = slot;
            END | list
        } else {
            self.links[last as usize].next = slot;
            last
        };
        self.links[slot as usize] = Link {
            next: END | list,
            prev,
        };
    }

    /// Puts `slot`, which must be in no list, at the front.
    #[inline]
    pub(super) fn push_front(&mut self, list: u32, slot: u32) {
        debug_assert_eq!(self.links[slot as usize], Link::NONE);
        let ends = &mut self.ends[list as usize];
        let first = std::mem::replace(&mut ends.first, slot);
        let next = if first == NIL {
            ends.last = slot;
            END | list
        } else {
            self.links[first as usize].prev = slot;
            first
        };
        self.links[slot as usize] = Link {
            next,
            prev: END | list,
        };
    }

    /// Takes `slot` out of whichever list it is in, if any.
    #[inline]
    pub(super) fn unlink(&mut self, slot: u32) {
        let link = std::mem::replace(&mut self.links[slot as usize], Link::NONE);
        if link == Link::NONE {
            return;
        }
        let Link { next, prev } = link;
        let next_or_nil = if next & END == 0 { next } else { NIL };
        let prev_or_nil = if prev & END == 0 { prev } else { NIL };
        if prev & END == 0 {
            self.links[prev as usize].next = next;
        } else {
            self.ends[(prev & !END) as usize].first = next_or_nil;
        }
        if next & END == 0 {
            self.links[next as usize].prev = prev;
        } else {
            self.ends[(next & !END) as usize].last = prev_or_nil;
        }
    }

    /// Takes the first slot of `list` out.
    #[inline]
    pub(super) fn pop_front(&mut self, list: u32) -> Option<u32> {
        let slot = self.first(list)?;
        self.unlink(slot);
        Some(slot)
    }
}

/// Marks a link that names a list instead of a slot.
const END: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Link {
    next: u32,
    prev: u32,
}

impl Link {
    const NONE: Self = Self {
        next: NIL,
        prev: NIL,
    };
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u32,
    last: u32,
}

impl Ends {
    const EMPTY: Self = Self {
        first: NIL,
        last: NIL,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn contents(lists: &Lists, list: u32) -> VecDeque<u32> {
        let mut slots = VecDeque::new();
        let mut next = lists.first(list);
        while let Some(slot) = next {
            slots.push_back(slot);
            let link = lists.links[slot as usize].next;
            next = (link & END == 0).then_some(link);
        }
        assert_eq!(
            lists.ends[list as usize].last,
            slots.back().copied().unwrap_or(NIL)
        );
        slots
    }

    proptest! {
        #[test]
        fn they_behave_like_deques(steps in prop::collection::vec((0u32..3, 0u32..12, 0..4), 0..200)) {
            let mut lists = Lists::new(3, 12);
            let mut model = vec![VecDeque::new(); 3];
            for (list, slot, step) in steps {
                if step == 0 {
                    let popped = model[list as usize].pop_front();
                    prop_assert_eq!(lists.pop_front(list), popped);
                } else {
                    lists.unlink(slot);
                    for deque in &mut model {
                        deque.retain(|held| *held != slot);
                    }
                    if step == 1 {
                        lists.push_back(list, slot);
                        model[list as usize].push_back(slot);
                    } else if step == 2 {
                        lists.push_front(list, slot);
                        model[list as usize].push_front(slot);
                    }
                }
                for (list, deque) in model.iter().enumerate() {
                    prop_assert_eq!(&contents(&lists, list as u32), deque);
                }
            }
        }
    }
}
