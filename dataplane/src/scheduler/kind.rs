//! The names of the schedulers, and the way from a name to its code.

use super::dh::Dh;
use super::fo::Fo;
use super::hashed::HashTable;
use super::lblc::Lblc;
use super::lblcr::Lblcr;
use super::lc::Lc;
use super::mh::Mh;
use super::none::Nobody;
use super::nq::Nq;
use super::ovf::Ovf;
use super::rr::Rr;
use super::sed::Sed;
use super::sh::Sh;
use super::twos::Twos;
use super::wlc::Wlc;
use super::wrr::Wrr;
use super::{Localities, MAGLEV_SLOTS, MaglevTables, Request, Scheduler, dh, sh};
use crate::address::Family;
use crate::service::RealServer;
use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use thiserror::Error;

/// A scheduler by name.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum SchedulerKind {
    /// Round robin.
    Rr,
    /// Weighted round robin.
    Wrr,
    /// Least connections.
    Lc,
    /// Weighted least connections.
    #[default]
    Wlc,
    /// Locality-based least connections.
    Lblc,
    /// The same with replication.
    Lblcr,
    /// Destination hash.
    Dh,
    /// Source hash.
    Sh,
    /// Shortest expected delay.
    Sed,
    /// Never queue.
    Nq,
    /// Failover: the highest weight.
    Fo,
    /// Overflow: the highest weight that is not full.
    Ovf,
    /// Maglev hash.
    Mh,
    /// The better of two random choices.
    Twos,
    /// The kernel's `-s none`: nobody is ever chosen. No configuration file has it.
    None,
}

impl SchedulerKind {
    /// Every scheduler.
    pub const ALL: [Self; 15] = [
        Self::Rr,
        Self::Wrr,
        Self::Lc,
        Self::Wlc,
        Self::Lblc,
        Self::Lblcr,
        Self::Dh,
        Self::Sh,
        Self::Sed,
        Self::Nq,
        Self::Fo,
        Self::Ovf,
        Self::Mh,
        Self::Twos,
        Self::None,
    ];

    /// Name as `ipvsadm -s` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Lblc => "lblc",
            Self::Lblcr => "lblcr",
            Self::Dh => "dh",
            Self::Sh => "sh",
            Self::Sed => "sed",
            Self::Nq => "nq",
            Self::Fo => "fo",
            Self::Ovf => "ovf",
            Self::Mh => "mh",
            Self::Twos => "twos",
            Self::None => "none",
        }
    }

    /// The most servers a service can have by it, if there is a limit.
    pub const fn most_servers(self) -> Option<usize> {
        match self {
            Self::Mh => Some(MAGLEV_SLOTS),
            _ => None,
        }
    }

    /// True if the choice depends on how many connections the servers have now.
    pub const fn compares_connections(self) -> bool {
        match self {
            Self::Lc
            | Self::Wlc
            | Self::Lblc
            | Self::Lblcr
            | Self::Sed
            | Self::Nq
            | Self::Ovf
            | Self::Twos => true,
            Self::Rr | Self::Wrr | Self::Dh | Self::Sh | Self::Fo | Self::Mh | Self::None => false,
        }
    }

    /// Chooses a server: its index in the list.
    #[inline]
    pub fn pick(self, request: &Request<'_>) -> Option<usize> {
        match self {
            Self::Rr => staggered(&Rr, request),
            Self::Wrr => staggered(&Wrr, request),
            Self::Lc => Lc.pick(request),
            Self::Wlc => Wlc.pick(request),
            Self::Lblc => Lblc.pick(request),
            Self::Lblcr => Lblcr.pick(request),
            Self::Dh => Dh.pick(request),
            Self::Sh => Sh.pick(request),
            Self::Sed => Sed.pick(request),
            Self::Nq => Nq.pick(request),
            Self::Fo => Fo.pick(request),
            Self::Ovf => Ovf.pick(request),
            Self::Mh => Mh.pick(request),
            Self::Twos => Twos.pick(request),
            Self::None => Nobody.pick(request),
        }
    }

    /// The table by which it looks servers up for a service of `family`; `last_weights` are those
    /// above 0.
    pub(super) fn table(
        self,
        family: Family,
        servers: &[RealServer],
        last_weights: &[u32],
        tables: &mut MaglevTables,
    ) -> HashTable {
        match self {
            Self::Dh => HashTable::Buckets(Arc::new(dh::table(servers.len()))),
            Self::Sh => HashTable::Buckets(Arc::new(sh::table(servers))),
            Self::Mh => HashTable::Maglev(tables.table(family, servers, last_weights)),
            _ => HashTable::None,
        }
    }

    /// The map its workers share, empty.
    pub(crate) fn localities(self, seed: u64) -> Option<Arc<Localities>> {
        let members = match self {
            Self::Lblc => 1,
            Self::Lblcr => 2,
            _ => return None,
        };
        Some(Arc::new(Localities::new(members, seed)))
    }
}

/// Begins a fresh turn as many choices into the sequence as the worker's number says, so that the
/// workers of a box do not all send their first connections to the same server.
#[inline]
fn staggered(scheduler: &impl Scheduler, request: &Request<'_>) -> Option<usize> {
    if request.worker.0 > 0 && request.cell.generation.load(Relaxed) == 0 {
        for _ in 0..request.worker.0 {
            scheduler.pick(request);
        }
    }
    scheduler.pick(request)
}

impl Display for SchedulerKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// No scheduler has this name.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("no scheduler is called '{0}'")]
pub struct UnknownScheduler(pub String);

impl FromStr for SchedulerKind {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownScheduler(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in SchedulerKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert!("rrr".parse::<SchedulerKind>().is_err());
        assert_eq!(SchedulerKind::default(), SchedulerKind::Wlc);
    }
}
