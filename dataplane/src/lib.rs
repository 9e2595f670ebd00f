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
pub mod buffer;
pub mod connection;
pub mod counters;
pub mod dpdk;
pub mod epoch;
pub mod forwarding;
pub mod job;
pub mod packet;
pub mod pipeline;
pub mod scheduler;
pub mod service;
pub mod steering;
pub mod verdict;
pub mod worker;
