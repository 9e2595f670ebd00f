//! The *services* snapshot: virtual services and their real servers as the workers read them.
//!
//! Control builds it whole and publishes it ([`crate::epoch`]); nothing in it changes afterwards
//! except the single-writer cells behind the `Arc`s ([`RealShared`], [`ServiceShared`]), which
//! live on from snapshot to snapshot because they belong to an identity, not to a table:
//! a real server is (service, address, port), a service is its [`ServiceKey`].

mod key;
mod lookup;
mod marks;
mod method;
mod persistence;
mod real;
mod settings;

pub use key::ServiceKey;
pub use marks::{MarkRule, Marks};
pub use method::{Forward, Tunnel, TunnelKind};
pub use persistence::{Engine, Persistence};
pub use real::{RealCell, RealRecord, RealServer, RealShared, Standing, Traffic};
pub use settings::{IpvsSettings, NoServer, Orphans, Serve, Transit};

use crate::address::{Family, Protocol};
use crate::connection::{Millis, Timeouts};
use crate::counters::Counter;
use crate::expected::ExpectedConnections;
use crate::ftp::CONTROL_PORT;
use crate::scheduler::candidates::Candidates;
use crate::scheduler::hashed::HashTable;
use crate::scheduler::{Dice, Localities, SchedulerFlags, SchedulerKind};
use crate::verdict::WorkerId;
use crossbeam_utils::CachePadded;
use hashbrown::{HashMap, HashSet};
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
    /// The latest weight above 0 of each server, 0 if it had none: mh goes by them.
    pub(crate) last_weights: Box<[u32]>,
    /// Where dh, sh and mh look servers up.
    pub(crate) table: HashTable,
    /// `servers` as the least-connection schedulers walk them.
    pub(crate) candidates: Candidates,
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
    /// twos: what decides.
    pub dice: Dice,
}

/// The part of a service that outlives snapshots.
#[derive(Debug)]
pub struct ServiceShared {
    cells: Box<[CachePadded<SchedulerCell>]>,
    localities: Option<Arc<Localities>>,
    unserved: Arc<[CachePadded<Counter>]>,
    dealing: Arc<Dealing>,
}

/// How connections of a service come to their workers.
#[derive(Debug, Default)]
struct Dealing {
    /// Until then (milliseconds) new ones of TCP, UDP, SCTP belong to the computed owner, because
    /// some were made by packets that devices do not deliver alike.
    dealt_until: [AtomicU64; 3],
    /// Some were made elsewhere. Set once and for all.
    strays: AtomicBool,
}

/// How long a service stays dealt after it was needed last, at least, in milliseconds.
const DEALT_FOR: u64 = 600_000;
/// How often the need is noted, in milliseconds.
const NOTED_EVERY: u64 = 1_000;

impl ServiceShared {
    /// Cells for `workers` workers, for a scheduler that shares nothing between them.
    pub fn new(workers: usize) -> Arc<Self> {
        Self::scheduled_by(SchedulerKind::default(), workers, 0)
    }

    /// What `scheduler` needs for `workers` workers. `seed` is what chance begins with.
    pub fn scheduled_by(scheduler: SchedulerKind, workers: usize, seed: u64) -> Arc<Self> {
        let unserved = (0..workers).map(|_| CachePadded::default()).collect();
        Self::counting(unserved, Arc::default(), scheduler, seed)
    }

    /// The same counters with state for `scheduler` that was never used.
    pub fn with_fresh_schedulers(&self, scheduler: SchedulerKind, seed: u64) -> Arc<Self> {
        let dealing = Arc::clone(&self.dealing);
        Self::counting(Arc::clone(&self.unserved), dealing, scheduler, seed)
    }

    fn counting(
        unserved: Arc<[CachePadded<Counter>]>,
        dealing: Arc<Dealing>,
        scheduler: SchedulerKind,
        seed: u64,
    ) -> Arc<Self> {
        let seeds = Dice::new(seed);
        let cell = |_| {
            CachePadded::new(SchedulerCell {
                dice: Dice::new(seeds.roll(u64::MAX)),
                ..SchedulerCell::default()
            })
        };
        Arc::new(Self {
            cells: (0..unserved.len()).map(cell).collect(),
            localities: scheduler.localities(seeds.roll(u64::MAX)),
            unserved,
            dealing,
        })
    }

    /// What lblc and lblcr remember of destinations, for all workers.
    #[inline]
    pub fn localities(&self) -> Option<&Localities> {
        self.localities.as_deref()
    }

    /// True if [`Self::deal`] was called and it was needed since.
    #[inline]
    pub fn is_dealt(&self, protocol: Protocol, now: Millis) -> bool {
        now.0 < self.dealt_until(protocol).load(Relaxed)
    }

    /// From now on new connections of `protocol` belong to the worker that is computed from the
    /// client, whoever receives their packets: some are made by fragments or by ICMP errors, which
    /// devices do not deliver alike.
    ///
    /// It is forgotten when it was not needed for the longest timeout of such connections, and ten
    /// minutes at least: whoever still had one under this rule would
    /// have called again when a packet of it was handed over.
    pub fn deal(&self, protocol: Protocol, now: Millis, timeouts: &Timeouts) {
        let longest = u64::from(timeouts.longest(protocol));
        let until = now.0 + DEALT_FOR.max(longest) + NOTED_EVERY;
        let noted = self.dealt_until(protocol);
        if until >= noted.load(Relaxed) + NOTED_EVERY {
            noted.store(until, Relaxed);
        }
    }

    fn dealt_until(&self, protocol: Protocol) -> &AtomicU64 {
        let [tcp, udp, sctp] = &self.dealing.dealt_until;
        match protocol {
            Protocol::Tcp => tcp,
            Protocol::Udp => udp,
            Protocol::Sctp => sctp,
        }
    }

    /// True if connections may be elsewhere than with the computed worker.
    #[inline]
    pub fn has_strays(&self) -> bool {
        self.dealing.strays.load(Relaxed)
    }

    /// A connection was made; `owned`: by the computed worker.
    #[inline]
    pub fn made(&self, owned: impl FnOnce() -> bool) {
        if !self.has_strays() && !owned() {
            self.dealing.strays.store(true, Relaxed);
        }
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
    /// Protocol, VIP and port, or the mark.
    pub key: ServiceKey,
    /// Section name in the configuration.
    pub name: Arc<str>,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Its flags.
    pub scheduler_flags: SchedulerFlags,
    /// Server list.
    pub list: ServerList,
    /// When it is served.
    pub serve: Serve,
    /// What clients get when nothing can serve.
    pub no_server: NoServer,
    /// How its clients stay on their servers; `None` = they do not.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled for itself and leaves no connection.
    pub one_packet: bool,
    /// True if it has, or in this process ever had, a server that is not DR or tunnel (DESIGN §5).
    pub ever_translated: bool,
    /// Cells that outlive the snapshot.
    pub shared: Arc<ServiceShared>,
}

impl VirtualService {
    /// [`Services::share_counts`] for this service.
    pub fn share_counts(&self) {
        if self.scheduler.compares_connections() {
            self.list.candidates.share();
        }
        for index in self.list.candidates.limited() {
            self.list.servers[index].evaluate_overload();
        }
    }
}

/// The snapshot.
#[derive(Debug, Default)]
pub struct Services {
    index: HashMap<ServiceKey, u32, FxBuildHasher>,
    list: Box<[VirtualService]>,
    positions: HashMap<ServiceId, u32, FxBuildHasher>,
    vips: HashMap<IpAddr, u32, FxBuildHasher>,
    reals: Box<[Option<RealRecord>]>,
    /// Where replies may come from; port 0 = from any port.
    real_endpoints: HashMap<(Protocol, IpAddr, u16), RealId, FxBuildHasher>,
    /// Where replies come from, of listed servers; empty without `nat_icmp_send`.
    translated: HashSet<(Protocol, IpAddr, u16), FxBuildHasher>,
    /// Addresses of servers whose replies come back through us, tombstones included.
    answering: HashSet<IpAddr, FxBuildHasher>,
    /// Removed servers whose connections end at once.
    flushed: Box<[RealId]>,
    /// Some real server may reply from any port.
    any_reply_port: bool,
    /// Some TCP service is on the FTP control port: its clients' data connections are its own.
    ftp_control: bool,
    /// Servers of services with a persistence engine: their messages may begin something.
    speakers: HashMap<(Protocol, IpAddr, u16), RealId, FxBuildHasher>,
    /// `[mark NAME]`.
    marks: Marks,
    /// `[timeouts]`.
    pub timeouts: Timeouts,
    /// `[ipvs]`.
    pub ipvs: IpvsSettings,
    /// `transit`.
    pub transit: Transit,
    /// Connections that FTP control connections have announced; `None` while there never was a
    /// service that the FTP helper serves.
    pub expected: Option<Arc<ExpectedConnections>>,
}

impl Services {
    /// Builds the snapshot.
    ///
    /// `reals[i]` must describe `RealId(i)`; every server in a list must have its record.
    /// Of two services with the same key the first wins (the configuration refuses such).
    pub fn new(
        services: Vec<VirtualService>,
        marks: Marks,
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
            if let Some(address) = service.key.address() {
                *vips.entry(address).or_insert(0) += 1;
            }
        }
        for rule in marks.rules() {
            for vip in rule.vips() {
                let key = ServiceKey::of_mark(Family::of(vip), rule.mark);
                if index.contains_key(&key) {
                    *vips.entry(vip).or_insert(0) += 1;
                }
            }
        }
        let ftp_control = services.iter().any(|service| {
            service.key.port() == CONTROL_PORT && service.key.protocol() == Some(Protocol::Tcp)
        });
        let mut real_endpoints = HashMap::with_hasher(FxBuildHasher);
        let mut answering = HashSet::with_hasher(FxBuildHasher);
        let mut any_reply_port = false;
        let mut speakers = HashMap::with_hasher(FxBuildHasher);
        for (id, record) in reals.iter().enumerate() {
            let Some(record) = record else { continue };
            if record.forward.sees_replies() {
                answering.insert(record.address);
            }
            let port = record.reply_port();
            any_reply_port |= port == 0;
            for protocol in record.protocols() {
                let endpoint = (*protocol, record.address, port);
                real_endpoints.insert(endpoint, RealId(id as u32));
                let service = positions.get(&record.service);
                let service = service.and_then(|position| services.get(*position as usize));
                let persistence = service.and_then(|service| service.persistence);
                if record.standing == Standing::Listed
                    && persistence.is_some_and(|persistence| persistence.engine.is_some())
                {
                    speakers.insert(endpoint, RealId(id as u32));
                }
            }
        }
        let flushed = reals.iter().enumerate().filter_map(|(id, record)| {
            let flushed = record.as_ref().is_some_and(RealRecord::is_flushed);
            flushed.then_some(RealId(id as u32))
        });
        let flushed = flushed.collect();
        let records = reals.iter().flatten();
        let translated = records
            .filter(|record| {
                ipvs.nat_icmp_send
                    && record.forward.sees_replies()
                    && record.standing == Standing::Listed
            })
            .flat_map(|record| {
                let protocols = record.protocols().iter();
                protocols.map(|protocol| (*protocol, record.address, record.port))
            })
            .collect();
        Self {
            index,
            list: services.into(),
            positions,
            vips,
            reals: reals.into(),
            real_endpoints,
            translated,
            answering,
            flushed,
            any_reply_port,
            ftp_control,
            speakers,
            marks,
            timeouts,
            ipvs,
            transit,
            expected: None,
        }
    }

    /// The service with this key.
    #[inline]
    pub fn with_key(&self, key: &ServiceKey) -> Option<&VirtualService> {
        let position = self.index.get(key)?;
        self.list.get(*position as usize)
    }

    /// `[mark NAME]`.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// True if some service's clients are persistent.
    pub fn has_persistence(&self) -> bool {
        self.list
            .iter()
            .any(|service| service.persistence.is_some())
    }

    /// True if some service's clients are recognised by a persistence engine.
    pub fn has_engine(&self) -> bool {
        let mut all = self.list.iter().filter_map(|service| service.persistence);
        all.any(|persistence| persistence.engine.is_some())
    }

    /// True if connections may come that the FTP helper has to read.
    pub fn has_ftp(&self) -> bool {
        self.list.iter().any(|service| {
            let (tcp, control) = match service.key {
                ServiceKey::Address { protocol, port, .. } => {
                    (protocol == Protocol::Tcp, matches!(port, 0 | CONTROL_PORT))
                }
                ServiceKey::Mark { .. } => (true, true),
            };
            tcp && control && service.ever_translated
        })
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

    /// Tells every worker what the others have (see [`crate::connection_counts`]), for the services
    /// whose scheduler asks, and puts OVERLOAD flags right that two workers set against each
    /// other. Control calls this every
    /// [`SHARE_INTERVAL`](crate::connection_counts::SHARE_INTERVAL) if there are several workers.
    pub fn share_counts(&self) {
        for service in &self.list {
            service.share_counts();
        }
    }

    /// True if any service has this address, that of a mark included.
    #[inline]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vips.contains_key(&address)
    }

    /// True if a packet with ports between these addresses may be a client's or a server's: what can be
    /// known of a fragment.
    #[inline]
    pub fn may_be_balanced(&self, source: IpAddr, destination: IpAddr) -> bool {
        self.is_vip(destination)
            || self.answering.contains(&source)
            || self.marks.may_mark(destination)
    }

    /// True if what this address sends may be a server's answer that has to be translated back.
    pub fn may_answer(&self, source: IpAddr) -> bool {
        self.answering.contains(&source)
    }

    /// The real server with this id, tombstones included.
    #[inline]
    pub fn real(&self, id: RealId) -> Option<&RealRecord> {
        self.reals.get(id.0 as usize).and_then(Option::as_ref)
    }

    /// Removed servers whose connections end at once.
    pub(crate) fn flushed(&self) -> &[RealId] {
        &self.flushed
    }

    /// Every real server with its id, tombstones included.
    pub fn reals(&self) -> impl Iterator<Item = (RealId, &RealRecord)> {
        self.reals
            .iter()
            .enumerate()
            .filter_map(|(id, record)| Some((RealId(id as u32), record.as_ref()?)))
    }

    /// True if `address:port` is a listed server whose replies come back through us; false without
    /// `nat_icmp_send`.
    pub fn is_translated_real(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.translated.contains(&(protocol, address, port))
    }

    /// The real server at `address:port`, if its service has a persistence engine.
    #[inline]
    pub fn speaker(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<RealId> {
        if self.speakers.is_empty() {
            return None;
        }
        let at = |port| self.speakers.get(&(protocol, address, port)).copied();
        at(port).or_else(|| at(0))
    }

    /// True if packets from `address:port` can be replies of a real server.
    #[inline]
    pub fn is_real(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        let known = |port| self.real_endpoints.contains_key(&(protocol, address, port));
        known(port) || (self.any_reply_port && known(0))
    }
}
