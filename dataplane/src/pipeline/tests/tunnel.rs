//! Tunnels: what the real server gets, the MTU rules, what routers on the way say.

use super::related::lengths;
use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::builder::verify;
use crate::packet::tunnel::overhead;
use crate::service::{Tunnel, TunnelKind};
use crate::verdict::{DropReason, PuntClass, Verdict};
use proptest::prelude::*;

const fn tunnel(kind: TunnelKind, checksum: bool) -> Tunnel {
    Tunnel { kind, checksum }
}

const KINDS: [Tunnel; 5] = [
    tunnel(TunnelKind::Ipip, false),
    tunnel(TunnelKind::Gre, false),
    tunnel(TunnelKind::Gre, true),
    tunnel(TunnelKind::Gue(6080), false),
    tunnel(TunnelKind::Gue(6080), true),
];

/// A service and its only server, 12, of either family, behind the inner port.
#[derive(Clone, Copy, Debug)]
struct Way {
    vip: Family,
    real: Family,
    tunnel: Tunnel,
}

impl Way {
    fn all() -> impl Iterator<Item = Self> {
        let families = [Family::V4, Family::V6];
        families.into_iter().flat_map(move |vip| {
            families.into_iter().flat_map(move |real| {
                KINDS
                    .into_iter()
                    .map(move |tunnel| Self { vip, real, tunnel })
            })
        })
    }

    fn site(self) -> Site {
        Site {
            family: self.vip,
            forward: Forward::Tunnel(self.tunnel),
            protocol: Protocol::Udp,
        }
    }

    fn plan(self) -> Plan {
        let real = match self.real {
            Family::V4 => "10.0.2.12:80",
            Family::V6 => "[fd00:2::12]:80",
        };
        let site = self.site();
        let vip = site.vip().to_string();
        Plan::new(vec![ServicePlan::new(
            site.protocol,
            &vip,
            site.forward,
            &[real],
        )])
    }

    fn overhead(self) -> usize {
        usize::from(overhead(self.tunnel, self.real))
    }

    fn outer_header(self) -> usize {
        match self.real {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// The inner packet as the server gets it, of the one that arrived.
fn inner(request: &PacketBuilder) -> Vec<u8> {
    request.clone().ttl(63).build()[14..].to_vec()
}

#[test]
fn a_recorded_packet_leaves_as_the_recorded_one() {
    let site = Way {
        vip: Family::V4,
        real: Family::V4,
        tunnel: KINDS[0],
    };
    let mut plan = site.plan();
    plan.services[0].vip = endpoint("10.0.1.50:99");
    let mut world = World::new(plan);
    let packet = PacketBuilder::udp(endpoint("10.0.1.100:51387"), endpoint("10.0.1.50:99"))
        .link(host_mac("10.0.1.100".parse().unwrap()), port_mac(0))
        .tos(0xb9)
        .ttl(33)
        .id(0xd1be)
        .dont_fragment()
        .payload("tunnel-payload");
    let sent = world.sent(0, &packet, 1);
    let outer = [
        0x45, 0xb9, 0x00, 0x3e, 0x00, 0x00, 0x40, 0x00, 0x20, 0x04, 0x41, 0xf7, 10, 0, 2, 1, 10, 0,
        2, 12,
    ];
    assert_eq!(sent[14..34], outer);
    assert_eq!(sent[34..], packet.ttl(32).build()[14..]);
    assert_eq!(sent[..6], host_mac("10.0.2.12".parse().unwrap()).0);
    assert_eq!(sent[6..12], port_mac(1).0);
    world.moved(&[
        "connection_misses 1, connections_created 1, 12.connections 1, 12.inactive 1",
        "12.in_packets 1, 12.in_bytes 42",
    ]);
}

#[test]
fn every_tunnel_carries_both_families_in_both_and_the_short_way_does_the_same() {
    for way in Way::all() {
        let site = way.site();
        let mut world = World::new(way.plan());
        let packet = site.request(5000).payload("twenty bytes of data");
        let mut sent = Vec::new();
        for round in 0..3 {
            // The second and the third are of a known connection; the third may take the short way.
            world.pipeline.state.short_way = round == 2;
            sent.push(world.sent(0, &packet, 1));
        }
        for frame in &mut sent {
            assert_eq!(frame[14 + way.overhead()..], inner(&packet), "{way:?}");
            // The identification of the outer packet is another each time.
            if way.real == Family::V4 {
                frame[18..20].fill(0);
                frame[24..26].fill(0);
            }
        }
        assert_eq!(sent[0], sent[1], "{way:?}");
        assert_eq!(sent[1], sent[2], "{way:?}");
        let bytes = format!("12.in_bytes {}", 3 * (site.bytes() + 20));
        world.moved(&[
            "connection_misses 1, connections_created 1, 12.connections 1, 12.inactive 1",
            "connection_hits 2, 12.in_packets 3",
            &bytes,
        ]);
        let rows = world.connections();
        let destination = way.plan().services[0].reals[0].address;
        assert_eq!(rows[0].destination, destination);
    }
}

#[test]
fn flows_of_gue_differ_in_their_source_ports_and_packets_of_a_flow_do_not() {
    let way = Way {
        vip: Family::V4,
        real: Family::V4,
        tunnel: KINDS[3],
    };
    let mut world = World::new(way.plan());
    let mut ports = std::collections::BTreeSet::new();
    for client in 0..100 {
        let mut port = || {
            let sent = world.sent(0, &way.site().request(5000 + client), 1);
            u16::from_be_bytes([sent[34], sent[35]])
        };
        let first = port();
        assert_eq!(first, port());
        assert!((32_768..60_999).contains(&first));
        ports.insert(first);
    }
    assert!(ports.len() > 95, "{}", ports.len());
    world.movement();
}

/// ICMP type and code, and the MTU, of an error to the client.
fn told(site: Site, frame: &[u8]) -> (u8, u8, u16) {
    let at = match site.family {
        Family::V4 => 34,
        Family::V6 => 54,
    };
    assert_eq!(frame[..6], host_mac(site.client(0).ip()).0);
    let mtu = u16::from_be_bytes([frame[at + 6], frame[at + 7]]);
    (frame[at], frame[at + 1], mtu)
}

#[test]
fn too_big_is_told_with_what_the_tunnel_leaves_of_the_mtu() {
    for way in Way::all() {
        let site = way.site();
        let mut world = World::new(way.plan());
        let room = 1500 - way.overhead();
        let sized = |bytes: usize| {
            let payload = vec![7; bytes - site.bytes()];
            site.request(5000).payload(payload).dont_fragment()
        };
        let fits = world.sent(0, &sized(room), 1);
        assert_eq!(fits.len(), 14 + 1500, "{way:?}");
        world.movement();
        let packet = sized(room + 1);
        let out = world.sent(0, &packet, 0);
        let (kind, code) = match way.vip {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        assert_eq!(told(site, &out), (kind, code, room as u16), "{way:?}");
        // The quote shows the packet with its hop taken off, as recorded.
        let (added, quoted) = match way.vip {
            Family::V4 => (28, 548),
            Family::V6 => (48, 1232),
        };
        assert_eq!(out[14 + added..], inner(&packet)[..quoted]);
        let bytes = format!("12.in_bytes {}", room + 1);
        world.moved(&["connection_hits 1, 12.in_packets 1, icmp_too_big 1", &bytes]);
    }
}

#[test]
fn the_recorded_mtu_of_gre_with_checksum_is_1472() {
    let way = Way {
        vip: Family::V4,
        real: Family::V4,
        tunnel: KINDS[2],
    };
    let mut world = World::new(way.plan());
    let packet = way
        .site()
        .request(5000)
        .payload(vec![0; 1472])
        .dont_fragment();
    let out = world.sent(0, &packet, 0);
    assert_eq!(told(way.site(), &out), (3, 4, 1472));
    world.movement();
}

/// Puts the fragments of an outer packet together again: the outer payload.
fn reassembled(way: Way, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(verify(frame), Ok(()));
        assert!(frame.len() <= 1514);
        assert_eq!(frame[..12], frames[0][..12], "link addresses");
        let (offset, more, header) = match way.real {
            Family::V4 => {
                let word = u16::from_be_bytes([frame[20], frame[21]]);
                assert_eq!(frame[18..20], frames[0][18..20], "identification");
                (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0, 34)
            }
            Family::V6 => {
                let word = u16::from_be_bytes([frame[56], frame[57]]);
                assert_eq!(frame[58..62], frames[0][58..62], "identification");
                (usize::from(word & !7), word & 1 != 0, 62)
            }
        };
        assert_eq!(offset, data.len());
        assert_eq!(more, index + 1 < frames.len());
        data.extend_from_slice(&frame[header..]);
    }
    data
}

#[test]
fn without_df_or_without_pmtu_disc_the_outer_packet_is_fragmented() {
    for way in Way::all().filter(|way| way.vip == Family::V4) {
        for (pmtu_disc, df) in [(true, false), (false, false), (false, true)] {
            let site = way.site();
            let mut plan = way.plan();
            plan.ipvs.pmtu_disc = pmtu_disc;
            let mut world = World::new(plan);
            let payload: Vec<u8> = (0..4000_u32).map(|byte| byte as u8).collect();
            let packet = site.request(5000).payload(payload);
            let packet = if df { packet.dont_fragment() } else { packet };
            let first = world.sent(0, &packet, 1);
            let later = std::mem::take(&mut world.tray.sent);
            let later = later.iter().map(|(_, frame)| frame.data().to_vec());
            let frames: Vec<_> = std::iter::once(first).chain(later).collect();
            assert_eq!(frames.len(), 3);
            let data = reassembled(way, &frames);
            let shim = way.overhead() - way.outer_header();
            assert_eq!(data[shim..], inner(&packet), "{way:?}");
            world.movement();
        }
    }
}

#[test]
fn ipv6_up_to_1280_bytes_gets_through_any_tunnel() {
    for way in Way::all().filter(|way| way.vip == Family::V6) {
        let site = way.site();
        let mut plan = way.plan();
        plan.mtu[1] = 1290;
        let mut world = World::new(plan);
        let sized = |bytes: usize| site.request(5000).payload(vec![7; bytes - site.bytes()]);
        let first = world.sent(0, &sized(1280), 1);
        let later = std::mem::take(&mut world.tray.sent);
        assert_eq!(later.len(), 1, "{way:?}");
        let frames = [first, later[0].1.data().to_vec()];
        let data = reassembled(way, &frames);
        let shim = way.overhead() - way.outer_header();
        assert_eq!(data[shim..], inner(&sized(1280)), "{way:?}");
        let out = world.sent(0, &sized(1281), 0);
        assert_eq!(told(site, &out), (2, 0, 1280), "{way:?}");
        world.movement();
    }
}

#[test]
fn a_used_up_ttl_and_an_unreachable_server_are_answered_from_the_vip() {
    for way in Way::all() {
        let site = way.site();
        let mut world = World::new(way.plan());
        let out = world.sent(0, &site.request(5000).ttl(1), 0);
        let time_exceeded = match way.vip {
            Family::V4 => 11,
            Family::V6 => 3,
        };
        assert_eq!(told(site, &out).0, time_exceeded);
        // Nothing is known of the server: the packet waits, and goes when it is.
        let address = way.plan().services[0].reals[0].address.ip();
        world.edit(|plan| plan.unknown.push(address));
        let (verdict, mut packet) = world.receive(0, &site.request(5000).build());
        let Verdict::Wait(neighbour) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(neighbour.address, address);
        world.edit(|plan| plan.unknown.clear());
        let verdict = world.retry(&mut packet, crate::pipeline::Outcome::Resolved);
        assert_eq!(verdict, Verdict::Tx(neighbour.port));
        assert_eq!(packet.data()[..6], host_mac(address).0);
        world.movement();
    }
}

#[test]
fn the_clients_error_reaches_the_server_as_it_is_in_the_tunnel() {
    for way in Way::all() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut plan = way.plan();
            plan.services[0].protocol = protocol;
            let site = Site {
                protocol,
                ..way.site()
            };
            let server = plan.services[0].reals[0].address.ip();
            // The shortest quote has eight bytes of the transport header.
            for length in lengths(site) {
                let mut world = World::new(plan.clone());
                world.sent(0, &site.request(5000), 1);
                world.movement();
                let error = site.of_client(5000, length);
                let sent = world.sent(0, &error, 1);
                assert_eq!(sent[14 + way.overhead()..], inner(&error), "{way:?}");
                assert_eq!(sent[..6], host_mac(server).0);
                let bytes = error.build().len() - 14;
                world.moved(&[&format!(
                    "icmp_related 1, 12.in_packets 1, 12.in_bytes {bytes}"
                )]);
                // Of no connection: Linux's.
                let verdict = world.verdict(0, &site.of_client(5001, length));
                assert_eq!(verdict, Verdict::Punt(PuntClass::Icmp));
                world.moved(&["icmp_unrelated 1, punt.icmp 1"]);
            }
        }
    }
}

#[test]
fn with_schedule_icmp_the_clients_error_makes_the_connection_and_goes_through_the_tunnel() {
    for way in Way::all() {
        let site = way.site();
        let mut plan = way.plan();
        plan.ipvs.schedule_icmp = true;
        let destination = plan.services[0].reals[0].address;
        let mut world = World::new(plan);
        let error = site.of_client(5000, 1000);
        let bytes = error.build().len() - 14;
        for counted in [
            "icmp_scheduled 1, connections_created 1, 12.connections 1, 12.inactive 1",
            "icmp_related 1",
        ] {
            let sent = world.sent(0, &error, 1);
            assert_eq!(sent[14 + way.overhead()..], inner(&error), "{way:?}");
            let counts = format!("12.in_packets 1, 12.in_bytes {bytes}");
            world.moved(&[counted, &counts]);
        }
        let rows = world.connections();
        assert_eq!((rows[0].expires_ms, rows[0].packets), (3000, 0));
        assert_eq!(rows[0].destination, destination);
        // The client's packets find it.
        world.sent(0, &site.request(5000), 1);
        assert_eq!(world.movement()["connection_hits"], 1);
    }
}

#[test]
fn a_server_behind_a_router_is_reached_by_the_router_and_spoken_to_from_its_network() {
    let way = Way {
        vip: Family::V4,
        real: Family::V4,
        tunnel: KINDS[0],
    };
    for (real, gateway, source) in [
        ("10.0.9.12:80", "10.0.1.254", "10.0.1.1"),
        ("[fd00:9::12]:80", "fd00:1::254", "fd00:1::1"),
    ] {
        let mut plan = way.plan();
        plan.services[0].reals[0].address = endpoint(real);
        let mut world = World::new(plan);
        let sent = world.sent(0, &way.site().request(5000), 0);
        assert_eq!(sent[..6], host_mac(gateway.parse().unwrap()).0);
        let seen: std::net::IpAddr = match endpoint(real) {
            SocketAddr::V4(_) => <[u8; 4]>::try_from(&sent[26..30]).unwrap().into(),
            SocketAddr::V6(_) => <[u8; 16]>::try_from(&sent[22..38]).unwrap().into(),
        };
        assert_eq!(seen, source.parse::<std::net::IpAddr>().unwrap());
        world.movement();
    }
}

/// An ICMP error of a router about a frame this box sent, quoting `bytes` of it.
fn complaint(way: Way, frame: &[u8], kind: u8, code: u8, mtu: u16, bytes: usize) -> PacketBuilder {
    let (router, us) = match way.real {
        Family::V4 => ("10.0.2.200", "10.0.2.1"),
        Family::V6 => ("fd00:2::200", "fd00:2::1"),
    };
    let [high, low] = mtu.to_be_bytes();
    let quote = &frame[14..];
    PacketBuilder::icmp(router.parse().unwrap(), us.parse().unwrap(), kind, code)
        .icmp_rest([0, 0, high, low])
        .link(host_mac(router.parse().unwrap()), port_mac(1))
        .payload(&quote[..bytes.min(quote.len())])
}

#[test]
fn a_routers_mtu_is_told_to_the_client_less_the_overhead_and_remembered() {
    for way in Way::all() {
        let site = way.site();
        let mut world = World::new(way.plan());
        let payload = vec![7; 1350];
        let packet = site.request(5000).payload(payload).dont_fragment();
        let sent = world.sent(0, &packet, 1);
        world.movement();
        let (kind, code) = match way.real {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        };
        let out = world.sent(1, &complaint(way, &sent, kind, code, 1350, 128), 0);
        let room = (1350 - way.overhead()).max(if way.vip == Family::V6 { 1280 } else { 68 });
        let expected = match way.vip {
            Family::V4 => (3, 4, room as u16),
            Family::V6 => (2, 0, room as u16),
        };
        assert_eq!(told(site, &out), expected, "{way:?}");
        // The quote is the client's own packet, as far as the router quoted it.
        let added = out.len() - (14 + 128 - way.overhead());
        assert_eq!(out[14 + added..], inner(&packet)[..128 - way.overhead()]);
        // It is nothing the server sent: what a tunnel's server answers never comes by here.
        world.moved(&["icmp_too_big 1"]);
        // The next one is not even sent.
        let out = world.sent(0, &packet, 0);
        assert_eq!(told(site, &out), expected, "{way:?}");
        world.movement();
        // Until it is forgotten.
        world.sleep(600_001);
        world.sent(0, &packet, 1);
        world.movement();
    }
}

#[test]
fn what_else_routers_say_is_said_to_the_client_about_its_own_packet() {
    for way in Way::all() {
        let site = way.site();
        let mut world = World::new(way.plan());
        let packet = site.request(5000).payload([1; 64]);
        let sent = world.sent(0, &packet, 1);
        world.movement();
        let cases = match (way.real, way.vip) {
            (Family::V4, Family::V4) => [((3, 2), (3, 2)), ((11, 0), (11, 0)), ((3, 13), (3, 13))],
            (Family::V4, Family::V6) => [((3, 2), (1, 3)), ((11, 0), (3, 0)), ((3, 13), (1, 3))],
            (Family::V6, Family::V6) => [((1, 0), (1, 0)), ((3, 0), (3, 0)), ((4, 1), (1, 3))],
            (Family::V6, Family::V4) => [((1, 0), (3, 1)), ((3, 0), (11, 0)), ((4, 1), (3, 1))],
        };
        for ((kind, code), (to_kind, to_code)) in cases {
            let out = world.sent(1, &complaint(way, &sent, kind, code, 0, 500), 0);
            assert_eq!(told(site, &out), (to_kind, to_code, 0), "{way:?}");
            let inner = inner(&packet);
            assert_eq!(out[out.len() - inner.len()..], inner);
        }
        world.movement();
    }
}

#[test]
fn complaints_that_are_not_about_a_tunnel_of_ours_change_nothing() {
    let way = Way {
        vip: Family::V4,
        real: Family::V4,
        tunnel: KINDS[2],
    };
    let site = way.site();
    let mut world = World::new(way.plan());
    let packet = site.request(5000).payload([1; 64]).dont_fragment();
    let sent = world.sent(0, &packet, 1);
    world.movement();
    let punted = |world: &mut World, packet: &PacketBuilder| {
        let verdict = world.verdict(1, packet);
        assert!(matches!(verdict, Verdict::Punt(_)), "{verdict:?}");
        assert_eq!(
            world.movement().into_keys().collect::<Vec<_>>(),
            ["punt.icmp"]
        );
    };
    // The inner packet is not there, or of no connection, or came from somebody else's tunnel.
    for bytes in [0, 19, 20, 24, 28, 47, 51] {
        punted(&mut world, &complaint(way, &sent, 3, 4, 1400, bytes));
    }
    for at in [29, 33, 34, 36, 42 + 12, 42 + 16, 42 + 20, 42 + 9] {
        let mut other = sent.clone();
        other[at] ^= 1;
        punted(&mut world, &complaint(way, &other, 3, 4, 1400, 128));
    }
    // A damaged one is dropped.
    let mut damaged = complaint(way, &sent, 3, 4, 1400, 128).build();
    let end = damaged.len() - 1;
    damaged[end] ^= 1;
    let (verdict, _) = world.receive(1, &damaged);
    assert_eq!(verdict, Verdict::Drop(DropReason::TransportChecksum));
    // No MTU is nothing to tell.
    world.dropped(
        1,
        &complaint(way, &sent, 3, 4, 0, 128),
        DropReason::TunnelError,
    );
    world.moved(&["drop.transport_checksum 1, drop.tunnel_error 1"]);
    // A tiny MTU is an attack.
    let out = world.sent(1, &complaint(way, &sent, 3, 4, 1, 128), 0);
    assert_eq!(told(site, &out), (3, 4, 552 - 28));
    world.movement();
}

proptest! {
    /// A router may quote anything, with a right checksum: nothing panics, what is not understood is
    /// punted as it came, and what is sent is right (the world sees to that).
    #[test]
    fn no_quote_does_any_harm(
        way in prop::sample::select(Way::all().collect::<Vec<_>>()),
        changes in prop::collection::vec((14..130_usize, any::<u8>()), 0..4),
        what in prop::sample::select(vec![(3, 0), (3, 4), (11, 0), (4, 0), (1, 0), (2, 0), (3, 1), (4, 1)]),
        mtu in any::<u16>(),
        bytes in 0..200_usize,
    ) {
        let site = way.site();
        let mut world = World::new(way.plan());
        let packet = site.request(5000).payload([1; 64]).dont_fragment();
        let mut sent = world.sent(0, &packet, 1);
        for (at, byte) in changes {
            if let Some(place) = sent.get_mut(at) {
                *place = byte;
            }
        }
        let (kind, code) = what;
        world.verdict(1, &complaint(way, &sent, kind, code, mtu, bytes));
        world.movement();
    }
}
