//! lblc: a destination address stays with its server while that is not overloaded (behaviour
//! notes 1.10); else, and at first, the server is chosen as by wlc.
//!
//! What is chosen once is used for long, and by all workers. So several workers do not estimate
//! here as for wlc, where the next choice makes good for this one: they look at every worker's
//! counts, which costs some microseconds for a hundred servers, once per destination.

use super::locality::Place;
use super::wlc::Wlc;
use super::{Request, Scheduler, position};

/// Locality-based least connections.
pub(super) struct Lblc;

impl Scheduler for Lblc {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let Some(mut place) = place(request) else {
            return Wlc.pick(request);
        };
        let known = place.members().next();
        if let Some(index) = known.and_then(|mark| position::of(mark, request.list))
            // A threshold keeps new destinations away, not those that are there.
            && request.list.servers[index].weight > 0
            && !is_busy(request, index)
        {
            return Some(index);
        }
        let chosen = chosen(request)?;
        place.replace(position::mark(Some(chosen), request.list));
        Some(chosen)
    }
}

/// The choice of wlc, by exact counts.
pub(super) fn chosen(request: &Request<'_>) -> Option<usize> {
    if request.workers == 1 {
        return Wlc.pick(request);
    }
    lightest(request, 0..request.list.servers.len())
}

/// The first server of those with these list indices with the least overhead by weight, if any
/// may be chosen.
pub(super) fn lightest(
    request: &Request<'_>,
    indices: impl Iterator<Item = usize>,
) -> Option<usize> {
    let mut best = None;
    // Worse than any server: the first one met replaces it.
    let (mut least, mut its_weight) = (1, 0);
    for index in indices {
        let server = &request.list.servers[index];
        if !request.may_choose(server) {
            continue;
        }
        let (overhead, weight) = (request.overhead(server), u64::from(server.weight));
        if least * weight > overhead * its_weight {
            best = Some(index);
            (least, its_weight) = (overhead, weight);
        }
    }
    best
}

/// The place of the packet's destination, unless the choice is not to be remembered: when one
/// client cannot have the server that its destination has, the others still can.
pub(super) fn place<'a>(request: &Request<'a>) -> Option<Place<'a>> {
    if !request.excluded.is_empty() {
        return None;
    }
    let (map, address, now) = (request.localities?, request.address, request.now);
    map.place(address, now)
}

/// True if a server has more active connections than its weight says while another has less than
/// half of that.
pub(super) fn is_busy(request: &Request<'_>, index: usize) -> bool {
    let server = &request.list.servers[index];
    if request.active(server) <= u64::from(server.weight) {
        return false;
    }
    let mut others = request.list.servers.iter();
    others.any(|other| request.active(other) * 2 < u64::from(other.weight))
}
