//! sh: the source address decides, by weight (behaviour notes 1.7).
//!
//! A server has as many consecutive buckets as its weight says, one even with weight 0.

use super::buckets::{self, Buckets};
use super::hashed::{self, HashTable};
use super::{Request, Scheduler};
use crate::service::RealServer;

/// Source hash.
pub(super) struct Sh;

impl Scheduler for Sh {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let HashTable::Buckets(table) = &request.list.table else {
            return None;
        };
        let hash = buckets::hash(hashed::source(request));
        hashed::choose(
            request,
            buckets::BUCKETS,
            |offset| usize::from(hash.wrapping_add(offset as u8)),
            |bucket| table.server(bucket as u8),
        )
    }
}

/// The buckets of these servers.
pub(super) fn table(servers: &[RealServer]) -> Buckets {
    Buckets::filled(servers.len(), |index| servers[index].weight)
}
