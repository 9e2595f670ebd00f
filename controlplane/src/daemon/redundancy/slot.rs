//! The place of the VRRP thread: empty, or with the driver that runs, which can be another one later.
//!
//! DESIGN §2: a task that ends by a panic is told, counted and started again. One that keeps ending
//! does no good: after [`MOST`] ends within [`PERIOD`] the daemon gives up, so that whoever started
//! it sees that, and the peer has the addresses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vrrp::driver::Driver;

/// Restarts within [`PERIOD`]; one more end is the daemon's.
pub(super) const MOST: usize = 5;
/// See [`MOST`].
pub(super) const PERIOD: Duration = Duration::from_mins(1);

/// Where the driver is. Whoever takes it out may use it for a moment after it has been replaced.
#[derive(Debug, Default)]
pub(in crate::daemon) struct DriverSlot {
    driver: Mutex<Option<Arc<Driver>>>,
    restarts: AtomicU64,
}

impl DriverSlot {
    /// The driver, if there is one.
    pub(super) fn get(&self) -> Option<Arc<Driver>> {
        self.lock().clone()
    }

    /// From now on this one.
    pub(super) fn put(&self, driver: Driver) {
        *self.lock() = Some(Arc::new(driver));
    }

    /// Empties the slot, because what was there has ended by itself.
    pub(super) fn clear(&self) {
        let ended = self.lock().take();
        // Its thread is at its end; that is waited for outside the lock.
        drop(ended);
    }

    /// Notes that the VRRP thread was started again.
    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// How often it was.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Driver>>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last ends of the VRRP thread.
#[derive(Debug, Default)]
pub(super) struct Ends(VecDeque<Instant>);

impl Ends {
    /// Notes one; false if there were too many lately.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        while self
            .0
            .front()
            .is_some_and(|end| now.duration_since(*end) >= PERIOD)
        {
            self.0.pop_front();
        }
        self.0.len() <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ends_too_often_is_not_started_again() {
        let start = Instant::now();
        let mut ends = Ends::default();
        let mut note = |seconds| ends.note(start + Duration::from_secs(seconds));
        assert!((0..5).all(&mut note));
        assert!(!note(59), "the sixth within a minute");
        let mut ends = Ends::default();
        let mut note = |seconds| ends.note(start + Duration::from_secs(seconds));
        // Every 13 seconds there are at most five within a minute.
        assert!((0..100).all(|turn| note(turn * 13)));
    }
}
