//! What is configured or sent so that it might go round for ever, reach a third party or take part in
//! another's flow: bounded, counted, without effect on others. Floods and overlapping fragments are in
//! `tests/fragments.rs`, damaged SCTP in [`super::sctp`], foreign ICMP errors in [`super::related`].

use super::*;
use crate::buffer::{Frame, PacketBuffer};
use crate::pipeline::{FROM_STACK, Pass};
use crate::service::Serve;
use crate::verdict::{DropReason, PortId, PuntClass, Verdict};

/// The service of `site` with one server at this address.
fn plan_of(site: Site, real: SocketAddr) -> Plan {
    let (vip, real) = (site.vip().to_string(), real.to_string());
    let service = ServicePlan::new(site.protocol, &vip, site.forward, &[&real]);
    Plan::new(vec![service])
}

#[test]
fn a_real_server_that_is_the_vip_is_the_stack_and_nothing_goes_round() {
    for site in Site::ALL {
        let mut world = World::new(plan_of(site, site.vip()));
        let server = "50";
        for first in [true, false] {
            let request = site.request(5000);
            let (verdict, frame) = world.receive(0, &request.build());
            assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
            // By NAT to itself, too, nothing has changed.
            assert_eq!(frame.data(), request.build());
            let bytes = site.bytes();
            let counted = format!("{server}.in_packets 1, {server}.in_bytes {bytes}, punt.rest 1");
            let more = if first {
                format!(
                    "connection_misses 1, connections_created 1, {server}.connections 1, \
                     {server}.active 1"
                )
            } else {
                "connection_hits 1".to_owned()
            };
            world.moved(&[&counted, &more]);
        }
        // What the stack answers leaves once and is not taken for a request.
        let reply = site.returned(5000).ttl(64);
        let mut frame = Frame::from_bytes(&reply.build());
        frame.port = FROM_STACK;
        let verdict = world.process_marked(&mut frame, Pass::First);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(frame.data(), reply.build());
        let moved = world.movement();
        assert!(!moved.contains_key("connections_created"), "{moved:?}");
    }
}

#[test]
fn a_vip_as_the_server_of_another_is_not_scheduled_a_second_time() {
    for site in Site::ALL {
        let other = site.host(1, 51, 80);
        let mut plan = plan_of(site, other);
        let mut second = plan_of(site, site.vip()).services.remove(0);
        second.vip = other;
        plan.services.push(second);
        let mut world = World::new(plan);
        let (verdict, _) = world.receive(0, &site.request(5000).build());
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&[
            "connection_misses 1, connections_created 1, 51.connections 1, 51.active 1, punt.rest 1",
            &format!("51.in_packets 1, 51.in_bytes {}", site.bytes()),
        ]);
        // Nor does a packet that claims to come from either VIP open anything at the other.
        for (from, to) in [(site.vip(), other), (other, site.vip())] {
            let packet = site.between(from, to).flags(SYN);
            let packet = packet.link(host_mac(site.client(0).ip()), port_mac(0));
            world.dropped(0, &packet, DropReason::MartianSource);
            world.moved(&["connection_misses 1, drop.martian_source 1"]);
        }
    }
}

/// Two boxes that hold each other's VIP for their server: each hop costs the packet one of its TTL, each
/// box has one connection, and the last one tells the sender.
#[test]
fn a_loop_over_two_boxes_costs_each_one_connection_and_ends() {
    let site = DR.udp();
    let box_of = |other: &str| {
        let mut plan = plan_of(site, endpoint(other));
        plan.services[0].serve = Serve::Always;
        plan.vips_local = false;
        World::new(plan)
    };
    let mut boxes = [box_of("10.0.1.51:80"), box_of("10.0.1.52:80")];
    let mut frame = site.request(5000).ttl(9).build();
    for hop in 0..9 {
        let (verdict, out) = boxes[hop % 2].receive(0, &frame);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        frame = out.data().to_vec();
        frame[..6].copy_from_slice(&port_mac(0).0);
    }
    assert_eq!((frame[23], frame[34]), (1, 11), "ICMP, time exceeded");
    for (world, host, packets, error) in [(0, 51, 5, 1), (1, 52, 4, 0)] {
        boxes[world].moved(&[&format!(
            "connection_misses 1, connections_created 1, connection_hits {}, {host}.connections 1, \
             {host}.inactive 1, {host}.in_packets {packets}, {host}.in_bytes {}, \
             icmp_time_exceeded {error}",
            packets - 1,
            packets * 28
        )]);
    }
}

/// A control connection through which the client's next byte is 101, the server's 201.
fn control(world: &mut World, client: SocketAddr, vip: SocketAddr, server: SocketAddr) {
    let to_vip = PacketBuilder::tcp(client, vip).link(host_mac(client.ip()), port_mac(0));
    world.sent(0, &to_vip.clone().flags(SYN).sequence(100, 0), 1);
    let answer = PacketBuilder::tcp(server, client)
        .link(host_mac(server.ip()), port_mac(1))
        .flags(SYN | ACK)
        .sequence(200, 101);
    world.sent(1, &answer, 0);
    world.sent(0, &to_vip.sequence(101, 201), 1);
    world.movement();
}

#[test]
fn absurd_ftp_commands_go_on_as_they_are_let_nobody_in_and_are_counted() {
    let (client, vip) = (endpoint("10.0.1.100:40000"), endpoint("10.0.1.150:21"));
    let server = endpoint("10.0.2.11:21");
    let service = ServicePlan::new(
        Protocol::Tcp,
        "10.0.1.150:21",
        Forward::Nat,
        &["10.0.2.11:21"],
    );
    let mut world = World::new(Plan::new(vec![service]));
    control(&mut world, client, vip, server);
    let long = format!("PORT {}\r\n", "1,".repeat(600));
    let lines = [
        ("PORT 10,0,1,101,19,136\r\n", 1),
        ("PORT 255,255,255,255,255,255\r\n", 1),
        ("PORT 0,0,0,0,0,0\r\n", 1),
        ("PORT 999,0,1,100,19,136\r\n", 1),
        ("PORT 10,0,1,100,0,22\r\n", 1),
        ("EPRT |1|10.0.1.101|6275|\r\n", 1),
        ("EPRT |1|10.0.1.100|99999999999999999999|\r\n", 1),
        ("EPRT |2|::ffff:10.0.1.100|6275|\r\n", 1),
        ("PORT\r\n", 1),
        // Too long to be any command: not even counted as one.
        (&*long, 0),
    ];
    let mut next = 101;
    for (line, refused) in lines {
        let packet = |to: SocketAddr| {
            PacketBuilder::tcp(client, to)
                .sequence(next, 201)
                .payload(line)
        };
        let sent = packet(vip).link(host_mac(client.ip()), port_mac(0));
        let out = world.sent(0, &sent, 1);
        let delivered = packet(server)
            .ttl(63)
            .link(port_mac(1), host_mac(server.ip()));
        assert_eq!(out, delivered.build(), "{line}");
        next += line.len() as u32;
        let bytes = 40 + line.len();
        world.moved(&[
            &format!("connection_hits 1, 11.in_packets 1, 11.in_bytes {bytes}"),
            &format!("ftp_refused {refused}"),
        ]);
    }
    // What the server claims of others is not put right for it, so that the client sees it.
    let ask = PacketBuilder::tcp(client, vip).link(host_mac(client.ip()), port_mac(0));
    let mut sequence = 201;
    for line in [
        "227 (10,0,2,12,153,23)\r\n",
        "227 (10,0,2,110,153,23)\r\n",
        "229 (|||70000|)\r\n",
    ] {
        world.sent(
            0,
            &ask.clone().sequence(next, sequence).payload("PASV\r\n"),
            1,
        );
        next += 6;
        world.movement();
        let packet = |from: SocketAddr| {
            PacketBuilder::tcp(from, client)
                .sequence(sequence, next)
                .payload(line)
        };
        let sent = packet(server).link(host_mac(server.ip()), port_mac(1));
        let out = world.sent(1, &sent, 0);
        let shown = packet(vip).ttl(63).link(port_mac(0), host_mac(client.ip()));
        assert_eq!(out, shown.build(), "{line}");
        sequence += line.len() as u32;
        let bytes = 40 + line.len();
        world.moved(&[&format!(
            "connection_hits 1, 11.out_packets 1, 11.out_bytes {bytes}, ftp_refused 1"
        )]);
    }
    // Nobody is expected.
    assert_eq!(world.connections().len(), 1);
    let data = PacketBuilder::tcp(endpoint("10.0.1.100:50000"), endpoint("10.0.1.150:39191"));
    let data = data.link(host_mac(client.ip()), port_mac(0)).flags(SYN);
    assert_eq!(world.verdict(0, &data), Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
}
