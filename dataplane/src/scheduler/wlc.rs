//! wlc: the server with the fewest connections for its weight; the default of ipvsadm.

use super::least::{Weighing, least};
use super::{Request, Scheduler};

/// Weighted least connections.
pub(super) struct Wlc;

impl Scheduler for Wlc {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        least(request, Weighing::Dividing)
    }
}
