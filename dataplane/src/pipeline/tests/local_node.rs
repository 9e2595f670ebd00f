//! Real servers on this very box, and servers that are the VIP itself: delivered, answered, bounded.

use super::*;
use crate::buffer::{Frame, PacketBuffer};
use crate::packet::builder::verify;
use crate::packet::fragment::fragment_ipv4;
use crate::packet::fragment6::fragment_ipv6;
use crate::packet::{Offloads, Parsed, parse};
use crate::pipeline::{FROM_STACK, Pass};
use crate::service::{Tunnel, TunnelKind};
use crate::verdict::{DropReason, PortId, PuntClass, Verdict, WorkerId};
use std::net::IpAddr;

/// A frame that the Linux stack sends on `port`.
fn from_linux(world: &mut world::World, port: u8, packet: &PacketBuilder) -> (Verdict, Frame) {
    let mut frame = Frame::from_bytes(&packet.build());
    frame.port = u16::from(port) | FROM_STACK;
    let verdict = world.process_marked(&mut frame, Pass::First);
    (verdict, frame)
}

fn plan(site: Site, real: SocketAddr) -> Plan {
    let vip = site.vip().to_string();
    let real = real.to_string();
    Plan::new(vec![ServicePlan::new(
        site.protocol,
        &vip,
        site.forward,
        &[&real],
    )])
}

#[test]
fn with_nat_the_stack_gets_its_own_address_and_port_and_its_answers_are_the_vips() {
    for site in [NAT, NAT6, NAT.udp(), NAT6.udp()] {
        let own = site.host(2, 1, 8080);
        let mut world = World::new(plan(site, own));
        let (verdict, frame) = world.receive(0, &site.request(5000).build());
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        // No hop is taken off: it goes nowhere.
        let expected = site
            .between(site.client(5000), own)
            .link(host_mac(site.client(0).ip()), port_mac(0))
            .flags(SYN);
        assert_eq!(frame.data(), expected.build());
        let active = if site.protocol == Protocol::Tcp {
            "active"
        } else {
            "inactive"
        };
        world.moved(&[
            "connection_misses 1, connections_created 1, 1.connections 1, punt.rest 1",
            &format!("1.{active} 1, 1.in_packets 1, 1.in_bytes {}", site.bytes()),
        ]);

        let reply = site
            .between(own, site.client(5000))
            .link(port_mac(0), host_mac(site.client(0).ip()))
            .flags(SYN | ACK);
        let (verdict, frame) = from_linux(&mut world, 0, &reply);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(frame.data(), site.returned(5000).ttl(64).build());
        world.moved(&[&site.answered(1)]);
    }
}

#[test]
fn with_dr_and_tunnels_the_stack_gets_the_packet_as_it_is() {
    let tunnelled = |site: Site| Site {
        forward: Forward::Tunnel(Tunnel {
            kind: TunnelKind::Gre,
            checksum: true,
        }),
        ..site
    };
    for site in [DR, DR6, tunnelled(DR), tunnelled(DR6)] {
        for real in [site.host(1, 1, 80), site.vip()] {
            let mut world = World::new(plan(site, real));
            for _ in 0..2 {
                let (verdict, frame) = world.receive(0, &site.request(5000).build());
                assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
                assert_eq!(frame.data(), site.request(5000).build());
            }
            // What the stack answers is the VIP's already.
            let reply = site.returned(5000).ttl(64);
            let (verdict, frame) = from_linux(&mut world, 0, &reply);
            assert_eq!(verdict, Verdict::Tx(PortId(0)));
            assert_eq!(frame.data(), reply.build());
            world.movement();
        }
    }
}

/// Port unreachable between two hosts, quoting a packet.
fn unreachable(
    site: Site,
    from: SocketAddr,
    to: SocketAddr,
    quoted: &PacketBuilder,
) -> PacketBuilder {
    let (kind, code) = match site.family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    };
    PacketBuilder::icmp(from.ip(), to.ip(), kind, code).payload(quoted.build().split_off(14))
}

#[test]
fn what_the_stack_says_of_a_datagram_to_a_closed_port_reaches_the_client_as_the_vips() {
    for site in [NAT.udp(), NAT6.udp()] {
        let own = site.host(2, 1, 8080);
        let client = site.client(5000);
        let mut world = World::new(plan(site, own));
        world.receive(0, &site.request(5000).build());
        world.movement();
        let to_client = |packet: PacketBuilder| packet.link(port_mac(0), host_mac(client.ip()));
        let error = to_client(unreachable(site, own, client, &site.between(client, own)));
        let (verdict, frame) = from_linux(&mut world, 0, &error);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        // "10.0.1.50 port 80 unreachable"; it takes no hop here.
        let wanted = unreachable(site, site.vip(), client, &site.between(client, site.vip()));
        assert_eq!(frame.data(), to_client(wanted).build());
        let bytes = error.build().len() - 14;
        world.moved(&[&format!(
            "icmp_related 1, 1.out_packets 1, 1.out_bytes {bytes}"
        )]);

        // Of no connection, to somebody else, damaged: Linux's own business.
        let other = unreachable(site, own, client, &site.between(site.client(9), own));
        let foreign = site.client(5000);
        let foreign = SocketAddr::new(site.host(1, 101, 0).ip(), foreign.port());
        let misled = unreachable(site, own, foreign, &site.between(client, own));
        let mut frames = [other, misled]
            .map(|packet| to_client(packet).build())
            .to_vec();
        let mut damaged = error.build();
        *damaged.last_mut().unwrap() ^= 1;
        frames.push(damaged);
        for bytes in frames {
            let mut frame = Frame::from_bytes(&bytes);
            frame.port = FROM_STACK;
            let verdict = world.process_marked(&mut frame, Pass::First);
            assert_eq!(verdict, Verdict::Tx(PortId(0)));
            assert_eq!(frame.data(), bytes);
        }
        world.moved(&[]);
    }
}

#[test]
fn the_clients_error_reaches_the_stack_as_one_about_its_own_answer() {
    for site in [NAT.udp(), NAT6.udp()] {
        let own = site.host(2, 1, 8080);
        let client = site.client(5000);
        let mut world = World::new(plan(site, own));
        world.receive(0, &site.request(5000).build());
        world.movement();
        let from_client = |packet: PacketBuilder| packet.link(host_mac(client.ip()), port_mac(0));
        let error = unreachable(site, client, site.vip(), &site.between(site.vip(), client));
        let (verdict, frame) = world.receive(0, &from_client(error).build());
        assert_eq!(verdict, Verdict::Punt(PuntClass::Icmp));
        let wanted = unreachable(site, client, own, &site.between(own, client));
        assert_eq!(frame.data(), from_client(wanted).build());
        let moved = world.movement();
        assert_eq!((moved["icmp_related"], moved["1.in_packets"]), (1, 1));
    }
}

#[test]
fn what_the_stack_says_finds_the_worker_that_owns_the_connection() {
    let site = NAT.udp();
    let own = site.host(2, 1, 8080);
    let mut first = world::World::of_workers(plan(site, own), WorkerId(0), 2);
    let mut second = first.beside(WorkerId(1));
    let mut redirected = 0;
    for port in 5000..5032 {
        let client = site.client(port);
        let request = site.request(port).build();
        if let Verdict::Redirect(_) = first.receive(0, &request).0 {
            second.redirected(0, &request);
        }
        let error = unreachable(site, own, client, &site.between(client, own))
            .link(port_mac(0), host_mac(client.ip()));
        let (mut verdict, mut frame) = from_linux(&mut first, 0, &error);
        if verdict == Verdict::Redirect(WorkerId(1)) {
            redirected += 1;
            verdict = second.process_marked(&mut frame, Pass::Redirected);
        }
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        assert_eq!(verify(frame.data()), Ok(()));
        let IpAddr::V4(vip) = site.vip().ip() else {
            unreachable!("IPv4");
        };
        assert_eq!(frame.data()[26..30], vip.octets());
    }
    assert!((4..28).contains(&redirected), "{redirected}");
}

#[test]
fn all_else_the_stack_sends_passes_untouched() {
    let mut world = World::new(plan(NAT, NAT.host(2, 1, 8080)));
    let client = NAT.client(5000);
    let link = |packet: PacketBuilder| packet.link(port_mac(0), host_mac(client.ip()));
    for packet in [
        // Of the server's port, but no connection's; of another port; no ports; a used-up TTL.
        link(PacketBuilder::tcp(NAT.host(2, 1, 8080), client)),
        link(PacketBuilder::udp(NAT.host(1, 1, 53), client)).ttl(1),
        link(PacketBuilder::icmp(NAT.vip().ip(), client.ip(), 0, 0)),
        link(PacketBuilder::raw(NAT.vip().ip(), client.ip(), 112)).ttl(255),
    ] {
        let (verdict, frame) = from_linux(&mut world, 0, &packet);
        assert_eq!(verdict, Verdict::Tx(PortId(0)), "{packet:?}");
        assert_eq!(frame.data(), packet.build());
    }
    let mut arp = Frame::from_bytes(&[0xff; 60]);
    arp.port = FROM_STACK;
    assert_eq!(
        world.process_marked(&mut arp, Pass::First),
        Verdict::Tx(PortId(0))
    );
}

#[test]
fn an_answer_finds_its_connection_on_the_worker_that_owns_it() {
    let own = NAT.host(2, 1, 8080);
    let mut first = world::World::of_workers(plan(NAT, own), WorkerId(0), 2);
    let mut second = first.beside(WorkerId(1));
    let mut redirected = 0;
    for port in 5000..5032 {
        let request = NAT.request(port).build();
        let reply = PacketBuilder::tcp(own, NAT.client(port))
            .link(port_mac(0), host_mac(NAT.client(0).ip()))
            .flags(SYN | ACK);
        let owner = match first.receive(0, &request).0 {
            Verdict::Redirect(owner) => {
                second.redirected(0, &request);
                owner
            }
            _ => WorkerId(0),
        };
        // The inject ring leads to the first.
        let (verdict, mut frame) = from_linux(&mut first, 0, &reply);
        if owner == WorkerId(1) {
            redirected += 1;
            assert_eq!(verdict, Verdict::Redirect(owner));
            assert_eq!(frame.data(), reply.build());
            let verdict = second.process_marked(&mut frame, Pass::Redirected);
            assert_eq!(verdict, Verdict::Tx(PortId(0)));
        } else {
            assert_eq!(verdict, Verdict::Tx(PortId(0)));
        }
        assert_eq!(verify(frame.data()), Ok(()));
        assert_eq!(frame.data(), NAT.returned(port).ttl(64).build());
    }
    assert!((4..28).contains(&redirected), "{redirected}");
}

/// Two boxes whose services point at each other's VIP: each hop costs the packet one of its TTL, so
/// the loop ends, and the last one tells the sender.
#[test]
fn a_loop_between_two_directors_ends_with_the_ttl() {
    let box_of = |vip: &str, other: &str| {
        let mut plan = Plan::new(vec![ServicePlan::new(
            Protocol::Udp,
            vip,
            Forward::Dr,
            &[other],
        )]);
        plan.services[0].serve = crate::service::Serve::Always;
        plan.vips_local = false;
        World::new(plan)
    };
    // Both VIPs are the same service on both; each believes the other to be its server.
    let mut boxes = [
        box_of("10.0.1.50:80", "10.0.1.51:80"),
        box_of("10.0.1.50:80", "10.0.1.52:80"),
    ];
    let client = host_mac("10.0.1.100".parse().unwrap());
    let mut frame = DR.udp().request(5000).link(client, port_mac(0)).build();
    let mut hops = 0;
    loop {
        let (verdict, out) = boxes[hops % 2].receive(0, &frame);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        frame = out.data().to_vec();
        if frame[23] == 1 {
            break;
        }
        hops += 1;
        frame[..6].copy_from_slice(&port_mac(0).0);
    }
    assert_eq!((hops, frame[34]), (63, 11));
    for world in &mut boxes {
        world.movement();
    }
}

/// A packet as it crosses a link of 1500 bytes.
fn pieces(packet: &PacketBuilder) -> Vec<Vec<u8>> {
    let bytes = packet.build();
    let Ok(Parsed::Ip(headers)) = parse(&bytes, Offloads::default()) else {
        panic!("{packet:?}");
    };
    let mut first = Frame::from_bytes(&bytes);
    let mut later = Vec::new();
    let alloc = || Some(Frame::with_tailroom(&[], 2048));
    let emit = |piece: Frame| later.push(piece.data().to_vec());
    let count = match headers.family {
        Family::V4 => fragment_ipv4(&mut first, &headers, 1500, alloc, emit),
        Family::V6 => fragment_ipv6(&mut first, &headers, 1500, 7, alloc, emit),
    };
    assert_eq!(count, Ok(3));
    later.insert(0, first.data().to_vec());
    later
}

/// The director's own server echoes 4000 bytes: no fragment leaves with the server's address.
#[test]
fn a_large_answer_of_the_stack_leaves_as_the_vips_in_all_its_fragments() {
    for site in [NAT.udp(), NAT6.udp()] {
        let own = site.host(2, 1, 8080);
        let mut first = world::World::of_workers(plan(site, own), WorkerId(0), 2);
        let mut second = first.beside(WorkerId(1));
        let mut redirected = 0;
        for port in 5000..5032 {
            let id = port - 4000;
            if let Verdict::Redirect(_) = first.receive(0, &site.request(port).build()).0 {
                second.redirected(0, &site.request(port).build());
            }
            let large = |packet: PacketBuilder| packet.payload(vec![port as u8; 4000]).id(id);
            let reply = large(site.between(own, site.client(port)))
                .link(port_mac(0), host_mac(site.client(0).ip()));
            let wanted = pieces(&large(site.returned(port)).ttl(64));
            for (piece, wanted) in pieces(&reply).into_iter().zip(wanted) {
                let mut frame = Frame::from_bytes(&piece);
                frame.port = FROM_STACK;
                let mut verdict = first.process_marked(&mut frame, Pass::First);
                if verdict == Verdict::Redirect(WorkerId(1)) {
                    redirected += 1;
                    assert_eq!(frame.data(), piece);
                    verdict = second.process_marked(&mut frame, Pass::Redirected);
                }
                assert_eq!(verdict, Verdict::Tx(PortId(0)));
                assert_eq!(frame.data(), wanted);
            }
        }
        assert!((12..84).contains(&redirected), "{redirected}");
        assert_eq!(redirected % 3, 0, "a datagram goes one way");
        let moved = [first.movement(), second.movement()];
        let sum = |name| {
            moved
                .iter()
                .filter_map(|moved| moved.get(name))
                .sum::<i64>()
        };
        assert_eq!((sum("1.out_packets"), sum("connection_hits")), (96, 96));
    }
}

#[test]
fn fragments_of_the_stack_that_are_no_answer_pass_and_those_nobody_can_tell_are_dropped() {
    for site in [NAT.udp(), NAT6.udp()] {
        let own = site.host(2, 1, 8080);
        let mut world = World::new(plan(site, own));
        let from_stack = |world: &mut World, bytes: &[u8]| {
            let mut frame = Frame::from_bytes(bytes);
            frame.port = FROM_STACK;
            let verdict = world.process_marked(&mut frame, Pass::First);
            assert_eq!(frame.data(), bytes);
            verdict
        };
        let to_client = |packet: PacketBuilder| {
            packet
                .link(port_mac(0), host_mac(site.client(0).ip()))
                .payload([7; 4000])
        };
        let client = site.client(5000);
        let echo = if site.family == Family::V4 { 0 } else { 129 };
        for other in [
            // Of the server's address and port, but of no connection; of another address; a ping.
            to_client(site.between(own, client)).id(1),
            to_client(site.between(site.host(1, 1, 53), client)).id(2),
            to_client(PacketBuilder::icmp(own.ip(), client.ip(), echo, 0)).id(3),
        ] {
            for piece in pieces(&other) {
                assert_eq!(from_stack(&mut world, &piece), Verdict::Tx(PortId(0)));
            }
        }
        // Its first fragment has not been seen. (Of IPv6 all have the same identification here.)
        let answer = pieces(&to_client(site.between(own, client)).id(9));
        if site.family == Family::V4 {
            let reason = DropReason::Fragment;
            assert_eq!(from_stack(&mut world, &answer[1]), Verdict::Drop(reason));
            world.moved(&["drop.fragment 1"]);
        }
        // Forgotten after a while.
        assert_eq!(from_stack(&mut world, &answer[0]), Verdict::Tx(PortId(0)));
        world.sleep(4000);
        world.expire();
        let reason = DropReason::Fragment;
        assert_eq!(from_stack(&mut world, &answer[1]), Verdict::Drop(reason));
        world.moved(&["drop.fragment 1"]);
    }
}
