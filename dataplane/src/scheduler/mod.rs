//! Schedulers: which real server a new connection goes to.
//!
//! With one worker the choice equals the kernel's (behaviour notes 1.0 to 1.4): the list is newest
//! first, ties go to the first in it, weights are compared by cross multiplication. A scheduler is
//! a function of the server list, the connection counts of its servers and one [`SchedulerCell`],
//! which only the worker that asks writes.
//!
//! With several workers each takes its own turns, begun one choice later than the worker before
//! (rr, wrr), and compares what all workers are estimated to have ([`crate::connection_counts`]).
//! Choices by hash are the same whoever makes them: dh, sh and mh look them up in a table that
//! control has filled for the list.

mod buckets;
pub(crate) mod candidates;
mod dh;
mod dice;
mod flags;
mod fo;
pub(crate) mod hashed;
mod kind;
mod lblc;
mod lblcr;
mod lc;
mod least;
mod list;
mod locality;
mod maglev;
mod mh;
mod none;
mod nq;
mod ovf;
mod position;
mod rr;
mod sed;
mod sh;
mod twos;
mod wlc;
mod wrr;

pub use dice::Dice;
pub use flags::{FlagError, Listed, SchedulerFlags};
pub use kind::{SchedulerKind, UnknownScheduler};
pub use locality::Localities;
pub use maglev::{MaglevTables, SLOTS as MAGLEV_SLOTS};

use crate::connection::Millis;
use crate::service::{RealId, RealServer, SchedulerCell, ServerList};
use crate::verdict::WorkerId;
use buckets::Buckets;
use maglev::Maglev;
use std::net::IpAddr;

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
    /// The service's flags.
    pub flags: SchedulerFlags,
    /// The packet's destination address whole.
    pub address: IpAddr,
    /// What the workers share about destinations (lblc, lblcr).
    pub localities: Option<&'a Localities>,
    /// Now.
    pub now: Millis,
}

impl Request<'_> {
    /// True if `server` may be chosen.
    #[inline]
    fn may_choose(&self, server: &RealServer) -> bool {
        server.is_eligible() && !self.excluded.contains(&server.id)
    }

    /// Active connections of `server`, by looking at every worker's: whoever compares them with a
    /// weight fills servers one after the other, and what estimates are off would add up in the
    /// last one.
    #[inline]
    fn active(&self, server: &RealServer) -> u64 {
        match self.workers {
            1 => server.shared.counts(self.worker).active(1),
            _ => server.shared.connections().0,
        }
    }

    /// What the least-connection schedulers weigh of `server`, by looking at every worker's too.
    #[inline]
    fn overhead(&self, server: &RealServer) -> u64 {
        if self.workers == 1 {
            return server.shared.counts(self.worker).overhead_alone();
        }
        let (active, inactive) = server.shared.connections();
        active * 257 + inactive
    }

    /// True if the server with this list index must not be chosen.
    #[inline]
    fn is_excluded(&self, index: usize) -> bool {
        !self.excluded.is_empty() && self.excluded.contains(&self.list.servers[index].id)
    }
}

/// A way to choose.
pub trait Scheduler {
    /// The index in [`ServerList::servers`] of the server to use; `None` if there is none.
    fn pick(&self, request: &Request<'_>) -> Option<usize>;
}

#[cfg(test)]
mod tests;
