//! fo: the server with the highest weight, the newest of several (behaviour notes 1.5).

use super::{Request, Scheduler};

/// Weighted failover.
pub(super) struct Fo;

impl Scheduler for Fo {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        heaviest(request, |_| true)
    }
}

/// The first server with the highest weight of those that may be chosen and that `takes` likes.
#[inline(always)]
pub(super) fn heaviest(request: &Request<'_>, takes: impl Fn(usize) -> bool) -> Option<usize> {
    let mut best = None;
    let mut highest = 0;
    for (index, server) in request.list.servers.iter().enumerate() {
        if server.weight > highest && request.may_choose(server) && takes(index) {
            best = Some(index);
            highest = server.weight;
        }
    }
    best
}
