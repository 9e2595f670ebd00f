//! none: the kernel's `-s none`, a service that never finds a destination (behaviour notes 1.0).

use super::{Request, Scheduler};

/// No scheduler.
pub(super) struct Nobody;

impl Scheduler for Nobody {
    #[inline]
    fn pick(&self, _: &Request<'_>) -> Option<usize> {
        None
    }
}
