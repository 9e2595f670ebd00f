//! Where a scheduler stopped in a list, as one word of its cell.
//!
//! The low half of the word is the server's id plus one (0 = before the first server), the high
//! half the index it had: a hint that saves looking for it as long as the list is the same.

use crate::service::{RealId, ServerList};

/// The word for "stopped at the server with this index".
pub(super) fn mark(index: Option<usize>, list: &ServerList) -> u64 {
    index
        .and_then(|index| Some((index, list.servers.get(index)?)))
        .map_or(0, |(index, server)| {
            (index as u64) << 32 | (u64::from(server.id.0) + 1)
        })
}

/// The index of the server that `mark` names; `None` if it is not in the list or none is named.
pub(super) fn of(mark: u64, list: &ServerList) -> Option<usize> {
    let id = id(mark)?;
    let hint = (mark >> 32) as usize;
    match list.servers.get(hint) {
        Some(server) if server.id == id => Some(hint),
        _ => find(id, list),
    }
}

/// The same after the list has changed: for a server that has left, the nearest one before it
/// that is still there.
pub(super) fn carried_over(mark: u64, list: &ServerList) -> Option<usize> {
    let id = id(mark)?;
    find(id, list).or_else(|| find((*list.predecessors.get(&id)?)?, list))
}

fn id(mark: u64) -> Option<RealId> {
    (mark as u32).checked_sub(1).map(RealId)
}

fn find(id: RealId, list: &ServerList) -> Option<usize> {
    list.servers.iter().position(|server| server.id == id)
}
