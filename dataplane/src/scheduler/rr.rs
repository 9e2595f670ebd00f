//! rr: the servers in turn (behaviour notes 1.2).
//!
//! The turn goes on after the server used last. If that one has left the list, it goes on after
//! the one that stood before it, as the kernel moves its pointer on a deletion. (A server that left
//! and came back between two decisions counts as never gone.)

use super::{Request, Scheduler, position};
use std::sync::atomic::Ordering::Relaxed;

/// Round robin.
pub(super) struct Rr;

impl Scheduler for Rr {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        let servers = &request.list.servers;
        let cell = request.cell;
        let mark = cell.last.load(Relaxed);
        let last = if cell.generation.load(Relaxed) == request.list.generation {
            position::of(mark, request.list)
        } else {
            cell.generation.store(request.list.generation, Relaxed);
            position::carried_over(mark, request.list)
        };
        // From the one after the last used round to that one itself; from the head, once through.
        let next = last.map_or(0, |last| last + 1);
        let chosen = (next..servers.len())
            .chain(0..next)
            .find(|index| request.may_choose(&servers[*index]));
        // Nothing found leaves the turn where it was.
        let kept = chosen.or(last);
        cell.last.store(position::mark(kept, request.list), Relaxed);
        chosen
    }
}
