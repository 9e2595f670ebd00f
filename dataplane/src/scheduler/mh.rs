//! mh: the source address decides, by Maglev hashing (behaviour notes 1.8).

use super::hashed::{self, HashTable};
use super::maglev::{self, SLOTS};
use super::{Request, Scheduler};

/// Maglev hash.
pub(super) struct Mh;

impl Scheduler for Mh {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let HashTable::Maglev(table) = &request.list.table else {
            return None;
        };
        let source = hashed::source(request);
        hashed::choose(
            request,
            SLOTS,
            |offset| maglev::hash(source.wrapping_add(offset), maglev::FIRST) as usize % SLOTS,
            |slot| table.server(slot),
        )
    }
}
