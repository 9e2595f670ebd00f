//! Work on a connection table that control asks a worker to do.
//!
//! Only its worker touches a table (DESIGN §4), so listing and deleting are jobs: a few entries
//! per loop, results into a ring, paused while the ring is full. Rows are plain values; nothing is
//! allocated on the worker.

use crate::address::Protocol;
use crate::connection::State;
use crate::service::{Forward, RealId, ServiceId};
use crate::verdict::WorkerId;
use crossbeam_queue::ArrayQueue;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One connection, or persistence template, as listings show it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionRow {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Transport protocol.
    pub protocol: Protocol,
    /// State.
    pub state: State,
    /// What it is if it is a template; protocol and state are then to be asked by
    /// [`Self::protocol_name`] and [`Self::state_name`].
    pub template: Option<TemplateRow>,
    /// Milliseconds until it expires if no packet comes.
    pub expires_ms: u64,
    /// Client.
    pub client: SocketAddr,
    /// VIP and port.
    pub virtual_address: SocketAddr,
    /// Real server's address and port.
    pub destination: SocketAddr,
    /// Service.
    pub service: ServiceId,
    /// Real server.
    pub real: RealId,
    /// Forwarding method.
    pub forward: Forward,
    /// Client packets seen (saturating).
    pub packets: u32,
}

/// What a persistence template has that connections have not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateRow {
    /// It is a mark's, for all protocols.
    pub any_protocol: bool,
    /// A connection of it has been established.
    pub assured: bool,
    /// What the persistence engine knows it by.
    pub call: Option<Arc<[u8]>>,
}

impl ConnectionRow {
    /// The transport protocol; `None` = all, as of a mark's template.
    pub fn transport(&self) -> Option<Protocol> {
        let any = self.template.as_ref().is_some_and(|it| it.any_protocol);
        (!any).then_some(self.protocol)
    }

    /// The protocol as `ipvsadm -Lc` prints it.
    pub fn protocol_name(&self) -> &'static str {
        self.transport().map_or("IP", Protocol::name)
    }

    /// The state as `ipvsadm -Lc` prints it.
    pub fn state_name(&self) -> &'static str {
        match &self.template {
            None => self.state.name(),
            Some(template) if template.assured => "ASSURED",
            Some(_) => "NONE",
        }
    }
}

/// Which connections a job is about; an unset or empty field matches all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// Transport protocol.
    pub protocol: Option<Protocol>,
    /// Only what is for all protocols: templates of marks.
    pub any_protocol: bool,
    /// Client address and, if set, port.
    pub client: Option<(IpAddr, Option<u16>)>,
    /// VIP and, if set, port.
    pub virtual_address: Option<(IpAddr, Option<u16>)>,
    /// Real server's address and, if set, port.
    pub destination: Option<(IpAddr, Option<u16>)>,
    /// Name of a state, in any letter case.
    pub state: Option<String>,
    /// Services.
    pub services: Option<Vec<ServiceId>>,
    /// Real servers.
    pub reals: Option<Vec<RealId>>,
}

impl Filter {
    /// True if `row` is meant. Neither allocates nor panics: workers call it.
    pub fn matches(&self, row: &ConnectionRow) -> bool {
        let endpoint = |wanted: Option<(IpAddr, Option<u16>)>, actual: SocketAddr| {
            wanted.is_none_or(|(address, port)| {
                address == actual.ip() && port.is_none_or(|port| port == actual.port())
            })
        };
        (!self.any_protocol || row.transport().is_none())
            && self
                .protocol
                .is_none_or(|wanted| row.transport() == Some(wanted))
            && endpoint(self.client, row.client)
            && endpoint(self.virtual_address, row.virtual_address)
            && endpoint(self.destination, row.destination)
            && self
                .state
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(row.state_name()))
            && self
                .services
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&row.service))
            && self
                .reals
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&row.real))
    }
}

/// What to do with the matching connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Put a row for each into the ring.
    List,
    /// End each.
    Delete,
}

/// A job and its progress, shared by the worker that does it and the control task that asked.
#[derive(Debug)]
pub struct Job {
    /// What to do.
    pub action: Action,
    /// With which connections.
    pub filter: Filter,
    /// Rows of a listing.
    pub rows: ArrayQueue<ConnectionRow>,
    /// Connections listed or deleted so far.
    pub handled: AtomicU64,
    done: AtomicBool,
    cancelled: AtomicBool,
}

impl Job {
    /// A job for one worker. `ring` is how many rows may be under way at once.
    ///
    /// The asker keeps its `Arc` until [`Self::is_done`], so the worker never frees the job.
    pub fn new(action: Action, filter: Filter, ring: usize) -> Arc<Self> {
        Arc::new(Self {
            action,
            filter,
            rows: ArrayQueue::new(ring.max(1)),
            handled: AtomicU64::new(0),
            done: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
        })
    }

    /// True when the worker is through with the job; rows may still be in the ring.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Asks the worker to stop early.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// True if the asker does not want it any more.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Called by the worker when it is through.
    pub fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }
}
