//! nq: never queue: the first server without active connections, else as sed (behaviour notes 1.4).

use super::sed::Sed;
use super::{Request, Scheduler};

/// Never queue.
pub(super) struct Nq;

impl Scheduler for Nq {
    #[inline]
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let mut idle = None;
        request.list.candidates.each(request.worker, |seen| {
            // Its weight and count stand side by side with the others'; all else is asked for last.
            if idle.is_none()
                && seen.counts.active(request.workers) == 0
                && seen.is_eligible()
                && !request.is_excluded(seen.index)
            {
                idle = Some(seen.index);
            }
        });
        idle.or_else(|| Sed.pick(request))
    }
}
