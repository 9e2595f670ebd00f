//! The Sluice dataplane: everything a worker core does, and the tables it reads.
//!
//! ```text
//!   worker (device, rings, clock)
//!     └─ pipeline (packets in, verdicts out; no device, no clock, no allocation)
//!          ├─ packet      views, checksums, rewriting over byte slices
//!          ├─ connection  one table per worker, states, timers, eviction
//!          ├─ scheduler   rr, wrr, wlc … over service lists
//!          └─ service, forwarding   snapshots published by control through `epoch`
//! ```
//!
//! Workers share nothing they write. `unsafe` is confined to [`dpdk`] and one
//! prefetch instruction of the connection table.

pub mod address;
pub mod aged_map;
pub mod buffer;
pub mod connection;
pub mod connection_counts;
pub mod counters;
pub mod defence;
pub mod dpdk;
pub mod epoch;
pub mod expected;
pub mod forwarding;
pub mod fragment_table;
pub mod ftp;
pub mod job;
pub mod packet;
pub mod pipeline;
mod places;
pub mod scheduler;
pub mod service;
#[cfg(feature = "test-hooks")]
pub mod stall;
pub mod steering;
pub mod template;
pub mod verdict;
pub mod worker;

/// What [`epoch`] synchronises with; its test under loom has another such module.
mod sync {
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use std::sync::{Arc, Mutex};
}
