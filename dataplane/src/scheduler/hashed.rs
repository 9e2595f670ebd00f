//! Choices by hash: what dh, sh and mh have in common.

use super::{Buckets, Maglev, Request, SchedulerFlags};
use std::sync::Arc;

/// The table a list's scheduler looks servers up in, immutable as the list.
#[derive(Clone, Debug, Default)]
pub(crate) enum HashTable {
    /// Its scheduler has none.
    #[default]
    None,
    /// dh, sh.
    Buckets(Arc<Buckets>),
    /// mh.
    Maglev(Arc<Maglev>),
}

/// What sh and mh hash of the source: its folded address, plus its port if the service says so.
#[inline]
pub(super) fn source(request: &Request<'_>) -> u32 {
    let (address, port) = request.source;
    if request.flags.contains(SchedulerFlags::PORT) {
        address.wrapping_add(u32::from(port))
    } else {
        address
    }
}

/// The server in the place that `place(0)` gives, if it may be chosen. If not, and the service
/// falls back, the first that may be of those at the other offsets; `places` is their number, and
/// the offsets begin with that first place.
#[inline]
pub(super) fn choose(
    request: &Request<'_>,
    places: usize,
    place: impl Fn(u32) -> usize,
    server: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let servers = &request.list.servers;
    let may_choose = |index: &usize| {
        servers
            .get(*index)
            .is_some_and(|server| request.may_choose(server))
    };
    let first = place(0);
    let chosen = server(first);
    if chosen.as_ref().is_some_and(may_choose) || !request.flags.contains(SchedulerFlags::FALLBACK)
    {
        return chosen.filter(may_choose);
    }
    (first..places)
        .chain(0..first)
        .filter_map(|offset| server(place(offset as u32)))
        .find(may_choose)
}
