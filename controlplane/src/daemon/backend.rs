//! What the running daemon answers the admin API with.

use super::Daemon;
use super::rates::Sample;
use crate::admin::api;
use crate::admin::backend::{Backend, BackendError};
use crate::tables::Published;
use dataplane::counters::{Event, WorkerCounters};
use dataplane::job::{Action, ConnectionRow, Filter, Job};
use dataplane::service::{Forward, RealRecord, Serve, Standing, Traffic, VirtualService};
use dataplane::verdict::{DropReason, PuntClass};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rows a worker may have under way to a listing.
const RING: usize = 1024;
/// How long a job may take.
const JOB_TIME: Duration = Duration::from_secs(10);

impl Backend for Daemon {
    async fn status(&self) -> Result<api::Status, BackendError> {
        Ok(self.describe())
    }

    async fn services(&self) -> Result<api::Services, BackendError> {
        let published = self.tables.published();
        let services = published
            .services
            .services()
            .iter()
            .map(|service| describe_service(&published, service))
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
        let published = self.tables.published();
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
        let published = self.tables.published();
        let Some(filter) = job_filter(&filter, &published) else {
            return Ok(api::Deleted::default());
        };
        let deleted = self.run_job(Action::Delete, &filter, |_| {}).await?;
        Ok(api::Deleted { deleted })
    }

    async fn reload(&self) -> Result<api::ReloadReport, BackendError> {
        self.request_reload()
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

fn describe_service(published: &Published, service: &VirtualService) -> api::Service {
    let totals = published
        .totals
        .get(&service.key)
        .copied()
        .unwrap_or_default();
    let local = published.forwarding.is_local(service.key.address);
    let served = service.serve == Serve::Always || local;
    let servers = service.list.servers.iter();
    let listed = servers.map(|server| published.services.real(server.id));
    let removed = published.services.reals().filter_map(|(_, record)| {
        let gone = record.service == service.id && record.standing != Standing::Listed;
        gone.then_some(Some(record))
    });
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
        protocol: protocol(service.key.protocol),
        address: service.key.address,
        port: service.key.port,
        fwmark: None,
        scheduler: service.scheduler.name().to_owned(),
        flags: Vec::new(),
        forward: service
            .list
            .servers
            .first()
            .map_or(api::Forward::Dr, |server| forward(server.forward)),
        served,
        why: if served {
            String::new()
        } else {
            "the address is not on this box".to_owned()
        },
        active,
        inactive,
        counters: traffic(totals.traffic),
        unserved: totals.unserved,
        real_servers,
    }
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
        overloaded: record.shared.overloaded.load(Ordering::Relaxed),
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
    api::Connection {
        protocol: protocol(row.protocol),
        state: row.state.name().to_owned(),
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
            Some(api::Protocol::Ip) => return None,
        },
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
