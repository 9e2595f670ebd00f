//! Control's part of a [`World`](super::World): builds the snapshots of a plan and publishes them.
//!
//! It keeps the identities of services and servers from snapshot to snapshot, as the daemon's
//! registry does. Unlike there, an id once given is never another's.

use super::{Plan, RealPlan, build_forwarding};
use crate::connection_counts::CountTable;
use crate::epoch::{Published, Publisher};
use crate::expected::ExpectedConnections;
use crate::forwarding::Forwarding;
use crate::scheduler::{MaglevTables, SchedulerFlags, SchedulerKind};
use crate::service::{
    Forward, Marks, RealId, RealRecord, RealServer, RealShared, ServerList, ServiceId, ServiceKey,
    ServiceShared, Services, Standing, VirtualService,
};
use crate::template::Templates;
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// What is configured, and the writing ends of the snapshots.
#[derive(Debug)]
pub struct Control {
    pub(super) workers: usize,
    pub(super) plan: Plan,
    pub(super) services: Publisher<Services>,
    pub(super) forwarding: Publisher<Forwarding>,
    pub(super) identities: Identities,
}

impl Control {
    /// Changes the plan and publishes both snapshots: a reload.
    pub fn edit(&mut self, change: impl FnOnce(&mut Plan)) {
        self.edit_services(change);
        self.forwarding.publish(build_forwarding(&self.plan));
    }

    /// Changes the plan and publishes the services: a reload that leaves the network as it is.
    pub fn edit_services(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        let services = self.identities.build(&self.plan, self.workers);
        self.services.publish(services);
    }

    /// True if a services snapshot may be published now (see [`Publisher::is_ready`]); frees those
    /// no worker has any more.
    pub fn is_ready(&mut self) -> bool {
        self.services.is_ready()
    }

    /// The services snapshot published last.
    pub fn services(&self) -> &Published<Services> {
        self.services.current()
    }
}

/// What lives on from snapshot to snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Identities {
    /// Worlds of one box share them.
    pub(super) templates: Arc<Templates>,
    pub(super) reals: Vec<(ServiceKey, RealRecord)>,
    pub(super) known: Vec<Known>,
    /// Where in `reals` a server is.
    ids: FxHashMap<(ServiceKey, IpAddr, u16), usize>,
    /// As the daemon's registry has it.
    pub(super) expected: Option<Arc<ExpectedConnections>>,
    tables: MaglevTables,
}

/// What lives on of a service.
#[derive(Clone, Debug)]
pub(super) struct Known {
    key: ServiceKey,
    pub(super) shared: Arc<ServiceShared>,
    scheduler: (SchedulerKind, SchedulerFlags),
    list: ServerList,
    /// Worlds of one box take places from one table.
    counts: Arc<Mutex<CountTable>>,
}

impl Identities {
    fn build(&mut self, plan: &Plan, workers: usize) -> Services {
        for (_, record) in &mut self.reals {
            record.standing = Standing::Gone(plan.orphans);
            record.weight = 0;
        }
        let mut services = Vec::new();
        for plan in &plan.services {
            let key = plan.key();
            let known = self.known.iter().position(|known| known.key == key);
            let position = known.unwrap_or(self.known.len());
            if known.is_none() {
                let mut counts = CountTable::new(workers);
                // Side by side, as control has them.
                counts.reserve(plan.reals.len());
                self.known.push(Known {
                    key,
                    shared: ServiceShared::scheduled_by(plan.scheduler, workers, 0),
                    scheduler: (plan.scheduler, plan.scheduler_flags),
                    list: ServerList::default(),
                    counts: Arc::new(Mutex::new(counts)),
                });
            }
            let id = ServiceId(position as u32);
            let counts = Arc::clone(&self.known[position].counts);
            let fresh = || {
                let place = counts.lock().expect("nobody panicked").take();
                RealShared::with_counts(workers, place)
            };
            let servers = plan.reals.iter();
            let servers = servers.map(|real| self.server(fresh, key, id, plan.forward, real));
            let servers = servers.collect();
            let known = &mut self.known[position];
            let scheduler = (plan.scheduler, plan.scheduler_flags);
            if std::mem::replace(&mut known.scheduler, scheduler) != scheduler {
                known.shared = known.shared.with_fresh_schedulers(plan.scheduler, 0);
                known.list = std::mem::take(&mut known.list).restarted();
            }
            let Known { shared, list, .. } = known;
            let tables = &mut self.tables;
            *list =
                ServerList::rebuilt_for(plan.scheduler, key.family(), Some(list), servers, tables);
            services.push(VirtualService {
                id,
                key,
                name: "web".into(),
                scheduler: plan.scheduler,
                scheduler_flags: plan.scheduler_flags,
                list: list.clone(),
                serve: plan.serve,
                no_server: plan.no_server,
                persistence: plan.persistence,
                one_packet: plan.one_packet,
                ever_translated: plan.forward.sees_replies(),
                shared: Arc::clone(shared),
            });
        }
        let records = self.reals.iter().map(|(_, record)| Some(record.clone()));
        let mut services = Services::new(
            services,
            Marks::new(plan.marks.clone()),
            records.collect(),
            plan.timeouts,
            plan.ipvs,
            plan.transit,
        );
        if services.has_ftp() {
            self.expected.get_or_insert_default();
        }
        services.expected.clone_from(&self.expected);
        services
    }

    /// The server `plan` describes; its record is found or made.
    fn server(
        &mut self,
        fresh: impl FnOnce() -> Arc<RealShared>,
        key: ServiceKey,
        service: ServiceId,
        forward: Forward,
        plan: &RealPlan,
    ) -> RealServer {
        let (address, port) = (plan.address.ip(), plan.address.port());
        let next = self.reals.len();
        let id = *self.ids.entry((key, address, port)).or_insert(next);
        let known = self.reals.get(id);
        let shared = known.map_or_else(fresh, |(_, record)| Arc::clone(&record.shared));
        let record = RealRecord {
            name: match address {
                IpAddr::V4(address) => address.octets()[3].to_string(),
                IpAddr::V6(address) => format!("{:x}", address.segments()[7]),
            }
            .into(),
            service,
            service_name: "test".into(),
            forward,
            address,
            port,
            service_key: key,
            standing: Standing::Listed,
            weight: plan.weight,
            upper_threshold: plan.upper,
            lower_threshold: plan.lower,
            shared: Arc::clone(&shared),
        };
        match self.reals.get_mut(id) {
            Some(slot) => slot.1 = record,
            None => self.reals.push((key, record)),
        }
        let server = RealServer {
            id: RealId(id as u32),
            address,
            port,
            weight: plan.weight,
            forward,
            upper_threshold: plan.upper,
            lower_threshold: plan.lower,
            shared,
        };
        server.evaluate_overload();
        server
    }
}
