//! Building and publishing what the workers read.
//!
//! [`desired`](DesiredService) is what the configuration asks for, [`Registry`] remembers every
//! identity (ids, counters, scheduler state) across tables, and [`publisher`] is the one thread
//! that turns both into snapshots and hands them to the workers.

mod desired;
mod publisher;
mod registry;

pub use desired::{Desired, DesiredServer, DesiredService};
pub use publisher::{Handle, Published, Publisher, Start, Ticket};
pub use registry::{Registry, ServerTraffic, ServiceTotals, ServiceTraffic};
