//! Services of firewall marks (spec 2.2; scenario S6).

use super::{DR, NAT, NAT6, Site, World, host_mac, port_mac, server_of};
use crate::address::Protocol;
use crate::packet::builder::PacketBuilder;
use crate::packet::tcp::{ACK, SYN};
use crate::pipeline::world::{self, Plan, ServicePlan};
use crate::service::{Forward, MarkRule, Serve, Transit};
use crate::verdict::{DropReason, Verdict, WorkerId};
use std::net::SocketAddr;

pub(super) fn rule(mark: u32, site: Site, ports: &[(u16, u16)]) -> MarkRule {
    MarkRule {
        mark,
        addresses: vec![site.vip().ip().into()],
        ports: ports.to_vec(),
        protocol: None,
        source: None,
        family: None,
    }
}

/// The service of mark 1, for http and https, and one on port 80 whose only server is 13.
pub(super) fn plan(site: Site) -> Plan {
    let real = |host| {
        let mut at = site.real(host);
        at.set_port(0);
        at.to_string()
    };
    let (vip, first, second) = (site.vip().to_string(), real(11), real(12));
    let marked = ServicePlan {
        fwmark: Some(1),
        ..ServicePlan::new(Protocol::Tcp, &vip, site.forward, &[&first, &second])
    };
    let mut plan = site.plan(&[13]);
    plan.services.push(marked);
    plan.marks = vec![rule(1, site, &[(80, 80), (443, 443)])];
    plan
}

/// A packet of client port `from` to port `to` of the VIP.
pub(super) fn request(site: Site, from: u16, to: u16) -> PacketBuilder {
    let client = site.client(from);
    let vip = SocketAddr::new(site.vip().ip(), to);
    site.between(client, vip)
        .link(host_mac(client.ip()), port_mac(0))
        .flags(SYN)
}

#[test]
fn a_mark_comes_before_an_exact_service_and_takes_every_protocol() {
    for site in Site::ALL {
        let mut world = World::new(plan(site));
        let mut to = |site: Site, from, port| {
            server_of(&world.sent(0, &request(site, from, port), site.inside()))
        };
        assert_eq!([to(site, 5000, 80), to(site, 5001, 443)], [12, 11]);
        assert_eq!(to(site.udp(), 5000, 443), 12);
        // Without the rule the packets are the exact service's.
        world.movement();
        world.edit(|plan| plan.marks.clear());
        assert_eq!(
            server_of(&world.sent(0, &request(site, 5002, 80), site.inside())),
            13
        );
        world.movement();
    }
}

#[test]
fn a_mark_without_service_hides_later_rules_but_not_services_on_addresses() {
    let mut plan = plan(DR);
    plan.marks.insert(0, rule(2, DR, &[(80, 80)]));
    let mut world = World::new(plan);
    assert_eq!(server_of(&world.sent(0, &request(DR, 5000, 80), 0)), 13);
    assert_eq!(server_of(&world.sent(0, &request(DR, 5000, 443), 0)), 12);
    world.movement();
}

#[test]
fn a_marked_connection_keeps_the_ports_of_its_client() {
    let mut world = World::new(plan(NAT));
    let out = world.sent(0, &request(NAT, 5000, 443), 1);
    let real = NAT.host(2, 12, 443);
    let expected = PacketBuilder::tcp(NAT.client(5000), real)
        .link(port_mac(1), host_mac(real.ip()))
        .ttl(63)
        .flags(SYN);
    assert_eq!(out, expected.build());
    let reply = PacketBuilder::tcp(real, NAT.client(5000))
        .link(host_mac(real.ip()), port_mac(1))
        .flags(SYN | ACK);
    let out = world.sent(1, &reply, 0);
    let expected = PacketBuilder::tcp(SocketAddr::new(NAT.vip().ip(), 443), NAT.client(5000))
        .link(port_mac(0), host_mac(NAT.client(5000).ip()))
        .ttl(63)
        .flags(SYN | ACK);
    assert_eq!(out, expected.build());
    world.movement();
}

#[test]
fn a_marks_network_is_served_where_it_is_local_and_else_passes_through() {
    let mut plan = plan(DR);
    plan.marks[0].addresses = vec!["10.0.0.0/8".parse().unwrap()];
    plan.transit = Transit::Drop;
    let mut world = World::new(plan.clone());
    let foreign = DR.between(DR.client(5000), DR.host(1, 77, 443));
    let foreign = foreign.link(host_mac(DR.client(5000).ip()), port_mac(0));
    world.dropped(0, &foreign.flags(SYN), DropReason::Transit);
    assert_eq!(server_of(&world.sent(0, &request(DR, 5000, 443), 0)), 12);
    world.movement();
    // A single address of a mark is a VIP: not served here, it is the other director's.
    plan.marks[0].addresses = vec!["10.0.1.50/32".parse().unwrap()];
    plan.vips_local = false;
    let mut world = World::new(plan);
    world.dropped(0, &request(DR, 5000, 443), DropReason::VipBackup);
    world.movement();
}

#[test]
fn replies_of_a_marks_servers_find_their_owner_from_any_port() {
    for site in [NAT, NAT6] {
        let mut plan = plan(site);
        plan.queues = 2;
        // A rule for every address must not take replies for requests.
        plan.marks[0].addresses.clear();
        plan.marks[0].ports = vec![(0, 65_535)];
        let mut workers =
            [0, 1].map(|worker| world::World::of_workers(plan.clone(), WorkerId(worker), 2));
        let mut owned = [0, 0];
        for client in 5000..5060 {
            let request = request(site, client, 443).build();
            let verdicts = [0, 1].map(|worker| workers[worker].receive(0, &request).0);
            let owner = verdicts
                .iter()
                .position(|v| matches!(v, Verdict::Tx(_)))
                .unwrap();
            assert_eq!(
                verdicts[1 - owner],
                Verdict::Redirect(WorkerId(owner as u8))
            );
            owned[owner] += 1;
            let rows = workers[owner].connections();
            let row = rows.iter().find(|row| row.client.port() == client).unwrap();
            assert_eq!(row.destination.port(), 443);
            let reply = site.between(row.destination, site.client(client));
            let reply = reply
                .link(host_mac(row.destination.ip()), port_mac(1))
                .flags(SYN | ACK);
            let verdicts = [0, 1].map(|worker| workers[worker].receive(1, &reply.build()).0);
            assert!(matches!(verdicts[owner], Verdict::Tx(_)), "{verdicts:?}");
            assert_eq!(
                verdicts[1 - owner],
                Verdict::Redirect(WorkerId(owner as u8))
            );
        }
        assert!(owned[0] > 15 && owned[1] > 15, "{owned:?}");
        assert_eq!(site.forward, Forward::Nat);
    }
}

/// What a mark catches of the clients' traffic to a host that is not this box, with no cache in the
/// service.
fn around_the_caches(transit: Transit, on: bool) -> World {
    let mut plan = plan(DR);
    plan.transit = transit;
    plan.ipvs.cache_bypass = on;
    plan.marks[0].addresses = vec!["10.0.2.0/24".parse().expect("a prefix")];
    plan.services[1].serve = Serve::Always;
    plan.services[1].reals.clear();
    World::new(plan)
}

/// A client's packet to a web server behind the other port.
fn outside(flags: u8) -> PacketBuilder {
    DR.between(DR.client(5000), DR.host(2, 77, 80))
        .link(host_mac(DR.client(0).ip()), port_mac(0))
        .flags(flags)
}

#[test]
fn without_a_cache_what_a_mark_catches_goes_where_it_was_sent_if_that_is_wanted() {
    let mut world = around_the_caches(Transit::Fast, true);
    for flags in [SYN, ACK] {
        let out = world.sent(0, &outside(flags), 1);
        let to = DR.host(2, 77, 80);
        let expected = outside(flags)
            .link(port_mac(1), host_mac(to.ip()))
            .ttl(63)
            .build();
        assert_eq!(out, expected);
    }
    world.moved(&["connection_misses 2, bypassed 2, transit_forwarded 2"]);
    assert_eq!(world.connections(), []);

    let mut world = around_the_caches(Transit::Kernel, true);
    assert!(matches!(world.verdict(0, &outside(SYN)), Verdict::Punt(_)));
    world.moved(&["connection_misses 1, bypassed 1, punt.rest 1"]);

    let mut world = around_the_caches(Transit::Fast, false);
    world.sent(0, &outside(SYN), 0);
    world.moved(&["connection_misses 1, icmp_port_unreachable 1, unserved 1"]);
}

#[test]
fn a_cache_takes_what_its_mark_catches_and_nothing_goes_around_our_own_addresses() {
    let mut world = around_the_caches(Transit::Fast, true);
    let servers = plan(DR).services.remove(1).reals;
    world.edit(|plan| plan.services[1].reals = servers);
    assert_eq!(server_of(&world.sent(0, &outside(SYN), 0)), 12);
    world.movement();

    let mut plan = plan(DR);
    plan.transit = Transit::Fast;
    plan.ipvs.cache_bypass = true;
    plan.services[1].reals.clear();
    let mut world = World::new(plan);
    world.sent(0, &request(DR, 5000, 80), 0);
    world.moved(&["connection_misses 1, icmp_port_unreachable 1, unserved 1"]);
}
