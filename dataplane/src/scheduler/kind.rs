//! The names of the schedulers, and the way from a name to its code.

use super::lc::Lc;
use super::rr::Rr;
use super::wlc::Wlc;
use super::wrr::Wrr;
use super::{Request, Scheduler};
use std::fmt::{Display, Formatter};
use std::str::FromStr;
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
}

impl SchedulerKind {
    /// Every scheduler.
    pub const ALL: [Self; 14] = [
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
        }
    }

    /// True if this release can schedule by it; a configuration that names another is refused.
    pub const fn is_built(self) -> bool {
        matches!(self, Self::Rr | Self::Wrr | Self::Lc | Self::Wlc)
    }

    /// Chooses a server: its index in the list. A scheduler that is not built chooses none.
    #[inline]
    pub fn pick(self, request: &Request<'_>) -> Option<usize> {
        match self {
            Self::Rr => staggered(&Rr, request),
            Self::Wrr => staggered(&Wrr, request),
            Self::Lc => Lc.pick(request),
            Self::Wlc => Wlc.pick(request),
            Self::Lblc
            | Self::Lblcr
            | Self::Dh
            | Self::Sh
            | Self::Sed
            | Self::Nq
            | Self::Fo
            | Self::Ovf
            | Self::Mh
            | Self::Twos => None,
        }
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
        assert!("none".parse::<SchedulerKind>().is_err());
        assert_eq!(SchedulerKind::default(), SchedulerKind::Wlc);
    }
}
