//! Services and servers by owner: what the file asked for, and what commands made of it.
//!
//! The tables are built from this. Commands change it as they change the kernel's tables: a new
//! server goes to the head of its service's list, an edited one keeps its place. A reload compares
//! the file with the file before: what is the same in both stays as it is now, so that a server
//! that `ipvsadm -e` took out for maintenance stays out; what differs becomes what the file says;
//! what commands added is left alone. A service that leaves the file takes its servers with it.
//!
//! Invariant: no two services with one key, no two servers of a service with one address and port.

use crate::admin::api::{IpvsRefusal, Owner};
use crate::config::MOST_SERVERS_OF_MH;
use crate::tables::{Desired, DesiredServer, DesiredService};
use dataplane::connection::Timeouts;
use dataplane::scheduler::SchedulerKind;
use dataplane::service::{Orphans, ServiceKey};
use rustc_hash::FxHashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything there is, with its owner.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    /// The file as it was loaded last. Shared, because every command copies the rest.
    file: Arc<Desired>,
    /// What becomes of connections of servers that leave a service commands made.
    orphans: Orphans,
    services: FxHashMap<ServiceKey, ServiceObject>,
    /// The next service's place.
    next: u64,
    timeouts: Timeouts,
}

/// A service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceObject {
    /// Its settings; the servers in it mean nothing.
    pub(crate) settings: DesiredService,
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Oldest first.
    pub(crate) servers: Vec<ServerObject>,
    place: u64,
}

/// A server.
#[derive(Clone, Debug)]
pub(crate) struct ServerObject {
    /// Its settings.
    pub(crate) settings: DesiredServer,
    /// Whose it is.
    pub(crate) owner: Owner,
}

impl ServerObject {
    fn is(&self, address: IpAddr, port: u16) -> bool {
        self.settings.address == address && self.settings.port == port
    }
}

impl Objects {
    /// What the file asks for and nothing else.
    pub(crate) fn new(file: Desired, orphans: Orphans) -> Self {
        let mut objects = Self {
            timeouts: file.timeouts,
            file: Arc::default(),
            orphans,
            services: FxHashMap::default(),
            next: 0,
        };
        objects.reload(file, orphans, false);
        objects
    }

    /// What the tables shall be.
    pub(crate) fn desired(&self) -> Desired {
        let services = self.services().into_iter().map(|service| DesiredService {
            servers: service.servers.iter().map(|s| s.settings.clone()).collect(),
            ..service.settings.clone()
        });
        Desired {
            services: services.collect(),
            timeouts: self.timeouts,
            ..self.rest()
        }
    }

    /// What the file asks for besides services.
    fn rest(&self) -> Desired {
        Desired {
            services: Vec::new(),
            marks: self.file.marks.clone(),
            ..*self.file
        }
    }

    /// The timeouts in force.
    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Every service, those of the file first, each part in the order it was added.
    pub(crate) fn services(&self) -> Vec<&ServiceObject> {
        let mut services: Vec<_> = self.services.values().collect();
        services.sort_by_key(|service| service.place);
        services
    }

    /// The file was loaded again. With `discard` the file's objects are what it says even if
    /// commands changed them and it did not.
    pub(crate) fn reload(&mut self, file: Desired, orphans: Orphans, discard: bool) {
        let before = std::mem::take(&mut self.file);
        let before_services: FxHashMap<ServiceKey, &DesiredService> = before
            .services
            .iter()
            .map(|service| (service.key, service))
            .collect();
        let mut now = std::mem::take(&mut self.services);
        let mut place = 0;
        for service in &file.services {
            let old = before_services.get(&service.key).copied();
            let old = old.filter(|_| !discard);
            let running = now.remove(&service.key);
            if let Some(mut merged) = merge_service(service, old, running) {
                merged.place = place;
                place += 1;
                self.services.entry(service.key).or_insert(merged);
            }
        }
        let mut left: Vec<_> = now
            .into_values()
            .filter(|service| service.owner == Owner::Command)
            .collect();
        left.sort_by_key(|service| service.place);
        for mut service in left {
            service.place = place;
            service.settings.on_real_removed = orphans;
            place += 1;
            self.services.insert(service.settings.key, service);
        }
        self.next = place;
        self.orphans = orphans;
        for key in Timeouts::KEYS {
            let value = file.timeouts.value(key);
            if (discard || before.timeouts.value(key) != value)
                && let Some(value) = value
            {
                self.timeouts.set(key, value);
            }
        }
        self.file = Arc::new(file);
    }

    /// `-A`. The servers in `settings` mean nothing.
    pub(crate) fn add_service(&mut self, settings: DesiredService) -> Result<(), IpvsRefusal> {
        if self.services.contains_key(&settings.key) {
            return Err(IpvsRefusal::ServiceExists);
        }
        let service = ServiceObject {
            settings: DesiredService {
                on_real_removed: self.orphans,
                ..settings
            },
            owner: Owner::Command,
            servers: Vec::new(),
            place: self.next,
        };
        self.next += 1;
        self.services.insert(service.settings.key, service);
        Ok(())
    }

    /// The service to edit; `-E` is [`IpvsRefusal::NoSuchService`] without it.
    pub(crate) fn service(&mut self, key: &ServiceKey) -> Option<&mut ServiceObject> {
        self.services.get_mut(key)
    }

    /// `-D`.
    pub(crate) fn delete_service(&mut self, key: &ServiceKey) -> Result<(), IpvsRefusal> {
        match self.services.remove(key) {
            Some(_) => Ok(()),
            None => Err(IpvsRefusal::NoSuchService),
        }
    }

    /// `-C`.
    pub(crate) fn clear(&mut self) {
        self.services.clear();
    }

    /// `-a`.
    pub(crate) fn add_server(
        &mut self,
        key: &ServiceKey,
        settings: DesiredServer,
    ) -> Result<(), IpvsRefusal> {
        let service = self.services.get_mut(key);
        let service = service.ok_or(IpvsRefusal::ServiceNotDefined)?;
        let mut servers = service.servers.iter();
        if servers.any(|server| server.is(settings.address, settings.port)) {
            return Err(IpvsRefusal::ServerExists);
        }
        has_room(service.settings.scheduler, service.servers.len() + 1)?;
        service.servers.push(ServerObject {
            settings,
            owner: Owner::Command,
        });
        Ok(())
    }

    /// `-e`: everything but the name is replaced.
    pub(crate) fn edit_server(
        &mut self,
        key: &ServiceKey,
        settings: DesiredServer,
    ) -> Result<(), IpvsRefusal> {
        let service = self.services.get_mut(key);
        let service = service.ok_or(IpvsRefusal::ServiceNotDefined)?;
        let mut servers = service.servers.iter_mut();
        let server = servers
            .find(|server| server.is(settings.address, settings.port))
            .ok_or(IpvsRefusal::NoSuchServer)?;
        let name = std::mem::replace(&mut server.settings.name, "".into());
        server.settings = DesiredServer { name, ..settings };
        Ok(())
    }

    /// `-d`.
    pub(crate) fn delete_server(
        &mut self,
        key: &ServiceKey,
        address: IpAddr,
        port: u16,
    ) -> Result<(), IpvsRefusal> {
        let service = self.services.get_mut(key);
        let service = service.ok_or(IpvsRefusal::ServiceNotDefined)?;
        let mut servers = service.servers.iter();
        let at = servers
            .position(|server| server.is(address, port))
            .ok_or(IpvsRefusal::NoSuchServer)?;
        service.servers.remove(at);
        Ok(())
    }

    /// `--set`: the timeout of a configuration key, in milliseconds.
    pub(crate) fn set_timeout(&mut self, key: &str, milliseconds: u32) {
        self.timeouts.set(key, milliseconds);
    }
}

/// Refuses as the kernel does what mh has no slots for.
pub(super) fn has_room(scheduler: SchedulerKind, servers: usize) -> Result<(), IpvsRefusal> {
    if scheduler == SchedulerKind::Mh && servers > MOST_SERVERS_OF_MH {
        return Err(IpvsRefusal::Invalid);
    }
    Ok(())
}

/// What a service of the file becomes: `file` is what it says now, `before` what it said, `running`
/// what there is. `None` if commands deleted it and the file has not changed it since.
fn merge_service(
    file: &DesiredService,
    before: Option<&DesiredService>,
    running: Option<ServiceObject>,
) -> Option<ServiceObject> {
    let same = before.is_some_and(|before| without_servers(before) == without_servers(file));
    let old_servers: &[DesiredServer] = before.map_or(&[], |before| &before.servers);
    let new_servers: &[DesiredServer] = &file.servers;
    let (settings, owner, servers) = match running {
        Some(running) if same => (running.settings, running.owner, running.servers),
        Some(running) => (without_servers(file), Owner::File, running.servers),
        // Deleted by a command. What it was is of no account once something about it changed.
        None if same && old_servers == new_servers => return None,
        None => (without_servers(file), Owner::File, fresh(old_servers)),
    };
    // A service that a command deleted and added again is the command's until the file changes.
    if owner == Owner::Command && old_servers == new_servers {
        return Some(ServiceObject {
            settings,
            owner,
            servers,
            place: 0,
        });
    }
    Some(ServiceObject {
        settings,
        owner,
        servers: merge_servers(new_servers, old_servers, servers),
        place: 0,
    })
}

fn merge_servers(
    file: &[DesiredServer],
    before: &[DesiredServer],
    running: Vec<ServerObject>,
) -> Vec<ServerObject> {
    let key = |server: &DesiredServer| (server.address, server.port);
    let before: FxHashMap<_, _> = before.iter().map(|server| (key(server), server)).collect();
    let in_order: Vec<_> = running.iter().map(|s| key(&s.settings)).collect();
    let mut running: FxHashMap<_, _> = running
        .into_iter()
        .map(|server| (key(&server.settings), server))
        .collect();
    let mut merged = Vec::with_capacity(file.len());
    for server in file {
        let at = key(server);
        if before.get(&at) == Some(&server) {
            // Unchanged: as it is now, or not at all if a command deleted it. One that a command
            // deleted and added again keeps its new place.
            if running.get(&at).is_some_and(|now| now.owner == Owner::File) {
                merged.extend(running.remove(&at));
            }
        } else {
            running.remove(&at);
            merged.push(ServerObject {
                settings: server.clone(),
                owner: Owner::File,
            });
        }
    }
    // What is left of the file's has left the file.
    let added = in_order.iter().filter_map(|at| running.remove(at));
    merged.extend(added.filter(|server| server.owner == Owner::Command));
    merged
}

fn fresh(servers: &[DesiredServer]) -> Vec<ServerObject> {
    let servers = servers.iter();
    servers
        .map(|server| ServerObject {
            settings: server.clone(),
            owner: Owner::File,
        })
        .collect()
}

fn without_servers(service: &DesiredService) -> DesiredService {
    DesiredService {
        servers: Vec::new(),
        name: service.name.clone(),
        ..*service
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::address::Protocol;
    use dataplane::service::Forward;

    fn key(last: u8) -> ServiceKey {
        ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 0, 1, last]), 80)
    }

    fn server(last: u8, weight: u32) -> DesiredServer {
        DesiredServer {
            name: format!("rs{last}").into(),
            address: IpAddr::from([10, 0, 2, last]),
            port: 80,
            weight,
            forward: Forward::Dr,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }

    /// A file with one service per list of servers, on 10.0.1.1, .2, ...
    fn file(services: &[&[(u8, u32)]]) -> Desired {
        let services = services
            .iter()
            .zip(1..)
            .map(|(servers, last)| DesiredService {
                servers: servers.iter().map(|(last, w)| server(*last, *w)).collect(),
                ..DesiredService::new(key(last), "web")
            });
        Desired {
            services: services.collect(),
            ..Desired::default()
        }
    }

    /// `1: 11*1 12*1+; 2+: ...`: services and servers with weights; `+` marks a command's.
    fn shown(objects: &Objects) -> String {
        let mark = |owner| if owner == Owner::Command { "+" } else { "" };
        let last = |address: IpAddr| address.to_string().rsplit('.').next().unwrap().to_owned();
        let services = objects.services().into_iter().map(|service| {
            let servers: Vec<_> = service
                .servers
                .iter()
                .map(|s| {
                    let (at, weight) = (last(s.settings.address), s.settings.weight);
                    format!("{at}*{weight}{}", mark(s.owner))
                })
                .collect();
            let at = last(service.settings.key.shown_address());
            format!("{at}{}: {}", mark(service.owner), servers.join(" "))
        });
        services.collect::<Vec<_>>().join("; ")
    }

    fn objects(services: &[&[(u8, u32)]]) -> Objects {
        Objects::new(file(services), Orphans::Keep)
    }

    fn reload(objects: &mut Objects, services: &[&[(u8, u32)]]) {
        objects.reload(file(services), Orphans::Keep, false);
    }

    #[test]
    fn commands_refuse_as_the_kernel_does() {
        let mut objects = objects(&[&[(11, 1)]]);
        let service = |last| DesiredService::new(key(last), "added");
        assert_eq!(
            objects.add_service(service(1)),
            Err(IpvsRefusal::ServiceExists)
        );
        assert_eq!(
            objects.delete_service(&key(9)),
            Err(IpvsRefusal::NoSuchService)
        );
        assert_eq!(
            objects.add_server(&key(9), server(11, 1)),
            Err(IpvsRefusal::ServiceNotDefined)
        );
        assert_eq!(
            objects.add_server(&key(1), server(11, 1)),
            Err(IpvsRefusal::ServerExists)
        );
        assert_eq!(
            objects.edit_server(&key(1), server(12, 1)),
            Err(IpvsRefusal::NoSuchServer)
        );
        assert_eq!(
            objects.delete_server(&key(1), server(12, 1).address, 80),
            Err(IpvsRefusal::NoSuchServer)
        );
        assert_eq!(shown(&objects), "1: 11*1");
    }

    #[test]
    fn an_added_server_is_the_newest_and_an_edited_one_keeps_its_place_and_name() {
        let mut objects = objects(&[&[(11, 1), (12, 1)]]);
        objects.add_server(&key(1), server(9, 1)).unwrap();
        let renamed = DesiredServer {
            name: "other".into(),
            ..server(11, 5)
        };
        objects.edit_server(&key(1), renamed).unwrap();
        assert_eq!(shown(&objects), "1: 11*5 12*1 9*1+");
        assert_eq!(&*objects.desired().services[0].servers[0].name, "rs11");
        let at = server(11, 1).address;
        objects.delete_server(&key(1), at, 80).unwrap();
        objects.add_server(&key(1), server(11, 1)).unwrap();
        assert_eq!(shown(&objects), "1: 12*1 9*1+ 11*1+");
    }

    #[test]
    fn a_reload_leaves_what_commands_added() {
        let mut objects = objects(&[&[(11, 1)]]);
        objects
            .add_service(DesiredService::new(key(7), "added"))
            .unwrap();
        objects.add_server(&key(7), server(70, 1)).unwrap();
        objects.add_server(&key(1), server(12, 1)).unwrap();
        reload(&mut objects, &[&[(11, 2), (13, 1)], &[(21, 1)]]);
        assert_eq!(shown(&objects), "1: 11*2 13*1 12*1+; 2: 21*1; 7+: 70*1+");
        reload(&mut objects, &[]);
        assert_eq!(shown(&objects), "7+: 70*1+");
    }

    #[test]
    fn a_command_holds_until_the_file_changes_the_object() {
        let mut objects = objects(&[&[(11, 1), (12, 1), (13, 1)]]);
        objects.edit_server(&key(1), server(11, 0)).unwrap();
        let at = server(12, 1).address;
        objects.delete_server(&key(1), at, 80).unwrap();
        reload(&mut objects, &[&[(11, 1), (12, 1), (13, 7)]]);
        assert_eq!(shown(&objects), "1: 11*0 13*7");
        reload(&mut objects, &[&[(11, 3), (12, 4), (13, 7)]]);
        assert_eq!(shown(&objects), "1: 11*3 12*4 13*7");
    }

    #[test]
    fn what_is_cleared_stays_away_until_the_file_changes_it_or_edits_are_discarded() {
        let services: &[&[(u8, u32)]] = &[&[(11, 1)], &[(21, 1)]];
        let mut objects = objects(services);
        objects.clear();
        reload(&mut objects, services);
        assert_eq!(shown(&objects), "");
        reload(&mut objects, &[&[(11, 1)], &[(21, 2)]]);
        assert_eq!(shown(&objects), "2: 21*2");
        objects.add_server(&key(2), server(22, 1)).unwrap();
        objects.reload(file(services), Orphans::Keep, true);
        assert_eq!(shown(&objects), "1: 11*1; 2: 21*1 22*1+");
    }

    #[test]
    fn what_the_file_says_too_becomes_the_files() {
        let mut objects = objects(&[]);
        objects
            .add_service(DesiredService::new(key(1), "added"))
            .unwrap();
        objects.add_server(&key(1), server(11, 1)).unwrap();
        objects.add_server(&key(1), server(12, 1)).unwrap();
        reload(&mut objects, &[&[(11, 4)]]);
        assert_eq!(shown(&objects), "1: 11*4 12*1+");
        assert_eq!(&*objects.desired().services[0].name, "web");
    }

    #[test]
    fn timeouts_set_by_command_hold_until_the_file_changes_them() {
        let mut objects = objects(&[]);
        objects.set_timeout("udp", 30_000);
        let mut file = file(&[]);
        file.timeouts.set("tcp", 60_000);
        objects.reload(file.clone(), Orphans::Keep, false);
        let now = |objects: &Objects, key| objects.timeouts().value(key).unwrap();
        assert_eq!(
            (now(&objects, "tcp"), now(&objects, "udp")),
            (60_000, 30_000)
        );
        objects.reload(file, Orphans::Keep, true);
        assert_eq!(now(&objects, "udp"), 300_000);
    }
}
