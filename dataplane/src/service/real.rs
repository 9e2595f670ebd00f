//! Real servers: as schedulers see them, as established connections do, and what outlives both.

use super::{Forward, Orphans, RealId, ServiceId, ServiceKey};
use crate::address::Protocol;
use crate::connection_counts::{CountPlace, WorkerCounts};
use crate::counters::Counter;
use crate::verdict::WorkerId;
use crossbeam_utils::CachePadded;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One real server in a service's list.
#[derive(Clone, Debug)]
pub struct RealServer {
    /// Identity.
    pub id: RealId,
    /// Address.
    pub address: IpAddr,
    /// Port in host order (0 on a port-0 service: the client's port is kept).
    pub port: u16,
    /// Effective weight, 0..=65535; 0 = no new connections.
    pub weight: u32,
    /// Forwarding method.
    pub forward: Forward,
    /// Upper connection threshold; 0 = none.
    pub upper_threshold: u32,
    /// Lower connection threshold; 0 = three quarters of the upper one.
    pub lower_threshold: u32,
    /// Counters that outlive the snapshot.
    pub shared: Arc<RealShared>,
}

impl RealServer {
    /// True if it may be scheduled: weight above 0 and not overloaded.
    #[inline]
    pub fn is_eligible(&self) -> bool {
        // Without a threshold the flag is never set, and its line need not be looked at.
        self.weight > 0 && (self.upper_threshold == 0 || !self.shared.is_overloaded())
    }

    /// Re-evaluates the OVERLOAD flag after a connection was bound or freed, or the thresholds
    /// changed.
    #[inline]
    pub fn evaluate_overload(&self) {
        self.shared
            .evaluate_overload(self.upper_threshold, self.lower_threshold);
    }
}

/// One worker's counters of one real server. The worker is the only writer.
#[derive(Debug, Default)]
pub struct RealCell {
    /// Connections ever bound.
    pub connections: Counter,
    /// Client packets.
    pub in_packets: Counter,
    /// Client bytes, from the IP header on.
    pub in_bytes: Counter,
    /// Server packets (NAT only).
    pub out_packets: Counter,
    /// Server bytes.
    pub out_bytes: Counter,
}

/// The part of a real server that outlives snapshots.
#[derive(Debug)]
pub struct RealShared {
    cells: Box<[CachePadded<RealCell>]>,
    counts: CountPlace,
    templates: AtomicU64,
}

impl RealShared {
    /// Cells for `workers` workers, all zero, and counts of its own.
    pub fn new(workers: usize) -> Arc<Self> {
        Self::with_counts(workers, CountPlace::alone(workers))
    }

    /// The same with its counts in `counts`, beside those of the service's other servers.
    pub fn with_counts(workers: usize, counts: CountPlace) -> Arc<Self> {
        Arc::new(Self {
            cells: (0..workers).map(|_| CachePadded::default()).collect(),
            counts,
            templates: AtomicU64::new(0),
        })
    }

    /// Persistence templates that lead to it: `PersistConn`. Whoever makes or removes one counts,
    /// so any worker may be the writer.
    pub fn templates(&self) -> &AtomicU64 {
        &self.templates
    }

    /// The cell that `worker` writes.
    #[inline]
    pub fn cell(&self, worker: WorkerId) -> &RealCell {
        &self.cells[usize::from(worker.0)]
    }

    /// The connection counts that `worker` keeps.
    #[inline]
    pub fn counts(&self, worker: WorkerId) -> &WorkerCounts {
        self.counts.worker(worker)
    }

    /// Where the counts are.
    pub fn count_place(&self) -> &CountPlace {
        &self.counts
    }

    /// Active and inactive connections over all workers.
    #[inline]
    pub fn connections(&self) -> (u64, u64) {
        let sum = self.counts.connections();
        (sum.active, sum.inactive)
    }

    /// The kernel's OVERLOAD flag; any worker may flip it when it binds or frees a connection.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.counts.overloaded().load(Relaxed)
    }

    /// Re-evaluates the OVERLOAD flag (spec 1.0): set when the connections of all workers reach
    /// `upper`, cleared when they fall below `lower` (0 = three quarters of `upper`).
    ///
    /// Thresholds are limits, so the workers' own counts are summed, not what control last told.
    /// Workers that do this at the same moment may each miss the other's last connection: up to
    /// W - 1 more than `upper` are bound, and a flag may come out as the other one would have it,
    /// which control puts right ([`Services::share_counts`]).
    #[inline]
    pub fn evaluate_overload(&self, upper: u32, lower: u32) {
        let flag = self.counts.overloaded();
        let overloaded = flag.load(Relaxed);
        if upper == 0 {
            if overloaded {
                flag.store(false, Relaxed);
            }
            return;
        }
        let (active, inactive) = self.connections();
        let total = active + inactive;
        let lower = match lower {
            0 => upper - upper / 4,
            lower => lower,
        };
        // Written only when it changes: all workers read its line.
        if total >= u64::from(upper) {
            if !overloaded {
                flag.store(true, Relaxed);
            }
        } else if total < u64::from(lower) && overloaded {
            flag.store(false, Relaxed);
        }
    }

    /// Traffic over all workers.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for cell in &self.cells {
            sum.connections += cell.connections.value();
            sum.in_packets += cell.in_packets.value();
            sum.in_bytes += cell.in_bytes.value();
            sum.out_packets += cell.out_packets.value();
            sum.out_bytes += cell.out_bytes.value();
        }
        sum
    }
}

/// Totals of a real server or a service, as `ipvsadm --stats` shows them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Connections ever bound.
    pub connections: u64,
    /// Client packets.
    pub in_packets: u64,
    /// Client bytes (IP length).
    pub in_bytes: u64,
    /// Server packets.
    pub out_packets: u64,
    /// Server bytes (IP length).
    pub out_bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.in_packets += other.in_packets;
        self.in_bytes += other.in_bytes;
        self.out_packets += other.out_packets;
        self.out_bytes += other.out_bytes;
    }
}

/// A real server as established connections see it, tombstones included.
#[derive(Clone, Debug)]
pub struct RealRecord {
    /// The part of its section name behind the slash.
    pub name: Arc<str>,
    /// The service it belongs or belonged to.
    pub service: ServiceId,
    /// Section name of that service.
    pub service_name: Arc<str>,
    /// Forwarding method, the last one if it left.
    pub forward: Forward,
    /// Address of the server.
    pub address: IpAddr,
    /// Port of the server.
    pub port: u16,
    /// Which packets its service is about. Servers of one on all ports, or of a mark, may reply
    /// from any port, and those of a mark by any protocol.
    pub service_key: ServiceKey,
    /// Where it stands.
    pub standing: Standing,
    /// Effective weight now (0 for one that left).
    pub weight: u32,
    /// Thresholds, for the overload flag when a connection ends.
    pub upper_threshold: u32,
    /// Lower threshold.
    pub lower_threshold: u32,
    /// Counters.
    pub shared: Arc<RealShared>,
}

impl RealRecord {
    /// Re-evaluates the OVERLOAD flag after a connection was bound or freed.
    #[inline]
    pub fn evaluate_overload(&self) {
        self.shared
            .evaluate_overload(self.upper_threshold, self.lower_threshold);
    }

    /// True if its connections end at once, because it was removed.
    pub(crate) fn is_flushed(&self) -> bool {
        self.standing == Standing::Gone(Orphans::Reschedule)
    }

    /// The port its replies come from; 0 = any: where services keep the client's port.
    pub(super) fn reply_port(&self) -> u16 {
        match self.service_key {
            ServiceKey::Address { port, .. } if port != 0 => self.port,
            ServiceKey::Address { .. } | ServiceKey::Mark { .. } => 0,
        }
    }

    /// The protocols of its replies.
    pub(super) fn protocols(&self) -> &'static [Protocol] {
        match self.service_key.protocol() {
            Some(Protocol::Tcp) => &[Protocol::Tcp],
            Some(Protocol::Udp) => &[Protocol::Udp],
            Some(Protocol::Sctp) => &[Protocol::Sctp],
            None => &[Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
        }
    }
}

/// Whether a real server's established connections go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// In its service's list.
    Listed,
    /// Taken out of the list (down or removed); its connections are treated so.
    Gone(Orphans),
}
