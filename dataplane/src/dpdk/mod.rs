//! DPDK made safe: the only place in this crate with `unsafe` code.
//!
//! | type | what it owns |
//! |---|---|
//! | [`Eal`] | the process's one DPDK environment |
//! | [`Mempool`] | a pool of packet buffers; lives as long as the process, so no buffer can outlive it |
//! | [`Mbuf`] | one packet buffer (a chain of segments); dropping it returns it to its pool |
//! | [`Burst`] | up to N mbufs in one array that DPDK reads and writes; dropping it is one bulk free |
//! | [`Port`] | one device; stopped and started are different types |
//! | [`RxQueue`], [`TxQueue`] | the only handle to one queue of a started port: `Send`, neither `Sync` nor `Clone` |
//! | [`ring`](Ring) | a bounded queue of mbufs from one thread to another, as [`Producer`] and [`Consumer`] |
//! | [`Hash`](struct@Hash) | DPDK's own hash table, which the index of connections is measured against; no worker has one |
//! | [`Running`] | a function running on an EAL lcore |
//!
//! # Ownership
//!
//! An mbuf is always in exactly one place: in an [`Mbuf`] or a [`Burst`], in a ring, or inside a driver. Every crossing moves
//! it: `tx` takes out of the burst what the driver accepted and leaves the rest, `rx` adds to it. Nothing here clones a
//! buffer or raises its reference count, so whoever has an `Mbuf` is the only one to see its bytes.
//!
//! Sending more than the driver takes is the caller's decision: retry, or drop the burst and count. Nothing spins here.
//!
//! # Teardown
//!
//! Ports, rings and running lcores each hold a lease on the environment; [`Eal::cleanup`] refuses while any
//! is left or an mbuf is out of its pool. A port cannot be stopped while one of its queues exists.
//!
//! # Threads
//!
//! Workers run on EAL lcores (their mempool cache is per lcore). Any other thread may allocate, free and use rings and
//! queues too; it only lacks the cache.

#![expect(
    unsafe_code,
    reason = "the border to a C library; every block argues its case"
)]

mod burst;
mod eal;
mod error;
mod hash;
mod heap;
mod lcore;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod ring;
mod rss;
mod runtime;

pub use burst::{Burst, Drain};
pub use eal::{Eal, EalError, LcoreId, tsc};
pub use error::Errno;
pub use hash::{Hash, HashError, HashKey};
pub use heap::limit_heap_arenas;
pub use lcore::{LaunchError, Running, launch};
pub use mbuf::{Mbuf, RxChecksum};
pub use mempool::{Mempool, MempoolError};
pub use port::{
    Link, Port, PortConfig, PortError, PortInfo, PortStats, Started, StopError, Stopped,
};
pub use queue::{QueuePair, RxQueue, TxQueue};
pub use ring::{Consumer, Producer, Ring, RingError};
pub use rss::{HashInput, Rss, RssWay};
pub use runtime::{RuntimeError, remove_own_runtime, remove_stale_runtime};
