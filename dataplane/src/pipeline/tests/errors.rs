//! ICMP errors of our own: when, from whom, quoting what (spec 1.0, 2.3, 2.5), and fragments.

use super::*;
use crate::buffer::PacketBuffer;
use crate::service::Transit;
use crate::verdict::{DropReason, Verdict};
use std::net::IpAddr;

/// An ICMP error taken apart.
#[derive(Debug, PartialEq)]
struct Seen {
    from: IpAddr,
    to: IpAddr,
    kind: u8,
    code: u8,
    rest: u32,
    quote: Vec<u8>,
}

fn seen(frame: &[u8]) -> Seen {
    let (from, to, message): (IpAddr, IpAddr, _) = if frame[12] == 0x08 {
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        assert_eq!(frame[23], 1, "ICMP");
        (address(26), address(30), &frame[34..])
    } else {
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        assert_eq!(frame[20], 58, "ICMPv6");
        (address(22), address(38), &frame[54..])
    };
    Seen {
        from,
        to,
        kind: message[0],
        code: message[1],
        rest: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        quote: message[8..].to_vec(),
    }
}

/// The error about `quoted` as its sender must see it; types and codes of IPv4 and IPv6.
fn error(site: Site, v4: (u8, u8), v6: (u8, u8), rest: u32, quoted: &PacketBuilder) -> Seen {
    let ((kind, code), largest) = match site.family {
        Family::V4 => (v4, 576 - 28),
        Family::V6 => (v6, 1280 - 48),
    };
    let mut quote = quoted.build().split_off(14);
    quote.truncate(largest);
    Seen {
        from: site.vip().ip(),
        to: site.client(0).ip(),
        kind,
        code,
        rest,
        quote,
    }
}

/// The link addresses of an answer to the client.
fn assert_to_client(site: Site, frame: &[u8]) {
    assert_eq!(frame[..6], host_mac(site.client(0).ip()).0);
    assert_eq!(frame[6..12], port_mac(0).0);
}

#[test]
fn a_used_up_ttl_is_answered_from_the_vip() {
    for site in Site::ALL {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        for ttl in [0, 1] {
            let packet = site.request(5000).flags(ACK).ttl(ttl);
            let out = world.sent(0, &packet, 0);
            assert_eq!(seen(&out), error(site, (11, 0), (3, 0), 0, &packet));
            assert_to_client(site, &out);
            world.moved(&[&site.hit(11), "icmp_time_exceeded 1"]);
        }
    }
}

#[test]
fn a_used_up_ttl_of_a_reply_is_answered_by_the_port_it_came_in_on() {
    let mut world = NAT.world(&[11]);
    establish(&mut world, NAT, 5000);
    let out = seen(&world.sent(1, &NAT.reply(11, 5000).ttl(1), 1));
    assert_eq!((out.kind, out.code), (11, 0));
    assert_eq!(out.from, "10.0.2.1".parse::<IpAddr>().unwrap());
    assert_eq!(out.to, NAT.real(11).ip());
    // As Linux, which looks at the hops before IPVS sees the reply.
    world.moved(&["icmp_time_exceeded 1"]);
}

#[test]
fn a_packet_too_big_with_df_is_answered_with_the_mtu() {
    for site in Site::ALL.map(Site::udp) {
        let mut plan = site.plan(&[11]);
        plan.mtu[usize::from(site.inside())] = 1400;
        let mut world = World::new(plan);
        let fits = 1400 - site.bytes();
        world.sent(
            0,
            &site.request(5000).payload(vec![7; fits]).dont_fragment(),
            site.inside(),
        );
        world.moved(&[&site.created(11), &format!("11.in_bytes {fits}")]);

        let packet = site
            .request(5000)
            .payload(vec![7; fits + 1])
            .dont_fragment();
        let out = world.sent(0, &packet, 0);
        // The hop was taken off already, as the kernel does it.
        assert_eq!(
            seen(&out),
            error(site, (3, 4), (2, 0), 1400, &packet.ttl(63))
        );
        assert_to_client(site, &out);
        let bytes = format!("11.in_bytes {}", fits + 1);
        world.moved(&[&site.hit(11), &bytes, "icmp_too_big 1"]);
    }
}

#[test]
fn a_packet_too_big_without_df_is_cut_into_fragments_that_reassemble() {
    for site in [DR.udp(), NAT.udp()] {
        let mut world = site.world(&[11]);
        let payload: Vec<u8> = (0..4000_u32).map(|byte| byte as u8).collect();
        let first = world.sent(
            0,
            &site.request(5000).id(9).payload(payload.clone()),
            site.inside(),
        );
        let later = std::mem::take(&mut world.tray.sent);
        assert_eq!(later.len(), 2);
        let mut data = Vec::<u8>::new();
        let frames = std::iter::once(first.as_slice()).chain(later.iter().map(|(port, frame)| {
            assert_eq!(port.0, site.inside());
            frame.data()
        }));
        for (index, frame) in frames.enumerate() {
            assert_eq!(crate::packet::builder::verify(frame), Ok(()));
            assert!(frame.len() <= 1514);
            assert_eq!(frame[..12], first[..12], "link addresses");
            assert_eq!(frame[18..20], [0, 9], "one identification");
            assert_eq!(frame[22], 63, "TTL");
            let word = u16::from_be_bytes([frame[20], frame[21]]);
            assert_eq!(word & 0x2000 != 0, index < 2, "more fragments");
            assert_eq!(usize::from(word & 0x1fff) * 8, data.len());
            data.extend(&frame[34..]);
        }
        assert_eq!(
            data,
            site.delivered(11, 5000).payload(payload).build()[34..]
        );
        world.moved(&[&site.created(11), "11.in_bytes 4000, fragments_sent 3"]);
    }
}

#[test]
fn without_buffers_for_all_fragments_none_is_sent() {
    let site = NAT.udp();
    let mut world = site.world(&[11]);
    world.tray.buffers = 1;
    world.dropped(
        0,
        &site.request(5000).payload([0; 4000]),
        DropReason::NoBuffer,
    );
    assert!(world.tray.sent.is_empty());
    world.moved(&[&site.created(11), "11.in_bytes 4000, drop.no_buffer 1"]);
}

#[test]
fn a_service_without_servers_answers_port_unreachable() {
    for site in Site::ALL.into_iter().chain([DR.udp(), NAT6.udp()]) {
        let mut world = site.world(&[]);
        let packet = site.request(5000);
        let out = world.sent(0, &packet, 0);
        assert_eq!(seen(&out), error(site, (3, 3), (1, 4), 0, &packet));
        assert_to_client(site, &out);
        world.moved(&["connection_misses 1, unserved 1, icmp_port_unreachable 1"]);
    }
}

#[test]
fn no_route_to_the_server_answers_host_unreachable_quoting_the_packet_as_it_came() {
    for site in [NAT, NAT6] {
        let mut plan = site.plan(&[11]);
        plan.services[0].reals[0].address = match site.family {
            Family::V4 => endpoint("192.0.2.11:8080"),
            Family::V6 => endpoint("[fd00:7::11]:8080"),
        };
        let mut world = World::new(plan);
        let packet = site.request(5000);
        let out = world.sent(0, &packet, 0);
        assert_eq!(seen(&out), error(site, (3, 1), (1, 3), 0, &packet));
        world.moved(&[&site.created(11), "icmp_host_unreachable 1"]);
        // As in the kernel the connection stays, and counts as active.
        assert_eq!(world.connections()[0].state.name(), "SYN_RECV");
    }
}

#[test]
fn a_server_behind_a_blackhole_or_prohibit_route_is_unreachable_as_for_lvs() {
    for server in ["203.0.113.11:8080", "198.51.100.11:8080"] {
        let mut plan = NAT.plan(&[11]);
        plan.services[0].reals[0].address = endpoint(server);
        let mut world = World::new(plan);
        let out = world.sent(0, &NAT.request(5000), 0);
        assert_eq!(out[34..36], [3, 1]);
        assert_eq!(out[26..30], [10, 0, 1, 50], "from the VIP");
        world.moved(&[&NAT.created(11), "icmp_host_unreachable 1"]);
    }
}

#[test]
fn errors_about_errors_and_to_nobody_are_not_sent() {
    let mut plan = DR.plan(&[]);
    plan.transit = Transit::Fast;
    let mut world = World::new(plan);
    let unreachable = PacketBuilder::icmp(DR.client(0).ip(), "192.0.2.1".parse().unwrap(), 3, 1)
        .link(host_mac(DR.client(0).ip()), port_mac(0));
    world.dropped(0, &unreachable, DropReason::NoRoute);
    world.moved(&["drop.no_route 1"]);
}

#[test]
fn an_answer_goes_back_where_the_packet_came_from_while_its_receiver_is_unknown() {
    let mut plan = DR.plan(&[]);
    plan.unknown = vec![DR.client(0).ip()];
    let mut world = World::new(plan);
    let router = host_mac("10.0.1.77".parse().unwrap());
    let out = world.sent(0, &DR.request(5000).link(router, port_mac(0)), 0);
    assert_eq!(out[..6], router.0);
    world.moved(&["connection_misses 1, unserved 1, icmp_port_unreachable 1"]);
}

#[test]
fn errors_are_rate_limited_and_the_limit_recovers() {
    let mut world = DR.world(&[]);
    for port in 0..1000 {
        world.sent(0, &DR.request(5000 + port), 0);
    }
    world.dropped(0, &DR.request(6000), DropReason::IcmpLimited);
    world.moved(&[
        "connection_misses 1001, unserved 1001, icmp_port_unreachable 1000, drop.icmp_limited 1",
    ]);
    world.sleep(1);
    for port in 0..10 {
        world.sent(0, &DR.request(7000 + port), 0);
    }
    let verdict = world.verdict(0, &DR.request(8000));
    assert_eq!(verdict, Verdict::Drop(DropReason::IcmpLimited));
    world.moved(&[
        "connection_misses 11, unserved 11, icmp_port_unreachable 10, drop.icmp_limited 1",
    ]);
}
