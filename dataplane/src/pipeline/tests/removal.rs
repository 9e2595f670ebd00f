//! Servers that leave while they have connections: `on_real_removed`, `on_real_down`,
//! `expire_nodest_conn` (spec 3.6, DESIGN §4).

use super::*;
use crate::service::Orphans;
use crate::verdict::{DropReason, PuntClass, Verdict};

/// An established connection to server 12, which then left; server 11 stays.
fn orphaned(site: Site, orphans: Orphans) -> World {
    let mut world = site.world(&[11, 12]);
    establish(&mut world, site, 5000);
    world.edit(|plan| {
        plan.orphans = orphans;
        plan.services[0].reals.pop();
    });
    world
}

#[test]
fn kept_connections_go_on_both_ways() {
    for site in Site::ALL {
        let mut world = orphaned(site, Orphans::Keep);
        let out = world.sent(0, &site.request(5000).flags(ACK), site.inside());
        assert_eq!(out, site.delivered(12, 5000).flags(ACK).build());
        world.moved(&[&site.hit(12)]);
        if site.inside() == 1 {
            world.sent(1, &site.reply(12, 5000).flags(ACK), 0);
            world.moved(&[&site.answered(12)]);
        }
        // New flows go elsewhere, also one on the ports of a closing connection.
        assert_eq!(
            server_of(&world.sent(0, &site.request(5001), site.inside())),
            11
        );
        world.sent(0, &site.request(5000).flags(FIN | ACK), site.inside());
        world.movement();
        assert_eq!(
            server_of(&world.sent(0, &site.request(5000), site.inside())),
            11
        );
        world.moved(&["12.inactive -1", &site.created(11)]);
    }
}

#[test]
fn expired_connections_are_dropped_until_the_client_starts_anew() {
    for site in Site::ALL {
        let mut world = orphaned(site, Orphans::Expire);
        world.dropped(0, &site.request(5000).flags(ACK), DropReason::ServerGone);
        world.moved(&["drop.server_gone 1"]);
        if site.inside() == 1 {
            world.dropped(1, &site.reply(12, 5000), DropReason::ServerGone);
            world.moved(&["drop.server_gone 1"]);
        }
        let out = world.sent(0, &site.request(5000), site.inside());
        assert_eq!(out, site.delivered(11, 5000).build());
        world.moved(&["12.active -1", &site.created(11)]);
    }
}

#[test]
fn reset_connections_end_with_a_reset_to_the_client() {
    for site in Site::ALL {
        let mut world = orphaned(site, Orphans::Reset);
        let packet = site
            .request(5000)
            .flags(ACK)
            .sequence(1000, 2000)
            .payload("GET / ");
        let out = world.sent(0, &packet, 0);
        // RFC 9293 3.10.7.1: the sequence number is what the client acknowledged; no ACK.
        let mut expected = site
            .between(site.vip(), site.client(5000))
            .link(port_mac(0), host_mac(site.client(0).ip()))
            .flags(RST)
            .sequence(2000, 0)
            .build();
        // The builder's window is not a reset's; checksums were verified.
        let l4 = expected.len() - 20;
        expected[l4 + 14..l4 + 18].copy_from_slice(&out[l4 + 14..l4 + 18]);
        assert_eq!(out, expected);
        world.moved(&["12.active -1, tcp_resets 1"]);
        assert_eq!(world.connections(), []);

        let mut world = orphaned(site, Orphans::Reset);
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&["12.active -1", &site.created(11)]);

        let mut world = orphaned(site, Orphans::Reset);
        world.dropped(0, &site.request(5000).flags(RST), DropReason::ServerGone);
        world.moved(&["12.active -1, drop.server_gone 1"]);
    }
}

#[test]
fn silent_connections_are_dropped_until_they_time_out() {
    for site in Site::ALL {
        let mut world = orphaned(site, Orphans::Silent);
        world.dropped(0, &site.request(5000).flags(ACK), DropReason::ServerGone);
        world.dropped(0, &site.request(5000), DropReason::ServerGone);
        world.moved(&["drop.server_gone 2"]);
        if site.inside() == 1 {
            // The kernel's switch is about client packets only.
            world.sent(1, &site.reply(12, 5000).flags(ACK), 0);
            world.moved(&[&site.answered(12)]);
        }
        world.sleep(900_000 + TICK);
        world.expire();
        world.moved(&["connections_expired 1, 12.active -1"]);
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&[&site.created(11)]);
    }
}

#[test]
fn rescheduled_connections_end_at_once_and_the_packet_counts_as_new() {
    for site in Site::ALL {
        let mut world = orphaned(site, Orphans::Reschedule);
        if site.inside() == 1 {
            world.sent(1, &site.reply(12, 5000).flags(ACK), 0);
            world.moved(&[&site.answered(12)]);
        }
        let verdict = world.verdict(0, &site.request(5000).flags(ACK));
        assert_eq!(verdict, Verdict::Punt(PuntClass::Rest), "Linux resets it");
        world.moved(&["12.active -1, connection_misses 1, punt.rest 1"]);

        let mut world = orphaned(site, Orphans::Reschedule);
        world.sent(0, &site.request(5000), site.inside());
        world.moved(&["12.active -1", &site.created(11)]);
    }
}

#[test]
fn rescheduled_connections_end_a_few_per_loop_also_without_a_packet() {
    for site in Site::ALL.into_iter().chain(Site::ALL.map(Site::udp)) {
        let mut world = site.world(&[11, 12]);
        for port in 5000..5400 {
            world.sent(0, &site.request(port), site.inside());
        }
        world.movement();
        world.edit(|plan| {
            plan.orphans = Orphans::Reschedule;
            plan.services[0].reals.pop();
        });
        assert_eq!(world.connections().len(), 400, "not by the swap");
        let mut rounds = 0;
        while world.connections().len() > 200 {
            let before = world.connections().len();
            let now = world.now;
            world.pipeline.maintain(now);
            let ended = before - world.connections().len();
            assert!(ended <= 64, "{ended} in one loop");
            // Another reload does not make the walk begin anew.
            world.edit(|_| {});
            rounds += 1;
            assert!(rounds <= 2 * 1024 / 64, "each table is walked once");
        }
        let left = world.connections();
        assert!(left.iter().all(|row| row.destination == site.real(11)));
        assert!(rounds > 200 / 64);
        let kind = if site.protocol == Protocol::Tcp {
            "active"
        } else {
            "inactive"
        };
        world.moved(&[&format!("connections_expired 200, 12.{kind} -200")]);
        // It is back, and removed again.
        world.edit(|plan| {
            let again = world::RealPlan::new(&site.real(12).to_string());
            plan.services[0].reals.push(again);
        });
        let hosts = (6000..6004).map(|port| site.request(port));
        let hosts = hosts.map(|packet| server_of(&world.sent(0, &packet, site.inside())));
        assert!(hosts.collect::<Vec<_>>().contains(&12));
        world.edit(|plan| plan.services[0].reals.truncate(1));
        for _ in 0..100 {
            let now = world.now;
            world.pipeline.maintain(now);
        }
        let left = world.connections();
        assert!(left.iter().all(|row| row.destination == site.real(11)));
        world.movement();
    }
}

#[test]
fn connections_that_are_not_to_end_stay_when_nobody_sends() {
    for orphans in [
        Orphans::Keep,
        Orphans::Expire,
        Orphans::Reset,
        Orphans::Silent,
    ] {
        let mut world = orphaned(NAT, orphans);
        for _ in 0..100 {
            let now = world.now;
            world.pipeline.maintain(now);
        }
        assert_eq!(world.connections().len(), 1);
        world.moved(&[]);
    }
}

#[test]
fn a_datagram_needs_no_syn_to_find_another_server() {
    for site in Site::ALL.map(Site::udp) {
        for orphans in [Orphans::Expire, Orphans::Reset, Orphans::Reschedule] {
            let mut world = site.world(&[11, 12]);
            world.sent(0, &site.request(5000), site.inside());
            world.moved(&[&site.created(12)]);
            world.edit(|plan| {
                plan.orphans = orphans;
                plan.services[0].reals.pop();
            });
            let out = world.sent(0, &site.request(5000), site.inside());
            assert_eq!(out, site.delivered(11, 5000).build());
            world.moved(&["12.inactive -1", &site.created(11)]);
        }
    }
}

#[test]
fn expire_nodest_conn_moves_a_syn_away_from_a_server_of_weight_0() {
    for (expire, host) in [(false, 12), (true, 11)] {
        let mut world = NAT.world(&[11, 12]);
        establish(&mut world, NAT, 5000);
        world.edit(|plan| {
            plan.ipvs.expire_nodest_conn = expire;
            plan.services[0].reals[1].weight = 0;
        });
        world.sent(0, &NAT.request(5000).flags(ACK), 1);
        assert_eq!(server_of(&world.sent(0, &NAT.request(5000), 1)), host);
        let moved = match host {
            12 => NAT.hit(12),
            _ => format!("12.active -1, {}", NAT.created(11)),
        };
        world.moved(&[&NAT.hit(12), &moved]);
    }
}

#[test]
fn connections_of_a_removed_service_go_on_and_new_ones_are_the_stacks() {
    let mut world = NAT.world(&[11]);
    establish(&mut world, NAT, 5000);
    let vip = NAT.vip();
    world.edit(|plan| plan.services.clear());
    assert!(!world.services().is_vip(vip.ip()));
    world.sent(0, &NAT.request(5000).flags(ACK), 1);
    world.sent(1, &NAT.reply(11, 5000).flags(ACK), 0);
    world.moved(&[&NAT.hit(11), &NAT.answered(11)]);
    let verdict = world.verdict(0, &NAT.request(5001));
    assert_eq!(verdict, Verdict::Punt(PuntClass::Rest));
    world.moved(&["connection_misses 1, punt.rest 1"]);
}
