//! The comparison of the least-connection family.

use super::Request;
use crate::service::RealServer;

/// The first server in list order with the least `overhead / weight`.
///
/// Fractions are compared by 64-bit cross multiplication, never divided; only a strictly better
/// server replaces an earlier one, so the newest wins a tie (1.0).
#[inline]
pub(super) fn least(request: &Request<'_>, weight: impl Fn(&RealServer) -> u32) -> Option<usize> {
    let mut best = None;
    // Worse than any server: the first one met replaces it.
    let (mut least, mut its_weight) = (1, 0);
    for (index, server) in request.list.servers.iter().enumerate() {
        if !request.may_choose(server) {
            continue;
        }
        let overhead = overhead(server);
        let weight = u64::from(weight(server));
        if wide(least, weight) > wide(overhead, its_weight) {
            best = Some(index);
            (least, its_weight) = (overhead, weight);
        }
    }
    best
}

/// 40 bits of connections times 16 bits of weight cannot wrap.
#[inline]
fn wide(overhead: u64, weight: u64) -> u64 {
    overhead.wrapping_mul(weight)
}

/// An active connection weighs as much as 257 inactive ones: `256 * active + total`.
#[inline]
fn overhead(server: &RealServer) -> u64 {
    let (active, inactive) = server.shared.connections();
    active.wrapping_mul(257).wrapping_add(inactive)
}
