//! Token buckets: how fast a worker sends ICMP errors and punts each class.

use crate::connection::Millis;
use crate::verdict::PuntClass;

/// A token bucket refilled by the millisecond; its burst is a tenth of a second's tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    per_second: u64,
    /// Tokens times 1000, so that slow rates refill smoothly.
    level: u64,
    refilled: Millis,
}

impl TokenBucket {
    /// A full bucket of `per_second` tokens a second.
    pub(super) const fn new(per_second: u64) -> Self {
        Self {
            per_second,
            level: Self::depth(per_second),
            refilled: Millis(0),
        }
    }

    /// Takes a token if there is one.
    #[inline]
    pub(super) fn take(&mut self, now: Millis) -> bool {
        let elapsed = now.since(self.refilled);
        if elapsed > 0 {
            self.refilled = now;
            let gained = elapsed.saturating_mul(self.per_second);
            self.level = self
                .level
                .saturating_add(gained)
                .min(Self::depth(self.per_second));
        }
        if self.level < 1000 {
            return false;
        }
        self.level -= 1000;
        true
    }

    const fn depth(per_second: u64) -> u64 {
        let tenth = per_second * 100;
        if tenth < 1000 { 1000 } else { tenth }
    }
}

/// ICMP errors (and TCP resets) a worker may send per second.
pub(super) const ICMP_ERRORS_PER_SECOND: u64 = 10_000;

/// Questions about neighbours that failed before, per second.
pub(super) const ASKS_PER_SECOND: u64 = 100;

/// Per-class punt rates of one worker, packets per second: generous for what keeps the box alive
/// and operable, firm for what strangers can send.
pub(super) fn punt_limiters() -> [TokenBucket; PuntClass::COUNT] {
    std::array::from_fn(|class| {
        TokenBucket::new(match PuntClass::ALL[class] {
            PuntClass::Vrrp => 20_000,
            PuntClass::Arp => 10_000,
            PuntClass::Routing => 100_000,
            PuntClass::Icmp => 10_000,
            PuntClass::Rest => 100_000,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_over_time_and_a_tenth_of_a_second_at_once() {
        let mut bucket = TokenBucket::new(1000);
        let burst = (0..1000).filter(|_| bucket.take(Millis(0))).count();
        assert_eq!(burst, 100);
        let mut taken = 0;
        for now in 1..=1000 {
            while bucket.take(Millis(now)) {
                taken += 1;
            }
        }
        assert_eq!(taken, 1000);
    }

    #[test]
    fn slow_rates_do_not_round_to_nothing() {
        let mut bucket = TokenBucket::new(2);
        assert!(bucket.take(Millis(0)));
        assert!(!bucket.take(Millis(400)));
        assert!(bucket.take(Millis(800)));
    }
}
