//! Schedulers: which real server a new connection goes to.
//!
//! With one worker the choice equals the kernel's (behaviour notes 1.0 to 1.4): the list is newest
//! first, ties go to the first in it, weights are compared by cross multiplication. A scheduler is
//! a function of the server list, the counters of its servers and one [`SchedulerCell`], which only
//! the worker that asks writes.

mod kind;
mod lc;
mod least;
mod list;
mod position;
mod rr;
mod wlc;
mod wrr;

pub use kind::{SchedulerKind, UnknownScheduler};

use crate::service::{RealId, RealServer, SchedulerCell, ServerList};
use crate::verdict::WorkerId;

/// What a scheduler may look at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The service's servers.
    pub list: &'a ServerList,
    /// The asking worker's state for the service.
    pub cell: &'a SchedulerCell,
    /// The asking worker.
    pub worker: WorkerId,
    /// How many workers there are.
    pub workers: u8,
    /// [`Address::fold`](crate::address::Address::fold) of the packet's source, and its port.
    pub source: (u32, u16),
    /// The same of its destination.
    pub destination: (u32, u16),
    /// Servers that must not be chosen (their reply key is taken).
    pub excluded: &'a [RealId],
}

impl Request<'_> {
    /// True if `server` may be chosen.
    #[inline]
    fn may_choose(&self, server: &RealServer) -> bool {
        server.is_eligible() && !self.excluded.contains(&server.id)
    }
}

/// A way to choose.
pub trait Scheduler {
    /// The index in [`ServerList::servers`] of the server to use; `None` if there is none.
    fn pick(&self, request: &Request<'_>) -> Option<usize>;
}

#[cfg(test)]
mod tests;
