//! What the running daemon answers the admin API with.

use super::Daemon;
use super::rates::Sample;
use crate::admin::api;
use crate::admin::backend::{Backend, BackendError};
use crate::tables::Published;
use dataplane::address::Family;
use dataplane::counters::{Event, WorkerCounters};
use dataplane::job::{Action, ConnectionRow, Filter, Job};
use dataplane::service::{
    Engine, Forward, RealRecord, Serve, ServiceId, ServiceKey, Standing, Traffic, VirtualService,
};
use dataplane::verdict::{DropReason, PuntClass};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
// Tables of a hundred thousand servers take a while to sum up, and the lock on them is held while
// new ones are built: other tasks go on elsewhere meanwhile.
use tokio::task::block_in_place;

/// Rows a worker may have under way to a listing.
const RING: usize = 1024;
/// How long a job may take.
const JOB_TIME: Duration = Duration::from_secs(10);

impl Backend for Daemon {
    async fn status(&self) -> Result<api::Status, BackendError> {
        Ok(block_in_place(|| self.describe()))
    }

    async fn services(&self) -> Result<api::Services, BackendError> {
        let published = block_in_place(|| self.tables.published());
        let mut removed: HashMap<ServiceId, Vec<&RealRecord>> = HashMap::new();
        for (_, record) in published.services.reals() {
            if record.standing != Standing::Listed {
                removed.entry(record.service).or_default().push(record);
            }
        }
        let services = published
            .services
            .services()
            .iter()
            .map(|service| {
                let removed = removed.get(&service.id).map_or(&[][..], Vec::as_slice);
                describe_service(&published, service, removed)
            })
            .collect();
        Ok(api::Services { services })
    }

    async fn stats(&self) -> Result<api::Stats, BackendError> {
        let workers: Vec<_> = self
            .workers
            .iter()
            .enumerate()
            .map(|(id, worker)| api::WorkerStats {
                id: id as u32,
                counters: counters(&worker.counters),
            })
            .collect();
        let mut total = api::StatsSet::default();
        for worker in &workers {
            add(&mut total.events, &worker.counters.events);
            add(&mut total.drops, &worker.counters.drops);
            add(&mut total.punts, &worker.counters.punts);
        }
        Ok(api::Stats {
            at: unix_seconds(SystemTime::now()),
            rates: self.rates(),
            total,
            workers,
            slow_path: self.slow_path.named(),
        })
    }

    async fn connections(
        &self,
        filter: api::ConnectionFilter,
    ) -> Result<api::Connections, BackendError> {
        let published = block_in_place(|| self.tables.published());
        let Some(coarse) = job_filter(&filter, &published) else {
            return Ok(api::Connections::default());
        };
        let limit = filter.effective_limit();
        let mut listed = api::Connections::default();
        let handled = self
            .run_job(Action::List, &coarse, |row| {
                if listed.connections.len() < limit {
                    listed.connections.push(describe_row(&published, &row));
                } else {
                    listed.truncated = true;
                }
            })
            .await?;
        listed.total = handled;
        Ok(listed)
    }

    async fn delete_connections(
        &self,
        filter: api::ConnectionFilter,
    ) -> Result<api::Deleted, BackendError> {
        let published = block_in_place(|| self.tables.published());
        let Some(filter) = job_filter(&filter, &published) else {
            return Ok(api::Deleted::default());
        };
        let deleted = self.run_job(Action::Delete, &filter, |_| {}).await?;
        Ok(api::Deleted { deleted })
    }

    async fn ipvs(&self, query: api::IpvsQuery) -> Result<api::IpvsTables, BackendError> {
        Ok(self.ipvs_tables(query.rates).await)
    }

    async fn change_ipvs(&self, batch: api::IpvsBatch) -> Result<api::IpvsOutcomes, BackendError> {
        if self.workers.is_empty() {
            let text = "there is no [port], so nothing is forwarded";
            return Err(BackendError::Refused(text.to_owned()));
        }
        self.ipvs_apply(&batch)
    }

    async fn vrrp(&self) -> Result<api::Vrrp, BackendError> {
        self.describe_vrrp()
    }

    async fn release(&self, request: api::ReleaseRequest) -> Result<api::Done, BackendError> {
        self.release_router(&request.router)
    }

    async fn maintenance(
        &self,
        request: api::MaintenanceRequest,
    ) -> Result<api::Done, BackendError> {
        self.set_maintenance(request.on)
    }

    async fn reload(&self, request: api::ReloadRequest) -> Result<api::ReloadReport, BackendError> {
        self.request_reload(request.discard_overrides)
            .await
            .ok_or_else(|| BackendError::Unavailable("the daemon is stopping".to_owned()))
    }
}

impl Daemon {
    /// Has every worker do a job; `row` gets the rows of a listing. Returns how many connections
    /// matched.
    async fn run_job(
        &self,
        action: Action,
        filter: &Filter,
        mut row: impl FnMut(ConnectionRow),
    ) -> Result<u64, BackendError> {
        let mut handled = 0;
        for worker in &self.workers {
            let job = Job::new(action, filter.clone(), RING);
            worker.jobs.push(Arc::clone(&job)).map_err(|_| {
                BackendError::Unavailable("too many listings are under way".to_owned())
            })?;
            let deadline = tokio::time::Instant::now() + JOB_TIME;
            loop {
                let done = job.is_done();
                while let Some(found) = job.rows.pop() {
                    row(found);
                }
                // The worker has let go once it holds no reference: then dropping ours frees the
                // job here and not there.
                if done && Arc::strong_count(&job) == 1 {
                    break;
                }
                if tokio::time::Instant::now() >= deadline {
                    job.cancel();
                    keep_until_released(job);
                    return Err(BackendError::Unavailable(
                        "a worker does not answer; see 'sluice status'".to_owned(),
                    ));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            handled += job.handled.load(Ordering::Relaxed);
        }
        Ok(handled)
    }

    fn rates(&self) -> api::Rates {
        self.rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .rates()
    }

    /// Takes a sample for [`Self::rates`].
    pub(super) fn sample(&self) {
        let sum = |event: Event| -> u64 {
            self.workers
                .iter()
                .map(|worker| worker.counters.event(event).value())
                .sum()
        };
        let drops = self
            .workers
            .iter()
            .flat_map(|worker| {
                DropReason::ALL
                    .iter()
                    .map(|reason| worker.counters.dropped(*reason).value())
            })
            .sum();
        let busy = self
            .workers
            .iter()
            .map(|worker| {
                (
                    worker.counters.event(Event::BusyPolls).value(),
                    worker.counters.event(Event::EmptyPolls).value(),
                )
            })
            .collect();
        let sample = Sample {
            rx_packets: sum(Event::RxPackets),
            rx_bytes: sum(Event::RxBytes),
            tx_packets: sum(Event::TxPackets),
            tx_bytes: sum(Event::TxBytes),
            connections: sum(Event::ConnectionsCreated),
            drops,
            busy,
        };
        self.rates
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .add(sample);
    }
}

/// Holds a job until its worker has let go of it, so that it is freed here and never there.
fn keep_until_released(job: Arc<Job>) {
    tokio::spawn(async move {
        while Arc::strong_count(&job) > 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

pub(super) fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn counters(counters: &WorkerCounters) -> api::StatsSet {
    let events = Event::ALL
        .iter()
        .map(|event| (event.name().to_owned(), counters.event(*event).value()))
        .collect();
    let drops = DropReason::ALL
        .iter()
        .map(|reason| (reason.name().to_owned(), counters.dropped(*reason).value()))
        .collect();
    let punts = PuntClass::ALL
        .iter()
        .map(|class| (class.name().to_owned(), counters.punted(*class).value()))
        .collect();
    api::StatsSet {
        events,
        drops,
        punts,
    }
}

fn add(total: &mut BTreeMap<String, u64>, part: &BTreeMap<String, u64>) {
    for (name, value) in part {
        *total.entry(name.clone()).or_default() += value;
    }
}

/// `removed` are the servers that left it.
fn describe_service(
    published: &Published,
    service: &VirtualService,
    removed: &[&RealRecord],
) -> api::Service {
    let totals = published
        .totals
        .get(&service.key)
        .copied()
        .unwrap_or_default();
    let why = not_served(published, service);
    let servers = service.list.servers.iter();
    let listed = servers.map(|server| published.services.real(server.id));
    let removed = removed.iter().map(|record| Some(*record));
    let mut active = 0;
    let mut inactive = 0;
    let mut real_servers = Vec::new();
    for record in listed.chain(removed) {
        let Some(record) = record else { continue };
        let counts = record.shared.connections();
        active += counts.0;
        inactive += counts.1;
        // A server that left and has nothing to show any more only waits to be forgotten.
        if record.standing != Standing::Listed && counts == (0, 0) {
            continue;
        }
        real_servers.push(describe_real(record, counts));
    }
    api::Service {
        name: service.name.to_string(),
        protocol: service.key.protocol().map_or(api::Protocol::Ip, protocol),
        address: service.key.shown_address(),
        port: service.key.port(),
        fwmark: service.key.mark(),
        scheduler: service.scheduler.name().to_owned(),
        flags: flags(service),
        forward: service
            .list
            .servers
            .first()
            .map_or(api::Forward::Dr, |server| forward(server.forward)),
        served: why.is_none(),
        why: why.unwrap_or_default().to_owned(),
        active,
        inactive,
        counters: traffic(totals.traffic),
        unserved: totals.unserved,
        real_servers,
    }
}

/// The words behind the scheduler's name, as `ipvsadm` lists them.
fn flags(service: &VirtualService) -> Vec<String> {
    let own = service
        .scheduler_flags
        .listed(service.scheduler)
        .to_string();
    let mut flags: Vec<String> = std::iter::once(own).filter(|own| !own.is_empty()).collect();
    if let Some(persistence) = service.persistence {
        flags.push(format!("persistent {}", persistence.timeout / 1000));
        match (persistence.netmask, service.key.family()) {
            (None, _) | (Some(32), Family::V4) | (Some(128), Family::V6) => {}
            (Some(length), Family::V4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                flags.push(format!("mask {}", Ipv4Addr::from(mask)));
            }
            (Some(length), Family::V6) => flags.push(format!("mask {length}")),
        }
        if let Some(Engine::Sip) = persistence.engine {
            flags.push("pe sip".to_owned());
        }
    }
    if service.one_packet {
        flags.push("ops".to_owned());
    }
    flags
}

/// Why clients are not served here, if they are not.
fn not_served(published: &Published, service: &VirtualService) -> Option<&'static str> {
    let local = |address| published.forwarding.serves(address);
    let (family, mark) = match service.key {
        ServiceKey::Address { address, .. } => {
            let served = service.serve == Serve::Always || local(address);
            let why = if published.forwarding.is_virtual(address) {
                "its virtual router is not MASTER here"
            } else {
                "the address is not on this box"
            };
            return (!served).then_some(why);
        }
        ServiceKey::Mark { family, mark } => (family, mark),
    };
    let rules = published.services.marks().rules().iter();
    let rules: Vec<_> = rules
        .filter(|rule| rule.mark == mark && rule.may_be(family))
        .collect();
    if rules.is_empty() {
        return Some("nothing sets the mark");
    }
    // Of a network any address may be on this box.
    let served = rules.iter().any(|rule| {
        let vips: Vec<_> = rule.vips().collect();
        vips.len() < rule.addresses.len() || vips.is_empty() || vips.into_iter().any(local)
    });
    (service.serve != Serve::Always && !served).then_some("no address of the mark is on this box")
}

fn describe_real(record: &RealRecord, counts: (u64, u64)) -> api::RealServer {
    api::RealServer {
        name: record.name.to_string(),
        address: record.address,
        port: record.port,
        forward: forward(record.forward),
        weight: record.weight,
        configured_weight: record.weight,
        lower_threshold: record.lower_threshold,
        upper_threshold: record.upper_threshold,
        overloaded: record.shared.is_overloaded(),
        persistent: record.shared.templates().load(Ordering::Relaxed),
        active: counts.0,
        inactive: counts.1,
        state: match record.standing {
            Standing::Listed => api::RealState::Up,
            Standing::Gone(_) => api::RealState::Removed,
        },
        counters: traffic(record.shared.traffic()),
    }
}

fn describe_row(published: &Published, row: &ConnectionRow) -> api::Connection {
    // Control keeps the record of every server that has connections.
    let (service, real) = match published.services.real(row.real) {
        Some(real) => (real.service_name.to_string(), real.name.to_string()),
        None => ("?".to_owned(), "?".to_owned()),
    };
    let call = row.template.as_ref().and_then(|it| it.call.as_deref());
    api::Connection {
        protocol: row.transport().map_or(api::Protocol::Ip, protocol),
        state: row.state_name().to_owned(),
        template: row.template.is_some(),
        pe_data: call.map(|call| String::from_utf8_lossy(call).into_owned()),
        expires_seconds: row.expires_ms / 1000,
        client: row.client,
        vip: row.virtual_address,
        destination: row.destination,
        service,
        real,
        worker: u32::from(row.worker.0),
        packets: u64::from(row.packets),
        forward: forward(row.forward),
    }
}

/// The workers' form of a filter; `None` if it names nothing that exists, so that it selects none.
fn job_filter(filter: &api::ConnectionFilter, published: &Published) -> Option<Filter> {
    use dataplane::address::Protocol;
    let endpoint = |endpoint: api::Endpoint| (endpoint.address, endpoint.port);
    let mut job = Filter {
        protocol: match filter.protocol {
            None => None,
            Some(api::Protocol::Tcp) => Some(Protocol::Tcp),
            Some(api::Protocol::Udp) => Some(Protocol::Udp),
            Some(api::Protocol::Sctp) => Some(Protocol::Sctp),
            Some(api::Protocol::Ip) => None,
        },
        any_protocol: filter.protocol == Some(api::Protocol::Ip),
        client: filter.client.map(endpoint),
        virtual_address: filter.vip.map(endpoint),
        state: filter.state.clone(),
        ..Filter::default()
    };
    let services_named = |name: &str| -> Vec<_> {
        let services = published.services.services().iter();
        services
            .filter(|service| &*service.name == name)
            .map(|service| service.id)
            .collect()
    };
    if let Some(name) = &filter.service {
        job.services = Some(services_named(name)).filter(|ids| !ids.is_empty());
        job.services.as_ref()?;
    }
    match &filter.real {
        None => {}
        Some(api::RealSelector::Address(at)) => job.destination = Some(endpoint(*at)),
        Some(api::RealSelector::Name { service, name }) => {
            let within = service.as_deref().map(services_named);
            let reals: Vec<_> = published
                .services
                .reals()
                .filter(|(_, real)| {
                    *real.name == **name
                        && within
                            .as_ref()
                            .is_none_or(|services| services.contains(&real.service))
                })
                .map(|(id, _)| id)
                .collect();
            if reals.is_empty() {
                return None;
            }
            job.reals = Some(reals);
        }
    }
    Some(job)
}

fn protocol(protocol: dataplane::address::Protocol) -> api::Protocol {
    use dataplane::address::Protocol;
    match protocol {
        Protocol::Tcp => api::Protocol::Tcp,
        Protocol::Udp => api::Protocol::Udp,
        Protocol::Sctp => api::Protocol::Sctp,
    }
}

fn forward(forward: Forward) -> api::Forward {
    match forward {
        Forward::Dr => api::Forward::Dr,
        Forward::Nat => api::Forward::Nat,
        Forward::FullNat => api::Forward::Fullnat,
        Forward::Tunnel(_) => api::Forward::Tunnel,
        Forward::Local => api::Forward::Local,
    }
}

fn traffic(traffic: Traffic) -> api::Counters {
    api::Counters {
        connections: traffic.connections,
        in_packets: traffic.in_packets,
        out_packets: traffic.out_packets,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
    }
}
