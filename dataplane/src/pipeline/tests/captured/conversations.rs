//! Whole conversations as a kernel director saw, listed and counted them (t3 section 1, t6).

use super::*;

/// Lines of `ipvsadm -lcn` as recorded, in any order.
#[track_caller]
fn listed(world: &mut World, recorded: &[&str]) {
    let words = |line: &&str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut wanted: Vec<_> = recorded.iter().map(words).collect();
    wanted.sort();
    assert_eq!(listing(world), wanted);
}

/// A segment as the client's end sees it, and its checksum there.
struct Segment {
    from_client: bool,
    id: u16,
    flags: u8,
    checksum: u16,
    sequence: (u32, u32),
    window: u16,
    options: Vec<u8>,
    payload: &'static str,
}

impl Segment {
    fn between(&self, from: SocketAddr, to: SocketAddr) -> PacketBuilder {
        let packet = PacketBuilder::tcp(from, to)
            .flags(self.flags)
            .sequence(self.sequence.0, self.sequence.1)
            .window(self.window)
            .tcp_options(&self.options)
            .payload(self.payload);
        match from {
            SocketAddr::V4(_) => packet.id(self.id).dont_fragment(),
            SocketAddr::V6(_) => packet,
        }
    }

    /// Takes it through the director, by NAT.
    fn replay(&self, world: &mut World, client: SocketAddr, vip: SocketAddr, server: SocketAddr) {
        if self.from_client {
            let seen = self.between(client, vip);
            assert_eq!(checksum(&seen, OF_TCP), self.checksum);
            let sent = world.sent(0, &seen.link(host_mac(client.ip()), port_mac(0)), 1);
            assert_eq!(sent[14..], bytes(&self.between(client, server).ttl(63)));
        } else {
            let seen = self.between(vip, client).ttl(63);
            assert_eq!(checksum(&seen, OF_TCP), self.checksum);
            let answer = self.between(server, client);
            let sent = world.sent(1, &answer.link(host_mac(server.ip()), port_mac(1)), 0);
            assert_eq!(sent[14..], bytes(&seen));
        }
    }
}

#[test]
fn two_servers_have_the_captured_connections_states_and_counts() {
    let mut plan = service(Protocol::Tcp, 80, Forward::Nat, "10.0.2.11:8080");
    plan.reals.push(RealPlan::new("10.0.2.12:8080"));
    let mut world = World::new(Plan::new(vec![plan]));
    let vip = end(VIP, 80);
    let second = end("10.0.2.12", 8080);
    let stamps = options(0, 0);
    let from_client = |port: u16, flags: u8| {
        let segment = PacketBuilder::tcp(end(CLIENT, port), vip)
            .link(host_mac(ip(CLIENT)), port_mac(0))
            .flags(flags);
        segment.tcp_options(if flags == SYN {
            &[0; 20][..]
        } else {
            &stamps[..]
        })
    };
    let from_server = |host: &str, port: u16, flags: u8| {
        let segment = PacketBuilder::tcp(end(host, 8080), end(CLIENT, port))
            .link(host_mac(ip(host)), port_mac(1))
            .flags(flags);
        segment.tcp_options(if flags == SYN | ACK {
            &[0; 20][..]
        } else {
            &stamps[..]
        })
    };
    // The client's view of the first connection: it goes to the server that was added last.
    let (mine, theirs) = (1_758_565_700, 2_916_719_239);
    let captured = [
        (
            true,
            37867,
            SYN,
            0x2c1e,
            (mine - 1, 0),
            64240,
            syn_options(4_277_676_779, 0),
            "",
        ),
        (
            false,
            0,
            SYN | ACK,
            0xe8c1,
            (theirs - 1, mine),
            65160,
            syn_options(414_506_654, 4_277_676_779),
            "",
        ),
        (
            true,
            37868,
            ACK,
            0x140e,
            (mine, theirs),
            502,
            options(4_277_676_798, 414_506_654),
            "",
        ),
        (
            false,
            17480,
            PSH | ACK,
            0x6f6c,
            (theirs, mine),
            510,
            options(414_506_670, 4_277_676_798),
            "rs2\n",
        ),
    ];
    for (from_client, id, flags, checksum, sequence, window, options, payload) in captured {
        let segment = Segment {
            from_client,
            id,
            flags,
            checksum,
            sequence,
            window,
            options,
            payload,
        };
        segment.replay(&mut world, end(CLIENT, 57874), vip, second);
    }
    world.sent(0, &from_client(57874, ACK), 1);
    // The second, to the other server.
    for flags in [SYN, ACK] {
        let sent = world.sent(0, &from_client(57886, flags), 1);
        assert_eq!(server_of(&sent), 11);
        if flags == SYN {
            world.sent(1, &from_server(SERVER, 57886, SYN | ACK), 0);
        }
    }
    let greeting = from_server(SERVER, 57886, PSH | ACK).payload("rs1\n");
    world.sent(1, &greeting, 0);
    world.sent(0, &from_client(57886, ACK), 1);
    world.sleep(200);
    listed(
        &mut world,
        &[
            "TCP 14:59  ESTABLISHED 10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080",
            "TCP 14:59  ESTABLISHED 10.0.1.100:57874   10.0.1.50:80       10.0.2.12:8080",
        ],
    );
    // -- client closes conn 0 (client FIN first)
    world.sent(0, &from_client(57874, FIN | ACK), 1);
    world.sent(1, &from_server("10.0.2.12", 57874, FIN | ACK), 0);
    world.sent(0, &from_client(57874, ACK), 1);
    world.sleep(200);
    listed(
        &mut world,
        &[
            "TCP 14:59  ESTABLISHED 10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080",
            "TCP 01:59  TIME_WAIT   10.0.1.100:57874   10.0.1.50:80       10.0.2.12:8080",
        ],
    );
    // -- conn 1: server closes first
    world.sleep(700);
    world.sent(0, &from_client(57886, PSH | ACK).payload("close"), 1);
    world.sent(1, &from_server(SERVER, 57886, ACK), 0);
    world.sent(1, &from_server(SERVER, 57886, FIN | ACK), 0);
    world.sent(0, &from_client(57886, ACK), 1);
    world.sleep(200);
    listed(
        &mut world,
        &[
            "TCP 01:59  FIN_WAIT    10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080",
            "TCP 01:58  TIME_WAIT   10.0.1.100:57874   10.0.1.50:80       10.0.2.12:8080",
        ],
    );
    world.sent(0, &from_client(57886, FIN | ACK), 1);
    world.sent(1, &from_server(SERVER, 57886, ACK), 0);
    world.sleep(200);
    listed(
        &mut world,
        &[
            "TCP 01:59  TIME_WAIT   10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080",
            "TCP 01:58  TIME_WAIT   10.0.1.100:57874   10.0.1.50:80       10.0.2.12:8080",
        ],
    );
    // -- RST
    world.sleep(800);
    world.sent(0, &from_client(57890, SYN), 1);
    world.sent(1, &from_server("10.0.2.12", 57890, SYN | ACK), 0);
    world.sent(0, &from_client(57890, ACK), 1);
    let greeting = from_server("10.0.2.12", 57890, PSH | ACK).payload("rs2\n");
    world.sent(1, &greeting, 0);
    world.sent(0, &from_client(57890, ACK), 1);
    world.sent(0, &from_client(57890, RST | ACK), 1);
    world.sleep(200);
    listed(
        &mut world,
        &[
            "TCP 00:09  CLOSE       10.0.1.100:57890   10.0.1.50:80       10.0.2.12:8080",
            "TCP 01:58  TIME_WAIT   10.0.1.100:57886   10.0.1.50:80       10.0.2.11:8080",
            "TCP 01:57  TIME_WAIT   10.0.1.100:57874   10.0.1.50:80       10.0.2.12:8080",
        ],
    );
    // ipvsadm -Ln --stats, by server: connections, packets and bytes in and out; -Ln: none active.
    world.moved(&[
        "connection_misses 3, connections_created 3, connection_hits 22",
        "11.connections 1, 11.in_packets 6, 11.out_packets 5, 11.in_bytes 325, 11.out_bytes 272",
        "12.connections 2, 12.in_packets 9, 12.out_packets 5, 12.in_bytes 484, 12.out_bytes 284",
        "11.inactive 1, 12.inactive 2",
    ]);
}

#[test]
fn an_ipv6_conversation_by_nat_is_translated_listed_and_counted_as_captured() {
    let of = |protocol: Protocol, port: u16, real: &str| {
        let vip = end("fd00:1::50", port).to_string();
        ServicePlan::new(protocol, &vip, Forward::Nat, &[real])
    };
    let mut world = World::new(Plan::new(vec![
        of(Protocol::Tcp, 80, "[fd00:2::11]:8080"),
        of(Protocol::Udp, 53, "[fd00:2::11]:5353"),
    ]));
    let client = |port: u16| end("fd00:1::100", port);
    let vip = |port: u16| end("fd00:1::50", port);
    let server = end("fd00:2::11", 8080);
    let first = |value: u32, echo: u32| {
        let mut options = syn_options(value, echo);
        options[3] = 0xa0;
        options
    };
    world.sent(0, &datagram(client(51691), vip(53), 0, "x"), 1);
    world.sleep(3000);
    let (mine, theirs) = (192_397_222, 2_589_540_104);
    let captured = [
        (
            true,
            SYN,
            0xd791,
            (mine - 1, 0),
            64800,
            first(1_113_774_996, 0),
            "",
        ),
        (
            false,
            SYN | ACK,
            0x4473,
            (theirs - 1, mine),
            64260,
            first(1_017_675_552, 1_113_774_996),
            "",
        ),
        (
            true,
            ACK,
            0x6c2c,
            (mine, theirs),
            507,
            options(1_113_775_005, 1_017_675_552),
            "",
        ),
        (
            false,
            PSH | ACK,
            0x1446,
            (theirs, mine),
            503,
            options(1_017_675_577, 1_113_775_005),
            "six fd00:1::100",
        ),
        (
            true,
            ACK,
            0x6bee,
            (mine, theirs + 15),
            507,
            options(1_113_775_027, 1_017_675_577),
            "",
        ),
        (
            false,
            FIN | ACK,
            0x6bea,
            (theirs + 15, mine),
            503,
            options(1_017_675_584, 1_113_775_027),
            "",
        ),
        (
            true,
            ACK,
            0x6bb7,
            (mine, theirs + 16),
            507,
            options(1_113_775_074, 1_017_675_584),
            "",
        ),
        (
            true,
            FIN | ACK,
            0x5ffb,
            (mine, theirs + 16),
            507,
            options(1_113_778_077, 1_017_675_584),
            "",
        ),
        (
            false,
            ACK,
            0x541b,
            (theirs + 16, mine + 1),
            503,
            options(1_017_678_628, 1_113_778_077),
            "",
        ),
    ];
    for (from_client, flags, checksum, sequence, window, options, payload) in captured {
        let segment = Segment {
            from_client,
            id: 0,
            flags,
            checksum,
            sequence,
            window,
            options,
            payload,
        };
        segment.replay(&mut world, client(36522), vip(80), server);
    }
    world.sent(0, &datagram(client(45199), vip(53), 0, "x"), 1);
    world.sleep(2500);
    listed(
        &mut world,
        &[
            "UDP 04:57  UDP         [fd00:1::100]:45199 [fd00:1::50]:53    [fd00:2::11]:5353",
            "TCP 01:57  TIME_WAIT   [fd00:1::100]:36522 [fd00:1::50]:80    [fd00:2::11]:8080",
            "UDP 04:54  UDP         [fd00:1::100]:51691 [fd00:1::50]:53    [fd00:2::11]:5353",
        ],
    );
    // -Ln: [fd00:2::11]:8080 0 active, 1 inactive; :5353 0 and 2.
    let moved = world.movement();
    assert_eq!((moved.get("11.active"), moved["11.inactive"]), (None, 3));
    assert_eq!((moved["11.in_packets"], moved["11.out_packets"]), (7, 4));
}

#[test]
fn too_big_for_a_tunnel_is_told_by_the_captured_error() {
    let tunnel = Tunnel {
        kind: TunnelKind::Gre,
        checksum: true,
    };
    let plan = service(Protocol::Udp, 99, Forward::Tunnel(tunnel), "10.0.2.12:99");
    let mut world = World::new(Plan::new(vec![plan]));
    let packet = datagram(end(CLIENT, 45779), end(VIP, 99), 0, vec![b'z'; 1472]);
    assert_eq!(packet.build().len(), 14 + 1500);
    let sent = world.sent(0, &packet, 0);
    // From the VIP, precedence 0xc0, TTL 64, 576 bytes; the quoted packet has a TTL of 63.
    let wanted = icmp((VIP, CLIENT), (3, 4), &packet.ttl(63), 576).icmp_rest([0, 0, 5, 0xc0]);
    assert_eq!(sent[14..], bytes(&wanted));
    assert_eq!(
        (sent.len(), sent[22], sent[14 + 28 + 8]),
        (14 + 576, 64, 63)
    );
    assert_eq!(world.movement()["icmp_too_big"], 1);
}
