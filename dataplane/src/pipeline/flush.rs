//! Connections of removed servers, where they are to end at once (`expire_nodest_conn = 1`, spec 3.6).
//!
//! A packet of such a connection ends it by itself (`flow`). Those that get no packet any more the
//! kernel flushes by a worker of its own, a moment after the server was removed; here each worker walks
//! its tables, a few entries per loop, once for every snapshot with such a server that it still has
//! connections of. Invariant: a walk looks at every entry that was there when it began, and no new
//! connection to a removed server is made, so one walk is enough for the servers it began with.

use super::{PER_LOOP, WorkerState};
use crate::address::Address;
use crate::connection::{Slot, Table};
use crate::counters::Event;
use crate::service::{RealRecord, Services};
use arrayvec::ArrayVec;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where a worker is in its tables.
#[derive(Debug, Default)]
pub(super) struct Flush {
    walk: Option<Walk>,
    /// There is another snapshot than the one the walk began with.
    again: bool,
}

#[derive(Clone, Copy, Debug)]
enum Walk {
    V4(u32),
    V6(u32),
}

impl Flush {
    /// There is a new snapshot of the services.
    pub(super) fn note(&mut self, state: &WorkerState, services: &Services) {
        self.again = self.walk.is_some();
        if self.walk.is_none() {
            self.begin(state, services);
        }
    }

    fn begin(&mut self, state: &WorkerState, services: &Services) {
        let has_connections = services.flushed().iter().any(|id| {
            services.real(*id).is_some_and(|real| {
                let own = real.shared.counts(state.worker).own();
                own.active + own.inactive > 0
            })
        });
        self.walk = has_connections.then_some(Walk::V4(0));
    }

    /// Looks at a few entries, if there is anything to do.
    pub(super) fn step(
        &mut self,
        state: &mut WorkerState,
        services: &Services,
        v4: &mut Table<Ipv4Addr>,
        v6: &mut Table<Ipv6Addr>,
    ) {
        let Some(walk) = self.walk else {
            return;
        };
        self.walk = match walk {
            Walk::V4(cursor) => {
                let next = flush(v4, state, services, cursor);
                Some(next.map_or(Walk::V6(0), Walk::V4))
            }
            Walk::V6(cursor) => flush(v6, state, services, cursor).map(Walk::V6),
        };
        if self.walk.is_none() && std::mem::take(&mut self.again) {
            self.begin(state, services);
        }
    }
}

/// One round over one table; the next cursor, or `None` at its end.
fn flush<A: Address>(
    table: &mut Table<A>,
    state: &mut WorkerState,
    services: &Services,
    cursor: u32,
) -> Option<u32> {
    let mut doomed = ArrayVec::<Slot, PER_LOOP>::new();
    let next = table.scan(cursor, PER_LOOP, |slot, connection| {
        let real = services.real(connection.binding().real);
        if real.is_some_and(RealRecord::is_flushed) {
            doomed.push(slot);
        }
    });
    let ended = state.counters.event(Event::ConnectionsExpired);
    ended.add(doomed.len() as u64);
    for slot in doomed {
        let connection = table.remove(slot);
        state.unbind(services, &connection);
    }
    next
}
