//! Ticks of the time-stamp counter, and what they are worth.

use dataplane::dpdk::tsc;
use std::time::{Duration, Instant};

/// Ticks and their length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Ticks per second.
    pub(crate) hz: f64,
}

impl Clock {
    /// Measures the counter against the system's clock; takes 50 ms.
    pub(crate) fn calibrated() -> Self {
        let (start, ticks) = (Instant::now(), tsc());
        std::thread::sleep(Duration::from_millis(50));
        let elapsed = tsc() - ticks;
        Self {
            hz: elapsed as f64 / start.elapsed().as_secs_f64(),
        }
    }

    /// Nanoseconds in so many ticks.
    pub(crate) fn ns(self, ticks: f64) -> f64 {
        ticks * 1e9 / self.hz
    }

    /// Whole milliseconds in so many ticks.
    #[expect(clippy::cast_sign_loss, reason = "ticks are not negative")]
    pub(crate) fn milliseconds(self, ticks: u64) -> u64 {
        (ticks as f64 * 1e3 / self.hz) as u64
    }

    /// Ticks in so many nanoseconds.
    #[expect(clippy::cast_sign_loss, reason = "time is not negative")]
    pub(crate) fn ticks(self, ns: f64) -> u64 {
        (ns * self.hz / 1e9) as u64
    }
}
