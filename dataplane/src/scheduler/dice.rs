//! Random numbers for a scheduler: cheap, one sequence per worker and service.
//!
//! Splitmix64 (Steele, Lea, Flood 2014): one addition and two multiplications. Whoever watches
//! choices may foretell the next ones; that a client can aim at a server is no secret, every other
//! scheduler can be foretold too.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One sequence; only the worker it belongs to rolls.
#[derive(Debug, Default)]
pub struct Dice(AtomicU64);

impl Dice {
    /// The sequence that begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `sides`, evenly distributed but for 1 in 2^64 / `sides`; 0 if that is 0.
    #[inline]
    pub fn roll(&self, sides: u64) -> u64 {
        let state = self.0.load(Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.store(state, Relaxed);
        let word = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let word = word ^ (word >> 31);
        ((u128::from(word) * u128::from(sides)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_die_falls_evenly_and_the_same_way_from_the_same_seed() {
        let dice = [Dice::new(7), Dice::new(7)];
        let mut counts = [0; 6];
        for _ in 0..60_000 {
            let [one, other] = [0, 1].map(|index: usize| dice[index].roll(6));
            assert_eq!(one, other);
            counts[one as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
        assert_eq!(dice[0].roll(0), 0);
    }
}
