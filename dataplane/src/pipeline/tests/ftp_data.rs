//! FTP data connections without the helper: the FTP service has the high ports of its VIP, and its
//! clients' templates say where to (spec 1.0, 2.2, 3.7).

use super::*;
use crate::pipeline::world::World as Raw;
use crate::service::{Persistence, Tunnel, TunnelKind};
use crate::verdict::{PuntClass, Verdict, WorkerId};

const VIP: &str = "10.0.1.50";
const PUNTED: Verdict = Verdict::Punt(PuntClass::Rest);

fn ftp(forward: Forward, reals: &[&str], persistent: bool) -> ServicePlan {
    ServicePlan {
        persistence: persistent.then(|| Persistence::new(60_000)),
        ..ServicePlan::new(Protocol::Tcp, "10.0.1.50:21", forward, reals)
    }
}

fn direct(persistent: bool) -> Plan {
    Plan::new(vec![ftp(
        Forward::Dr,
        &["10.0.1.11:21", "10.0.1.12:21"],
        persistent,
    )])
}

fn to_vip(host: u8, from: u16, port: u16) -> PacketBuilder {
    let client = endpoint(&format!("10.0.1.{host}:{from}"));
    PacketBuilder::tcp(client, endpoint(&format!("{VIP}:{port}")))
        .link(host_mac(client.ip()), port_mac(0))
        .flags(SYN)
}

/// The host part of the server whose MAC address a frame of the IPv4 clients' link goes to.
fn sent_to(world: &mut Raw, packet: &PacketBuilder) -> u8 {
    server_of(&world.sent(0, packet, 0))
}

#[test]
fn without_persistence_the_high_ports_are_the_hosts() {
    let mut plan = direct(false);
    let other = |vip: &str, real| {
        let mut service = ServicePlan::new(Protocol::Tcp, vip, Forward::Dr, &[real]);
        service.persistence = Some(Persistence::new(60_000));
        service
    };
    plan.services
        .push(other("10.0.1.50:8080", "10.0.1.13:8080"));
    plan.services.push(other("10.0.1.50:0", "10.0.1.14:0"));
    let mut world = World::new(plan);
    for port in [20, 1024, 39_191] {
        let syn = to_vip(100, 5000, port);
        assert_eq!(world.verdict(0, &syn), PUNTED, "{port}");
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
    // Another service on such a port comes first; other ports are not FTP's.
    assert_eq!(sent_to(&mut world, &to_vip(100, 5000, 8080)), 13);
    for port in [19, 22, 1023] {
        assert_eq!(sent_to(&mut world, &to_vip(100, 5000, port)), 14, "{port}");
    }
    assert_eq!(world.pipeline.connections(), 4);
    world.movement();
}

#[test]
fn with_direct_routing_a_persistent_clients_data_connections_follow_its_control_connection() {
    let mut world = Raw::new(direct(true));
    let first = sent_to(&mut world, &to_vip(100, 40_000, 21));
    let second = sent_to(&mut world, &to_vip(101, 40_000, 21));
    assert_ne!(first, second);
    for (host, server) in [(100, first), (101, second)] {
        for port in [10_000, 20_000, 65_535] {
            let syn = to_vip(host, port, port);
            assert_eq!(sent_to(&mut world, &syn), server);
        }
        // Active: the server has connected to the client, past us, and gets its answer.
        let answer = to_vip(host, 5000, 20).flags(SYN | ACK);
        assert_eq!(sent_to(&mut world, &answer), server);
    }
    let rows = world.connections();
    for (host, server) in [(100, first), (101, second)] {
        let template = rows.iter().find(|row| {
            row.template.is_some() && row.client == endpoint(&format!("10.0.1.{host}:0"))
        });
        let template = template.unwrap();
        assert_eq!(template.virtual_address, endpoint("10.0.1.50:0"));
        let real = endpoint(&format!("10.0.1.{server}:0"));
        assert_eq!(template.destination, real);
    }
    assert_eq!(rows.len(), 2 + 10);
    // An ACK of no connection makes none.
    let late = to_vip(100, 6000, 10_001).flags(ACK);
    assert_eq!(world.verdict(0, &late), PUNTED);
}

#[test]
fn through_tunnels_they_follow_it_as_well() {
    let forward = Forward::Tunnel(Tunnel {
        kind: TunnelKind::Ipip,
        checksum: false,
    });
    let mut world = Raw::new(Plan::new(vec![ftp(
        forward,
        &["10.0.1.11:21", "10.0.1.12:21"],
        true,
    )]));
    for (from, port, flags) in [
        (40_000, 21, SYN),
        (40_001, 39_191, SYN),
        (5000, 20, SYN | ACK),
    ] {
        let packet = to_vip(100, from, port).flags(flags);
        assert!(matches!(world.verdict(0, &packet), Verdict::Tx(_)));
    }
    let rows = world.connections();
    assert_eq!(rows.len(), 3 + 1);
    assert!(rows.iter().all(|row| row.real == rows[0].real), "{rows:?}");
}

#[test]
fn behind_nat_a_data_connection_keeps_the_clients_port() {
    let service = ftp(Forward::Nat, &["10.0.2.11:2121"], true);
    let mut world = Raw::new(Plan::new(vec![service]));
    let to_port = |frame: &[u8]| u16::from_be_bytes([frame[36], frame[37]]);
    let control = world.sent(0, &to_vip(100, 40_000, 21), 1);
    assert_eq!(to_port(&control), 2121);
    let data = world.sent(0, &to_vip(100, 40_001, 39_191), 1);
    assert_eq!(to_port(&data), 39_191);
    let real = endpoint("10.0.2.11:39191");
    let answer = PacketBuilder::tcp(real, endpoint("10.0.1.100:40001"))
        .link(host_mac(real.ip()), port_mac(1))
        .flags(SYN | ACK);
    let answer = world.sent(1, &answer, 0);
    assert_eq!(answer[26..30], [10, 0, 1, 50]);
}

#[test]
fn if_no_server_is_left_a_high_port_is_the_hosts() {
    let mut plan = direct(true);
    for real in &mut plan.services[0].reals {
        real.weight = 0;
    }
    let mut world = World::new(plan);
    let control = world.verdict(0, &to_vip(100, 40_000, 21));
    assert_ne!(control, PUNTED);
    world.movement();
    assert_eq!(world.verdict(0, &to_vip(100, 40_001, 39_191)), PUNTED);
    world.moved(&["connection_misses 1, punt.rest 1"]);
}

#[test]
fn two_workers_agree_on_whose_a_data_connection_is() {
    let plan = Plan::new(vec![ftp(Forward::Nat, &["10.0.2.11:21"], true)]);
    let mut zero = Raw::of_workers(plan, WorkerId(0), 2);
    let mut one = zero.beside(WorkerId(1));
    for from in 50_000..50_016 {
        let syn = to_vip(100, from, 39_191);
        let verdicts = (zero.verdict(0, &syn), one.verdict(0, &syn));
        match verdicts {
            (Verdict::Tx(_), Verdict::Redirect(WorkerId(0)))
            | (Verdict::Redirect(WorkerId(1)), Verdict::Tx(_)) => {}
            _ => panic!("{verdicts:?}"),
        }
    }
}
