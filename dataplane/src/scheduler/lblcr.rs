//! lblcr: as lblc, but a destination has a set of servers, which grows when the least loaded of
//! them is overloaded, and loses the most loaded when it has long been the same (behaviour notes
//! 1.10).
//!
//! A member that has left the list is passed over, and is the first to go.

use super::lblc::{chosen, is_busy, lightest, place};
use super::locality::{EXPIRATION, Place};
use super::wlc::Wlc;
use super::{Request, Scheduler, position};

/// Locality-based least connections with replication.
pub(super) struct Lblcr;

impl Scheduler for Lblcr {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let Some(mut place) = place(request) else {
            return Wlc.pick(request);
        };
        let members = place.members();
        let least = lightest(
            request,
            members.filter_map(|mark| position::of(mark, request.list)),
        );
        if place.unchanged() > EXPIRATION {
            drop_most_loaded(request, &mut place);
        }
        if let Some(index) = least
            && !is_busy(request, index)
        {
            return Some(index);
        }
        let chosen = chosen(request)?;
        let is_member = |mark| position::of(mark, request.list) == Some(chosen);
        if !place.members().any(is_member) {
            let mark = position::mark(Some(chosen), request.list);
            if !place.add(mark) {
                // No room for larger sets.
                drop_most_loaded(request, &mut place);
                place.add(mark);
            }
        }
        Some(chosen)
    }
}

/// Takes the first member with the most overhead by weight out, unless it is the only one.
fn drop_most_loaded(request: &Request<'_>, place: &mut Place<'_>) {
    let mut worst = None;
    let (mut most, mut its_weight) = (0, 1);
    for mark in place.members() {
        let Some(index) = position::of(mark, request.list) else {
            worst = Some(mark);
            break;
        };
        let server = &request.list.servers[index];
        let (overhead, weight) = (request.overhead(server), u64::from(server.weight));
        if weight > 0 && (worst.is_none() || most * weight < overhead * its_weight) {
            worst = Some(mark);
            (most, its_weight) = (overhead, weight);
        }
    }
    if let Some(worst) = worst {
        place.drop_member(worst);
    }
}
