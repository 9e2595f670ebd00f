//! One-packet scheduling (spec 2.7; recorded in t3 section 8) and SIP by Call-ID (spec 3.7).

use super::*;
use crate::buffer::PacketBuffer;
use crate::job::{Action, Filter};
use crate::pipeline::world::World as Raw;
use crate::service::{Engine, NoServer, Persistence};
use crate::template::Template;
use crate::verdict::{DropReason, PuntClass, Verdict, WorkerId};

fn plan(vip: &str, reals: &[&str]) -> Plan {
    let service = ServicePlan {
        one_packet: true,
        ..ServicePlan::new(Protocol::Udp, vip, Forward::Nat, reals)
    };
    Plan::new(vec![service])
}

fn datagram(from: &str, to: &str, payload: &[u8]) -> PacketBuilder {
    let sender = endpoint(from);
    PacketBuilder::udp(sender, endpoint(to))
        .link(host_mac(sender.ip()), port_mac(0))
        .payload(payload)
}

#[test]
fn the_recorded_counters_of_one_packet_scheduling_come_out() {
    let mut world = World::new(plan(
        "10.0.1.50:55",
        &["10.0.2.11:53", "10.0.2.12:53", "10.0.2.13:53"],
    ));
    // One flow, six datagrams of 33 bytes.
    let query = datagram("10.0.1.100:45000", "10.0.1.50:55", b"query");
    let servers: Vec<u8> = (0..6)
        .map(|_| server_of(&world.sent(0, &query, 1)))
        .collect();
    assert_eq!(servers, [13, 12, 11, 13, 12, 11]);
    assert_eq!(world.connections(), []);
    let each = |host: u8| format!("{host}.connections 2, {host}.in_packets 2, {host}.in_bytes 66");
    let moved = [11, 12, 13].map(each).join(", ");
    world.moved(&[&moved, "connection_misses 6, one_packet_scheduled 6"]);
    // Replies are not translated: they are transit, from the server's own address.
    let reply = PacketBuilder::udp(endpoint("10.0.2.11:53"), endpoint("10.0.1.100:45000"))
        .link(host_mac(endpoint("10.0.2.11:53").ip()), port_mac(1));
    assert_eq!(world.verdict(1, &reply), Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
}

#[test]
fn a_datagram_that_waits_is_counted_once_and_one_nobody_can_take_is_refused() {
    let mut with = plan("10.0.1.50:55", &["10.0.2.11:53"]);
    with.unknown = vec!["10.0.2.11".parse().unwrap()];
    let mut world = World::new(with);
    let query = datagram("10.0.1.100:45000", "10.0.1.50:55", b"query");
    let (verdict, mut packet) = world.receive(0, &query.build());
    assert!(matches!(verdict, Verdict::Wait(_)));
    world.moved(&[
        "connection_misses 1, one_packet_scheduled 1, 11.connections 1, 11.in_packets 1, 11.in_bytes 33",
    ]);
    world.edit(|plan| plan.unknown.clear());
    let verdict = world.retry(&mut packet, crate::pipeline::Outcome::Resolved);
    assert!(matches!(verdict, Verdict::Tx(_)));
    assert_eq!(server_of(packet.data()), 11);
    world.moved(&[]);
    world.edit(|plan| {
        plan.services[0].reals.clear();
        plan.services[0].no_server = NoServer::Drop;
    });
    world.dropped(0, &query, DropReason::NoServer);
    world.moved(&["connection_misses 1, drop.no_server 1, unserved 1"]);
}

#[test]
fn a_datagram_that_has_waited_goes_to_the_server_it_waited_for() {
    for persistence in [None, Some(Persistence::new(60_000))] {
        let mut with = plan("10.0.1.50:55", &["10.0.2.11:53", "10.0.2.12:53"]);
        with.services[0].persistence = persistence;
        with.unknown = vec!["10.0.2.12".parse().unwrap()];
        let mut world = Raw::new(with);
        let query = datagram("10.0.1.100:45000", "10.0.1.50:55", b"query");
        let (verdict, mut packet) = world.receive(0, &query.build());
        assert!(matches!(verdict, Verdict::Wait(_)));
        world.movement();
        world.edit(|plan| plan.unknown.clear());
        let verdict = world.retry(&mut packet, crate::pipeline::Outcome::Resolved);
        assert!(matches!(verdict, Verdict::Tx(_)));
        assert_eq!(server_of(packet.data()), 12);
        world.moved(&[]);
        let next = if persistence.is_some() { 12 } else { 11 };
        assert_eq!(server_of(&world.sent(0, &query, 1)), next);
    }
}

#[test]
fn only_datagrams_of_a_mark_are_scheduled_one_by_one() {
    let mut with = marks::plan(NAT);
    with.services[1].one_packet = true;
    let mut world = Raw::new(with);
    world.sent(0, &marks::request(NAT, 5000, 443), 1);
    world.sent(0, &marks::request(NAT.udp(), 5000, 443), 1);
    let rows = world.connections();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].protocol, Protocol::Tcp);
}

fn sip(vip: &str, one_packet: bool) -> Plan {
    let mut plan = plan(vip, &["10.0.2.11:5060", "10.0.2.12:5060"]);
    plan.services[0].one_packet = one_packet;
    plan.services[0].persistence = Some(Persistence {
        engine: Some(Engine::Sip),
        ..Persistence::new(60_000)
    });
    plan
}

fn invite(from: &str, call: &str) -> PacketBuilder {
    let text = format!("INVITE sip:x@y SIP/2.0\r\nVia: z\r\nCall-ID: {call}\r\n\r\n");
    datagram(from, "10.0.1.50:5060", text.as_bytes())
}

#[test]
fn a_call_stays_on_its_server_wherever_its_packets_come_from() {
    for one_packet in [true, false] {
        let mut world = Raw::new(sip("10.0.1.50:5060", one_packet));
        let mut to = |from: &str, call: &str| server_of(&world.sent(0, &invite(from, call), 1));
        assert_eq!(to("10.0.1.100:5060", "one@a"), 12);
        assert_eq!(to("10.0.1.101:5060", "two@a"), 11);
        assert_eq!(to("10.0.1.102:5060", "one@a"), 12);
        assert_eq!(to("10.0.1.103:7000", "two@a"), 11);
        let rows = world.connections();
        let templates: Vec<_> = rows.iter().filter(|row| row.template.is_some()).collect();
        assert_eq!(templates.len(), 2);
        assert_eq!(rows.len(), if one_packet { 2 } else { 6 });
        let call = templates[0]
            .template
            .as_ref()
            .unwrap()
            .call
            .as_deref()
            .unwrap();
        assert!(call == b"one@a" || call == b"two@a");
        assert_eq!(templates[0].virtual_address, endpoint("10.0.1.50:5060"));
        // What has no call goes by the client's address.
        let keep_alive = datagram("10.0.1.110:5060", "10.0.1.50:5060", b"\r\n\r\n");
        let first = server_of(&world.sent(0, &keep_alive, 1));
        let again = datagram("10.0.1.110:5061", "10.0.1.50:5060", b"\xff\x00");
        assert_eq!(server_of(&world.sent(0, &again, 1)), first);
        // All ends.
        world.sleep(301_000);
        world.expire();
        world.sleep(61_000);
        assert_eq!(world.connections(), []);
        assert!(world.pipeline.state.calls.is_empty());
    }
}

#[test]
fn servers_of_a_sip_service_speak_with_the_vips_address() {
    for one_packet in [true, false] {
        let mut world = Raw::new(sip("10.0.1.50:5060", one_packet));
        assert_eq!(
            server_of(&world.sent(0, &invite("10.0.1.100:5060", "a@b"), 1)),
            12
        );
        world.movement();
        let ok = "SIP/2.0 200 OK\r\nCall-ID: a@b\r\n\r\n";
        let (server, client) = (endpoint("10.0.2.12:5060"), endpoint("10.0.1.100:5060"));
        let reply = |to| {
            PacketBuilder::udp(server, to)
                .link(host_mac(server.ip()), port_mac(1))
                .payload(ok.as_bytes())
        };
        let expected = |to: SocketAddr| {
            PacketBuilder::udp(endpoint("10.0.1.50:5060"), to)
                .link(port_mac(0), host_mac(to.ip()))
                .ttl(63)
                .payload(ok.as_bytes())
                .build()
        };
        assert_eq!(world.sent(1, &reply(client), 0), expected(client));
        assert_eq!(world.movement().get("12.out_packets"), Some(&1));
        // The server calls somebody, whose answers find it.
        let other = endpoint("10.0.1.120:5060");
        assert_eq!(world.sent(1, &reply(other), 0), expected(other));
        assert_eq!(
            server_of(&world.sent(0, &invite("10.0.1.120:5060", "a@b"), 1)),
            12
        );
        let rows = world.connections();
        assert_eq!(rows.len(), if one_packet { 1 } else { 3 });
    }
}

#[test]
fn a_call_whose_packets_reach_two_workers_has_one_server() {
    let first = Raw::of_workers(sip("10.0.1.50:5060", true), WorkerId(0), 2);
    let second = first.beside(WorkerId(1));
    let mut workers = [first, second];
    for call in 0..10 {
        let mut servers = Vec::new();
        for port in 6000..6010 {
            let frame = invite(&format!("10.0.1.100:{port}"), &format!("{call}@x")).build();
            for (worker, world) in workers.iter_mut().enumerate() {
                if let (Verdict::Tx(_), out) = world.receive(0, &frame) {
                    servers.push((worker, server_of(out.data())));
                }
            }
        }
        assert_eq!(servers.len(), 10, "each datagram has one owner");
        assert!(servers.iter().any(|(worker, _)| *worker != servers[0].0));
        assert!(
            servers.iter().all(|(_, server)| *server == servers[0].1),
            "{servers:?}"
        );
    }
}

/// Connections under the templates of calls.
fn under_calls(world: &mut Raw) -> Vec<u32> {
    let (state, services) = (&world.pipeline.state, &*world.pipeline.services);
    let (mut counts, mut cursor) = (Vec::new(), Some(0));
    while let Some(at) = cursor {
        let count = |template: &Template| {
            counts.extend(template.call.is_some().then_some(template.connections));
            false
        };
        let visited = state
            .templates
            .visit((0, 1), (at, 64), services, world.now, count);
        cursor = visited.0;
    }
    counts
}

#[test]
fn a_tcp_connection_on_the_ports_of_a_call_does_not_end_it() {
    let mut with = marks::plan(NAT);
    with.marks = vec![marks::rule(1, NAT, &[(5060, 5060)])];
    with.services[1].persistence = Some(Persistence {
        engine: Some(Engine::Sip),
        ..Persistence::new(60_000)
    });
    let mut world = Raw::new(with);
    let text = b"INVITE sip:x@y SIP/2.0\r\nVia: z\r\nCall-ID: a@b\r\n\r\n";
    world.sent(0, &marks::request(NAT.udp(), 5000, 5060).payload(text), 1);
    world.sent(0, &marks::request(NAT, 5000, 5060), 1);
    let tcp = Filter {
        protocol: Some(Protocol::Tcp),
        ..Filter::default()
    };
    assert!(world.run(Action::Delete, tcp).1 >= 1);
    assert_eq!(under_calls(&mut world), [1]);
    assert!(!world.pipeline.state.calls.is_empty());
    world.sleep(301_000);
    world.expire();
    assert!(world.pipeline.state.calls.is_empty());
}

#[test]
fn a_connection_of_another_generation_is_not_taken_from_its_call() {
    let mut world = Raw::new(sip("10.0.1.50:5060", false));
    world.sent(0, &invite("10.0.1.100:5060", "a@b"), 1);
    world.sleep(200_000);
    world.edit(|plan| {
        let persistence = plan.services[0].persistence.as_mut().unwrap();
        persistence.generation += 1;
    });
    world.sent(0, &invite("10.0.1.101:5060", "a@b"), 1);
    assert_eq!(under_calls(&mut world), [1], "the old one finds it no more");
    world.sleep(101_000);
    world.expire();
    assert_eq!(world.connections().len(), 2, "the first one is over");
    assert_eq!(under_calls(&mut world), [1]);
}

#[test]
fn a_server_may_call_a_client_whose_old_call_is_over_but_not_collected() {
    let mut world = Raw::new(sip("10.0.1.50:5060", false));
    let client = endpoint("10.0.1.100:5060");
    let spoken = |server: &str, call: &str| {
        let server = endpoint(server);
        let text = format!("INVITE sip:x@y SIP/2.0\r\nCall-ID: {call}\r\n\r\n");
        PacketBuilder::udp(server, client)
            .link(host_mac(server.ip()), port_mac(1))
            .payload(text.as_bytes())
    };
    world.sent(1, &spoken("10.0.2.12:5060", "a@b"), 0);
    let second = spoken("10.0.2.11:5060", "c@d");
    world.dropped(1, &second, DropReason::ReplyKeyInUse);
    world.sleep(301_000);
    world.movement();
    world.sent(1, &second, 0);
    let movement = world.movement();
    assert_eq!(movement.get("connections_expired"), Some(&1));
    assert_eq!(movement.get("12.inactive"), Some(&-1));
    assert_eq!(movement.get("11.inactive"), Some(&1));
}
