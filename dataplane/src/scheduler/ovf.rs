//! ovf: the server with the highest weight that is not full (behaviour notes 1.5).
//!
//! Full is one with more active connections than its weight says, so it takes one more than that.
//! UDP connections are never active, so UDP never overflows.

use super::fo::heaviest;
use super::{Request, Scheduler};

/// Weighted overflow.
pub(super) struct Ovf;

impl Scheduler for Ovf {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        heaviest(request, |index| {
            let server = &request.list.servers[index];
            request.active(server) <= u64::from(server.weight)
        })
    }
}
