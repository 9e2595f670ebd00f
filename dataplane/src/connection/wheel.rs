//! The timer wheel: when to look at a connection next.
//!
//! 4096 buckets of 256 ms span 1049 s, more than the longest default timeout; a deadline further
//! away is looked at once a turn. Timers are lazy: a packet only writes the entry, and an entry
//! found not due is armed again. That is sound as long as the armed tick is never after the due
//! one, so whoever shortens a timeout must arm again.

use super::lists::{Link, Lists};
use super::pages::{Pages, TableMemory};
use super::prefetch::prefetch;
use super::time::Millis;

/// Deadlines of slots.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Lists,
    links: Pages<Link>,
    /// The first tick not fully handled.
    cursor: u64,
}

impl Wheel {
    /// A wheel for slots `0..slots`.
    pub(super) fn new(slots: usize, memory: TableMemory) -> Self {
        Self {
            buckets: Lists::new(BUCKETS as u32),
            links: Pages::filled(Link::NONE, slots, memory),
            cursor: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.buckets.bytes() + size_of_val(&*self.links)
    }

    /// Moves an empty wheel to `now`.
    pub(super) fn restart(&mut self, now: Millis) {
        self.cursor = self.cursor.max(now.0 / TICK);
    }

    /// Arms `slot`, which is not armed, for `due`.
    #[inline]
    pub(super) fn arm(&mut self, slot: u32, due: Millis) {
        // Rounded up: never early. Clamped to one turn: a bucket holds ticks of one turn only.
        let tick = due
            .0
            .div_ceil(TICK)
            .clamp(self.cursor, self.cursor + (BUCKETS - 1));
        self.buckets.push_back(&mut self.links, bucket(tick), slot);
    }

    /// Asks for what arming `slot` will write.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32) {
        prefetch(&self.links[slot as usize]);
    }

    /// Disarms `slot`.
    #[inline]
    pub(super) fn disarm(&mut self, slot: u32) {
        self.buckets.unlink(&mut self.links, slot);
    }

    /// Takes out the next slot to look at by `now`; the caller disposes of it or arms it again.
    #[inline]
    pub(super) fn pop(&mut self, now: Millis) -> Option<u32> {
        let last = now.0 / TICK;
        // After a jump of more than a turn one turn meets every slot.
        self.cursor = self.cursor.max((last + 1).saturating_sub(BUCKETS));
        while self.cursor <= last {
            let bucket = bucket(self.cursor);
            if let Some(slot) = self.buckets.pop_front(&mut self.links, bucket) {
                return Some(slot);
            }
            self.cursor += 1;
        }
        None
    }
}

fn bucket(tick: u64) -> u32 {
    (tick % BUCKETS) as u32
}

/// Milliseconds per tick.
const TICK: u64 = 256;
const BUCKETS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_up_within_a_tick_of_its_deadline_and_never_before() {
        let mut wheel = Wheel::new(1, TableMemory::default());
        for due in [0, 1, 255, 256, 257, 900_000, 1_048_000] {
            wheel.restart(Millis(0));
            wheel.cursor = 0;
            wheel.arm(0, Millis(due));
            let found = (0..=due + 300).find(|now| wheel.pop(Millis(*now)).is_some());
            assert!(
                (due..due + 256).contains(&found.unwrap()),
                "{due}: {found:?}"
            );
        }
    }

    #[test]
    fn a_jump_of_many_turns_meets_every_slot_once() {
        let mut wheel = Wheel::new(1000, TableMemory::default());
        for slot in 0..1000 {
            wheel.arm(slot, Millis(u64::from(slot) * 1000));
        }
        let now = Millis(1_000_000_000_000);
        let mut seen: Vec<_> = std::iter::from_fn(|| wheel.pop(now)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn a_deadline_beyond_a_turn_is_looked_at_within_the_turn() {
        let mut wheel = Wheel::new(1, TableMemory::default());
        wheel.arm(0, Millis(31 * 24 * 3_600_000));
        assert_eq!(wheel.pop(Millis(1_048_319)), None);
        assert_eq!(wheel.pop(Millis(1_048_320)), Some(0));
    }
}
