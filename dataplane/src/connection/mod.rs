//! Connections: what a worker remembers about a flow and the table it keeps them in.
//!
//! Behaviour follows the kernel's connection table (states, transition tables, timeouts, active and
//! inactive counting, the drop-entry rule); the data structure does not: one table per worker,
//! touched by that worker only, all memory taken at construction.
//!
//! ```text
//!   tuple -> hash -> index (64-byte buckets of tags) -> slot -> entry (one line for IPv4)
//!                                                        |
//!                                        wheel (timers) and FIFOs (eviction): cold links by slot
//! ```

mod entry;
mod eviction;
mod hash;
mod index;
mod lists;
mod prefetch;
mod sctp;
mod state;
mod table;
mod tcp;
mod time;
mod timeouts;
mod wheel;

pub use entry::{Binding, Connection, INITIAL_TIMEOUT, Transition};
pub use eviction::{Evicted, Eviction};
pub use sctp::{SctpEvent, SctpState};
pub use state::{Direction, Signal, State};
pub use table::{InsertError, Slot, Table};
pub use tcp::{TcpEvent, TcpState, TcpTable};
pub use time::Millis;
pub use timeouts::Timeouts;
