//! Jobs of the control core over a worker's connections: listing them, ending some.
//!
//! A job is done a few entries at a time between bursts, table after table, so that no packet waits
//! for it. It pauses while its ring of rows has no room for a whole round.

use super::{PER_LOOP, Pipeline, WorkerState};
use crate::address::Address;
use crate::connection::{Connection, Millis, Slot, Table};
use crate::job::{Action, ConnectionRow, Job};
use crate::service::{Forward, Services};
use crate::verdict::WorkerId;
use arrayvec::ArrayVec;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A job under way: which table, and how far.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) job: Arc<Job>,
    stage: Stage,
    pub(super) cursor: u32,
}

/// What a job goes over, in this order.
#[derive(Clone, Copy, Debug)]
enum Stage {
    V4,
    V6,
    /// This worker's share of the persistence templates.
    Templates,
    /// This worker's share of the FTP data connections nobody came for yet.
    Expected,
}

impl Pipeline {
    /// True if a job may be given to [`Self::start`].
    pub fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Begins a job; it is done by [`Self::work`].
    pub fn start(&mut self, job: Arc<Job>) {
        self.job = Some(Listing {
            job,
            stage: Stage::V4,
            cursor: 0,
        });
    }

    /// Does a little of the job at hand, if there is one.
    pub fn work(&mut self, now: Millis) {
        let Some(mut listing) = self.job.take() else {
            return;
        };
        let job = &listing.job;
        if job.is_cancelled() {
            job.finish();
            return;
        }
        // Paused while the ring could not take a whole round.
        let room = job.rows.capacity() - job.rows.len();
        if job.action == Action::List && room < PER_LOOP.min(job.rows.capacity()) {
            self.job = Some(listing);
            return;
        }
        let budget = PER_LOOP.min(job.rows.capacity());
        self.state.now = now;
        let (state, services) = (&mut self.state, &*self.services);
        let next = match listing.stage {
            Stage::V4 => visit(&mut self.v4, state, services, &listing, budget, now),
            Stage::V6 => visit(&mut self.v6, state, services, &listing, budget, now),
            Stage::Templates => state.visit_templates(services, &listing, budget),
            Stage::Expected => state.visit_expected(services, &listing, budget),
        };
        if let Some(cursor) = next {
            listing.cursor = cursor;
        } else {
            listing.cursor = 0;
            listing.stage = match listing.stage {
                Stage::V4 => Stage::V6,
                Stage::V6 => Stage::Templates,
                Stage::Templates => Stage::Expected,
                Stage::Expected => {
                    listing.job.finish();
                    return;
                }
            };
        }
        self.job = Some(listing);
    }

    /// Lets go of the job at hand (at stop).
    pub fn abandon(&mut self) {
        if let Some(listing) = self.job.take() {
            listing.job.finish();
        }
    }
}

/// One round of a job over one table; the next cursor, or `None` at its end.
fn visit<A: Address>(
    table: &mut Table<A>,
    state: &mut WorkerState,
    services: &Services,
    listing: &Listing,
    budget: usize,
    now: Millis,
) -> Option<u32> {
    let job = &listing.job;
    let mut doomed = ArrayVec::<Slot, PER_LOOP>::new();
    let next = table.scan(listing.cursor, budget.min(PER_LOOP), |slot, connection| {
        let row = row(state.worker, services, connection, now);
        if !job.filter.matches(&row) {
            return;
        }
        match job.action {
            // Room for a whole round was made sure of, so this cannot fail.
            Action::List => drop(job.rows.push(row)),
            Action::Delete => drop(doomed.try_push(slot)),
        }
        job.handled.fetch_add(1, Ordering::Relaxed);
    });
    for slot in doomed {
        let connection = table.remove(slot);
        state.unbind(services, &connection);
    }
    next
}

fn row<A: Address>(
    worker: WorkerId,
    services: &Services,
    connection: &Connection<A>,
    now: Millis,
) -> ConnectionRow {
    let binding = connection.binding();
    let mut destination = SocketAddr::from(binding.destination);
    // A tunnel's other end may be of the other family, for which the connection has no room.
    if let (Forward::Tunnel(_), Some(real)) = (binding.forward, services.real(binding.real)) {
        destination.set_ip(real.address);
    }
    ConnectionRow {
        worker,
        protocol: binding.protocol,
        state: connection.state(),
        expires_ms: u64::from(connection.expires_in(now)),
        template: None,
        client: binding.client.into(),
        virtual_address: binding.vip.into(),
        destination,
        service: binding.service,
        real: binding.real,
        forward: binding.forward,
        packets: connection.client_packets(),
    }
}
