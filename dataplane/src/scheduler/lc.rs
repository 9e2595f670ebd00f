//! lc: the server with the fewest connections; weights only say who takes part.

use super::least::{Weighing, least};
use super::{Request, Scheduler};

/// Least connections.
pub(super) struct Lc;

impl Scheduler for Lc {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        least(request, Weighing::TakingPart)
    }
}
