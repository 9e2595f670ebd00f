//! Stalls a worker on purpose, for tests of the watchdog (feature `test-hooks` only).

use crate::verdict::WorkerId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// By worker: how long it shall stop, in milliseconds.
static ORDERS: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

/// Has the loop of `worker` stop for `time`, once.
pub fn order(worker: WorkerId, time: Duration) {
    ORDERS[usize::from(worker.0)].store(time.as_millis() as u64, Ordering::Relaxed);
}

/// Stops here if that was ordered.
pub(crate) fn here(worker: WorkerId) {
    let order = &ORDERS[usize::from(worker.0)];
    if order.load(Ordering::Relaxed) > 0 {
        std::thread::sleep(Duration::from_millis(order.swap(0, Ordering::Relaxed)));
    }
}
