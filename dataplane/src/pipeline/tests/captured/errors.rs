//! ICMP errors a kernel director sends and translates (t6, t7), over IPv4 and IPv6.

use super::*;

#[test]
fn unreachable_servers_are_told_by_the_captured_errors() {
    let plan = service(Protocol::Tcp, 88, Forward::Nat, "192.0.2.9:88");
    let mut world = World::new(Plan::new(vec![plan]));
    let vip = end(VIP, 88);
    // No route: at once, quoting the packet as it came.
    let packet = syn(end(CLIENT, 41588), vip, 1666, 1_477_865_555, 1_538_968_200);
    assert_eq!(checksum(&packet, OF_TCP), 0xa500);
    let sent = world.sent(0, &packet, 0);
    assert_eq!(
        sent[14..],
        bytes(&icmp((VIP, CLIENT), (3, 1), &packet, 576))
    );
    assert_eq!(sent.len(), 14 + 88);
    // No answer to ARP: once for each packet that waited, a hop further.
    world.edit(|plan| {
        plan.services[0].reals = vec![RealPlan::new("10.0.2.77:88")];
        plan.unknown = vec![ip("10.0.2.77")];
    });
    let stamps = [
        (27010, 1_900_976_970, 0xae73),
        (27011, 1_900_977_979, 0xaa82),
        (27012, 1_900_979_003, 0xa682),
    ];
    let waiting = stamps.map(|(id, stamp, sum)| {
        let packet = syn(end(CLIENT, 41594), vip, id, 3_761_567_845, stamp);
        assert_eq!(checksum(&packet, OF_TCP), sum);
        let (verdict, frame) = world.receive(0, &packet.build());
        let neighbour = Neighbour {
            port: PortId(1),
            address: ip("10.0.2.77"),
        };
        assert_eq!(verdict, Verdict::Wait(neighbour));
        (packet, frame)
    });
    for (packet, mut frame) in waiting {
        let verdict = world.retry(&mut frame, Outcome::Failed);
        assert_eq!(verdict, Verdict::Tx(PortId(0)));
        let wanted = icmp((VIP, CLIENT), (3, 1), &packet.ttl(63), 576);
        assert_eq!(frame.data()[14..], bytes(&wanted));
    }
    let known = listing(&mut world);
    assert_eq!(
        known,
        [
            "TCP 01:00 SYN_RECV 10.0.1.100:41588 10.0.1.50:88 192.0.2.9:88",
            "TCP 01:00 SYN_RECV 10.0.1.100:41594 10.0.1.50:88 10.0.2.77:88",
        ]
    );
    let moved = world.movement();
    assert_eq!((moved["9.active"], moved["77.active"]), (1, 1));
    assert_eq!(moved["icmp_host_unreachable"], 4);
}

const CLIENT6: &str = "fd00:1::100";
const VIP6: &str = "fd00:1::50";
const SERVER6: &str = "fd00:2::11";

fn service6(port: u16, reals: &[&str]) -> ServicePlan {
    let vip = end(VIP6, port).to_string();
    ServicePlan::new(Protocol::Udp, &vip, Forward::Nat, reals)
}

#[test]
fn ipv6_clients_get_the_captured_errors_and_replies() {
    let services = vec![
        service6(53, &["[fd00:2::11]:5353"]),
        service6(54, &[]),
        ServicePlan {
            protocol: Protocol::Tcp,
            ..service6(80, &["[fd00:2::11]:8080"])
        },
    ];
    let mut world = World::new(Plan::new(services));
    // No server for port 54; hop limit 1.
    for (port, kind, limit) in [(54, (1, 4), 64), (53, (3, 0), 1)] {
        let packet = datagram(end(CLIENT6, 45199), end(VIP6, port), 0, "x").ttl(limit);
        let sent = world.sent(0, &packet, 0);
        assert_eq!(
            sent[14..],
            bytes(&icmp((VIP6, CLIENT6), kind, &packet, 1280))
        );
        assert_eq!(sent[18..20], [0, 57]);
    }
    // The reply of the captured handshake.
    let (client, vip, server) = (end(CLIENT6, 36522), end(VIP6, 80), end(SERVER6, 8080));
    let mss = |stamps: (u32, u32)| {
        let mut options = syn_options(stamps.0, stamps.1);
        options[3] = 0xa0;
        options
    };
    let request = PacketBuilder::tcp(client, vip)
        .link(host_mac(client.ip()), port_mac(0))
        .flags(SYN)
        .sequence(192_397_221, 0)
        .window(64800)
        .tcp_options(&mss((1_113_774_996, 0)));
    assert_eq!(checksum(&request, OF_TCP), 0xd791);
    world.sent(0, &request, 1);
    let reply = |from: SocketAddr| {
        PacketBuilder::tcp(from, client)
            .flags(SYN | ACK)
            .sequence(2_589_540_103, 192_397_222)
            .window(64260)
            .tcp_options(&mss((1_017_675_552, 1_113_774_996)))
    };
    let sent = world.sent(
        1,
        &reply(server).link(host_mac(server.ip()), port_mac(1)),
        0,
    );
    let wanted = reply(vip).ttl(63);
    assert_eq!(checksum(&wanted, OF_TCP), 0x4473);
    assert_eq!(sent[14..], bytes(&wanted));
    world.movement();
}

#[test]
fn errors_of_nat_servers_are_translated_as_captured_and_over_ipv6_too() {
    let plan = service(Protocol::Udp, 53, Forward::Nat, "10.0.2.11:5353");
    let mut world = World::new(Plan::new(vec![plan, service6(53, &["[fd00:2::11]:5353"])]));
    let captured = [
        (43956, 36895, 63426, 0xc55c, 0xafcf),
        (36754, 13229, 63651, 0xe17e, 0xcbf1),
        (59087, 43714, 63678, 0x8a41, 0x74b4),
    ];
    for (port, id, error_id, before, after) in captured {
        let packet = |to: SocketAddr| datagram(end(CLIENT, port), to, id, "x");
        let arrives = packet(end(VIP, 53));
        assert_eq!(checksum(&arrives, OF_UDP), before);
        let delivered = packet(end(SERVER, 5353)).ttl(63);
        assert_eq!(checksum(&delivered, OF_UDP), after);
        assert_eq!(world.sent(0, &arrives, 1)[14..], bytes(&delivered));
        let error = icmp((SERVER, CLIENT), (3, 3), &delivered, 576).id(error_id);
        let sent = world.sent(1, &error.link(host_mac(ip(SERVER)), port_mac(1)), 0);
        let wanted = icmp((VIP, CLIENT), (3, 3), &arrives.ttl(63), 576);
        assert_eq!(sent[14..], bytes(&wanted.id(error_id).ttl(63)));
    }
    // As long as the kernel's own quotes: 57 and 1240 bytes of ICMPv6.
    for (port, data, before, after, length) in [
        (37027, vec![b'x'], 0xfbaf, 0xe739, 57),
        (59848, vec![b'x'; 1300], 0x2e83, 0x1a0d, 1240),
    ] {
        let packet = |to: SocketAddr| datagram(end(CLIENT6, port), to, 0, data.clone());
        let arrives = packet(end(VIP6, 53));
        assert_eq!(checksum(&arrives, OF_UDP), before);
        let delivered = packet(end(SERVER6, 5353)).ttl(63);
        assert_eq!(checksum(&delivered, OF_UDP), after);
        assert_eq!(world.sent(0, &arrives, 1)[14..], bytes(&delivered));
        let error = icmp((SERVER6, CLIENT6), (1, 4), &delivered, 1280);
        let sent = world.sent(1, &error.link(host_mac(ip(SERVER6)), port_mac(1)), 0);
        let wanted = icmp((VIP6, CLIENT6), (1, 4), &arrives.ttl(63), 1280).ttl(63);
        assert_eq!(sent[14..], bytes(&wanted));
        assert_eq!(usize::from(sent[18]) << 8 | usize::from(sent[19]), length);
        assert_eq!(verify(&sent), Ok(()));
    }
    assert_eq!(world.movement()["icmp_related"], 5);
}

#[test]
fn packet_too_big_is_told_by_the_captured_error() {
    let mut plan = Plan::new(vec![service6(53, &["[fd00:2::11]:5353"])]);
    plan.mtu[1] = 1280;
    let mut world = World::new(plan);
    let packet = datagram(end(CLIENT6, 54327), end(VIP6, 53), 0, vec![b'x'; 1400]);
    assert_eq!(checksum(&packet, OF_UDP), 0xbbc4);
    let sent = world.sent(0, &packet, 0);
    let wanted = icmp((VIP6, CLIENT6), (2, 0), &packet.ttl(63), 1280);
    assert_eq!(sent[14..], bytes(&wanted.icmp_rest([0, 0, 5, 0])));
    assert_eq!(sent[18..20], 1240_u16.to_be_bytes());
    assert_eq!(world.movement()["icmp_too_big"], 1);
}
