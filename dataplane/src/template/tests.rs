//! The table of templates without any packets.

use super::*;
use crate::address::Family;
use crate::scheduler::{SchedulerFlags, SchedulerKind};
use crate::service::{
    IpvsSettings, NoServer, Orphans, Persistence, RealServer, RealShared, Serve, ServerList,
    ServiceShared,
};

const MINUTE: u32 = 60_000;

/// A service of two servers, each of which may be gone or quiescent.
fn services(
    key: ServiceKey,
    standing: [Standing; 2],
    weights: [u32; 2],
    quiescent: bool,
) -> Services {
    let records = (0..2).map(|host| RealRecord {
        name: "r".into(),
        service: ServiceId(0),
        service_name: "s".into(),
        forward: Forward::Nat,
        address: IpAddr::from([10, 0, 2, 11 + host as u8]),
        port: 8080,
        service_key: key,
        standing: standing[host],
        weight: weights[host],
        upper_threshold: 0,
        lower_threshold: 0,
        shared: RealShared::new(1),
    });
    let records: Vec<RealRecord> = records.collect();
    let servers = records.iter().enumerate().map(|(id, record)| RealServer {
        id: RealId(id as u32),
        address: record.address,
        port: record.port,
        weight: record.weight,
        forward: record.forward,
        upper_threshold: 0,
        lower_threshold: 0,
        shared: Arc::clone(&record.shared),
    });
    let service = VirtualService {
        id: ServiceId(0),
        key,
        name: "s".into(),
        scheduler: SchedulerKind::Rr,
        scheduler_flags: SchedulerFlags::NONE,
        list: ServerList::rebuilt(None, servers.collect()),
        serve: Serve::Always,
        no_server: NoServer::Unreachable,
        persistence: Some(Persistence::new(MINUTE)),
        one_packet: false,
        ever_translated: true,
        shared: ServiceShared::new(1),
    };
    let ipvs = IpvsSettings {
        expire_quiescent_template: quiescent,
        ..IpvsSettings::default()
    };
    Services::new(
        vec![service],
        crate::service::Marks::default(),
        records.into_iter().map(Some).collect(),
        crate::connection::Timeouts::default(),
        ipvs,
        crate::service::Transit::Kernel,
    )
}

fn web() -> ServiceKey {
    ServiceKey::new(Protocol::Tcp, IpAddr::from([10, 0, 1, 50]), 90)
}

fn listed() -> Services {
    services(web(), [Standing::Listed; 2], [1, 1], false)
}

fn key(services: &Services, port: u16) -> TemplateKey<'static> {
    let client = IpAddr::from([10, 0, 1, 100]);
    let vip = IpAddr::from([10, 0, 1, 50]);
    TemplateKey::of(
        &services.services()[0],
        Protocol::Tcp,
        client,
        vip,
        port,
        None,
    )
    .unwrap()
}

fn server(services: &Services, real: u32) -> Server {
    Server::of(RealId(real), services.real(RealId(real)).unwrap())
}

fn terms(services: &Services, now: u64) -> Terms<'_> {
    Terms {
        service: ServiceId(0),
        persistence: services.services()[0].persistence.unwrap(),
        control: true,
        services,
        now: Millis(now),
    }
}

fn claim(templates: &Templates, services: &Services, real: u32, now: u64) -> Claim {
    let key = key(services, 90);
    templates.claim(&key, server(services, real), &terms(services, now))
}

fn hold(templates: &Templates, services: &Services, now: u64) -> Option<Held> {
    templates.hold(&key(services, 90), &terms(services, now))
}

fn rows(templates: &Templates, services: &Services, now: u64) -> Vec<(u16, u16, u64, u32)> {
    let mut rows = Vec::new();
    let mut cursor = 0;
    loop {
        let show = |template: &Template| {
            let expires = template.expires_in(Millis(now));
            rows.push((
                template.shown_port(),
                template.shown_server_port(),
                expires,
                template.connections,
            ));
            false
        };
        let (next, _) = templates.visit((0, 1), (cursor, 3), services, Millis(now), show);
        let Some(next) = next else { break };
        cursor = next;
    }
    rows
}

#[test]
fn keys_are_the_recorded_forms() {
    let (client, vip) = ("10.0.1.100".parse().unwrap(), "10.0.1.51".parse().unwrap());
    let of = |key, port| {
        let services = services(key, [Standing::Listed; 2], [1, 1], false);
        let mut service = services.services()[0].clone();
        service.persistence = Some(Persistence {
            netmask: Some(24),
            ..Persistence::new(MINUTE)
        });
        let key = TemplateKey::of(&service, Protocol::Tcp, client, vip, port, None).unwrap();
        let protocol = key.protocol.map_or("IP", Protocol::name);
        format!("{protocol} {} {}:{}", key.client, key.vip, key.port)
    };
    let at = |port| ServiceKey::new(Protocol::Tcp, vip, port);
    assert_eq!(of(at(90), 90), "TCP 10.0.1.0 10.0.1.51:90");
    assert_eq!(of(at(0), 8080), "TCP 10.0.1.0 10.0.1.51:0");
    assert_eq!(of(at(21), 21), "TCP 10.0.1.0 10.0.1.51:0");
    // FTP data, found by the control service.
    assert_eq!(of(at(21), 40_000), "TCP 10.0.1.0 10.0.1.51:0");
    assert_eq!(
        of(ServiceKey::of_mark(Family::V4, 9), 443),
        "IP 10.0.1.0 0.0.0.9:0"
    );
    assert_eq!(mark_address("::1".parse().unwrap(), 9).to_string(), "0:9::");
}

#[test]
fn whoever_comes_second_takes_the_firsts_server() {
    let (templates, services) = (Templates::new(1000), listed());
    assert!(hold(&templates, &services, 0).is_none());
    assert!(
        matches!(claim(&templates, &services, 1, 0), Claim::Made(held) if held.server.real.0 == 1)
    );
    assert!(
        matches!(claim(&templates, &services, 0, 0), Claim::Taken(held) if held.server.real.0 == 1)
    );
    assert_eq!(
        hold(&templates, &services, 0).unwrap().server.real,
        RealId(1)
    );
    assert_eq!(rows(&templates, &services, 0), [(90, 8080, 60_000, 3)]);
    assert_eq!(
        services
            .real(RealId(1))
            .unwrap()
            .shared
            .templates()
            .load(Relaxed),
        1
    );
}

#[test]
fn a_template_lives_with_its_connections_and_its_time_after_them() {
    let (templates, services) = (Templates::new(1000), listed());
    let Claim::Made(held) = claim(&templates, &services, 0, 0) else {
        panic!("nobody was there")
    };
    // Re-armed a minute at a time.
    assert_eq!(rows(&templates, &services, 61_000), [(90, 8080, 59_000, 1)]);
    assert_eq!(
        rows(&templates, &services, 500_000),
        [(90, 8080, 40_000, 1)]
    );
    let found = templates.find(&key(&services, 90), RealId(0)).unwrap();
    assert_eq!(found, held.handle);
    templates.assure(found);
    templates.release(found, Millis(500_000));
    assert_eq!(templates.find(&key(&services, 90), RealId(0)), None);
    assert_eq!(rows(&templates, &services, 559_999), [(90, 8080, 1, 0)]);
    assert_eq!(rows(&templates, &services, 560_000), []);
    assert!(templates.is_empty());
    assert_eq!(
        services
            .real(RealId(0))
            .unwrap()
            .shared
            .templates()
            .load(Relaxed),
        0
    );
}

#[test]
fn a_template_sticks_to_a_quiescent_server_unless_told_and_never_to_one_that_is_gone() {
    let templates = Templates::new(1000);
    let fine = listed();
    claim(&templates, &fine, 0, 0);
    let quiescent = services(web(), [Standing::Listed; 2], [0, 1], false);
    assert!(hold(&templates, &quiescent, 0).is_some());
    let told = services(web(), [Standing::Listed; 2], [0, 1], true);
    assert!(hold(&templates, &told, 30_000).is_none());
    assert!(matches!(
        claim(&templates, &told, 1, 30_000),
        Claim::Made(_)
    ));
    let mut shown = rows(&templates, &told, 30_000);
    shown.sort_unstable();
    // Its timer goes on as it was.
    assert_eq!(shown, [(90, 8080, 60_000, 1), (65_535, 65_535, 30_000, 2)]);
    // Its connections still find it.
    let old = templates.find(&key(&told, 90), RealId(0)).unwrap();
    templates.release(old, Millis(30_000));
    let gone = [Standing::Listed, Standing::Gone(Orphans::Keep)];
    let gone = services(web(), gone, [1, 0], false);
    assert!(hold(&templates, &gone, 30_000).is_none());
}

#[test]
fn a_number_given_to_another_server_is_not_taken_for_the_old_one() {
    let templates = Templates::new(1000);
    let before = listed();
    claim(&templates, &before, 0, 0);
    let mut other = server(&before, 0);
    other.port = 81;
    assert!(other.record(&before).is_none());
    assert!(server(&before, 0).record(&before).is_some());
}

#[test]
fn a_full_table_gives_up_what_is_over_then_what_never_was_used() {
    let (templates, services) = (Templates::new(1), listed());
    let client = |host: u32| TemplateKey {
        client: IpAddr::from(Ipv4Addr::from(0x0a00_0000 + host)),
        ..key(&services, 90)
    };
    let server = server(&services, 0);
    let claim = |host| templates.claim(&client(host), server, &terms(&services, 0));
    // One place in each shard: in the end each is held by a template with a connection.
    for host in 0..4000 {
        claim(host);
    }
    assert_eq!(templates.len(), SHARDS);
    assert!(matches!(claim(5000), Claim::Full));
    let held = (0..4000).find_map(|host| templates.find(&client(host), RealId(0)));
    templates.release(held.unwrap(), Millis(0));
    // Now one may go, for the first that falls into its shard.
    let taken = (6000..9000).filter(|host| matches!(claim(*host), Claim::Made(_)));
    assert_eq!(taken.count(), 1);
    assert_eq!(templates.len(), SHARDS);
}

#[test]
fn workers_that_race_agree_and_count_every_connection() {
    let templates = Templates::new(10_000);
    let services = listed();
    let chosen: Vec<Vec<RealId>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4_u32)
            .map(|worker| {
                let (templates, services) = (&templates, &services);
                scope.spawn(move || {
                    let wanted = server(services, worker % 2);
                    let choose = |host: u32| {
                        let key = TemplateKey {
                            client: IpAddr::from(Ipv4Addr::from(host)),
                            ..key(services, 90)
                        };
                        let held = templates.hold(&key, &terms(services, 0));
                        let held = held.unwrap_or_else(|| {
                            match templates.claim(&key, wanted, &terms(services, 0)) {
                                Claim::Made(held) | Claim::Taken(held) => held,
                                Claim::Full => panic!("there is room"),
                            }
                        });
                        held.server.real
                    };
                    (0..500).map(choose).collect()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    assert!(chosen.iter().all(|of_worker| *of_worker == chosen[0]));
    let rows = rows(&templates, &services, 0);
    assert_eq!(rows.len(), 500);
    assert!(rows.iter().all(|row| row.3 == 4));
}

#[test]
fn memory_is_taken_once_and_control_may_take_it_before_the_first_template() {
    let (templates, services) = (Templates::new(1000), listed());
    assert!(!templates.is_reserved());
    templates.reserve();
    let places = || -> Vec<usize> {
        let shards = templates.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap().capacity())
            .collect()
    };
    assert_eq!(places(), [1000_usize.div_ceil(SHARDS); SHARDS]);
    claim(&templates, &services, 0, 0);
    templates.reserve();
    assert!(
        hold(&templates, &services, 0).is_some(),
        "it is still there"
    );

    assert!(templates.take_calls().is_none());
    for _ in 0..2 {
        templates.reserve_calls(2, 50);
    }
    let taken: Vec<_> = std::iter::from_fn(|| templates.take_calls()).collect();
    assert!(taken.len() == 2 && taken.iter().all(|calls| calls.capacity() == 50));
}

#[test]
fn calls_are_told_apart_by_protocol_and_ends_and_bounded() {
    let handle = |slot| Handle {
        shard: 0,
        slot,
        stamp: 1,
    };
    let ends = |protocol, port| -> Ends {
        let vip = "10.0.1.50:5060".parse().unwrap();
        (protocol, (IpAddr::from([10, 0, 1, 100]), port).into(), vip)
    };
    let mut calls = Calls::new(2);
    assert!(calls.insert(ends(Protocol::Udp, 1), handle(1)));
    assert!(
        calls.insert(ends(Protocol::Udp, 1), handle(2)),
        "in place of the last"
    );
    assert_eq!(calls.remove(&ends(Protocol::Tcp, 1)), None);
    assert!(calls.insert(ends(Protocol::Tcp, 1), handle(3)));
    assert!(
        !calls.insert(ends(Protocol::Udp, 2), handle(4)),
        "it is full"
    );
    assert_eq!(calls.get(&ends(Protocol::Udp, 1)), Some(handle(2)));
    assert_eq!(calls.remove(&ends(Protocol::Udp, 1)), Some(handle(2)));
    assert_eq!(calls.remove(&ends(Protocol::Udp, 1)), None);
}
