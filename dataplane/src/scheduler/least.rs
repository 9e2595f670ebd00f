//! The comparison of the least-connection family.

use super::Request;
use super::candidates::Seen;
use crate::connection_counts::WorkerCounts;

/// The first server in list order with the least `overhead / weight`.
///
/// Fractions are compared by 64-bit cross multiplication, never divided; only a strictly better
/// server replaces an earlier one, so the newest wins a tie (1.0). Counts are those of all
/// workers as this one estimates them (DESIGN §4).
#[inline]
pub(super) fn least(request: &Request<'_>, weighing: Weighing) -> Option<usize> {
    match request.workers {
        1 => chosen(request, weighing, WorkerCounts::overhead_alone),
        workers => chosen(request, weighing, |counts| counts.overhead(workers)),
    }
}

/// The same for `(active + 1) / weight`, the expected delay of one more connection (1.4).
#[inline]
pub(super) fn least_delayed(request: &Request<'_>, weighing: Weighing) -> Option<usize> {
    match request.workers {
        // A constant, for the loop to be as short as that of `least`.
        1 => chosen(request, weighing, |counts| counts.active(1) + 1),
        workers => chosen(request, weighing, |counts| counts.active(workers) + 1),
    }
}

/// What weights are for.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Weighing {
    /// Only to say who takes part.
    TakingPart,
    /// To divide by.
    Dividing,
}

#[inline(always)]
fn chosen(
    request: &Request<'_>,
    weighing: Weighing,
    overhead: impl Fn(&WorkerCounts) -> u64,
) -> Option<usize> {
    let candidates = &request.list.candidates;
    let anyone = request.excluded.is_empty() && !candidates.is_any_limited();
    let dividing = weighing == Weighing::Dividing;
    if !anyone {
        let may_choose = |seen: &Seen<'_>| seen.is_eligible() && !request.is_excluded(seen.index);
        return lightest(request, dividing, overhead, may_choose);
    }
    // Nothing but the counts decides, which is nearly always so.
    if candidates.is_all_weighted() && (!dividing || candidates.has_equal_weights()) {
        return lowest(request, overhead);
    }
    lightest(request, dividing, overhead, |seen| {
        // When dividing, weight 0 wins nothing.
        dividing || seen.candidate.weight > 0
    })
}

/// The first server with the least overhead.
#[inline(always)]
fn lowest(request: &Request<'_>, overhead: impl Fn(&WorkerCounts) -> u64) -> Option<usize> {
    let mut best = None;
    let mut least = u64::MAX;
    request.list.candidates.each(request.worker, |seen| {
        let overhead = overhead(seen.counts);
        if overhead < least {
            best = Some(seen.index);
            least = overhead;
        }
    });
    best
}

/// The first server of those that may be chosen with the least overhead, divided by weights or not.
#[inline(always)]
fn lightest(
    request: &Request<'_>,
    dividing: bool,
    overhead: impl Fn(&WorkerCounts) -> u64,
    may_choose: impl Fn(&Seen<'_>) -> bool,
) -> Option<usize> {
    let mut best = None;
    // Worse than any server: the first one met replaces it.
    let (mut least, mut its_weight) = (1, 0);
    request.list.candidates.each(request.worker, |seen| {
        if !may_choose(&seen) {
            return;
        }
        let overhead = overhead(seen.counts);
        let weight = if dividing {
            u64::from(seen.candidate.weight)
        } else {
            1
        };
        // 40 bits of connections times 16 bits of weight cannot wrap.
        if least * weight > overhead * its_weight {
            best = Some(seen.index);
            (least, its_weight) = (overhead, weight);
        }
    });
    best
}
