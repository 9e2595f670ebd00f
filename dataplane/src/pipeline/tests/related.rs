//! ICMP errors about connections (spec 2.6), as recorded and both ways, by every method.

use super::*;
use crate::buffer::PacketBuffer;
use crate::pipeline::{Outcome, Pass};
use crate::verdict::{DropReason, Neighbour, PortId, PuntClass, Verdict, WorkerId};
use std::net::IpAddr;

const ERRORS: [Site; 4] = Site::ALL;

impl Site {
    /// An ICMP error between hosts that quotes the first `length` bytes of a packet.
    fn error(
        self,
        (from, to): (IpAddr, IpAddr),
        (v4, v6): ((u8, u8), (u8, u8)),
        quoted: &PacketBuilder,
        length: usize,
    ) -> PacketBuilder {
        let (kind, code) = match self.family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        let mut quote = quoted.build().split_off(14);
        quote.truncate(length);
        PacketBuilder::icmp(from, to, kind, code).payload(quote)
    }

    /// From the client, about a reply of the service.
    pub(super) fn of_client(self, port: u16, length: usize) -> PacketBuilder {
        let client = self.client(port);
        self.error(
            (client.ip(), self.vip().ip()),
            ((3, 3), (1, 4)),
            &self.returned(port),
            length,
        )
        .link(host_mac(client.ip()), port_mac(0))
    }

    /// From `sender`, about a request that server `host` was to get.
    fn of_server(self, sender: IpAddr, host: u8, port: u16, length: usize) -> PacketBuilder {
        self.error(
            (sender, self.client(port).ip()),
            ((3, 3), (1, 4)),
            &self.delivered(host, port),
            length,
        )
        .link(host_mac(self.real(host).ip()), port_mac(1))
    }
}

/// The shortest quote with ports, then one that ends within the transport header, then all.
pub(super) fn lengths(site: Site) -> [usize; 3] {
    let ip = site.bytes()
        - if site.protocol == Protocol::Udp {
            8
        } else {
            20
        };
    [ip + 8, ip + 12, 1000]
}

#[test]
fn the_servers_error_reaches_the_client_as_the_vips() {
    for site in [NAT, NAT6].map(Site::udp) {
        for length in lengths(site) {
            let mut world = site.world(&[11]);
            world.sent(0, &site.request(5000), 1);
            world.movement();
            let server = site.real(11).ip();
            let error = site.of_server(server, 11, 5000, length);
            let sent = world.sent(1, &error, 0);
            // "10.0.1.50 port 80 unreachable", quoting what the client had sent, a hop further.
            let (client, vip) = (site.client(5000), site.vip());
            let quoted = site.request(5000).ttl(63);
            let wanted = site
                .error((vip.ip(), client.ip()), ((3, 3), (1, 4)), &quoted, length)
                .link(port_mac(0), host_mac(client.ip()))
                .ttl(63);
            assert_eq!(sent, wanted.build(), "{site:?} {length}");
            let bytes = error.build().len() - 14;
            world.moved(&[&format!(
                "icmp_related 1, 11.out_packets 1, 11.out_bytes {bytes}"
            )]);
        }
    }
}

#[test]
fn a_router_between_speaks_as_the_vip_too_and_the_mtu_it_names_gets_through() {
    for site in [NAT, NAT6] {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        let router = site.host(2, 254, 0).ip();
        let error = site
            .error(
                (router, site.client(5000).ip()),
                ((3, 4), (2, 0)),
                &site.delivered(11, 5000).payload([7; 500]),
                200,
            )
            .icmp_rest([0, 0, 5, 0x14])
            .link(host_mac(router), port_mac(1));
        let sent = world.sent(1, &error, 0);
        let wanted = site
            .error(
                (site.vip().ip(), site.client(5000).ip()),
                ((3, 4), (2, 0)),
                &site.request(5000).payload([7; 500]).ttl(63),
                200,
            )
            .icmp_rest([0, 0, 5, 0x14])
            .ttl(63)
            .link(port_mac(0), host_mac(site.client(5000).ip()));
        assert_eq!(sent, wanted.build(), "{site:?}");
        world.movement();
    }
}

#[test]
fn the_clients_error_reaches_the_server_translated_or_as_it_is() {
    for site in ERRORS.into_iter().chain(ERRORS.map(Site::udp)) {
        for length in lengths(site) {
            let mut world = site.world(&[11]);
            world.sent(0, &site.request(5000), site.inside());
            world.movement();
            let error = site.of_client(5000, length);
            let sent = world.sent(0, &error, site.inside());
            let (client, server) = (site.client(5000).ip(), site.real(11).ip());
            let wanted = if site.forward == Forward::Nat {
                let quoted = site.reply(11, 5000).ttl(63);
                let translated = site.error((client, server), ((3, 3), (1, 4)), &quoted, length);
                translated.ttl(63)
            } else {
                error.clone().ttl(63)
            };
            let wanted = wanted.link(port_mac(site.inside()), host_mac(server));
            assert_eq!(sent, wanted.build(), "{site:?} {length}");
            let bytes = error.build().len() - 14;
            world.moved(&[&format!(
                "icmp_related 1, 11.in_packets 1, 11.in_bytes {bytes}"
            )]);
        }
    }
}

#[test]
fn a_damaged_error_is_dropped_and_one_of_no_connection_is_left_alone() {
    for site in ERRORS {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        let mut damaged = site.of_client(5000, 1000).build();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let (verdict, _) = world.receive(0, &damaged);
        assert_eq!(verdict, Verdict::Drop(DropReason::TransportChecksum));
        world.moved(&["drop.transport_checksum 1"]);

        // No such flow.
        let verdict = world.verdict(0, &site.of_client(5001, 1000));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Icmp));
        world.moved(&["icmp_unrelated 1, punt.icmp 1"]);
        // A flow, but the error is not to the one who sent the packet.
        let foreign = site
            .error(
                (site.client(0).ip(), site.host(1, 1, 0).ip()),
                ((3, 3), (1, 4)),
                &site.returned(5000),
                1000,
            )
            .link(host_mac(site.client(0).ip()), port_mac(0));
        assert_eq!(world.verdict(0, &foreign), Verdict::Punt(PuntClass::Icmp));
        world.moved(&["icmp_unrelated 1, punt.icmp 1"]);
        // Neither of a service nor of a server.
        let quoted = site.between(site.host(1, 1, 22), site.client(5000));
        let other = site
            .error(
                (site.client(0).ip(), site.host(1, 1, 0).ip()),
                ((3, 3), (1, 4)),
                &quoted,
                1000,
            )
            .link(host_mac(site.client(0).ip()), port_mac(0));
        assert_eq!(world.verdict(0, &other), Verdict::Punt(PuntClass::Icmp));
        world.moved(&["punt.icmp 1"]);
    }
}

#[test]
fn an_error_neither_makes_nor_refreshes_a_connection() {
    let site = NAT.udp();
    let mut world = site.world(&[11]);
    world.sent(0, &site.request(5000), 1);
    let before = world.connections();
    world.sleep(10_000);
    world.sent(0, &site.of_client(5000, 1000), 1);
    let after = world.connections();
    assert_eq!(before.len(), after.len());
    assert_eq!(before[0].expires_ms - 10_000, after[0].expires_ms);
    assert_eq!(before[0].packets, after[0].packets);
    // And not an expired one either.
    world.sleep(290_000);
    world.movement();
    assert_eq!(
        world.verdict(0, &site.of_client(5000, 1000)),
        Verdict::Punt(PuntClass::Icmp)
    );
    world.movement();
}

#[test]
fn types_that_lvs_does_not_match_are_left_alone() {
    let mut world = NAT.world(&[11]);
    establish(&mut world, NAT, 5000);
    let error = |kind| {
        let quoted = NAT.returned(5000);
        let pair = (NAT.client(0).ip(), NAT.vip().ip());
        NAT.error(pair, ((kind, 0), (kind, 0)), &quoted, 1000)
            .link(host_mac(NAT.client(0).ip()), port_mac(0))
    };
    for kind in [5, 12] {
        assert_eq!(
            world.verdict(0, &error(kind)),
            Verdict::Punt(PuntClass::Icmp)
        );
    }
    world.moved(&["punt.icmp 2"]);
    for kind in [3, 4, 11] {
        assert_eq!(world.verdict(0, &error(kind)), Verdict::Tx(PortId(1)));
    }
    world.movement();
}

#[test]
fn an_error_waits_untouched_for_a_neighbour_and_is_counted_once() {
    for site in [DR, NAT] {
        let mut world = site.world(&[11]);
        establish(&mut world, site, 5000);
        let server = site.real(11).ip();
        world.edit(|plan| plan.unknown = vec![server]);
        let (verdict, mut packet) = world.receive(0, &site.of_client(5000, 1000).build());
        let neighbour = Neighbour {
            port: PortId(site.inside()),
            address: server,
        };
        assert_eq!(verdict, Verdict::Wait(neighbour));
        world.edit(|plan| plan.unknown.clear());
        let verdict = world.retry(&mut packet, Outcome::Resolved);
        assert_eq!(verdict, Verdict::Tx(PortId(site.inside())));
        let moved = world.movement();
        assert_eq!((moved["icmp_related"], moved["11.in_packets"]), (1, 1));
    }
}

/// The plan with `schedule_icmp` on and a scheduler that asks the client's address only.
fn scheduling(site: Site, hosts: &[u8]) -> Plan {
    let mut plan = site.plan(hosts);
    plan.services[0].scheduler = SchedulerKind::Sh;
    plan.ipvs.schedule_icmp = true;
    plan
}

#[test]
fn with_schedule_icmp_an_error_makes_the_connection_that_the_clients_packets_would_make() {
    for site in ERRORS.into_iter().chain(ERRORS.map(Site::udp)) {
        let hosts = [11, 12, 13];
        let mut world = World::new(scheduling(site, &hosts));
        let made = world.sent(0, &site.request(6000), site.inside());
        let host = server_of(&made);
        world.movement();

        let error = site.of_client(5000, 1000);
        let sent = world.sent(0, &error, site.inside());
        assert_eq!(server_of(&sent), host, "{site:?}");
        let (client, server) = (site.client(5000).ip(), site.real(host).ip());
        let wanted = if site.forward == Forward::Nat {
            let quoted = site.reply(host, 5000).ttl(63);
            site.error((client, server), ((3, 3), (1, 4)), &quoted, 1000)
        } else {
            error.clone()
        };
        let wanted = wanted
            .ttl(63)
            .link(port_mac(site.inside()), host_mac(server));
        assert_eq!(sent, wanted.build(), "{site:?}");
        let bytes = error.build().len() - 14;
        world.moved(&[&format!(
            "icmp_scheduled 1, connections_created 1, {host}.connections 1, {host}.inactive 1, \
             {host}.in_packets 1, {host}.in_bytes {bytes}"
        )]);
        let rows = world.connections();
        let row = rows.iter().find(|row| row.client.port() == 5000).unwrap();
        assert_eq!((row.expires_ms, row.packets), (3000, 0));
        // The next error finds it, and so do the client's packets.
        world.sent(0, &error, site.inside());
        world.moved(&[&format!(
            "icmp_related 1, {host}.in_packets 1, {host}.in_bytes {bytes}"
        )]);
        world.sent(0, &site.request(5000), site.inside());
        assert_eq!(world.movement()["connection_hits"], 1);
        // One that was over is made anew.
        world.sleep(400_000);
        world.sent(0, &error, site.inside());
        assert_eq!(world.movement()["icmp_scheduled"], 1);
    }
}

#[test]
fn an_error_schedules_nothing_for_servers_martians_ftp_data_or_without_a_server() {
    for site in [NAT, NAT6] {
        let mut world = World::new(scheduling(site, &[11]));
        // About a request that a server was to get: nobody's to schedule.
        let error = site.of_server(site.real(11).ip(), 11, 5000, 1000);
        let verdict = world.verdict(site.inside(), &error);
        assert!(matches!(verdict, Verdict::Punt(_)), "{verdict:?}");
        // To the data end of active FTP, a client is never scheduled.
        let verdict = world.verdict(0, &site.of_client(20, 1000));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Icmp));
        assert_eq!(world.movement().get("icmp_scheduled"), None);
        // The quoted packet says that one of our own addresses is the client.
        let own = site.host(1, 1, 5000);
        let martian = site
            .error(
                (site.client(0).ip(), site.vip().ip()),
                ((3, 3), (1, 4)),
                &site.between(site.vip(), own),
                1000,
            )
            .link(host_mac(site.client(0).ip()), port_mac(0));
        world.dropped(0, &martian, DropReason::MartianSource);
        world.moved(&["drop.martian_source 1"]);
        world.edit(|plan| plan.services[0].reals[0].weight = 0);
        world.dropped(0, &site.of_client(5000, 1000), DropReason::NoServer);
        world.moved(&["drop.no_server 1, unserved 1"]);
        assert_eq!(world.connections(), []);
        // A damaged one says nothing.
        let mut damaged = site.of_client(5000, 1000).build();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let (verdict, _) = world.receive(0, &damaged);
        assert_eq!(verdict, Verdict::Drop(DropReason::TransportChecksum));
        world.moved(&["drop.transport_checksum 1"]);
    }
}

#[test]
fn one_packet_services_send_a_scheduled_error_on_and_keep_no_entry() {
    let site = NAT.udp();
    let mut plan = scheduling(site, &[11]);
    plan.services[0].one_packet = true;
    let mut world = World::new(plan);
    let sent = world.sent(0, &site.of_client(5000, 1000), 1);
    assert_eq!(server_of(&sent), 11);
    let moved = world.movement();
    assert_eq!(
        (moved["icmp_scheduled"], moved["one_packet_scheduled"]),
        (1, 1)
    );
    assert_eq!(world.connections(), []);
}

#[test]
fn a_scheduled_error_makes_its_connection_at_the_worker_that_is_computed_from_the_client() {
    for site in [DR, NAT] {
        let mut plan = scheduling(site, &[11, 12, 13]);
        plan.queues = 2;
        let mut first = world::World::of_workers(plan, WorkerId(0), 2);
        let mut second = first.beside(WorkerId(1));
        let mut handed = 0;
        for port in 5000..5032 {
            let error = site.of_client(port, 1000).build();
            let (verdict, packet) = first.receive(0, &error);
            if verdict == Verdict::Redirect(WorkerId(1)) {
                handed += 1;
                assert_eq!(packet.data(), error);
                let mut packet = packet;
                let verdict = second.process_marked(&mut packet, Pass::Redirected);
                assert_eq!(verdict, Verdict::Tx(PortId(site.inside())));
                // The client's packets follow, wherever they arrive.
                let (verdict, _) = first.receive(0, &site.request(port).flags(ACK).build());
                assert_eq!(verdict, Verdict::Redirect(WorkerId(1)));
            } else {
                assert_eq!(verdict, Verdict::Tx(PortId(site.inside())));
            }
        }
        assert!((4..28).contains(&handed), "{handed}");
        assert_eq!(second.connections().len(), handed);
        assert_eq!(first.connections().len(), 32 - handed);
        first.movement();
        second.movement();
    }
}
