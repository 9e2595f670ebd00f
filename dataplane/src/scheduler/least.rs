//! The comparison of the least-connection family.

use super::Request;
use crate::service::RealServer;

/// The first server in list order with the least `overhead / weight`.
///
/// Fractions are compared by 64-bit cross multiplication, never divided; only a strictly better
/// server replaces an earlier one, so the newest wins a tie (1.0).
#[inline]
pub(super) fn least(request: &Request<'_>, weight: impl Fn(&RealServer) -> u32) -> Option<usize> {
    let mut best: Option<(usize, u64, u64)> = None;
    for (index, server) in request.list.servers.iter().enumerate() {
        if !request.may_choose(server) {
            continue;
        }
        let overhead = overhead(server);
        let weight = u64::from(weight(server));
        let better = best.is_none_or(|(_, least, its_weight)| {
            least.saturating_mul(weight) > overhead.saturating_mul(its_weight)
        });
        if better {
            best = Some((index, overhead, weight));
        }
    }
    best.map(|(index, ..)| index)
}

/// An active connection weighs as much as 257 inactive ones: `256 * active + total`.
#[inline]
fn overhead(server: &RealServer) -> u64 {
    let (active, inactive) = server.shared.connections();
    active.saturating_mul(257).saturating_add(inactive)
}
