//! Identities of services and real servers, from the first table to the last.
//!
//! A real server is (service, address, port), see DESIGN §4. It keeps its small integer id, its
//! counters and its workers' cells while it is listed, and after it left for as long as any worker
//! has connections of it and for at least [`GRACE`]: added again within that time it is the same
//! server, and connections and counters revive as in the kernel. What is finally forgotten leaves
//! its totals with the service, so that a service's counters never run backwards.

use super::desired::{Desired, DesiredService};
use dataplane::scheduler::SchedulerKind;
use dataplane::service::{
    Forward, Orphans, RealId, RealRecord, RealServer, RealShared, ServerList, ServiceId,
    ServiceKey, ServiceShared, Services, Standing, Traffic, VirtualService,
};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an identity survives after it left the tables.
pub(super) const GRACE: Duration = Duration::from_mins(2);

/// Every identity the process knows.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    services: HashMap<ServiceKey, ServiceIdentity>,
    next_service: u32,
    reals: Vec<Option<RealIdentity>>,
    /// Indices of `reals` that are free.
    free: Vec<u32>,
    ids: HashMap<(ServiceKey, IpAddr, u16), RealId>,
}

#[derive(Debug)]
struct ServiceIdentity {
    id: ServiceId,
    shared: Arc<ServiceShared>,
    list: Option<ServerList>,
    ever_translated: bool,
    /// Totals of servers that were forgotten.
    retired: Traffic,
    gone_since: Option<Instant>,
    on_real_removed: Orphans,
    scheduler: SchedulerKind,
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
    gone: Option<Gone>,
    /// It had no connections when [`Registry::forget`] last looked.
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

impl Registry {
    /// An empty registry for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self {
            workers,
            services: HashMap::new(),
            next_service: 0,
            reals: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Builds the table for `desired`, which will be published as `epoch`.
    pub fn build(&mut self, desired: &Desired, epoch: u64, now: Instant) -> Services {
        let wanted: HashSet<ServiceKey> = desired.services.iter().map(|s| s.key).collect();
        for (key, service) in &mut self.services {
            if !wanted.contains(key) && service.gone_since.is_none() {
                service.gone_since = Some(now);
            }
        }
        let mut listed = HashSet::new();
        let services: Vec<VirtualService> = desired
            .services
            .iter()
            .map(|service| self.service(service, &mut listed))
            .collect();
        for (index, real) in self.reals.iter_mut().enumerate() {
            let Some(real) = real else { continue };
            if listed.contains(&RealId(index as u32)) {
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
        Services::new(
            services,
            records,
            desired.timeouts,
            desired.ipvs,
            desired.transit,
        )
    }

    /// Forgets servers that have been gone for [`GRACE`], have no connections now and had none at
    /// the call before (a connection on its way from one count to the other is in neither), and that every
    /// worker knows to be gone (`seen` = the oldest services epoch any worker works with). True
    /// if something was forgotten, so that a new table is worth building.
    pub fn forget(&mut self, seen: u64, now: Instant) -> bool {
        let before = self.free.len();
        for (index, real) in self.reals.iter_mut().enumerate() {
            let due = real.as_mut().is_some_and(|real| {
                let idle = real.shared.connections() == (0, 0);
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
                self.ids.remove(&(real.service, real.address, real.port));
                if let Some(service) = self.services.get_mut(&real.service) {
                    service.retired += real.shared.traffic();
                }
                self.free.push(index as u32);
            }
        }
        let in_use: HashSet<ServiceKey> = self.reals.iter().flatten().map(|r| r.service).collect();
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

    /// Servers that left but are remembered.
    pub fn tombstones(&self) -> usize {
        self.reals
            .iter()
            .flatten()
            .filter(|real| real.gone.is_some())
            .count()
    }

    fn service(
        &mut self,
        desired: &DesiredService,
        listed: &mut HashSet<RealId>,
    ) -> VirtualService {
        if !self.services.contains_key(&desired.key) {
            let identity = ServiceIdentity {
                id: ServiceId(self.next_service),
                shared: ServiceShared::new(self.workers),
                list: None,
                ever_translated: false,
                retired: Traffic::default(),
                gone_since: None,
                on_real_removed: desired.on_real_removed,
                scheduler: desired.scheduler,
            };
            self.next_service += 1;
            self.services.insert(desired.key, identity);
        }
        let id = self.services[&desired.key].id;
        let servers: Vec<RealServer> = desired
            .servers
            .iter()
            .map(|server| {
                let real_id = self.real_id(desired.key, id, server.address, server.port);
                let entry = self.reals[real_id.0 as usize].as_mut();
                let entry = entry.expect("real_id returns an id that is in use");
                entry.name = Arc::clone(&server.name);
                entry.service_name = Arc::clone(&desired.name);
                entry.forward = server.forward;
                entry.weight = server.weight;
                entry.upper_threshold = server.upper_threshold;
                entry.lower_threshold = server.lower_threshold;
                listed.insert(real_id);
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
        // Another scheduler, or a service that was gone, starts afresh, as in the kernel.
        if service.scheduler != desired.scheduler || service.gone_since.is_some() {
            service.scheduler = desired.scheduler;
            service.shared = service.shared.with_fresh_schedulers();
            service.list = None;
        }
        service.gone_since = None;
        service.on_real_removed = desired.on_real_removed;
        service.ever_translated |= servers.iter().any(|s| s.forward.sees_replies());
        let list = ServerList::rebuilt(service.list.as_ref(), servers);
        for server in &list.servers {
            server.evaluate_overload();
        }
        service.list = Some(list.clone());
        VirtualService {
            id,
            key: desired.key,
            name: Arc::clone(&desired.name),
            scheduler: desired.scheduler,
            list,
            serve: desired.serve,
            no_server: desired.no_server,
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
        if let Some(id) = self.ids.get(&(service, address, port)) {
            return *id;
        }
        let identity = RealIdentity {
            name: "".into(),
            service_name: "".into(),
            forward: Forward::Dr,
            service,
            service_id,
            address,
            port,
            shared: RealShared::new(self.workers),
            weight: 0,
            upper_threshold: 0,
            lower_threshold: 0,
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
        self.ids.insert((service, address, port), id);
        id
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
            protocol: self.service.protocol,
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
        let key = ServiceKey {
            protocol: Protocol::Tcp,
            address: IpAddr::from([10, 0, 1, 50]),
            port: 80,
        };
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
    fn a_server_is_forgotten_only_when_idle_past_the_grace_time_and_seen_gone_by_all() {
        let mut registry = Registry::new(1);
        let start = Instant::now();
        let first = registry.build(&desired(vec![server(11, 1), server(12, 1)]), 2, start);
        let gone = id(&first, 11);
        let cell = first.real(gone).unwrap().shared.cell(WorkerId(0));
        cell.inactive.add(1);
        cell.in_packets.add(3);
        registry.build(&desired(vec![server(12, 1)]), 3, start);
        let late = start + GRACE;
        assert!(!registry.forget(3, late), "it still has a connection");
        cell.inactive.sub(1);
        assert!(!registry.forget(2, late), "a worker may still choose it");
        assert!(registry.forget(3, late), "idle twice in a row");
        assert_eq!(registry.tombstones(), 0);
        let key = first.services()[0].key;
        assert_eq!(registry.totals()[&key].traffic.in_packets, 3);
    }
}
