//! Identities of services and real servers, from the first table to the last.
//!
//! A real server is (service, address, port), see DESIGN §4. It keeps its small integer id, its
//! counters and its workers' cells while it is listed, and after it left for as long as any worker
//! has connections of it or a template leads to it, and for at least [`GRACE`]: added again within
//! that time it is the same server, and connections and counters revive as in the kernel. What is finally forgotten leaves
//! its totals with the service, so that a service's counters never run backwards.

use super::desired::{Desired, DesiredService};
use dataplane::connection_counts::{CountPlace, CountTable};
use dataplane::expected::ExpectedConnections;
use dataplane::scheduler::{Dice, MaglevTables, SchedulerFlags, SchedulerKind};
use dataplane::service::{
    Forward, Marks, Orphans, Persistence, RealId, RealRecord, RealServer, RealShared, ServerList,
    ServiceId, ServiceKey, ServiceShared, Services, Standing, Traffic, VirtualService,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long an identity survives after it left the tables.
pub(super) const GRACE: Duration = Duration::from_mins(2);

/// Every identity the process knows.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    services: FxHashMap<ServiceKey, ServiceIdentity>,
    next_service: u32,
    reals: Vec<Option<RealIdentity>>,
    /// Indices of `reals` that are free.
    free: Vec<u32>,
    ids: FxHashMap<(ServiceId, IpAddr, u16), RealId>,
    /// What FTP control connections announce, once there was a service that has such.
    expected: Option<Arc<ExpectedConnections>>,
    /// Tables of mh in use.
    tables: MaglevTables,
    /// Where the schedulers' chance comes from.
    chance: Dice,
}

#[derive(Debug)]
struct ServiceIdentity {
    id: ServiceId,
    shared: Arc<ServiceShared>,
    list: Option<ServerList>,
    /// Where the connection counts of its servers stand.
    counts: CountTable,
    ever_translated: bool,
    /// Totals of servers that were forgotten.
    retired: Traffic,
    /// Totals when the service was zeroed.
    base: Traffic,
    gone_since: Option<Instant>,
    on_real_removed: Orphans,
    scheduler: (SchedulerKind, SchedulerFlags),
    /// Persistence in the last table.
    persistence: Option<Persistence>,
    /// The last one's generation; 0 = there was none yet.
    generation: u8,
}

#[derive(Debug)]
struct RealIdentity {
    name: Arc<str>,
    service_name: Arc<str>,
    forward: Forward,
    service: ServiceKey,
    service_id: ServiceId,
    address: IpAddr,
    port: u16,
    shared: Arc<RealShared>,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    /// Its counters when its service was zeroed.
    base: Traffic,
    gone: Option<Gone>,
    /// It had no connections and no templates when [`Registry::forget`] last looked.
    idle_before: bool,
}

#[derive(Clone, Copy, Debug)]
struct Gone {
    since: Instant,
    orphans: Orphans,
    /// The services epoch in which it was gone first; no worker adds connections once it saw it.
    epoch: u64,
}

/// Totals of a service over all its servers, past ones included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServiceTotals {
    /// Traffic.
    pub traffic: Traffic,
    /// Packets that found no server.
    pub unserved: u64,
}

/// What went through one service and each of its servers.
#[derive(Clone, Debug, Default)]
pub struct ServiceTraffic {
    /// Since the process began.
    pub total: Traffic,
    /// Since [`Registry::zero`].
    pub since_zero: Traffic,
    /// By address and port, those that left included.
    pub servers: HashMap<(IpAddr, u16), ServerTraffic>,
}

/// What went through one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServerTraffic {
    /// Since the identity began.
    pub total: Traffic,
    /// Since [`Registry::zero`].
    pub since_zero: Traffic,
    /// Established connections.
    pub active: u64,
    /// Other connections.
    pub inactive: u64,
    /// Persistence templates.
    pub templates: u64,
}

impl Registry {
    /// An empty registry for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            services: FxHashMap::default(),
            next_service: 0,
            reals: Vec::new(),
            free: Vec::new(),
            ids: FxHashMap::default(),
            expected: None,
            tables: MaglevTables::default(),
            chance: Dice::new(RandomState::new().hash_one(workers)),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Builds the table for `desired`, which will be published as `epoch`.
    pub fn build(&mut self, desired: &Desired, epoch: u64, now: Instant) -> Services {
        let wanted: FxHashSet<ServiceKey> = desired.services.iter().map(|s| s.key).collect();
        for (key, service) in &mut self.services {
            if !wanted.contains(key) && service.gone_since.is_none() {
                service.gone_since = Some(now);
            }
        }
        let mut listed = Listed(vec![false; self.reals.len()]);
        let services: Vec<VirtualService> = desired
            .services
            .iter()
            .map(|service| self.service(service, &mut listed))
            .collect();
        for (index, real) in self.reals.iter_mut().enumerate() {
            let Some(real) = real else { continue };
            if listed.contains(index) {
                real.gone = None;
                continue;
            }
            let orphans = self
                .services
                .get(&real.service)
                .map_or(Orphans::Keep, |service| service.on_real_removed);
            real.weight = 0;
            real.gone = Some(match real.gone {
                Some(gone) => Gone { orphans, ..gone },
                None => Gone {
                    since: now,
                    orphans,
                    epoch,
                },
            });
        }
        let records = self
            .reals
            .iter()
            .map(|real| real.as_ref().map(RealIdentity::record))
            .collect();
        let mut services = Services::new(
            services,
            Marks::new(desired.marks.clone()),
            records,
            desired.timeouts,
            desired.ipvs,
            desired.transit,
        );
        if services.has_ftp() {
            // From now on: connections that were announced outlive their service.
            self.expected.get_or_insert_default();
        }
        services.expected.clone_from(&self.expected);
        services
    }

    /// Forgets servers that have been gone for [`GRACE`], have no connections and no templates now
    /// and had none at the call before, and that every worker knows to be gone (`seen` = the oldest services epoch
    /// any worker works with). True if something was forgotten, so that a new table is worth
    /// building.
    pub fn forget(&mut self, seen: u64, now: Instant) -> bool {
        let before = self.free.len();
        let mut any_gone = false;
        for (index, real) in self.reals.iter_mut().enumerate() {
            let due = real.as_mut().is_some_and(|real| {
                // Most are listed, and a hundred thousand counters are a lot to look at.
                if real.gone.is_none() {
                    real.idle_before = false;
                    return false;
                }
                any_gone = true;
                let templates = real.shared.templates().load(Ordering::Relaxed);
                let idle = real.shared.connections() == (0, 0) && templates == 0;
                let idle_before = std::mem::replace(&mut real.idle_before, idle);
                let gone = real
                    .gone
                    .is_some_and(|gone| now - gone.since >= GRACE && seen >= gone.epoch);
                gone && idle && idle_before
            });
            if !due {
                continue;
            }
            if let Some(real) = real.take() {
                self.ids.remove(&(real.service_id, real.address, real.port));
                if let Some(service) = self.services.get_mut(&real.service) {
                    service.retired += real.shared.traffic();
                    service.counts.give_back(real.shared.count_place().clone());
                }
                self.free.push(index as u32);
            }
        }
        any_gone |= self.services.values().any(|s| s.gone_since.is_some());
        if !any_gone {
            return false;
        }
        let in_use: FxHashSet<ServiceKey> =
            self.reals.iter().flatten().map(|r| r.service).collect();
        self.services.retain(|key, service| {
            service
                .gone_since
                .is_none_or(|since| now - since < GRACE || in_use.contains(key))
        });
        self.free.len() > before
    }

    /// Totals of every service.
    pub fn totals(&self) -> HashMap<ServiceKey, ServiceTotals> {
        let mut totals: HashMap<_, _> = self
            .services
            .iter()
            .map(|(key, service)| {
                let totals = ServiceTotals {
                    traffic: service.retired,
                    unserved: service.shared.unserved_total(),
                };
                (*key, totals)
            })
            .collect();
        for real in self.reals.iter().flatten() {
            if let Some(totals) = totals.get_mut(&real.service) {
                totals.traffic += real.shared.traffic();
            }
        }
        totals
    }

    /// What went through every service and its servers.
    pub fn traffic(&self) -> HashMap<ServiceKey, ServiceTraffic> {
        let mut services: HashMap<ServiceKey, ServiceTraffic> = HashMap::new();
        for (key, service) in &self.services {
            services.entry(*key).or_default().total = service.retired;
        }
        for real in self.reals.iter().flatten() {
            let service = services.entry(real.service).or_default();
            let total = real.shared.traffic();
            let (active, inactive) = real.shared.connections();
            service.total += total;
            let traffic = ServerTraffic {
                total,
                since_zero: difference(total, real.base),
                active,
                inactive,
                templates: real.shared.templates().load(Ordering::Relaxed),
            };
            service.servers.insert((real.address, real.port), traffic);
        }
        for (key, service) in &mut services {
            let base = self.services.get(key).map(|known| known.base);
            service.since_zero = difference(service.total, base.unwrap_or_default());
        }
        services
    }

    /// Has [`Self::traffic`] count these services and their servers from now on. Other counters
    /// never run backwards.
    pub fn zero(&mut self, services: &[ServiceKey]) {
        let zeroed: FxHashSet<ServiceKey> = services.iter().copied().collect();
        for key in &zeroed {
            if let Some(service) = self.services.get_mut(key) {
                service.base = service.retired;
            }
        }
        for real in self.reals.iter_mut().flatten() {
            if !zeroed.contains(&real.service) {
                continue;
            }
            real.base = real.shared.traffic();
            if let Some(service) = self.services.get_mut(&real.service) {
                service.base += real.base;
            }
        }
    }

    /// Servers that left but are remembered.
    pub fn tombstones(&self) -> usize {
        self.reals
            .iter()
            .flatten()
            .filter(|real| real.gone.is_some())
            .count()
    }

    fn service(&mut self, desired: &DesiredService, listed: &mut Listed) -> VirtualService {
        let scheduler = (desired.scheduler, desired.scheduler_flags);
        let seed = self.chance.roll(u64::MAX);
        if !self.services.contains_key(&desired.key) {
            let identity = ServiceIdentity {
                id: ServiceId(self.next_service),
                shared: ServiceShared::scheduled_by(desired.scheduler, self.workers, seed),
                list: None,
                counts: CountTable::new(self.workers),
                ever_translated: false,
                retired: Traffic::default(),
                base: Traffic::default(),
                gone_since: None,
                on_real_removed: desired.on_real_removed,
                scheduler,
                persistence: None,
                generation: 0,
            };
            self.next_service += 1;
            self.services.insert(desired.key, identity);
        }
        let identity = self
            .services
            .get_mut(&desired.key)
            .expect("inserted above if it was missing");
        let id = identity.id;
        let newcomers = desired
            .servers
            .iter()
            .filter(|s| !self.ids.contains_key(&(id, s.address, s.port)));
        identity.counts.reserve(newcomers.count());
        let servers: Vec<RealServer> = desired
            .servers
            .iter()
            .map(|server| {
                let real_id = self.real_id(desired.key, id, server.address, server.port);
                listed.insert(real_id);
                let entry = self.reals[real_id.0 as usize].as_mut();
                let entry = entry.expect("real_id returns an id that is in use");
                entry.name = Arc::clone(&server.name);
                entry.service_name = Arc::clone(&desired.name);
                entry.forward = server.forward;
                entry.weight = server.weight;
                entry.upper_threshold = server.upper_threshold;
                entry.lower_threshold = server.lower_threshold;
                RealServer {
                    id: real_id,
                    address: server.address,
                    port: server.port,
                    weight: server.weight,
                    forward: server.forward,
                    upper_threshold: server.upper_threshold,
                    lower_threshold: server.lower_threshold,
                    shared: Arc::clone(&entry.shared),
                }
            })
            .collect();
        let service = self
            .services
            .get_mut(&desired.key)
            .expect("inserted above if it was missing");
        // Another scheduler, or a service that was gone, starts afresh, as in the kernel; but if
        // only the scheduler changes the servers stay in their order.
        if service.scheduler != scheduler || service.gone_since.is_some() {
            service.scheduler = scheduler;
            let kind = desired.scheduler;
            service.shared = service.shared.with_fresh_schedulers(kind, seed);
            let list = service.list.take().filter(|_| service.gone_since.is_none());
            service.list = list.map(ServerList::restarted);
        }
        let unbroken = service.gone_since.is_none();
        let persistence = desired.persistence.map(|wanted| {
            // Connections of another generation, or ended meanwhile, do not find the templates.
            let last = service.persistence.filter(|_| unbroken);
            if !last.is_some_and(|last| last.recognises_as(&wanted)) {
                service.generation = service.generation % 3 + 1;
            }
            Persistence {
                generation: service.generation,
                ..wanted
            }
        });
        service.persistence = persistence;
        service.gone_since = None;
        service.on_real_removed = desired.on_real_removed;
        service.ever_translated |= servers.iter().any(|s| s.forward.sees_replies());
        let previous = service.list.as_ref();
        let family = desired.key.family();
        let tables = &mut self.tables;
        let list = ServerList::rebuilt_for(desired.scheduler, family, previous, servers, tables);
        for server in &list.servers {
            server.evaluate_overload();
        }
        service.list = Some(list.clone());
        VirtualService {
            id,
            key: desired.key,
            name: Arc::clone(&desired.name),
            scheduler: desired.scheduler,
            scheduler_flags: desired.scheduler_flags,
            list,
            serve: desired.serve,
            no_server: desired.no_server,
            persistence,
            one_packet: desired.one_packet,
            ever_translated: service.ever_translated,
            shared: Arc::clone(&service.shared),
        }
    }

    fn real_id(
        &mut self,
        service: ServiceKey,
        service_id: ServiceId,
        address: IpAddr,
        port: u16,
    ) -> RealId {
        if let Some(id) = self.ids.get(&(service_id, address, port)) {
            return *id;
        }
        let counts = self
            .services
            .get_mut(&service)
            .map_or_else(|| CountPlace::alone(self.workers), |it| it.counts.take());
        let identity = RealIdentity {
            name: "".into(),
            service_name: "".into(),
            forward: Forward::Dr,
            service,
            service_id,
            address,
            port,
            shared: RealShared::with_counts(self.workers, counts),
            weight: 0,
            upper_threshold: 0,
            lower_threshold: 0,
            base: Traffic::default(),
            gone: None,
            idle_before: false,
        };
        let id = if let Some(free) = self.free.pop() {
            self.reals[free as usize] = Some(identity);
            RealId(free)
        } else {
            self.reals.push(Some(identity));
            RealId(self.reals.len() as u32 - 1)
        };
        self.ids.insert((service_id, address, port), id);
        id
    }
}

/// What was added since.
fn difference(now: Traffic, before: Traffic) -> Traffic {
    Traffic {
        connections: now.connections.saturating_sub(before.connections),
        in_packets: now.in_packets.saturating_sub(before.in_packets),
        in_bytes: now.in_bytes.saturating_sub(before.in_bytes),
        out_packets: now.out_packets.saturating_sub(before.out_packets),
        out_bytes: now.out_bytes.saturating_sub(before.out_bytes),
    }
}

/// The servers that some service lists, by id.
struct Listed(Vec<bool>);

impl Listed {
    fn insert(&mut self, id: RealId) {
        let index = id.0 as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, false);
        }
        self.0[index] = true;
    }

    fn contains(&self, index: usize) -> bool {
        self.0.get(index) == Some(&true)
    }
}

impl RealIdentity {
    fn record(&self) -> RealRecord {
        RealRecord {
            name: Arc::clone(&self.name),
            service_name: Arc::clone(&self.service_name),
            forward: self.forward,
            service: self.service_id,
            address: self.address,
            port: self.port,
            service_key: self.service,
            standing: match self.gone {
                None => Standing::Listed,
                Some(gone) => Standing::Gone(gone.orphans),
            },
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            shared: Arc::clone(&self.shared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::DesiredServer;
    use dataplane::address::Protocol;
    use dataplane::verdict::WorkerId;

    fn server(last: u8, weight: u32) -> DesiredServer {
        DesiredServer {
            name: format!("rs{last}").into(),
            address: IpAddr::from([10, 0, 1, last]),
            port: 80,
            weight,
            forward: Forward::Dr,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    fn desired(servers: Vec<DesiredServer>) -> Desired {
        let key = ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 0, 1, 50]), 80);
        let mut desired = Desired::default();
        desired.services.push(DesiredService {
            servers,
            ..DesiredService::new(key, "web")
        });
        desired
    }

    fn id(services: &Services, last: u8) -> RealId {
        services
            .reals()
            .find(|(_, real)| real.address == IpAddr::from([10, 0, 1, last]))
            .map(|(id, _)| id)
            .unwrap()
    }

    #[test]
    fn servers_are_listed_newest_first_and_keep_their_ids() {
        let mut registry = Registry::new(1);
        let now = Instant::now();
        let first = registry.build(&desired(vec![server(11, 1), server(12, 1)]), 2, now);
        let order = |services: &Services| -> Vec<IpAddr> {
            let list = &services.services()[0].list;
            list.servers.iter().map(|s| s.address).collect()
        };
        let address = |last| IpAddr::from([10, 0, 1, last]);
        assert_eq!(order(&first), [address(12), address(11)]);
        let second = registry.build(
            &desired(vec![server(11, 5), server(12, 1), server(13, 1)]),
            3,
            now,
        );
        assert_eq!(order(&second), [address(13), address(12), address(11)]);
        assert_eq!(id(&first, 11), id(&second, 11));
    }

    #[test]
    fn a_server_added_again_within_the_grace_time_revives_with_its_counters() {
        let mut registry = Registry::new(1);
        let start = Instant::now();
        let first = registry.build(&desired(vec![server(11, 1)]), 2, start);
        let before = id(&first, 11);
        let cell = first.real(before).unwrap().shared.cell(WorkerId(0));
        cell.connections.add(7);
        let without = registry.build(&desired(vec![]), 3, start);
        assert!(matches!(
            without.real(before).unwrap().standing,
            Standing::Gone(Orphans::Keep)
        ));
        assert!(!registry.forget(3, start + GRACE / 2));
        let again = registry.build(&desired(vec![server(11, 1)]), 4, start + GRACE / 2);
        assert_eq!(id(&again, 11), before);
        assert_eq!(again.real(before).unwrap().shared.traffic().connections, 7);
        assert_eq!(again.real(before).unwrap().standing, Standing::Listed);
    }

    #[test]
    fn zeroed_counters_are_shown_from_0_on_and_totals_go_on() {
        let mut registry = Registry::new(1);
        let start = Instant::now();
        let tables = desired(vec![server(11, 1), server(12, 1)]);
        let table = registry.build(&tables, 2, start);
        let key = table.services()[0].key;
        let count = |last, packets| {
            let shared = &table.real(id(&table, last)).unwrap().shared;
            shared.cell(WorkerId(0)).in_packets.add(packets);
        };
        count(11, 7);
        count(12, 5);
        registry.zero(&[key]);
        count(11, 2);
        let traffic = &registry.traffic()[&key];
        assert_eq!(traffic.since_zero.in_packets, 2);
        assert_eq!(traffic.total.in_packets, 14);
        let server = traffic.servers[&(IpAddr::from([10, 0, 1, 12]), 80)];
        assert_eq!(server.since_zero.in_packets, 0);
        assert_eq!(registry.totals()[&key].traffic.in_packets, 14);
    }

    #[test]
    fn a_server_is_forgotten_only_when_idle_past_the_grace_time_and_seen_gone_by_all() {
        let mut registry = Registry::new(1);
        let start = Instant::now();
        let first = registry.build(&desired(vec![server(11, 1), server(12, 1)]), 2, start);
        let gone = id(&first, 11);
        let shared = &first.real(gone).unwrap().shared;
        shared.counts(WorkerId(0)).bind(false);
        shared.cell(WorkerId(0)).in_packets.add(3);
        registry.build(&desired(vec![server(12, 1)]), 3, start);
        let late = start + GRACE;
        assert!(!registry.forget(3, late), "it still has a connection");
        shared.counts(WorkerId(0)).unbind(false);
        assert!(!registry.forget(2, late), "a worker may still choose it");
        assert!(registry.forget(3, late), "idle twice in a row");
        assert_eq!(registry.tombstones(), 0);
        let key = first.services()[0].key;
        assert_eq!(registry.totals()[&key].traffic.in_packets, 3);
    }

    #[test]
    fn a_server_is_remembered_while_a_template_leads_to_it() {
        let mut registry = Registry::new(1);
        let start = Instant::now();
        let first = registry.build(&desired(vec![server(11, 1)]), 2, start);
        let gone = id(&first, 11);
        let shared = &first.real(gone).unwrap().shared;
        shared.templates().fetch_add(1, Ordering::Relaxed);
        registry.build(&desired(vec![]), 3, start);
        let late = start + GRACE;
        for _ in 0..3 {
            assert!(!registry.forget(3, late), "the template still counts");
        }
        // Added again it is the server the template leads to and is counted for.
        let again = registry.build(&desired(vec![server(11, 1)]), 4, late);
        assert_eq!(id(&again, 11), gone);
        assert!(Arc::ptr_eq(&again.real(gone).unwrap().shared, shared));
        registry.build(&desired(vec![]), 5, late);
        shared.templates().fetch_sub(1, Ordering::Relaxed);
        let late = late + GRACE;
        assert!(!registry.forget(5, late), "idle for the first time");
        assert!(registry.forget(5, late), "idle twice in a row");
    }

    #[test]
    fn another_scheduler_or_other_flags_start_afresh_and_keep_the_order_of_servers() {
        let mut registry = Registry::new(1);
        let now = Instant::now();
        registry.build(&desired(vec![server(11, 1), server(12, 1)]), 2, now);
        registry.build(&desired(vec![server(12, 1)]), 3, now);
        let mut wanted = desired(vec![server(11, 1), server(12, 1)]);
        let before = registry.build(&wanted, 4, now);
        let order = |services: &Services| -> Vec<IpAddr> {
            let list = &services.services()[0].list;
            list.servers.iter().map(|s| s.address).collect()
        };
        let newest_first = [11, 12].map(|last| IpAddr::from([10, 0, 1, last]));
        assert_eq!(order(&before), newest_first);
        let mut shared = Arc::clone(&before.services()[0].shared);
        for (kind, flags) in [
            (SchedulerKind::Sh, SchedulerFlags::NONE),
            (SchedulerKind::Sh, SchedulerFlags::PORT),
            (SchedulerKind::Lblc, SchedulerFlags::NONE),
        ] {
            let service = &mut wanted.services[0];
            (service.scheduler, service.scheduler_flags) = (kind, flags);
            let changed = registry.build(&wanted, 5, now);
            assert_eq!(order(&changed), newest_first, "{kind}");
            let service = &changed.services()[0];
            assert!(!Arc::ptr_eq(&shared, &service.shared), "{kind}");
            assert_eq!(service.scheduler_flags, flags);
            assert_eq!(
                service.shared.localities().is_some(),
                kind == SchedulerKind::Lblc
            );
            let same = registry.build(&wanted, 6, now);
            assert!(Arc::ptr_eq(&service.shared, &same.services()[0].shared));
            shared = Arc::clone(&service.shared);
        }
    }

    #[test]
    fn persistence_has_another_generation_when_it_tells_clients_apart_otherwise_or_was_off() {
        let mut registry = Registry::new(1);
        let mut epoch = 1;
        let mut generation = |persistence: Option<Persistence>, listed: bool| {
            let mut desired = desired(vec![server(11, 1)]);
            desired.services[0].persistence = persistence;
            desired.services.truncate(usize::from(listed));
            epoch += 1;
            let built = registry.build(&desired, epoch, Instant::now());
            let service = built.services().first();
            service.and_then(|service| service.persistence.map(|it| it.generation))
        };
        let minute = Persistence::new(60_000);
        let grouped = Persistence {
            netmask: Some(24),
            ..minute
        };
        assert_eq!(generation(Some(minute), true), Some(1));
        assert_eq!(generation(Some(Persistence::new(90_000)), true), Some(1));
        assert_eq!(generation(Some(grouped), true), Some(2));
        assert_eq!(generation(None, true), None);
        assert_eq!(generation(Some(grouped), true), Some(3));
        assert_eq!(generation(Some(grouped), false), None);
        assert_eq!(generation(Some(grouped), true), Some(1));
    }
}
