//! Packets, states and counters captured on a kernel director, packet by packet through the pipeline:
//! the same bytes must leave. What no two directors have alike is left out: link addresses, the
//! identification of ICMP errors of our own (the kernel counts, we send 0), IPv6 flow labels of ours.
//!
//! Where each section of the recordings is tested:
//!
//! | recording | section | tests |
//! |---|---|---|
//! | t2 | sequences | `scheduler::tests::recorded_kernel_sequences_are_reproduced`, `scheduling`, [`super::recorded`] |
//! | | maps of sh and mh, thresholds, changes | [`super::recorded`], `scheduler::tests::hashing` |
//! | t3 | 1 NAT TCP | `nat_forwards_the_captured_connection_byte_for_byte_and_counts_it_as_the_kernel`, `two_servers_have_the_captured_connections_states_and_counts`, `lifetime` |
//! | | 2 DR TCP | `dr_forwards_the_captured_connection_and_counts_the_clients_half`, `lifetime` |
//! | | 3 no destination | `a_service_without_servers_sends_the_captured_errors` |
//! | | 4 UDP, ICMP of a server, fragments | `the_captured_error_of_a_server_reaches_the_client_as_captured`, `tests/fragments.rs` |
//! | | 5 fragmentation needed | `too_big_for_the_way_is_told_by_the_captured_error` |
//! | | 6 tunnels | `every_captured_tunnel_packet_leaves_this_director_too`, `too_big_for_a_tunnel_is_told_by_the_captured_error` |
//! | | 7 TTL 1 | `a_used_up_ttl_is_told_by_the_captured_error` |
//! | | 8 one packet | `one_packet::the_recorded_counters_of_one_packet_scheduling_come_out` |
//! | | 9 persistence, ports, mark | `persistence` |
//! | t4 | FTP | `ftp_connections_are_listed_as_captured`, `ftp` |
//! | | sync | not built yet |
//! | | weight 0, quiescent template, removed server | `a_persistent_client_of_a_quiesced_and_removed_server_sees_what_was_captured` |
//! | t6 | unreachable server | `unreachable_servers_are_told_by_the_captured_errors` |
//! | | IPv6 NAT, ICMPv6 | `an_ipv6_conversation_by_nat_is_translated_listed_and_counted_as_captured`, `ipv6_clients_get_the_captured_errors_and_replies` |
//! | t7 | ICMP of NAT servers, packet too big | `errors_of_nat_servers_are_translated_as_captured_and_over_ipv6_too`, `packet_too_big_is_told_by_the_captured_error` |
//!
//! In t7 the kernel drops ICMPv6 errors of NAT servers, a defect of its own (spec 2.6); they are
//! translated here. The other recordings (t1, t5) are of ipvsadm and keepalived.

mod conversations;
mod errors;
mod listings;

use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::builder::verify;
use crate::packet::tcp::PSH;
use crate::pipeline::Outcome;
use crate::pipeline::world::RealPlan;
use crate::service::{Orphans, Persistence, Tunnel, TunnelKind};
use crate::verdict::{DropReason, Neighbour, PortId, PuntClass, Verdict};
use std::net::IpAddr;

const CLIENT: &str = "10.0.1.100";
const VIP: &str = "10.0.1.50";
const SERVER: &str = "10.0.2.11";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn end(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

fn service(protocol: Protocol, port: u16, forward: Forward, real: &str) -> ServicePlan {
    ServicePlan::new(protocol, &end(VIP, port).to_string(), forward, &[real])
}

/// The options of a SYN and of other segments, by their time stamps.
fn syn_options(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options.extend([1, 3, 3, 7]);
    options
}

fn options(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options
}

/// A captured SYN.
fn syn(from: SocketAddr, to: SocketAddr, id: u16, sequence: u32, stamp: u32) -> PacketBuilder {
    PacketBuilder::tcp(from, to)
        .link(host_mac(from.ip()), port_mac(0))
        .id(id)
        .dont_fragment()
        .flags(SYN)
        .sequence(sequence, 0)
        .tcp_options(&syn_options(stamp, 0))
}

fn datagram(
    from: SocketAddr,
    to: SocketAddr,
    id: u16,
    payload: impl Into<Vec<u8>>,
) -> PacketBuilder {
    PacketBuilder::udp(from, to)
        .link(host_mac(from.ip()), port_mac(0))
        .id(id)
        .dont_fragment()
        .payload(payload)
}

/// An ICMP error with precedence, as Linux sends them; `most` bytes at most.
fn icmp(
    (from, to): (&str, &str),
    (kind, code): (u8, u8),
    quoted: &PacketBuilder,
    most: usize,
) -> PacketBuilder {
    let (from, to) = (ip(from), ip(to));
    let header = if from.is_ipv4() { 28 } else { 48 };
    let mut quote = quoted.build().split_off(14);
    quote.truncate(most - header);
    let error = PacketBuilder::icmp(from, to, kind, code).payload(quote);
    if from.is_ipv4() {
        error.tos(0xc0)
    } else {
        error
    }
}

/// The IP packet in a frame.
fn bytes(packet: &PacketBuilder) -> Vec<u8> {
    packet.build().split_off(14)
}

/// The transport checksum of a packet: of TCP, then of UDP.
fn checksum(packet: &PacketBuilder, at: usize) -> u16 {
    let packet = bytes(packet);
    let header = if packet[0] >> 4 == 4 { 20 } else { 40 };
    u16::from_be_bytes([packet[header + at], packet[header + at + 1]])
}

const OF_TCP: usize = 16;
const OF_UDP: usize = 6;

#[test]
fn nat_forwards_the_captured_connection_byte_for_byte_and_counts_it_as_the_kernel() {
    let plan = service(Protocol::Tcp, 80, Forward::Nat, "10.0.2.11:8080");
    let mut world = World::new(Plan::new(vec![plan]));
    let (client, vip, server) = (end(CLIENT, 57886), end(VIP, 80), end(SERVER, 8080));
    let (mine, theirs) = (45_442_931, 1_251_178_029);
    // What the server's capture shows: from the client or not, identification, flags, checksum.
    let packets = [
        (
            true,
            44341,
            SYN,
            0x1535,
            (mine - 1, 0),
            64240,
            syn_options(3_814_117_694, 0),
            "",
        ),
        (
            false,
            0,
            SYN | ACK,
            0x250e,
            (theirs - 1, mine),
            65160,
            syn_options(1_958_000_393, 3_814_117_694),
            "",
        ),
        (
            true,
            44342,
            ACK,
            0x506c,
            (mine, theirs),
            502,
            options(3_814_117_695, 1_958_000_393),
            "",
        ),
        (
            false,
            37810,
            PSH | ACK,
            0xacd6,
            (theirs, mine),
            510,
            options(1_958_000_397, 3_814_117_695),
            "rs1\n",
        ),
        (
            true,
            44343,
            ACK,
            0x5060,
            (mine, theirs + 4),
            502,
            options(3_814_117_699, 1_958_000_397),
            "",
        ),
        (
            true,
            44344,
            PSH | ACK,
            0x150f,
            (mine, theirs + 4),
            502,
            options(3_814_118_567, 1_958_000_397),
            "close",
        ),
        (
            false,
            37811,
            ACK,
            0x498b,
            (theirs + 4, mine + 5),
            510,
            options(1_958_001_265, 3_814_118_567),
            "",
        ),
    ];
    let state = |world: &mut World| {
        let row = &world.connections()[0];
        (row.state.name(), row.expires_ms / 1000)
    };
    for (from_client, id, flags, sum, (sequence, acknowledged), window, options, payload) in packets
    {
        let packet = |from: SocketAddr, to: SocketAddr| {
            PacketBuilder::tcp(from, to)
                .id(id)
                .dont_fragment()
                .flags(flags)
                .sequence(sequence, acknowledged)
                .window(window)
                .tcp_options(&options)
                .payload(payload)
        };
        if from_client {
            let seen = packet(client, server).ttl(63);
            assert_eq!(checksum(&seen, OF_TCP), sum);
            let sent = packet(client, vip).link(host_mac(client.ip()), port_mac(0));
            assert_eq!(world.sent(0, &sent, 1)[14..], bytes(&seen));
        } else {
            let seen = packet(server, client).link(host_mac(server.ip()), port_mac(1));
            assert_eq!(checksum(&seen, OF_TCP), sum);
            let sent = world.sent(1, &seen, 0);
            assert_eq!(sent[14..], bytes(&packet(vip, client).ttl(63)));
        }
    }
    assert_eq!(state(&mut world), ("ESTABLISHED", 900));
    // The server closes first.
    let ack = options(0, 0);
    let to_vip = PacketBuilder::tcp(client, vip).tcp_options(&ack);
    let to_vip = to_vip.link(host_mac(client.ip()), port_mac(0));
    let from_server = PacketBuilder::tcp(server, client).tcp_options(&ack);
    let from_server = from_server.link(host_mac(server.ip()), port_mac(1));
    world.sent(1, &from_server.clone().flags(FIN | ACK), 0);
    world.sent(0, &to_vip, 1);
    assert_eq!(state(&mut world), ("FIN_WAIT", 120));
    world.sent(0, &to_vip.clone().flags(FIN | ACK), 1);
    world.sent(1, &from_server, 0);
    assert_eq!(state(&mut world), ("TIME_WAIT", 120));
    // ipvsadm --stats: 1 connection, 6 and 5 packets, 325 and 272 bytes; 0 active, 1 inactive.
    world.moved(&[
        "connection_misses 1, connections_created 1, connection_hits 10, 11.connections 1",
        "11.in_packets 6, 11.in_bytes 325, 11.out_packets 5, 11.out_bytes 272, 11.inactive 1",
    ]);
}

#[test]
fn dr_forwards_the_captured_connection_and_counts_the_clients_half() {
    let vip = end("10.0.2.50", 80);
    let plan = ServicePlan::new(
        Protocol::Tcp,
        "10.0.2.50:80",
        Forward::Dr,
        &["10.0.2.11:80"],
    );
    let mut world = World::new(Plan::new(vec![plan]));
    let client = end("10.0.2.100", 44922);
    let (mine, theirs) = (219_640_021, 1_044_025_922);
    let packets = [
        (
            13588,
            SYN,
            0x8803,
            (mine - 1, 0),
            64240,
            syn_options(3_894_318_753, 0),
            ("SYN_RECV", 60),
        ),
        (
            13589,
            ACK,
            0x7577,
            (mine, theirs),
            502,
            options(3_894_318_754, 4_000_807_757),
            ("ESTABLISHED", 900),
        ),
        (
            13590,
            ACK,
            0x7567,
            (mine, theirs + 4),
            502,
            options(3_894_318_760, 4_000_807_763),
            ("ESTABLISHED", 900),
        ),
        (
            13591,
            FIN | ACK,
            0x74da,
            (mine, theirs + 4),
            502,
            options(3_894_318_900, 4_000_807_763),
            ("FIN_WAIT", 120),
        ),
        (
            13592,
            ACK,
            0x744b,
            (mine + 1, theirs + 5),
            502,
            options(3_894_318_901, 4_000_807_904),
            ("FIN_WAIT", 120),
        ),
    ];
    for (id, flags, sum, (sequence, acknowledged), window, options, state) in packets {
        let packet = PacketBuilder::tcp(client, vip)
            .id(id)
            .dont_fragment()
            .flags(flags)
            .sequence(sequence, acknowledged)
            .window(window)
            .tcp_options(&options);
        assert_eq!(checksum(&packet, OF_TCP), sum);
        let arrives = packet.clone().link(host_mac(client.ip()), port_mac(1));
        let leaves = packet.ttl(63).link(port_mac(1), host_mac(ip(SERVER)));
        assert_eq!(world.sent(1, &arrives, 1), leaves.build());
        let row = &world.connections()[0];
        assert_eq!((row.state.name(), row.expires_ms / 1000), state);
    }
    world.moved(&[
        "connection_misses 1, connections_created 1, connection_hits 4, 11.connections 1",
        "11.in_packets 5, 11.in_bytes 268, 11.inactive 1",
    ]);
}

#[test]
fn a_service_without_servers_sends_the_captured_errors() {
    let services = [Protocol::Tcp, Protocol::Udp].map(|protocol| {
        let vip = end(VIP, 81).to_string();
        ServicePlan::new(protocol, &vip, Forward::Nat, &[])
    });
    let mut world = World::new(Plan::new(services.to_vec()));
    let vip = end(VIP, 81);
    let segment = syn(end(CLIENT, 59662), vip, 29163, 2_138_122_189, 1_739_047_311);
    assert_eq!(checksum(&segment, OF_TCP), 0x7ca4);
    let datagram = datagram(end(CLIENT, 50922), vip, 8846, "x");
    assert_eq!(checksum(&datagram, OF_UDP), 0xaa0a);
    for (packet, length) in [(segment, 88), (datagram, 57)] {
        let sent = world.sent(0, &packet, 0);
        let wanted = icmp((VIP, CLIENT), (3, 3), &packet, 576);
        assert_eq!(sent[14..], bytes(&wanted));
        assert_eq!(sent.len(), 14 + length);
    }
    world.moved(&["connection_misses 2, unserved 2, icmp_port_unreachable 2"]);
}

#[test]
fn the_captured_error_of_a_server_reaches_the_client_as_captured() {
    let plan = service(Protocol::Udp, 54, Forward::Nat, "10.0.2.11:5454");
    let mut world = World::new(Plan::new(vec![plan]));
    let client = end(CLIENT, 59974);
    let asked = |to: SocketAddr| datagram(client, to, 55217, "x");
    world.sent(0, &asked(end(VIP, 54)), 1);
    let quoted = asked(end(SERVER, 5454)).ttl(63);
    assert_eq!(checksum(&quoted, OF_UDP), 0x70d8);
    let error = icmp((SERVER, CLIENT), (3, 3), &quoted, 576).id(25923);
    let error = error.link(host_mac(ip(SERVER)), port_mac(1));
    let quoted = asked(end(VIP, 54)).ttl(63);
    assert_eq!(checksum(&quoted, OF_UDP), 0x86c9);
    let wanted = icmp((VIP, CLIENT), (3, 3), &quoted, 576).id(25923).ttl(63);
    let sent = world.sent(1, &error, 0);
    assert_eq!(sent[14..], bytes(&wanted));
    assert_eq!(sent.len(), 14 + 57);
    let row = &world.connections()[0];
    assert_eq!((row.state.name(), row.expires_ms), ("UDP", 300_000));
    assert_eq!(world.movement()["icmp_related"], 1);
}

#[test]
fn too_big_for_the_way_is_told_by_the_captured_error() {
    let plan = service(Protocol::Udp, 53, Forward::Nat, "10.0.2.11:53");
    let mut plan = Plan::new(vec![plan]);
    plan.mtu[1] = 1400;
    let mut world = World::new(plan);
    let packet = datagram(end(CLIENT, 60166), end(VIP, 53), 0, vec![b'y'; 1450]);
    let sent = world.sent(0, &packet, 0);
    let wanted = icmp((VIP, CLIENT), (3, 4), &packet.ttl(63), 576).icmp_rest([0, 0, 5, 0x78]);
    assert_eq!(sent[14..], bytes(&wanted));
    assert_eq!(sent.len(), 14 + 576);
    assert_eq!(world.movement()["icmp_too_big"], 1);
}

#[test]
fn every_captured_tunnel_packet_leaves_this_director_too() {
    const GUE: TunnelKind = TunnelKind::Gue(6080);
    // Client's port, identification, tunnel, outer packet up to the inner one.
    let captured: [(u16, u16, TunnelKind, bool, &[u8]); 5] = [
        (
            51387,
            0xd1be,
            TunnelKind::Ipip,
            false,
            &[
                0x45, 0xb9, 0, 0x3e, 0, 0, 0x40, 0, 0x20, 4, 0x41, 0xf7, 10, 0, 2, 1, 10, 0, 2, 12,
            ],
        ),
        (
            0xb6ca,
            0xd3d6,
            GUE,
            false,
            &[
                0x45, 0xb9, 0, 0x4a, 0, 0, 0x40, 0, 0x20, 0x11, 0x41, 0xde, 10, 0, 2, 1, 10, 0, 2,
                12, 0xa7, 0xfa, 0x17, 0xc0, 0, 0x36, 0, 0, 0, 4, 0, 0,
            ],
        ),
        (
            0xc071,
            0xd635,
            GUE,
            true,
            &[
                0x45, 0xb9, 0, 0x4a, 0, 0, 0x40, 0, 0x20, 0x11, 0x41, 0xde, 10, 0, 2, 1, 10, 0, 2,
                12, 0x9d, 0x51, 0x17, 0xc0, 0, 0x36, 0x49, 0x1d, 0, 4, 0, 0,
            ],
        ),
        (
            46093,
            0xd771,
            TunnelKind::Gre,
            false,
            &[
                0x45, 0xb9, 0, 0x42, 0, 0, 0x40, 0, 0x20, 0x2f, 0x41, 0xc8, 10, 0, 2, 1, 10, 0, 2,
                12, 0, 0, 8, 0,
            ],
        ),
        (
            55483,
            0xd9e7,
            TunnelKind::Gre,
            true,
            &[
                0x45, 0xb9, 0, 0x46, 0, 0, 0x40, 0, 0x20, 0x2f, 0x41, 0xc4, 10, 0, 2, 1, 10, 0, 2,
                12, 0x80, 0, 8, 0, 0x8e, 0xbc, 0, 0,
            ],
        ),
    ];
    for (port, id, kind, with_checksum, outer) in captured {
        let forward = Forward::Tunnel(Tunnel {
            kind,
            checksum: with_checksum,
        });
        let plan = service(Protocol::Udp, 99, forward, "10.0.2.12:99");
        let mut world = World::new(Plan::new(vec![plan]));
        let packet = datagram(end(CLIENT, port), end(VIP, 99), id, "tunnel-payload");
        let packet = packet.tos(0xb9).ttl(33);
        let mut sent = world.sent(0, &packet, 1).split_off(14);
        assert_eq!(sent.split_off(outer.len()), bytes(&packet.ttl(32)));
        let mut outer = outer.to_vec();
        if kind == GUE {
            // The source port is a hash of the flow with a secret, here and there; the checksum, which the
            // world verifies, covers it.
            let theirs = u16::from_be_bytes([outer[20], outer[21]]);
            let ours = u16::from_be_bytes([sent[20], sent[21]]);
            assert!((32768..=60999).contains(&theirs), "{theirs}");
            assert!((32768..=60999).contains(&ours), "{ours}");
            outer[20..22].copy_from_slice(&sent[20..22]);
            assert_eq!(sent[26..28] == [0, 0], outer[26..28] == [0, 0]);
            outer[26..28].copy_from_slice(&sent[26..28]);
        }
        assert_eq!(sent, outer, "{kind:?}");
        world.movement();
    }
}

#[test]
fn a_used_up_ttl_is_told_by_the_captured_error() {
    let plan = service(Protocol::Udp, 53, Forward::Nat, "10.0.2.11:53");
    let mut world = World::new(Plan::new(vec![plan]));
    let packet = datagram(end(CLIENT, 40544), end(VIP, 53), 56419, "y").ttl(1);
    assert_eq!(checksum(&packet, OF_UDP), 0xd1b0);
    let sent = world.sent(0, &packet, 0);
    assert_eq!(
        sent[14..],
        bytes(&icmp((VIP, CLIENT), (11, 0), &packet, 576))
    );
    assert_eq!(sent.len(), 14 + 57);
    assert_eq!(world.movement()["icmp_time_exceeded"], 1);
}

/// The lines of `ipvsadm -lcn`, sorted.
fn listing(world: &mut World) -> Vec<String> {
    let rows = world.connections();
    let line = |row: &crate::job::ConnectionRow| {
        let seconds = row.expires_ms / 1000;
        format!(
            "{} {:02}:{:02} {} {} {} {}",
            row.protocol_name(),
            seconds / 60,
            seconds % 60,
            row.state_name(),
            row.client,
            row.virtual_address,
            row.destination
        )
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}
