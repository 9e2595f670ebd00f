//! Intrusive doubly linked lists over slots: a slot is in at most one list of a set.
//!
//! A link is eight bytes; where it lies is up to the owner of the slots ([`Links`]). The outer link
//! of the first and the last element names its list, so that unlinking needs no record of where a
//! slot is.

use super::pages::Pages;

/// "No slot" and "in no list".
pub(super) const NIL: u32 = u32::MAX;

/// A set of lists. Every method that is given `links` must be given the same.
#[derive(Debug)]
pub(super) struct Lists {
    ends: Box<[Ends]>,
}

/// Where the links of the slots are: one per slot, [`Link::NONE`] at first.
pub(super) trait Links {
    /// That of `slot`.
    fn link(&mut self, slot: u32) -> &mut Link;
}

impl Links for Pages<Link> {
    #[inline]
    fn link(&mut self, slot: u32) -> &mut Link {
        &mut self[slot as usize]
    }
}

impl Lists {
    /// `lists` empty lists.
    pub(super) fn new(lists: u32) -> Self {
        Self {
            ends: vec![Ends::EMPTY; lists as usize].into(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.ends)
    }

    /// The first slot of `list`.
    #[inline]
    pub(super) fn first(&self, list: u32) -> Option<u32> {
        let first = self.ends[list as usize].first;
        (first != NIL).then_some(first)
    }

    /// The slot after `slot`, which is in a list.
    #[inline]
    pub(super) fn after(links: &mut impl Links, slot: u32) -> Option<u32> {
        let next = links.link(slot).next;
        (next & END == 0).then_some(next)
    }

    /// Appends `slot`, which must be in no list.
    #[inline]
    pub(super) fn push_back(&mut self, links: &mut impl Links, list: u32, slot: u32) {
        debug_assert_eq!(*links.link(slot), Link::NONE);
        let ends = &mut self.ends[list as usize];
        let last = std::mem::replace(&mut ends.last, slot);
        let prev = if last == NIL {
            ends.first = slot;
            END | list
        } else {
            links.link(last).next = slot;
            last
        };
        *links.link(slot) = Link {
            next: END | list,
            prev,
        };
    }

    /// Puts `slot`, which must be in no list, at the front.
    #[inline]
    pub(super) fn push_front(&mut self, links: &mut impl Links, list: u32, slot: u32) {
        debug_assert_eq!(*links.link(slot), Link::NONE);
        let ends = &mut self.ends[list as usize];
        let first = std::mem::replace(&mut ends.first, slot);
        let next = if first == NIL {
            ends.last = slot;
            END | list
        } else {
            links.link(first).prev = slot;
            first
        };
        *links.link(slot) = Link {
            next,
            prev: END | list,
        };
    }

    /// Takes `slot` out of whichever list it is in, if any.
    #[inline]
    pub(super) fn unlink(&mut self, links: &mut impl Links, slot: u32) {
        let link = std::mem::replace(links.link(slot), Link::NONE);
        if link == Link::NONE {
            return;
        }
        let Link { next, prev } = link;
        let next_or_nil = if next & END == 0 { next } else { NIL };
        let prev_or_nil = if prev & END == 0 { prev } else { NIL };
        if prev & END == 0 {
            links.link(prev).next = next;
        } else {
            self.ends[(prev & !END) as usize].first = next_or_nil;
        }
        if next & END == 0 {
            links.link(next).prev = prev;
        } else {
            self.ends[(next & !END) as usize].last = prev_or_nil;
        }
    }

    /// Takes the first slot of `list` out.
    #[inline]
    pub(super) fn pop_front(&mut self, links: &mut impl Links, list: u32) -> Option<u32> {
        let slot = self.first(list)?;
        self.unlink(links, slot);
        Some(slot)
    }
}

/// Marks a link that names a list instead of a slot.
const END: u32 = 1 << 31;

/// The neighbours of a slot in its list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    next: u32,
    prev: u32,
}

impl Link {
    /// Of a slot in no list.
    pub(super) const NONE: Self = Self {
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
    use super::super::pages::TableMemory;
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn contents(lists: &Lists, links: &Pages<Link>, list: u32) -> VecDeque<u32> {
        let mut slots = VecDeque::new();
        let mut next = lists.first(list);
        while let Some(slot) = next {
            slots.push_back(slot);
            let link = links[slot as usize].next;
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
            let mut lists = Lists::new(3);
            let mut links = Pages::filled(Link::NONE, 12, TableMemory::default());
            let mut model = vec![VecDeque::new(); 3];
            for (list, slot, step) in steps {
                if step == 0 {
                    let popped = model[list as usize].pop_front();
                    prop_assert_eq!(lists.pop_front(&mut links, list), popped);
                } else {
                    lists.unlink(&mut links, slot);
                    for deque in &mut model {
                        deque.retain(|held| *held != slot);
                    }
                    if step == 1 {
                        lists.push_back(&mut links, list, slot);
                        model[list as usize].push_back(slot);
                    } else if step == 2 {
                        lists.push_front(&mut links, list, slot);
                        model[list as usize].push_front(slot);
                    }
                }
                for (list, deque) in model.iter().enumerate() {
                    prop_assert_eq!(&contents(&lists, &links, list as u32), deque);
                }
            }
        }
    }
}
