//! What forwarding changes in a packet, and what it leaves alone (spec 2.3).

use super::*;
use crate::packet::ethernet;
use crate::verdict::{PuntClass, Verdict};

#[test]
fn a_request_reaches_the_server_and_only_what_the_method_says_changes() {
    for site in Site::ALL {
        let mut world = site.world(&[11]);
        let dressed = |packet: PacketBuilder| {
            packet
                .tos(0xb9)
                .id(0xd1be)
                .dont_fragment()
                .tcp_options(&[2, 4, 5, 0xb4])
        };
        let out = world.sent(0, &dressed(site.request(5000)), site.inside());
        assert_eq!(out, dressed(site.delivered(11, 5000)).build(), "{site:?}");
        world.moved(&[&site.created(11), "11.in_bytes 4"]);

        let segment = |packet: PacketBuilder| packet.flags(ACK).sequence(77, 99).payload("GET / ");
        let out = world.sent(0, &segment(site.request(5000)), site.inside());
        assert_eq!(out, segment(site.delivered(11, 5000)).build(), "{site:?}");
        world.moved(&[&site.hit(11), "11.in_bytes 6"]);
    }
}

#[test]
fn datagrams_are_forwarded_like_segments() {
    for site in Site::ALL.map(Site::udp) {
        let mut world = site.world(&[11]);
        for payload in ["", "odd", "even"] {
            let out = world.sent(0, &site.request(5000).payload(payload), site.inside());
            let expected = site.delivered(11, 5000).payload(payload);
            assert_eq!(out, expected.build(), "{site:?}");
        }
        world.moved(&[
            &site.created(11),
            &site.hit(11),
            &site.hit(11),
            "11.in_bytes 7",
        ]);
    }
}

#[test]
fn a_datagram_without_a_checksum_still_has_none_behind_nat() {
    let site = NAT.udp();
    let mut world = site.world(&[11]);
    let out = world.sent(0, &site.request(5000).no_checksum(), 1);
    assert_eq!(out, site.delivered(11, 5000).no_checksum().build());
    world.moved(&[&site.created(11)]);
}

#[test]
fn a_nat_reply_gets_the_vip_and_its_port_back() {
    for site in [NAT, NAT6, NAT.udp(), NAT6.udp()] {
        let mut world = site.world(&[11]);
        world.sent(0, &site.request(5000), 1);
        world.movement();
        let dressed = |packet: PacketBuilder| packet.tos(0x10).id(7).payload("HTTP/1.1 200");
        let out = world.sent(1, &dressed(site.reply(11, 5000)), 0);
        assert_eq!(out, dressed(site.returned(5000)).build(), "{site:?}");
        world.moved(&[&site.answered(11), "11.out_bytes 12"]);
    }
}

#[test]
fn a_reply_to_a_client_behind_a_gateway_goes_to_the_gateway() {
    let mut world = NAT.world(&[11]);
    let far = endpoint("10.0.9.7:5000");
    let request = PacketBuilder::tcp(far, NAT.vip())
        .link(host_mac("10.0.1.254".parse().unwrap()), port_mac(0))
        .flags(SYN);
    world.sent(0, &request, 1);
    let reply = PacketBuilder::tcp(NAT.real(11), far)
        .link(host_mac(NAT.real(11).ip()), port_mac(1))
        .flags(SYN | ACK);
    let out = world.sent(1, &reply, 0);
    let expected = PacketBuilder::tcp(NAT.vip(), far)
        .link(port_mac(0), host_mac("10.0.1.254".parse().unwrap()))
        .flags(SYN | ACK)
        .ttl(63);
    assert_eq!(out, expected.build());
    world.moved(&[&NAT.created(11), &NAT.answered(11)]);
}

#[test]
fn a_reply_without_a_connection_is_transit_and_creates_nothing() {
    for site in [NAT, NAT6] {
        let mut world = site.world(&[11]);
        let verdict = world.verdict(1, &site.reply(11, 5000));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
        world.moved(&["connection_misses 1, punt.rest 1"]);
        assert_eq!(world.pipeline.connections(), 0);
    }
}

#[test]
fn ethernet_padding_is_trimmed_and_not_counted() {
    for site in [DR, NAT] {
        let mut world = site.world(&[11]);
        let out = world.sent(0, &site.request(5000).padding(6), site.inside());
        assert_eq!(out, site.delivered(11, 5000).build());
        assert_eq!(out.len(), ethernet::LEN + site.bytes());
        world.moved(&[&site.created(11)]);
    }
}

#[test]
fn ip_options_travel_along() {
    for site in [DR, NAT] {
        let mut world = site.world(&[11]);
        let router_alert = [0x94, 4, 0, 0];
        let out = world.sent(
            0,
            &site.request(5000).ipv4_options(&router_alert),
            site.inside(),
        );
        let expected = site.delivered(11, 5000).ipv4_options(&router_alert);
        assert_eq!(out, expected.build());
        world.moved(&[&site.created(11), "11.in_bytes 4"]);
    }
}

#[test]
fn a_service_on_port_0_keeps_the_port_the_client_chose() {
    let mut plan = NAT.plan(&[11]);
    plan.services[0].vip.set_port(0);
    plan.services[0].reals[0].address.set_port(0);
    let mut world = World::new(plan);
    let out = world.sent(0, &NAT.request(5000), 1);
    let real = NAT.host(2, 11, 80);
    let expected = PacketBuilder::tcp(NAT.client(5000), real)
        .link(port_mac(1), host_mac(real.ip()))
        .ttl(63)
        .flags(SYN);
    assert_eq!(out, expected.build());
    world.moved(&[&NAT.created(11)]);
}

#[test]
fn a_dr_server_on_another_port_gets_the_services_port() {
    let mut plan = DR.plan(&[11]);
    plan.services[0].reals[0].address.set_port(8080);
    let mut world = World::new(plan);
    let out = world.sent(0, &DR.request(5000), 0);
    assert_eq!(out, DR.delivered(11, 5000).build());
    world.moved(&[&DR.created(11)]);
}
