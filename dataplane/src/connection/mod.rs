//! Connections: what a worker remembers about a flow and the table it keeps them in.
//!
//! Behaviour follows the kernel's connection table (states, transition tables, timeouts, active and
//! inactive counting, the drop-entry rule); the data structure does not: one table per worker,
//! touched by that worker only, all memory taken at construction.
//!
//! ```text
//!   tuple -> hash -> index (64-byte buckets of tags) -> slot -> line: entry and link in the FIFO of
//!                                                        |      its class (one line for IPv4)
//!                                                      wheel (timers): cold links by slot
//! ```

mod drop_entry;
mod entry;
mod eviction;
mod hash;
mod index;
mod lists;
#[cfg(test)]
pub(crate) mod notes;
mod pages;
mod prefetch;
mod sctp;
mod state;
mod table;
mod tags;
mod tcp;
mod time;
mod timeouts;
mod wheel;

pub use drop_entry::DropEntry;
pub use entry::{Binding, Connection, INITIAL_TIMEOUT, Transition};
pub use eviction::{Evicted, Eviction};
pub use index::{Index, Reference};
pub use pages::TableMemory;
pub use sctp::{SctpEvent, SctpState};
#[cfg(test)]
pub(crate) use state::Path;
pub use state::{Direction, Signal, State};
pub use table::{Candidate, InsertError, Live, Slot, Table};
pub use tcp::{TcpEvent, TcpState, TcpTable};
pub use time::Millis;
pub use timeouts::Timeouts;
