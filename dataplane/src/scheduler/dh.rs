//! dh: the destination address decides (behaviour notes 1.6).
//!
//! Every server has as many buckets as any other, and there is no other choice if the one is not
//! to be had. Behind one address there is one server, so this is for marks and transparent caches.

use super::buckets::{self, Buckets};
use super::hashed::{self, HashTable};
use super::{Request, Scheduler, SchedulerFlags};

/// Destination hash.
pub(super) struct Dh;

impl Scheduler for Dh {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let HashTable::Buckets(table) = &request.list.table else {
            return None;
        };
        // Flags mean nothing to it.
        let request = Request {
            flags: SchedulerFlags::NONE,
            ..*request
        };
        let bucket = buckets::hash(request.destination.0);
        hashed::choose(
            &request,
            buckets::BUCKETS,
            |_| usize::from(bucket),
            |bucket| table.server(bucket as u8),
        )
    }
}

/// The buckets of so many servers.
pub(super) fn table(servers: usize) -> Buckets {
    Buckets::filled(servers, |_| 1)
}
