//! What the running daemon does for `ipvsadm`: commands on the tables, and the tables in its words.
//!
//! Commands and reloads change the same [`Objects`], one after the other: the lock is held until
//! the table they lead to is published, so that tables are published in the order of the changes.
//! Invariant: what is not published is not kept.

mod objects;
#[cfg(test)]
pub(crate) mod pure;
mod words;

pub(crate) use objects::Objects;

use super::Daemon;
use crate::admin::api::{
    Counters, IpvsBatch, IpvsCommand, IpvsOutcomes, IpvsRates, IpvsRefusal, IpvsServer,
    IpvsServerKey, IpvsService, IpvsTables, IpvsTimeouts,
};
use crate::admin::backend::BackendError;
use crate::tables::{Desired, ServiceTraffic};
use dataplane::service::{Orphans, ServiceKey, Traffic};
use std::collections::HashMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// How long a command waits for the workers to take its table.
const TAKE_TIME: Duration = Duration::from_secs(2);
/// The time rates are taken over.
const RATE_TIME: Duration = Duration::from_secs(1);

/// The tables could not be built; the log says why.
#[derive(Debug)]
pub(super) struct NotBuilt;

impl Daemon {
    /// Puts a configuration's services into force, with what commands made besides; returns their
    /// epoch. May take seconds.
    pub(super) fn load_services(
        &self,
        file: Desired,
        orphans: Orphans,
        discard: bool,
    ) -> Result<u64, NotBuilt> {
        let mut objects = self.objects();
        let mut next = objects.clone();
        next.reload(file, orphans, discard);
        let epoch = self.publish(&next);
        *objects = next;
        epoch.ok_or(NotBuilt)
    }

    /// `POST /v1/ipvs`.
    pub(super) fn ipvs_apply(&self, batch: &IpvsBatch) -> Result<IpvsOutcomes, BackendError> {
        block_in_place(|| {
            let mut objects = self.objects();
            let mut next = objects.clone();
            let mut effects = Effects::default();
            let refusals: Vec<_> = batch
                .commands
                .iter()
                .map(|command| apply(&mut next, command, &mut effects).err())
                .collect();
            if effects.changed {
                let Some(epoch) = self.publish(&next) else {
                    return Err(BackendError::Unavailable(
                        "the tables could not be built (see the log)".to_owned(),
                    ));
                };
                *objects = next;
                // Others may go on: their tables come behind this one.
                drop(objects);
                if !self.tables.wait_services(epoch, TAKE_TIME) {
                    log::warn!("not every worker has taken the new tables (epoch {epoch}) yet");
                }
            }
            // Counters are shown from the moment on that a service is added: in the kernel it is a
            // new one, here the identity and what is known of it live on.
            self.tables.zero(&effects.zeroed);
            Ok(IpvsOutcomes { refusals })
        })
    }

    /// `GET /v1/ipvs`.
    pub(super) async fn ipvs_tables(&self, rates: bool) -> IpvsTables {
        let before = if rates {
            let before = block_in_place(|| self.tables.traffic());
            let since = Instant::now();
            tokio::time::sleep(RATE_TIME).await;
            Some((before, since))
        } else {
            None
        };
        block_in_place(|| {
            let traffic = self.tables.traffic();
            let mut tables = describe(&self.objects(), &traffic);
            if let Some((before, since)) = before {
                put_rates(&mut tables, &traffic, &before, since.elapsed());
            }
            tables
        })
    }

    /// Publishes the tables that these objects lead to; their epoch.
    fn publish(&self, objects: &Objects) -> Option<u64> {
        let desired = objects.desired();
        self.template_memory.prepare(&desired);
        self.tables.publish_services(desired)
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        // Whoever panicked with it in hand had not put anything half done into it.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What commands lead to besides other objects.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// There is something to publish.
    changed: bool,
    /// Services whose counters are shown from 0 on.
    zeroed: Vec<ServiceKey>,
}

/// Does one command.
fn apply(
    objects: &mut Objects,
    command: &IpvsCommand,
    effects: &mut Effects,
) -> Result<(), IpvsRefusal> {
    match command {
        IpvsCommand::AddService { service, settings } => {
            let key = words::service_key(service)?;
            if objects.service(&key).is_some() {
                return Err(IpvsRefusal::ServiceExists);
            }
            objects.add_service(words::service(key, settings)?)?;
            effects.zeroed.push(key);
        }
        IpvsCommand::EditService { service, settings } => {
            let key = words::service_key(service)?;
            let service = objects.service(&key).ok_or(IpvsRefusal::NoSuchService)?;
            let mut edited = service.settings.clone();
            words::apply(&mut edited, settings)?;
            objects::has_room(edited.scheduler, service.servers.len())?;
            service.settings = edited;
        }
        IpvsCommand::DeleteService { service } => {
            objects.delete_service(&words::service_key(service)?)?;
        }
        IpvsCommand::Clear => objects.clear(),
        IpvsCommand::AddServer {
            service,
            server,
            settings,
        } => {
            let key = known(objects, service)?;
            objects.add_server(&key, words::server(&key, *server, settings)?)?;
        }
        IpvsCommand::EditServer {
            service,
            server,
            settings,
        } => {
            let key = known(objects, service)?;
            objects.edit_server(&key, words::server(&key, *server, settings)?)?;
        }
        IpvsCommand::DeleteServer { service, server } => {
            let key = known(objects, service)?;
            objects.delete_server(&key, server.address, server.port)?;
        }
        IpvsCommand::Zero { service: None } => {
            let services = objects.services().into_iter();
            effects.zeroed.extend(services.map(|s| s.settings.key));
            return Ok(());
        }
        IpvsCommand::Zero {
            service: Some(service),
        } => {
            let key = words::service_key(service)?;
            objects.service(&key).ok_or(IpvsRefusal::NoSuchService)?;
            effects.zeroed.push(key);
            return Ok(());
        }
        IpvsCommand::SetTimeouts(timeouts) => {
            let values = [
                ("tcp", timeouts.tcp),
                ("tcp_fin", timeouts.tcp_fin),
                ("udp", timeouts.udp),
            ];
            for (key, seconds) in values.into_iter().filter(|(_, seconds)| *seconds != 0) {
                objects.set_timeout(key, seconds.saturating_mul(1000));
            }
        }
    }
    effects.changed = true;
    Ok(())
}

/// The key of a service that there is, for its servers.
fn known(
    objects: &mut Objects,
    service: &crate::admin::api::IpvsKey,
) -> Result<ServiceKey, IpvsRefusal> {
    let key = words::service_key(service)?;
    match objects.service(&key) {
        Some(_) => Ok(key),
        None => Err(IpvsRefusal::ServiceNotDefined),
    }
}

/// The tables in the words of `ipvsadm`.
fn describe(objects: &Objects, traffic: &HashMap<ServiceKey, ServiceTraffic>) -> IpvsTables {
    let nothing = ServiceTraffic::default();
    let services = objects.services().into_iter().map(|service| {
        let traffic = traffic.get(&service.settings.key).unwrap_or(&nothing);
        let servers = service.servers.iter().rev().map(|server| {
            let of = &server.settings;
            let now = traffic.servers.get(&(of.address, of.port));
            let now = now.copied().unwrap_or_default();
            IpvsServer {
                key: IpvsServerKey {
                    address: of.address,
                    port: of.port,
                },
                settings: words::listed_server(of),
                owner: server.owner,
                active: now.active,
                inactive: now.inactive,
                persistent: now.templates,
                counters: counters(now.since_zero),
                rates: IpvsRates::default(),
            }
        });
        IpvsService {
            key: words::listed_key(&service.settings.key),
            settings: words::listed_settings(&service.settings),
            owner: service.owner,
            counters: counters(traffic.since_zero),
            rates: IpvsRates::default(),
            servers: servers.collect(),
        }
    });
    let seconds = |key| objects.timeouts().value(key).unwrap_or_default() / 1000;
    IpvsTables {
        timeouts: IpvsTimeouts {
            tcp: seconds("tcp"),
            tcp_fin: seconds("tcp_fin"),
            udp: seconds("udp"),
        },
        services: services.collect(),
    }
}

fn put_rates(
    tables: &mut IpvsTables,
    now: &HashMap<ServiceKey, ServiceTraffic>,
    before: &HashMap<ServiceKey, ServiceTraffic>,
    time: Duration,
) {
    for service in &mut tables.services {
        let Ok(key) = words::service_key(&service.key) else {
            continue;
        };
        let (Some(now), Some(before)) = (now.get(&key), before.get(&key)) else {
            continue;
        };
        service.rates = rates(now.total, before.total, time);
        for server in &mut service.servers {
            let at = (server.key.address, server.key.port);
            if let (Some(now), Some(before)) = (now.servers.get(&at), before.servers.get(&at)) {
                server.rates = rates(now.total, before.total, time);
            }
        }
    }
}

fn rates(now: Traffic, before: Traffic, time: Duration) -> IpvsRates {
    let milliseconds = (time.as_millis() as u64).max(1);
    let rate = |now: u64, before: u64| now.saturating_sub(before) * 1000 / milliseconds;
    IpvsRates {
        connections: rate(now.connections, before.connections),
        in_packets: rate(now.in_packets, before.in_packets),
        out_packets: rate(now.out_packets, before.out_packets),
        in_bytes: rate(now.in_bytes, before.in_bytes),
        out_bytes: rate(now.out_bytes, before.out_bytes),
    }
}

fn counters(traffic: Traffic) -> Counters {
    Counters {
        connections: traffic.connections,
        in_packets: traffic.in_packets,
        out_packets: traffic.out_packets,
        in_bytes: traffic.in_bytes,
        out_bytes: traffic.out_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::{IpvsKey, IpvsServerSettings, IpvsSettings, Protocol};
    use crate::config::MOST_SERVERS_OF_MH;

    fn service() -> IpvsKey {
        IpvsKey {
            fwmark: None,
            protocol: Protocol::Tcp,
            address: "10.0.1.50".parse().unwrap(),
            port: 80,
        }
    }

    fn scheduled_by(scheduler: &str) -> IpvsSettings {
        IpvsSettings {
            scheduler: scheduler.to_owned(),
            ..IpvsSettings::default()
        }
    }

    fn add_server(number: usize) -> IpvsCommand {
        let [_, _, high, low] = (number as u32).to_be_bytes();
        IpvsCommand::AddServer {
            service: service(),
            server: IpvsServerKey {
                address: [10, 1, high, low].into(),
                port: 80,
            },
            settings: IpvsServerSettings::default(),
        }
    }

    #[test]
    fn mh_takes_as_many_servers_as_it_has_slots_however_they_come() {
        let mut objects = Objects::new(Desired::default(), Orphans::Keep);
        let mut run = |command: &IpvsCommand| {
            let mut effects = Effects::default();
            let done = apply(&mut objects, command, &mut effects);
            assert_eq!(effects.changed, done.is_ok());
            done
        };
        let edit = |scheduler| IpvsCommand::EditService {
            service: service(),
            settings: scheduled_by(scheduler),
        };
        run(&IpvsCommand::AddService {
            service: service(),
            settings: scheduled_by("mh"),
        })
        .unwrap();
        for number in 1..=MOST_SERVERS_OF_MH {
            run(&add_server(number)).unwrap();
        }
        let one_more = add_server(MOST_SERVERS_OF_MH + 1);
        assert_eq!(run(&one_more), Err(IpvsRefusal::Invalid));
        assert_eq!(run(&add_server(1)), Err(IpvsRefusal::ServerExists));
        run(&edit("rr")).unwrap();
        run(&one_more).unwrap();
        assert_eq!(run(&edit("mh")), Err(IpvsRefusal::Invalid));
        // The refused one left everything as it was.
        let key = words::service_key(&service()).unwrap();
        let scheduler = objects.service(&key).unwrap().settings.scheduler;
        assert_eq!(scheduler.name(), "rr");
    }
}
