//! Ways for a test to hurt a running daemon: block its control core, stall one of its workers.
//!
//! Only in builds with the feature `test-hooks`, which a release build refuses. Blocking means
//! that each control thread (main loop, runtime, publisher, slow path) sleeps where it is, as if a
//! call never came back. Further resources of the admin API start it:
//!
//! ```text
//!   POST /v1/test/block?seconds=N             every control thread
//!   POST /v1/test/stall?seconds=N&worker=W    the loop of one worker
//!   POST /v1/test/panic                       the VRRP thread
//! ```

use crate::admin::api::PREFIX;
use axum::Router;
use axum::extract::Query;
use axum::routing::post;
use dataplane::stall;
use dataplane::verdict::WorkerId;
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

#[cfg(not(debug_assertions))]
compile_error!("the feature test-hooks is for tests and never goes into a release build");

/// Until when control threads are to sleep.
static BLOCKED_UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// The threads that sleep or have slept.
static SLEEPERS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The thread whose sleep begins before that of the runtime, which wakes it.
pub(crate) const MAIN_LOOP: &str = "the main loop";

/// The VRRP thread is to panic at its next round.
static PANIC: AtomicBool = AtomicBool::new(false);

/// Time for the answer to leave before the threads that send it sleep.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// Said at the start, so that nobody takes such a build for a release.
pub(crate) fn warn() {
    log::warn!("this is a test build: whoever may use the admin socket can block it");
}

/// Where a control thread can be blocked. Call it often.
pub(crate) fn pause(thread: &str) {
    let until = *lock(&BLOCKED_UNTIL);
    let Some(time) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
        return;
    };
    lock(&SLEEPERS).push(thread.to_owned());
    std::thread::sleep(time);
    log::warn!(
        "test hook: {thread} was blocked for {} ms",
        time.as_millis()
    );
}

/// Where the VRRP thread can be blocked, or ended by a panic.
pub(crate) fn pause_vrrp() {
    assert!(
        !PANIC.swap(false, Ordering::Relaxed),
        "test hook: the VRRP thread panics"
    );
    pause("the VRRP thread");
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resources.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(&format!("{PREFIX}/test/block"), post(block))
        .route(&format!("{PREFIX}/test/stall"), post(stall_worker))
        .route(&format!("{PREFIX}/test/panic"), post(panic_vrrp))
}

#[derive(Deserialize)]
struct Block {
    seconds: u64,
}

async fn block(Query(Block { seconds }): Query<Block>) {
    let runtime = Handle::current();
    // A thread of its own: what a runtime thread spawns may stay on that thread.
    std::thread::spawn(move || {
        std::thread::sleep(ANSWER_TIME);
        lock(&SLEEPERS).clear();
        let until = Instant::now() + Duration::from_secs(seconds);
        *lock(&BLOCKED_UNTIL) = Some(until);
        while !lock(&SLEEPERS).iter().any(|name| name == MAIN_LOOP) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let threads = runtime.metrics().num_workers();
        // They meet before they sleep, so that each has a thread of its own.
        let all = Arc::new(Barrier::new(threads));
        for thread in 1..=threads {
            let all = Arc::clone(&all);
            runtime.spawn(async move {
                all.wait();
                pause(&format!("runtime thread {thread}"));
            });
        }
    });
}

#[derive(Deserialize)]
struct Stall {
    seconds: u64,
    worker: u8,
}

async fn stall_worker(Query(Stall { seconds, worker }): Query<Stall>) {
    stall::order(WorkerId(worker), Duration::from_secs(seconds));
}

async fn panic_vrrp() {
    PANIC.store(true, Ordering::Relaxed);
}
