//! The *services* snapshot: virtual services and their real servers as the workers read them.
//!
//! Control builds it whole and publishes it ([`crate::epoch`]); nothing in it changes afterwards
//! except the single-writer cells behind the `Arc`s ([`RealShared`], [`ServiceShared`]), which
//! live on from snapshot to snapshot because they belong to an identity, not to a table:
//! a real server is (service, address, port), a service is its [`ServiceKey`].

use crate::address::Protocol;
use crate::connection::{TcpTable, Timeouts};
use crate::counters::Counter;
use crate::scheduler::SchedulerKind;
use crate::verdict::WorkerId;
use crossbeam_utils::CachePadded;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// Small integer id of a real server's identity; stable while connections or counters refer to it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RealId(pub u32);

/// Small integer id of a virtual service's identity.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceId(pub u32);

/// What identifies one IPVS service.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ServiceKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The VIP.
    pub address: IpAddr,
    /// Port in host order; 0 = all ports.
    pub port: u16,
}

/// How packets get to a real server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Forward {
    /// Direct routing: only the destination MAC changes; replies bypass us.
    Dr,
    /// Destination NAT; replies come back through us and are un-NATed.
    Nat,
    /// Source and destination NAT.
    FullNat,
    /// Encapsulation.
    Tunnel(Tunnel),
    /// Delivery to the local stack.
    Local,
}

impl Forward {
    /// The word `ipvsadm` uses for it.
    pub fn ipvs_name(self) -> &'static str {
        match self {
            Self::Dr => "Route",
            Self::Nat => "Masq",
            Self::FullNat => "FullNat",
            Self::Tunnel(_) => "Tunnel",
            Self::Local => "Local",
        }
    }

    /// True if replies come back through us, so that the connection has a reply key.
    pub fn sees_replies(self) -> bool {
        matches!(self, Self::Nat | Self::FullNat)
    }
}

/// Encapsulation of a tunnelled real server.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tunnel {
    /// Outer protocol.
    pub kind: TunnelKind,
    /// UDP or GRE checksum is computed.
    pub checksum: bool,
}

/// Outer protocol of a tunnel.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// GRE.
    Gre,
    /// Generic UDP encapsulation to this port.
    Gue(u16),
}

/// When a service's VIP is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serve {
    /// Only while the address is this box's, as IPVS does.
    WhileLocal,
    /// Always.
    Always,
}

/// What becomes of established connections whose real server is gone or down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Orphans {
    /// Still forwarded.
    Keep,
    /// Dropped; the next SYN, or datagram, is scheduled afresh.
    Expire,
    /// The client gets a TCP reset and the connection ends; a datagram is scheduled afresh.
    Reset,
    /// `expire_nodest_conn = 0`: silently dropped until the timeout, SYNs included.
    Silent,
    /// `expire_nodest_conn = 1`: the connection ends at once and the packet is scheduled afresh.
    Reschedule,
}

/// What a client gets when nothing can serve it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NoServer {
    /// ICMP port unreachable from the VIP.
    Unreachable,
    /// Nothing.
    Drop,
}

/// Global settings of the `[ipvs]` section that workers read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IpvsSettings {
    /// `conn_reuse_mode` bits (spec 3.6).
    pub conn_reuse_mode: u8,
    /// `expire_nodest_conn`: also reschedules a SYN on a connection whose server has weight 0.
    pub expire_nodest_conn: bool,
    /// `sloppy_tcp`: schedule on any TCP packet.
    pub sloppy_tcp: bool,
    /// The TCP transition table in use (`secure_tcp`).
    pub table: TcpTable,
}

impl Default for IpvsSettings {
    fn default() -> Self {
        Self {
            conn_reuse_mode: 1,
            expire_nodest_conn: false,
            sloppy_tcp: false,
            table: TcpTable::Normal,
        }
    }
}

/// What to do with unicast that is neither ours nor a service's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Transit {
    /// Give it to the Linux stack.
    #[default]
    Kernel,
    /// Route it here.
    Fast,
    /// Drop it.
    Drop,
}

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
        self.weight > 0 && !self.shared.overloaded.load(Relaxed)
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
    /// Connections in an active state (spec 3.2).
    pub active: Counter,
    /// All other connections.
    pub inactive: Counter,
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
    /// The kernel's OVERLOAD flag; any worker may flip it when it binds or frees a connection.
    pub overloaded: AtomicBool,
}

impl RealShared {
    /// Cells for `workers` workers, all zero.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            cells: (0..workers).map(|_| CachePadded::default()).collect(),
            overloaded: AtomicBool::new(false),
        })
    }

    /// The cell that `worker` writes.
    #[inline]
    pub fn cell(&self, worker: WorkerId) -> &RealCell {
        &self.cells[usize::from(worker.0)]
    }

    /// Active and inactive connections over all workers.
    #[inline]
    pub fn connections(&self) -> (u64, u64) {
        self.cells.iter().fold((0, 0), |(active, inactive), cell| {
            (
                active + cell.active.value(),
                inactive + cell.inactive.value(),
            )
        })
    }

    /// Re-evaluates the OVERLOAD flag (spec 1.0): set when the connections of all workers reach
    /// `upper`, cleared when they fall below `lower` (0 = three quarters of `upper`).
    #[inline]
    pub fn evaluate_overload(&self, upper: u32, lower: u32) {
        if upper == 0 {
            if self.overloaded.load(Relaxed) {
                self.overloaded.store(false, Relaxed);
            }
            return;
        }
        let (active, inactive) = self.connections();
        let total = active + inactive;
        let lower = match lower {
            0 => upper - upper / 4,
            lower => lower,
        };
        if total >= u64::from(upper) {
            self.overloaded.store(true, Relaxed);
        } else if total < u64::from(lower) {
            self.overloaded.store(false, Relaxed);
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

/// A service's servers in the kernel's order (newest first) with what schedulers precompute.
#[derive(Clone, Debug, Default)]
pub struct ServerList {
    /// Newest first: file order reversed.
    pub servers: Box<[RealServer]>,
    /// Grows whenever membership or a weight changes; schedulers apply the kernel's change rule
    /// when their cell has seen an older one.
    pub generation: u64,
    /// How the list came to be, one step per change the kernel would have seen, oldest first.
    pub history: Box<[ListChange]>,
    /// Servers that left the list, with the one that stood before each in list order (`None` =
    /// it was the first): rr moves its pointer there.
    pub predecessors: HashMap<RealId, Option<RealId>, FxBuildHasher>,
    /// `di` of wrr: gcd of all weights above 0, at least 1.
    pub gcd: u32,
    /// Largest weight.
    pub max_weight: u32,
}

/// One change of a server list, reduced to what wrr's carry-over needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListChange {
    /// The list generation this change led to.
    pub generation: u64,
    /// gcd of the weights after it.
    pub gcd: u32,
    /// Largest weight after it.
    pub max_weight: u32,
}

/// One worker's state of one service's scheduler; what the words mean is the scheduler's business.
#[derive(Debug, Default)]
pub struct SchedulerCell {
    /// The list generation the words below belong to; 0 = never used.
    pub generation: AtomicU64,
    /// Id + 1 of the server used last (0 = list head).
    pub last: AtomicU64,
    /// wrr: current weight.
    pub current_weight: AtomicI64,
}

/// The part of a service that outlives snapshots.
#[derive(Debug)]
pub struct ServiceShared {
    cells: Box<[CachePadded<SchedulerCell>]>,
    unserved: Arc<[CachePadded<Counter>]>,
}

impl ServiceShared {
    /// Cells for `workers` workers.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            cells: (0..workers).map(|_| CachePadded::default()).collect(),
            unserved: (0..workers).map(|_| CachePadded::default()).collect(),
        })
    }

    /// The same counters with scheduler state that was never used.
    pub fn with_fresh_schedulers(&self) -> Arc<Self> {
        Arc::new(Self {
            cells: (0..self.cells.len())
                .map(|_| CachePadded::default())
                .collect(),
            unserved: Arc::clone(&self.unserved),
        })
    }

    /// The scheduler state of `worker`.
    #[inline]
    pub fn scheduler(&self, worker: WorkerId) -> &SchedulerCell {
        &self.cells[usize::from(worker.0)]
    }

    /// Counter of packets of `worker` that found no server.
    #[inline]
    pub fn unserved(&self, worker: WorkerId) -> &Counter {
        &self.unserved[usize::from(worker.0)]
    }

    /// Packets that found no server, over all workers.
    pub fn unserved_total(&self) -> u64 {
        self.unserved.iter().map(|counter| counter.value()).sum()
    }
}

/// One virtual service: one listing line of `ipvsadm`.
#[derive(Clone, Debug)]
pub struct VirtualService {
    /// Identity.
    pub id: ServiceId,
    /// Protocol, VIP, port.
    pub key: ServiceKey,
    /// Section name in the configuration.
    pub name: Arc<str>,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Server list.
    pub list: ServerList,
    /// When it is served.
    pub serve: Serve,
    /// What clients get when nothing can serve.
    pub no_server: NoServer,
    /// True if it has, or in this process ever had, a server that is not DR or tunnel (DESIGN §5).
    pub ever_translated: bool,
    /// Cells that outlive the snapshot.
    pub shared: Arc<ServiceShared>,
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
    /// Protocol of its service.
    pub protocol: Protocol,
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

/// Whether a real server's established connections go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// In its service's list.
    Listed,
    /// Taken out of the list (down or removed); its connections are treated so.
    Gone(Orphans),
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Services {
    index: HashMap<ServiceKey, u32, FxBuildHasher>,
    list: Box<[VirtualService]>,
    positions: HashMap<ServiceId, u32, FxBuildHasher>,
    vips: HashMap<IpAddr, u32, FxBuildHasher>,
    reals: Box<[Option<RealRecord>]>,
    real_endpoints: HashMap<(Protocol, IpAddr, u16), RealId, FxBuildHasher>,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[ipvs]`.
    pub ipvs: IpvsSettings,
    /// `transit`.
    pub transit: Transit,
}

impl Services {
    /// Builds the snapshot.
    ///
    /// `reals[i]` must describe `RealId(i)`; every server in a list must have its record.
    /// Of two services with the same key the first wins (the configuration refuses such).
    pub fn new(
        services: Vec<VirtualService>,
        reals: Vec<Option<RealRecord>>,
        timeouts: Timeouts,
        ipvs: IpvsSettings,
        transit: Transit,
    ) -> Self {
        let mut index = HashMap::with_hasher(FxBuildHasher);
        let mut positions = HashMap::with_hasher(FxBuildHasher);
        let mut vips = HashMap::with_hasher(FxBuildHasher);
        for (position, service) in services.iter().enumerate() {
            index.entry(service.key).or_insert(position as u32);
            positions.insert(service.id, position as u32);
            *vips.entry(service.key.address).or_insert(0) += 1;
        }
        let mut real_endpoints = HashMap::with_hasher(FxBuildHasher);
        for (id, record) in reals.iter().enumerate() {
            if let Some(record) = record {
                real_endpoints.insert(
                    (record.protocol, record.address, record.port),
                    RealId(id as u32),
                );
            }
        }
        Self {
            index,
            list: services.into(),
            positions,
            vips,
            reals: reals.into(),
            real_endpoints,
            timeouts,
            ipvs,
            transit,
        }
    }

    /// The service for a packet to `address:port`: the exact one, else the VIP's port-0 service
    /// (spec 2.2).
    #[inline]
    pub fn find(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<&VirtualService> {
        let exact = ServiceKey {
            protocol,
            address,
            port,
        };
        self.index
            .get(&exact)
            .or_else(|| self.index.get(&ServiceKey { port: 0, ..exact }))
            .map(|position| &self.list[*position as usize])
    }

    /// The service with this identity.
    pub fn service(&self, id: ServiceId) -> Option<&VirtualService> {
        self.positions
            .get(&id)
            .map(|position| &self.list[*position as usize])
    }

    /// All services in file order.
    pub fn services(&self) -> &[VirtualService] {
        &self.list
    }

    /// True if any service has this address.
    #[inline]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.contains_key(&address)
    }

    /// The real server with this id, tombstones included.
    #[inline]
    pub fn real(&self, id: RealId) -> Option<&RealRecord> {
        self.reals.get(id.0 as usize).and_then(Option::as_ref)
    }

    /// Every real server with its id, tombstones included.
    pub fn reals(&self) -> impl Iterator<Item = (RealId, &RealRecord)> {
        self.reals
            .iter()
            .enumerate()
            .filter_map(|(id, record)| Some((RealId(id as u32), record.as_ref()?)))
    }

    /// True if packets from `address:port` can be replies of a real server.
    #[inline]
    pub fn is_real(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.real_endpoints.contains_key(&(protocol, address, port))
    }
}
