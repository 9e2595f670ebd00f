//! Replies of NAT servers that belong to no connection (`nat_icmp_send`, spec 2.3).

use super::*;
use crate::buffer::PacketBuffer;
use crate::packet::sctp::ABORT;
use crate::verdict::{DropReason, PortId, Verdict};

/// A world of a server that is asked to be told.
fn telling(site: Site) -> World {
    let mut world = site.world(&[11]);
    world.edit(|plan| plan.ipvs.nat_icmp_send = true);
    world
}

/// ICMP type and code of a frame.
fn icmp(frame: &[u8]) -> (u8, u8) {
    match frame[12] {
        0x08 => (frame[34], frame[35]),
        _ => (frame[54], frame[55]),
    }
}

#[test]
fn a_stray_reply_passes_unless_the_setting_is_on() {
    for site in [NAT, NAT6] {
        for site in [site, site.udp(), site.sctp()] {
            let mut world = site.world(&[11]);
            let reply = site.reply(11, 5000);
            assert!(matches!(world.verdict(1, &reply), Verdict::Punt(_)));
            world.moved(&["connection_misses 1, punt.rest 1"]);
        }
    }
}

#[test]
fn the_server_is_told_that_the_port_is_unreachable() {
    for site in [NAT, NAT6] {
        for site in [site, site.udp(), site.sctp()] {
            let mut world = telling(site);
            let (verdict, frame) = world.receive(1, &site.reply(11, 5000).build());
            assert_eq!(verdict, Verdict::Tx(PortId(1)));
            assert_eq!(frame.data()[..6], host_mac(site.real(11).ip()).octets());
            let expected = match site.family {
                Family::V4 => (3, 3),
                Family::V6 => (1, 4),
            };
            assert_eq!(icmp(frame.data()), expected);
            world.moved(&["connection_misses 1, icmp_port_unreachable 1"]);
        }
    }
}

#[test]
fn resets_and_aborts_and_replies_of_connections_pass() {
    for site in [NAT, NAT6] {
        let mut world = telling(site);
        let reset = site.reply(11, 5000).flags(RST | ACK);
        assert!(matches!(world.verdict(1, &reset), Verdict::Punt(_)));
        world.moved(&["connection_misses 1, punt.rest 1"]);
        establish(&mut world, site, 5000);
        world.sent(1, &site.reply(11, 5000), 0);
        world.moved(&[&site.answered(11)]);

        let mut world = telling(site.sctp());
        let abort = site.sctp().reply(11, 5000).payload([ABORT, 0, 0, 4]);
        assert!(matches!(world.verdict(1, &abort), Verdict::Punt(_)));
        world.moved(&["connection_misses 1, punt.rest 1"]);
    }
}

#[test]
fn only_listed_nat_servers_on_their_own_port_are_told() {
    let other_port = NAT
        .between(NAT.host(2, 11, 8081), NAT.client(5000))
        .link(host_mac(NAT.real(11).ip()), port_mac(1));
    let mut world = telling(NAT);
    assert!(matches!(world.verdict(1, &other_port), Verdict::Punt(_)));
    let udp = NAT.udp().reply(11, 5000);
    assert!(matches!(world.verdict(1, &udp), Verdict::Punt(_)));
    world.edit(|plan| plan.services[0].reals.clear());
    assert!(matches!(
        world.verdict(1, &NAT.reply(11, 5000)),
        Verdict::Punt(_)
    ));
    world.moved(&["connection_misses 3, punt.rest 3"]);

    let mut world = telling(DR);
    assert!(matches!(
        world.verdict(0, &DR.reply(11, 5000)),
        Verdict::Punt(_)
    ));
    world.moved(&["connection_misses 1, punt.rest 1"]);
}

#[test]
fn a_flood_of_stray_replies_is_answered_no_faster_than_other_errors() {
    let mut world = telling(NAT);
    let mut limited = 0;
    for port in 1..=5000 {
        match world.verdict(1, &NAT.reply(11, port)) {
            Verdict::Tx(_) => {}
            verdict => {
                assert_eq!(verdict, Verdict::Drop(DropReason::IcmpLimited));
                limited += 1;
            }
        }
    }
    assert!(limited > 0);
    world.movement();
}
