//! sed: the server with the shortest expected delay, `(active + 1) / weight` (behaviour notes 1.4).
//!
//! Inactive connections do not count, so UDP always goes to the same server.

use super::least::{Weighing, least_delayed};
use super::{Request, Scheduler};

/// Shortest expected delay.
pub(super) struct Sed;

impl Scheduler for Sed {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        least_delayed(request, Weighing::Dividing)
    }
}
